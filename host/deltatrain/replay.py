"""Which exemplars a model keeps of the speakers that it knows, and when they are trained again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from deltatrain.datasets import Dataset
from deltatrain.errors import InputError
from deltatrain.exemplars import ENTRY_BYTES, MAX_EXEMPLARS, Exemplars, encode, store
from deltatrain.quant_model import QuantModel
from deltatrain.training import samples_of

IntArray = NDArray[np.int64]


def balanced_order(dataset: Dataset, items: Sequence[int] | IntArray, seed: int) -> IntArray:
    """The items in an order whose every beginning is spread over classes and speakers.

    The classes take turns and so do the speakers; which recording of a class and speaker comes first is random.
    """
    rng = np.random.Generator(np.random.PCG64([seed, 2]))
    speakers = sorted({dataset.speakers[int(i)] for i in items})
    cells: dict[tuple[int, str], list[int]] = {}
    for item in rng.permutation(np.asarray(items, np.int64)):
        cells.setdefault((int(dataset.labels[item]), dataset.speakers[item]), []).append(int(item))
    classes = rng.permutation(len(dataset.class_names))
    turns = rng.permutation(len(speakers))
    ordered: list[int] = []
    lap = 0
    while len(ordered) < len(items):
        for place, label in enumerate(classes):
            cell = cells.get((int(label), speakers[turns[(lap + place) % len(speakers)]]))
            if cell:
                ordered.append(cell.pop(0))
        lap += 1
    return np.array(ordered, np.int64)


def choose(model: QuantModel, dataset: Dataset, items: Sequence[int] | IntArray, n_bytes: int, seed: int) -> Exemplars:
    """As many of the items, in `balanced_order`, as a budget holds.

    InputError when it does not hold one.
    """
    chosen: list[tuple[bytes, int, int, str]] = []
    left, needed = n_bytes, 0
    for item in balanced_order(dataset, items, seed)[:MAX_EXEMPLARS]:
        (sample,) = samples_of(model, dataset, [int(item)]).items
        events = encode(sample.frames, model.layers[0].theta_x)
        needed = len(events) + ENTRY_BYTES
        if needed > left:
            break
        left -= needed
        chosen.append((events, len(sample.frames), sample.label, sample.name))
    if not chosen:
        raise InputError(f"{n_bytes} bytes for replay hold no exemplar; the first one takes {needed}: give more")
    return store(model.n_in, chosen)


MAX_RATE = 16


def check_replay_rate(rate: float) -> float:
    """The rate, or InputError when it is out of range."""
    if not 0 <= rate <= MAX_RATE:
        raise InputError(f"the replay rate is {rate}; it must lie between 0 and {MAX_RATE}")
    return rate


def due(done: int, rate: float) -> int:
    """How many exemplars are trained after the `done`-th new utterance, so that after n it was ⌊n · rate⌋ in all."""
    exact = Fraction(str(rate))
    return math.floor(done * exact) - math.floor((done - 1) * exact)
