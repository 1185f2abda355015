"""Which exemplars a model keeps of the speakers that it knows, and when they are trained again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from deltatrain.datasets import Dataset
from deltatrain.errors import InputError
from deltatrain.exemplars import ENTRY_BYTES, MAX_EXEMPLARS, Exemplars, encode, store
from deltatrain.fixed.rounding import draw
from deltatrain.personal import pretraining_items
from deltatrain.quant_model import QuantModel
from deltatrain.samples import samples_of
from deltatrain.training import Sample, Settings, Taken

IntArray = NDArray[np.int64]

DEFAULT_BYTES = 16384


def with_exemplars(model: QuantModel, dataset: Dataset, n_bytes: int | None, seed: int = 0) -> QuantModel:
    """The model with exemplars of the speakers that it was pre-trained on.

    Parameters
    ----------
    n_bytes : int or None
        Flash that they may take; 0 for none, None for the default: where the data are labelled utterances,
        DEFAULT_BYTES.
    seed : int
        Of the choice among recordings of one class and speaker.

    Raises
    ------
    InputError
        If the bytes hold no exemplar, or the data have targets of their own in place of labels.
    """
    labelled = dataset.judged_by == "utterances"
    if n_bytes is None:
        n_bytes = DEFAULT_BYTES if labelled else 0
    if n_bytes == 0:
        return replace(model, replay=None)
    if not labelled:
        raise InputError(
            f"data set {dataset.name} has targets of its frames; exemplars are kept with the class of an utterance "
            "alone, so give --replay 0"
        )
    items = pretraining_items(dataset, model, len(dataset))
    return replace(model, replay=choose(model, dataset, items, n_bytes, seed))


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


def rate_over(passes: int, rate: float | None) -> float | None:
    """The user's rate; without one 0 for a single pass, which forgets little, else None: the model's default."""
    return 0.0 if rate is None and passes == 1 else rate


def with_replay(model: QuantModel, samples: Sequence[Sample], settings: Settings, step: int = 0) -> tuple[Sample, ...]:
    """New samples in their order, and between them the model's exemplars, at the settings' rate.

    Parameters
    ----------
    step : int
        Number of the first training step: it and the seed tell which exemplar comes when.
    """
    exemplars = model.replay
    turns: list[Sample] = []
    for done, sample in enumerate(samples, 1):
        turns.append(sample)
        for _ in range(0 if exemplars is None else due(done, settings.replay_rate)):
            number = draw(settings.seed, (step + len(turns)) % 2**32, len(exemplars or ()))
            turns.append(exemplar(model, number))
    return tuple(turns)


def taken(model: QuantModel, settings: Settings, step: int = 0) -> Taken:
    """For samples of `with_replay`: which exemplar an engine takes that has trained less, for samples were refused."""

    def after(sample: Sample, n_trained: int) -> Sample:
        if not sample.replayed or model.replay is None:
            return sample
        return exemplar(model, draw(settings.seed, (step + n_trained) % 2**32, len(model.replay)))

    return after


def exemplar(model: QuantModel, number: int) -> Sample:
    """A stored exemplar as the device trains it; InputError where the model has none."""
    if model.replay is None:
        raise InputError("the model keeps no exemplars; give `quantize` bytes for them by --replay")
    store = model.replay
    return Sample(
        store.frames(number),
        int(store.labels[number]),
        store.names[number],
        store.targets(number, model.readout, model.n_outputs),
        replayed=True,
    )


def due(done: int, rate: float) -> int:
    """How many exemplars are trained after the `done`-th new utterance, so that after n it was ⌊n · rate⌋ in all."""
    exact = Fraction(str(rate))
    return math.floor(done * exact) - math.floor((done - 1) * exact)
