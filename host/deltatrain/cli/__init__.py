"""The command line: one file a group of commands, each a thin layer over the library."""

from __future__ import annotations

import click

from deltatrain import __version__
from deltatrain.cli.bench import bench_command
from deltatrain.cli.board import boards, flash, stop
from deltatrain.cli.compare import compare
from deltatrain.cli.demo import demo
from deltatrain.cli.evaluate import evaluate
from deltatrain.cli.model import export, fit, quantize
from deltatrain.cli.plot import plot
from deltatrain.cli.samples import samples
from deltatrain.cli.study import study
from deltatrain.cli.sweep import sweep
from deltatrain.cli.terminal import Group
from deltatrain.cli.train import train
from deltatrain.cli.tune import tune
from deltatrain.cli.weights import pull, push


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__)
def main() -> None:
    """Train delta recurrent networks on a microcontroller, and prove that it computes what the host computes.

    \b
    The whole job, on the embedded data and an emulated Cortex-M4:
        deltatrain demo
    \b
    The same, step by step, for your own data:
        deltatrain fit --data fsdd --data-dir DIR --holdout theo --out theo.safetensors
        deltatrain quantize --model theo.safetensors --data fsdd --data-dir DIR --out theo-int16.safetensors
        deltatrain export --model theo-int16.safetensors --target qemu:mps2-an386 --out build
        deltatrain flash --elf build/firmware.elf --target qemu:mps2-an386
        deltatrain train --model theo-int16.safetensors --data fsdd --data-dir DIR --holdout theo
        deltatrain compare --model theo-int16.safetensors --data fsdd --data-dir DIR --holdout theo
        deltatrain stop

    Every command takes --json: one JSON object on standard output, progress on standard error. Exit status: 0 done,
    1 a comparison or check failed, 2 bad input or no device, 130 interrupted.
    """


for command in (
    demo,
    fit,
    quantize,
    export,
    flash,
    stop,
    train,
    evaluate,
    compare,
    pull,
    push,
    plot,
    samples,
    boards,
    bench_command,
    sweep,
    tune,
    study,
):
    main.add_command(command)
