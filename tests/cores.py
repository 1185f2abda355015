"""Training on boards, checked word by word against two references; also a program, see `--help`."""

from __future__ import annotations

import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from equality import CELLS, Rng, assert_same_words, random_frames, random_model, random_settings
from joblib import Parallel, delayed
from rich.console import Console
from rich.progress import track

from deltatrain.cli.terminal import table
from deltatrain.fixed import FixedNetwork
from deltatrain.link import Device
from deltatrain.quant_model import QuantModel
from deltatrain.targets import Board, Emulator, boards, parse_target
from deltatrain.training import Settings
from deltatrain_codegen import export, ram_needed
from deltatrain_core import CoreNetwork

# Each cell alone, and stacks.
NETWORKS: tuple[tuple[str, ...], ...] = (*((cell,) for cell in CELLS), ("gru", "lstm"), ("lstm", "rnn", "gru"))
SPREADS = (0.3, 1.0, 4.0, 30.0)


def train_on(board: Board, model: QuantModel, settings: Settings, rng: Rng, n_steps: int) -> int:
    """Train a model on a board, on the host's C core and in integers; how many words of the board were compared.

    After every step the board's words are compared: hidden states, outcome, logits, and every tensor.
    """
    oracle, core, words = FixedNetwork(model), CoreNetwork(model), 0
    with (
        tempfile.TemporaryDirectory() as folder,
        Emulator.start(board, export(model, board, Path(folder)).elf) as emulator,
        Device.open(emulator.port) as device,
    ):
        device.check_model(model.hash())
        for network in (oracle, core, device):
            settings.apply(network)
        for _ in range(n_steps):
            x = random_frames(rng, int(rng.integers(1, model.max_steps + 1)), model.n_in)
            label = int(rng.integers(model.n_classes))
            for network in (oracle, core, device):
                network.begin()
            hidden = oracle.push(x)
            np.testing.assert_array_equal(hidden, core.push(x), "hidden states, the C core on the host")
            np.testing.assert_array_equal(hidden, device.push(x), f"hidden states, {board.name}")
            expected = oracle.train(label)
            assert_same_words(oracle, core, model, expected, core.train(label))
            words += hidden.size + assert_same_words(oracle, device, model, expected, device.train(label))
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
        )
        if sum(ram_needed(model, board).values()) <= board.ram_bytes:
            return model


@dataclass(frozen=True)
class Trained:
    """One model's training on one board."""

    board: Board
    cells: tuple[str, ...]
    steps: int
    words: int


def train_random(board: Board, cells: tuple[str, ...], n_steps: int, seed: int) -> Trained:
    """Train a random model of these cells on a board."""
    rng = np.random.default_rng([seed, *board.name.encode(), *map(CELLS.index, cells)])
    model = model_for(board, cells, rng)
    return Trained(board, cells, n_steps, train_on(board, model, random_settings(rng, model), rng, n_steps))


@click.command()
@click.argument("targets", nargs=-1)
@click.option("--steps", default=50, show_default=True, help="Training steps of each model.")
@click.option("--models", default=2, show_default=True, help="Models of each network on each board.")
@click.option("--seed", default=1, show_default=True, help="Of models, samples and settings.")
@click.option("--jobs", default=1, show_default=True, help="Boards at work at once.")
def main(targets: tuple[str, ...], steps: int, models: int, seed: int, jobs: int) -> None:
    """Train random models on every board, or on TARGETS, and compare every word after every step.

    The words of each board are compared with those of the C core on this PC and of the integer reference. The first
    one that differs ends it with an error that names it.
    """
    chosen = [board for board in boards() if not targets or board in [parse_target(name).board for name in targets]]
    work = [(board, cells, seed + i) for board in chosen for cells in NETWORKS for i in range(models)]
    started = time.monotonic()
    run = Parallel(jobs, return_as="generator")(delayed(train_random)(*one[:2], steps, one[2]) for one in work)
    errors = Console(stderr=True)
    outcomes = list(track(run, "training", total=len(work), console=errors, disable=not errors.is_terminal))
    totals: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
    for one in outcomes:
        row = totals[one.board.name, "/".join(one.cells)]
        row[0] += one.steps
        row[1] += one.words
    console = Console()
    rows = [(name, cells, f"{n_steps:,}", f"{n_words:,}") for (name, cells), (n_steps, n_words) in totals.items()]
    console.print(table(("board", "cell", "steps", "words"), rows))
    n_steps, n_words = (sum(row[i] for row in totals.values()) for i in range(2))
    console.print(f"{time.monotonic() - started:.0f} s")
    console.print(f"{n_steps} steps, {n_words} words compared, 0 words differ", highlight=False)


if __name__ == "__main__":
    main()
