"""The device at the other end of a serial line: one method for each of its commands."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import fields
from types import TracebackType
from typing import Any, Literal, Self, overload

import numpy as np
from numpy.typing import NDArray

from deltatrain.errors import DeviceError, InputError, SampleRefused
from deltatrain.link import protocol
from deltatrain.link.frame import Decoder, encode
from deltatrain.link.line import Line
from deltatrain.link.results import Committed, Config, DeviceResult, Hello, Statistics
from deltatrain.memory import Memory
from deltatrain.scale import Scale
from deltatrain.targets import find_board
from deltatrain_core import NO_CLASS, NO_VALUE, StepResult
from deltatrain_core.network import TENSOR_IDS

Int16 = NDArray[np.int16]
Int32 = NDArray[np.int32]
Progress = Callable[[int, int], None]

DEFAULT_TIMEOUT_S = 5.0
DEFAULT_RETRIES = 3
_CMD = protocol.enumerators("dt_command")
_ITEM_TYPES: dict[int, np.dtype[Any]] = {2: np.dtype("<i2"), 4: np.dtype("<i4")}
_HOW_TO_RECOVER = (
    "reset the board, or end the emulator (`deltatrain stop`) and start it again (`deltatrain flash`); "
    "the training step under way may or may not have been applied: the device's step counter tells"
)


class RefusedError(DeviceError):
    """The device answered, and said no; `status` is its code (enum dt_status or drnn_error)."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class RefusedSampleError(RefusedError, SampleRefused):
    """The device dropped the sample, whose events exceed its model's budget, and counted it."""


class Device:
    """A session with a device that runs deltatrain's firmware.

    Parameters
    ----------
    line : Line
        Given back by `close`.
    timeout : float
        Seconds to wait for each answer; a training step must fit.
    retries : int
        How often an unanswered command is sent again. None is executed twice, however often it is sent.

    Every method raises DeviceError when no valid answer comes, and RefusedError, which is one too, when the
    device refuses the command.
    """

    def __init__(self, line: Line, timeout: float = DEFAULT_TIMEOUT_S, retries: int = DEFAULT_RETRIES) -> None:
        self._line = line
        self._timeout = timeout
        self._retries = retries
        self._decoder = Decoder()
        self._nonce = 0
        self._effects = 0  # sequence number of the last command with an effect
        self._queries = 0  # of the last command without one
        self._hello: Hello | None = None
        self._items: dict[int, tuple[int, np.dtype[Any]]] = {}
        self._ticks_per_instruction: tuple[int, int] | None = None

    @classmethod
    def open(cls, url: str, timeout: float = DEFAULT_TIMEOUT_S, retries: int = DEFAULT_RETRIES) -> Device:
        """Open a line (see `Line`) and say hello; DeviceError when nothing of ours answers."""
        device = cls(Line(url), timeout, retries)
        try:
            device.hello()
        except BaseException:
            device.close()
            raise
        return device

    def close(self) -> None:
        """Give the line back."""
        self._line.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def info(self) -> Hello:
        """What the device said in the last hello."""
        return self._hello if self._hello is not None else self.hello()

    # ---- session

    def hello(self) -> Hello:
        """Open a session, which ends any other and drops an unfinished sample."""
        self._nonce = secrets.randbits(32)
        self._effects = self._queries = 0
        self._items.clear()
        request = protocol.pack("dt_hello_t", magic=protocol.MAGIC, version=protocol.VERSION, nonce=self._nonce)
        reply = self._exchange(_CMD["DT_CMD_HELLO"], 0, request)
        raw = self._unpack("dt_hello_reply_t", reply)
        if raw.nonce != self._nonce:
            raise DeviceError(f"{self._line.url} answered another program's hello; try again")
        if (raw.version, raw.abi_version) != (protocol.VERSION, protocol.ABI_VERSION):
            raise DeviceError(
                f"the firmware at {self._line.url} has protocol {raw.version} and core ABI "
                f"{raw.abi_version}, this program {protocol.VERSION} and {protocol.ABI_VERSION}; "
                "export and flash it again"
            )
        hello = Hello(
            **{
                name: int(getattr(raw, name))
                for name in (
                    "version",
                    "abi_version",
                    "n_layers",
                    "n_in",
                    "n_hidden",
                    "n_outputs",
                    "max_steps",
                    "max_payload",
                    "arena_bytes",
                    "counter_hz",
                    "step",
                    "fault_address",
                    "boot_id",
                    "locks",
                    "commits",
                    "committed_step",
                )
            },
            board=protocol.bytes_of(raw.board).rstrip(b"\0").decode("ascii", "replace"),
            hash=protocol.bytes_of(raw.hash),
            cell=protocol.CELLS.get(raw.cell, f"cell {raw.cell}"),
            readout=protocol.READOUTS.get(raw.readout, f"readout {raw.readout}"),
            memory=Memory(
                protocol.MEMORIES.get(raw.memory, f"plan {raw.memory}"), int(raw.segment_steps), int(raw.event_budget)
            ),
            fresh=raw.boot_id == self._nonce,
            fault=protocol.FAULTS.get(raw.fault, f"fault {raw.fault}"),
            store=protocol.STORES.get(raw.store, f"store {raw.store}"),
        )
        board = find_board(hello.board, hello.counter_hz)
        self._ticks_per_instruction = None if board is None else board.ticks_per_instruction
        self._hello = hello
        return hello

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
        end = total if count is None else offset + count
        at_once = (self.info.max_payload - protocol.size_of("dt_tensor_reply_t")) // item.itemsize
        parts = [self._read_part(tensor, first, min(at_once, end - first)) for first in range(offset, end, at_once)]
        data = b"".join(parts)
        if len(data) != item.itemsize * max(0, end - offset):
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
        at_once = (self.info.max_payload - protocol.size_of("dt_tensor_t")) // item.itemsize
        for first in range(0, flat.size, at_once):
            part = flat[first : first + at_once]
            head = protocol.pack("dt_tensor_t", tensor=tensor, offset=offset + first, count=part.size)
            self._effect("DT_CMD_WRITE_TENSOR", head + part.astype(item).tobytes())

    def reset_weights(self) -> None:
        """Go back to the weights of the model in the firmware; drops an unfinished sample."""
        self._effect("DT_CMD_RESET_WEIGHTS")

    # ---- non-volatile memory

    def commit(self) -> Committed:
        """Keep weights, configuration and step over a loss of power: until the next commit, the device starts there.

        DeviceError when the firmware has no store; RefusedError when writing failed: the commit before is still whole.
        """
        self._need_store()
        raw = self._unpack("dt_commit_reply_t", self._effect("DT_CMD_COMMIT"))
        return Committed(**{field.name: int(getattr(raw, field.name)) for field in fields(Committed)})

    def forget(self) -> None:
        """Erase all commits: from its next restart on, the device starts from the model in its firmware."""
        self._need_store()
        self._effect("DT_CMD_FORGET")

    def _need_store(self) -> None:
        if self.info.store == "none":
            raise DeviceError(
                f"the firmware at {self._line.url} has no non-volatile store; "
                "build one by `deltatrain export --store`, for a board that has the memory"
            )

    # ---- samples

    def begin(self) -> None:
        """Start a sample."""
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
        info = self.info
        x = np.ascontiguousarray(frames)
        if x.ndim != 2 or x.shape[1] != info.n_in or x.dtype != np.int16:
            raise InputError(f"frames are {x.dtype}{list(x.shape)}; this device takes int16[frames, {info.n_in}]")
        if len(x) > info.max_steps:
            raise InputError(
                f"the sample has {len(x)} frames, the firmware takes at most {info.max_steps}; "
                "cut it, or export with a larger --max-steps"
            )
        if x.size and (x.max() > protocol.V_MAX or x.min() < -protocol.V_MAX):
            raise InputError(f"a frame holds {int(x.min())} .. {int(x.max())}; |x| may be {protocol.V_MAX} at most")
        kind, packed = self._targets(targets, len(x))
        item = packed.itemsize * packed[:1].size
        room = info.max_payload - protocol.size_of("dt_frames_t")
        at_once = room // (2 * info.n_in + item) if kind == "EACH" else (room - item) // (2 * info.n_in)
        if want_hidden:
            room = info.max_payload - protocol.size_of("dt_frames_reply_t")
            at_once = min(at_once, room // (2 * info.n_hidden))
        hidden: list[Int16] = []
        for first in range(0, len(x), at_once):
            part = x[first : first + at_once]
            of_part = packed[first : first + at_once] if kind == "EACH" else packed
            code = protocol.TARGETS[f"DT_TARGETS_{kind}"]
            head = protocol.pack("dt_frames_t", n_frames=len(part), want_hidden=want_hidden, targets=code)
            reply = self._effect("DT_CMD_FRAMES", head + of_part.tobytes() + part.astype("<i2").tobytes())
            if want_hidden:
                states = np.frombuffer(reply[protocol.size_of("dt_frames_reply_t") :], "<i2")
                hidden.append(self._shaped(states, (len(part), info.n_hidden)).astype(np.int16))
        if not want_hidden:
            return None
        return np.concatenate(hidden) if hidden else np.empty((0, info.n_hidden), np.int16)

    def _targets(self, targets: Int32 | None, n_frames: int) -> tuple[str, NDArray[Any]]:
        """How they go over the line (enum dt_targets), and as they lie there."""
        info = self.info
        if targets is None:
            return "NONE", np.empty(0, "<u2")
        if info.readout == "last":
            raise InputError("this device's model takes one label a sample, no targets of frames")
        regression = info.readout == "regression"
        shape = (n_frames, info.n_outputs) if regression else (n_frames,)
        if targets.shape != shape or targets.dtype != np.int32:
            raise InputError(f"targets are {targets.dtype}{list(targets.shape)}; these frames take int32{list(shape)}")
        if regression:
            given = targets[targets[:, 0] != NO_VALUE].astype(np.int64)
            if given.size and np.abs(given).max() > protocol.TARGET_MAX:
                raise InputError(
                    f"a target is {given.flat[np.abs(given).argmax()] / 65536:g}; "
                    f"the device takes up to ±{protocol.TARGET_MAX / 65536:g}"
                )
            packed = targets.astype("<i4")
        else:
            if targets.size and not NO_CLASS <= targets.min() <= targets.max() < info.n_outputs:
                raise InputError(
                    f"labels are {targets.min()} .. {targets.max()}; "
                    f"this device's model has classes 0 to {info.n_outputs - 1}"
                )
            packed = np.where(targets == NO_CLASS, protocol.NO_CLASS, targets).astype("<u2")
        if n_frames and (packed == packed[0]).all():
            return "ONE", packed[:1]
        return "EACH", packed

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

    # ---- exchange of frames

    def _query(self, name: str, payload: bytes = b"") -> bytes:
        """A command without effect: it may be executed any number of times."""
        self._queries = (self._queries + 1) & 0xFF
        return self._exchange(_CMD[name], self._queries, payload)

    def _effect(self, name: str, payload: bytes = b"") -> bytes:
        """A command with an effect: the sequence number lets the device execute it once."""
        self._effects = (self._effects + 1) & 0xFF
        return self._exchange(_CMD[name], self._effects, payload)

    def _exchange(self, command: int, sequence: int, payload: bytes) -> bytes:
        """Send a command until it is answered, at most 1 + retries times; the answer's payload."""
        head = protocol.pack("dt_request_t", command=command, sequence=sequence, session=self._nonce & 0xFFFF)
        frame = encode(head + payload)
        started = time.monotonic()
        for _ in range(1 + self._retries):
            self._line.write(frame)
            reply = self._await(command, sequence)
            if reply is not None:
                status, answer = reply
                if status < 0:
                    raise self._refused(command, status)
                return answer
        name = protocol.command_name(command)
        raise DeviceError(
            f"{self._line.url} gave no valid answer to {name} ({len(frame)} bytes, sent {1 + self._retries} "
            f"times) in {time.monotonic() - started:.1f} s ({self._decoder.damaged} damaged frames so far). "
            f"Is it deltatrain's firmware, and does no other program hold the port? If so: {_HOW_TO_RECOVER}"
        )

    def _await(self, command: int, sequence: int) -> tuple[int, bytes] | None:
        """Status and payload of the answer; None when it is time to send again."""
        deadline = time.monotonic() + self._timeout
        damaged = self._decoder.damaged
        data = self._line.read(self._timeout)
        while data:
            for body in self._decoder.push(data):
                head = protocol.unpack("dt_reply_t", body)
                if (head.command, head.sequence) == (command | protocol.REPLY_FLAG, sequence):
                    return int(head.status), body[protocol.HEADER_BYTES :]
                if head.command == _CMD["DT_CMD_NONE"] | protocol.REPLY_FLAG:
                    return None  # our frame did not arrive whole
                # Else a line that echoes, or an answer to what was sent twice and has been taken already.
            if self._decoder.damaged != damaged:
                return None
            left = deadline - time.monotonic()
            data = self._line.read_more(left) if left > 0 else b""
        return None

    def _refused(self, command: int, status: int) -> RefusedError:
        name, text = protocol.command_name(command), protocol.status_text(status)
        kind = RefusedSampleError if status == protocol.EVENTS_STATUS else RefusedError
        return kind(f"the device at {self._line.url} refused {name}: {text} (status {status})", status)

    def _unpack(self, struct: str, data: bytes) -> Any:
        try:
            return protocol.unpack(struct, data)
        except ValueError as error:
            raise DeviceError(
                f"{self._line.url} speaks another dialect ({error}); export and flash its firmware again"
            ) from error

    # ---- answers in detail

    def _read_part(self, tensor: int, offset: int, count: int) -> bytes:
        request = protocol.pack("dt_tensor_t", tensor=tensor, offset=offset, count=count)
        return self._query("DT_CMD_READ_TENSOR", request)[protocol.size_of("dt_tensor_reply_t") :]

    def _size_of_tensor(self, tensor: int) -> tuple[int, np.dtype[Any]]:
        """Elements and little-endian type of a tensor; asked once where it cannot change."""
        if tensor not in self._items:
            request = protocol.pack("dt_tensor_t", tensor=tensor)
            raw = self._unpack("dt_tensor_reply_t", self._query("DT_CMD_READ_TENSOR", request))
            if raw.item_bytes not in _ITEM_TYPES:
                raise DeviceError(f"{self._line.url}: tensor {tensor} has items of {raw.item_bytes} bytes")
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
        logits = np.frombuffer(reply[protocol.size_of("dt_outcome_t") :], "<i4")
        return DeviceResult(
            **{field.name: int(getattr(raw.result, field.name)) for field in fields(StepResult)},
            logits=self._shaped(logits, (self.info.n_outputs,)).astype(np.int32),
            ticks_forward=int(raw.ticks_forward),
            ticks_call=int(raw.ticks_call),
            instructions_forward=self._instructions(int(raw.ticks_forward)),
            instructions_call=self._instructions(int(raw.ticks_call)),
        )

    def _instructions(self, ticks: int) -> int | None:
        if self._ticks_per_instruction is None:
            return None
        numerator, denominator = self._ticks_per_instruction
        return ticks * denominator // numerator

    def _shaped(self, values: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
        if values.size != int(np.prod(shape)):
            raise DeviceError(
                f"{self._line.url} sent {values.size} values instead of {list(shape)}; "
                "export and flash its firmware again"
            )
        return values.reshape(shape)


def _tensor_id(name: str) -> int:
    if name not in TENSOR_IDS:
        raise InputError(f"there is no tensor {name!r}; the device has {', '.join(TENSOR_IDS)}")
    return int(TENSOR_IDS[name])


def _in_range(name: str, value: int, low: int, high: int) -> int:
    if not low <= value <= high:
        raise InputError(f"{name} is {value}; it must lie between {low} and {high}")
    return value
