"""Adam on one flat vector, with decoupled weight decay and global-norm clipping.

Kingma and Ba, *Adam: A Method for Stochastic Optimization*, ICLR 2015; decay as in Loshchilov and Hutter,
*Decoupled Weight Decay Regularization*, ICLR 2019.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating]

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


class Adam:
    """State of the optimiser for a parameter vector of `size` entries."""

    def __init__(self, size: int, dtype: npt.DTypeLike) -> None:
        self._mean = np.zeros(size, dtype)
        self._square = np.zeros(size, dtype)
        self._scratch = np.zeros(size, dtype)
        self._steps = 0

    def step(self, params: Array, grads: Array, learning_rate: float, decay: Array | float = 0.0) -> None:
        """Move `params` in place; `grads` is overwritten.

        Parameters
        ----------
        params, grads : ndarray, shape (size,)
        learning_rate : float
        decay : float or ndarray, shape (size,)
            Each parameter shrinks by learning_rate · decay of itself.
        """
        self._steps += 1
        scratch = self._scratch
        self._mean *= BETA1
        np.multiply(grads, 1 - BETA1, out=scratch)
        self._mean += scratch
        np.multiply(grads, grads, out=grads)
        grads *= 1 - BETA2
        self._square *= BETA2
        self._square += grads
        # Both bias corrections as one rate: lr √(1 − β2ᵗ) / (1 − β1ᵗ).
        correction = np.sqrt(1 - BETA2**self._steps)
        np.sqrt(self._square, out=scratch)
        scratch += EPSILON * correction
        np.divide(self._mean, scratch, out=scratch)
        scratch *= learning_rate * correction / (1 - BETA1**self._steps)
        if np.any(decay):
            params -= params * (learning_rate * np.asarray(decay, params.dtype))
        params -= scratch


def clip_to_norm(grads: Array, limit: float) -> float:
    """Scale `grads` in place so that its norm is at most `limit`; return the norm before."""
    norm = float(np.sqrt(np.dot(grads, grads)))
    if norm > limit:
        grads *= limit / norm
    return norm
