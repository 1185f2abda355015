"""Lines that fail, hosts that are killed, devices that restart: each sample is trained once, and no word differs."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from line_proxy import CLEAN, Faults, LineProxy
from link_runs import MIX, SMALL, Bench, an386, over_bad_line, port_of, with_killed_hosts, with_restarts

from deltatrain.errors import DeviceError
from deltatrain.link import Device, protocol
from deltatrain.link.exchange import FrameTooLong, Reply
from deltatrain.link.pacing import FLOOR_BYTES, Pacing, RoundTrips
from deltatrain.targets import Emulator

BEGIN, FRAMES = (protocol.constant(f"DT_CMD_{name}") for name in ("BEGIN", "FRAMES"))


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A small model on the emulated Cortex-M4F; skips where its compiler or emulator is absent."""
    for program in an386().needs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed; `make setup` installs it")
    return Bench.build(SMALL, tmp_path_factory.mktemp("firmware"))


BYTES = Faults(dropped=1e-3, doubled=1e-3, inserted=1e-3, cuts=2e-4)


@pytest.mark.parametrize("faults", [MIX, BYTES], ids=["bits", "bytes"])
def test_a_bad_line_changes_no_word(bench: Bench, faults: Faults) -> None:
    run = over_bad_line(bench, faults, steps=40)
    assert run.once_each and run.words > 0 and run.words_different == 0
    # It was bad indeed.
    assert run.link.requests_damaged > 10 and run.link.replies_damaged > 10
    if faults.cuts:
        assert run.line.cuts > 0 and run.link.reopened >= run.line.cuts


@pytest.mark.parametrize("ways", ["there", "back", "both"])
def test_a_line_that_gets_bad_is_sent_shorter_frames(bench: Bench, ways: str) -> None:
    """Frames that have grown on the clean line are cut, under way; hidden states and weights arrive whole."""
    core = bench.expected(0)
    rng = np.random.default_rng(6)
    with (
        Emulator.start(an386(), bench.elf) as emulator,
        LineProxy(lambda: port_of(emulator), seed=4) as proxy,
        Device.open(proxy.url) as device,
    ):
        bench.settings.apply(device)
        device._link.outward.size = device._link.inward.size = device.info.max_payload
        bad = Faults(bit_errors=1e-3)
        proxy.faults = [bad if ways != "back" else CLEAN, bad if ways != "there" else CLEAN]
        for position in range(4):
            sample = bench.sample_at(position)
            for engine in (device, core):
                engine.begin()
            np.testing.assert_array_equal(device.push(sample.frames[:7]), core.push(sample.frames[:7]))
            np.testing.assert_array_equal(device.push(sample.frames[7:]), core.push(sample.frames[7:]))
            assert device.train(sample.label).loss == core.train(sample.label).loss
        weights = rng.integers(-32768, 32768, core.tensor("layer0.weight").size).astype(np.int16)
        device.set_tensor("layer0.weight", weights)
        np.testing.assert_array_equal(device.tensor("layer0.weight"), weights)
        assert device.config().step == 4
        damaged = device.counters.requests_damaged, device.counters.replies_damaged
    assert [count > 5 for count in damaged] == [ways != "back", ways != "there"]


def test_a_sample_whose_frames_got_lost_track_of_is_begun_again(bench: Bench) -> None:
    """The answer to a long request is lost, a shorter one with its number is refused: the sample comes anew."""
    core = bench.expected(0)
    sample = bench.sample_at(0)
    with Emulator.start(an386(), bench.elf) as emulator, Device.open(emulator.port) as device:
        bench.settings.apply(device)
        ask, asked = device._link.ask, []

        def lose_one(command: int, *rest: Any, **options: Any) -> Reply:
            asked.append(command)
            reply = ask(command, *rest, **options)
            if asked.count(FRAMES) == 2 and command == FRAMES:
                device._link.outward.size = 48
                raise FrameTooLong
            return reply

        device._link.ask = lose_one  # type: ignore[method-assign]
        for engine in (device, core):
            engine.begin()
        hidden = [
            np.concatenate([engine.push(sample.frames[:4]), engine.push(sample.frames[4:])])
            for engine in (device, core)
        ]
        np.testing.assert_array_equal(hidden[0], hidden[1])
        assert device.train(sample.label).loss == core.train(sample.label).loss
        assert asked.count(BEGIN) == 2


def test_a_host_that_is_killed_is_followed_by_another(bench: Bench) -> None:
    run = with_killed_hosts(bench, steps=150, kills=2, longest_s=0.2)
    assert run.once_each and run.words > 0 and run.words_different == 0


def test_a_device_that_restarts_trains_anew(bench: Bench) -> None:
    run = with_restarts(bench, steps=60, restarts=2, longest_s=0.2, faults=replace(MIX, bit_errors=1e-4))
    assert run.once_each and run.words > 0 and run.words_different == 0
    assert [(each.restarted, each.step) for each in run.interruptions] == [(True, 0)] * 2
    assert "restarted (no fault is known" in str(run.interruptions[0])


# ---- how much, and how long


@pytest.mark.parametrize("rate", [1e-5, 1e-4, 1e-3])
def test_frames_settle_near_the_length_that_carries_most(rate: float) -> None:
    rng = np.random.default_rng(2)
    overhead = 64  # what GROWTH_BYTES is half of
    best = (overhead / (8 * rate)) ** 0.5
    pacing = Pacing(limit=10_000)
    sizes = []
    for _ in range(20_000):
        if rng.random() < (1 - rate) ** (8 * (pacing.size + overhead)):
            pacing.whole(int(pacing.size))
        else:
            pacing.damaged()
        sizes.append(pacing.size)
    assert 0.5 * best < np.mean(sizes[1000:]) < 2 * best


def test_frames_grow_fast_on_a_clean_line_and_no_further_than_they_may() -> None:
    pacing = Pacing(limit=2112)
    for _ in range(4):
        pacing.whole(pacing.items(0, 1))
    assert pacing.size == 2112
    for _ in range(20):
        pacing.damaged()
    assert pacing.size == FLOOR_BYTES and pacing.items(8, 500) == 1
    assert pacing.hopeless(2 * FLOOR_BYTES + 1) and not pacing.hopeless(2 * FLOOR_BYTES)


def test_waits_follow_the_answers() -> None:
    waits = RoundTrips(longest=5.0)
    assert waits.wait(1) == 1.0  # nothing is known
    for _ in range(50):
        waits.took(1, 0.3)
    assert 0.3 < waits.wait(1) < 0.5
    for _ in range(10):
        waits.expired(1)
    assert waits.wait(1) == 5.0 and waits.wait(2) == 1.0
    waits.took(1, 0.3)
    assert waits.wait(1) < 1.0


def test_a_line_that_carries_nothing_is_given_up_with_what_happened(bench: Bench) -> None:
    with (
        Emulator.start(an386(), bench.elf) as emulator,
        LineProxy(lambda: port_of(emulator)) as proxy,
        Device.open(proxy.url, timeout=0.5) as device,
    ):
        proxy.faults = [Faults(bit_errors=0.05), CLEAN]
        with pytest.raises(
            DeviceError, match=r"BEGIN \(11 bytes, sent \d+ times\) in .*frames sent so far, \d+ arrived damaged"
        ):
            for _ in range(1000):
                device.begin()
