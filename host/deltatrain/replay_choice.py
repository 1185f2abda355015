"""From the rows of a study of replay to its table, and to a default by a stated rule."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deltatrain.errors import InputError
from deltatrain.shards import Row

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Way:
    """How old speakers are kept: format and budget of the store, exemplars after each new utterance."""

    format: str
    budget_kib: int
    rate: float


NO_REPLAY = Way("none", 0, 0.0)


@dataclass(frozen=True)
class Pooled:
    """Means over all meetings of one way and one number of passes.

    Attributes
    ----------
    exemplars : float
        In the store.
    error, known_error : float
        Of the new speaker, and of the old ones; `error_se` and `known_error_se` are standard errors of the means.
    """

    passes: int
    way: Way
    meetings: int
    exemplars: float
    error: float
    error_se: float
    known_error: float
    known_error_se: float

    def to_dict(self) -> Row:
        """JSON-ready, and a line of the table."""
        flat: Row = asdict(self)
        way: Row = flat.pop("way")
        return way | flat


def pooled(rows: Sequence[Row]) -> list[Pooled]:
    """Every way and number of passes, in the order of first appearance."""
    groups: dict[tuple[int, Way], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["passes"], _way(row)), []).append(row)
    return [
        Pooled(
            passes=passes,
            way=way,
            meetings=len(group),
            exemplars=float(np.mean([row["exemplars"] for row in group])),
            error=float(np.mean(_column(group, "error"))),
            error_se=_standard_error(_column(group, "error")),
            known_error=float(np.mean(_column(group, "known_error"))),
            known_error_se=_standard_error(_column(group, "known_error")),
        )
        for (passes, way), group in sorted(groups.items(), key=lambda entry: entry[0][0])
    ]


def choose(rows: Sequence[Row]) -> Way:
    """The default that these rows speak for.

    A way's cost is the new speaker's error plus the old speakers', averaged over the numbers of passes. Among the ways
    whose cost is no more than one standard error (of the difference, meeting by meeting) above the least, the one with
    the smallest store, then the lowest rate.

    InputError when no row has training.
    """
    cost = costs(rows)
    if not cost:
        raise InputError("the study has no rows with training; give --passes 1 or more")
    best = min(cost.values(), key=lambda values: float(values.mean()))
    near = [way for way, values in cost.items() if (values - best).mean() <= _standard_error(values - best)]
    return min(near, key=lambda way: (way.budget_kib, way.rate, -float(cost[way].mean())))


def costs(rows: Sequence[Row]) -> dict[Way, Array]:
    """Of each way its cost in every meeting, in one order of meetings."""
    by_meeting: dict[Way, dict[tuple[str, int, int], list[float]]] = {}
    for row in rows:
        if row["passes"]:
            meeting = (row["speaker"], row["seed"], row["order"])
            by_meeting.setdefault(_way(row), {}).setdefault(meeting, []).append(row["error"] + row["known_error"])
    return {
        way: np.array([np.mean(values) for _, values in sorted(meetings.items())])
        for way, meetings in by_meeting.items()
    }


def choices_without(rows: Sequence[Row]) -> dict[str, Way]:
    """For each speaker what the others' rows choose: whether the choice hangs on one of them."""
    speakers = dict.fromkeys(row["speaker"] for row in rows)
    if len(speakers) < 2:
        return {}
    return {name: choose([row for row in rows if row["speaker"] != name]) for name in speakers}


def write_csv(rows: Sequence[Row], path: Path) -> Path:
    """The rows as they are, one a line."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: _rounded(value) for name, value in row.items()} for row in rows)
    return path


def _way(row: Row) -> Way:
    return Way(row["format"], row["budget_kib"], row["rate"])


def _column(rows: Sequence[Row], name: str) -> Array:
    return np.array([row[name] for row in rows], np.float64)


def _standard_error(values: Array) -> float:
    return float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0


def _rounded(value: object) -> object:
    return round(value, 6) if isinstance(value, float) else value
