"""The main picture: the story at a glance, for a README."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from deltatrain.errors import InputError
from deltatrain.report import svg, words
from deltatrain.report.confusion import draw_confusion
from deltatrain.report.palette import LIGHT
from deltatrain.story import Story

WIDTH_IN, HEIGHT_IN = 14.0, 5.6
DPI = 120
LONGEST_NAME, LABEL_PT = 8, 8.6  # of a class, where there is room for no more


def main_picture(story: Story, path_png: Path) -> Path:
    """Draw error, confusions and operations side by side, with the verdict beneath; return the path.

    Parameters
    ----------
    story : Story
    path_png : Path
        Of a PNG file, 1680 by 672 pixels; its folder is made where it is missing.

    Raises
    ------
    InputError
        If there are no training steps, or the file cannot be written.
    """
    if not story.comparison.steps:
        raise InputError("there were no training steps, so there is nothing to show; train on some utterances")
    with svg.style():
        figure = Figure(figsize=(WIDTH_IN, HEIGHT_IN), facecolor=LIGHT["surface"])
        _title(figure, story)
        names = [words.short(name, LONGEST_NAME) for name in story.model.class_names]
        bottom, height = 0.25, 0.52
        _error_bars(figure.add_axes((0.03, bottom, 0.165, height)), story)
        cell = 190 / len(names)
        for left, evaluation, title in ((0.262, story.before, "before"), (0.542, story.after, "after")):
            ax = figure.add_axes((left, bottom, 0.215, height))
            draw_confusion(ax, evaluation, names, cell, LABEL_PT)
            ax.set_title(f"what was recognised, {title}", pad=8, size=13)
        _operations(figure.add_axes((0.805, bottom, 0.165, height)), story)
        _badge(figure, story)
        try:
            path_png.parent.mkdir(parents=True, exist_ok=True)
            figure.savefig(path_png, format="png", dpi=DPI, facecolor=LIGHT["surface"], metadata={"Software": None})
        except OSError as error:
            raise InputError(
                f"cannot write the picture to {path_png} ({error.strerror}); name another folder"
            ) from error
    return path_png


def _title(figure: Figure, story: Story) -> None:
    headline = figure.text(0.022, 0.925, words.headline(story), size=21, weight="bold", va="center")
    # A long name of a speaker makes the letters smaller, not the sentence shorter.
    room = 0.956 * figure.bbox.width
    headline.set_fontsize(21 * min(1.0, room / headline.get_window_extent().width))
    figure.text(
        0.022, 0.862, f"one at a time, on {words.plain(story.board)}", size=13.5, color=LIGHT["muted"], va="center",
    )  # fmt: skip


def _error_bars(ax: Axes, story: Story) -> None:
    values = (story.before.error, story.after.error)
    bars = ax.bar((0, 1), values, width=0.72, color=(LIGHT["dense"], LIGHT["blue"]))
    top = max(*values, 0.02)
    for bar, value in zip(bars, values, strict=True):
        ax.text(
            bar.get_x() + bar.get_width() / 2, value + 0.03 * top, words.percent(value), ha="center",
            size=17, weight="bold",
        )  # fmt: skip
    _bare(ax, "error", ("before", "after"), top)


def _operations(ax: Axes, story: Story) -> None:
    operations = story.operations
    values = (operations.dense, operations.executed)
    bars = ax.bar((0, 1), values, width=0.72, color=(LIGHT["dense"], LIGHT["green"]))
    top = max(*values, 1)
    for bar, value, shown in zip(
        bars, values, (words.compact(values[0]), f"{words.times(operations.reduction)}\nfewer"), strict=True
    ):
        ax.text(
            bar.get_x() + bar.get_width() / 2, value + 0.03 * top, shown, ha="center", size=17, weight="bold",
            linespacing=1.1,
        )  # fmt: skip
    _bare(ax, "MACs of training", ("dense", "executed"), top)


def _bare(ax: Axes, title: str, labels: tuple[str, str], top: float) -> None:
    ax.set_title(title, pad=8, size=13)
    ax.set_xticks((0, 1), labels, size=13, color=LIGHT["ink"])
    ax.tick_params(length=0)
    ax.set_yticks([])
    ax.set_ylim(0, 1.14 * top)
    ax.grid(False)
    ax.spines["left"].set_visible(False)


def _badge(figure: Figure, story: Story) -> None:
    equal = story.comparison.words_different == 0 and story.comparison.words_compared > 0
    kind = "good" if equal else "bad"
    figure.add_artist(
        FancyBboxPatch(
            (0.022, 0.03), 0.956, 0.075, boxstyle="round,pad=0,rounding_size=0.012", mutation_aspect=2.5,
            transform=figure.transFigure, facecolor=LIGHT[kind], linewidth=0,
        )
    )  # fmt: skip
    figure.text(
        0.037, 0.066, ("✓  " if equal else "✗  ") + words.verdict(story), size=14.5, weight="bold",
        color=LIGHT[f"{kind}-ink"], va="center",
    )  # fmt: skip
