"""Losses of a packed batch: a class at the last frame, a class at every frame, or values at every frame.

Each is the mean over sequences of the mean over a sequence's own targets, as `reference.Network` has it for one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from deltatrain.pretrain.cells import Array
from deltatrain.pretrain.packing import Packing
from deltatrain.readouts import NO_CLASS

Targets = npt.NDArray[np.integer] | Sequence[npt.NDArray[np.generic]]
"""Labels (B,), or for each sequence its classes (T,) or values (T, K); in the order given to the packing."""


@dataclass(frozen=True)
class Judged:
    """What a batch's outputs (M, K) are worth.

    Attributes
    ----------
    loss : float
        Mean over the sequences.
    d_outputs : ndarray, shape (M, K)
        Its gradient.
    n_targets, n_wrong : int
        Frames judged, and those of them where another class has the largest output.
    squares : float
        Sum over frames of the squared error's mean over outputs.
    """

    loss: float
    d_outputs: Array
    n_targets: int
    n_wrong: int
    squares: float = 0.0


def read_rows(readout: str, packing: Packing) -> npt.NDArray[np.intp] | slice:
    """Which rows of the top layer's hidden states the readout reads."""
    return packing.last_rows() if readout == "last" else slice(None)


def judge(readout: str, outputs: Array, targets: Targets, packing: Packing) -> Judged:
    """Judge outputs at `read_rows`."""
    if readout == "last":
        labels = np.asarray(targets)[packing.order]
        return _classes(outputs, labels, np.arange(packing.batch), None)
    lengths = np.array([len(item) for item in targets])
    rows = np.concatenate(list(targets))[packing.gather(np.cumsum(lengths) - lengths)]
    # Each sequence's share, spread over its targets.
    counts = np.array([_n_targets(targets[i]) for i in packing.order], outputs.dtype)
    of_row = np.concatenate([np.arange(count) for count in packing.counts])  # sequences in the packing's order
    if readout == "frames":
        judged = np.flatnonzero(rows != NO_CLASS)
        return _classes(outputs, rows[judged], judged, 1 / (counts[of_row[judged]] * packing.batch))
    error = outputs - rows.astype(outputs.dtype)
    squares = (error**2).mean(axis=1, dtype=np.float64)
    weights = 1 / (counts[of_row] * packing.batch)
    return Judged(
        loss=float(np.sum(squares * weights)),
        d_outputs=error * (2 / outputs.shape[1] * weights)[:, None].astype(outputs.dtype),
        n_targets=len(rows),
        n_wrong=0,
        squares=float(squares.sum()),
    )


def _n_targets(targets: npt.NDArray[np.generic]) -> int:
    return int(np.count_nonzero(targets != NO_CLASS)) if targets.ndim == 1 else len(targets)


def _classes(
    logits: Array, labels: npt.NDArray[np.generic], rows: npt.NDArray[np.intp], weights: Array | None
) -> Judged:
    """Cross-entropy of `rows` of the logits; `weights` of each, None for all the same."""
    chosen = labels.astype(np.intp)
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    each = log_p[rows, chosen]
    loss = -float(each.mean()) if weights is None else -float(np.sum(each * weights, dtype=np.float64))
    d_logits = np.exp(log_p)
    d_logits[rows, chosen] -= 1
    if weights is None:
        d_logits /= len(rows)
    else:
        of_rows = np.zeros((len(logits), 1), logits.dtype)
        of_rows[rows, 0] = weights
        d_logits *= of_rows
    wrong = logits[rows].argmax(axis=1) != chosen
    return Judged(loss, d_logits, len(rows), int(np.count_nonzero(wrong)))
