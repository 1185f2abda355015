"""The training itself, for as long as it takes: every step in the log, weights read back and evaluated at a pace."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from deltatrain.devices import AnyDevice, boot_id_of, commit, store_of
from deltatrain.errors import InputError, LinkInterrupted
from deltatrain.link import Device, DeviceResult
from deltatrain.recovery import Trained, train_from
from deltatrain.run.folder import RunFolder, save
from deltatrain.run.journal import Journal, digest
from deltatrain.run.log import Log
from deltatrain.run.position import Position, find_position
from deltatrain.run.stop import Stop
from deltatrain.run.stream import Stream
from deltatrain.totals import SUMMED
from deltatrain.trained import pull
from deltatrain.training import LOSS_ONE, Evaluation, Progress, Sample, evaluate

T = TypeVar("T")

PATIENCE = 8
"""Interruptions without a step between them that are borne."""

_RECENT = 20
_SATURATIONS = ("saturated_h", "saturated_c", "saturated_grad", "saturated_w")


@dataclass(frozen=True)
class Pace:
    """After how many steps something is done again; 0: never on the way.

    Attributes
    ----------
    pull : int
        Weights are read back to the run's folder.
    commit : int
        The device writes its weights to its own store; and at the end.
    evaluate : int
        The test samples are judged.
    """

    pull: int = 0
    commit: int = 0
    evaluate: int = 0

    def check(self, device: AnyDevice) -> None:
        """InputError where the device has no store to commit to."""
        if self.commit and store_of(device) == "none":
            raise InputError(
                f"the firmware on {device.info.board} has no non-volatile store; build one by `deltatrain export "
                "--store`, for a board that has the memory, or leave out --commit-every: the run's folder keeps weights"
            )


class LongRun:
    """A run on a device.

    Parameters
    ----------
    device : Device
        Configured, and where the journal says.
    test : sequence of Sample
        May be empty.
    n_new : int
        New samples to train on in all.
    """

    def __init__(
        self,
        device: AnyDevice,
        folder: RunFolder,
        log: Log,
        journal: Journal,
        stream: Stream,
        test: Sequence[Sample],
        pace: Pace,
        n_new: int,
        stop: Stop,
    ) -> None:
        self.journal = journal
        self._device, self._folder, self._log, self._stream = device, folder, log, stream
        self._test, self._pace, self._n_new, self._stop = test, pace, n_new, stop
        self._occupied: deque[tuple[int, int]] = deque(maxlen=_RECENT)
        self._interruptions = 0
        self._started = time.monotonic()
        self._steps_here = 0
        self._paused = 0.0  # seconds spent on other things than training
        layers = stream.model.layers
        self._columns = sum(layer.n_in + layer.n_hidden for layer in layers)

    def event(self, name: str, **values: Any) -> None:
        """Write an event to the log."""
        self.journal.add(self._log.write(name, **values, seconds=round(time.monotonic() - self._started, 3)))

    @property
    def finished(self) -> bool:
        """Whether all samples were trained on."""
        return self.journal.turn >= self._end

    @property
    def _end(self) -> int:
        return self._stream.turns.count(self._n_new)

    # ---- what is done at a pace

    def pull(self) -> None:
        """Read the weights back to the run's folder."""
        model = pull(self._device, self._stream.model)
        save(model, self._folder.weights)
        self.event("pull", step=self.journal.step, digest=digest(model.tensors()))

    def commit(self) -> None:
        """Have the device write its weights to its store."""
        self.pull()  # what the device may come back to is known by its digest
        done = commit(self._device)
        self.event("commit", step=done.step, commits=done.commits, slot_erases=done.slot_erases, bytes=done.bytes)

    def evaluate(self, progress: Progress | None = None) -> Evaluation:
        """Judge the test samples; Stopped where somebody wishes that."""

        def shown(done: int, total: int, beside: dict[str, Any]) -> None:
            self._stop.check()
            if progress is not None:
                progress(done, total, beside)

        outcome = evaluate(self._device, self._test, self._stream.model.n_outputs, shown)
        self.event(
            "evaluation",
            step=self.journal.step,
            samples=len(outcome.labels),
            refused=outcome.refused,
            **outcome.to_dict(),
        )
        return outcome

    def _at_pace(self) -> None:
        steps = self.journal.step - self.journal.first_step

        def due(every: int) -> bool:
            return bool(every) and steps % every == 0

        start = time.monotonic()
        if due(self._pace.commit):
            self.commit()
        elif due(self._pace.pull):
            self.pull()
        if due(self._pace.evaluate) and self._test:
            self.evaluate()
        self._paused += time.monotonic() - start

    # ---- training

    def bearing(self, work: Callable[[], T]) -> T:
        """Do something that may be done again from wherever the device stands, as often as the line interrupts it.

        LinkInterrupted after too many interruptions in a row.
        """
        interrupted = False
        while True:
            try:
                if interrupted:
                    self.recover()
                    interrupted = False
                return work()
            except LinkInterrupted as interruption:
                self._bear(interruption)
                interrupted = True

    def train(self, progress: Progress) -> None:
        """Train until all samples had their turn; Stopped after the step under way where somebody wishes that."""
        self.bearing(lambda: self._train(progress))

    def recover(self) -> Position:
        """Find out where the device stands, and stand there."""
        position = find_position(self._device, self._folder, self.journal, self._stream)
        self.event(
            "resume",
            step=position.step,
            source=position.source,
            lost=position.lost,
            board=self._device.info.board,
            boot_id=boot_id_of(self._device),
        )
        return position

    def _bear(self, interruption: LinkInterrupted) -> None:
        self._interruptions += 1
        self.event(
            "interrupted", reason=str(interruption), restarted=interruption.restarted, device_step=interruption.step
        )
        if self._interruptions > PATIENCE:
            raise interruption

    def _train(self, progress: Progress) -> None:
        def interrupted(interruption: LinkInterrupted) -> None:
            if interruption.restarted:
                raise interruption  # its weights may be older than its step says
            self._bear(interruption)

        turns = train_from(
            cast(Device, self._device),  # MicroPython's answers where this asks, and has no session to interrupt
            self._stream.settings,
            lambda turn: self._stream.sample(turn, self.journal.step),
            self.journal.turn,
            self._end,
            on_interruption=interrupted,
        )
        for trained in turns:
            self._interruptions = 0
            self._record(trained)
            progress(self._stream.turns.new_before(self.journal.turn), self._n_new, self._beside())
            if not trained.refused:
                self._at_pace()
            self._stop.check()

    def _record(self, trained: Trained) -> None:
        sample = trained.sample
        result: Any = trained.result
        if trained.refused:
            self.event("refused", turn=trained.position, step=trained.step, sample=sample.name)
            return
        self._steps_here += 1
        told: dict[str, Any] = {"loss": None}  # applied, but its answer was lost
        if result is not None:
            events, possible = result.active_x + result.active_h, result.n_steps * self._columns
            self._occupied.append((events, possible))
            told = {
                "loss": result.loss / LOSS_ONE,
                "error": sample.error(result),
                "occupancy": round(events / max(possible, 1), 5),
                "inputs": int(sample.frames.size),
                "inputs_saturated": sample.saturated,
                "ticks": result.ticks_forward + result.ticks_call if isinstance(result, DeviceResult) else None,
                "instructions": result.instructions if isinstance(result, DeviceResult) else None,
                **{name: getattr(result, name) for name in SUMMED},
            }
        self.event(
            "step", step=trained.step, turn=trained.position, sample=sample.name, replayed=sample.replayed, **told
        )

    def _beside(self) -> dict[str, Any]:
        """What stands beside the bar, the most important first."""
        events, possible = (sum(part) for part in zip(*self._occupied, strict=True)) if self._occupied else (0, 0)
        totals, refused = self.journal.totals, len(self.journal.refused)
        spent = time.monotonic() - self._started - self._paused
        return {
            **self.journal.running.shown(),
            **({"refused": refused} if refused else {}),
            "steps/s": f"{self._steps_here / max(spent, 1e-9):.1f}",
            "sparsity": 1 - events / possible if possible else 1.0,
            "saturated": sum(getattr(totals, name) for name in _SATURATIONS),
            "rate": f"{float(self._stream.settings.learning_rate):.3g}",
        }
