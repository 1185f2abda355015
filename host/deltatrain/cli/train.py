"""`train`, `evaluate` and `compare`: what is done with a device that runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from deltatrain import datasets
from deltatrain.cli.options import (
    data_options,
    holdout_option,
    json_option,
    model_option,
    per_class_option,
    seed_option,
    target_option,
    thetas,
    training_options,
)
from deltatrain.cli.terminal import Terminal, percent
from deltatrain.comparison import compare as compare_engines
from deltatrain.errors import CheckFailed, InputError
from deltatrain.fixed import FixedNetwork
from deltatrain.personal import personal, pretrained_on
from deltatrain.quant_model import QuantModel
from deltatrain.rates import Rates
from deltatrain.replay import rate_over, taken, with_replay
from deltatrain.session import opened
from deltatrain.training import Engine, Samples, Settings, Step, count_operations, samples_of
from deltatrain.training import evaluate as evaluate_engine
from deltatrain.training import train as train_engine
from deltatrain_core import CoreNetwork


@dataclass(frozen=True)
class Job:
    """A model, and a speaker's samples for it."""

    model: QuantModel
    train: Samples
    test: Samples
    n_cut: int


def _job(
    terminal: Terminal,
    model: Path,
    data: str,
    data_dir: Path | None,
    holdout: str | None,
    per_class: int,
    epochs: int,
    seed: int,
) -> Job:
    quantized = QuantModel.load(model)
    dataset = datasets.load(data, data_dir, quantized.features)
    split = personal(dataset, holdout, per_class=per_class, epochs=epochs, seed=seed)
    if split.speaker in (pretrained_on(quantized) or ()):
        terminal.say(f"Note: {model} was pre-trained on {split.speaker}, who is no new speaker to it.")
    train, test = (samples_of(quantized, dataset, items) for items in (split.train, split.test))
    return Job(quantized, train, test, dataset.n_cut)


def _settings(job: Job, epochs: int, **options: Any) -> Settings:
    theta_x, theta_h = thetas(options["theta"], options["theta_x"], options["theta_h"])
    return Settings.of(
        job.model,
        learning_rate=options["learning_rate"],
        clip=options["clip"],
        theta_x=theta_x,
        theta_h=theta_h,
        seed=options["seed"],
        beta=options["beta"],
        replay_rate=rate_over(epochs, options["replay_rate"]),
    )


@click.command()
@model_option
@data_options()
@training_options
@target_option
@click.option(
    "--rollback",
    type=click.Choice(["ask", "always", "never"]),
    default="ask",
    show_default=True,
    help="What to do when the speaker's other utterances are recognised worse than before; where nobody can be asked "
    "(--json, no terminal), ask means always.",
)
@json_option
def train(
    terminal: Terminal,
    model: Path,
    data: str,
    data_dir: Path | None,
    target: str | None,
    holdout: str | None,
    per_class: int,
    epochs: int,
    rollback: str,
    **options: Any,
) -> None:
    """Stream a speaker's utterances to the device and train on them, one at a time.

    Training goes on from the weights that the device has. The old ones are kept until the end: where the error on the
    speaker's other utterances has grown, they can be put back.
    """
    job = _job(terminal, model, data, data_dir, holdout, per_class, epochs, options["seed"])
    settings = _settings(job, epochs, **options)
    with opened(target, job.model, None, terminal.say) as session:
        device = session.device
        names = list(job.model.tensors())
        old = {name: device.tensor(name) for name in names}
        first_step = device.config().step
        settings.apply(device, first_step)
        with terminal.bar("errors before") as progress:
            before = evaluate_engine(device, job.test.items, job.model.n_outputs, progress)
        with terminal.bar("training on the device") as progress:
            turns = with_replay(job.model, job.train.items, settings, first_step)
            trained = train_engine(device, turns, progress, taken(job.model, settings, first_step))
            steps = trained.steps
        with terminal.bar("errors after") as progress:
            after = evaluate_engine(device, job.test.items, job.model.n_outputs, progress)
        rolled_back = after.error > before.error and _wants_rollback(terminal, rollback, before.error, after.error)
        if rolled_back:
            for name in names:
                device.set_tensor(name, old[name])
    if not steps:
        raise InputError(
            f"every sample was refused ({len(trained.refused)}), for its events exceed the firmware's budget; "
            "export with a larger --event-budget"
        )
    operations = count_operations(job.model, [step.result for step in steps])
    new_steps = [step for step in steps if not step.sample.replayed]
    values = {
        "steps": len(new_steps),
        "replay_steps": len(steps) - len(new_steps),
        "refused": len(trained.refused),
        "error_before": before.error,
        "error_after": before.error if rolled_back else after.error,
        "error_trained": after.error,
        "op_reduction": operations.reduction,
        "rolled_back": rolled_back,
        "rates": Rates.of(job.model, [step.result for step in steps], job.train).to_dict(),
        "loss": sum(step.loss for step in new_steps) / len(new_steps) if new_steps else None,
        "cut": job.n_cut,
    }
    terminal.result(
        values,
        lambda console: console.print(
            f"error {percent(before.error)} → {percent(after.error)} on {len(job.test.items)} other utterances after "
            f"{_counted(steps, len(trained.refused))}, "
            f"with {operations.reduction:.1f} times fewer operations than dense"
            + ("; the old weights are back" if rolled_back else "")
        ),
    )


def _counted(steps: Sequence[Step], refused: int) -> str:
    """`50 steps`, `50 steps and 50 on stored exemplars`, and `(2 samples refused, ...)` where some were."""
    replayed = sum(step.sample.replayed for step in steps)
    text = f"{len(steps) - replayed} steps" + (f" and {replayed} on stored exemplars" if replayed else "")
    return text + (f" ({refused} samples refused, for their events exceed the firmware's budget)" if refused else "")


def _wants_rollback(terminal: Terminal, rollback: str, before: float, after: float) -> bool:
    if rollback != "ask":
        return rollback == "always"
    return terminal.confirm(f"The error grew from {percent(before)} to {percent(after)}. Put the old weights back?")


@click.command()
@model_option
@data_options()
@holdout_option
@per_class_option
@seed_option
@target_option
@json_option
def evaluate(
    terminal: Terminal,
    model: Path,
    data: str,
    data_dir: Path | None,
    holdout: str | None,
    per_class: int,
    seed: int,
    target: str | None,
) -> None:
    """The error of what is on the device, on a speaker's utterances that `train` leaves for testing.

    `error` is the fraction of utterances not recognised, by the largest output at the last frame. Models with a readout
    at every frame tell more: `frame_error`, the fraction of wrong frames, or `mean_squared_error`. Of data with targets
    of their own, `error` is the frame error, or the root of the mean squared error, in units of each value's standard
    deviation over the pre-training data: 1 is as good as always saying the mean.
    """
    job = _job(terminal, model, data, data_dir, holdout, per_class, 1, seed)
    with opened(target, job.model, None, terminal.say) as session, terminal.bar("evaluating") as progress:
        outcome = evaluate_engine(session.device, job.test.items, job.model.n_outputs, progress)
    terminal.result(
        outcome.to_dict() | {"samples": len(outcome.labels), "refused": outcome.refused, "cut": job.n_cut},
        lambda console: console.print(
            f"error {percent(outcome.error)} on {len(outcome.labels)} utterances"
            + (f", {percent(outcome.frame_error)} of their frames" if outcome.frame_error is not None else "")
            + ("" if outcome.mean_squared_error is None else f", mean squared error {outcome.mean_squared_error:.4g}")
            + (f", {outcome.refused} of them refused, for their events exceed the budget" if outcome.refused else "")
        ),
    )


@dataclass(frozen=True)
class Flip:
    """One bit to flip on the device."""

    tensor: str
    index: int
    bit: int

    @staticmethod
    def parse(text: str, model: QuantModel) -> Flip:
        """`TENSOR:INDEX:BIT`; InputError when there is no such bit."""
        tensor, _, rest = text.partition(":")
        index, _, bit = rest.partition(":")
        tensors = model.tensors()
        if tensor not in tensors or not index.isdigit() or not bit.isdigit():
            raise InputError(f"--flip {text}: give TENSOR:INDEX:BIT with a tensor of {', '.join(tensors)}")
        size, bits = tensors[tensor].size, tensors[tensor].itemsize * 8
        if int(index) >= size or int(bit) >= bits:
            raise InputError(f"--flip {text}: {tensor} has elements 0 to {size - 1} of {bits} bits")
        return Flip(tensor, int(index), int(bit))

    def apply(self, device: Engine) -> None:
        """Flip it."""
        values = device.tensor(self.tensor)
        unsigned = values.view(f"u{values.itemsize}")
        unsigned[self.index] ^= unsigned.dtype.type(1 << self.bit)
        device.set_tensor(self.tensor, values)


@click.command()
@model_option
@data_options()
@training_options
@target_option
@click.option("--flip", metavar="TENSOR:INDEX:BIT", help="Flip one bit on the device after the first step, as a test.")
@json_option
def compare(
    terminal: Terminal,
    model: Path,
    data: str,
    data_dir: Path | None,
    target: str | None,
    holdout: str | None,
    per_class: int,
    epochs: int,
    flip: str | None,
    **options: Any,
) -> None:
    """Train device, host C and integer reference on the same samples and compare every word after every step.

    All start from the model's weights; the device gets those that it had back at the end. Exit status 1 when a word
    differs. `float_error` is the root mean square difference of the hidden states from the float64 reference.
    """
    job = _job(terminal, model, data, data_dir, holdout, per_class, epochs, options["seed"])
    settings = _settings(job, epochs, **options)
    flipped = None if flip is None else Flip.parse(flip, job.model)
    with opened(target, job.model, None, terminal.say) as session:
        device = session.device
        old = {name: device.tensor(name) for name in job.model.tensors()}

        def after_step(number: int) -> None:
            if flipped is not None and number == 0:
                flipped.apply(device)

        with terminal.bar("training side by side") as progress:
            outcome = compare_engines(
                {
                    "device": device,
                    "host C": CoreNetwork(session.model),
                    "integer reference": FixedNetwork(session.model),
                },
                job.model,
                with_replay(job.model, job.train.items, settings),
                settings,
                after_step=after_step,
                progress=progress,
                taken=taken(job.model, settings),
            )
        for name, tensor in old.items():
            device.set_tensor(name, tensor)
    first = outcome.first_difference
    values = {
        "steps": len(outcome.new_steps),
        "replay_steps": len(outcome.steps) - len(outcome.new_steps),
        "refused": outcome.refused,
        "words_compared": outcome.words_compared,
        "words_different": outcome.words_different,
        "first_difference": None if first is None else first.to_dict(),
        "float_error": outcome.float_error,
        "float_weight_error": outcome.float_weight_error,
        "rates": Rates.of(job.model, [step.result for step in outcome.steps], job.train).to_dict(),
    }

    def show(console: Console) -> None:
        console.print(
            f"{_counted(outcome.steps, outcome.refused)}, {outcome.words_compared:,} words compared, "
            f"{outcome.words_different:,} words differ"
        )
        console.print(f"hidden states: {outcome.float_error:.1e} rms from float64")

    terminal.result(values, show)
    if first is not None:
        raise CheckFailed(f"{outcome.words_different} words differ; the first: {first}")
