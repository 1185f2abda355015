"""The command line: one file a group of commands, each a thin layer over the library."""

from __future__ import annotations

import click

from deltatrain import __version__
from deltatrain.cli.group import Group, Lazy

COMMANDS = {
    "demo": Lazy("deltatrain.cli.demo:demo", "A keyword model meets a new voice and learns it on the device."),
    "fit": Lazy("deltatrain.cli.model:fit", "Pre-train a model on this computer."),
    "quantize": Lazy("deltatrain.cli.model:quantize", "Turn a float model into int16."),
    "export": Lazy("deltatrain.cli.model:export", "Generate C from a quantised model and build its firmware."),
    "flash": Lazy("deltatrain.cli.board:flash", "Put firmware on a board, or start an emulator with it."),
    "stop": Lazy("deltatrain.cli.board:stop", "End the emulators that `flash` left running."),
    "train": Lazy("deltatrain.cli.train:train", "Stream samples to the device and train on them."),
    "evaluate": Lazy("deltatrain.cli.evaluate:evaluate", "The error of what is on the device, on test samples."),
    "compare": Lazy("deltatrain.cli.compare:compare", "Train device and host on the same samples; compare every word."),
    "pull": Lazy("deltatrain.cli.weights:pull", "Read the weights that a device has trained into a file."),
    "push": Lazy("deltatrain.cli.weights:push", "Give a device the weights of a model's file."),
    "plot": Lazy("deltatrain.cli.plot:plot", "Draw a run: error, loss and sparsity over the steps."),
    "samples": Lazy("deltatrain.cli.samples:samples", "Write a person's recordings as files that a board reads."),
    "boards": Lazy("deltatrain.cli.board:boards", "The boards, and what building for each and running it takes."),
    "bench": Lazy("deltatrain.cli.bench:bench_command", "What a training step costs, on a board or on this computer."),
    "sweep": Lazy("deltatrain.cli.sweep:sweep", "Error and operations over thresholds, on folds of the data."),
    "tune": Lazy("deltatrain.cli.tune:tune", "Find the thresholds for your data, for an error or a saving."),
    "study": Lazy("deltatrain.cli.study:study", "Many runs, pooled: speakers × seeds."),
}


@click.group(
    cls=Group, lazy=COMMANDS, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
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
