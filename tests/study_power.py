"""Training on an emulated board whose power is cut again and again, every restart checked; also a program: `--help`."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import click
import numpy as np
from equality import assert_same
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from deltatrain import datasets
from deltatrain.datasets.digits import HELD_OUT_VOICES
from deltatrain.demo import shipped_model
from deltatrain.errors import DeviceError
from deltatrain.link import Device
from deltatrain.personal import CALIBRATION_ITEMS, personal, pretraining_items
from deltatrain.quant_model import QuantModel
from deltatrain.quantize import quantize
from deltatrain.replay import with_exemplars
from deltatrain.samples import samples_of
from deltatrain.slots import Commit, read_slots, slot_bytes
from deltatrain.targets import Board, Emulator, parse_target
from deltatrain.training import Sample, Settings
from deltatrain_codegen import export
from deltatrain_core import CoreNetwork, StepResult

Rng = np.random.Generator
Words = dict[str, NDArray[Any]]

REPLAY_EACH = 3  # one step of so many is on an exemplar, where the model has some
MOST_STEPS = 3  # between two commits
REPLAY_BYTES = 4096


@dataclass
class Tally:
    """What happened, as counts.

    Attributes
    ----------
    kills, torn, unanswered : int
        Kills of the emulator; of these those that left the slot under way neither as it was nor whole; and those after
        which the commit under way held, though nobody had been told.
    commits, lost : int
        Commits that were answered; of these those that were not there after the restart.
    steps, words : int
        Training steps on the device, and words compared with the host's.
    """

    kills: int = 0
    torn: int = 0
    unanswered: int = 0
    commits: int = 0
    lost: int = 0
    steps: int = 0
    words: int = 0

    def __str__(self) -> str:
        return (
            f"{self.kills} kills, {self.torn} of them inside a commit (its slot torn), {self.unanswered} when it was "
            f"whole but not answered; {self.commits} answered commits, {self.lost} lost; {self.steps} steps, "
            f"{self.words} words compared, 0 words differ"
        )


class PowerCuts:
    """A board that trains, with a file as its non-volatile memory, beside the C core on this PC.

    Parameters
    ----------
    samples : list of Sample
        Taken in turn, by the number of the step.
    file : Path
        Made anew.
    """

    def __init__(
        self,
        board: Board,
        model: QuantModel,
        settings: Settings,
        samples: list[Sample],
        elf: Path,
        file: Path,
        rng: Rng,
    ) -> None:
        self.tally = Tally()
        self.commit_s = 0.0  # the shortest so far
        self._board, self._model, self._settings, self._samples = board, model, settings, samples
        self._elf, self._file, self._rng = elf, file, rng
        self._host = CoreNetwork(model)
        self._step = 0
        self._committed = 0
        self._under_way: int | None = None  # the step of a commit that was not answered
        self._kept: dict[int, Words] = {0: self._words(self._host)}
        file.unlink(missing_ok=True)

    def cut(self, in_commit: bool) -> None:
        """Start the board, check that it is where it must be, train and commit on it, and kill it.

        AssertionError at the first word that differs, and where a step that was committed is lost.
        """
        with Emulator.start(self._board, self._elf, store=self._file) as emulator:
            # A line that is lost is the kill: nothing will open it again.
            with Device.open(emulator.port, reopen=0.0) as device:
                self._resume(device)
                self._train(device, int(self._rng.integers(1, MOST_STEPS + 1)))
                if not self.commit_s or self._rng.random() < 0.5:
                    self._commit(device)
                    self._train(device, int(self._rng.integers(1, MOST_STEPS + 1)))
                before = self._slots()
                if in_commit:
                    with self._killed(emulator.pid, float(self._rng.uniform(0, self.commit_s))):
                        self._commit(device)
                else:
                    with self._killed(emulator.pid, float(self._rng.uniform(0, 5 * self.commit_s))):
                        self._train(device, 1000)
            self.tally.kills += 1
            self._judge(before)

    def _resume(self, device: Device) -> None:
        """Where the device is after its start; the host goes there too."""
        step = device.info.step
        if step < self._committed:
            self.tally.lost += 1
        assert step in (self._committed, self._under_way), f"started at {step}: committed {self._committed}"
        assert (device.info.store, device.info.committed_step) == ("loaded" if step else "empty", step)
        self._committed, self._under_way, self._step = step, None, step
        self._kept = {step: self._kept[step]}
        for name, words in self._kept[step].items():
            self._host.set_tensor(name, words)
        self._settings.apply(self._host, step)
        if step == 0:
            self._settings.apply(device)
        config = device.config()
        assert (config.step, config.seed) == (step, self._settings.seed)
        self._compare(self._words(device))

    def _train(self, device: Device, n_steps: int) -> None:
        for _ in range(n_steps):
            replay = self._model.replay is not None and self._step % REPLAY_EACH == 0
            sample = self._samples[self._step % len(self._samples)]
            outcomes = [engine.replay() if replay else sample.train_whole(engine) for engine in (device, self._host)]
            for name in (field.name for field in fields(StepResult)):
                assert getattr(outcomes[0], name) == getattr(outcomes[1], name), f"step {self._step}: {name}"
            self._step += 1
            self.tally.steps += 1

    def _commit(self, device: Device) -> None:
        """Commit, and look into the file; what the host has then is what a restart must bring."""
        self._under_way, self._kept[self._step] = self._step, self._words(self._host)
        start = time.monotonic()
        assert device.commit().step == self._step
        self.commit_s = min(self.commit_s or 1.0, time.monotonic() - start)
        self._committed, self._under_way = self._step, None
        self.tally.commits += 1
        newest = [commit for commit in self._commits() if commit is not None and commit.step == self._step]
        assert len(newest) == 1 and newest[0].seed == self._settings.seed
        self._compare(newest[0].tensors)

    @contextmanager
    def _killed(self, pid: int, delay: float) -> Iterator[None]:
        """What the device is asked meanwhile ends by its death."""
        timer = threading.Timer(delay, os.kill, (pid, signal.SIGKILL))
        timer.start()
        try:
            yield
        except DeviceError:
            pass
        finally:
            timer.join()

    def _judge(self, before: list[bytes]) -> None:
        """What the kill left in the file."""
        steps = {commit.step for commit in self._commits() if commit is not None}
        assert not self._committed or self._committed in steps
        if self._under_way is not None:
            self.tally.unanswered += self._under_way in steps
            self.tally.torn += self._under_way not in steps and self._slots() != before

    def _compare(self, words: Words) -> None:
        for name, expected in self._kept[self._step].items():
            assert_same(expected, words[name], f"{name} at step {self._step}")
            self.tally.words += expected.size

    def _words(self, engine: CoreNetwork | Device) -> Words:
        return {name: engine.tensor(name) for name in self._model.tensors()}

    def _image(self) -> bytes:
        assert self._board.store is not None
        with self._file.open("rb") as file:
            return file.read(2 * self._board.store.slot_bytes)

    def _slots(self) -> list[bytes]:
        assert self._board.store is not None
        image, size = self._image(), self._board.store.slot_bytes
        return [image[start : start + slot_bytes(self._model)] for start in (0, size)]

    def _commits(self) -> tuple[Commit | None, ...]:
        assert self._board.store is not None
        return read_slots(self._image(), self._board.store, self._model)


def cut_until(cuts: PowerCuts, kills: int, torn: int, shown: Callable[[range], Any] = iter) -> None:
    """Kill that often, in two of three cases during a commit, and go on until so many slots were torn."""
    for number in shown(range(kills)):
        cuts.cut(in_commit=number % 3 != 0)
    while cuts.tally.torn < torn:
        assert cuts.tally.kills < 10 * (kills + torn), "kills hardly ever hit a commit"
        cuts.cut(in_commit=True)


def speech() -> tuple[QuantModel, list[Sample]]:
    """The model that the package brings, with some exemplars, and utterances of a voice that it does not know."""
    data, known = datasets.load("digits", None), shipped_model()
    calibration = pretraining_items(data, known, CALIBRATION_ITEMS)
    model, _ = quantize(known, [data.features[i] for i in calibration])
    model = with_exemplars(model, data, REPLAY_BYTES)
    split = personal(data, HELD_OUT_VOICES[0], per_class=5, epochs=1, seed=0)
    return model, list(samples_of(model, data, split.train).items)


@click.command()
@click.option("--target", default="qemu:mps2-an386", show_default=True, help="An emulator that has a store.")
@click.option("--kills", default=200, show_default=True, help="Of the emulator, at least.")
@click.option("--torn", default=50, show_default=True, help="Of these, that must hit a commit.")
@click.option("--seed", default=1, show_default=True, help="Of when they come.")
def main(target: str, kills: int, torn: int, seed: int) -> None:
    """Train the speech model on an emulator that is killed again and again, and compare every word at each restart.

    Its non-volatile memory is a file. A kill counts as inside a commit where the file then shows a slot that is neither
    as it was nor whole. The last line holds the figures; exit status 1 with the first word that differs, or a step that
    was committed and is lost.
    """
    board = parse_target(target).board
    if board is None or board.store is None:
        raise click.BadParameter(f"{target} has no store")
    model, samples = speech()
    with tempfile.TemporaryDirectory() as folder:
        elf = export(model, board, Path(folder), store=True).elf
        settings = Settings.of(model, seed=seed)
        rng = np.random.default_rng(seed)
        cuts = PowerCuts(board, model, settings, samples, elf, Path(folder) / "store.bin", rng)
        errors = Console(stderr=True)
        try:
            cut_until(cuts, kills, torn, lambda n: track(n, "kills", console=errors, disable=not errors.is_terminal))
        except AssertionError as difference:
            click.echo(f"after {cuts.tally}: {difference}")
            raise click.exceptions.Exit(1) from difference
    click.echo(f"{board.name}, {slot_bytes(model):,} bytes a commit: {cuts.tally}")


if __name__ == "__main__":
    main()
