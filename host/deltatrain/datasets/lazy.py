"""Sequences that are read when they are asked for: a data set of any length, of which one item is held at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")


class Lazy(Sequence[T], Generic[T]):
    """Items that `read` makes anew each time.

    Parameters
    ----------
    read : callable
        From the number of an item among all to the item.
    numbers : ndarray, shape (N,), int64
        Which of them, in their order.
    """

    def __init__(self, read: Callable[[int], T], numbers: NDArray[np.int64]) -> None:
        self._read = read
        self._numbers = numbers

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Lazy[T]: ...

    def __getitem__(self, index: int | slice) -> T | Lazy[T]:
        if isinstance(index, slice):
            return Lazy(self._read, self._numbers[index])
        return self._read(int(self._numbers[index]))

    def __iter__(self) -> Iterator[T]:
        return (self._read(int(number)) for number in self._numbers)

    def take(self, chosen: NDArray[np.integer[Any]]) -> Lazy[T]:
        """The chosen items, by their places here."""
        return Lazy(self._read, self._numbers[chosen])


def chosen_of(items: Sequence[T], numbers: NDArray[np.integer[Any]]) -> Sequence[T]:
    """Items by their places: read still later where they are lazy, else a tuple."""
    return items.take(numbers) if isinstance(items, Lazy) else tuple(items[int(i)] for i in numbers)


class LastRead(Generic[T]):
    """A reader that gives its last item again without reading: what two fields of a data set share.

    Parameters
    ----------
    read : callable
        From the number of an item to the item.
    """

    def __init__(self, read: Callable[[int], T]) -> None:
        self._read = read
        self._last: tuple[int, T] | None = None

    def __call__(self, number: int) -> T:
        if self._last is None or self._last[0] != number:
            self._last = (number, self._read(number))
        return self._last[1]
