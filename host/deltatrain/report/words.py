"""Numbers and names as a reader wants them: with units, thousands apart, and never markup."""

from __future__ import annotations

import math
import shlex
import textwrap
import unicodedata
from collections.abc import Sequence

from deltatrain.quantize import H_FRAC_BITS, quantize_threshold
from deltatrain.story import Story
from deltatrain.training import DEFAULT_REPLAY_RATE

UNIT_SPACE = "\N{NARROW NO-BREAK SPACE}"
SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
LONGEST_LABEL = 14
LONGEST_LINE = 20
READOUTS = {
    "last": "a class at the last frame: cross-entropy",
    "frames": "a class at every frame: cross-entropy, mean over the frames",
    "regression": "values at every frame: squared error, mean over frames and values",
}
JUDGED = {
    "utterances": "utterances not recognised",
    "frames": "wrong frames",
    "values": "root of the mean squared error, in standard deviations",
}
DEFAULT_CELL = "lstm"
DEFAULT_HIDDEN = 64
DEFAULT_TARGET = "qemu:mps2-an386"


def plain(text: str) -> str:
    """A name from outside on one line: what cannot be shown becomes �."""
    return "".join("�" if unicodedata.category(c) in {"Cc", "Cs", "Zl", "Zp"} else c for c in text)


def short(name: str, longest: int = LONGEST_LABEL) -> str:
    """A name as the label of an axis."""
    shown = plain(name)
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"


def lines(name: str) -> str:
    """A name as the label of a row, in up to two lines."""
    first, *rest = textwrap.wrap(plain(name), LONGEST_LINE) or [""]
    return "\n".join([first, *rest[:1]]) if len(rest) < 2 else f"{first}\n{rest[0][: LONGEST_LINE - 1]}…"


def percent(fraction: float) -> str:
    """0.335 as `33.5 %`."""
    if math.isnan(fraction):
        return "not measured"
    if 0 < fraction < 0.0005:
        return f"<0.1{UNIT_SPACE}%"
    return f"{100 * fraction:.1f}".removesuffix(".0") + UNIT_SPACE + "%"


def points(difference: float) -> str:
    """A difference of two errors in percentage points, with its sign."""
    if math.isnan(difference):
        return "not measured"
    return f"{100 * difference:+.1f}".removesuffix(".0").replace("-", "−") + UNIT_SPACE + "points"


def count(number: int, noun: str, plural: str | None = None) -> str:
    """`1 step`, `50 steps`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def compact(value: float) -> str:
    """2310000 as `2.31 M`."""
    for factor, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            return _digits(value / factor) + UNIT_SPACE + prefix
    return _digits(value)


def size(n_bytes: int) -> str:
    """Bytes as KiB or MiB where that is shorter."""
    for factor, unit in ((2**20, "MiB"), (2**10, "KiB")):
        if n_bytes >= factor:
            return _digits(n_bytes / factor) + UNIT_SPACE + unit
    return f"{n_bytes}{UNIT_SPACE}B"


def duration(seconds: float) -> str:
    """Wall time."""
    if seconds >= 60:
        minutes, rest = divmod(round(seconds), 60)
        return f"{minutes}{UNIT_SPACE}min {rest:02d}{UNIT_SPACE}s"
    return f"{seconds:.1f}{UNIT_SPACE}s"


def decimal(value: float) -> str:
    """A setting, as short as four digits allow."""
    return f"{value:.4g}"


def integers(values: Sequence[int]) -> str:
    """One integer where all are equal, else all of them."""
    return ", ".join(str(value) for value in (values if len(set(values)) > 1 else values[:1]))


def small(value: float) -> str:
    """Two digits of a number that may be very small: `0.0031`, `1.8·10⁻⁵`."""
    if value == 0 or not math.isfinite(value) or abs(value) >= 1e-3:
        return f"{value:.2g}"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa}·10{str(int(exponent)).translate(SUPERSCRIPT)}"


def times(factor: float) -> str:
    """`9.0×`."""
    return f"{factor:,.1f}×"


def change(before: float, after: float) -> str:
    """`fell from 33 % to 15 %`."""
    if math.isnan(before) or math.isnan(after):
        return "was not measured"
    if before == after:
        return f"stayed at {percent(after)}"
    return f"{'fell' if after < before else 'rose'} from {percent(before)} to {percent(after)}"


def headline(story: Story) -> str:
    """What happened, in a sentence."""
    return (
        f"{plain(story.speaker)}’s error {change(story.before.error, story.after.error)} "
        f"after training on {passes(story)}"
    )


def passes(story: Story) -> str:
    """`50 utterances`, or `50 utterances, 5 times over`."""
    utterances = count(len(story.comparison.new_steps) // story.epochs, "utterance")
    return utterances if story.epochs == 1 else f"{utterances}, {story.epochs} times over"


def verdict(story: Story) -> str:
    """Whether the device computed what the host computes, in a sentence."""
    compared, different = story.comparison.words_compared, story.comparison.words_different
    if compared == 0:
        return "No word was compared with the host references."
    if different:
        verb = "differs" if different == 1 else "differ"
        return f"{different:,} of {compared:,} words that the device computed {verb} from the host references."
    return f"Every one of {compared:,} words that the device computed equals the host references."


def thetas(story: Story) -> tuple[str, str]:
    """θx and θh in real units, each as the shortest decimal that gives the integer on the device.

    Of all layers, as the command line takes them: one where it serves all, else one a layer between commas.
    """
    layers = story.model.layers
    of_x = [_threshold(t, layer.x_frac_bits) for t, layer in zip(story.settings.theta_x, layers, strict=True)]
    of_h = [_threshold(t, H_FRAC_BITS) for t in story.settings.theta_h]
    if _serves_all(of_x[0], story):
        of_x = of_x[:1]
    return ",".join(of_x), ",".join(of_h[:1] if len(set(of_h)) == 1 else of_h)


def _serves_all(theta: str, story: Story) -> bool:
    """Whether one θx, in each layer's format, gives the integers of all layers."""
    pairs = zip(story.settings.theta_x, story.model.layers, strict=True)
    return all(quantize_threshold(float(theta), layer.x_frac_bits, "theta") == value for value, layer in pairs)


def command(story: Story) -> str:
    """The command that does the same again; DIR and FILE stand for what a story does not know."""
    model, settings = story.model, story.settings
    words = ["deltatrain", "demo", "--data", story.data]
    if story.data != "digits":
        words += ["--data-dir", "DIR"]
    words += ["--holdout", story.speaker]
    if not story.pretrained_here and story.data != "digits":
        words += ["--model", "FILE"]
    if model.layers[0].cell != DEFAULT_CELL and story.pretrained_here:
        words += ["--cell", model.layers[0].cell]
    if len(model.layers) > 1 and story.pretrained_here:
        words += ["--layers", str(len(model.layers))]
    if story.pretrained_here and model.layers[0].n_hidden != DEFAULT_HIDDEN:
        words += ["--hidden", str(model.layers[0].n_hidden)]
    if model.readout != "last" and story.pretrained_here:
        words += ["--readout", model.readout]
    words += ["--per-class", str(story.per_class), "--epochs", str(story.epochs)]
    theta_x, theta_h = thetas(story)
    words += ["--theta", theta_x] if theta_x == theta_h else ["--theta-x", theta_x, "--theta-h", theta_h]
    if settings.learning_rate != model.learning_rate:
        words += ["--learning-rate", decimal(float(settings.learning_rate))]
    if settings.clip != model.clip:
        words += ["--clip", decimal(float(settings.clip))]
    if settings.beta.m:
        words += ["--beta", decimal(float(settings.beta))]
    if story.replay_budget is not None:
        words += ["--replay", str(story.replay_budget)]
    default_rate = DEFAULT_REPLAY_RATE if story.replay_budget or story.epochs > 1 else 0.0
    if model.replay is not None and settings.replay_rate != default_rate:
        words += ["--replay-rate", decimal(settings.replay_rate)]
    words += ["--seed", str(settings.seed)]
    if story.target != DEFAULT_TARGET:
        words += ["--target", story.target]
    return shlex.join(plain(word) for word in words)


def _threshold(value: int, frac_bits: int) -> str:
    real = value / 2**frac_bits
    for n_digits in range(1, 6):
        shortened = f"{real:.{n_digits}g}"
        if quantize_threshold(float(shortened), frac_bits, "theta") == value:
            return shortened
    return repr(real)


def _digits(value: float) -> str:
    """Three digits or more, never fewer than the number has before its point."""
    magnitude = abs(value)
    n_decimals = 0 if magnitude >= 100 or value == int(value) else 1 if magnitude >= 10 else 2
    return f"{value:,.{n_decimals}f}"
