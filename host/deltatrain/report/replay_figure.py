"""The figure of a study of replay: errors of old and new speakers against the bytes that exemplars take."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from deltatrain.errors import InputError
from deltatrain.replay_choice import NO_REPLAY, Pooled
from deltatrain.report import svg
from deltatrain.report.palette import LIGHT, SERIES

WIDTH_IN, PANEL_HEIGHT_IN = 10.0, 3.4
DPI = 120
MARKERS = "osD^vP"
LEGEND_EM = 3.4  # long enough for dashes on both sides of a marker
DASHES = {"int16": ":", "int8": "--", "events": "-"}
FORMAT_NAMES = {"int16": "int16", "int8": "int8", "events": "events in int8"}
# Who is judged: the field of `Pooled`, and in words.
JUDGED = (("known_error", "old speakers"), ("error", "new speaker"))


def replay_figure(cells: Sequence[Pooled], path_png: Path) -> Path:
    """Draw errors against budgets, a column for each number of passes; return the path.

    Parameters
    ----------
    cells : sequence of Pooled
    path_png : Path
        In a folder that exists.

    Raises
    ------
    InputError
        If nothing was trained with replay, or the file cannot be written.
    """
    passes = sorted({cell.passes for cell in cells if cell.way != NO_REPLAY})
    if not passes:
        raise InputError("nothing was trained with replay, so there is nothing to draw; give budgets and rates")
    with svg.style():
        figure = Figure((WIDTH_IN, PANEL_HEIGHT_IN * len(JUDGED)), layout="constrained", facecolor=LIGHT["surface"])
        panels = figure.subplots(len(JUDGED), len(passes), squeeze=False, sharex=True, sharey="row")
        for row, (field, who) in zip(panels, JUDGED, strict=True):
            for ax, count in zip(row, passes, strict=True):
                _panel(ax, cells, field, count)
                ax.set_title(f"{who}, after {count} pass{'es' if count > 1 else ''}")
            row[0].set_ylabel("error, %")
            row[0].set_ylim(bottom=0)  # when all lines of the row stand
        for ax in panels[-1]:
            ax.set_xlabel("flash for exemplars, KiB")
        handles, labels = panels[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=10, handlelength=LEGEND_EM)
        try:
            figure.savefig(path_png, format="png", dpi=DPI, metadata={"Software": None})
        except OSError as error:
            raise InputError(f"cannot write the figure to {path_png} ({error.strerror})") from error
    return path_png


def _panel(ax: Axes, cells: Sequence[Pooled], field: str, passes: int) -> None:
    """One line for each format and rate, each with its own colour and marker."""
    budgets = sorted({cell.way.budget_kib for cell in cells if cell.way != NO_REPLAY})
    ways = dict.fromkeys((cell.way.format, cell.way.rate) for cell in cells if cell.way != NO_REPLAY)
    for place, (form, rate) in enumerate(sorted(ways, key=lambda way: (way[0] != "events", way))):
        mine = [cell for cell in cells if (cell.passes, cell.way.format, cell.way.rate) == (passes, form, rate)]
        mine.sort(key=lambda cell: cell.way.budget_kib)
        ax.errorbar(
            [budgets.index(cell.way.budget_kib) for cell in mine],
            [100 * getattr(cell, field) for cell in mine],
            yerr=[100 * getattr(cell, f"{field}_se") for cell in mine] if form == "events" else None,
            color=LIGHT[SERIES[place % len(SERIES)]],
            linestyle=DASHES.get(form, "-"),
            marker=MARKERS[place % len(MARKERS)],
            markersize=5,
            elinewidth=0.8,
            zorder=2 + (form == "events"),
            label=f"{FORMAT_NAMES.get(form, form)}, {rate:g} a new utterance",
        )
    for cell in cells:
        if cell.way == NO_REPLAY and cell.passes in (0, passes):
            untrained = cell.passes == 0
            ax.axhline(
                100 * getattr(cell, field),
                color=LIGHT["muted" if untrained else "ink"],
                linestyle=(0, (1, 2)) if untrained else (0, (5, 2)),
                linewidth=1.2,
                label="before training" if untrained else "without replay",
            )
    ax.set_xticks(range(len(budgets)), [str(budget) for budget in budgets])
