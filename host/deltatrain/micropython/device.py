"""A board with MicroPython as an engine: what `Device` is for deltatrain's own firmware."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self, overload

import numpy as np
from numpy.typing import NDArray

from deltatrain.errors import DeviceError, InputError
from deltatrain.link import Config, protocol
from deltatrain.memory import Memory
from deltatrain.micropython.raw_repl import BoardError, RawRepl, quoted
from deltatrain.scale import Scale
from deltatrain_core import NO_CLASS, NO_VALUE, StepResult
from deltatrain_core.network import TENSOR_IDS

Int16 = NDArray[np.int16]
Int32 = NDArray[np.int32]

_FRAMES_BYTES = 1536  # sent at once


@dataclass(frozen=True)
class BoardInfo:
    """What is at the other end.

    Attributes
    ----------
    board : str
        As MicroPython calls it.
    hash : bytes
        SHA-256 of the quantised model that is installed.
    memory : Memory
        How much of a sample's history its network holds at once.
    """

    board: str
    hash: bytes
    memory: Memory
    n_layers: int
    n_in: int
    n_hidden: int
    n_outputs: int
    readout: str


class MicroPythonDevice:
    """The network `dt_net` on a board, made where there is none from the model that `deltatrain flash` installed.

    Every method raises DeviceError when the board does not answer, or ends with an exception.
    """

    def __init__(self, repl: RawRepl) -> None:
        self._repl = repl
        try:
            repl.run("dt_start()")
            self.info = self._read_info()
        except BoardError as error:
            if error.kind in ("ImportError", "OSError"):
                raise DeviceError(
                    f"the board at {repl.port} has no module deltarnn, or no model ({error}); "
                    f"install them: deltatrain flash --target micropython:{repl.port} --model MODEL"
                ) from error
            raise

    @classmethod
    def open(cls, port: str) -> MicroPythonDevice:
        """Open a board's raw REPL."""
        repl = RawRepl(port)
        try:
            return cls(repl)
        except BaseException:
            repl.close()
            raise

    def close(self) -> None:
        """Give the line back; the network stays on the board."""
        self._repl.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read_info(self) -> BoardInfo:
        n_head, n_layer = protocol.size_of("drnn_image_t"), protocol.size_of("drnn_image_layer_t")
        (data,) = self._repl.bytes_of(f"dt_head({n_head + protocol.constant('DRNN_MAX_LAYERS') * n_layer})")
        head = protocol.unpack("drnn_image_t", data)
        layers = [
            protocol.unpack("drnn_image_layer_t", data[n_head + n_layer * number :]) for number in range(head.n_layers)
        ]
        (board,) = self._repl.run("print(sys.implementation._machine)")
        return BoardInfo(
            board=board,
            hash=protocol.bytes_of(head.hash),
            memory=Memory(protocol.MEMORIES[head.memory], int(head.segment_steps), int(head.event_budget)),
            n_layers=int(head.n_layers),
            n_in=int(layers[0].n_in),
            n_hidden=int(layers[-1].n_hidden),
            n_outputs=int(head.n_outputs),
            readout=protocol.READOUTS[head.readout],
        )

    def check_model(self, expected: bytes) -> None:
        """DeviceError, with both hashes, unless the board has the model of this SHA-256."""
        if self.info.hash != expected:
            raise DeviceError(
                f"the board at {self._repl.port} has another model: its hash is {self.info.hash.hex()}, "
                f"that of the model given is {expected.hex()}; flash this one, or name the other"
            )

    def config(self) -> Config:
        """The configuration in use, as a file of weights would have it."""
        (data,) = self._repl.bytes_of(f"dt_state({protocol.size_of('drnn_state_t')})")
        found, n_layers = protocol.unpack("drnn_state_t", data).config, self.info.n_layers
        scales = {name: getattr(found, name) for name in ("learning_rate", "clip", "beta")}
        return Config(
            **{name: Scale(int(scale.m), int(scale.e)) for name, scale in scales.items()},
            theta_x=tuple(int(found.theta_x[number]) for number in range(n_layers)),
            theta_h=tuple(int(found.theta_h[number]) for number in range(n_layers)),
            seed=int(found.seed),
            step=int(found.step),
        )

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
        """Set what may change at run time; a threshold for each layer, no `beta` is 0."""
        scales = {"learning_rate": learning_rate, "clip": clip, "beta": beta or Scale(0, 0)}
        thresholds = {"theta_x": theta_x, "theta_h": theta_h}
        arguments: dict[str, object] = {name: (scale.m, scale.e) for name, scale in scales.items()}
        arguments |= {name: tuple(map(int, values)) for name, values in thresholds.items()}
        arguments |= {"seed": seed, "step": step}
        self._repl.run(f"dt_net.configure({', '.join(f'{name}={value!r}' for name, value in arguments.items())})")

    # ---- tensors

    def tensor(self, name: str) -> NDArray[Any]:
        """A tensor read from the board, flat, int16 or int32; names as in `deltatrain_core.network.TENSOR_IDS`."""
        (data,) = self._repl.bytes_of(f"dt_send(dt_net.tensor({_known(name)!r}))")
        return np.frombuffer(data, _item_type(name)).astype(_item_type(name).newbyteorder("="))

    def set_tensor(self, name: str, values: NDArray[Any]) -> None:
        """Overwrite a trained tensor; drops an unfinished sample. InputError when a value does not fit."""
        item = _item_type(_known(name))
        fitting = np.ravel(values).astype(item)
        if (fitting != np.ravel(values)).any():
            raise InputError(f"tensor {name} is {8 * item.itemsize} bits wide; the values do not fit")
        data = fitting.tobytes()
        self._repl.run(f"dt_fill({len(data)})\ndt_net.set_tensor({name!r}, dt_buffer)\ndt_drop_buffer()", data)

    def reset_weights(self) -> None:
        """Go back to the weights of the model; drops an unfinished sample."""
        self._repl.run("dt_net.reset()")

    # ---- samples

    def begin(self) -> None:
        """Start a sample."""
        self._repl.run("dt_net.begin()")

    @overload
    def push(self, frames: Int16, want_hidden: Literal[True] = True, targets: Int32 | None = None) -> Int16: ...
    @overload
    def push(self, frames: Int16, want_hidden: Literal[False], targets: Int32 | None = None) -> None: ...

    def push(self, frames: Int16, want_hidden: bool = True, targets: Int32 | None = None) -> Int16 | None:
        """Frames of the sample, with the targets of readouts at every frame; parameters and result as `Device.push`."""
        x = np.ascontiguousarray(frames)
        if x.ndim != 2 or x.shape[1] != self.info.n_in or x.dtype != np.int16:
            raise InputError(f"frames are {x.dtype}{list(x.shape)}; this model takes int16[frames, {self.info.n_in}]")
        at_once = max(1, _FRAMES_BYTES // x.itemsize // self.info.n_in)
        hidden: list[bytes] = []
        for first in range(0, len(x), at_once):
            part = x[first : first + at_once].astype("<i2").tobytes()
            of_part = None if targets is None else [_target(target) for target in targets[first : first + at_once]]
            hidden += self._repl.bytes_of(f"dt_push({quoted(part)}, {want_hidden}, {of_part!r})")
        if not want_hidden:
            return None
        return np.frombuffer(b"".join(hidden), "<i2").astype(np.int16).reshape(-1, self.info.n_hidden)

    def infer(self) -> StepResult:
        """Outputs at the last frame, and the loss over the targets so far."""
        return self._result("dt_net.infer()")

    def train(self, label: int) -> StepResult:
        """One step of SGD on the class of the last frame."""
        return self._result(f"dt_net.train({int(label)})")

    def learn(self) -> StepResult:
        """One step of SGD on the targets that the frames were given."""
        return self._result("dt_net.train()")

    def replay(self) -> StepResult:
        """One step of SGD on the stored exemplar whose turn it is."""
        return self._result("dt_net.replay()")

    def _result(self, call: str) -> StepResult:
        stats = self._stats(call)
        return StepResult(**{name: stats[name] for name in StepResult.__dataclass_fields__})

    def _stats(self, call: str = "") -> dict[str, int]:
        (line,) = self._repl.run(f"{call}\ndt_result()")
        stats: dict[str, int] = ast.literal_eval(line)
        return stats


def _known(name: str) -> str:
    """A tensor's name; InputError when there is no such tensor."""
    if name not in TENSOR_IDS:
        raise InputError(f"there is no tensor {name!r}; the names are {', '.join(TENSOR_IDS)}")
    return name


def _item_type(name: str) -> np.dtype[Any]:
    return np.dtype("<i4" if name == "logits" or name.endswith(".bias") else "<i2")


def _target(target: Any) -> int | tuple[int, ...] | None:
    """Of a frame as the board's `push` takes it: a class, values, or none."""
    if np.ndim(target) == 0:
        return None if target == NO_CLASS else int(target)
    return None if target[0] == NO_VALUE else tuple(int(value) for value in target)
