"""`recovery.train_from` on an engine that is interrupted at will: which samples it trains, and what it tells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from deltatrain.errors import LinkInterrupted, SampleRefused
from deltatrain.quant_model import QuantModel
from deltatrain.recovery import train_from
from deltatrain.training import Sample, Settings


@dataclass
class Interrupted:
    """A device that only counts: `faults` names by the number of a TRAIN what happens to it.

    "lost": interrupted before the step; "applied": after it; "restart": back at step `committed`; "refused".
    """

    faults: dict[int, str]
    committed: int = 0
    info: Any = None
    step: int = 0
    trained: list[int] = field(default_factory=list)
    configured: list[int] = field(default_factory=list)
    calls: int = 0

    def __post_init__(self) -> None:
        self.new_session()

    def new_session(self) -> None:
        self.info = SimpleNamespace(step=self.step)

    def config(self) -> Any:
        return SimpleNamespace(step=self.step)

    def configure(self, *, step: int, **_: object) -> None:
        self.configured.append(step)
        self.step = step

    def begin(self) -> None:
        pass

    def push(self, frames: Any, want_hidden: bool, targets: Any) -> None:
        self.under_way = int(frames[0, 0])

    def train(self, label: int) -> str:
        fault = self.faults.get(self.calls, "")
        self.calls += 1
        if fault == "refused":
            raise SampleRefused("too many events")
        if fault in ("", "applied"):
            self.trained.append(self.under_way)
            self.step += 1
        if fault == "restart":
            self.restart()
        if fault:
            self.new_session()
            raise LinkInterrupted(fault, restarted=fault == "restart", step=self.step)
        return f"step {self.step}"

    def restart(self) -> None:
        """What was not committed is lost."""
        del self.trained[self.committed :]
        self.step = self.committed


def sample_at(position: int) -> Sample:
    return Sample(np.full((1, 1), position, np.int16), 0, str(position))


@pytest.fixture
def settings(tiny_model: QuantModel) -> Settings:
    return Settings.of(tiny_model)


def run(device: Any, settings: Settings, end: int, **options: Any) -> list[tuple[int, int, str | None, bool]]:
    turns = train_from(device, settings, sample_at, 0, end, **options)
    return [(turn.position, turn.step, turn.result, turn.refused) for turn in turns]  # type: ignore[misc]


def test_nothing_happens(settings: Settings) -> None:
    device = Interrupted({})
    assert run(device, settings, 3) == [(0, 1, "step 1", False), (1, 2, "step 2", False), (2, 3, "step 3", False)]
    assert device.configured == []


def test_a_sample_that_was_lost_is_trained_again(settings: Settings) -> None:
    device = Interrupted({1: "lost"})
    told: list[LinkInterrupted] = []
    assert [turn[0] for turn in run(device, settings, 3, on_interruption=told.append)] == [0, 1, 2]
    assert device.trained == [0, 1, 2] and device.configured == [1] and len(told) == 1


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_step_whose_answer_was_lost_is_not_done_again(settings: Settings, number: int) -> None:
    device = Interrupted({number: "applied"})
    turns = run(device, settings, 3)
    assert [turn[0] for turn in turns] == [0, 1, 2] and turns[number] == (number, number + 1, None, False)
    assert device.trained == [0, 1, 2]


@pytest.mark.parametrize("committed", [0, 2])
def test_after_a_restart_training_goes_on_from_the_devices_step(settings: Settings, committed: int) -> None:
    device = Interrupted({3: "restart"}, committed=committed)
    turns = run(device, settings, 5)
    assert [turn[0] for turn in turns] == [0, 1, 2, *range(committed, 5)]
    assert device.trained == [0, 1, 2, 3, 4] and device.configured == [committed]


def test_refused_samples_take_no_step_and_are_passed_over_after_an_interruption(settings: Settings) -> None:
    device = Interrupted({1: "refused", 3: "lost"})
    turns = run(device, settings, 4)
    assert [(turn[0], turn[3]) for turn in turns] == [(0, False), (1, True), (2, False), (3, False)]
    assert device.trained == [0, 2, 3] and device.step == 3


@pytest.mark.parametrize("happens", [Interrupted.new_session, Interrupted.restart])
def test_what_interrupts_the_caller_between_two_samples_is_noticed(
    settings: Settings, happens: Callable[[Interrupted], None]
) -> None:
    device = Interrupted({}, committed=1)
    positions = []
    for turn in train_from(device, settings, sample_at, 0, 4):  # type: ignore[arg-type]
        positions.append(turn.position)
        if len(positions) == 3:
            happens(device)
            device.new_session()
    assert positions == ([0, 1, 2, 3] if happens is Interrupted.new_session else [0, 1, 2, 1, 2, 3])
    assert device.trained == [0, 1, 2, 3]


def test_interruptions_without_end_are_given_up(settings: Settings) -> None:
    device = Interrupted(dict.fromkeys(range(100), "lost"))
    with pytest.raises(LinkInterrupted):
        run(device, settings, 3, patience=5)
    assert device.calls == 6


def test_a_device_that_went_back_beyond_the_first_sample_is_told(settings: Settings) -> None:
    device = Interrupted({1: "restart"}, step=7)
    with pytest.raises(LinkInterrupted, match="at step 0 now, which belongs to no sample of this training"):
        run(device, settings, 3)
