"""`compare`: the same samples on a device and on host references, every word."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from deltatrain import datasets
from deltatrain.cli.job import counted, make_job, settings_of
from deltatrain.cli.options import (
    data_options,
    json_option,
    key_option,
    model_option,
    target_option,
    training_options,
)
from deltatrain.cli.terminal import Terminal
from deltatrain.comparison import compare as compare_engines
from deltatrain.errors import CheckFailed, InputError
from deltatrain.fixed import FixedNetwork
from deltatrain.key import Key
from deltatrain.order import Order
from deltatrain.quant_model import QuantModel
from deltatrain.rates import Rates
from deltatrain.replay import rate_over, taken
from deltatrain.run import Stream
from deltatrain.session import opened
from deltatrain.totals import Totals
from deltatrain.trained import put_weights, weights_of
from deltatrain.training import Engine
from deltatrain_core import CoreNetwork


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
@key_option
@click.option("--flip", metavar="TENSOR:INDEX:BIT", help="Flip one bit on the device after the first step, as a test.")
@json_option
def compare(
    terminal: Terminal,
    model: Path,
    data: str,
    data_dir: Path | None,
    target: str | None,
    key: Key | None,
    train_on: str,
    holdout: str | None,
    per_class: int,
    test_fraction: float,
    epochs: int,
    flip: str | None,
    **options: Any,
) -> None:
    """Train device, host C and integer reference on the same samples and compare every word after every step.

    All start from the model's weights; the device gets those that it had back at the end. Exit status 1 when a word
    differs. `float_error` is the root mean square difference of the hidden states from the float64 reference.
    """
    quantized = QuantModel.load(model)
    job = make_job(
        terminal,
        quantized,
        datasets.stream(data, data_dir, quantized.features),
        train_on=train_on,
        holdout=holdout,
        per_class=per_class,
        test_fraction=test_fraction,
        seed=options["seed"],
    )
    settings = settings_of(job.model, rate_over(epochs, options["replay_rate"]), options)
    order = Order(job.first, options["seed"])
    stream = Stream(job.model, job.dataset, order, settings)
    totals = Totals()
    flipped = None if flip is None else Flip.parse(flip, job.model)
    with opened(target, job.model, None, terminal.say, key) as session:
        device = session.device
        old = job.model.with_tensors(weights_of(device, job.model))

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
                stream.samples(epochs * len(order)),
                settings,
                after_step=after_step,
                on_step=totals.add_step,
                progress=progress,
                taken=taken(job.model, settings),
            )
        put_weights(device, old)
    first = outcome.first_difference
    values = {
        "steps": totals.new_steps,
        "replay_steps": totals.steps - totals.new_steps,
        "refused": outcome.refused,
        "words_compared": outcome.words_compared,
        "words_different": outcome.words_different,
        "first_difference": None if first is None else first.to_dict(),
        "float_error": outcome.float_error,
        "float_weight_error": outcome.float_weight_error,
        "rates": Rates.of(job.model, [totals], totals, n_steps=totals.steps).to_dict(),
    }

    def show(console: Console) -> None:
        console.print(
            f"{counted(totals.new_steps, totals.steps - totals.new_steps, outcome.refused)}, "
            f"{outcome.words_compared:,} words compared, {outcome.words_different:,} words differ"
        )
        console.print(f"hidden states: {outcome.float_error:.1e} rms from float64")

    terminal.result(values, show)
    if first is not None:
        raise CheckFailed(f"{outcome.words_different} words differ; the first: {first}")
