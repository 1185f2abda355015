"""Wav files of the kind the feature extractor takes: mono, 16-bit, of the configured sample rate."""

from __future__ import annotations

import wave
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deltatrain.datasets.base import Dataset, cut
from deltatrain.errors import DataError, InputError
from deltatrain.features import FeatureConfig, log_mel


@dataclass(frozen=True)
class Recording:
    """A wav file and what it says: path, class number, speaker, recording number."""

    path: Path
    label: int
    speaker: str
    index: int


def read_wav(path: Path, sample_rate: int) -> NDArray[np.float64]:
    """Return the samples of a wav file.

    Parameters
    ----------
    path : Path
        RIFF wav file, PCM 16 bit, one channel.
    sample_rate : int
        The rate it must have, Hz.

    Returns
    -------
    ndarray, shape (n_samples,), float64
        int16 / 32768, in [-1, 1).

    Raises
    ------
    DataError
        If the file cannot be opened, is no such wav file, is empty or truncated; the message names the file,
        the value found and a command that converts it.
    """
    remedy = f"convert it with `sox {path.name} -r {sample_rate} -c 1 -b 16 -e signed-integer out.wav`"
    try:
        with wave.open(str(path), "rb") as file:
            channels, width = file.getnchannels(), file.getsampwidth()
            rate, n_samples = file.getframerate(), file.getnframes()
            data = file.readframes(n_samples)
    except EOFError as error:
        raise DataError(f"{path} ends inside its wav header; copy or record it again") from error
    except wave.Error as error:
        raise DataError(f"{path} is no 16-bit PCM wav file ({error}); {remedy}") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}; check the path and its permissions") from error
    if channels != 1:
        raise DataError(f"{path} has {channels} channels, expected 1 (mono); {remedy}")
    if width != 2:
        raise DataError(f"{path} has {8 * width}-bit samples, expected 16-bit; {remedy}")
    if rate != sample_rate:
        raise DataError(f"{path} has a sample rate of {rate} Hz, expected {sample_rate} Hz; {remedy}")
    if n_samples == 0:
        raise DataError(f"{path} is empty: it holds no sample; delete it or record it again")
    if len(data) != 2 * n_samples:
        raise DataError(
            f"{path} is truncated: its header announces {n_samples} samples, "
            f"{len(data) // 2} are there; copy or record it again"
        )
    return np.frombuffer(data, dtype="<i2") / 32768.0


def extract(name: str, recordings: Iterable[Recording], class_names: tuple[str, ...], config: FeatureConfig) -> Dataset:
    """Read wav files and return their features as a data set, in the order given.

    Raises
    ------
    DataError
        If a file cannot be used; the message names it.
    """
    items = list(recordings)
    features = []
    was_cut = np.zeros(len(items), dtype=np.bool_)
    for i, item in enumerate(items):
        audio = read_wav(item.path, config.sample_rate)
        try:
            kept, was_cut[i] = cut(log_mel(audio, config), config)
        except InputError as error:
            raise DataError(f"{item.path} cannot be used: {error}") from error
        features.append(kept)
    return Dataset(
        name=name,
        features=tuple(features),
        labels=np.array([item.label for item in items], dtype=np.int64),
        speakers=tuple(item.speaker for item in items),
        indices=np.array([item.index for item in items], dtype=np.int64),
        class_names=class_names,
        config=config.raw(),
        was_cut=was_cut,
    )
