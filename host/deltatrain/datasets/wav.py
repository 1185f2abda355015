"""Wav files of the kind the feature extractor takes: mono, 16-bit, of the configured sample rate."""

from __future__ import annotations

import os
import wave
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deltatrain.datasets.base import Dataset, Features, cut
from deltatrain.datasets.lazy import Lazy
from deltatrain.errors import DataError, InputError
from deltatrain.features import FeatureConfig, count_frames, log_mel


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
    with _opened(path, sample_rate) as file:
        data = file.readframes(file.getnframes())
        if len(data) != 2 * file.getnframes():
            raise _truncated(path, file, len(data))
    return np.frombuffer(data, dtype="<i2") / 32768.0


def count_samples(path: Path, sample_rate: int) -> int:
    """The number of samples by a wav file's header alone; the same errors as `read_wav`."""
    with _opened(path, sample_rate) as file:
        return file.getnframes()


@contextmanager
def _opened(path: Path, sample_rate: int) -> Iterator[wave.Wave_read]:
    """A wav file at its first sample, of the right kind and as long as its header says."""
    remedy = f"convert it with `sox {path.name} -r {sample_rate} -c 1 -b 16 -e signed-integer out.wav`"
    try:
        with path.open("rb") as raw, wave.open(raw) as file:
            channels, width, rate = file.getnchannels(), file.getsampwidth(), file.getframerate()
            if channels != 1:
                raise DataError(f"{path} has {channels} channels, expected 1 (mono); {remedy}")
            if width != 2:
                raise DataError(f"{path} has {8 * width}-bit samples, expected 16-bit; {remedy}")
            if rate != sample_rate:
                raise DataError(f"{path} has a sample rate of {rate} Hz, expected {sample_rate} Hz; {remedy}")
            if file.getnframes() == 0:
                raise DataError(f"{path} is empty: it holds no sample; delete it or record it again")
            there = os.fstat(raw.fileno()).st_size - raw.tell()
            if there < 2 * file.getnframes():
                raise _truncated(path, file, there)
            yield file
    except EOFError as error:
        raise DataError(f"{path} ends inside its wav header; copy or record it again") from error
    except wave.Error as error:
        raise DataError(f"{path} is no 16-bit PCM wav file ({error}); {remedy}") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}; check the path and its permissions") from error


def _truncated(path: Path, file: wave.Wave_read, n_bytes: int) -> DataError:
    return DataError(
        f"{path} is truncated: its header announces {file.getnframes()} samples, "
        f"{n_bytes // 2} are there; copy or record it again"
    )


def extract(name: str, recordings: Iterable[Recording], class_names: tuple[str, ...], config: FeatureConfig) -> Dataset:
    """A data set of wav files, in the order given; their headers are read now, their samples when they are asked for.

    Raises
    ------
    DataError
        If a file cannot be used; the message names it.
    """
    items = tuple(recordings)
    features = _Extractor(items, config.raw())
    frames = np.array([features.count(number) for number in range(len(items))], np.int64)
    return Dataset(
        name=name,
        features=Lazy(features, np.arange(len(items))),
        labels=np.array([item.label for item in items], dtype=np.int64),
        speakers=tuple(item.speaker for item in items),
        indices=np.array([item.index for item in items], dtype=np.int64),
        class_names=class_names,
        config=config.raw(),
        was_cut=frames > config.max_frames,
        lengths=np.minimum(frames, config.max_frames),
    )


@dataclass(frozen=True)
class _Extractor:
    """From the number of a recording to its features."""

    recordings: tuple[Recording, ...]
    config: FeatureConfig

    def __call__(self, number: int) -> Features:
        path = self.recordings[number].path
        audio = read_wav(path, self.config.sample_rate)
        try:
            return cut(log_mel(audio, self.config), self.config)[0]
        except InputError as error:
            raise DataError(f"{path} cannot be used: {error}") from error

    def count(self, number: int) -> int:
        """Frames of the whole recording, by its header."""
        path = self.recordings[number].path
        n_samples = count_samples(path, self.config.sample_rate)
        try:
            return count_frames(n_samples, self.config)
        except InputError as error:
            raise DataError(f"{path} cannot be used: {error}") from error
