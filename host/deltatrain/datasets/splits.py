"""Which recordings train, which validate, which test: pure functions from a data set to item numbers."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import numpy as np

from deltatrain.datasets.base import Dataset, IntArray
from deltatrain.errors import InputError

N_FOLDS = 10


def personal_split(dataset: Dataset, speaker: str, per_class: int, seed: int) -> tuple[IntArray, IntArray]:
    """Draw a speaker's training recordings; all the others of this speaker are for testing.

    Parameters
    ----------
    dataset : Dataset
    speaker : str
    per_class : int
        Recordings of each class to train on; in all, where the frames have targets of their own.
    seed : int
        The same seed gives the same draw in the same order (PCG64).

    Returns
    -------
    train : ndarray, shape (n_groups * per_class,), int64
        Item numbers in the shuffled order in which they are to be trained.
    test : ndarray, int64
        The speaker's other items, ascending.

    Raises
    ------
    InputError
        If the speaker is unknown, or has no recording left to test in some class.
    """
    _check_speakers(dataset, [speaker])
    if per_class < 1:
        raise InputError(f"{per_class} recordings of each class were asked for; ask for at least 1")
    rng = _generator(seed)
    own = np.array([s == speaker for s in dataset.speakers])
    drawn = []
    for label, group in enumerate(dataset.groups):
        items = np.flatnonzero(own & (dataset.labels == label))
        if len(items) <= per_class:
            raise InputError(
                f"speaker {speaker} has {len(items)} recordings of `{group}` "
                f"in data set {dataset.name}; {per_class} to train on and at least one to test on are needed"
            )
        drawn.append(rng.permutation(items)[:per_class])
    train = rng.permutation(np.concatenate(drawn)).astype(np.int64)
    return train, np.setdiff1d(np.flatnonzero(own), train).astype(np.int64)


def pretrain_split(
    dataset: Dataset, holdout: Collection[str], validation_fraction: float, seed: int
) -> tuple[IntArray, IntArray]:
    """Split the recordings of all speakers but the held-out ones into training and validation.

    Parameters
    ----------
    dataset : Dataset
    holdout : collection of str
        Speakers of whom nothing may be seen; may be empty.
    validation_fraction : float
        Share of each speaker's recordings of each class to validate on, 0 to below 1, rounded to whole ones; what one
        speaker has too few for goes to the next, so that it holds for each class.
    seed : int

    Returns
    -------
    train, validation : ndarray, int64
        Item numbers, ascending.

    Raises
    ------
    InputError
        If a held-out speaker is unknown, nobody is left, or the fraction is out of range.
    """
    if not 0 <= validation_fraction < 1:
        raise InputError(f"the validation fraction is {validation_fraction}; it must be at least 0 and below 1")
    rng = _generator(seed)
    known = _known(dataset, holdout)
    speakers = np.array(dataset.speakers)
    validation: list[IntArray] = []
    due = [0.0] * len(dataset.groups)
    for speaker in np.unique(speakers[known]):
        for label in range(len(dataset.groups)):
            items = np.flatnonzero((speakers == speaker) & (dataset.labels == label))
            due[label] += validation_fraction * len(items)
            chosen_here = rng.permutation(items)[: round(due[label])]
            due[label] -= len(chosen_here)
            validation.append(chosen_here)
    chosen = np.sort(np.concatenate(validation)).astype(np.int64)
    return np.setdiff1d(known, chosen).astype(np.int64), chosen


def index_split(
    dataset: Dataset, test_indices: Iterable[int], holdout: Collection[str] = ()
) -> tuple[IntArray, IntArray]:
    """Split the recordings of all speakers but the held-out ones by recording number.

    Parameters
    ----------
    dataset : Dataset
    test_indices : iterable of int
        Recording numbers that test, such as `fsdd.OFFICIAL_TEST_INDICES` or `digits.TEST_INDICES`.
    holdout : collection of str

    Returns
    -------
    train, test : ndarray, int64
        Item numbers, ascending.

    Raises
    ------
    InputError
        If a held-out speaker is unknown or nobody is left.
    """
    known = _known(dataset, holdout)
    is_test = np.isin(dataset.indices[known], list(test_indices))
    return known[~is_test], known[is_test]


def fold_split(dataset: Dataset, fold: int, n_folds: int = N_FOLDS) -> tuple[IntArray, IntArray]:
    """Split all recordings for cross-validation: every speaker is known, every recording tests in one fold.

    The recordings of a speaker and class, by number, are cut into `n_folds` runs; so fold 0 of `fsdd` is its official
    split. Where they are fewer than the folds, each speaker begins with another fold.

    Parameters
    ----------
    dataset : Dataset
    fold : int
        From 0 to n_folds - 1.
    n_folds : int

    Returns
    -------
    train, test : ndarray, int64
        Item numbers, ascending.

    Raises
    ------
    InputError
        If the fold is out of range, or leaves nothing to train or to test.
    """
    if not 0 <= fold < n_folds:
        raise InputError(f"fold {fold} was asked for; there are {n_folds}, 0 to {n_folds - 1}")
    speakers = np.array(dataset.speakers)
    of_item = np.empty(len(dataset), np.int64)
    for first, speaker in enumerate(dataset.speaker_names):
        for label in range(len(dataset.class_names)):
            items = np.flatnonzero((speakers == speaker) & (dataset.labels == label))
            if not len(items):
                continue
            items = items[np.argsort(dataset.indices[items], kind="stable")]
            offset = first if len(items) < n_folds else 0
            of_item[items] = (np.arange(len(items)) * n_folds // len(items) + offset) % n_folds
    train, test = np.flatnonzero(of_item != fold), np.flatnonzero(of_item == fold)
    if not len(train) or not len(test):
        raise InputError(
            f"fold {fold} of {n_folds} of data set {dataset.name} has {len(train)} recordings to train on and "
            f"{len(test)} to test on; choose another fold, or give it more recordings"
        )
    return train.astype(np.int64), test.astype(np.int64)


def _known(dataset: Dataset, holdout: Collection[str]) -> IntArray:
    """Return the item numbers of all speakers but the held-out ones."""
    _check_speakers(dataset, holdout)
    known = np.flatnonzero([speaker not in holdout for speaker in dataset.speakers]).astype(np.int64)
    if known.size == 0:
        raise InputError(f"every speaker of data set {dataset.name} is held out; nobody is left to learn from")
    return known


def _check_speakers(dataset: Dataset, speakers: Collection[str]) -> None:
    for speaker in speakers:
        if speaker not in dataset.speakers:
            raise InputError(
                f"speaker {speaker!r} is not in data set {dataset.name}; "
                f"its speakers are {', '.join(dataset.speaker_names)}"
            )


def _generator(seed: int) -> np.random.Generator:
    if seed < 0:
        raise InputError(f"the seed is {seed}; it must be 0 or above")
    return np.random.Generator(np.random.PCG64(seed))
