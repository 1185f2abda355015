"""Samples as a file that a board reads: `.drnx`. docs/MODEL_FILE.md says what each byte is.

Frames are in the device's input format, or raw readings of a sensor in units of its own, which a board turns into
inputs by the integers of `input_scaling`.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deltatrain.errors import InputError
from deltatrain.quant_model import QuantModel

MAGIC = b"DRNX"
HEAD = struct.Struct("<4sHH")
SAMPLE = struct.Struct("<HH")
FACTOR_FRAC_BITS = 16
_INT16_MAX = 2**15 - 1


def encode(n_in: int, samples: Sequence[tuple[NDArray[np.int16], int]]) -> bytes:
    """The bytes of a file of frames (T, n_in) int16, each sample with its class."""
    parts = [HEAD.pack(MAGIC, n_in, 0)]
    for frames, label in samples:
        parts += [SAMPLE.pack(len(frames), label), frames.astype("<i2").tobytes()]
    return b"".join(parts)


def decode(data: bytes) -> list[tuple[NDArray[np.int16], int]]:
    """What `encode` was given; InputError where the file is foreign or cut off."""
    if len(data) < HEAD.size or not data.startswith(MAGIC):
        raise InputError("this is no file of samples; write it by `deltatrain samples`")
    n_in, at = HEAD.unpack_from(data)[1], HEAD.size
    samples: list[tuple[NDArray[np.int16], int]] = []
    while at < len(data):
        try:
            n_frames, label = SAMPLE.unpack_from(data, at)
            frames = np.frombuffer(data, "<i2", n_frames * n_in, at + SAMPLE.size)
        except (struct.error, ValueError) as error:
            raise InputError(f"the file of samples is cut off in sample {len(samples)}; copy it again") from error
        samples.append((frames.astype(np.int16).reshape(n_frames, n_in), label))
        at += SAMPLE.size + frames.nbytes
    return samples


def readings(features: NDArray[Any], unit: float) -> NDArray[np.int16]:
    """Raw features (T, n_in) as a sensor gives them: whole numbers of `unit`. InputError where they exceed int16."""
    rounded = np.rint(np.asarray(features, np.float64) / unit)
    largest = float(np.abs(rounded).max(initial=0.0))
    if largest > _INT16_MAX:
        raise InputError(f"a reading is {largest * unit:g}, which is {largest:g} of {unit:g}; choose a coarser unit")
    return rounded.astype(np.int16)


def input_scaling(model: QuantModel, unit: float) -> dict[str, list[int]]:
    """How a board turns readings in units into inputs: x = ((reading − offset) · factor + 2^15) >> 16, clamped.

    The same as standardising and quantising, but for the rounding of offset and factor.
    """
    mean, std = np.array(model.features.mean), np.array(model.features.std)
    if not mean.size:
        raise InputError("the model takes features that are not standardised; write its samples without --raw")
    factor = np.rint(unit / std * 2.0 ** (model.layers[0].x_frac_bits + FACTOR_FRAC_BITS))
    return {"offset": np.rint(mean / unit).astype(int).tolist(), "factor": factor.astype(int).tolist()}
