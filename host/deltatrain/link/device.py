"""The device at the other end of a serial line: one method for each of its commands."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from types import TracebackType
from typing import Any, Literal, Self, overload

import numpy as np
from numpy.typing import NDArray

from deltatrain.errors import DeviceError, InputError, LinkInterrupted, SampleRefused
from deltatrain.link import protocol
from deltatrain.link.exchange import Counters, Exchange, FrameTooLong, Reply
from deltatrain.link.line import Line
from deltatrain.link.results import Config, DeviceResult, Hello, Statistics
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
DEFAULT_REOPEN_S = 10.0
_CMD = protocol.enumerators("dt_command")
_ITEM_TYPES: dict[int, np.dtype[Any]] = {2: np.dtype("<i2"), 4: np.dtype("<i4")}
_SEQUENCE, _DUPLICATE = protocol.constant("DT_ERR_SEQUENCE"), protocol.constant("DT_ERR_DUPLICATE")
# What a device answers whose session this is no more.
_LOST_SESSION = frozenset({protocol.constant("DT_ERR_SESSION"), _SEQUENCE, _DUPLICATE})
_WRONG_VERSION = protocol.constant("DT_ERR_VERSION")
_MAX_BEGUN_AGAIN = 50


class RefusedError(DeviceError):
    """The device answered, and said no; `status` is its code (enum dt_status or drnn_error)."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class RefusedSampleError(RefusedError, SampleRefused):
    """The device dropped the sample, whose events exceed its model's budget, and counted it."""


class _Uncertain(Exception):
    """The device took one of the parts sent under the last number, it is not known which; never leaves `Device`."""


@dataclass(frozen=True)
class _Frames:
    """Frames of a sample with their targets, as they go over the line.

    Attributes
    ----------
    x : ndarray, shape (k, n_in), int16
    kind : str
        Of targets, enum dt_targets.
    targets : ndarray
        One for each frame where `kind` is EACH, one for all where it is ONE, else none.
    """

    x: Int16
    kind: str
    targets: NDArray[Any]

    def __len__(self) -> int:
        return int(self.x.shape[0])

    def __getitem__(self, part: slice) -> _Frames:
        return _Frames(self.x[part], self.kind, self.targets[part] if self.kind == "EACH" else self.targets)

    @property
    def head_bytes(self) -> int:
        """Bytes of a request before what each frame adds."""
        return protocol.size_of("dt_frames_t") + (0 if self.kind == "EACH" else self.targets.nbytes)

    @property
    def frame_bytes(self) -> int:
        """Bytes that each frame adds."""
        return 2 * self.x.shape[1] + (self.targets[:1].nbytes if self.kind == "EACH" else 0)

    def packed(self, want_hidden: bool) -> bytes:
        """The request's payload."""
        code = protocol.TARGETS[f"DT_TARGETS_{self.kind}"]
        head = protocol.pack("dt_frames_t", n_frames=len(self), want_hidden=want_hidden, targets=code)
        return head + self.targets.tobytes() + self.x.astype("<i2").tobytes()


class Device:
    """A session with a device that runs deltatrain's firmware.

    Parameters
    ----------
    line : Line
        Given back by `close`.
    timeout : float
        Longest wait for an answer before a command is sent again, seconds.
    retries : int
        The device is given up after 1 + retries such waits in silence: a training step must take less. None is executed
        twice, however often it is sent.
    reopen : float
        Seconds for which a line that closed is tried again.

    What the line does to frames is mended as long as it carries any (see docs/LINK.md). Every method raises DeviceError
    when no valid answer comes; RefusedError, which is one too, when the device refuses the command; LinkInterrupted
    when the device restarted or another program took the session: then a new one is open.
    """

    def __init__(
        self,
        line: Line,
        timeout: float = DEFAULT_TIMEOUT_S,
        retries: int = DEFAULT_RETRIES,
        reopen: float = DEFAULT_REOPEN_S,
    ) -> None:
        self._line = line
        self._link = Exchange(line, timeout, retries, reopen)
        self._nonce = 0
        self._effects = 0  # sequence number of the last command with an effect
        self._queries = 0  # of the last command without one
        self._hello: Hello | None = None
        self._items: dict[int, tuple[int, np.dtype[Any]]] = {}
        self._sample: list[_Frames] = []  # what the device has of the sample under way
        self._begun_again = 0
        self._ticks_per_instruction: tuple[int, int] | None = None

    @classmethod
    def open(
        cls,
        url: str,
        timeout: float = DEFAULT_TIMEOUT_S,
        retries: int = DEFAULT_RETRIES,
        reopen: float = DEFAULT_REOPEN_S,
    ) -> Device:
        """Open a line (see `Line`) and say hello; DeviceError, with what was heard, when nothing of ours answers."""
        device = cls(Line(url), timeout, retries, reopen)
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

    @property
    def counters(self) -> Counters:
        """What the line did so far."""
        return self._link.counters

    # ---- session

    def hello(self) -> Hello:
        """Open a session, which ends any other and drops an unfinished sample."""
        self._nonce = secrets.randbits(32)
        self._effects = self._queries = 0
        self._items.clear()
        self._sample.clear()
        request = protocol.pack("dt_hello_t", magic=protocol.MAGIC, version=protocol.VERSION, nonce=self._nonce)
        nonce = self._nonce.to_bytes(4, "little")
        try:
            # A late answer to another program's hello bears that one's nonce.
            reply = self._exchange(
                _CMD["DT_CMD_HELLO"], 0, request, is_mine=lambda r: r.status < 0 or r.payload.startswith(nonce)
            )
        except RefusedError as refusal:
            if refusal.status != _WRONG_VERSION:
                raise
            raise DeviceError(
                f"the firmware at {self._line.url} speaks another version of the protocol than this program "
                f"({protocol.VERSION}); export and flash it again"
            ) from refusal
        raw = self._unpack("dt_hello_reply_t", reply)
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
        board = find_board(hello.board)
        self._ticks_per_instruction = None if board is None else board.ticks_per_instruction
        self._hello = hello
        self._link.outward.limit = self._link.inward.limit = hello.max_payload
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
            # Where it is not known how many were taken, it were so many at least.
            count, _ = self._part("DT_CMD_WRITE_TENSOR", data.size - done, at_once, payload)
            done += count

    def reset_weights(self) -> None:
        """Go back to the weights of the model in the firmware; drops an unfinished sample."""
        self._effect("DT_CMD_RESET_WEIGHTS")

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
        hidden = self._push(_Frames(x, kind, packed), want_hidden)
        if not want_hidden:
            return None
        return np.concatenate(hidden) if hidden else np.empty((0, info.n_hidden), np.int16)

    def _push(self, frames: _Frames, want_hidden: bool) -> list[Int16]:
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

    def _push_part(self, frames: _Frames, want_hidden: bool) -> tuple[int, Int16]:
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
        states = np.frombuffer(reply[protocol.size_of("dt_frames_reply_t") :], "<i2")
        shape = (count, self.info.n_hidden) if want_hidden else (0, self.info.n_hidden)
        return count, self._shaped(states, shape).astype(np.int16)

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

    def _query(self, name: str, payload: bytes = b"", cut_reply: int = 0) -> bytes:
        """A command without effect: it may be executed any number of times."""
        self._queries = (self._queries + 1) & 0xFF
        return self._command(name, self._queries, payload, cut_reply=cut_reply)

    def _effect(self, name: str, payload: bytes = b"") -> bytes:
        """A command with an effect: the sequence number lets the device execute it once."""
        self._effects = (self._effects + 1) & 0xFF
        return self._command(name, self._effects, payload)

    def _part(
        self,
        name: str,
        rest: int,
        at_once: Callable[[], int],
        payload: Callable[[int], bytes],
        reply_bytes: int = 0,
    ) -> tuple[int, bytes | None]:
        """As `_effect`, for the first of `rest` items: cut until the line carries them, all under one number.

        Parameters
        ----------
        at_once : callable
            How many items the line carries at once.
        payload : callable
            The request with so many.
        reply_bytes : int
            Of an item, in the reply.

        Returns
        -------
        int
            The least number that was sent, before the device took one of the requests.
        bytes or None
            The answer; None when the device took one that was cut since, and its answer is lost.
        """
        self._effects = (self._effects + 1) & 0xFF
        sent: int | None = None
        while True:
            count = min(rest, at_once())
            try:
                reply = self._command(
                    name,
                    self._effects,
                    payload(count),
                    cut_request=count > 1,
                    cut_reply=count * reply_bytes if count > 1 else 0,
                    cut_before=sent is not None,
                )
            except FrameTooLong:
                sent = count
            except RefusedError as refusal:
                if refusal.status == _SEQUENCE and sent is not None:
                    return sent, None
                raise
            else:
                return count, reply

    def _command(self, name: str, sequence: int, payload: bytes, cut_before: bool = False, **cut: Any) -> bytes:
        """The answer to a command of this session; LinkInterrupted where the device knows the session no more.

        `cut_before` says that a longer command was sent under the same number, which the device may have executed.
        """
        try:
            return self._exchange(_CMD[name], sequence, payload, **cut)
        except RefusedError as refusal:
            if refusal.status not in _LOST_SESSION or (cut_before and refusal.status == _SEQUENCE):
                raise
            raise self._interrupted(_CMD[name], refusal.status) from refusal

    def _exchange(self, command: int, sequence: int, payload: bytes, **options: Any) -> bytes:
        """The payload of the answer; RefusedError when the device refuses."""
        reply: Reply = self._link.ask(command, sequence, self._nonce & 0xFFFF, payload, **options)
        if reply.status < 0:
            raise self._refused(command, reply.status)
        return reply.payload

    def _interrupted(self, command: int, status: int) -> LinkInterrupted:
        """Open a new session, and say what became of the old one."""
        before, now = self._hello, self.hello()
        restarted = before is not None and before.boot_id != now.boot_id
        if before is not None and before.hash != now.hash:
            raise DeviceError(
                f"the device at {self._line.url} restarted with another model (its hash was {before.hash.hex()}, is "
                f"{now.hash.hex()}); open it anew"
            )
        name = protocol.command_name(command)
        if restarted:
            what = f"the device at {self._line.url} restarted ({now.fault_words}) before it answered {name}"
        elif status in (_SEQUENCE, _DUPLICATE):
            what = (
                f"the device at {self._line.url} lost count of this session at {name} ({protocol.status_text(status)})"
            )
        else:
            what = f"another program opened a session with the device at {self._line.url} before it answered {name}"
        return LinkInterrupted(
            f"{what}; it is at step {now.step} now, and a new session is open. The sample under way is gone",
            restarted=restarted,
            step=now.step,
        )

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
