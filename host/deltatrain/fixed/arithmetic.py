"""Rounding, saturation and roots. NUMERICS.md, "Rounding"."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Int64 = NDArray[np.int64]

INT16_LIMIT = 2**15 - 1  # ranges are symmetric
INT32_LIMIT = 2**31 - 1


def round_shift(value: Any, bits: int) -> Any:
    """value / 2^bits to the nearest integer, halves up; negative `bits` multiply. Integers or arrays."""
    if bits <= 0:
        return value * 2**-bits
    return (value + 2 ** (bits - 1)) >> bits


def saturate(value: Int64, limit: int) -> tuple[Int64, int]:
    """Clamp to [−limit, limit]; also how many entries that changed."""
    clamped = np.clip(value, -limit, limit)
    return clamped, int(np.count_nonzero(clamped != value))


def sqrt_ceil(value: int) -> int:
    """The smallest integer whose square is at least `value`."""
    return math.isqrt(value - 1) + 1 if value > 0 else 0
