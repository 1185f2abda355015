"""σ and tanh by one table with linear interpolation. NUMERICS.md, "Tables"."""

from __future__ import annotations

import numpy as np

from deltatrain.fixed.arithmetic import Int64, round_shift

RANGE = 16
STEPS_PER_UNIT = 32
FRACTION_BITS = 15
ARGUMENT_ONE = STEPS_PER_UNIT << FRACTION_BITS  # the argument of σ is Q20
FARTHEST = 2**30  # of an argument; no value changes beyond 16

# σ(k / 32) − ½ in Q16, below ½
_TABLE = np.minimum(
    np.rint(65536 * (1 / (1 + np.exp(-np.arange(RANGE * STEPS_PER_UNIT + 1) / STEPS_PER_UNIT)) - 0.5)), 2**15 - 1
).astype(np.int64)


def _above_half_q32(x_q20: Int64) -> Int64:
    """σ(|x|) − ½."""
    magnitude = np.minimum(np.abs(x_q20), RANGE * ARGUMENT_ONE - 1)
    index, fraction = magnitude >> FRACTION_BITS, magnitude % 2**FRACTION_BITS
    low, high = _TABLE[index], _TABLE[index + 1]
    return np.asarray(low * 2**16 + 2 * (high - low) * (fraction + 1))


def argument(m: Int64, bits: int) -> Int64:
    """round(m / 2^bits), within ±2^30."""
    return np.asarray(np.clip(round_shift(m, bits), -FARTHEST, FARTHEST))


def _signs(x: Int64) -> Int64:
    return np.where(x < 0, -1, 1)


def sigmoid_q14(x_q20: Int64) -> Int64:
    """σ(x) in Q1.14 for x in Q20."""
    return np.asarray(2**13 + round_shift(_signs(x_q20) * _above_half_q32(x_q20), 18))


def tanh_q14(x_q21: Int64) -> Int64:
    """tanh(x) = 2 σ(2x) − 1 in Q1.14 for x in Q21."""
    return np.asarray(_signs(x_q21) * round_shift(_above_half_q32(x_q21), 17))
