"""Training delta RNNs, GRUs and LSTMs from MicroPython: one interface of two modules.

`deltarnn` is the C core as a native or user C module, `deltarnn_py` the same in pure Python. They compute the same
words. docs/MICROPYTHON.md says more.
"""

from array import array
from collections.abc import Sequence
from typing import Protocol

Buffer = bytes | bytearray | memoryview | array[int]
Scale = tuple[int, int]
"""A real number m * 2^e as (m, e), 32768 <= m <= 65535, or (0, 0); `deltarnn_tools.scale` makes one."""

class _Reader(Protocol):
    def read(self, size: int = ..., /) -> bytes: ...
    def seek(self, offset: int, whence: int = ..., /) -> int: ...

class _Writer(Protocol):
    def write(self, data: bytes, /) -> object: ...

version: str
"""Of deltatrain, as in its setup.cfg."""

def arena_size(model: Buffer | str) -> int:
    """Bytes of arena that `Network` takes for a model; of the pure module 0. Raises as `Network` does."""

class Network:
    """One network: its trained weights, and the sample under way.

    Every method raises ValueError after `close`.
    """

    def __init__(self, model: Buffer | str, arena: bytearray | memoryview | None = None) -> None:
        """Start from a model's weights and settings, with seed, step and beta 0.

        Parameters
        ----------
        model : buffer or str
            A `.drnn` file's bytes, used where they lie (aligned to 8 bytes; do not change them), or its name.
        arena : buffer of arena_size(model) bytes or more, writable, aligned to 8 bytes
            Of the network alone until `close`. The pure module needs none.

        Raises
        ------
        ValueError
            The file is foreign, cut off, damaged (CRC), of another version, or not supported; the arena is too small
            (the message gives the bytes needed) or misaligned.
        OSError
            There is no such file.
        """

    n_in: int
    n_outputs: int
    n_layers: int
    max_steps: int
    readout: str
    """"last", "frames" or "regression"."""
    names: tuple[str, ...]
    """Of the outputs."""
    loss: int
    """Of the last training step or inference: mean over its targets, Q16; 0 without a target."""

    def configure(
        self,
        *,
        learning_rate: Scale | None = None,
        clip: Scale | None = None,
        theta_x: Sequence[int] | None = None,
        theta_h: Sequence[int] | None = None,
        beta: Scale | None = None,
        seed: int | None = None,
        step: int | None = None,
    ) -> None:
        """Change settings; what is None stays.

        Parameters
        ----------
        learning_rate : (m, e), -64 <= e <= -11, or (0, 0)
        clip : (m, e), -64 <= e <= 64
        beta : (m, e), -64 <= e <= -16, or (0, 0)
        theta_x, theta_h : a threshold for each layer, 0 .. 32767
            In the format of the layer's inputs, and Q1.14.
        seed, step : 0 .. 2^32 - 1

        Raises
        ------
        ValueError
            A value is out of its range; nothing has changed then.
        """

    def begin(self) -> None:
        """Start a sample; drops an unfinished one."""

    def push(self, frame: Buffer, target: int | Buffer | Sequence[int] | None = None) -> int:
        """One frame in; returns the number of frames so far.

        Parameters
        ----------
        frame : buffer of n_in int16
            In the first layer's format, within +-16383.
        target : int, or n_outputs int32
            Of the readouts at every frame: its class, -1 for none; or its values, Q16, within +-2^30.

        Raises
        ------
        ValueError
            No sample is under way, it has max_steps frames already, the frame or target does not fit: the sample
            is as before.
        OverflowError
            The sample has more events than the model's budget: it is dropped and counted, `begin` the next.
        """

    def infer(self) -> int:
        """The class with the largest output at the last frame; `outputs`, `loss` and `stats` are of then.

        The sample may go on. ValueError where it has no frame.
        """

    def train(self, label: int | None = None) -> int:
        """End the sample by one step of SGD; returns the loss, Q16.

        Parameters
        ----------
        label : int
            Of the readout "last": the sample's class. Other readouts have their targets by `push`.

        Raises
        ------
        ValueError
            No such class, no frame or no target, the call does not fit the readout, or the model is for inference only;
            nothing has changed then.
        """

    def forward(self, frames: Buffer) -> int:
        """A whole sample of T * n_in int16, frame after frame: begin, push, infer. Returns the class."""

    def train_step(self, frames: Buffer, target: int | Buffer | Sequence[int]) -> int:
        """A whole sample: begin, push, train. Returns the loss, Q16.

        Parameters
        ----------
        frames : buffer of T * n_in int16
        target : int, T classes, or T * n_outputs int32
            By the readout: the class; a class a frame, -1 for none, a list or a buffer of int16; values, Q16, a list or
            a buffer of int32, where a frame whose first value is -2^31 has none.

        Raises
        ------
        ValueError, OverflowError
            As `push` and `train`; sizes, labels and targets are checked before anything is pushed.
        """

    def replay(self) -> int:
        """One step on the stored exemplar whose turn it is; returns its number. ValueError where the model has none."""

    def outputs(self) -> array[int]:
        """A copy of the outputs of the frame last judged, Q16, array('i')."""

    def hidden(self) -> array[int]:
        """A copy of the last layer's h after the last frame, Q1.14, array('h')."""

    def stats(self) -> dict[str, int]:
        """Every field of drnn_result_t by its name (drnn_types.h), `step` (the next one's number) and `n_refused`."""

    def tensor(self, name: str) -> array[int]:
        """A copy of a tensor, flat, array('h') or array('i').

        Parameters
        ----------
        name : str
            layerN.weight, layerN.bias, readout.weight, readout.bias (trained); layerN.hidden, layerN.cell (LSTM),
            layerN.dm (of the last training step), logits. Shapes are in drnn_types.h, enum drnn_tensor_id.

        Raises
        ------
        ValueError
            There is no such tensor.
        """

    def set_tensor(self, name: str, values: Buffer) -> None:
        """Overwrite a trained tensor by a buffer of the same size. Drops an unfinished sample. ValueError else."""

    def reset(self) -> None:
        """Back to the model's weights; settings stay. Drops an unfinished sample."""

    def save(self, file: _Writer | str) -> None:
        """Write trained tensors and settings (docs/MODEL_FILE.md) to a file by name or object. OSError."""

    def load(self, file: _Reader | str) -> None:
        """Read what `save` wrote; training goes on as if it had never stopped. Drops an unfinished sample.

        Raises
        ------
        ValueError
            Foreign, cut off, damaged (CRC), of another version or of another model; nothing has changed then.
        OSError
            There is no such file.
        """

    def close(self) -> None:
        """Give the arena and the model's buffer back. May be called twice."""
