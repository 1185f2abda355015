"""Thresholds for a user's data: the most operations saved at an error, or the least error at a saving.

One dense model a fold is trained once; every pair of thresholds tried is a fine-tuning of it. A coarse grid over θh,
for several ratios θx / θh, brackets the target; bisection in θh then closes in on it, all ratios beside each other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from deltatrain.datasets import Dataset, fold_split
from deltatrain.errors import InputError
from deltatrain.model import FloatModel
from deltatrain.points import Point, pooled
from deltatrain.pretrain import fit
from deltatrain.sweep import SweepConfig, jobs_of, kept_dense, run_sweep
from deltatrain.training import Progress

RATIOS = (0.5, 1.0, 2.0)
GRID = (0.1, 0.2, 0.3, 0.45)
HALVINGS = 3

Pair = tuple[float, float]
Try = Callable[[Sequence[Pair]], list[Point]]


@dataclass(frozen=True)
class Target:
    """What is asked for: an error that must not be exceeded, or an op reduction that must be reached; not both.

    Attributes
    ----------
    error : float, optional
        Fraction; more operations saved are then better.
    ops : float, optional
        Dense over executed training MACs; less error is then better.
    """

    error: float | None = None
    ops: float | None = None

    def __post_init__(self) -> None:
        if (self.error is None) == (self.ops is None):
            raise InputError("a target is either an error or an op reduction; give exactly one of them")
        if self.error is not None and not 0 <= self.error < 1:
            raise InputError(f"the target error is {self.error}; it is a fraction, at least 0 and below 1")
        if self.ops is not None and not 1 <= self.ops < float("inf"):
            raise InputError(f"the target op reduction is {self.ops}; it must be a finite number of at least 1")

    def met_by(self, point: Point) -> bool:
        """Whether a setting does what is asked for."""
        if self.error is not None:
            return point.error <= self.error
        assert self.ops is not None
        return point.op_reduction >= self.ops

    def best(self, points: Sequence[Point]) -> Point:
        """The best that meets the target; where none does, the nearest."""
        met = [point for point in points if self.met_by(point)]
        if (self.error is None) == bool(met):
            return min(met or points, key=lambda point: (point.error, -point.op_reduction))
        return min(met or points, key=lambda point: (-point.op_reduction, point.error))


@dataclass(frozen=True)
class Tuned:
    """What was found, and all that was tried.

    Attributes
    ----------
    best : Point
        Meets the target if `reached`, else is the nearest to it.
    tried : tuple of Point
        The dense network first, then in the order of trying.
    """

    best: Point
    reached: bool
    tried: tuple[Point, ...]


def search(
    target: Target,
    attempt: Try,
    dense: Point,
    *,
    ratios: Sequence[float] = RATIOS,
    grid: Sequence[float] = GRID,
    halvings: int = HALVINGS,
) -> Tuned:
    """Choose thresholds by trying few of them.

    Parameters
    ----------
    target : Target
    attempt : callable
        Trains and tests pairs (θx, θh); one point each, in their order.
    dense : Point
        The network at θ = 0.
    ratios, grid : sequence of float
        θx / θh, and θh.
    halvings : int
        Rounds of bisection in θh after the grid.
    """
    pairs = [(_round(ratio * theta), theta) for ratio in ratios for theta in grid]
    points = dict(zip(pairs, attempt(pairs), strict=True))
    tried = [dense, *points.values()]
    brackets = {}
    for ratio in ratios:
        line = [(0.0, dense), *((theta, points[_round(ratio * theta), theta]) for theta in grid)]
        if (bracket := _bracket(target, line)) is not None:
            brackets[ratio] = bracket
    for _ in range(halvings if brackets else 0):
        middles = {ratio: _round((low + high) / 2) for ratio, (low, high) in brackets.items()}
        found = attempt([(_round(ratio * theta), theta) for ratio, theta in middles.items()])
        tried += found
        for (ratio, theta), point in zip(middles.items(), found, strict=True):
            low, high = brackets[ratio]
            # An error is met below, an op reduction above.
            upwards = target.met_by(point) == (target.error is not None)
            brackets[ratio] = (theta, high) if upwards else (low, theta)
    best = target.best(tried)
    return Tuned(best, target.met_by(best), tuple(tried))


def _bracket(target: Target, line: Sequence[tuple[float, Point]]) -> Pair | None:
    """Neighbours on the grid between which the target is crossed; None where it is not.

    Errors are noisy, so the crossing is the last one: nothing is given away by one unlucky model below it.
    """
    met = [target.met_by(point) for _, point in line]
    for (low, _), (high, _), met_low, met_high in reversed(list(zip(line, line[1:], met, met[1:], strict=False))):
        if met_low != met_high and met_low == (target.error is not None):
            return low, high
    return None


def _round(theta: float) -> float:
    """Thresholds that can be read and typed."""
    return round(theta, 4)


def tune(
    data: Dataset,
    config: SweepConfig,
    target: Target,
    folder: Path,
    *,
    jobs: int = 1,
    dask: str | None = None,
    progress: Progress | None = None,
) -> Tuned:
    """Search θx and θh for a data set, tested on folds of it; `folder` keeps each model's result.

    Parameters
    ----------
    data : Dataset
        Of the speakers that may be learnt from.
    config : SweepConfig
        Of one cell and size, with at most one β; its thresholds and modes are not used.
    target : Target
    folder : Path
    jobs, dask : see `run_shards`
    progress : callable, optional
        Called with (models done, models at most, the latest one's thresholds and error).
    """
    models = len(config.folds) * config.seeds
    most = models * (1 + len(RATIOS) * (len(GRID) + HALVINGS))
    before = 0

    def shown(done: int, _: int, beside: dict[str, Any]) -> None:
        if progress is not None:
            progress(min(before + done, most), most, beside)

    def attempt(pairs: Sequence[Pair]) -> list[Point]:
        nonlocal before
        rows = run_sweep(data, _for(config, pairs), folder, jobs=jobs, dask=dask, progress=shown)
        before += len(rows) - models
        by_pair = {(point.theta_x, point.theta_h): point for point in pooled(rows) if point.mode != "plain"}
        return [by_pair[pair] for pair in pairs]

    dense = pooled(run_sweep(data, _for(config, []), folder, jobs=jobs, dask=dask, progress=shown))[0]
    return search(target, attempt, dense)


def tuned_model(
    data: Dataset, config: SweepConfig, best: Point, folder: Path, provenance: dict[str, object]
) -> FloatModel:
    """The model of the first fold at the thresholds found, trained as it was when they were tried.

    Its provenance tells its error on that fold's test recordings.
    """
    (dense, *_), others = jobs_of(_for(config, [] if best.is_dense else [(best.theta_x, best.theta_h)]))
    job = others[0] if others else dense
    start = kept_dense(data, dense, folder) if others else None
    train, test = (data.select(items) for items in fold_split(data, job.fold))
    return fit(train, job.fit, validation=test, warm_start=start, provenance=provenance).model


def _for(config: SweepConfig, pairs: Sequence[Pair]) -> SweepConfig:
    """The sweep over these thresholds alone; without any, of the dense models."""
    if not pairs:
        return replace(config, modes=("plain",), thetas=((0.0, 0.0),))
    return replace(config, modes=("finetune+beta" if any(config.betas) else "finetune",), thetas=tuple(pairs))
