"""Training on boards, checked word by word against two references; also a program: `--help`."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from equality import (
    CELLS,
    Rng,
    assert_same,
    assert_same_words,
    random_frames,
    random_model,
    random_settings,
    random_targets,
)
from joblib import Parallel, delayed
from rich.console import Console
from rich.progress import track

from deltatrain.cli.terminal import table
from deltatrain.fixed import FixedNetwork
from deltatrain.link import Device
from deltatrain.quant_model import QuantModel
from deltatrain.reference import READOUT_KINDS
from deltatrain.targets import Board, Emulator, Qemu, boards, parse_target
from deltatrain.training import Sample, Settings
from deltatrain_codegen import export, ram_needed
from deltatrain_core import CoreNetwork

# Each cell alone, and stacks.
NETWORKS: tuple[tuple[str, ...], ...] = (*((cell,) for cell in CELLS), ("gru", "lstm"), ("lstm", "rnn", "gru"))
SPREADS = (0.3, 1.0, 4.0, 30.0)


def train_on(board: Board, model: QuantModel, settings: Settings, rng: Rng, n_steps: int) -> int:
    """Build a model's firmware for a board and `train_beside` it; how many words of the board were compared."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Emulator.start(board, export(model, board, Path(folder)).elf) as emulator,
        Device.open(emulator.port) as device,
    ):
        return train_beside(device, model, settings, rng, n_steps)


def train_beside(device: Device, model: QuantModel, settings: Settings, rng: Rng, n_steps: int) -> int:
    """Train a model on a device, on the host's C core and in integers; how many words of the device were compared.

    After every step they are compared: hidden states, outcome, logits, and every tensor.
    """
    oracle, core, words = FixedNetwork(model), CoreNetwork(model), 0
    device.check_model(model.hash())
    for network in (oracle, core, device):
        settings.apply(network)
    for _ in range(n_steps):
        x = random_frames(rng, int(rng.integers(1, model.max_steps + 1)), model.n_in)
        sample = Sample(x, int(rng.integers(model.n_outputs)), "", random_targets(rng, model, len(x)))
        for network in (oracle, core, device):
            network.begin()
        hidden = oracle.push(x, targets=sample.targets)
        for network in (core, device):
            assert_same(hidden, network.push(x, targets=sample.targets), "hidden states")
        expected = sample.train(oracle)
        assert_same_words(oracle, core, model, expected, sample.train(core))
        words += hidden.size + assert_same_words(oracle, device, model, expected, sample.train(device))
    assert device.hello().step == n_steps
    return words


def model_for(board: Board, cells: tuple[str, ...], rng: Rng) -> QuantModel:
    """A random model of these cells that fits the board's RAM."""
    while True:
        model = random_model(
            rng,
            n_in=int(rng.integers(1, 24)),
            n_hidden=int(rng.integers(1, 32)),
            n_classes=int(rng.integers(2, 12)),
            max_steps=int(rng.integers(1, 40)),
            spread=float(rng.choice(SPREADS)),
            cells=cells,
            readout=str(rng.choice(READOUT_KINDS)),
        )
        if sum(ram_needed(model, board).values()) <= board.ram_bytes:
            return model


@dataclass(frozen=True)
class Shard:
    """One random model to be trained on one board."""

    board: Board
    cells: tuple[str, ...]
    steps: int
    seed: int

    @property
    def command(self) -> str:
        """How to run it alone, with the other networks of this seed."""
        return f"python tests/study_cores.py {self.board.target} --models 1 --steps {self.steps} --seed {self.seed}"


@dataclass(frozen=True)
class Outcome:
    """Words that agree, or what the first difference is."""

    shard: Shard
    words: int
    difference: str | None = None


def train_random(shard: Shard) -> Outcome:
    """Train a random model; stops at the first difference."""
    rng = np.random.default_rng([shard.seed, *shard.board.name.encode(), *map(CELLS.index, shard.cells)])
    model = model_for(shard.board, shard.cells, rng)
    try:
        return Outcome(shard, train_on(shard.board, model, random_settings(rng, model), rng, shard.steps))
    except AssertionError as difference:
        return Outcome(shard, 0, str(difference))


@click.command()
@click.argument("targets", nargs=-1)
@click.option("--steps", default=60, show_default=True, help="Training steps of each model.")
@click.option("--models", default=2, show_default=True, help="Models of each network on each board.")
@click.option("--seed", default=1, show_default=True, help="Of the first models and their samples; others count up.")
@click.option("--jobs", default=2, show_default=True, help="Boards at work at once.")
def main(targets: tuple[str, ...], steps: int, models: int, seed: int, jobs: int) -> None:
    """Train random models on every board, or on TARGETS, and compare every word after every step.

    The words of each board are compared with those of the integer reference, and so are those of the C core on this PC.
    The last line is `N steps, M words compared, 0 words differ`; where one does, exit status 1, the first tensor and
    index with both values, and how to repeat it.
    """
    named = [parse_target(name).board for name in targets]
    chosen = [board for board in boards() if (board in named if targets else isinstance(board.run, Qemu))]
    shards = [Shard(board, cells, steps, seed + i) for i in range(models) for cells in NETWORKS for board in chosen]
    totals: dict[tuple[str, str], list[int]] = {
        (b.name, ", ".join(cells)): [0, 0] for b in chosen for cells in NETWORKS
    }
    errors = Console(stderr=True)
    finished = Parallel(jobs, return_as="generator_unordered")(delayed(train_random)(shard) for shard in shards)
    for outcome in track(finished, "models", total=len(shards), console=errors, disable=not errors.is_terminal):
        shard = outcome.shard
        name = shard.board.name, ", ".join(shard.cells)
        if outcome.difference is not None:
            click.echo(f"{': '.join(name)}: {outcome.difference}\nOnce more: {shard.command}")
            raise click.exceptions.Exit(1)
        totals[name][0] += shard.steps
        totals[name][1] += outcome.words
    rows = [(*name, f"{n_steps:,}", f"{n_words:,}") for name, (n_steps, n_words) in totals.items()]
    Console(highlight=False).print(table(("board", "cells", "steps", "words"), rows))
    n_steps, n_words = (sum(row[i] for row in totals.values()) for i in range(2))
    click.echo(f"{n_steps} steps, {n_words} words compared, 0 words differ")


if __name__ == "__main__":
    main()
