"""Hostile lines from the host's side: whatever is answered, the client gives a result or says what is wrong."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deltatrain.errors import DeltatrainError, DeviceError
from deltatrain.key import Key
from deltatrain.link import Device, protocol
from deltatrain.link.frame import Decoder, encode
from deltatrain.link.line import Line
from deltatrain.scale import Scale

HELLO = protocol.constant("DT_CMD_HELLO")
# The answer to a hello as it should be, of a model with 3 inputs, 4 hidden units, 3 outputs.
SOUND: dict[str, Any] = {
    "version": protocol.VERSION,
    "abi_version": protocol.ABI_VERSION,
    "arena_bytes": 4096,
    "counter_hz": 1,
    "max_payload": 256,
    "max_steps": 8,
    "n_layers": 1,
    "n_in": 3,
    "n_hidden": 4,
    "n_outputs": 3,
}
ANSWERS = (
    "drnn_config_t",
    "dt_tensor_reply_t",
    "dt_frames_reply_t",
    "dt_outcome_t",
    "dt_statistics_t",
    "dt_challenge_t",
)


class ScriptedLine(Line):
    """A line at whose other end `answer` decides: a request's body in, bytes of the line out."""

    def __init__(self, answer: Callable[[bytes], bytes]) -> None:
        self.url = "scripted://"
        self._answer = answer
        self._decoder = Decoder()
        self._incoming = b""

    def close(self) -> None:
        pass

    def write(self, data: bytes) -> None:
        for body in self._decoder.push(data):
            self._incoming += self._answer(body)

    def read(self, timeout: float) -> bytes:
        data, self._incoming = self._incoming, b""
        return data

    def reopen(self) -> None:
        pass

    def read_more(self, timeout: float) -> bytes:
        return self.read(timeout)


def reply(request: bytes, status: int, payload: bytes) -> bytes:
    """A frame that answers a request."""
    command, sequence = request[:2]
    return encode(struct.pack("<BBh", command | protocol.REPLY_FLAG, sequence, status) + payload)


def hello_reply(request: bytes, **fields: Any) -> bytes:
    """The payload that answers a hello: SOUND, but for `fields`."""
    nonce = int.from_bytes(request[12:16], "little")
    return protocol.pack("dt_hello_reply_t", **({"nonce": nonce} | SOUND | fields))


def device_with(answer: Callable[[bytes], bytes], key: Key | None = None) -> Device:
    return Device(ScriptedLine(answer), timeout=0.001, retries=1, reopen=0, key=key)


CALLS: dict[str, Callable[[Device], Any]] = {
    "config": lambda d: d.config(),
    "configure": lambda d: d.configure(
        learning_rate=Scale(40000, -20), clip=Scale(40000, -15), theta_x=(1,), theta_h=(1,), seed=1
    ),
    "tensor": lambda d: d.tensor("layer0.weight"),
    "write": lambda d: d.write_tensor(0, np.zeros(4, np.int16)),
    "reset": lambda d: d.reset_weights(),
    "begin": lambda d: d.begin(),
    "push": lambda d: d.push(np.zeros((2, d.info.n_in), np.int16)),
    "push unseen": lambda d: d.push(np.zeros((2, d.info.n_in), np.int16), want_hidden=False),
    "train": lambda d: d.train(0),
    "learn": lambda d: d.learn(),
    "replay": lambda d: d.replay(),
    "infer": lambda d: d.infer(),
    "statistics": lambda d: d.statistics(),
    "unlock": lambda d: d.unlock(Key(bytes(32))),
    "hello": lambda d: d.hello(),
}
STATUS = st.sampled_from([0, 0, 0, 1, 32767, -1, -11, -64, -69, -71, -74, -32768])
SMALL = st.lists(st.sampled_from([0, 1, 2, 3, 4, 8, 255]), max_size=200).map(bytes)
PAYLOADS = st.one_of(
    st.binary(max_size=200), SMALL, st.sampled_from(ANSWERS).map(lambda name: bytes(protocol.size_of(name)))
)


@pytest.mark.parametrize("name", CALLS)
@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(STATUS, PAYLOADS), min_size=1, max_size=4))
def test_any_answer_is_understood_or_told(name: str, answers: list[tuple[int, bytes]]) -> None:
    """Frames that are whole and answer the request; their content is anyone's."""
    told = iter(answers)

    def answer(request: bytes) -> bytes:
        if request[0] == HELLO:
            return reply(request, 0, hello_reply(request))
        status, payload = next(told, answers[-1])
        return reply(request, status, payload)

    device = device_with(answer)
    try:
        CALLS[name](device)
    except DeltatrainError as error:
        assert str(error)


@pytest.mark.parametrize("status", ["DT_ERR_LOCKED", "DT_ERR_SESSION", "DT_ERR_SEQUENCE", "DT_ERR_KEY"])
def test_a_device_that_stays_locked_is_told(status: str) -> None:
    """Whatever it refuses the key with, at the hello or later: the host asks a few times at most."""
    asked: list[int] = []

    def answer(request: bytes) -> bytes:
        asked.append(request[0])
        if request[0] == HELLO:
            return reply(request, 0, hello_reply(request, locks=1))
        return reply(request, protocol.constant(status), b"")

    device = device_with(answer, Key(bytes(32)))
    for call in (device.hello, device.config):
        asked.clear()
        with pytest.raises(DeviceError):
            call()
        assert len(asked) < 10


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from([at for _, at, _ in protocol.layout_of("dt_hello_reply_t")]),
    st.sampled_from([b"\0\0", b"\xff\xff", b"\1\0"]) | st.binary(min_size=1, max_size=8),
    st.sampled_from(sorted(CALLS)),
)
def test_any_hello_is_understood_or_told(at: int, spoilt: bytes, name: str) -> None:
    """A sound answer but for a field; whoever is taken for a device is then asked on, and answers in zeros."""

    def answer(request: bytes) -> bytes:
        payload = bytes(600)
        if request[0] == HELLO:
            sound = hello_reply(request)
            payload = (sound[:at] + spoilt + sound[at + len(spoilt) :])[: len(sound)]
        return reply(request, 0, payload)

    try:
        CALLS[name](device_with(answer))
    except DeltatrainError as error:
        assert str(error)


@pytest.mark.parametrize(
    ("field", "value"),
    [("n_in", 0), ("n_hidden", 0), ("n_outputs", 0), ("n_layers", 4), ("max_steps", 0), ("max_payload", 4)],
)
def test_a_hello_that_cannot_be_is_told(field: str, value: int) -> None:
    with pytest.raises(DeviceError, match=rf"another dialect \({field} is {value}"):
        device_with(lambda request: reply(request, 0, hello_reply(request, **{field: value}))).hello()


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_instead_of_an_answer_are_told(noise: bytes) -> None:
    with pytest.raises(DeviceError):
        device_with(lambda request: noise).hello()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_bytes_before_and_after_an_answer_do_no_harm(data: st.DataObject) -> None:
    """Noise without a frame's CRC, and frames that answer nothing; the answer is then found or asked for again."""
    strangers = st.one_of(st.binary(max_size=40), st.binary(min_size=4, max_size=40).map(encode))

    def answer(request: bytes) -> bytes:
        right = reply(request, 0, hello_reply(request) if request[0] == HELLO else bytes(32))
        return data.draw(strangers) + right + data.draw(strangers)

    try:
        assert device_with(answer).config().seed == 0
    except DeltatrainError as error:
        assert str(error)
