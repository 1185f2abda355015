"""σ and tanh by one table with linear interpolation. NUMERICS.md, "Tables"."""

from __future__ import annotations

import numpy as np

from deltatrain.fixed.arithmetic import Int64

RANGE = 12
STEPS_PER_UNIT = 32
ARGUMENT_ONE = 2**13  # the argument of σ is Q13
STEP = ARGUMENT_ONE // STEPS_PER_UNIT

# σ(k / 32) − ½ in Q16
_TABLE = np.rint(65536 * (1 / (1 + np.exp(-np.arange(RANGE * STEPS_PER_UNIT + 1) / STEPS_PER_UNIT)) - 0.5)).astype(
    np.int64
)


def _above_half_q16(x_q13: Int64) -> Int64:
    magnitude = np.minimum(np.abs(x_q13), RANGE * ARGUMENT_ONE - 1)
    index, fraction = magnitude // STEP, magnitude % STEP
    low, high = _TABLE[index], _TABLE[index + 1]
    return np.asarray(low + ((high - low) * fraction + STEP // 2) // STEP)


def sigmoid_q14(x_q13: Int64) -> Int64:
    """σ(x) in Q1.14 for x in Q13."""
    return np.asarray((32768 + np.sign(x_q13) * _above_half_q16(x_q13) + 2) // 4)


def tanh_q14(x_q14: Int64) -> Int64:
    """tanh(x) = 2 σ(2x) − 1 in Q1.14 for x in Q14."""
    return np.asarray(np.sign(x_q14) * ((_above_half_q16(x_q14) + 1) // 2))
