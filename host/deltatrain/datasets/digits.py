"""Embedded data set `digits`: ten spoken words by synthetic voices, shipped as features.

`digits.npz` beside this file holds log-mel features quantised to `STEP` nats, made by `tools/make_digits.py`
with espeak-ng, so no audio tool is needed to use it. The voice is the speaker; `index` is the rendering number.
Four voices are meant to be met only after pre-training: see `HELD_OUT_VOICES`.
"""

from __future__ import annotations

import dataclasses
import io
import lzma
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deltatrain.datasets.base import Dataset, cut
from deltatrain.errors import DataError, InputError
from deltatrain.features import FeatureConfig

Renderings = tuple[NDArray[np.float64], ...]

CLASS_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

# Voices of espeak-ng: language + variant. Beware: it ignores a variant it does not know, and any variant of
# "en-gb", without a word; British English with a variant is "en+...".
KNOWN_VOICES = (
    "en-us+m1",
    "en-gb-x-rp+m5",
    "en-us-nyc+m6",
    "en-gb-x-gbcwmd+m3",
    "en-gb-scotland+m7",
    "en-us-nyc+Andy",
    "en+f4",
    "en-us+f1",
    "en-029+f2",
    "en-gb-x-rp+f5",
)
HELD_OUT_VOICES = (
    "en-gb-x-gbclan+m8",
    "en-029+boris",
    "en-us-nyc+grandma",
    "en-029+Alicia",
)
VOICES = KNOWN_VOICES + HELD_OUT_VOICES

N_RENDERINGS = 24
# The last quarter of the renderings tests a model on known voices; pre-training must not see it.
TEST_INDICES = range(N_RENDERINGS * 3 // 4, N_RENDERINGS)

CONFIG = FeatureConfig()
STEP = 1 / 8  # nats; an error of at most 1/16 nat, where the bands spread by 3 to 4 nats
SYNTHESISER = "espeak-ng 1.51"

FILE = Path(__file__).with_name("digits.npz")
# Neighbouring values are 16-bit, so positions repeat every 2 bytes (lp, pb) and bytes tell little of the next (lc).
_FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "lc": 0, "lp": 1, "pb": 1}]


def load(data_dir: Path | None, config: FeatureConfig) -> Dataset:
    """Return every rendering, ordered by voice (`VOICES`), word and rendering number.

    Parameters
    ----------
    data_dir : Path or None
        Not used: the data come with the package.
    config : FeatureConfig
        May differ from `CONFIG` in `max_frames` alone, for there is no audio to extract other features from.

    Raises
    ------
    InputError
        If `config` asks for other features.
    DataError
        If the shipped file is missing or damaged.
    """
    del data_dir
    if dataclasses.replace(config.raw(), max_frames=CONFIG.max_frames) != CONFIG:
        wrong = {
            field.name: getattr(config, field.name)
            for field in dataclasses.fields(config)
            if field.name not in ("mean", "std", "max_frames")
            and getattr(config, field.name) != getattr(CONFIG, field.name)
        }
        raise InputError(
            f"data set digits ships features, not audio, and cannot give them with {wrong}; "
            "use the default feature settings"
        )
    try:
        renderings = unpack(FILE.read_bytes())
    except OSError as error:
        raise DataError(f"{FILE} cannot be read: {error.strerror}; install deltatrain again") from error
    expected = len(VOICES) * len(CLASS_NAMES) * N_RENDERINGS
    if len(renderings) != expected:
        raise DataError(f"{FILE} holds {len(renderings)} renderings, expected {expected}; install deltatrain again")
    voice, label, index = np.unravel_index(np.arange(expected), (len(VOICES), len(CLASS_NAMES), N_RENDERINGS))
    kept = [cut(item, config) for item in renderings]
    return Dataset(
        name="digits",
        features=tuple(features for features, _ in kept),
        labels=label.astype(np.int64),
        speakers=tuple(VOICES[v] for v in voice),
        indices=index.astype(np.int64),
        class_names=CLASS_NAMES,
        config=config.raw(),
        was_cut=np.array([longer for _, longer in kept]),
    )


def pack(renderings: Renderings) -> bytes:
    """Return features as the bytes of an .npz file.

    Its arrays: `lengths` (uint16, frames of each rendering) and `deltas` (uint8, an LZMA2 stream of int16,
    little-endian, shape (n_bands, all frames): each frame's features in steps of `STEP` nats less those of the
    frame before it, the first frame less zero).

    Parameters
    ----------
    renderings : tuple of ndarray, shape (T, n_bands), float64, nats
    """
    steps = np.rint(np.concatenate(renderings) / STEP).astype(np.int16)
    deltas = np.diff(steps, axis=0, prepend=np.zeros((1, steps.shape[1]), dtype=np.int16))
    stream = lzma.compress(deltas.T.astype("<i2").tobytes(), format=lzma.FORMAT_RAW, filters=_FILTERS)
    file = io.BytesIO()
    np.savez(
        file,
        lengths=np.array([len(item) for item in renderings], dtype=np.uint16),
        deltas=np.frombuffer(stream, dtype=np.uint8),
    )
    return file.getvalue()


def unpack(data: bytes) -> Renderings:
    """Return the features that `pack` was given, rounded to steps of `STEP` nats.

    Raises
    ------
    DataError
        If the bytes are truncated or foreign.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            lengths, stream = file["lengths"].astype(np.int64), file["deltas"].tobytes()
        raw = lzma.decompress(stream, format=lzma.FORMAT_RAW, filters=_FILTERS)
        deltas = np.frombuffer(raw, dtype="<i2").reshape(CONFIG.n_bands, int(lengths.sum()))
    except (ValueError, KeyError, EOFError, OSError, zipfile.BadZipFile, lzma.LZMAError) as error:
        raise DataError(f"the packed features of data set digits are damaged ({error})") from error
    features = np.cumsum(deltas, axis=1, dtype=np.int32).T * STEP
    return tuple(np.split(features, np.cumsum(lengths)[:-1]))
