"""`evaluate`: the error of what is on a device, or in a file of pulled weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from deltatrain import datasets
from deltatrain.cli.job import make_job
from deltatrain.cli.judged import errors
from deltatrain.cli.options import (
    data_options,
    json_option,
    key_option,
    model_option,
    seed_option,
    split_options,
    target_option,
)
from deltatrain.cli.terminal import Terminal, percent
from deltatrain.datasets import items_named
from deltatrain.key import Key
from deltatrain.quant_model import QuantModel
from deltatrain.session import opened
from deltatrain.trained import put_state
from deltatrain.training import Engine
from deltatrain.training import evaluate as evaluate_engine
from deltatrain_core import CoreNetwork

HOST = "host"


@click.command()
@model_option
@data_options()
@split_options
@seed_option
@target_option
@key_option
@json_option
def evaluate(
    terminal: Terminal,
    model: Path,
    data: str,
    data_dir: Path | None,
    train_on: str,
    holdout: str | None,
    per_class: int,
    test_fraction: float,
    seed: int,
    target: str | None,
    key: Key | None,
) -> None:
    """The error of what is on the device, on the utterances that `train` leaves for testing.

    --target host takes no device: the C core on this computer runs the model's file, of `pull` with the thresholds that
    the device had, and tells the same error.

    `error` is the fraction of utterances not recognised, by the largest output at the last frame. Models with a readout
    at every frame tell more: `frame_error`, the fraction of wrong frames, or `mean_squared_error`. Of data with targets
    of their own, `error` is the frame error, or the root of the mean squared error, in units of each value's standard
    deviation over the pre-training data: 1 is as good as always saying the mean.
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
        seed=seed,
        purpose="evaluate on",
    )
    with _engine(target, job.model, terminal.say, key) as engine, terminal.bar("evaluating") as progress:
        outcome = evaluate_engine(engine, job.test, job.model.n_outputs, progress)
    items = f"{len(outcome.labels)} {items_named(outcome.judged_by)}"
    terminal.result(
        outcome.to_dict() | {"samples": len(outcome.labels), "refused": outcome.refused, "cut": job.dataset.n_cut},
        lambda console: console.print(
            f"error {errors(outcome.judged_by, outcome.error)} on {items}"
            + (f", {percent(outcome.frame_error)} of their frames" if outcome.frame_error is not None else "")
            + ("" if outcome.mean_squared_error is None else f", mean squared error {outcome.mean_squared_error:.4g}")
            + (f", {outcome.refused} of them refused, for their events exceed the budget" if outcome.refused else "")
        ),
    )


@contextmanager
def _engine(target: str | None, model: QuantModel, say: Callable[[str], None], key: Key | None) -> Iterator[Engine]:
    """A device, or the C core on this computer."""
    if target == HOST:
        core = CoreNetwork(model)
        put_state(core, model)
        yield core
    else:
        with opened(target, model, None, say, key) as session:
            yield session.device
