"""A picture of a run from its log: error, loss and sparsity over the steps. Its memory does not grow with the steps."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from deltatrain.errors import InputError
from deltatrain.report import svg
from deltatrain.report.palette import LIGHT
from deltatrain.run.log import read_events

WIDTH_IN, HEIGHT_IN = 9.0, 7.0
DPI = 120
MAX_BINS = 400


@dataclass
class _Bin:
    """Sums over neighbouring steps."""

    first: int
    last: int = 0
    count: int = 0
    error: float = 0.0
    loss: float = 0.0
    occupancies: int = 0
    occupancy: float = 0.0

    def merge(self, other: _Bin) -> None:
        """Take in the steps that follow."""
        self.last = other.last
        for name in ("count", "error", "loss", "occupancies", "occupancy"):
            setattr(self, name, getattr(self, name) + getattr(other, name))


@dataclass
class _Curves:
    """Means over bins of equally many steps; where there are too many, pairs become one."""

    bins: list[_Bin] = field(default_factory=list)
    width: int = 1
    evaluations: list[tuple[int, float]] = field(default_factory=list)
    resumed: list[int] = field(default_factory=list)
    seen: int = -1

    def add(self, event: dict[str, Any]) -> None:
        """Take an event in; steps that were trained again are the same and count once."""
        kind = event["event"]
        if kind == "evaluation":
            self.evaluations.append((event["step"], event["error"]))
        elif kind == "resume":
            self.resumed.append(event["step"])
        elif kind == "step" and event["step"] > self.seen and event.get("loss") is not None:
            self.seen = event["step"]
            new = not event["replayed"]
            step = _Bin(
                self.seen, self.seen, int(new), new * event["error"], new * event["loss"], 1, event["occupancy"]
            )
            if self.bins and step.first - self.bins[-1].first < self.width:
                self.bins[-1].merge(step)
            else:
                self.bins.append(step)
            if len(self.bins) > MAX_BINS:
                for even, odd in zip(self.bins[::2], self.bins[1::2], strict=False):
                    even.merge(odd)
                self.bins, self.width = self.bins[::2], 2 * self.width

    def means(self, name: str, of: str) -> tuple[list[float], list[float]]:
        """Steps and means of bins that have any; the mean of a few bins, so that the line can be read."""
        kept = [part for part in self.bins if getattr(part, of)]
        around = max(1, len(kept) // 40)
        steps, means = [], []
        for place, part in enumerate(kept):
            near = kept[max(0, place - around) : place + around + 1]
            steps.append((part.first + part.last) / 2)
            means.append(sum(getattr(n, name) for n in near) / sum(getattr(n, of) for n in near))
        return steps, means


def run_figure(log: Path, path_png: Path) -> int:
    """Draw a run from its log; how many steps it has.

    InputError when the log has none, or a file cannot be read or written.
    """
    if not log.exists():
        raise InputError(f"there is no log {log}; `train --log` or `train --run` write one")
    curves = _Curves()
    try:
        for event in read_events(log):
            curves.add(event)
    except KeyError as error:
        raise InputError(f"{log} is no log of `train`: an event has no {error}") from error
    if not curves.bins:
        raise InputError(f"{log} tells of no training step yet; draw it when there is one")
    with svg.style():
        figure = Figure((WIDTH_IN, HEIGHT_IN), layout="constrained", facecolor=LIGHT["surface"])
        top, middle, bottom = figure.subplots(3, sharex=True)
        _curve(top, *curves.means("error", "count"), "blue", "error before each update")
        if curves.evaluations:
            steps, errors = zip(*curves.evaluations, strict=True)
            top.plot(
                steps, errors, color=LIGHT["vermilion"], marker="o", linestyle="--", label="error of the test samples"
            )
        top.set_ylabel("error")
        top.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, fontsize=10)
        _curve(middle, *curves.means("loss", "count"), "green", "loss")
        middle.set_ylabel("loss")
        steps_of, occupancy = curves.means("occupancy", "occupancies")
        _curve(bottom, steps_of, [1 - value for value in occupancy], "purple", "sparsity")
        bottom.set_ylabel("sparsity")
        bottom.set_xlabel("training step")
        for ax in (top, middle, bottom):
            for step in curves.resumed:
                ax.axvline(step, color=LIGHT["muted"], linewidth=0.8, linestyle=":")
        top.set_ylim(bottom=0)
        middle.set_ylim(bottom=0)
        if curves.resumed:
            figure.supxlabel("dotted: gone on after a stop", fontsize=9, color=LIGHT["muted"])
        try:
            figure.savefig(path_png, format="png", dpi=DPI, metadata={"Software": None})
        except OSError as error:
            raise InputError(f"cannot write the figure to {path_png} ({error.strerror})") from error
    return sum(part.occupancies for part in curves.bins)


def _curve(ax: Axes, steps: list[float], values: list[float], colour: str, label: str) -> None:
    ax.plot(steps, values, color=LIGHT[colour], linewidth=1.6, label=label, marker="o" if len(steps) == 1 else "")
