"""From the rows of a study of replay to its table, and to a default by a stated rule."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from deltatrain.errors import InputError
from deltatrain.shards import Row

Array = NDArray[np.float64]
Number = TypeVar("Number", int, float)


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


def choices(rows: Sequence[Row]) -> dict[int, Way]:
    """`choose` for each number of passes."""
    passes = sorted({row["passes"] for row in rows} - {0})
    return {count: choose([row for row in rows if row["passes"] == count]) for count in passes}


def choose(rows: Sequence[Row]) -> Way:
    """The default that these rows speak for.

    A way's cost is the new speaker's error plus the old speakers' (the mean over numbers of passes). Single ways are
    too noisy to be compared, so the cost of a format is averaged over the budgets and rates that all formats have,
    that of a budget over rates, that of a rate over budgets. Taken are the best format, and of it the smallest budget
    and the lowest rate whose costs are no more than a standard error (of the difference, meeting by meeting) above
    the least; or no replay, unless they are better than it by a standard error.

    InputError when no row has training.
    """
    cost = costs(rows)
    if not cost:
        raise InputError("the study has no rows with training; give --passes 1 or more")
    replayed = [way for way in cost if way != NO_REPLAY]
    if not replayed:
        return NO_REPLAY
    formats = dict.fromkeys(way.format for way in replayed)
    shared = {
        (way.budget_kib, way.rate)
        for way in replayed
        if all(Way(form, way.budget_kib, way.rate) in cost for form in formats)
    }
    form = min(formats, key=lambda name: np.mean([cost[Way(name, *place)].mean() for place in shared]))
    mine = [way for way in replayed if way.format == form]
    budgets = {way.budget_kib: [cost[other] for other in mine if other.budget_kib == way.budget_kib] for way in mine}
    rates = {way.rate: [cost[other] for other in mine if other.rate == way.rate] for way in mine}
    chosen = Way(form, int(_least(budgets)), float(_least(rates)))
    if NO_REPLAY in cost:
        gain = cost[NO_REPLAY] - cost[chosen]
        return chosen if gain.mean() > _standard_error(gain) else NO_REPLAY
    return chosen


def _least(groups: Mapping[Number, Sequence[Array]]) -> Number:
    """The smallest number whose mean cost is no more than a standard error above the least."""
    means = {number: np.mean(parts, axis=0) for number, parts in groups.items()}
    best = min(means.values(), key=lambda values: float(values.mean()))
    return min(number for number, cost in means.items() if (cost - best).mean() <= _standard_error(cost - best))


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


def choices_without(rows: Sequence[Row]) -> dict[str, dict[int, Way]]:
    """For each speaker what the others' rows choose: whether the choices hang on one of them."""
    speakers = dict.fromkeys(row["speaker"] for row in rows)
    if len(speakers) < 2:
        return {}
    return {name: choices([row for row in rows if row["speaker"] != name]) for name in speakers}


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
