"""The figure of how a training step's cost grows: speed-up against its bound, and cost along three axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from deltatrain.bench.growth import Grid, GrowthPoint, speedups
from deltatrain.bench.rows import FIXED, FLOAT
from deltatrain.errors import InputError
from deltatrain.report import svg
from deltatrain.report.palette import LIGHT

WIDTH_IN, ROW_IN = 13.0, 4.0
WIDTHS = (1.5, 1, 1, 1)
DPI = 120
CELL_NAMES = {"lstm": "LSTM", "gru": "GRU", "rnn": "RNN"}
DASHED: Any = (0, (4, 3))
# Field of Speedup, colour, marker, dashes and words.
SPEEDUPS = (
    ("bound", "muted", "", DASHED, "bound: 1 / (1 − sparsity)"),
    ("forward_product", "sky", "o", "-", "forward product"),
    ("backward_product", "green", "^", "-", "backward product"),
    ("gradient_product", "orange", "s", "-", "gradient product"),
    ("products", "blue", "D", "-", "the three together"),
    ("step", "vermilion", "P", "-", "whole step"),
)
# Engine, whether sparse, colour, marker, dashes.
COSTS = (
    (FLOAT, False, "muted", "v", DASHED),
    (FIXED, False, "sand", "o", "-"),
    (FIXED, True, "vermilion", "P", "-"),
)
SPEEDUP_TICKS, SPARSITY_TICKS = (1, 2, 3, 5, 10, 20), (0.0, 0.2, 0.4, 0.6, 0.8)
COST_TICKS = (0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)


def growth_figure(points: Sequence[GrowthPoint], grid: Grid, path_png: Path) -> Path:
    """Draw a row of panels for each cell; return the path.

    Parameters
    ----------
    points : sequence of GrowthPoint
        All of the grid's.
    grid : Grid
    path_png : Path
        In a folder that exists.

    Raises
    ------
    InputError
        If points are missing, or the file cannot be written.
    """
    axes = (
        ("frames", grid.frames, lambda p: p.steps),
        ("hidden units", grid.widths, lambda p: p.n_hidden),
        ("layers", grid.layers, lambda p: p.layers),
    )
    with svg.style():
        size = (WIDTH_IN, ROW_IN * len(grid.cells))
        figure = Figure(size, layout="constrained", facecolor=LIGHT["surface"])
        panels = figure.subplots(len(grid.cells), 1 + len(axes), squeeze=False, width_ratios=WIDTHS)
        for row, cell in zip(panels, grid.cells, strict=True):
            _speedup_panel(row[0], points, grid, cell)
            for ax, (name, values, value_of) in zip(row[1:], axes, strict=True):
                ax.sharey(row[1])
                _cost_panel(ax, points, grid, cell, name, values, value_of)
        panels[0][0].legend(handles=_legend(SPEEDUPS), loc="upper left", fontsize=9.5)
        costs = _legend([(*cost, _words(cost[:2], grid)) for cost in COSTS])
        panels[0][2].legend(handles=costs, loc="upper left", fontsize=9.5)
        try:
            figure.savefig(path_png, format="png", dpi=DPI, metadata={"Software": None})
        except OSError as error:
            raise InputError(f"cannot write the figure to {path_png} ({error.strerror})") from error
    return path_png


def _words(engine: tuple[str, bool], grid: Grid) -> str:
    name, sparse = engine
    if name == FLOAT:
        return "float32, dense"
    return f"deltatrain, {100 * grid.sparse:g} % sparse" if sparse else "deltatrain, dense"


def _legend(lines: Sequence[tuple[Any, ...]]) -> list[Line2D]:
    """Of lines that end in colour, marker, dashes and words."""
    return [
        Line2D([], [], color=LIGHT[colour], marker=marker, linestyle=dashes, markersize=5, label=text)
        for *_, colour, marker, dashes, text in lines
    ]


def _speedup_panel(ax: Axes, points: Sequence[GrowthPoint], grid: Grid, cell: str) -> None:
    measured = speedups(points, grid.default(cell))
    for field, colour, marker, dashes, _ in SPEEDUPS:
        ax.plot(
            [speedup.sparsity for speedup in measured],
            [getattr(speedup, field) for speedup in measured],
            color=LIGHT[colour],
            marker=marker,
            linestyle=dashes,
            markersize=4,
        )
    ax.set_yscale("log")
    ax.set_yticks(SPEEDUP_TICKS, [f"{tick}×" for tick in SPEEDUP_TICKS])
    ax.yaxis.set_minor_locator(NullLocator())
    ax.set_xticks(SPARSITY_TICKS, [f"{100 * tick:g} %" for tick in SPARSITY_TICKS])
    ax.set_xlabel("sparsity")
    ax.set_ylabel("dense / sparse instructions")
    ax.set_title(f"{CELL_NAMES[cell]} {grid.n_in}→{grid.n_hidden}, {grid.steps} frames")


def _cost_panel(
    ax: Axes,
    points: Sequence[GrowthPoint],
    grid: Grid,
    cell: str,
    name: str,
    values: Sequence[int],
    value_of: Callable[[GrowthPoint], int],
) -> None:
    shape = grid.default(cell)
    default = {"frames": shape.steps, "hidden units": shape.n_hidden, "layers": shape.n_layers}
    for engine, sparse, colour, marker, dashes in COSTS:
        asked = grid.sparse if sparse else 0.0
        line = []
        for value in values:
            sizes = default | {name: value}
            found = [
                point
                for point in points
                if (point.cell, point.engine, point.asked) == (cell, engine, asked)
                and (point.steps, point.n_hidden, point.layers) == tuple(sizes.values())
            ]
            if len(found) != 1:
                raise InputError(f"the study lacks {engine}, {cell}, {sizes}, sparsity {asked}; run it again")
            line.append((value_of(found[0]), found[0].instructions / 1e6))
        ax.plot(*zip(*line, strict=True), color=LIGHT[colour], marker=marker, linestyle=dashes, markersize=5)
    ax.set_yscale("log")
    if name != "layers":
        ax.set_xscale("log")
    ax.set_xticks(values, [str(value) for value in values])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_yticks(COST_TICKS, [f"{tick:g}" for tick in COST_TICKS])
    ax.yaxis.set_minor_locator(NullLocator())
    ax.set_xlabel(name)
    ax.set_ylabel("million instructions a step")
    ax.set_title(f"{CELL_NAMES[cell]}, by {name}")
