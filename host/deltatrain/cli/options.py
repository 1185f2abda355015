"""Options that several commands share: the same thing has the same name everywhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from deltatrain.cli.terminal import Terminal
from deltatrain.datasets import DATA_DIR_VARIABLE, N_FOLDS
from deltatrain.key import KEY_VARIABLE, Key
from deltatrain.pretrain import KNOWN_SPEAKERS, SPEECH, Augmentation
from deltatrain.reference import READOUT_KINDS
from deltatrain.replay import DEFAULT_BYTES
from deltatrain.thresholds import Thresholds
from deltatrain.training import DEFAULT_REPLAY_RATE

F = TypeVar("F", bound=Callable[..., Any])

PORT_VARIABLE = "DELTATRAIN_PORT"
DEFAULT_TARGET = "qemu:mps2-an386"
THRESHOLDS = "θ[,θ…]"
AUGMENTATIONS = {"none": Augmentation(), "known-speakers": KNOWN_SPEAKERS, "speech": SPEECH}


def _terminal(_: click.Context, __: click.Parameter, value: bool) -> Terminal:
    return Terminal(as_json=value)


json_option = click.option(
    "--json",
    "terminal",
    is_flag=True,
    callback=_terminal,
    help="Print one JSON object on standard output; progress goes to standard error.",
)

model_option = click.option(
    "--model",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="Model file (.safetensors), as `fit` or `quantize` wrote it.",
)


def data_options(default: str | None = "digits") -> Callable[[F], F]:
    """--data and --data-dir."""

    def decorate(function: F) -> F:
        function = click.option(
            "--data-dir",
            type=click.Path(path_type=Path, file_okay=False),
            envvar=DATA_DIR_VARIABLE,
            help=f"Folder that holds the data sets (DIR/fsdd/recordings/…); default ${DATA_DIR_VARIABLE}.",
        )(function)
        return click.option(
            "--data",
            default=default,
            show_default=True,
            help="Data set: digits (embedded, synthetic speech), fsdd, gscd, har (motion sensors), a folder "
            "DIR/<class>/<speaker>_<anything>.wav, or one of DIR/<speaker>_<anything>.npz with x (T, n_in) and targets "
            "for each frame: classes (T,), -1 for none, or values (T, K).",
        )(function)

    return decorate


holdout_option = click.option(
    "--holdout",
    metavar="SPEAKER",
    help="The speaker whose utterances train and test; pre-training must not have seen them. With --train-on all: "
    "whose utterances test, and only test.",
)
train_on_option = click.option(
    "--train-on",
    type=click.Choice(["speaker", "all"]),
    default="speaker",
    show_default=True,
    help="speaker: --per-class utterances of each class of --holdout train, the speaker's others test. all: the whole "
    "data set trains, but what --holdout or --test-fraction keeps for testing.",
)
test_fraction_option = click.option(
    "--test-fraction",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.1,
    show_default=True,
    help="With --train-on all and without --holdout: the part of each speaker's utterances of each class that tests; 0 "
    "for none.",
)
per_class_option = click.option(
    "--per-class",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="Utterances of each class to train on; the speaker's others test.",
)
epochs_option = click.option(
    "--epochs",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Passes over the training utterances, each in another order.",
)
seed_option = click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    default=0,
    show_default=True,
    help="Of all that is random: the same seed gives the same bytes.",
)
learning_rate_option = click.option(
    "--learning-rate", type=float, help="Step size of training on the device; default: the model's."
)
clip_option = click.option(
    "--clip",
    type=float,
    help="C: the step shrinks by C / B where the bound B of the gradient's norm exceeds C; default: the model's.",
)
beta_option = click.option(
    "--beta",
    type=float,
    default=0.0,
    show_default=True,
    help="Weight of the regulariser β Σ|Δh| in training on the device: buys sparsity.",
)
replay_option = click.option(
    "--replay",
    metavar="BYTES",
    type=click.IntRange(min=0),
    help="Flash for exemplars: recordings of the speakers known before, trained again between new utterances so that "
    f"they are not forgotten; 0 for none.  [default: {DEFAULT_BYTES}; demo: for more than one epoch]",
)
replay_rate_option = click.option(
    "--replay-rate",
    type=float,
    help="Exemplars trained for each new utterance, of a model that keeps some; 0 for none.  "
    f"[default: {DEFAULT_REPLAY_RATE:g} for more than one epoch, where it pays; else 0]",
)
cell_option = click.option("--cell", type=click.Choice(["rnn", "gru", "lstm"]), help="Cell, when pre-training. [lstm]")
layers_option = click.option("--layers", "n_layers", type=click.IntRange(1, 3), help="Layers, when pre-training. [1]")
readout_option = click.option(
    "--readout",
    type=click.Choice(READOUT_KINDS),
    help="When pre-training, where the readout reads, and its loss: last, a class at the last frame (cross-entropy); "
    "frames, a class at every frame; regression, values at every frame (mean squared error). Labelled utterances serve "
    "all three: as the class of every frame, or as values, 1 for the class and 0 for the others. Default: what the "
    "data's own targets are for, else last.",
)
hidden_option = click.option(
    "--hidden", "n_hidden", type=click.IntRange(1, 1024), help="Hidden units of a layer, when pre-training. [64]"
)
target_option = click.option(
    "--target",
    "--port",
    "target",
    envvar=PORT_VARIABLE,
    help=f"A board to emulate ({DEFAULT_TARGET}, renode:…: built and run for this command alone) or the serial port of "
    "one (/dev/ttyACM0, socket://HOST:PORT, rfc2217://…; with MicroPython micropython:/dev/ttyACM0); default "
    f"${PORT_VARIABLE}, else the emulator that `flash` left running.",
)


def _key(_: click.Context, __: click.Parameter, value: str | None) -> Key | None:
    return None if value is None else Key.given(value)


key_option = click.option(
    "--key",
    metavar="FILE",
    envvar=KEY_VARIABLE,
    callback=_key,
    help="Of a device that was exported with one: the file that holds its key, or its 64 hexadecimal digits; default "
    f"${KEY_VARIABLE}.",
)

augmentation_option = click.option(
    "--augmentation",
    type=click.Choice(list(AUGMENTATIONS)),
    default="known-speakers",
    show_default=True,
    help="How training recordings are varied: speech prepares for new voices; none for features that are no spectra.",
)
dask_option = click.option(
    "--dask",
    metavar="ADDRESS",
    help="Train on the workers of this Dask scheduler (tcp://HOST:PORT) instead of on this computer.",
)


def _numbers(ctx: click.Context, param: click.Parameter, value: str) -> tuple[int, ...]:
    """Numbers and ranges of them, apart by commas: 0-4,7."""
    numbers: list[int] = []
    for part in value.split(","):
        first, dash, last = part.partition("-")
        try:
            numbers += range(int(first), int(last if dash else first) + 1)
        except ValueError:
            raise click.BadParameter(f"{value!r} is not a list of numbers such as 0-4 or 0,2,5", ctx, param) from None
    if not numbers:
        raise click.BadParameter(f"{value!r} holds no number; give the smaller one first, as in 0-4", ctx, param)
    return tuple(dict.fromkeys(numbers))


def folds_option(default: str) -> Callable[[F], F]:
    """--folds."""
    return click.option(
        "--folds",
        callback=_numbers,
        default=default,
        show_default=True,
        metavar="LIST",
        help=f"Of the {N_FOLDS} folds 0 to {N_FOLDS - 1}: each tests another tenth of every speaker's recordings.",
    )


def _thresholds(_: click.Context, __: click.Parameter, value: str | None) -> tuple[float, ...] | None:
    """`0.3` for all layers, or `0.3,0.2`: one for each."""
    if value is None:
        return None
    try:
        return tuple(float(part) for part in value.split(","))
    except ValueError as error:
        raise click.BadParameter(f"{value!r} is no number, nor are there numbers between its commas") from error


def theta_options(function: F) -> F:
    """--theta, and --theta-x and --theta-h that go before it."""
    for name, of_what in (("x", "inputs (standardised features)"), ("h", "hidden units")):
        function = click.option(
            f"--theta-{name}",
            metavar=THRESHOLDS,
            callback=_thresholds,
            help=f"Threshold of {of_what} alone; one, or one a layer.",
        )(function)
    return click.option(
        "--theta",
        metavar=THRESHOLDS,
        callback=_thresholds,
        help="Threshold θ: an entry that changed less is skipped, forward and backward. One for all layers, or one a "
        "layer from the input upwards, between commas.",
    )(function)


def thetas(
    theta: Thresholds | None, theta_x: Thresholds | None, theta_h: Thresholds | None
) -> tuple[Thresholds | None, Thresholds | None]:
    """θx and θh from the three options; None where none was given."""
    return (theta if theta_x is None else theta_x, theta if theta_h is None else theta_h)


def split_options(function: F) -> F:
    """Who trains and who tests, the same for every command."""
    for option in (test_fraction_option, per_class_option, holdout_option, train_on_option):
        function = option(function)
    return function


def training_options(function: F) -> F:
    """What `train` and `compare` are told about a run."""
    for option in (
        seed_option,
        replay_rate_option,
        beta_option,
        clip_option,
        learning_rate_option,
        epochs_option,
    ):
        function = option(function)
    return theta_options(split_options(function))
