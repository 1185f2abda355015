"""Human activities from a phone worn at the waist: raw accelerometer and gyroscope, in `DIR/har/RawData`.

`acc_expEE_userUU.txt` and `gyro_expEE_userUU.txt` hold three numbers a line, 50 a second, in m/s² and rad/s; a line
`experiment user activity first last` of `labels.txt` says that its lines first to last (from 1) are of that activity.

An item is a window of 64 frames, 2.56 s, each frame the mean of two readings of all six axes; windows of one passage
follow one another without overlap, and what is left at its end is dropped. People stand in the place of speakers.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deltatrain.datasets.base import Dataset, Features, found_folder
from deltatrain.errors import DataError
from deltatrain.features import FeatureConfig

CLASS_NAMES = ("walking", "walking upstairs", "walking downstairs", "sitting", "standing")
N_IN = 6
READINGS_PER_FRAME = 2
FRAMES_PER_WINDOW = 64
FRAMES_PER_SECOND = 25

_SOURCE = (
    "its raw recordings (MIT) are at https://github.com/DiFronzo/LSTM-for-Human-Activity-Recognition-classification: "
    "clone it as DIR/har, then name DIR by --data-dir or by the environment variable DELTATRAIN_DATA"
)


def load(data_dir: Path | None, config: FeatureConfig) -> Dataset:
    """Return every window, ordered by experiment and time.

    Parameters
    ----------
    data_dir : Path or None
        The folder that holds `har`.
    config : FeatureConfig
        Of which `max_frames` holds; a window has 64.

    Raises
    ------
    DataError
        If the set is absent (says where to get it), or a file cannot be used.
    """
    folder = found_folder("har", data_dir, _SOURCE, "RawData")
    if not (folder / "labels.txt").is_file():
        raise DataError(f"data set har was not found: there is no file {folder / 'labels.txt'}; {_SOURCE}")
    max_frames = min(config.max_frames, FRAMES_PER_WINDOW)
    readings: dict[tuple[int, int], NDArray[np.float64]] = {}
    features: list[Features] = []
    labels, speakers, indices = [], [], []
    seen: Counter[tuple[int, int]] = Counter()
    for passage in _passages(folder / "labels.txt"):
        key = passage.experiment, passage.user
        if key not in readings:
            readings[key] = _readings(folder, *key)
        for window in _windows(readings[key][passage.first : passage.last]):
            features.append(window[:max_frames].astype(np.float32))
            labels.append(passage.label)
            speakers.append(f"user{passage.user:02d}")
            indices.append(seen[passage.user, passage.label])
            seen[passage.user, passage.label] += 1
    if not features:
        raise DataError(f"{folder / 'labels.txt'} names no passage as long as a window; {_SOURCE}")
    return Dataset(
        name="har",
        features=tuple(features),
        labels=np.array(labels, np.int64),
        speakers=tuple(speakers),
        indices=np.array(indices, np.int64),
        class_names=CLASS_NAMES,
        config=FeatureConfig(n_bands=N_IN, max_frames=max_frames),
        was_cut=np.full(len(features), max_frames < FRAMES_PER_WINDOW),
        spectra=False,
    )


@dataclass(frozen=True)
class _Passage:
    """A stretch of one activity: rows first to last − 1, from 0."""

    experiment: int
    user: int
    label: int
    first: int
    last: int


def _passages(path: Path) -> list[_Passage]:
    passages = []
    for row in _table(path, 5).astype(np.int64):
        experiment, user, activity, first, last = (int(number) for number in row)
        if not (1 <= activity <= len(CLASS_NAMES) and 1 <= first <= last):
            raise DataError(f"{path}: {' '.join(map(str, row))} is no passage; take the file from the source again")
        passages.append(_Passage(experiment, user, activity - 1, first - 1, last))
    return passages


def _readings(folder: Path, experiment: int, user: int) -> NDArray[np.float64]:
    """(n, 6), accelerometer and gyroscope. Passages may end beyond it: one label of the source has a digit too many."""
    name = f"exp{experiment:02d}_user{user:02d}.txt"
    acceleration, rotation = (_table(folder / f"{sensor}_{name}", 3) for sensor in ("acc", "gyro"))
    if len(acceleration) != len(rotation):
        raise DataError(
            f"{folder}: acc_{name} has {len(acceleration)} lines, gyro_{name} {len(rotation)}; take both anew"
        )
    return np.concatenate([acceleration, rotation], axis=1)


def _table(path: Path, n_columns: int) -> NDArray[np.float64]:
    try:
        table: NDArray[Any] = np.loadtxt(path, ndmin=2)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}); {_SOURCE}") from error
    if table.shape[1] != n_columns or not np.isfinite(table).all():
        raise DataError(f"{path} should hold {n_columns} finite numbers a line; take the file from the source again")
    return table


def _windows(readings: NDArray[np.float64]) -> NDArray[np.float64]:
    """(windows, 64, 6)."""
    count = len(readings) // (FRAMES_PER_WINDOW * READINGS_PER_FRAME)
    whole = readings[: count * FRAMES_PER_WINDOW * READINGS_PER_FRAME]
    frames: NDArray[np.float64] = whole.reshape(-1, READINGS_PER_FRAME, N_IN).mean(axis=1)
    return frames.reshape(count, FRAMES_PER_WINDOW, N_IN)
