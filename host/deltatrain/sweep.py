"""Thresholds × error × operations: many small models on folds of a data set, in shards that are kept.

Four ways to a sparse network: `plain` from scratch with the thresholds in place, `beta` the same with the regulariser
β Σ|Δh|, and each of the two as a fine-tuning of the dense model of the same fold (`finetune`, `finetune+beta`).
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from deltatrain.datasets import Dataset, fold_split
from deltatrain.errors import InputError
from deltatrain.model import FloatModel
from deltatrain.pretrain import KNOWN_SPEAKERS, Augmentation, FitConfig, evaluate, fit
from deltatrain.reference import OperationCount
from deltatrain.shards import Outcome, Row, Shard, run_shards
from deltatrain.training import Progress

MODES = ("plain", "beta", "finetune", "finetune+beta")
THETAS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5)


@dataclass(frozen=True)
class SweepConfig:
    """What a sweep varies, and how each model is trained.

    Attributes
    ----------
    cells, hidden, layers : tuple
        Every combination is swept.
    thetas : tuple of (float, float)
        Pairs θx, θh.
    modes : tuple of str
        Of `MODES`.
    betas : tuple of float
        Weights of the regulariser in the modes that have it.
    folds : tuple of int
        Of `datasets.fold_split`.
    seeds, first_seed : int
        So many seeds of each fold, from the first one on.
    epochs, learning_rate
        From scratch.
    finetune_epochs, finetune_rate
        From the dense model.
    batch_size, augmentation
        As in `FitConfig`.
    """

    cells: tuple[str, ...] = ("lstm", "gru")
    hidden: tuple[int, ...] = (64,)
    layers: tuple[int, ...] = (1,)
    thetas: tuple[tuple[float, float], ...] = tuple((theta, theta) for theta in THETAS)
    modes: tuple[str, ...] = MODES
    betas: tuple[float, ...] = (3e-4,)
    folds: tuple[int, ...] = (0, 1, 2, 3, 4)
    seeds: int = 1
    first_seed: int = 0
    epochs: int = 25
    learning_rate: float = 3e-3
    finetune_epochs: int = 10
    finetune_rate: float = 3e-3
    batch_size: int = 32
    augmentation: Augmentation = KNOWN_SPEAKERS

    def __post_init__(self) -> None:
        for name in ("cells", "hidden", "layers", "thetas", "modes", "folds"):
            if not getattr(self, name):
                raise InputError(f"a sweep needs {name}; give at least one")
        for mode in self.modes:
            if mode not in MODES:
                raise InputError(f"mode {mode!r} is unknown; the modes are {', '.join(MODES)}")


@dataclass(frozen=True)
class Job:
    """One model of a sweep: settings, its part of the data, and whether it goes on from the dense one."""

    mode: str
    fold: int
    seed: int
    fit: FitConfig
    dense: FitConfig | None

    def settings(self, data: Dataset) -> dict[str, Any]:
        """All that the result depends on."""
        return {
            "data": [data.name, len(data), data.config.to_dict()],
            "mode": self.mode,
            "fold": self.fold,
            "fit": asdict(self.fit),
            "dense": None if self.dense is None else asdict(self.dense),
        }

    def name(self, data: Dataset) -> str:
        """For people to find, and unlike that of other settings."""
        f = self.fit
        digest = hashlib.sha256(json.dumps(self.settings(data), sort_keys=True).encode()).hexdigest()[:8]
        return f"{f.cell}-{f.n_layers}x{f.n_hidden}-{self.mode}-{f.theta_x:g}-{f.theta_h:g}-{self.fold}-{digest}"


def jobs_of(config: SweepConfig) -> tuple[list[Job], list[Job]]:
    """The dense models, which others go on from and are compared with; and all the others.

    Without a threshold every entry that moved is transmitted, so β has nothing to buy: θ = 0 is not repeated with it.
    """
    dense_jobs: list[Job] = []
    others: list[Job] = []
    for cell in config.cells:
        for n_layers in config.layers:
            for n_hidden in config.hidden:
                for fold in config.folds:
                    for seed in range(config.first_seed, config.first_seed + config.seeds):
                        dense = _dense(config, cell, n_hidden, n_layers, fold, seed)
                        dense_jobs.append(Job("plain", fold, seed, dense, None))
                        others += _jobs(config, dense, fold, seed)
    return dense_jobs, others


def _dense(config: SweepConfig, cell: str, n_hidden: int, n_layers: int, fold: int, seed: int) -> FitConfig:
    return FitConfig(
        cell=cell,
        n_hidden=n_hidden,
        n_layers=n_layers,
        theta_x=0.0,
        theta_h=0.0,
        epochs=config.epochs,
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        augmentation=config.augmentation,
        seed=1000 * seed + fold,
    )


def _jobs(config: SweepConfig, dense: FitConfig, fold: int, seed: int) -> list[Job]:
    jobs = []
    for mode in config.modes:
        for theta_x, theta_h in config.thetas:
            for beta in config.betas if "beta" in mode else (0.0,):
                without_threshold = theta_x == theta_h == 0
                if without_threshold and mode != "finetune":
                    continue
                made = replace(dense, theta_x=theta_x, theta_h=theta_h, beta=beta)
                if not mode.startswith("finetune"):
                    jobs.append(Job(mode, fold, seed, made, None))
                    continue
                made = replace(made, epochs=config.finetune_epochs, learning_rate=config.finetune_rate)
                jobs.append(Job(mode, fold, seed, made, dense))
    return jobs


def run_sweep(
    data: Dataset,
    config: SweepConfig,
    folder: Path,
    *,
    jobs: int = 1,
    dask: str | None = None,
    progress: Progress | None = None,
) -> list[Row]:
    """One row a model, dense ones first; `folder` keeps each, and the dense models.

    Parameters
    ----------
    data : Dataset
        With raw features.
    config : SweepConfig
    folder : Path
    jobs, dask : see `run_shards`
    progress : callable, optional
        Called with (models done, models in all, the latest one's mode, thresholds and error).
    """
    dense_jobs, others = jobs_of(config)
    total = len(dense_jobs) + len(others)

    def told(before: int) -> Progress | None:
        return None if progress is None else lambda done, _, beside: progress(before + done, total, beside)

    shards = [_shard(data, job, None) for job in dense_jobs]
    rows = run_shards(shards, folder, jobs=jobs, dask=dask, shared=[data], progress=told(0), beside=_beside)
    # A dense model goes along by value: workers need not see this computer's files.
    dense = {job.fit: kept_dense(data, job, folder) for job in dense_jobs}
    shards = [_shard(data, job, None if job.dense is None else dense[job.dense]) for job in others]
    return rows + run_shards(
        shards, folder, jobs=jobs, dask=dask, shared=[data], progress=told(len(rows)), beside=_beside
    )


def kept_dense(data: Dataset, job: Job, folder: Path) -> FloatModel:
    """The dense model that a sweep in `folder` trained for this job."""
    return FloatModel.load(_shard(data, job, None).model_path(folder))


def _beside(row: Row) -> dict[str, Any]:
    return {
        "error": row["error"],
        "saving": row["op_reduction"],
        "θ": f"{row['theta_x']:g}/{row['theta_h']:g}",
        "of": f"{row['cell']} {row['n_layers']}×{row['n_hidden']} {row['mode']}",
    }


def _shard(data: Dataset, job: Job, dense: FloatModel | None) -> Shard:
    return Shard(job.name(data), job.settings(data), train_one, (data, job, dense))


def train_one(data: Dataset, job: Job, dense: FloatModel | None) -> Outcome:
    """Train one model of a sweep and test it on its fold; the dense ones are kept as files."""
    start = time.process_time()
    train_items, test_items = fold_split(data, job.fold)
    train, test = data.select(train_items), data.select(test_items)
    model = fit(train, job.fit, warm_start=dense).model
    result = evaluate(model, test.features, test.labels)
    operations = result.operations
    wrong = test_items[result.predictions != test.labels].tolist()
    is_dense = job.mode == "plain" and job.fit.theta_x == job.fit.theta_h == 0
    row: Row = {
        "cell": job.fit.cell,
        "n_hidden": job.fit.n_hidden,
        "n_layers": job.fit.n_layers,
        "mode": job.mode,
        "theta_x": job.fit.theta_x,
        "theta_h": job.fit.theta_h,
        "beta": job.fit.beta,
        "epochs": job.fit.epochs,
        "fold": job.fold,
        "seed": job.seed,
        "error": result.error,
        "loss": result.loss,
        "items": len(test),
        "wrong": wrong,
        "op_reduction": operations.reduction,
        "op_reduction_without_dx": operations.reduction_without_dx,
        "occupancy_x": operations.executed_dx / operations.dense_dx,
        "occupancy_h": _occupancy_h(operations),
        "macs_executed": operations.executed,
        "macs_dense": operations.dense,
        "macs_executed_dx": operations.executed_dx,
        "macs_dense_dx": operations.dense_dx,
        "params": model.n_parameters,
        "cpu_seconds": round(time.process_time() - start, 1),
    }
    return Outcome(row, model if is_dense else None)


def _occupancy_h(operations: OperationCount) -> float:
    """Of hidden states, as recurrent inputs and as inputs of the layer above: all but the first layer's x."""
    return (operations.executed - 3 * operations.executed_dx) / (operations.dense - 3 * operations.dense_dx)
