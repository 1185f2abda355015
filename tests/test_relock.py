"""A device that locks itself within a session, or restarts: the client that has the key goes on, each step once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from line_proxy import LineProxy
from test_lock import KEY, QUICKLY, number_of
from test_protocol import STATUS

from deltatrain.key import Lock
from deltatrain.link import Device, RefusedError, protocol
from deltatrain.link.exchange import FrameTooLong, Reply
from deltatrain.link.frame import encode
from deltatrain.quant_model import QuantModel
from deltatrain.recovery import train_from
from deltatrain.training import Sample, Settings
from deltatrain_core import CoreNetwork

UNLOCKING = CHALLENGE, UNLOCK = [protocol.constant(f"DT_CMD_{name}") for name in ("CHALLENGE", "UNLOCK")]
FRAMES = np.random.default_rng(8).integers(-9000, 9000, (9, 3)).astype(np.int16)


def lock_before(device: Device, chosen: Callable[[int, list[int]], bool]) -> list[int]:
    """Have the device lock itself before chosen requests, by command and those asked before, which are returned.

    As the late frames of a host that left do: each names a session that is over, and so many of them lock the device.
    """
    ask = device._link.ask
    asked: list[int] = []
    foreign = device._nonce & 0xFFFF ^ 1
    head = protocol.pack("dt_request_t", command=protocol.constant("DT_CMD_STATISTICS"), sequence=200, session=foreign)

    def ask_locked(command: int, *rest: Any, **options: Any) -> Reply:
        if chosen(command, asked):
            device._line.write(number_of("DT_FOREIGN_REQUESTS") * encode(head))
        asked.append(command)
        return ask(command, *rest, **options)

    device._link.ask = ask_locked  # type: ignore[method-assign]
    return asked


def unlocked(command: int, asked: list[int]) -> bool:
    """Any command but those that unlock, and the one that was refused, when it is asked again."""
    return command not in UNLOCKING and asked[-1:] != [UNLOCK]


def test_a_device_that_locked_itself_is_unlocked_and_asked_again(native_device: Any, tiny_model: QuantModel) -> None:
    """Before each command, also in the middle of a sample and of a tensor: no word differs from the host's core."""
    core, settings = CoreNetwork(tiny_model), Settings.of(tiny_model, seed=9)
    weights = np.arange(tiny_model.layers[0].weight.size, dtype=np.int16) * 20
    with Device.open(native_device(tiny_model, lock=Lock(KEY, inference=True)).url, key=KEY) as device:
        asked = lock_before(device, unlocked)
        session = device.info
        for engine in (device, core):
            settings.apply(engine)
            engine.set_tensor("layer0.weight", weights)
            engine.begin()
        for frames in (FRAMES[:3], FRAMES[3:7]):
            np.testing.assert_array_equal(device.push(frames), core.push(frames))
        assert device.infer().loss == core.infer().loss
        assert device.train(1).loss == core.train(1).loss
        for name in tiny_model.tensors():
            np.testing.assert_array_equal(device.tensor(name), core.tensor(name), err_msg=name)
        assert device.config().step == 1 and device.statistics().samples_trained == 1
        assert device.info is session, "nobody need begin anything again"
    assert asked.count(UNLOCK) > 10


def test_a_device_that_locks_itself_at_once_is_not_unlocked_for_ever(
    native_device: Any, tiny_model: QuantModel
) -> None:
    with Device.open(native_device(tiny_model, QUICKLY, Lock(KEY)).url, key=KEY) as device:
        asked = lock_before(device, lambda command, _: command not in UNLOCKING)
        with pytest.raises(RefusedError, match=r"refused GET_CONFIG: .*locked"):
            device.config()
    get_config = protocol.constant("DT_CMD_GET_CONFIG")
    assert asked == [get_config, CHALLENGE, UNLOCK, get_config]


def test_words_refused_by_an_answer_that_was_lost_are_written_again(native_device: Any, tiny_model: QuantModel) -> None:
    """A long request is refused as locked and its answer lost; the shorter one after it has a number already used."""
    weights = np.arange(tiny_model.layers[0].weight.size, dtype=np.int16)
    with Device.open(native_device(tiny_model, QUICKLY, Lock(KEY)).url, key=KEY) as device:
        write = protocol.constant("DT_CMD_WRITE_TENSOR")
        device.read_tensor(0)
        asked = lock_before(device, lambda command, asked: command == write and write not in asked)
        ask = device._link.ask

        def lose_first(command: int, *rest: Any, **options: Any) -> Reply:
            first = command == write and write not in asked
            reply = ask(command, *rest, **options)
            if first:
                assert reply.status == STATUS["DT_ERR_LOCKED"]
                device._link.outward.size = 48
                raise FrameTooLong
            return reply

        device._link.ask = lose_first  # type: ignore[method-assign]
        device.set_tensor("layer0.weight", weights)
        np.testing.assert_array_equal(device.tensor("layer0.weight"), weights)


@pytest.mark.parametrize("what", ["locks itself", "restarts"])
def test_each_sample_is_trained_once_though_the_device_is_locked_meanwhile(
    native_device: Any, tiny_model: QuantModel, what: str
) -> None:
    """By itself the training goes on as if nothing had happened; after a restart, from the model in flash."""
    settings, core = Settings.of(tiny_model, seed=9), CoreNetwork(tiny_model)
    samples = [Sample(FRAMES[: 3 + number % 5], number % 3, str(number)) for number in range(8)]
    running = [native_device(tiny_model, QUICKLY, Lock(KEY, inference=True))]
    positions: list[int] = []

    def sample_at(position: int) -> Sample:
        if what == "restarts" and position == 5 and len(running) == 1:
            running[0].process.kill()
            running.append(native_device(tiny_model, QUICKLY, Lock(KEY, inference=True)))
        return samples[position]

    with LineProxy(lambda: running[-1].port) as proxy, Device.open(proxy.url, key=KEY) as device:
        if what == "locks itself":
            lock_before(device, lambda command, asked: unlocked(command, asked) and len(asked) % 3 == 0)
        for engine in (device, core):
            settings.apply(engine)
        for done in train_from(device, settings, sample_at, 0, len(samples)):
            positions.append(done.position)
        for sample in samples:
            sample.train_whole(core)
        for name in tiny_model.tensors():
            np.testing.assert_array_equal(device.tensor(name), core.tensor(name), err_msg=name)
        assert device.statistics().samples_trained == len(samples)
    assert positions == [*range(5 if what == "restarts" else 0), *range(8)]
