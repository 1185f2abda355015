"""Which sample comes when: a function of the data, the seed and a number, with access at any place.

So training can go on anywhere: on another host, after weeks, from whichever step the device is at.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from deltatrain.errors import InputError

IntArray = NDArray[np.int64]


class Order:
    """Item numbers, one shuffled pass after the other.

    Parameters
    ----------
    first : ndarray, shape (N,), int64
        The first pass, in its order.
    seed : int
        Of the order of the later ones (PCG64).

    Access in ascending order costs nothing; going back draws the passes up to there anew, some 20 ns an item.
    """

    def __init__(self, first: IntArray, seed: int) -> None:
        if not len(first):
            raise InputError("there are no samples to train on; choose other data, or leave fewer for testing")
        self._first, self._seed = first, seed
        self._rewind()

    def _rewind(self) -> None:
        self._rng = np.random.Generator(np.random.PCG64([self._seed, 1]))
        self._epoch, self._pass = 0, self._first

    def __len__(self) -> int:
        """Items of a pass."""
        return len(self._first)

    def epoch(self, number: int) -> IntArray:
        """A whole pass, from 0."""
        if number < self._epoch:
            self._rewind()
        while self._epoch < number:
            self._pass = self._rng.permutation(self._first)
            self._epoch += 1
        return self._pass

    def item(self, index: int) -> int:
        """The item at a place, counted from 0 over all passes."""
        return int(self.epoch(index // len(self))[index % len(self)])


@dataclass(frozen=True)
class Turns:
    """New samples in their order, and exemplars between them: after n new ones it were floor(n * rate) exemplars."""

    rate: Fraction

    @staticmethod
    def of(rate: float) -> Turns:
        """At so many exemplars for each new sample."""
        return Turns(Fraction(str(rate)))

    def count(self, n_new: int) -> int:
        """Turns of the first `n_new` new samples and the exemplars after them."""
        return n_new + math.floor(n_new * self.rate)

    def new_before(self, turn: int) -> int:
        """New samples among the first `turn` turns."""
        n_new = math.floor(turn / (1 + self.rate))  # the largest with n + n * rate <= turn, so count(n) <= turn
        while self.count(n_new) < turn and self.count(n_new + 1) <= turn:
            n_new += 1
        return n_new + (self.count(n_new) < turn)

    def new_at(self, turn: int) -> int | None:
        """The number of the new sample whose turn it is, from 0; None where an exemplar comes."""
        before = self.new_before(turn)
        return before if self.new_before(turn + 1) > before else None


def turn_after(n_steps: int, refused: list[int]) -> int:
    """The turn that follows so many training steps.

    Parameters
    ----------
    refused : list of int, ascending
        Turns that took no step, for the engine refused their samples.
    """
    turn = n_steps
    for skipped in refused:
        if skipped > turn:
            break
        turn += 1
    return turn
