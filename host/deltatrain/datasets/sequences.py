"""A user's own sequences with a target at every frame: `DIR/<speaker>_<anything>.npz`.

Each file holds two arrays: `x`, shape (T, n_in), numbers, and `targets`, either integers, shape (T,), the class of each
frame (-1 for none), or real numbers, shape (T, n_outputs), the values that the outputs should have; (T,) for one. The
speaker (a person, a machine, a sensor) is the part of the file name before the first underscore. An optional
`DIR/names.txt` names classes or values, one a line; without it they are numbered.
"""

from __future__ import annotations

import zipfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deltatrain.datasets.base import Dataset
from deltatrain.errors import DataError
from deltatrain.features import FeatureConfig
from deltatrain.readouts import NO_CLASS

NAMES_FILE = "names.txt"
# What the C core takes: drnn_types.h.
MAX_FRAMES, MAX_INPUTS, MAX_OUTPUTS = 4096, 1024, 256
_LAYOUT = "the layout is DIR/<speaker>_<anything>.npz, each with x (T, n_in) and targets (T,) or (T, n_outputs)"


def is_one(folder: Path) -> bool:
    """Whether a folder holds such files."""
    return any(_files(folder))


def load(folder: Path, config: FeatureConfig | None) -> Dataset:
    """Return every sequence of a folder, ordered by file name.

    Parameters
    ----------
    folder : Path
        Laid out as described above.
    config : FeatureConfig or None
        A model's, whose `max_frames` then holds; by default sequences keep up to 4,096 frames.

    Raises
    ------
    DataError
        If a file cannot be used, or does not fit the others; names the file.
    """
    items = [_read(path) for path in _files(folder)]
    if not items:
        raise DataError(f"{folder} holds no npz file; {_LAYOUT}")
    first = items[0]
    for item in items[1:]:
        if item.x.shape[1] != first.x.shape[1] or item.kind != first.kind:
            raise DataError(
                f"{item.path} has {item.x.shape[1]} inputs and {item.kind}, {first.path} {first.x.shape[1]} inputs "
                f"and {first.kind}; all files of a set must have the same"
            )
    n_in = first.x.shape[1]
    if not 1 <= n_in <= MAX_INPUTS:
        raise DataError(f"{first.path}: x has {n_in} inputs; there may be 1 to {MAX_INPUTS}")
    if config is None:
        config = FeatureConfig(max_frames=min(max(len(item.x) for item in items), MAX_FRAMES))
    elif config.n_bands != n_in:
        raise DataError(f"{folder} has {n_in} inputs, the model takes {config.n_bands}; name the data it was made for")
    config = FeatureConfig(n_bands=n_in, max_frames=config.max_frames)
    seen: Counter[str] = Counter()
    indices = []
    for item in items:
        indices.append(seen[item.speaker])
        seen[item.speaker] += 1
    return Dataset(
        name=folder.name or str(folder),
        features=tuple(item.x[: config.max_frames].astype(np.float32) for item in items),
        labels=np.zeros(len(items), np.int64),
        speakers=tuple(item.speaker for item in items),
        indices=np.array(indices, np.int64),
        class_names=_names(folder, items),
        config=config,
        was_cut=np.array([len(item.x) > config.max_frames for item in items]),
        targets=tuple(item.targets[: config.max_frames] for item in items),
        spectra=False,
    )


@dataclass(frozen=True)
class _Item:
    path: Path
    speaker: str
    x: NDArray[Any]
    targets: NDArray[Any]

    @property
    def kind(self) -> str:
        """In words, the same for all files of a set."""
        return "classes" if self.targets.ndim == 1 else f"{self.targets.shape[1]} values a frame"


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix.lower() == ".npz" and not p.name.startswith("."))


def _read(path: Path) -> _Item:
    speaker, underscore, _ = path.stem.partition("_")
    if not (speaker and underscore):
        raise DataError(f"the name of {path} does not say whose it is; {_LAYOUT}, so put `speaker_` before it")
    try:
        with np.load(path, allow_pickle=False) as file:
            missing = [name for name in ("x", "targets") if name not in file]
            if missing:
                raise DataError(f"{path} holds no array {' and no '.join(missing)}; {_LAYOUT}")
            x, targets = file["x"], file["targets"]
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is not a whole npz file ({error}); write it anew") from error
    if x.ndim != 2 or x.dtype.kind not in "iuf" or not len(x):
        raise DataError(f"{path}: x is {x.dtype}{list(x.shape)}; it must be numbers of shape (T, n_in), T at least 1")
    if not np.isfinite(x).all():
        frame, column = (int(i) for i in np.argwhere(~np.isfinite(x))[0])
        raise DataError(f"{path}: x[{frame}, {column}] is {x[frame, column]}; leave it out or repair it")
    return _Item(path, speaker, x, _checked_targets(path, targets, len(x)))


def _checked_targets(path: Path, targets: NDArray[Any], n_frames: int) -> NDArray[Any]:
    classes = targets.dtype.kind in "iu"
    if targets.dtype.kind == "f" and targets.ndim == 1:
        targets = targets[:, None]
    if targets.dtype.kind not in "iuf" or targets.ndim != (1 if classes else 2):
        raise DataError(
            f"{path}: targets are {targets.dtype}{list(targets.shape)}; they must be integers (T,), classes, "
            "or real numbers (T, n_outputs), values"
        )
    if len(targets) != n_frames:
        raise DataError(f"{path}: x has {n_frames} frames and targets {len(targets)}; each frame takes one")
    if classes:
        if int(targets.min()) < NO_CLASS or int(targets.max()) >= MAX_OUTPUTS:
            raise DataError(
                f"{path}: targets are {targets.min()} .. {targets.max()}; "
                f"classes are 0 to {MAX_OUTPUTS - 1}, -1 for none"
            )
        if not (targets != NO_CLASS).any():
            raise DataError(f"{path}: no frame has a class, all are -1; leave the file out")
        return targets.astype(np.int64)
    if not 1 <= targets.shape[1] <= MAX_OUTPUTS:
        raise DataError(f"{path}: targets have {targets.shape[1]} values a frame; there may be 1 to {MAX_OUTPUTS}")
    if not np.isfinite(targets).all():
        frame, column = (int(i) for i in np.argwhere(~np.isfinite(targets))[0])
        raise DataError(
            f"{path}: targets[{frame}, {column}] is {targets[frame, column]}; leave the frame out or repair it"
        )
    return targets.astype(np.float64)


def _names(folder: Path, items: list[_Item]) -> tuple[str, ...]:
    """Names of classes or values: of the file, else numbers."""
    classes = items[0].targets.ndim == 1
    needed = max(int(item.targets.max()) for item in items) + 1 if classes else items[0].targets.shape[1]
    path = folder / NAMES_FILE
    try:
        names = tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    except FileNotFoundError:
        names = tuple(str(number) for number in range(max(needed, 2) if classes else needed))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read ({error}); write one name a line, in UTF-8") from error
    if len(names) < needed or (not classes and len(names) != needed) or (classes and len(names) < 2):
        of_what = "classes, at least 2," if classes else "values"
        raise DataError(f"{path} has {len(names)} names, the targets have {needed} {of_what}; name each")
    return names
