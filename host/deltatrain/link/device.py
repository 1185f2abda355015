"""The device at the other end of a serial line: one method for each of its commands."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from deltatrain.errors import DeviceError, InputError
from deltatrain.key import Key
from deltatrain.link import protocol
from deltatrain.link.exchange import FrameTooLong
from deltatrain.link.line import Line
from deltatrain.link.results import Committed, Config, DeviceResult, Hello, Statistics
from deltatrain.link.sample import Frames, checked
from deltatrain.link.session import DEFAULT_REOPEN_S, DEFAULT_RETRIES, DEFAULT_TIMEOUT_S, LinkSession
from deltatrain.scale import Scale
from deltatrain.targets import Store, find_board
from deltatrain.targets.counter import INSTRUCTIONS, Counter
from deltatrain_core import StepResult
from deltatrain_core.network import TENSOR_IDS

Int16 = NDArray[np.int16]
Int32 = NDArray[np.int32]
Progress = Callable[[int, int], None]

_ITEM_TYPES: dict[int, np.dtype[Any]] = {2: np.dtype("<i2"), 4: np.dtype("<i4")}
_MAX_BEGUN_AGAIN = 50


class _Uncertain(Exception):
    """The device took one of the parts sent under the last number, it is not known which; never leaves `Device`."""


class Device(LinkSession):
    """A session with a device that runs deltatrain's firmware; see `LinkSession`."""

    def __init__(
        self,
        line: Line,
        timeout: float = DEFAULT_TIMEOUT_S,
        retries: int = DEFAULT_RETRIES,
        reopen: float = DEFAULT_REOPEN_S,
        key: Key | None = None,
    ) -> None:
        super().__init__(line, timeout, retries, reopen, key)
        self._items: dict[int, tuple[int, np.dtype[Any]]] = {}
        self._sample: list[Frames] = []  # what the device has of the sample under way
        self._begun_again = 0
        self._flash: Store | None = None  # where the board is a known one

    def _opened(self, hello: Hello) -> None:
        self._items.clear()
        self._sample.clear()
        board = find_board(hello.board)
        self._flash = None if board is None else board.store

    @property
    def counter(self) -> Counter:
        """What the device's ticks are."""
        return Counter.of(self.info.board, self.info.counter, self.info.counter_hz)

    def check_model(self, expected: bytes) -> None:
        """DeviceError, with both hashes, unless the firmware holds the model of this SHA-256."""
        if self.info.hash != expected:
            raise DeviceError(
                f"the firmware at {self._line.url} holds another model: its hash is {self.info.hash.hex()}, "
                f"that of the model given is {expected.hex()}; export and flash this one, or name the other"
            )

    # ---- configuration

    def config(self) -> Config:
        """The configuration in use."""
        return self._config(self._query("DT_CMD_GET_CONFIG"))

    def configure(
        self,
        *,
        learning_rate: Scale,
        clip: Scale,
        theta_x: Sequence[int],
        theta_h: Sequence[int],
        seed: int,
        beta: Scale | None = None,
        step: int = 0,
    ) -> None:
        """Set what may change at run time; drops an unfinished sample.

        theta_x and theta_h are integers, one for each layer, in the format of its x and of h (Q1.14); no `beta` is 0;
        `step` is the number of the next training step, part of stochastic rounding.
        """
        request = protocol.pack(
            "drnn_config_t",
            learning_rate=(learning_rate.m, learning_rate.e),
            clip=(clip.m, clip.e),
            beta=(0, 0) if beta is None else (beta.m, beta.e),
            theta_x=self._thresholds("theta_x", theta_x),
            theta_h=self._thresholds("theta_h", theta_h),
            seed=_in_range("seed", seed, 0, 2**32 - 1),
            step=_in_range("step", step, 0, 2**32 - 1),
        )
        self._effect("DT_CMD_SET_CONFIG", request)

    def _thresholds(self, name: str, values: Sequence[int]) -> list[int]:
        if len(values) != self.info.n_layers:
            raise InputError(f"{name} has {len(values)} values; the device's model has {self.info.n_layers} layers")
        return [_in_range(name, value, 0, 2**15 - 1) for value in values]

    # ---- tensors

    def tensor(self, name: str) -> NDArray[Any]:
        """A tensor read from the device, flat, int16 or int32; names as in `deltatrain_core.TENSOR_IDS`."""
        return self.read_tensor(_tensor_id(name))

    def set_tensor(self, name: str, values: NDArray[Any]) -> None:
        """Overwrite a trained tensor; drops an unfinished sample."""
        self.write_tensor(_tensor_id(name), values)

    def read_tensor(self, tensor: int, offset: int = 0, count: int | None = None) -> NDArray[Any]:
        """`count` elements of a tensor (enum drnn_tensor_id) from `offset` on; to its end when None."""
        total, item = self._size_of_tensor(tensor)
        first, end = offset, total if count is None else offset + count
        parts: list[bytes] = []
        while offset < end:
            at_once = self._link.inward.items(protocol.size_of("dt_tensor_reply_t"), item.itemsize)
            count = min(at_once, end - offset)
            with contextlib.suppress(FrameTooLong):
                parts.append(
                    self._read_part(tensor, offset, count, cut_reply=count * item.itemsize if count > 1 else 0)
                )
                offset += count
        data = b"".join(parts)
        if len(data) != item.itemsize * max(0, end - first):
            raise DeviceError(f"{self._line.url} sent {len(data)} bytes of tensor {tensor}; export and flash again")
        return np.frombuffer(data, item).astype(item.newbyteorder("="))

    def write_tensor(self, tensor: int, values: NDArray[Any], offset: int = 0) -> None:
        """Overwrite elements of a trained tensor from element `offset` on; drops an unfinished sample.

        InputError when a value does not fit the tensor's elements.
        """
        _, item = self._size_of_tensor(tensor)
        flat = np.ravel(values)
        limits = np.iinfo(item)
        if flat.size and (int(flat.min()) < limits.min or int(flat.max()) > limits.max):
            raise InputError(
                f"tensor {tensor} is {8 * item.itemsize} bits wide; values from {flat.min()} to {flat.max()} do not fit"
            )
        data = flat.astype(item)

        def payload(count: int) -> bytes:
            head = protocol.pack("dt_tensor_t", tensor=tensor, offset=offset + done, count=count)
            return head + data[done : done + count].tobytes()

        def at_once() -> int:
            return self._link.outward.items(protocol.size_of("dt_tensor_t"), item.itemsize)

        done = 0
        while done < data.size:
            count, reply = self._part("DT_CMD_WRITE_TENSOR", data.size - done, at_once, payload)
            if reply is not None:  # else they may have been refused; the same again does no harm
                done += count

    def reset_weights(self) -> None:
        """Go back to the weights of the model in the firmware; drops an unfinished sample."""
        self._effect("DT_CMD_RESET_WEIGHTS")

    # ---- non-volatile memory

    def commit(self) -> Committed:
        """Keep weights, configuration and step over a loss of power: until the next commit, the device starts there.

        DeviceError when the firmware has no store; RefusedError when writing failed: the commit before is still whole.
        """
        self._need_store()
        takes = 0.0 if self._flash is None else self._flash.commit_s
        raw = self._unpack("dt_commit_reply_t", self._effect("DT_CMD_COMMIT", takes=takes))
        return Committed(**{field.name: int(getattr(raw, field.name)) for field in fields(Committed)})

    def forget(self) -> None:
        """Erase all commits: from its next restart on, the device starts from the model in its firmware."""
        self._need_store()
        self._effect("DT_CMD_FORGET", takes=0.0 if self._flash is None else self._flash.forget_s)

    def _need_store(self) -> None:
        if self.info.store == "none":
            raise DeviceError(
                f"the firmware at {self._line.url} has no non-volatile store; "
                "build one by `deltatrain export --store`, for a board that has the memory"
            )

    # ---- samples

    def begin(self) -> None:
        """Start a sample."""
        self._sample.clear()
        self._begun_again = 0
        self._effect("DT_CMD_BEGIN")

    @overload
    def push(self, frames: Int16, want_hidden: Literal[True] = True, targets: Int32 | None = None) -> Int16: ...
    @overload
    def push(self, frames: Int16, want_hidden: Literal[False], targets: Int32 | None = None) -> None: ...

    def push(self, frames: Int16, want_hidden: bool = True, targets: Int32 | None = None) -> Int16 | None:
        """Frames of the sample, with the targets of readouts at every frame.

        Parameters
        ----------
        frames : ndarray, shape (k, n_in), int16, in the layer's input format
        want_hidden : bool
            Without the hidden states, the line carries much less.
        targets : ndarray, int32, optional
            Classes, shape (k,), NO_CLASS where a frame has none; or values, shape (k, n_outputs), Q16, NO_VALUE there.
            Where all are equal, the line carries one.

        Returns
        -------
        ndarray, shape (k, n_hidden), int16, Q1.14: h_t after each frame; or None
        """
        hidden = self._push(checked(self.info, frames, targets), want_hidden)
        if not want_hidden:
            return None
        return np.concatenate(hidden) if hidden else np.empty((0, self.info.n_hidden), np.int16)

    def _push(self, frames: Frames, want_hidden: bool) -> list[Int16]:
        """Send frames in parts as long as the line bears; the hidden states of each part."""
        hidden: list[Int16] = []
        while len(frames):
            try:
                count, states = self._push_part(frames, want_hidden)
            except _Uncertain:
                self._begin_again()
                continue
            if want_hidden:
                hidden.append(states)
            self._sample.append(frames[:count])
            frames = frames[count:]
        return hidden

    def _push_part(self, frames: Frames, want_hidden: bool) -> tuple[int, Int16]:
        """Send the first of some frames: how many the device took, and their hidden states."""
        hidden_bytes = 2 * self.info.n_hidden if want_hidden else 0

        def at_once() -> int:
            count = self._link.outward.items(frames.head_bytes, frames.frame_bytes)
            if want_hidden:
                count = min(count, self._link.inward.items(protocol.size_of("dt_frames_reply_t"), hidden_bytes))
            return count

        _, reply = self._part(
            "DT_CMD_FRAMES", len(frames), at_once, lambda count: frames[:count].packed(want_hidden), hidden_bytes
        )
        if reply is None:
            raise _Uncertain
        # An answer to a longer part, sent before under the same number, tells that one's frames.
        before = sum(len(part) for part in self._sample)
        count = int(self._unpack("dt_frames_reply_t", reply).n_steps) - before
        if not 1 <= count <= len(frames):
            raise DeviceError(f"{self._line.url} counts {count + before} frames of {before + len(frames)}; flash again")
        states = reply[protocol.size_of("dt_frames_reply_t") :]
        shape = (count, self.info.n_hidden) if want_hidden else (0, self.info.n_hidden)
        return count, self._values(states, "<i2", shape).astype(np.int16)

    def _begin_again(self) -> None:
        """Bring the sample under way to where it was: it is not known which of its frames the device took last."""
        self._begun_again += 1
        if self._begun_again > _MAX_BEGUN_AGAIN:
            raise DeviceError(
                f"{self._line.url}: a sample was begun {_MAX_BEGUN_AGAIN} times, and each time answers to its frames "
                "were lost; the line is too bad"
            )
        taken = self._sample.copy()
        self._sample.clear()
        self._effect("DT_CMD_BEGIN")
        for frames in taken:
            self._push(frames, want_hidden=False)

    def train(self, label: int) -> DeviceResult:
        """End the sample by one training step; InputError when the label is none of the model's classes."""
        if not 0 <= label < self.info.n_outputs:
            raise InputError(f"the label is {label}; this device's model has classes 0 to {self.info.n_outputs - 1}")
        return self._result(self._effect("DT_CMD_TRAIN", protocol.pack("dt_train_t", label=label)))

    def learn(self) -> DeviceResult:
        """End the sample by one training step on the targets that its frames were given."""
        return self._result(self._effect("DT_CMD_LEARN"))

    def replay(self) -> DeviceResult:
        """One training step on the stored exemplar whose turn it is; drops an unfinished sample."""
        return self._result(self._effect("DT_CMD_REPLAY"))

    def infer(self) -> DeviceResult:
        """Outputs at the last frame, and the loss over the targets so far; the sample may go on."""
        return self._result(self._effect("DT_CMD_INFER"))

    def statistics(self) -> Statistics:
        """Totals since the device started."""
        raw = self._unpack("dt_statistics_t", self._query("DT_CMD_STATISTICS"))
        return Statistics(**{field.name: int(getattr(raw, field.name)) for field in fields(Statistics)})

    def phases(self) -> NDArray[np.int64]:
        """Ticks so far by phase of a training step, modulo 2^32; RefusedError of firmware without hooks for them."""
        reply = self._query("DT_CMD_PHASES")
        return self._values(reply, "<u4", (len(reply) // 4,)).astype(np.int64)

    # ---- answers in detail

    def _read_part(self, tensor: int, offset: int, count: int, cut_reply: int = 0) -> bytes:
        request = protocol.pack("dt_tensor_t", tensor=tensor, offset=offset, count=count)
        return self._query("DT_CMD_READ_TENSOR", request, cut_reply)[protocol.size_of("dt_tensor_reply_t") :]

    def _size_of_tensor(self, tensor: int) -> tuple[int, np.dtype[Any]]:
        """Elements and little-endian type of a tensor; asked once where it cannot change."""
        if tensor not in self._items:
            request = protocol.pack("dt_tensor_t", tensor=tensor)
            raw = self._unpack("dt_tensor_reply_t", self._query("DT_CMD_READ_TENSOR", request))
            if raw.item_bytes not in _ITEM_TYPES:
                raise DeviceError(f"{self._line.url}: tensor {tensor} has items of {raw.item_bytes} bytes")
            if raw.total * raw.item_bytes > self.info.arena_bytes:
                raise DeviceError(f"{self._line.url}: tensor {tensor} of {raw.total} elements is larger than its arena")
            size = (int(raw.total), _ITEM_TYPES[raw.item_bytes])
            if not raw.writable:
                return size  # such as dM, which is as long as the last sample
            self._items[tensor] = size
        return self._items[tensor]

    def _config(self, reply: bytes) -> Config:
        raw = self._unpack("drnn_config_t", reply)
        return Config(
            learning_rate=Scale(raw.learning_rate.m, raw.learning_rate.e),
            clip=Scale(raw.clip.m, raw.clip.e),
            beta=Scale(raw.beta.m, raw.beta.e),
            theta_x=tuple(int(value) for value in raw.theta_x)[: self.info.n_layers],
            theta_h=tuple(int(value) for value in raw.theta_h)[: self.info.n_layers],
            seed=int(raw.seed),
            step=int(raw.step),
        )

    def _result(self, reply: bytes) -> DeviceResult:
        raw = self._unpack("dt_outcome_t", reply)
        logits = reply[protocol.size_of("dt_outcome_t") :]
        return DeviceResult(
            **{field.name: int(getattr(raw.result, field.name)) for field in fields(StepResult)},
            logits=self._values(logits, "<i4", (self.info.n_outputs,)).astype(np.int32),
            ticks_forward=int(raw.ticks_forward),
            ticks_call=int(raw.ticks_call),
            instructions_forward=self._instructions(int(raw.ticks_forward)),
            instructions_call=self._instructions(int(raw.ticks_call)),
        )

    def _instructions(self, ticks: int) -> int | None:
        return int(self.counter.units(ticks)) if self.counter.unit == INSTRUCTIONS else None

    def _values(self, data: bytes, item: str, shape: tuple[int, ...]) -> NDArray[Any]:
        """An answer's values; DeviceError when it has not as many bytes as they take."""
        n_bytes = np.dtype(item).itemsize * math.prod(shape)
        if len(data) != n_bytes:
            raise DeviceError(
                f"{self._line.url} sent {len(data)} bytes instead of {n_bytes} for {list(shape)} values; "
                "export and flash its firmware again"
            )
        return np.frombuffer(data, item).reshape(shape)


def _tensor_id(name: str) -> int:
    if name not in TENSOR_IDS:
        raise InputError(f"there is no tensor {name!r}; the device has {', '.join(TENSOR_IDS)}")
    return int(TENSOR_IDS[name])


def _in_range(name: str, value: int, low: int, high: int) -> int:
    if not low <= value <= high:
        raise InputError(f"{name} is {value}; it must lie between {low} and {high}")
    return value
