"""The picture of a sweep: error against operations saved, one panel a network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter
from matplotlib.transforms import offset_copy

from deltatrain.errors import InputError
from deltatrain.points import Point
from deltatrain.report import svg
from deltatrain.report.palette import LIGHT

PAPER_REDUCTION, PAPER_RATIO = 7.3, 1.16
PANEL_WIDTH_IN, HEIGHT_IN = 4.6, 4.6
COLUMNS = 2
DPI = 120
BAR_GAP_PT = 2.0  # between the intervals of two series at one place
DASHED = (0, (4, 3))

# Colour, marker and words of a mode.
_MODES = {
    "plain": ("blue", "o", "from scratch"),
    "beta": ("orange", "s", "from scratch, β"),
    "finetune": ("green", "^", "fine-tuned"),
    "finetune+beta": ("vermilion", "D", "fine-tuned, β"),
}


def sweep_picture(points: Sequence[Point], path_png: Path) -> Path:
    """Draw error with its interval over op reduction, dotted without the first layer's dx; return the path.

    Parameters
    ----------
    points : sequence of Point
        With the dense network, θ = 0, of each for reference; pairs θx ≠ θh are drawn without a line.
    path_png : Path
        Of a PNG file.

    Raises
    ------
    InputError
        If there are no points, or the file cannot be written.
    """
    if not points:
        raise InputError("there are no points to draw; sweep over something")
    networks = list(dict.fromkeys(point.network for point in points))
    columns = min(COLUMNS, len(networks))
    rows = -(-len(networks) // columns)
    with svg.style():
        figure = Figure(
            figsize=(PANEL_WIDTH_IN * columns + 0.4, HEIGHT_IN * rows), facecolor=LIGHT["surface"], layout="constrained"
        )
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for ax, network in zip(axes, networks, strict=False):
            _panel(ax, [point for point in points if point.network == network])
        for ax in axes[len(networks) :]:
            ax.set_visible(False)
        told = {label: handle for ax in axes for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
        figure.legend(
            list(told.values()), list(told), loc="outside lower center", ncols=1 + columns, fontsize=10, handlelength=3
        )
        try:
            figure.savefig(path_png, format="png", dpi=DPI, facecolor=LIGHT["surface"], metadata={"Software": None})
        except OSError as error:
            raise InputError(
                f"cannot write the picture to {path_png} ({error.strerror}); name another folder"
            ) from error
    return path_png


def _panel(ax: Axes, points: Sequence[Point]) -> None:
    ax.set_xscale("log")
    dense = next((point for point in points if point.is_dense and point.mode == "plain"), None)
    if dense is not None:
        at = 100 * dense.error * PAPER_RATIO
        ax.axhline(100 * dense.error, color=LIGHT["muted"], linewidth=1, label="dense")
        ax.axhline(at, color=LIGHT["muted"], linewidth=1, linestyle=DASHED)
        ax.plot(PAPER_REDUCTION, at, "*", color=LIGHT["muted"], markersize=13, zorder=2)
        paper = f"the paper's: {PAPER_RATIO:g} × dense, at {PAPER_REDUCTION:g}×"
        ax.plot([], [], "*", color=LIGHT["muted"], markersize=9, linestyle=DASHED, linewidth=1, label=paper)
    series = _series(points)
    for place, ((mode, beta), group) in enumerate(series.items()):
        colour, marker, words = _MODES[mode]
        label = f"{words} = {beta:g}" if beta else words
        aside = BAR_GAP_PT * (place - (len(series) - 1) / 2)
        equal = sorted((point for point in group if point.theta_x == point.theta_h), key=lambda p: p.theta_h)
        _draw(ax, equal, LIGHT[colour], marker, label, aside, line=True)
        _draw(ax, [p for p in group if p.theta_x != p.theta_h], LIGHT[colour], marker, "", aside, line=False)
    ax.set_title(f"{points[0].network}, {points[0].params:,} parameters")
    ax.set_xlabel("dense / executed MACs of training")
    ax.set_ylabel("error, %")
    ax.set_ylim(0, 1.05 * max(100 * point.error_high for point in points))
    ax.set_xticks([1, 2, 3, 5, 7, 10, 20])
    ax.tick_params(which="minor", length=0)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}×"))
    ax.xaxis.set_minor_formatter(NullFormatter())


def _series(points: Sequence[Point]) -> dict[tuple[str, float], list[Point]]:
    """By mode and β."""
    series: dict[tuple[str, float], list[Point]] = {}
    for point in points:
        series.setdefault((point.mode, point.beta), []).append(point)
    return dict(sorted(series.items(), key=lambda entry: (list(_MODES).index(entry[0][0]), entry[0][1])))


def _draw(ax: Axes, points: Sequence[Point], colour: str, marker: str, label: str, aside: float, *, line: bool) -> None:
    """Markers at their place, intervals `aside` points from it, so that those of several series are told apart."""
    if not points:
        return
    reduction, error = [point.op_reduction for point in points], [100 * point.error for point in points]
    below = [100 * (point.error - point.error_low) for point in points]
    above = [100 * (point.error_high - point.error) for point in points]
    edge, face = (LIGHT["surface"], colour) if line else (colour, LIGHT["surface"])
    moved = offset_copy(ax.transData, ax.get_figure(root=True), x=aside, units="points")
    ax.errorbar(
        reduction, error, yerr=(below, above), color=colour, linestyle="", elinewidth=0.8, transform=moved,
    )  # fmt: skip
    ax.plot(
        reduction, error, color=colour, marker=marker, markersize=6, linewidth=1.6 if line else 0, label=label or None,
        markeredgecolor=edge, markerfacecolor=face, zorder=3,
    )  # fmt: skip
    if line:
        ax.plot([point.op_reduction_without_dx for point in points], error, ":", color=colour, linewidth=1.2)
