"""The page: what the template shows, gathered from a story."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from deltatrain.errors import InputError
from deltatrain.report import confusion, figures, words
from deltatrain.report.palette import DARK, LIGHT, css
from deltatrain.story import Story

TEMPLATES = Path(__file__).resolve().parent / "templates"
TEMPLATE = "report.html.j2"

COUNTERS = {
    "saturated_h": "hidden states clamped to ±1",
    "saturated_c": "cell states at the end of their format",
    "saturated_grad": "carried gradients at the end of their format",
    "saturated_w": "weights and biases at the end of their format",
    "underflow_dm": "stored gate gradients that rounded to 0",
}

PURPOSES = {
    "weights": "what is trained",
    "history": "gates and cells of one utterance, for the way back",
    "events": "which entries changed, and by how much",
    "checkpoints": "the inputs, and what each segment of a sample begins with",
    "gradient": "the weights' gradient, summed over the segments",
    "scratch": "accumulators and the state of one frame",
    "stack": "reserved for calls and interrupts",
    "link": "buffers of the serial line",
    "other": "the rest of the firmware",
}


@dataclass(frozen=True)
class Tile:
    """One number at the top of the page."""

    label: str
    value: str
    note: str
    before: str = ""


@dataclass(frozen=True)
class Row:
    """A line of a table: what, how much, and what it means."""

    name: str
    value: str
    note: str = ""
    share: float = 0.0  # of a bar behind the value, 0 to 1


def write(story: Story, path: Path) -> Path:
    """Write the report as one HTML file and return its path.

    Parameters
    ----------
    story : Story
    path : Path
        Its folder is made where it is missing.

    Raises
    ------
    InputError
        If there are no training steps to report, or the file cannot be written.
    """
    text = html(story)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise InputError(f"cannot write the report to {path} ({error.strerror}); name another folder") from error
    return path


def html(story: Story) -> str:
    """The page as text; the same story gives the same text."""
    if not story.comparison.steps:
        raise InputError("there were no training steps, so there is nothing to report; train on some utterances")
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    environment.filters["small"] = words.small
    return environment.get_template(TEMPLATE).render(**_context(story))


def _context(story: Story) -> dict[str, Any]:
    first = story.comparison.first_difference
    return {
        "title": f"{words.plain(story.speaker)}: {words.percent(story.before.error)} → "
        f"{words.percent(story.after.error)}",
        "headline": words.headline(story),
        "where": f"One at a time, on {words.plain(story.board)}. Data set {words.plain(story.data)}; "
        f"tested on {words.count(len(story.after.labels), 'other utterance')}.",
        "verdict": words.verdict(story),
        "equal": story.comparison.words_different == 0 and story.comparison.words_compared > 0,
        "first": None
        if first is None
        else {
            "step": f"{first.step + 1} of {len(story.comparison.steps)}",
            "sample": words.plain(first.sample),
            "tensor": f"{words.plain(first.tensor)}[{', '.join(map(str, first.index))}]",
            "values": [(words.plain(name), str(value)) for name, value in first.values.items()],
        },
        "tiles": _tiles(story),
        "learning": [
            figures.errors(story),
            figures.running(story),
            *(
                [
                    figures.confusion(story, story.before, "confusion-before", "Before training"),
                    figures.confusion(story, story.after, "confusion-after", "After training"),
                ]
                if story.of_utterances
                else []
            ),
        ],
        "cost": [
            drawing
            for drawing in (
                figures.sparsity(story),
                figures.operations(story),
                figures.instructions(story),
                figures.memory(story),
            )
            if drawing is not None
        ],
        "purposes": [
            Row(words.plain(name), f"{n_bytes:,}", PURPOSES.get(name, "")) for name, n_bytes in story.size.ram.items()
        ],
        "exactness": _exactness(story),
        "counters": _counters(story),
        "formats": [dataclasses.replace(row, name=words.plain(row.name)) for row in story.formats],
        "settings": _settings(story),
        "seconds": _seconds(story),
        "command": words.command(story),
        "light": css(LIGHT),
        "dark": css(DARK),
    }


def _tiles(story: Story) -> list[Tile]:
    n_test = len(story.after.labels)
    told = f"{words.JUDGED[story.after.judged_by]}, of {words.count(n_test, 'test sequence')}"
    if story.of_utterances:
        wrong = (confusion.n_wrong(story.before), confusion.n_wrong(story.after))
        told = f"{wrong[0]} → {wrong[1]} of {words.count(n_test, 'test utterance')} not recognised"
    tiles = [
        Tile(
            f"{words.plain(story.speaker)}’s error",
            words.percent(story.after.error),
            told,
            words.percent(story.before.error),
        ),
        Tile(
            "MACs than dense training",
            f"{words.times(story.operations.reduction)} fewer",
            f"{words.compact(story.operations.executed)} executed for {words.compact(story.operations.dense)}",
        ),
    ]
    if any(story.instructions):
        mean = sum(story.instructions) / len(story.instructions)
        tiles.append(Tile("instructions per training step", words.compact(mean), "forward, backward and update"))
    tiles.append(
        Tile(
            "RAM on the device",
            words.size(story.size.ram_bytes),
            f"{words.size(story.size.flash_bytes)} of flash",
        )
    )
    return tiles


def _exactness(story: Story) -> list[Row]:
    comparison = story.comparison
    rows = [
        Row(
            "words compared",
            f"{comparison.words_compared:,}",
            "after every step: hidden states, logits, loss, counters, and all weights and biases, read back whole",
        ),
        Row("words different", f"{comparison.words_different:,}"),
        Row(
            "error after training, device",
            words.percent(story.after.error),
            f"before: {words.percent(story.before.error)}",
        ),
        Row(
            "error after training, float64",
            words.percent(story.float_after),
            "same utterances, same order, same clip; the device is at "
            f"{words.points(story.after.error - story.float_after)}",
        ),
    ]
    if comparison.float_error is not None:
        rows.append(
            Row(
                "hidden states, device against float64",
                words.small(comparison.float_error),
                "root mean square difference while both train; 1 is full scale",
            )
        )
    if comparison.float_weight_error is not None:
        rows.append(
            Row(
                "weights, device against float64",
                words.percent(comparison.float_weight_error),
                "distance after training over the distance moved: a threshold crossed a little earlier leads to "
                "other weights, which recognise as well",
            )
        )
    return rows


def _counters(story: Story) -> list[Row]:
    results = [step.result for step in story.comparison.steps]
    rows = []
    for name, meaning in COUNTERS.items():
        values = [getattr(result, name) for result in results]
        n_steps = sum(value > 0 for value in values)
        share = f"{words.small(getattr(story.rates, name))} of the values computed"
        rows.append(Row(meaning, f"{sum(values):,}", f"in {n_steps} of {words.count(len(values), 'step')}; {share}"))
    clipped = sum(result.clipped for result in results)
    rows.append(Row("steps made smaller by the clip", f"{clipped:,}", f"of {words.count(len(results), 'step')}"))
    share = f"{words.small(story.rates.saturated_x)} of the training and test utterances' values"
    rows.append(Row("feature values clamped by the input format", f"{story.n_saturated:,}", share))
    rows.append(
        Row(
            "utterances that lost their end",
            f"{story.n_cut:,}",
            f"in the whole data set, longer than {story.model.max_steps} frames",
        )
    )
    return rows


def _settings(story: Story) -> list[Row]:
    model, settings = story.model, story.settings
    n_parameters = sum(tensor.size for tensor in model.tensors().values())
    theta_x, theta_h = words.thetas(story)
    shape = " + ".join(f"{lay.cell.upper()} {lay.n_in} → {lay.n_hidden}" for lay in model.layers)
    return [
        Row("data", words.plain(story.data)),
        Row("speaker", words.plain(story.speaker), "unknown to pre-training"),
        Row("board", words.plain(story.board), words.plain(story.target)),
        Row(
            "network",
            f"{shape} → {model.n_outputs}",
            f"{n_parameters:,} trained numbers, at most {model.max_steps} frames",
        ),
        Row("readout", model.readout, words.READOUTS[model.readout]),
        *_frame_errors(story),
        Row("model", model.hash().hex()[:12], "first digits of its SHA-256"),
        Row(
            "pre-training", "in this run" if story.pretrained_here else "before this run: the shipped or a given model"
        ),
        Row(
            "θ of inputs",
            theta_x,
            f"standard deviations of a feature; {words.integers(settings.theta_x)} on the device",
        ),
        Row("θ of hidden units", theta_h, f"of ±1; {words.integers(settings.theta_h)} on the device"),
        Row("learning rate", words.decimal(float(settings.learning_rate)), "plain SGD, batch 1"),
        Row("clip", words.decimal(float(settings.clip)), "of the bound on the gradient’s norm"),
        *([Row("β", words.decimal(float(settings.beta)), "of the regulariser β Σ|Δh|")] if settings.beta.m else []),
        Row("utterances per class", f"{story.per_class}", f"{story.epochs}× each"),
        *(
            [
                Row(
                    "replay",
                    f"{settings.replay_rate:g}",
                    f"of {words.count(len(model.replay), 'stored exemplar')} of known speakers after each utterance; "
                    f"{model.replay_bytes:,} bytes of flash",
                )
            ]
            if model.replay is not None
            else []
        ),
        Row("seed", f"{settings.seed}", "order of utterances, stochastic rounding"),
        *([_frames(story)] if story.of_utterances else []),
    ]


def _frames(story: Story) -> Row:
    """What a frame of audio is."""
    features = story.model.features
    return Row(
        "frames",
        f"{1000 * features.window_s:g}{words.UNIT_SPACE}ms",
        f"every {1000 * features.hop_s:g}{words.UNIT_SPACE}ms, {features.n_bands} log-mel bands",
    )


def _frame_errors(story: Story) -> list[Row]:
    """What a readout at every frame tells beside the error of utterances."""
    pairs = (
        ("wrong frames", story.before.frame_error, story.after.frame_error, words.percent),
        ("mean squared error", story.before.mean_squared_error, story.after.mean_squared_error, words.decimal),
    )
    return [
        Row(f"{name}, before and after", f"{show(before)} → {show(after)}", "over all frames of the test data")
        for name, before, after, show in pairs
        if before is not None and after is not None
    ]


def _seconds(story: Story) -> list[Row]:
    longest = max(story.seconds.values(), default=0.0) or 1.0
    rows = [
        Row(words.plain(name), words.duration(value), share=value / longest) for name, value in story.seconds.items()
    ]
    if rows:
        rows.append(Row("together", words.duration(sum(story.seconds.values()))))
    return rows
