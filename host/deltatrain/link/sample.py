"""Frames of a sample and their targets: checked, and laid out as they go over the line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deltatrain.errors import InputError
from deltatrain.link import protocol
from deltatrain.link.results import Hello
from deltatrain_core import NO_CLASS, NO_VALUE

Int16 = NDArray[np.int16]
Int32 = NDArray[np.int32]


@dataclass(frozen=True)
class Frames:
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

    def __getitem__(self, part: slice) -> Frames:
        return Frames(self.x[part], self.kind, self.targets[part] if self.kind == "EACH" else self.targets)

    @property
    def head_bytes(self) -> int:
        """Bytes of a request before what each frame adds."""
        return protocol.size_of("dt_frames_t") + (0 if self.kind == "EACH" else int(self.targets.nbytes))

    @property
    def frame_bytes(self) -> int:
        """Bytes that each frame adds."""
        return 2 * int(self.x.shape[1]) + (int(self.targets[:1].nbytes) if self.kind == "EACH" else 0)

    def packed(self, want_hidden: bool) -> bytes:
        """The request's payload."""
        code = protocol.TARGETS[f"DT_TARGETS_{self.kind}"]
        head = protocol.pack("dt_frames_t", n_frames=len(self), want_hidden=want_hidden, targets=code)
        return head + self.targets.tobytes() + self.x.astype("<i2").tobytes()


def checked(info: Hello, frames: Int16, targets: Int32 | None) -> Frames:
    """Frames that the device of `info` takes, see `Device.push`; InputError when it would not."""
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
    kind, packed = _targets(info, targets, len(x))
    return Frames(x, kind, packed)


def _targets(info: Hello, targets: Int32 | None, n_frames: int) -> tuple[str, NDArray[Any]]:
    """How they go over the line (enum dt_targets), and as they lie there."""
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
