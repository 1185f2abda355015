"""Stored exemplars: recordings of old speakers in a few bytes each, as the device keeps them in flash.

A delta network reads a change of its inputs only where it reaches the threshold, so only that is kept: for each frame
a mask of the inputs that changed, and their new values in 8 bits. What is decoded gives the same events again.
NUMERICS.md, "Replay".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Int16 = NDArray[np.int16]

VALUE_SHIFT = 7  # inputs have 14 bits beside the sign, stored values 7
VALUE_MAX = 2**7 - 1
ENTRY_BYTES = 4 + 2 + 1  # of an exemplar beside its events: where they start, frames, class
TARGET_ONE = 2**16
MAX_EXEMPLARS = 2**16 - 1
_DTYPES = {"events": np.uint8, "starts": np.uint32, "n_steps": np.uint16, "labels": np.uint8}


@dataclass(frozen=True)
class Exemplars:
    """The store of a model; the C core's `drnn_replay_t`.

    Attributes
    ----------
    n_in : int
        Values of a frame.
    events : ndarray, uint8
        Frame after frame: ceil(n_in / 8) bytes of mask, input j in bit j % 8 of byte j // 8, then an int8 for each
        input in it, ascending: its value >> VALUE_SHIFT, rounded.
    starts : ndarray, shape (n,), uint32
        Where each exemplar begins in `events`.
    n_steps : ndarray, shape (n,), uint16
        Its frames.
    labels : ndarray, shape (n,), uint8
    names : tuple of n str
        `Sample.name` of each.
    """

    n_in: int
    events: NDArray[np.uint8]
    starts: NDArray[np.uint32]
    n_steps: NDArray[np.uint16]
    labels: NDArray[np.uint8]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def n_bytes(self) -> int:
        """Flash that the store takes."""
        return int(self.events.size) + ENTRY_BYTES * len(self)

    def tensors(self) -> dict[str, NDArray[Any]]:
        """By their names in a model's file."""
        return {f"replay.{name}": getattr(self, name) for name in _DTYPES}

    @staticmethod
    def of(n_in: int, tensors: Mapping[str, NDArray[Any]], names: Sequence[str]) -> Exemplars:
        """The store that `tensors` gave; KeyError where one is missing."""
        return Exemplars(n_in=n_in, names=tuple(names), **{name: tensors[f"replay.{name}"] for name in _DTYPES})

    def fault(self, max_steps: int, n_outputs: int) -> str | None:
        """What about the store cannot be used by a model of these sizes; None when all can."""
        for name, dtype in _DTYPES.items():
            tensor = getattr(self, name)
            if tensor.dtype != dtype or tensor.ndim != 1:
                return f"{name} are {tensor.dtype}{list(tensor.shape)}"
        if not 1 <= len(self) <= MAX_EXEMPLARS or {len(self.starts), len(self.n_steps), len(self.names)} != {len(self)}:
            return (
                f"{len(self)} labels, {len(self.starts)} starts, {len(self.n_steps)} lengths, {len(self.names)} names"
            )
        if self.n_steps.min() < 1 or self.n_steps.max() > max_steps:
            return f"lengths of {self.n_steps.min()} to {self.n_steps.max()} frames"
        if self.labels.max() >= n_outputs:
            return f"class {self.labels.max()}"
        for number, start in enumerate(self.starts):
            events = self.events[int(start) :]
            used = _size(events, int(self.n_steps[number]), self.n_in)
            if used is None or used > len(events):
                return f"exemplar {number} does not end in its events"
        return None

    def frames(self, number: int) -> Int16:
        """(T, n_in) int16 in the model's input format."""
        return decode(self.events[int(self.starts[number]) :], int(self.n_steps[number]), self.n_in)

    def targets(self, number: int, readout: str, n_outputs: int) -> NDArray[np.int32] | None:
        """What its frames are trained on: the class (T,), or one at its output (T, n_outputs) Q16; None for `last`."""
        n_steps, label = int(self.n_steps[number]), int(self.labels[number])
        if readout == "frames":
            return np.full(n_steps, label, np.int32)
        if readout == "regression":
            return np.repeat(TARGET_ONE * np.eye(n_outputs, dtype=np.int32)[label : label + 1], n_steps, axis=0)
        return None


def coarse(frames: Int16) -> NDArray[np.int64]:
    """Values in units of 2^VALUE_SHIFT, within int8."""
    return np.clip(np.rint(frames / 2.0**VALUE_SHIFT), -VALUE_MAX, VALUE_MAX).astype(np.int64)


def encode(frames: Int16, theta_x: int) -> bytes:
    """The events of a recording.

    Parameters
    ----------
    frames : ndarray, shape (T, n_in), int16
        In the model's input format.
    theta_x : int
        The first layer's threshold, in the same format: changes below it are left out.
    """
    sent = np.zeros(frames.shape[1], np.int64)
    out = bytearray()
    for frame in coarse(frames):
        change = (frame - sent) << VALUE_SHIFT
        active = (abs(change) >= theta_x) & (change != 0)
        sent = np.where(active, frame, sent)
        out += np.packbits(active, bitorder="little").tobytes() + frame[active].astype(np.int8).tobytes()
    return bytes(out)


def decode(events: NDArray[np.uint8], n_steps: int, n_in: int) -> Int16:
    """(n_steps, n_in) int16: the inputs as last sent, frame by frame."""
    mask_bytes = (n_in + 7) // 8
    frames = np.empty((n_steps, n_in), np.int16)
    last, at = np.zeros(n_in, np.int16), 0
    for frame in frames:
        active = np.unpackbits(events[at : at + mask_bytes], count=n_in, bitorder="little").astype(bool)
        at += mask_bytes
        n_active = int(active.sum())
        last[active] = events[at : at + n_active].view(np.int8).astype(np.int16) << VALUE_SHIFT
        at += n_active
        frame[:] = last
    return frames


def _size(events: NDArray[np.uint8], n_steps: int, n_in: int) -> int | None:
    """Bytes of an exemplar that begins here; None where a mask is cut off, or has bits or values that no input has."""
    mask_bytes, at = (n_in + 7) // 8, 0
    for _ in range(n_steps):
        mask = events[at : at + mask_bytes]
        bits = np.unpackbits(mask, bitorder="little")
        n_active = int(bits.sum())
        values = events[at + mask_bytes : at + mask_bytes + n_active].view(np.int8)
        if len(mask) < mask_bytes or bits[n_in:].any() or (values < -VALUE_MAX).any():
            return None
        at += mask_bytes + n_active
    return at


def store(n_in: int, encoded: Sequence[tuple[bytes, int, int, str]]) -> Exemplars:
    """Exemplars from their events, frames, classes and names."""
    events, n_steps, labels, names = zip(*encoded, strict=True) if encoded else ((), (), (), ())
    sizes = [len(part) for part in events]
    return Exemplars(
        n_in=n_in,
        events=np.frombuffer(b"".join(events), np.uint8),
        starts=np.concatenate([[0], np.cumsum(sizes[:-1])]).astype(np.uint32)[: len(sizes)],
        n_steps=np.array(n_steps, np.uint16),
        labels=np.array(labels, np.uint8),
        names=names,
    )
