"""What fixed point costs against float64, over folds, speakers and seeds, with a confidence interval."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from deltatrain.datasets import Dataset
from deltatrain.folders import make_folder
from deltatrain.model import FloatModel
from deltatrain.parity.runs import Fixed, PersonalConfig, ScratchConfig, personalise, scratch
from deltatrain.pretrain import FitConfig, fit
from deltatrain.shards import Outcome, Row, Shard, run_shards
from deltatrain.training import Progress

CONFIDENCE = 0.95
GOALS = {"scratch": 0.005, "personal": 0.003}
"""How much larger than in float64 the mean error may be, as a fraction."""


@dataclass(frozen=True)
class ParityConfig:
    """The whole study.

    Attributes
    ----------
    folds : int
        Runs from scratch, each with other recordings held out, another order and other initial weights.
    seeds : int
        Pre-trained models of each speaker in personalisation.
    scratch, personal : ScratchConfig, PersonalConfig
    fit : FitConfig
        Of the pre-training before personalisation; its seed is replaced.
    """

    folds: int = 10
    seeds: int = 5
    scratch: ScratchConfig = field(default_factory=ScratchConfig)
    personal: PersonalConfig = field(default_factory=PersonalConfig)
    fit: FitConfig = field(default_factory=FitConfig)


@dataclass(frozen=True)
class Difference:
    """Errors of both sides and what lies between them; fractions.

    Attributes
    ----------
    part : {"scratch", "personal"}
    runs : int
        Independent ones: a fold, or a pre-trained model with the mean over its orders.
    error_float, error_fixed : float
        Means over the runs.
    difference, half_width : float
        Mean of fixed − float over the runs, and half its 95 % interval (Student's t over the paired runs).
    """

    part: str
    runs: int
    error_float: float
    error_fixed: float
    difference: float
    half_width: float

    @property
    def goal(self) -> float:
        """The largest difference that is wanted."""
        return GOALS[self.part]

    @property
    def reached(self) -> bool:
        """Whether the mean difference is within the goal."""
        return self.difference <= self.goal


def study_parity(
    data: Dataset,
    config: ParityConfig,
    folder: Path,
    *,
    jobs: int = 1,
    fixed: Fixed | None = None,
    progress: Progress | None = None,
) -> list[Row]:
    """Run both parts, or go on with them; `folder` keeps one JSON file a run, and the pre-trained models.

    Returns
    -------
    list of dict
        `part`, `name`, `float` and `fixed` (one number a run), and what `runs.scratch` or `runs.personalise` gave.
    """
    other_side = fixed or Fixed()
    shards = [
        Shard(
            f"scratch-{fold}",
            {"part": "scratch", "data": data.name, "fold": fold, **asdict(config.scratch)},
            _scratch,
            (data, fold, config.scratch, other_side),
        )
        for fold in range(config.folds)
    ] + [
        Shard(
            f"personal-{speaker}-{seed}",
            {"part": "personal", "data": data.name, "speaker": speaker, "seed": seed, "fit": asdict(config.fit)}
            | asdict(config.personal),
            _personal,
            (data, speaker, seed, config, other_side),
        )
        for seed in range(config.seeds)
        for speaker in data.speaker_names
    ]
    return run_shards(shards, folder, jobs=jobs, progress=progress, beside=_beside)


def differences(rows: Sequence[Mapping[str, Any]]) -> list[Difference]:
    """Pool the rows of each part."""
    pooled = []
    for part in GOALS:
        of_part = [row for row in rows if row["part"] == part]
        if of_part:
            pooled.append(difference(part, [row["float"] for row in of_part], [row["fixed"] for row in of_part]))
    return pooled


def difference(part: str, of_float: Sequence[float], of_fixed: Sequence[float]) -> Difference:
    """Pool paired runs; with a single one there is no interval (its half is infinite)."""
    from scipy import stats  # here, because it takes half a second to load

    paired = np.asarray(of_fixed) - np.asarray(of_float)
    n = len(paired)
    half = float("inf")
    if n > 1:
        half = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1) * paired.std(ddof=1) / np.sqrt(n))
    return Difference(part, n, float(np.mean(of_float)), float(np.mean(of_fixed)), float(paired.mean()), half)


def rates_by_epoch(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, float]]:
    """Saturations and underflows of fixed point from scratch: `Rates` of each epoch, the mean over the folds."""
    runs = [row["runs"]["rates"] for row in rows if row["part"] == "scratch"]
    return [
        {name: float(np.mean([rates[name] for rates in of_epoch])) for name in of_epoch[0]}
        for of_epoch in zip(*runs, strict=True)
    ]


def write_csv(rows: Sequence[Mapping[str, Any]], path: Path) -> Path:
    """One line a run: part, name, and both mean errors as fractions."""
    make_folder(path.parent)
    columns = ("part", "name", "float", "fixed")
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([row[column] if isinstance(row[column], str) else f"{row[column]:.6f}" for column in columns]
                         for row in rows)  # fmt: skip
    return path


def pretrained(data: Dataset, speaker: str, seed: int, config: FitConfig) -> FloatModel:
    """A model of everybody but the speaker."""
    others = data.select([name != speaker for name in data.speakers])
    return fit(others, FitConfig(**{**vars(config), "seed": seed})).model


def _scratch(data: Dataset, fold: int, config: ScratchConfig, fixed: Fixed) -> Outcome:
    run = scratch(data, fold, config, fixed)
    last = slice(-config.last, None)
    return Outcome(
        {
            "part": "scratch",
            "name": f"fold {fold}",
            "float": float(np.mean(run["float"][last])),
            "fixed": float(np.mean(run["fixed"][last])),
            "runs": run,
        }
    )


def _personal(data: Dataset, speaker: str, seed: int, config: ParityConfig, fixed: Fixed) -> Outcome:
    model = pretrained(data, speaker, seed, config.fit)
    run = personalise(data, model, speaker, seed, config.personal, fixed)
    row = {
        "part": "personal",
        "name": f"{speaker} {seed}",
        "float": float(np.mean(run["float"])),
        "fixed": float(np.mean(run["fixed"])),
        "runs": run,
    }
    return Outcome(row, model)


def _beside(row: Row) -> dict[str, Any]:
    return {"float": row["float"], "fixed": row["fixed"], "of": row["name"]}
