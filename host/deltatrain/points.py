"""What the rows of a sweep say together: errors pooled over folds and seeds, with what they cannot tell apart."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from deltatrain.reference import OperationCount
from deltatrain.shards import Row

KEYS = ("cell", "n_layers", "n_hidden", "mode", "theta_x", "theta_h", "beta", "epochs")
Z_95 = 1.959964
DRAWS = 4000


@dataclass(frozen=True)
class Point:
    """The models of one setting, pooled.

    Attributes
    ----------
    folds, seeds : int
        Different ones; `models` of them in all.
    items : int
        Test recordings; one that several seeds test counts once.
    error : float
        Share of wrong predictions among all that were made.
    error_low, error_high : float
        95 % confidence interval of Wilson over `items`.
    op_reduction, op_reduction_without_dx : float
        Dense over executed training MACs, summed over all models.
    occupancy_x, occupancy_h : float
        Share of transmitted entries of inputs and of hidden states.
    ratio, ratio_low, ratio_high : float or None
        Error over that of `versus`, and the 95 % interval of a bootstrap over the test recordings that both saw. None
        where the dense network made no mistake; `ratio_high` also where drawing again might well find none.
    versus : str
        The dense network to compare with: `plain`, trained from scratch, or `finetune`, trained as much longer as the
        fine-tuned ones were.
    """

    cell: str
    n_layers: int
    n_hidden: int
    mode: str
    theta_x: float
    theta_h: float
    beta: float
    epochs: int
    params: int
    models: int
    folds: int
    seeds: int
    items: int
    error: float
    error_low: float
    error_high: float
    op_reduction: float
    op_reduction_without_dx: float
    occupancy_x: float
    occupancy_h: float
    ratio: float | None
    ratio_low: float | None
    ratio_high: float | None
    versus: str

    @property
    def network(self) -> str:
        """Its cell and size, as people say it."""
        size = f"{self.n_hidden}" if self.n_layers == 1 else f"{self.n_layers} × {self.n_hidden}"
        return f"{self.cell.upper()} {size}"

    @property
    def is_dense(self) -> bool:
        """Whether nothing is skipped on purpose."""
        return self.theta_x == self.theta_h == 0


def wilson(wrong: float, items: int) -> tuple[float, float]:
    """95 % confidence interval of a share (Wilson, 1927).

    Parameters
    ----------
    wrong : float
        Of `items`; a mean over seeds need not be whole.
    items : int
    """
    p, z2 = wrong / items, Z_95**2
    centre = (p + z2 / (2 * items)) / (1 + z2 / items)
    half = Z_95 / (1 + z2 / items) * np.sqrt(p * (1 - p) / items + z2 / (4 * items**2))
    # The share lies within, also where it is 0 or 1 and rounding would leave it outside.
    return float(max(min(centre - half, p), 0.0)), float(min(max(centre + half, p), 1.0))


def bootstrap_ratio(
    wrong: Counter[int], versus: Counter[int], items: int, models: tuple[int, int] = (1, 1)
) -> tuple[float, float]:
    """95 % interval of a ratio of errors on the same recordings: both are drawn together, with replacement.

    Parameters
    ----------
    wrong, versus : Counter
        How many models of either kind were wrong on each recording.
    items : int
        Recordings that both were tested on.
    models : (int, int)
        Models of either kind.
    """
    numbers = sorted(set(wrong) | set(versus))
    shares = np.array([*np.full(len(numbers), 1 / items), 1 - len(numbers) / items])
    drawn = np.random.Generator(np.random.PCG64(0)).multinomial(items, shares, DRAWS)[:, :-1]
    a = drawn @ np.array([wrong[i] for i in numbers]) / models[0]
    b = drawn @ np.array([versus[i] for i in numbers]) / models[1]
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.where(a == b, 1.0, a / b)
    # Between two draws there is nothing to interpolate, least of all where one is infinite.
    low, high = np.quantile(ratios, 0.025, method="lower"), np.quantile(ratios, 0.975, method="higher")
    return float(low), float(high)


def pooled(rows: Sequence[Row]) -> list[Point]:
    """One point a setting, in the order of first appearance.

    Its dense counterpart is the same network at θ = 0: trained from scratch for `plain` and `beta`, and for the
    fine-tuned ones, where there is one, trained on at θ = 0 for as many epochs.
    """
    groups: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in KEYS), []).append(row)
    dense = {(*_network(group[0]), group[0]["mode"]): group for group in groups.values() if _is_dense(group[0])}
    points = []
    for group in groups.values():
        network, mode = _network(group[0]), str(group[0]["mode"])
        versus = "finetune" if mode.startswith("finetune") and (*network, "finetune") in dense else "plain"
        points.append(_point(group, dense.get((*network, versus)), versus))
    return points


def _network(row: Row) -> tuple[object, ...]:
    return row["cell"], row["n_layers"], row["n_hidden"]


def _is_dense(row: Row) -> bool:
    return bool(row["theta_x"] == row["theta_h"] == 0)


def _wrong(rows: Iterable[Row], folds: set[int]) -> Counter[int]:
    return Counter(item for row in rows if row["fold"] in folds for item in row["wrong"])


def _point(rows: Sequence[Row], versus_rows: Sequence[Row] | None, versus: str) -> Point:
    of_fold = {row["fold"]: row["items"] for row in rows}
    items = sum(of_fold.values())
    error = sum(row["error"] * row["items"] for row in rows) / sum(row["items"] for row in rows)
    low, high = wilson(error * items, items)
    operations = OperationCount(
        executed=sum(row["macs_executed"] for row in rows),
        dense=sum(row["macs_dense"] for row in rows),
        executed_dx=sum(row["macs_executed_dx"] for row in rows),
        dense_dx=sum(row["macs_dense_dx"] for row in rows),
    )
    ratio: tuple[float | None, float | None, float | None] = (None, None, None)
    if versus_rows is not None:
        ratio = _ratio(rows, versus_rows)
    return Point(
        **{key: rows[0][key] for key in KEYS},
        params=rows[0]["params"],
        models=len(rows),
        folds=len(of_fold),
        seeds=len({row["seed"] for row in rows}),
        items=items,
        error=error,
        error_low=low,
        error_high=high,
        op_reduction=operations.reduction,
        op_reduction_without_dx=operations.reduction_without_dx,
        occupancy_x=operations.executed_dx / operations.dense_dx,
        occupancy_h=(operations.executed - 3 * operations.executed_dx) / (operations.dense - 3 * operations.dense_dx),
        ratio=ratio[0],
        ratio_low=ratio[1],
        ratio_high=ratio[2],
        versus=versus,
    )


def _ratio(rows: Sequence[Row], versus: Sequence[Row]) -> tuple[float | None, float | None, float | None]:
    """On the folds that both have, so that a study under way compares like with like."""
    folds = {row["fold"] for row in rows} & {row["fold"] for row in versus}
    items = sum({row["fold"]: row["items"] for row in rows if row["fold"] in folds}.values())
    counts = tuple(sum(row["fold"] in folds for row in group) for group in (rows, versus))
    wrong, wrong_versus = _wrong(rows, folds), _wrong(versus, folds)
    if not wrong_versus.total():
        return None, None, None
    ratio = (wrong.total() / counts[0]) / (wrong_versus.total() / counts[1])
    low, high = bootstrap_ratio(wrong, wrong_versus, items, (counts[0], counts[1]))
    return ratio, low, high if np.isfinite(high) else None


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """One line a model; the recordings that it got wrong stand in one column, apart by spaces."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(rows[0])
        for row in rows:
            writer.writerow([_cell(value) for value in row.values()])


def read_csv(path: Path) -> list[Row]:
    """The rows that `write_csv` wrote, numbers to the digits that stand there."""
    with path.open(newline="", encoding="utf-8") as file:
        return [{key: _value(key, text) for key, text in line.items()} for line in csv.DictReader(file)]


def _value(key: str, text: str) -> object:
    if key in ("cell", "mode"):
        return text
    if key == "wrong":
        return [int(number) for number in text.split()]
    return int(text) if text.lstrip("-").isdigit() else float(text)


def write_points_csv(path: Path, points: Sequence[Point]) -> None:
    """One line a setting."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([field.name for field in fields(Point)])
        for point in points:
            writer.writerow([_cell(value) for value in asdict(point).values()])


def _cell(value: object) -> object:
    if isinstance(value, list):
        return " ".join(map(str, value))
    return f"{value:.6g}" if isinstance(value, float) else value
