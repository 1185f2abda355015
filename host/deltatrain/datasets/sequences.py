"""A user's own sequences with a target at every frame: `DIR/<speaker>_<anything>.npz`.

Each file holds two arrays: `x`, shape (T, n_in), numbers, and `targets`, either integers, shape (T,), the class of each
frame (-1 for none), or real numbers, shape (T, n_outputs), the values that the outputs should have; (T,) for one. The
speaker (a person, a machine, a sensor) is the part of the file name before the first underscore. An optional
`DIR/names.txt` names classes or values, one a line; without it they are numbered.
"""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deltatrain.datasets.base import Dataset
from deltatrain.datasets.lazy import LastRead, Lazy
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


def load(folder: Path, config: FeatureConfig | None, max_frames: int | None = None) -> Dataset:
    """Return every sequence of a folder, ordered by file name; heads of files are read now, the rest when asked for.

    Parameters
    ----------
    folder : Path
        Laid out as described above.
    config : FeatureConfig or None
        A model's, whose `max_frames` then holds; by default sequences keep up to 4,096 frames.
    max_frames : int, optional
        In place of either.

    Raises
    ------
    DataError
        If a file cannot be used, or does not fit the others; names the file.
    """
    items = [_indexed(path) for path in _files(folder)]
    if not items:
        raise DataError(f"{folder} holds no npz file; {_LAYOUT}")
    first = items[0]
    for item in items[1:]:
        for mine, others in ((f"{item.n_in} inputs", f"{first.n_in} inputs"), (item.kind, first.kind)):
            if mine != others:
                raise DataError(
                    f"{item.path} has {mine} a frame, {first.path} has {others} a frame; "
                    "all files of a set must have the same"
                )
    n_in = first.n_in
    if not 1 <= n_in <= MAX_INPUTS:
        raise DataError(f"{first.path}: x has {n_in} inputs; there may be 1 to {MAX_INPUTS}")
    lengths = np.array([item.n_frames for item in items], np.int64)
    if config is None:
        config = FeatureConfig(max_frames=min(int(lengths.max()), MAX_FRAMES))
    elif config.n_bands != n_in:
        raise DataError(f"{folder} has {n_in} inputs, the model takes {config.n_bands}; name the data it was made for")
    config = FeatureConfig(n_bands=n_in, max_frames=max_frames or config.max_frames)
    seen: Counter[str] = Counter()
    indices = []
    for item in items:
        indices.append(seen[item.speaker])
        seen[item.speaker] += 1
    read = LastRead(_Reader(tuple(items), config.max_frames))
    numbers = np.arange(len(items))
    return Dataset(
        name=folder.name or str(folder),
        features=Lazy(lambda number: read(number)[0], numbers),
        labels=np.zeros(len(items), np.int64),
        speakers=tuple(item.speaker for item in items),
        indices=np.array(indices, np.int64),
        class_names=_names(folder, items),
        config=config,
        was_cut=lengths > config.max_frames,
        targets=Lazy(lambda number: read(number)[1], numbers),
        lengths=np.minimum(lengths, config.max_frames),
        spectra=False,
    )


@dataclass(frozen=True)
class _Item:
    """What the head of a file says; of classes, whose arrays are small, also the largest one."""

    path: Path
    speaker: str
    n_frames: int
    n_in: int
    n_values: int | None
    last_class: int = 0

    @property
    def kind(self) -> str:
        """What its frames have for targets, in words; the same for all files of a set."""
        return "a class" if self.n_values is None else f"{self.n_values} target values"


@dataclass(frozen=True)
class _Reader:
    """From the number of a file to its frames (T, n_in) float32 and its targets."""

    items: tuple[_Item, ...]
    max_frames: int

    def __call__(self, number: int) -> tuple[NDArray[np.float32], NDArray[Any]]:
        path = self.items[number].path
        with _opened(path) as file:
            x, targets = file["x"], file["targets"]
        if not np.isfinite(x).all():
            frame, column = (int(i) for i in np.argwhere(~np.isfinite(x))[0])
            raise DataError(f"{path}: x[{frame}, {column}] is {x[frame, column]}; leave it out or repair it")
        checked = _checked_targets(path, targets)
        return x[: self.max_frames].astype(np.float32), checked[: self.max_frames]


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix.lower() == ".npz" and not p.name.startswith("."))


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """An npz file with both arrays."""
    try:
        with np.load(path, allow_pickle=False) as file:
            missing = [name for name in ("x", "targets") if name not in file]
            if missing:
                raise DataError(f"{path} holds no array {' and no '.join(missing)}; {_LAYOUT}")
            yield file
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is not a whole npz file ({error}); write it anew") from error


def _header(file: Any, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and type of an array of an npz file, without reading it."""
    with file.zip.open(f"{name}.npy") as stream:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(stream)
    return tuple(int(n) for n in shape), dtype


def _indexed(path: Path) -> _Item:
    """A file by its head; DataError where it cannot be used."""
    speaker, underscore, _ = path.stem.partition("_")
    if not (speaker and underscore):
        raise DataError(f"the name of {path} does not say whose it is; {_LAYOUT}, so put `speaker_` before it")
    with _opened(path) as file:
        shape, dtype = _header(file, "x")
        if len(shape) != 2 or dtype.kind not in "iuf" or not shape[0]:
            raise DataError(f"{path}: x is {dtype}{list(shape)}; it must be numbers of shape (T, n_in), T at least 1")
        of_targets, kind = _header(file, "targets")
        _check_shape(path, of_targets, kind, shape[0])
        if kind.kind in "iu":
            classes = _checked_targets(path, file["targets"])
            return _Item(path, speaker, *shape, n_values=None, last_class=int(classes.max()))
    return _Item(path, speaker, *shape, n_values=of_targets[1] if len(of_targets) == 2 else 1)


def _check_shape(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any], n_frames: int) -> None:
    """DataError unless targets of this shape and type can be those of a file."""
    axes = (1,) if dtype.kind in "iu" else (1, 2)
    if dtype.kind not in "iuf" or len(shape) not in axes:
        raise DataError(
            f"{path}: targets are {dtype}{list(shape)}; they must be integers (T,), classes, "
            "or real numbers (T, n_outputs), values"
        )
    if shape[0] != n_frames:
        raise DataError(f"{path}: x has {n_frames} frames and targets {shape[0]}; each frame takes one")
    if len(shape) == 2 and not 1 <= shape[1] <= MAX_OUTPUTS:
        raise DataError(f"{path}: targets have {shape[1]} values a frame; there may be 1 to {MAX_OUTPUTS}")


def _checked_targets(path: Path, targets: NDArray[Any]) -> NDArray[Any]:
    """Classes (T,) int64 or values (T, K) float64 of a file whose head was checked."""
    if targets.dtype.kind in "iu":
        if int(targets.min()) < NO_CLASS or int(targets.max()) >= MAX_OUTPUTS:
            raise DataError(
                f"{path}: targets are {targets.min()} .. {targets.max()}; "
                f"classes are 0 to {MAX_OUTPUTS - 1}, -1 for none"
            )
        if not (targets != NO_CLASS).any():
            raise DataError(f"{path}: no frame has a class, all are -1; leave the file out")
        return targets.astype(np.int64)
    if targets.ndim == 1:
        targets = targets[:, None]
    if not np.isfinite(targets).all():
        frame, column = (int(i) for i in np.argwhere(~np.isfinite(targets))[0])
        raise DataError(
            f"{path}: targets[{frame}, {column}] is {targets[frame, column]}; leave the frame out or repair it"
        )
    return targets.astype(np.float64)


def _names(folder: Path, items: list[_Item]) -> tuple[str, ...]:
    """Names of classes or values: of the file, else numbers."""
    n_values = items[0].n_values
    classes = n_values is None
    needed = max(item.last_class for item in items) + 1 if n_values is None else n_values
    path = folder / NAMES_FILE
    try:
        names = tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    except FileNotFoundError:
        names = tuple(str(number) for number in range(max(needed, 2) if classes else needed))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read ({error}); write one name a line, in UTF-8") from error
    if (classes and len(names) < max(needed, 2)) or (not classes and len(names) != needed):
        wanted = f"{needed} classes" if classes else f"{needed} values a frame"
        least = ", and a model takes at least 2" if classes and needed < 2 else ""
        raise DataError(f"{path} has {len(names)} names, the targets have {wanted}{least}; name each, one a line")
    return names
