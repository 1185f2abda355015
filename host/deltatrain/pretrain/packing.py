"""Sequences of unequal length as one time-major array without padding.

The batch is sorted by falling length, so the sequences still running at step t are the first `counts[t]`, and
the rows of step t lie together. State arrays of the batch are used by their first `counts[t]` rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Index = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Packing:
    """Where each frame of a batch lies.

    Attributes
    ----------
    order : ndarray of int, shape (B,)
        Position in the original batch of each sorted sequence.
    lengths : ndarray of int, shape (B,)
        Sorted, falling, each at least 1.
    counts : ndarray of int, shape (T,)
        Sequences still running at step t.
    starts : ndarray of int, shape (T+1,)
        First row of step t; the last entry is the number of rows N.
    """

    order: Index
    lengths: Index
    counts: Index
    starts: Index

    @staticmethod
    def of(lengths: npt.ArrayLike) -> Packing:
        """The packing of sequences with these lengths."""
        given = np.asarray(lengths, dtype=np.intp)
        order = np.argsort(-given, kind="stable")
        sorted_lengths = given[order]
        counts = (sorted_lengths[None, :] > np.arange(sorted_lengths[0])[:, None]).sum(axis=1)
        starts = np.concatenate([[0], np.cumsum(counts)])
        return Packing(order, sorted_lengths, counts.astype(np.intp), starts.astype(np.intp))

    @property
    def steps(self) -> int:
        """Length of the longest sequence, T."""
        return len(self.counts)

    @property
    def rows(self) -> int:
        """Frames of all sequences together, N."""
        return int(self.starts[-1])

    @property
    def batch(self) -> int:
        """Number of sequences, B."""
        return len(self.order)

    def spans(self) -> list[tuple[int, int]]:
        """First row and number of sequences of each step."""
        return [(int(start), int(count)) for start, count in zip(self.starts[:-1], self.counts, strict=True)]

    def last_rows(self) -> Index:
        """Row of each sorted sequence's last frame, shape (B,)."""
        return np.asarray(self.starts[self.lengths - 1] + np.arange(self.batch))

    def gather(self, first_frames: npt.ArrayLike) -> Index:
        """Rows of a concatenated array to take, shape (N,); `first_frames`: where each sequence starts."""
        first = np.asarray(first_frames, dtype=np.intp)[self.order]
        grid = first[None, :] + np.arange(self.steps)[:, None]
        return np.asarray(grid[np.arange(self.steps)[:, None] < self.lengths[None, :]])


def pack(
    sequences: Sequence[npt.NDArray[np.floating]], dtype: npt.DTypeLike
) -> tuple[npt.NDArray[np.floating], Packing]:
    """Rows (N, n_in) of all sequences, time-major, and where each lies."""
    lengths = np.array([len(sequence) for sequence in sequences])
    packing = Packing.of(lengths)
    first = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    return np.concatenate(sequences).astype(dtype)[packing.gather(first)], packing
