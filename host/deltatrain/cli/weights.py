"""`pull` and `push`: trained weights between a device and files."""

from __future__ import annotations

from pathlib import Path

import click

from deltatrain.cli.options import json_option, key_option, model_option, target_option
from deltatrain.cli.terminal import Terminal
from deltatrain.devices import commit as commit_weights
from deltatrain.errors import InputError
from deltatrain.folders import make_folder
from deltatrain.key import Key
from deltatrain.quant_model import QuantModel
from deltatrain.session import opened
from deltatrain.trained import base_hash, state_of
from deltatrain.trained import pull as pull_weights
from deltatrain.trained import push as push_weights


@click.command()
@model_option
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="Where to write the model with the device's weights.",
)
@click.option("--force", is_flag=True, help="Overwrite --out where it exists.")
@target_option
@key_option
@json_option
def pull(terminal: Terminal, model: Path, out: Path, force: bool, target: str | None, key: Key | None) -> None:
    """Read the weights that a device has trained into a model's file.

    --model is what the firmware was exported from, or what was pulled from it before. The file stands for it in every
    command that talks to the device, and `evaluate --target host` tells its error without one. It holds the state of
    training too (step, seed, rates, thresholds), so that after `push` to another device with the same firmware training
    goes on bit by bit.
    """
    check_out(out, model, force)
    with opened(target, QuantModel.load(model), None, terminal.say, key) as session:
        pulled = pull_weights(session.device, session.model)
    pulled.save(out)
    state = state_of(pulled)
    step = 0 if state is None else state.config.step
    terminal.result(
        {
            "model": str(out),
            "step": step,
            "hash": pulled.hash().hex(),
            "trained_from": base_hash(pulled).hex(),
        },
        lambda console: console.print(f"{out}: the weights after {step} training steps"),
    )


def check_out(out: Path, model: Path, force: bool) -> None:
    """InputError where a file would be lost; makes the folder."""
    if out.resolve() == model.resolve():
        raise InputError(f"--out {out} would overwrite the model that it comes from; name another file")
    if out.exists() and not force:
        raise InputError(f"--out {out} exists already; name another file, or overwrite it by --force")
    make_folder(out.parent)


@click.command()
@model_option
@target_option
@key_option
@click.option("--commit", is_flag=True, help="Have the device write them to its non-volatile store too.")
@json_option
def push(terminal: Terminal, model: Path, target: str | None, key: Key | None, commit: bool) -> None:
    """Give a device the weights of a model's file, and of a pulled one the state of its training.

    The firmware must have been exported from that model, or from the one that it was trained from. What the device
    learned is overwritten: `pull` it first.
    """
    weights = QuantModel.load(model)
    with opened(target, weights, None, terminal.say, key) as session:
        step = push_weights(session.device, weights)
        commits = commit_weights(session.device).commits if commit else None
    terminal.result(
        {"model": str(model), "step": step, "commits": commits},
        lambda console: console.print(
            f"{model} is on the device, which is at step {step} now" + (", committed" if commit else "")
        ),
    )
