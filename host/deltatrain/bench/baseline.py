"""The float32 network of firmware/deltatrain_firmware/baseline, on a board, and what it should compute."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from cffi import FFI
from numpy.typing import NDArray

import deltatrain_firmware
from deltatrain.bench.cases import LABEL, Case
from deltatrain.errors import CheckFailed, DeviceError
from deltatrain.link import protocol
from deltatrain.link.frame import Decoder, encode
from deltatrain.link.line import Line
from deltatrain.model import FloatModel
from deltatrain.quantize import dequantize
from deltatrain.reference import Network
from deltatrain.targets import Counter

Float32 = NDArray[np.float32]

LOSS_TOLERANCE = 1e-3
PART_BYTES = 256

_ffi: Final = FFI()
_ffi.cdef(protocol.declarations(deltatrain_firmware.baseline() / "baseline_link.h"))


def float_model(case: Case) -> FloatModel:
    """A case's network in real numbers that float32 holds, dense."""
    model = dequantize(case.model).with_thresholds(0.0, 0.0)
    return model.with_tensors(
        {name: value.astype(np.float32).astype(np.float64) for name, value in model.tensors().items()}
    )


def check_loss(case: Case, network: Network, loss: float) -> None:
    """CheckFailed unless the loss is that of the dense reference, to float32's accuracy."""
    expected = network.loss(network.forward(case.inputs)[0], LABEL)[0]
    if not abs(loss - expected) <= LOSS_TOLERANCE * max(1.0, expected):
        raise CheckFailed(
            f"the float32 network's loss is {loss:.6f}, the reference's {expected:.6f}: it computes something else"
        )


@dataclass(frozen=True)
class Trained:
    """`baseline_trained_t`: what a training step took, and the loss before it."""

    counter: Counter
    ticks: int
    loss: float
    stack_high_water: int


class BaselineDevice:
    """The baseline's firmware for a board of this name behind a serial line; close it after use.

    DeviceError where it does not answer, or refuses.
    """

    def __init__(self, url: str, timeout: float, board: str) -> None:
        self._line, self._decoder, self._timeout = Line(url), Decoder(), timeout
        self._board = board
        self._sequence = 0

    def __enter__(self) -> BaselineDevice:
        return self

    def __exit__(self, *_: object) -> None:
        self._line.close()

    def send(self, x: Float32) -> None:
        """Give it the sample x (steps, n_in)."""
        data = np.ascontiguousarray(x, np.float32).tobytes()
        for first in range(0, len(data), PART_BYTES):
            head = self._pack("baseline_input_t", offset=first // 4)
            self._exchange("BASELINE_INPUT", head + data[first : first + PART_BYTES])

    def train(self, steps: int, label: int, rate: float, clip: float) -> Trained:
        """One step from the initial parameters on the sample that was sent."""
        order = self._pack("baseline_train_t", steps=steps, label=label, rate=rate, clip=clip)
        answer = self._exchange("BASELINE_TRAIN", order)
        raw: Any = _ffi.new("baseline_trained_t *")
        _ffi.memmove(raw, answer, _ffi.sizeof("baseline_trained_t"))
        kind = protocol.COUNTERS.get(raw.counter, f"counter {raw.counter}")
        counter = Counter.of(self._board, kind, int(raw.counter_hz))
        return Trained(counter, int(raw.ticks), float(raw.loss), int(raw.stack_high_water))

    def parameters(self, count: int) -> Float32:
        """All parameters as they are now, in the order of float_naive.h."""
        parts = []
        for first in range(0, count, PART_BYTES // 4):
            part = self._pack("baseline_read_t", offset=first, count=min(PART_BYTES // 4, count - first))
            parts.append(self._exchange("BASELINE_READ", part))
        return np.frombuffer(b"".join(parts), np.float32)

    def _pack(self, struct: str, **values: Any) -> bytes:
        return bytes(_ffi.buffer(_ffi.new(f"{struct} *", values)))

    def _exchange(self, command: str, payload: bytes) -> bytes:
        number = int(_ffi.typeof("enum baseline_command").relements[command])
        self._sequence = (self._sequence + 1) & 0xFF
        head = protocol.pack("dt_request_t", command=number, sequence=self._sequence)
        self._line.write(encode(head + payload))
        deadline = time.monotonic() + self._timeout
        while (left := deadline - time.monotonic()) > 0:
            for body in self._decoder.push(self._line.read(left)):
                reply = protocol.unpack("dt_reply_t", body)
                if (reply.command, reply.sequence) == (number | protocol.REPLY_FLAG, self._sequence):
                    if reply.status < 0:
                        raise DeviceError(f"the baseline refused {command}: {protocol.status_text(reply.status)}")
                    return body[protocol.HEADER_BYTES :]
        raise DeviceError(f"the baseline gave no answer to {command} for {self._timeout:g} s")
