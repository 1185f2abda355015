"""Confusion matrices: drawn on one colour scale, and in words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from deltatrain.report.palette import LIGHT
from deltatrain.report.words import plain
from deltatrain.training import Evaluation

TOP_CONFUSIONS = 3
SMALLEST_CELL = 10.0  # points; in smaller ones numbers and labels would only be noise
# Opacities of cells: of one that holds anything at all, and where the colour of its number changes.
FAINTEST, MIDDLING, STRONG = 0.16, 0.6, 0.85


def draw_confusion(
    ax: Axes, evaluation: Evaluation, names: Sequence[str], cell: float, largest_label: float = 11.0
) -> None:
    """Rows are true classes; a cell is as strong as its share of the row, blue where right, else vermilion.

    `cell` is the width of a cell in points, which decides the size of its number and, to `largest_label`, of names.
    """
    matrix = evaluation.confusion()
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    number_size = min(14.0, cell * 0.4)
    for row, column in np.argwhere(matrix):
        share = float(shares[row, column])
        strength = FAINTEST + (1 - FAINTEST) * share**0.7
        colour = "blue" if row == column else "vermilion"
        ax.add_patch(
            Rectangle((column - 0.47, row - 0.47), 0.94, 0.94, color=LIGHT[colour], alpha=strength, linewidth=0)
        )
        if cell >= SMALLEST_CELL:
            ax.text(
                column, row, str(matrix[row, column]), ha="center", va="center", size=number_size,
                color=LIGHT[_text_on(colour, strength)],
            )  # fmt: skip
    ticks = range(len(names) if cell >= SMALLEST_CELL else 0)
    names = names[: len(ticks)]
    label_size = min(largest_label, max(cell * 0.45, 7.0))
    ax.set_xticks(ticks, names, rotation=45, ha="right", rotation_mode="anchor", size=label_size)
    ax.set_yticks(ticks, names, size=label_size)
    ax.tick_params(length=0, labelcolor=LIGHT["ink"])
    end = len(matrix) - 0.5
    ax.set_xlim(-0.5, end)
    ax.set_ylim(end, -0.5)
    ax.set_aspect("equal")
    ax.set_xlabel("recognised as")
    ax.set_ylabel("spoken")
    ax.grid(False)
    # The lattice lies between the cells.
    lattice = np.arange(-0.5, len(matrix))
    ax.hlines(lattice, -0.5, end, color=LIGHT["grid"], linewidth=0.7)
    ax.vlines(lattice, -0.5, end, color=LIGHT["grid"], linewidth=0.7)
    for spine in ax.spines.values():
        spine.set_visible(False)


def n_wrong(evaluation: Evaluation) -> int:
    """Utterances that were not recognised."""
    matrix = evaluation.confusion()
    return int(matrix.sum() - np.trace(matrix))


def top_confusions(evaluation: Evaluation, names: Sequence[str]) -> str:
    """The commonest confusions: `seven as one (12), …`; empty when there are none."""
    matrix = evaluation.confusion()
    np.fill_diagonal(matrix, 0)
    order = np.argsort(-matrix, axis=None, kind="stable")[:TOP_CONFUSIONS]
    pairs = (np.unravel_index(flat, matrix.shape) for flat in order)
    return ", ".join(
        f"{plain(names[true])} as {plain(names[said])} ({matrix[true, said]})"
        for true, said in pairs
        if matrix[true, said]
    )


def _text_on(colour: str, strength: float) -> str:
    """The colour of the palette that is read best on a fill, in both schemes."""
    if strength < MIDDLING:
        return "ink"
    return "on" if colour == "blue" and strength > STRONG else "on-mid"
