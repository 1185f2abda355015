"""The figures of the report, each a `Drawing`: what it shows as SVG, in words, and what to make of it.

Widths are in SVG units, which a page shows as about one pixel: narrow enough to be read on a telephone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from deltatrain.report import svg
from deltatrain.report.confusion import draw_confusion, n_wrong, top_confusions
from deltatrain.report.palette import LIGHT, SERIES
from deltatrain.report.words import (
    UNIT_SPACE,
    change,
    compact,
    count,
    lines,
    percent,
    plain,
    points,
    short,
    size,
    times,
)
from deltatrain.story import Story
from deltatrain.training import Evaluation, Running, count_operations

WIDTH = 420
MOST_DOTS = 500
MOST_MARKED = 60
MANY_CLASSES = 14
ROOM_FOR_LABELS = 0.18  # of an axis, between two numbers side by side


@dataclass(frozen=True)
class Drawing:
    """One figure of the page; `wide` ones take a whole row."""

    name: str
    title: str
    svg: Markup
    caption: str
    wide: bool = False


def errors(story: Story) -> Drawing:
    """Error before and after, of the new speaker and of those known before."""
    speaker = lines(story.speaker)
    rows: list[tuple[str, float | None, float, str]] = [
        (f"{speaker},\non the device", story.before.error, story.after.error, "blue"),
        (f"{speaker},\nfloat64 on the host", None, story.float_after, "muted"),
        ("speakers\nknown before", story.known_before, story.known_after, "vermilion"),
    ]
    with svg.style():
        figure = svg.new_figure(WIDTH, 340)
        ax = figure.add_subplot()
        known = [v for _, before, after, _ in rows for v in (before, after) if v is not None and np.isfinite(v)]
        limit = max(0.05, 1.18 * max(known))
        ax.set_xlim(-0.04 * limit, limit)
        for y, (_, before, after, colour) in enumerate(reversed(rows)):
            _dumbbell(ax, y, before, after, LIGHT[colour])
        ax.set_yticks(range(len(rows)), [label for label, *_ in reversed(rows)], color=LIGHT["ink"])
        ax.set_ylim(-0.5, len(rows) - 0.35)
        _as_percent(ax.xaxis)
        ax.set_xlabel("error: ○ before, ● after training")
        ax.grid(False, axis="y")
        ax.grid(True, axis="x")
        ax.spines["left"].set_visible(False)
        alt = (
            f"{plain(story.speaker)}’s error {change(story.before.error, story.after.error)} on the device; "
            f"the float64 reference reached {percent(story.float_after)}; "
            f"the error of known speakers {change(story.known_before, story.known_after)}."
        )
        picture = svg.to_svg(figure, "errors", alt)
    forgotten = story.known_after - story.known_before
    caption = f"{count(len(story.after.labels), 'test utterance')} of {plain(story.speaker)}, none of them trained on. "
    if np.isfinite(forgotten):
        caption += (
            "The price: the error on speakers of the pre-training data "
            f"{change(story.known_before, story.known_after)} ({points(forgotten)}); "
            "training on one voice alone forgets others."
            if forgotten > 0
            else "Nothing was forgotten: the error on speakers of the pre-training data "
            f"{change(story.known_before, story.known_after)}."
        )
    return Drawing("errors", "Error before and after", picture, caption)


def confusion(story: Story, evaluation: Evaluation, name: str, title: str) -> Drawing:
    """One confusion matrix; the colour scale is the same for all."""
    names = [short(n) for n in story.model.class_names]
    n_classes = len(names)
    side = min(60, max(22, 320 // n_classes)) * n_classes
    width, height = max(WIDTH, side + 120), side + 95
    with svg.style():
        figure = svg.new_figure(width, height)
        draw_confusion(figure.add_subplot(), evaluation, names, side / n_classes)
        pairs = top_confusions(evaluation, story.model.class_names)
        wrong = n_wrong(evaluation)
        everything = count(len(evaluation.labels), "utterance")
        told = f"{wrong} of {everything} not recognised" if wrong else f"{everything}, all recognised"
        alt = f"Confusion matrix {title.lower()}: {told}" + (f"; most often {pairs}." if pairs else ".")
        picture = svg.to_svg(figure, name, alt)
    caption = told[0].upper() + told[1:] + (f"; most often {pairs}." if pairs else ".")
    return Drawing(name, title, picture, caption, wide=n_classes > MANY_CLASSES)


def running(story: Story) -> Drawing:
    """Error and loss over the utterances, each before its own update."""
    steps = story.comparison.new_steps
    curve = Running()
    means = [curve.add(step) for step in steps]
    number = np.arange(1, len(steps) + 1)
    wrong, losses = np.array([not step.correct for step in steps]), np.array([step.loss for step in steps])
    with svg.style():
        figure = svg.new_figure(WIDTH, 380)
        top, bottom = figure.subplots(2, sharex=True, height_ratios=[1, 1.15])
        marker = "o" if len(steps) == 1 else ""
        # Fewer than a whole window at first: a rough mean, and drawn fainter.
        whole = min(curve.window, len(steps)) - 1
        error_means = [m["error"] for m in means]
        top.plot(number[: whole + 1], error_means[: whole + 1], color=LIGHT["blue"], linewidth=1.6, alpha=0.4)
        top.plot(
            number[whole:],
            error_means[whole:],
            color=LIGHT["blue"],
            linewidth=2.2,
            marker=marker,
            markersize=4,
        )
        top.set_ylim(0, max(0.1, 1.15 * max(m["error"] for m in means)))
        _as_percent(top.yaxis)
        top.set_title(f"error, mean of the last {curve.window}")
        _epochs(top, story, len(steps))
        if len(steps) <= MOST_DOTS and not story.of_utterances:
            bottom.plot(number, losses, "o", color=LIGHT["blue"], markersize=4, label="each sequence")
        elif len(steps) <= MOST_DOTS:
            bottom.plot(number[~wrong], losses[~wrong], "o", color=LIGHT["blue"], markersize=4, label="recognised")
            bottom.plot(
                number[wrong], losses[wrong], "x", color=LIGHT["vermilion"], markersize=5.5,
                markeredgewidth=1.8, label="not recognised",
            )  # fmt: skip
        bottom.plot(
            number, [m["loss"] for m in means], color=LIGHT["ink"], linewidth=1.6,
            label=f"mean of the last {curve.window}", marker=marker, markersize=4,
        )  # fmt: skip
        bottom.set_ylim(0, 1.08 * max(0.1, losses.max()))
        unit = "mean squared error" if story.model.readout == "regression" else "nats"
        bottom.set_title(f"loss, {unit}")
        bottom.set_xlabel("utterance trained on")
        bottom.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=7, steps=[1, 2, 5, 10], min_n_ticks=1))
        bottom.set_xlim(0.5, len(steps) + 0.5)
        _epochs(bottom, story, len(steps))
        figure.legend(loc="outside upper left", ncols=3, columnspacing=1.2, handletextpad=0.5)
        picture = svg.to_svg(
            figure,
            "running",
            f"Running error over {count(len(steps), 'utterance')}: {percent(means[0]['error'])} at the first, "
            f"{percent(means[-1]['error'])} over the last {min(curve.window, len(steps))}; "
            f"mean loss over the last ones {means[-1]['loss']:.2f}{'' if unit != 'nats' else ' nats'}.",
        )
    caption = (
        "Batch 1: each utterance is classified before it is trained on, and not kept. The curve depends on which "
        "words come when; what was learned is told by the test utterances."
    )
    if len(steps) > 1 and story.of_utterances:
        half = len(steps) // 2
        caption += (
            f" Of the first half {percent(float(np.mean(wrong[:half])))} were not recognised, "
            f"of the second {percent(float(np.mean(wrong[half:])))}."
        )
    if story.epochs > 1:
        caption += f" Dotted lines: the {story.epochs} passes."
    return Drawing("running", "Learning, utterance by utterance", picture, caption)


def sparsity(story: Story) -> Drawing:
    """Active fractions of x and h at each training step."""
    layers = story.model.layers
    results = [step.result for step in story.comparison.steps]
    n_hidden = sum(layer.n_hidden for layer in layers) + sum(layer.n_in for layer in layers[1:])
    lines = (
        ("inputs x", "active_x", layers[0].n_in, "vermilion"),
        ("hidden units h", "active_h", n_hidden, "blue"),
    )
    with svg.style():
        figure = svg.new_figure(WIDTH, 380)
        ax = figure.add_subplot()
        largest, told = 0.0, []
        for label, key, width, colour in lines:
            active = np.array([getattr(r, key) / (r.n_steps * width) for r in results])
            mean = sum(getattr(r, key) for r in results) / sum(r.n_steps * width for r in results)
            told.append(f"{percent(mean)} of the {label}")
            largest = max(largest, float(active.max()))
            _profile(ax, active, LIGHT[colour], f"{label}: {percent(mean)} active")
        ax.set_ylim(0, min(1.02, max(0.05, 1.25 * largest)))
        _as_percent(ax.yaxis)
        ax.set_title("entries that changed by θ or more")
        _step_axis(ax, len(results))
        figure.legend(loc="outside upper left", ncols=2)
        picture = svg.to_svg(
            figure, "sparsity", f"On average {' and '.join(told)} were active per frame and training step."
        )
    caption = (
        f"Only entries that changed are multiplied: {' and '.join(told)} per frame. "
        "The same entries are used forward, backward and in the update."
    )
    return Drawing("sparsity", "How little changes from frame to frame", picture, caption)


def operations(story: Story) -> Drawing:
    """Executed against dense multiply-accumulates, in all by product and per step."""
    results = [step.result for step in story.comparison.steps]
    per_step = [count_operations(story.model, [result]) for result in results]
    total = story.operations
    products = {
        "forward, W·Δ": sum(r.macs_forward for r in results),
        "backward, Wᵀ·dM": sum(r.macs_backward for r in results),
        "gradient, dM·Δᵀ": sum(r.macs_gradient for r in results),
    }
    products["inputs’ gradient"] = total.executed - sum(products.values())
    with svg.style():
        figure = svg.new_figure(WIDTH, 380)
        top, bottom = figure.subplots(2, height_ratios=[0.8, 1.1])
        top.barh(1, total.dense, color=LIGHT["dense"], height=0.62)
        start = 0
        for (label, macs), colour in zip(products.items(), SERIES, strict=False):
            top.barh(0, macs, left=start, color=LIGHT[colour], height=0.62, label=label)
            start += macs
        top.text(total.dense * 0.985, 1, compact(total.dense), ha="right", va="center")
        top.text(
            total.executed + total.dense * 0.015, 0, f"{compact(total.executed)}: {times(total.reduction)} fewer",
            va="center", weight="bold",
        )  # fmt: skip
        top.set_yticks([0, 1], ["executed", "dense"], color=LIGHT["ink"])
        top.set_xlim(0, total.dense)
        top.set_xticks([])
        top.grid(False)
        for spine in top.spines.values():
            spine.set_visible(False)
        top.set_title("MACs of all training steps")
        scale = 1e6
        _blocks(bottom, [o.dense / scale for o in per_step], LIGHT["dense"])
        _blocks(bottom, [o.executed / scale for o in per_step], LIGHT["blue"])
        bottom.set_title("million MACs per training step: dense behind executed")
        _step_axis(bottom, len(results))
        figure.legend(loc="outside upper left", ncols=2, columnspacing=1.2, handletextpad=0.5)
        picture = svg.to_svg(
            figure,
            "operations",
            f"Dense training would take {total.dense:,} multiply-accumulates, the device executed "
            f"{total.executed:,}: {times(total.reduction)} fewer.",
        )
    rows = story.model.layers[0]
    x_dense = sum(r.n_steps for r in results) * rows.n_in * rows.weight.shape[1]
    without = (total.dense - x_dense) / max(sum(r.macs_forward + r.macs_backward + r.macs_gradient for r in results), 1)
    caption = (
        "Counted by the kernels as they run. The gradient of the first layer’s inputs, which nobody reads, is "
        f"counted on both sides as in the literature and not computed; without it: {times(without)}."
    )
    return Drawing("operations", "Multiply-accumulates against dense", picture, caption)


def instructions(story: Story) -> Drawing | None:
    """Executed instructions per training step; None where the target does not count them."""
    counted = story.instructions
    if not any(counted):
        return None
    results = [step.result for step in story.comparison.steps]
    mean = sum(counted) / len(counted)
    macs = sum(r.macs_forward + r.macs_backward + r.macs_gradient for r in results)
    with svg.style():
        figure = svg.new_figure(WIDTH, 300)
        ax = figure.add_subplot()
        _blocks(ax, [n / 1e6 for n in counted], LIGHT["green"])
        ax.axhline(mean / 1e6, color=LIGHT["ink"], linewidth=1.4, linestyle=(0, (4, 2)))
        ax.set_ylim(0, 1.12 * max(counted) / 1e6)
        ax.set_title(f"million instructions per training step; mean {compact(mean)}")
        _step_axis(ax, len(counted))
        picture = svg.to_svg(
            figure,
            "instructions",
            f"Instructions per training step: {compact(mean)} on average, between {compact(min(counted))} and "
            f"{compact(max(counted))}.",
        )
    caption = (
        f"Forward, backward and update, without the serial line: between {compact(min(counted))} and "
        f"{compact(max(counted))}. Longer and livelier utterances cost more."
    )
    if macs:
        caption += f" In all {sum(counted) / macs:.2f} instructions for each executed MAC."
    return Drawing("instructions", "Instructions", picture, caption)


def memory(story: Story) -> Drawing:
    """RAM by purpose, stacked, and flash."""
    sizes = story.size
    parts = sorted(sizes.ram.items(), key=lambda item: -item[1])
    with svg.style():
        figure = svg.new_figure(WIDTH, 110 + 28 * len(parts))
        ax = figure.add_subplot()
        limit = max(sizes.ram_bytes, sizes.flash_bytes, 1)
        labels = ["flash", "", "RAM", *(plain(name) for name, _ in parts)]
        ax.barh(0, sizes.flash_bytes, color=LIGHT["dense"], height=0.62)
        start, numbers = 0, [(0, sizes.flash_bytes, f"{sizes.flash_bytes:,}", True)]
        numbers.append((2, sizes.ram_bytes, f"{sizes.ram_bytes:,}", True))
        for row, (_, n_bytes) in enumerate(parts, 3):
            colour = LIGHT[SERIES[(row - 3) % len(SERIES)]]
            ax.barh(2, n_bytes, left=start, color=colour, height=0.62)
            ax.barh(row, n_bytes, left=start, color=colour, height=0.5)
            start += n_bytes
            numbers.append((row, start, f"{n_bytes:,}  ·  {percent(n_bytes / max(sizes.ram_bytes, 1))}", False))
        for row, end, text, bold in numbers:
            inside = end > 0.62 * limit and not bold
            shown = end if not inside else end - (parts[row - 3][1] if row >= 3 else 0)
            ax.annotate(
                text, (shown, row), xytext=(-5 if inside else 5, 0), textcoords="offset points",
                ha="right" if inside else "left", va="center", weight="bold" if bold else "normal",
            )  # fmt: skip
        ax.set_yticks(range(len(labels)), labels, color=LIGHT["ink"])
        ax.invert_yaxis()
        ax.set_xlim(0, 1.3 * limit)
        ax.set_xticks([])
        ax.grid(False)
        for side in ("left", "bottom"):
            ax.spines[side].set_visible(False)
        ax.set_title("bytes")
        picture = svg.to_svg(
            figure,
            "memory",
            f"Flash {sizes.flash_bytes:,} bytes; RAM {sizes.ram_bytes:,} bytes: "
            + ", ".join(f"{plain(name)} {n_bytes:,}" for name, n_bytes in parts)
            + ".",
        )
    caption = (
        f"From the firmware’s ELF file, for the longest utterance ({story.model.max_steps} frames) with every "
        f"entry active; the trainer’s arena is {size(sizes.arena_bytes)} of it. No array of gradients stands "
        "beside the weights."
    )
    return Drawing("memory", "Memory on the device", picture, caption)


def _dumbbell(ax: Axes, y: float, before: float | None, after: float, colour: str) -> None:
    if not np.isfinite(after):
        ax.text(0.01, y, "not measured", transform=ax.get_yaxis_transform(), va="center", color=LIGHT["muted"])
        return
    ax.plot(after, y, "o", markersize=10, color=colour, clip_on=False, zorder=3)
    if before is None or not np.isfinite(before) or before == after:
        _above(ax, after, y, percent(after), LIGHT["ink"], "bold")
        return
    ax.plot([before, after], [y, y], color=colour, linewidth=3, alpha=0.45, solid_capstyle="butt")
    ax.plot(
        before, y, "o", markersize=10, markerfacecolor=LIGHT["surface"], markeredgecolor=colour,
        markeredgewidth=2, clip_on=False,
    )  # fmt: skip
    if abs(before - after) < ROOM_FOR_LABELS * np.ptp(ax.get_xlim()):
        ax.annotate(
            f"{percent(before)} → {percent(after)}", (max(before, after), y), xytext=(10, 0),
            textcoords="offset points", va="center", weight="bold",
        )  # fmt: skip
        return
    _above(ax, before, y, percent(before), LIGHT["muted"], "normal")
    _above(ax, after, y, percent(after), LIGHT["ink"], "bold")


def _above(ax: Axes, x: float, y: float, text: str, colour: str, weight: str) -> None:
    ax.annotate(
        text, (x, y), xytext=(0, 10), textcoords="offset points", ha="center", va="bottom", color=colour,
        weight=weight,
    )  # fmt: skip


def _profile(ax: Axes, values: NDArray[np.float64], colour: str, label: str) -> None:
    number = np.arange(1, len(values) + 1)
    marker = "o" if len(values) <= MOST_MARKED else ""
    ax.plot(number, values, color=colour, linewidth=1.8, label=label, marker=marker, markersize=3.5)


def _blocks(ax: Axes, values: Sequence[float], colour: str) -> None:
    """Bars without gaps as one path, however many there are."""
    ax.stairs(values, np.arange(len(values) + 1) + 0.5, fill=True, color=colour)


def _step_axis(ax: Axes, n_steps: int) -> None:
    ax.set_xlim(0.5, n_steps + 0.5)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=7, steps=[1, 2, 5, 10], min_n_ticks=1))
    ax.set_xlabel("training step")


def _epochs(ax: Axes, story: Story, n_steps: int) -> None:
    for epoch in range(1, story.epochs):
        ax.axvline(epoch * n_steps / story.epochs + 0.5, color=LIGHT["muted"], linewidth=1, linestyle=":")


def _as_percent(axis: Axis) -> None:
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.3g}{UNIT_SPACE}%"))
    axis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10]))
