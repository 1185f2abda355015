"""What a data set is: labelled feature sequences, each with its speaker and recording number."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deltatrain.datasets.lazy import Lazy, chosen_of
from deltatrain.errors import DataError, InputError
from deltatrain.features import FeatureConfig

IntArray = NDArray[np.int64]
Features = NDArray[np.float32]
Targets = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Utterance:
    """One recording of a `Dataset`.

    Attributes
    ----------
    features : ndarray, shape (T, n_bands), float32, nats
        Raw log-mel features.
    label : int
        Number of the class.
    speaker : str
        Who spoke it.
    index : int
        Recording number of this speaker and class.
    targets : ndarray or None
        Of each frame, of a data set that has them: classes (T,) int64 or values (T, K) float64.
    """

    features: Features
    label: int
    speaker: str
    index: int
    targets: Targets | None = None


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled sequences of raw features, N items in a fixed order.

    Attributes
    ----------
    name : str
        As given to `load`.
    features : sequence of N ndarrays, shape (T, n_bands), float32, nats
        Raw log-mel features, T from 1 to `config.max_frames`; a tuple, or `Lazy`, which reads them when asked.
    labels : ndarray, shape (N,), int64
        Class of each item, 0 to len(class_names) - 1.
    speakers : tuple of N str
        Who spoke each item.
    indices : ndarray, shape (N,), int64
        Recording number of each item among those of its speaker and class.
    class_names : tuple of str
    config : FeatureConfig
        How the features were extracted; never standardised, for that is the model's business.
    was_cut : ndarray, shape (N,), bool, or None
        Which recordings were longer than `config.max_frames`; None stands for none of them.
    targets : sequence of N ndarrays, or None
        What each frame is to be taken for, in place of labels, which are 0 then: classes, shape (T,), int64, -1 for
        none; or values, shape (T, len(class_names)), float64, whose names `class_names` are.
    lengths : ndarray, shape (N,), int64, or None
        T of each item, where features are lazy.
    spectra : bool
        Whether the features are spectra of sound, which pre-training may vary as such.

    Raises
    ------
    InputError
        If the fields disagree in length, a label is out of range, or a sequence is empty or too long.
    DataError
        If a feature is not a finite number.
    """

    name: str
    features: Sequence[Features]
    labels: IntArray
    speakers: tuple[str, ...]
    indices: IntArray
    class_names: tuple[str, ...]
    config: FeatureConfig
    was_cut: NDArray[np.bool_] | None = None
    targets: Sequence[Targets] | None = None
    lengths: IntArray | None = None
    spectra: bool = True

    def __post_init__(self) -> None:
        n = len(self.features)
        lengths = {
            "labels": len(self.labels),
            "speakers": len(self.speakers),
            "indices": len(self.indices),
            "was_cut": n if self.was_cut is None else len(self.was_cut),
            "targets": n if self.targets is None else len(self.targets),
            "lengths": n if self.lengths is None else len(self.lengths),
        }
        if wrong := {field: length for field, length in lengths.items() if length != n}:
            raise InputError(f"data set {self.name} has {n} feature sequences, but {wrong}; give one of each")
        check_labels(self.labels, self.class_names)
        if not isinstance(self.features, Lazy):
            for i, item in enumerate(self.features):
                self._check(i, item)

    def _check(self, i: int, item: Features) -> None:
        """Raise unless an item's features can be used."""
        if item.ndim != 2 or item.shape[1] != self.config.n_bands:
            raise InputError(
                f"item {i} of data set {self.name} has shape {item.shape}; expected (T, {self.config.n_bands})"
            )
        if not 1 <= item.shape[0] <= self.config.max_frames:
            raise InputError(
                f"item {i} of data set {self.name} has {item.shape[0]} frames; expected 1 to {self.config.max_frames}"
            )
        if not np.isfinite(item).all():
            raise DataError(
                f"item {i} of data set {self.name} ({self.speakers[i]}, class {self.labels[i]}, "
                f"recording {self.indices[i]}) holds NaN or infinity; leave it out or repair it"
            )

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, item: int) -> Utterance:
        features = self.features[item]
        if isinstance(self.features, Lazy):
            self._check(item, features)
        targets = None if self.targets is None else self.targets[item]
        label, index = int(self.labels[item]), int(self.indices[item])
        return Utterance(features, label, self.speakers[item], index, targets)

    def loaded(self) -> Dataset:
        """The same with all items read and held: for who needs them more than once."""
        if not isinstance(self.features, Lazy):
            return self
        items = [self[item] for item in range(len(self))]
        return dataclasses.replace(
            self,
            features=tuple(item.features for item in items),
            targets=None if self.targets is None else tuple(np.asarray(item.targets) for item in items),
        )

    def identity(self) -> str:
        """SHA-256, hexadecimal, of what the index says: items in their order with label, speaker, number and frames.

        It tells whether two places hold the same data set, whatever they are called, without reading the recordings.
        """
        lengths = [len(item) for item in self.features] if self.lengths is None else self.lengths.tolist()
        index = [self.labels.tolist(), list(self.speakers), self.indices.tolist(), lengths]
        text = json.dumps([list(self.class_names), self.config.raw().to_dict(), index], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def judged_by(self) -> str:
        """What an error is counted by: `utterances`, or of own targets `frames` or `values`."""
        if self.targets is None:
            return "utterances"
        return "frames" if not len(self.targets) or self.targets[0].ndim == 1 else "values"

    @property
    def groups(self) -> tuple[str, ...]:
        """What `labels` number: the classes, or one group of all items where the frames have targets of their own."""
        return self.class_names if self.targets is None else ("recording",)

    @property
    def n_cut(self) -> int:
        """How many recordings were longer than `config.max_frames` and lost their end."""
        return 0 if self.was_cut is None else int(self.was_cut.sum())

    @property
    def speaker_names(self) -> tuple[str, ...]:
        """Every speaker once, in alphabetical order."""
        return tuple(sorted(set(self.speakers)))

    def select(self, chosen: ArrayLike) -> Dataset:
        """Return the chosen items as a data set of their own.

        Parameters
        ----------
        chosen : array_like, shape (N,) bool or shape (M,) integer
            A mask over the items, or their numbers in the order wanted.

        Raises
        ------
        InputError
            If a mask has another length, or a number is out of range.
        """
        numbers = np.asarray(chosen)
        if numbers.size == 0:
            numbers = numbers.astype(np.int64)
        if numbers.dtype == np.bool_:
            if numbers.shape != (len(self),):
                raise InputError(f"the mask has shape {numbers.shape}; data set {self.name} has {len(self)} items")
            numbers = np.flatnonzero(numbers)
        if numbers.ndim != 1 or not np.issubdtype(numbers.dtype, np.integer):
            raise InputError(f"items are chosen by a mask or by integers, not by {numbers.dtype} {numbers.shape}")
        if numbers.size and (numbers.min() < 0 or numbers.max() >= len(self)):
            raise InputError(
                f"items {numbers.min()} to {numbers.max()} chosen; data set {self.name} has items 0 to {len(self) - 1}"
            )
        return dataclasses.replace(
            self,
            features=chosen_of(self.features, numbers),
            labels=self.labels[numbers],
            speakers=tuple(self.speakers[i] for i in numbers),
            indices=self.indices[numbers],
            was_cut=None if self.was_cut is None else self.was_cut[numbers],
            targets=None if self.targets is None else chosen_of(self.targets, numbers),
            lengths=None if self.lengths is None else self.lengths[numbers],
        )


def items_named(judged_by: str) -> str:
    """What the items of a data set are called: labelled `utterances`, or `sequences` with targets of their own."""
    return "utterances" if judged_by == "utterances" else "sequences"


def check_labels(labels: ArrayLike, class_names: tuple[str, ...]) -> None:
    """Raise unless every label is the number of a class.

    Raises
    ------
    InputError
        Naming the first label out of range.
    """
    values = np.asarray(labels)
    bad = np.flatnonzero((values < 0) | (values >= len(class_names)))
    if bad.size:
        raise InputError(
            f"label {values[bad[0]]} of item {bad[0]} is out of range; "
            f"there are {len(class_names)} classes, 0 to {len(class_names) - 1}"
        )


# (data_dir or None, config) -> Dataset: what a data set has to provide to be registered.
Loader = Callable[[Path | None, FeatureConfig], Dataset]


def cut(features: NDArray[np.float64], config: FeatureConfig) -> tuple[Features, bool]:
    """Return the first `config.max_frames` frames as float32, and whether there were more.

    Parameters
    ----------
    features : ndarray, shape (T, n_bands), float64, nats
    """
    kept = features[: config.max_frames].astype(np.float32)
    return kept, features.shape[0] > config.max_frames


def found_folder(name: str, data_dir: Path | None, source: str, *below: str) -> Path:
    """The folder of a named data set in the users' data folder, or what lies below it.

    Raises
    ------
    DataError
        If no data folder was named, or it lacks that one; `source` says where to get the set.
    """
    if data_dir is None:
        raise DataError(f"data set {name} needs a data folder and none was named; {source}")
    folder = data_dir.joinpath(name, *below)
    if not folder.is_dir():
        raise DataError(f"data set {name} was not found: there is no folder {folder}; {source}")
    return folder
