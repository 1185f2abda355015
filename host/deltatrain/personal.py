"""Who trains and who tests when a model meets a new speaker."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deltatrain.datasets import Dataset, items_named, personal_split, pretrain_split
from deltatrain.errors import InputError
from deltatrain.model import FloatModel
from deltatrain.order import Order
from deltatrain.quant_model import QuantModel

CALIBRATION_ITEMS = 200
KNOWN_TEST_ITEMS = 300

IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Personal:
    """Item numbers of one speaker's utterances.

    Attributes
    ----------
    speaker : str
    train : ndarray, int64
        In the order of training: one shuffled pass after the other.
    test : ndarray, int64
        The speaker's other utterances.
    """

    speaker: str
    train: IntArray
    test: IntArray


def personal(dataset: Dataset, speaker: str | None, *, per_class: int, epochs: int, seed: int) -> Personal:
    """Draw the utterances of a run; the same seed draws the same ones in the same order.

    Parameters
    ----------
    speaker : str or None
        InputError, naming the speakers, when it is None or unknown.
    """
    first, test = first_pass(dataset, speaker, per_class=per_class, seed=seed)
    order = Order(first, seed)
    return Personal(str(speaker), np.concatenate([order.epoch(number) for number in range(epochs)]), test)


def first_pass(
    dataset: Dataset, speaker: str | None, *, per_class: int, seed: int, purpose: str = "train on"
) -> tuple[IntArray, IntArray]:
    """A speaker's items to train on, in the order of the first pass (see `Order`), and those to test on."""
    if speaker is None:
        raise InputError(
            f"say whose {items_named(dataset.judged_by)} to {purpose}: --holdout with one of "
            f"{', '.join(dataset.speaker_names)}"
        )
    return personal_split(dataset, speaker, per_class, seed)


def everybody(dataset: Dataset, speaker: str | None, test_fraction: float, seed: int) -> tuple[IntArray, IntArray]:
    """Items of all speakers to train on, in the order of the first pass, and those to test on.

    Parameters
    ----------
    speaker : str or None
        Whose items test, and none of whose trains; without one, `test_fraction` of each speaker's items of each class.
    """
    holdout = () if speaker is None else (speaker,)
    train, test = pretrain_split(dataset, holdout, 0.0 if holdout else test_fraction, seed)
    if speaker is not None:
        test = np.flatnonzero([name == speaker for name in dataset.speakers]).astype(np.int64)
    return np.random.Generator(np.random.PCG64([seed, 3])).permutation(train), test


def spread(items: IntArray, count: int) -> IntArray:
    """At most `count` of the items, evenly spread over them."""
    if len(items) <= count:
        return items
    return items[np.linspace(0, len(items) - 1, count).astype(np.int64)]


def pretraining_items(dataset: Dataset, model: FloatModel | QuantModel, count: int) -> IntArray:
    """At most `count` utterances of the speakers that a model was pre-trained on, evenly spread over them.

    Of all speakers where the model's file does not name them. InputError when the data set has none of them.
    """
    speakers = pretrained_on(model)
    chosen = [speakers is None or name in speakers for name in dataset.speakers]
    items = np.flatnonzero(chosen).astype(np.int64)
    if not len(items):
        raise InputError(
            f"data set {dataset.name} has none of the speakers that the model was pre-trained on; "
            "name the data that `fit` was given"
        )
    return spread(items, count)


def pretrained_on(model: FloatModel | QuantModel) -> list[str] | None:
    """The speakers of a model's pre-training data; None when its file does not say."""
    speakers = model.provenance.get("speakers")
    return list(speakers) if isinstance(speakers, list) else None
