"""The samples of a run: which one comes at which turn, made when its turn comes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deltatrain.datasets import Dataset
from deltatrain.datasets.lazy import Lazy
from deltatrain.fixed.rounding import draw
from deltatrain.order import Order, Turns
from deltatrain.quant_model import QuantModel
from deltatrain.replay import exemplar
from deltatrain.samples import check_classes, sample_of
from deltatrain.training import Sample, Settings


@dataclass(frozen=True)
class Stream:
    """Access to the sample of any turn: a function of data, seed, turn and, for exemplars, of the step's number."""

    model: QuantModel
    dataset: Dataset
    order: Order
    settings: Settings

    def __post_init__(self) -> None:
        check_classes(self.model, self.dataset)

    @property
    def turns(self) -> Turns:
        """New samples, and exemplars between them."""
        return Turns.of(self.settings.replay_rate)

    def samples(self, n_new: int) -> Sequence[Sample]:
        """Those of so many new samples and the exemplars between them, of an engine that begins at step 0.

        Each is made when it is asked for; the exemplars are those that come where no sample is refused.
        """
        return Lazy(lambda turn: self.sample(turn, turn), np.arange(self.turns.count(n_new)))

    def sample(self, turn: int, step: int) -> Sample:
        """The sample of a turn, of an engine whose next step has this number."""
        index = self.turns.new_at(turn)
        if index is not None:
            return sample_of(self.model, self.dataset, self.order.item(index))
        store = self.model.replay
        return exemplar(self.model, 0 if store is None else draw(self.settings.seed, step % 2**32, len(store)))
