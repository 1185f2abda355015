"""The host's side of the link: a device client against the real server, over lines that lose, bend and double."""

from __future__ import annotations

import os
import random
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from equality import words_of
from numpy.typing import NDArray

from deltatrain.errors import DeviceError, InputError, LinkInterrupted
from deltatrain.link import Device, RefusedError, protocol
from deltatrain.link.exchange import FOREIGN_S
from deltatrain.link.frame import Decoder, encode
from deltatrain.link.line import Line
from deltatrain.quant_model import QuantModel
from deltatrain.scale import Scale
from deltatrain.training import Sample
from deltatrain_core import NO_CLASS, NO_VALUE, CoreNetwork, StepResult

TRAINED = ("layer0.weight", "layer0.bias", "readout.weight", "readout.bias")
LARGER = {"n_in": 16, "n_hidden": 24, "max_steps": 64}
SETTINGS: dict[str, Any] = {
    "learning_rate": Scale.from_float(0.1, "learning rate"),
    "clip": Scale.from_float(1.5, "clip"),
    "theta_x": (100,),
    "theta_h": (800,),
    "seed": 4711,
}
THETAS = ("theta_x", "theta_h")


def settings_of(model: QuantModel) -> dict[str, Any]:
    """SETTINGS with thresholds for each layer, each its own."""
    thresholds = {name: [SETTINGS[name][0] + index for index in range(len(model.layers))] for name in THETAS}
    return SETTINGS | thresholds


@pytest.fixture(autouse=True)
def own_state(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Locks of this test only."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


@pytest.fixture
def device(native_device: Any, tiny_model: QuantModel) -> Iterator[Device]:
    with Device.open(native_device(tiny_model).url) as opened:
        yield opened


def _samples(count: int, model: QuantModel, seed: int = 3) -> list[tuple[NDArray[np.int16], int]]:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, model.max_steps + 1, count)
    labels = rng.integers(0, model.n_outputs, count)
    return [
        (rng.integers(-6000, 6000, (length, model.n_in)).astype(np.int16), int(label))
        for length, label in zip(lengths, labels, strict=True)
    ]


def _targets(model: QuantModel, n_frames: int, label: int) -> NDArray[np.int32] | None:
    """Targets of frames, some of them missing; of every third sample all the same."""
    if model.readout == "last":
        return None
    rng = np.random.default_rng(label)
    shape = (n_frames, model.n_outputs) if model.readout == "regression" else (n_frames,)
    targets = rng.integers(0, model.n_outputs, shape).astype(np.int32)
    if model.readout == "regression":
        targets <<= 15
    if label == 0:
        targets[:] = targets[0]
    else:
        targets[rng.random(n_frames) < 0.3] = NO_VALUE if model.readout == "regression" else NO_CLASS
        targets[-1] = label
    return targets


def _assert_same(device: Device, core: CoreNetwork, names: Sequence[str]) -> None:
    for name in names:
        np.testing.assert_array_equal(device.tensor(name), core.tensor(name), err_msg=name)


# ---- what the commands do


def test_hello_tells_the_model(device: Device, tiny_model: QuantModel) -> None:
    info = device.info
    layer = tiny_model.layers[0]
    assert (info.n_in, info.n_hidden, info.n_outputs) == (layer.n_in, layer.n_hidden, tiny_model.n_outputs)
    assert (info.cell, info.n_layers, info.max_steps) == ("lstm", 1, tiny_model.max_steps)
    assert (info.hash, info.board, info.step) == (tiny_model.hash(), "native", 0)
    assert (info.fault, info.fault_address, info.fresh) == ("none", 0, True)
    assert info.arena_bytes >= CoreNetwork(tiny_model).arena_bytes
    device.check_model(tiny_model.hash())
    assert not device.hello().fresh


def test_another_model_is_refused_with_both_hashes(device: Device, tiny_model: QuantModel) -> None:
    with pytest.raises(DeviceError) as caught:
        device.check_model(bytes(32))
    assert tiny_model.hash().hex() in str(caught.value) and bytes(32).hex() in str(caught.value)


READOUTS = [
    {"readout": "frames"},
    {"readout": "regression", "cells": ("gru", "rnn")},
    LARGER | {"readout": "regression"},
]


@pytest.mark.parametrize(
    "sizes", [{}, LARGER, LARGER | {"cells": ("gru",)}, {"cells": ("lstm", "rnn", "gru")}, *READOUTS]
)
def test_the_device_computes_what_the_core_does(
    native_device: Any, make_integer_model: Callable[..., QuantModel], sizes: dict[str, Any]
) -> None:
    model = make_integer_model(**sizes)
    core = CoreNetwork(model)
    with Device.open(native_device(model).url) as device:
        for engine in (device, core):
            engine.configure(**settings_of(model), beta=Scale.from_float(1e-3, "beta"), step=9)
        assert device.info.readout == model.readout
        for frames, label in _samples(6, model):
            sample = Sample(frames, label, "", _targets(model, len(frames), label))
            results: list[Any] = []
            hidden = []
            for engine in (device, core):
                engine.begin()
                hidden.append(engine.push(frames, targets=sample.targets))
                results.append((engine.infer(), sample.train(engine)))
            np.testing.assert_array_equal(hidden[0], hidden[1])
            for on_device, on_host in zip(*results, strict=True):
                for field in fields(StepResult):
                    assert getattr(on_device, field.name) == getattr(on_host, field.name), field.name
            np.testing.assert_array_equal(results[0][1].logits, core.tensor("logits"))
            _assert_same(device, core, words_of(model))
        assert device.hello().step == device.config().step == 15


def test_without_hidden_states_the_outcome_is_the_same(device: Device, tiny_model: QuantModel) -> None:
    frames, _ = _samples(1, tiny_model)[0]
    device.begin()
    hidden = device.push(frames)
    assert hidden.shape == (len(frames), 4)
    with_hidden = device.infer()
    device.begin()
    device.push(frames, want_hidden=False)
    np.testing.assert_array_equal(device.infer().logits, with_hidden.logits)
    np.testing.assert_array_equal(device.tensor("layer0.hidden"), hidden[-1])


def test_configuration_comes_back(device: Device, tiny_model: QuantModel) -> None:
    config = device.config()
    assert (config.learning_rate, config.clip) == (tiny_model.learning_rate, tiny_model.clip)
    device.configure(**SETTINGS, step=77)
    config = device.config()
    assert {name: getattr(config, name) for name in SETTINGS} == SETTINGS and config.step == 77


def test_tensors_larger_than_a_frame(native_device: Any, make_integer_model: Callable[..., QuantModel]) -> None:
    model = make_integer_model(**LARGER)
    with Device.open(native_device(model).url) as device:
        assert 2 * model.layers[0].weight.size > 3 * device.info.max_payload
        np.testing.assert_array_equal(device.tensor("layer0.weight"), model.layers[0].weight.ravel())
        values = np.arange(-1000, 2840, dtype=np.int16)
        device.set_tensor("layer0.weight", values)
        np.testing.assert_array_equal(device.tensor("layer0.weight"), values)
        device.write_tensor(0, np.array([5, -6]), offset=17)
        np.testing.assert_array_equal(device.read_tensor(0, offset=16, count=4), [-984, 5, -6, -981])
        assert device.read_tensor(0, offset=3, count=0).size == 0
        device.reset_weights()
        np.testing.assert_array_equal(device.tensor("layer0.weight"), model.layers[0].weight.ravel())


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda d: d.push(np.zeros((1, 4), np.int16)), r"int16\[1, 4\]; this device takes int16\[frames, 3\]"),
        (lambda d: d.push(np.zeros((1, 3), np.float64)), "float64"),
        (lambda d: d.push(np.zeros((9, 3), np.int16)), "9 frames, the firmware takes at most 8"),
        (lambda d: d.push(np.full((1, 3), 16384, np.int16)), "16383"),
        (lambda d: d.push(np.full((1, 3), -32768, np.int16)), "16383"),
        (lambda d: d.train(3), "label is 3"),
        (lambda d: d.train(-1), "label is -1"),
        (lambda d: d.tensor("layer9.weight"), "layer9.weight"),
        (lambda d: d.write_tensor(0, np.array([40000])), "40000"),
        (lambda d: d.configure(**{**SETTINGS, "theta_x": (-1,)}), "theta_x is -1"),
        (lambda d: d.configure(**{**SETTINGS, "seed": 2**32}), "seed"),
    ],
)
def test_wrong_input_is_named_before_it_is_sent(device: Device, call: Callable[[Device], Any], words: str) -> None:
    device.begin()
    before = device.statistics().requests
    with pytest.raises(InputError, match=words):
        call(device)
    assert device.statistics().requests - before <= 2  # statistics itself, and perhaps a tensor's size


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda d: d.train(0), "DRNN_ERR_STATE"),
        (lambda d: d.infer(), "DRNN_ERR_STATE"),
        (lambda d: (d.begin(), d.train(0)), "DRNN_ERR_EMPTY"),
        (lambda d: d.set_tensor("layer0.hidden", np.zeros(4, np.int16)), "DRNN_ERR_TENSOR"),
        (lambda d: d.set_tensor("layer0.bias", np.zeros(17, np.int32)), "DRNN_ERR_TENSOR"),
        (lambda d: d.read_tensor(0, 100, 100), "DRNN_ERR_TENSOR"),
        (lambda d: d.read_tensor(1000), "DRNN_ERR_TENSOR"),
        (lambda d: d.configure(**{**SETTINGS, "learning_rate": Scale(1, 0)}), "DRNN_ERR_RANGE"),
        (lambda d: (d.begin(), [d.push(np.zeros((5, 3), np.int16)) for _ in range(2)]), "DRNN_ERR_TOO_LONG"),
    ],
)
def test_what_the_device_refuses_is_told_in_words(device: Device, call: Callable[[Device], Any], name: str) -> None:
    status = protocol.constant(name)
    with pytest.raises(RefusedError) as caught:
        call(device)
    assert caught.value.status == status and protocol.status_text(status) in str(caught.value)
    device.begin()  # the session goes on


def test_what_would_not_fit_a_reply_is_refused(
    native_device: Any, make_integer_model: Callable[..., QuantModel]
) -> None:
    model = make_integer_model(**LARGER)
    too_large = protocol.constant("DT_ERR_REPLY_SIZE")
    with Device.open(native_device(model).url) as device:
        fits = (device.info.max_payload - protocol.size_of("dt_tensor_reply_t")) // 2
        assert len(device._read_part(0, 5, fits)) == 2 * fits
        with pytest.raises(RefusedError) as caught:
            device._read_part(0, 5, fits + 1)
        assert caught.value.status == too_large
        # Frames of 32 bytes, hidden states of 48: more of the former fit.
        device.begin()
        n_frames = (device.info.max_payload - protocol.size_of("dt_frames_reply_t")) // 48 + 1
        head = protocol.pack("dt_frames_t", n_frames=n_frames, want_hidden=1)
        with pytest.raises(RefusedError) as caught:
            device._effect("DT_CMD_FRAMES", head + bytes(32 * n_frames))
        assert caught.value.status == too_large
        assert len(device.push(np.zeros((64, 16), np.int16))) == 64  # none of those was taken; the client splits


# ---- lines that fail


class FaultyLine(Line):
    """A line on which chosen faults happen to whole frames, in both directions.

    `outward()` and `inward()` name what happens to the next frame: "ok", "lose", "bend" (one bit), "spoil" (one
    byte within), "double", "cut" (its end is missing), "noise" (before it), "late" (a reply after the time-out).
    """

    def __init__(self, url: str, outward: Callable[[], str], inward: Callable[[], str]) -> None:
        super().__init__(url)
        self._faults = {"out": outward, "in": inward}
        self._rng = random.Random(1)
        self._incoming = Decoder()
        self._late = b""

    def write(self, data: bytes) -> None:
        super().write(self._spoil(data, "out"))

    def read(self, timeout: float) -> bytes:
        if self._late:
            late, self._late = self._late, b""
            return late
        end = time.monotonic() + timeout
        while not (bodies := self._incoming.push(data := super().read(max(0.0, end - time.monotonic())))):
            if not data:
                return b""
        spoiled = b"".join(self._spoil(encode(body), "in") for body in bodies)
        if not spoiled:
            time.sleep(0.01)
        return spoiled

    def _spoil(self, frame: bytes, direction: str) -> bytes:
        fault = self._faults[direction]()
        if fault == "lose":
            return b""
        if fault == "double":
            return frame + frame
        if fault == "cut":
            return frame[: len(frame) // 2]
        if fault == "noise":
            return self._rng.randbytes(20) + frame
        if fault == "bend":
            at = self._rng.randrange(8 * len(frame))
            bent = bytearray(frame)
            bent[at // 8] ^= 1 << at % 8
            return bytes(bent)
        if fault == "spoil":
            return frame[:5] + bytes([frame[5] ^ 0xFF or 1]) + frame[6:]
        if fault == "late":
            self._late = frame
            return b""
        assert fault == "ok"
        return frame


def _once(fault: str, after: int) -> Callable[[], str]:
    """`fault` happens to frame number `after`, and to no other."""
    left = [after]

    def next_fault() -> str:
        left[0] -= 1
        return fault if left[0] == -1 else "ok"

    return next_fault


def _never() -> str:
    return "ok"


TRAIN_FRAME = 4  # hello, configuration, begin, frames come before


FAULTS = ("lose", "bend", "double", "cut", "noise")


@pytest.mark.parametrize(
    ("fault", "direction"), [*((fault, way) for fault in FAULTS for way in ("out", "in")), ("late", "in")]
)
def test_a_training_step_is_done_once_whatever_happens_to_its_frames(
    native_device: Any, tiny_model: QuantModel, fault: str, direction: str
) -> None:
    frames, label = _samples(1, tiny_model)[0]
    core = CoreNetwork(tiny_model)
    core.configure(**SETTINGS)
    core.begin()
    core.push(frames)
    expected = core.train(label)
    faulty = _once(fault, TRAIN_FRAME)
    line = FaultyLine(
        native_device(tiny_model).url,
        faulty if direction == "out" else _never,
        faulty if direction == "in" else _never,
    )
    with Device(line, timeout=0.3) as device:
        device.hello()
        device.configure(**SETTINGS)
        device.begin()
        device.push(frames, want_hidden=False)
        result = device.train(label)
        assert (result.loss, result.macs_gradient) == (expected.loss, expected.macs_gradient)
        assert device.config().step == 1
        _assert_same(device, core, TRAINED)
        assert device.statistics().samples_trained == 1


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_bad_line_changes_no_word_of_a_run(native_device: Any, tiny_model: QuantModel, seed: int) -> None:
    rng = random.Random(seed)

    def often() -> str:
        return rng.choice(FAULTS) if rng.random() < 0.1 else "ok"

    core = CoreNetwork(tiny_model)
    with Device(FaultyLine(native_device(tiny_model).url, often, often), timeout=0.2, retries=12) as device:
        device.hello()
        for engine in (device, core):
            engine.configure(**SETTINGS)
        for frames, label in _samples(30, tiny_model, seed):
            for engine in (device, core):
                engine.begin()
                engine.push(frames)
                engine.train(label)
        _assert_same(device, core, TRAINED)
        totals = device.statistics()
    assert totals.samples_trained == 30
    assert totals.damaged > 0 and totals.repeated > 0  # the line was bad indeed


@pytest.mark.parametrize("direction", ["out", "in"])
def test_damage_is_mended_without_waiting_for_the_time_out(
    native_device: Any, tiny_model: QuantModel, direction: str
) -> None:
    faulty = _once("spoil", 1)
    ways = (faulty, _never) if direction == "out" else (_never, faulty)
    with Device(FaultyLine(native_device(tiny_model).url, *ways), timeout=30) as device:
        device.hello()
        started = time.monotonic()
        device.begin()
        assert time.monotonic() - started < 5
        totals = device.statistics()
    assert (totals.damaged, totals.repeated) == ((1, 0) if direction == "out" else (0, 1))


def test_retries_are_bounded(native_device: Any, tiny_model: QuantModel) -> None:
    line = FaultyLine(native_device(tiny_model).url, lambda: "lose", _never)
    with Device(line, timeout=0.1, retries=2) as device:
        started = time.monotonic()
        with pytest.raises(DeviceError, match=r"HELLO \(23 bytes, sent 3 times\) in 0\.[3-9] s"):
            device.hello()
        assert time.monotonic() - started < 1.0


def test_a_device_that_knows_another_session_gets_a_new_one(native_device: Any, tiny_model: QuantModel) -> None:
    with Device.open(native_device(tiny_model).url) as device:
        device._nonce ^= 1  # as if the device had never heard of this session
        with pytest.raises(LinkInterrupted, match="another program opened a session") as caught:
            device.begin()
        assert (caught.value.restarted, caught.value.step) == (False, 0)
        device.begin()


# ---- ports without a device


@contextmanager
def _server(serve: Callable[[socket.socket], None]) -> Iterator[str]:
    """A TCP server of one connection, handled by `serve` in a thread; its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def run() -> None:
            connection, _ = listener.accept()
            with connection:
                serve(connection)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        yield f"socket://127.0.0.1:{listener.getsockname()[1]}"
        thread.join(10)
        assert not thread.is_alive()


def test_a_silent_port_is_told_with_what_to_do() -> None:
    def serve(connection: socket.socket) -> None:
        while connection.recv(1000):
            pass

    with _server(serve) as url:
        started = time.monotonic()
        with pytest.raises(DeviceError) as caught:
            Device.open(url, timeout=0.2, retries=1)
        assert time.monotonic() - started < 2
    assert re.search(r"in (0\.[4-9]|1\.\d) s", str(caught.value))
    for words in ("no valid answer to HELLO", "sent 2 times", url, "deltatrain stop"):
        assert words in str(caught.value)


def test_a_chattering_port_is_given_up() -> None:
    def serve(connection: socket.socket) -> None:
        rng = random.Random(5)
        try:
            while True:
                connection.sendall(rng.randbytes(500))
                time.sleep(0.002)
        except OSError:
            pass

    with _server(serve) as url:
        started = time.monotonic()
        with pytest.raises(DeviceError, match="damaged frames"):
            Device.open(url, timeout=0.2, retries=2)
        assert time.monotonic() - started < FOREIGN_S + 2


def test_a_connection_that_ends_is_told_at_once() -> None:
    with _server(lambda connection: None) as url:
        started = time.monotonic()
        with pytest.raises(DeviceError, match="is lost"):
            Device.open(url, timeout=30)
        assert time.monotonic() - started < 2


def test_a_device_that_dies_is_told_at_once(native_device: Any, tiny_model: QuantModel) -> None:
    native = native_device(tiny_model)
    with Device.open(native.url, timeout=30, reopen=0.5) as device:
        native.process.kill()
        started = time.monotonic()
        with pytest.raises(DeviceError, match=r"is lost .* could not be opened again for 0\.5 s"):
            for _ in range(3):
                device.begin()
        assert time.monotonic() - started < 2


def test_a_line_that_echoes_is_no_device() -> None:
    with pytest.raises(DeviceError, match="no valid answer"):
        Device.open("loop://", timeout=0.05)


@pytest.mark.parametrize("url", ["socket://127.0.0.1:1", "/dev/ttyNOWHERE", "nonsense://x", "socket://", "socket://a"])
def test_a_port_that_is_not_there(url: str) -> None:
    with pytest.raises(DeviceError, match="cannot open") as caught:
        Device.open(url)
    assert url in str(caught.value) and "deltatrain boards" in str(caught.value)


def test_a_busy_port_is_told_with_its_holder(native_device: Any, tiny_model: QuantModel) -> None:
    url = native_device(tiny_model).url
    with Device.open(url) as device:
        started = time.monotonic()
        with pytest.raises(DeviceError, match=f"busy: process {os.getpid()}"):
            Device.open(url)
        assert time.monotonic() - started < 1
        device.begin()
    with Device.open(url) as device:
        device.begin()


# ---- a tty


@contextmanager
def _tty(port: int) -> Iterator[str]:
    """A pseudo-terminal joined to a TCP port."""
    ours, theirs = os.openpty()
    connection = socket.create_connection(("127.0.0.1", port))

    def pump(read: Callable[[], bytes], write: Callable[[bytes], object]) -> None:
        try:
            while data := read():
                write(data)
        except OSError:
            pass

    threads = [
        threading.Thread(target=pump, args=args, daemon=True)
        for args in (
            (lambda: os.read(ours, 4096), connection.sendall),
            (lambda: connection.recv(4096), lambda data: os.write(ours, data)),
        )
    ]
    for thread in threads:
        thread.start()
    try:
        yield os.ttyname(theirs)
    finally:
        connection.shutdown(socket.SHUT_RDWR)
        connection.close()
        os.close(theirs)
        os.close(ours)


def test_a_tty_carries_every_byte(native_device: Any, make_integer_model: Callable[..., QuantModel]) -> None:
    model = make_integer_model(**LARGER)
    values = np.random.default_rng(0).integers(-32768, 32768, model.layers[0].weight.size).astype(np.int16)
    with _tty(native_device(model).port) as path, Device.open(path) as device:
        device.set_tensor("layer0.weight", values)
        np.testing.assert_array_equal(device.tensor("layer0.weight"), values)
        with pytest.raises(DeviceError, match="busy"):
            Device.open(path)
