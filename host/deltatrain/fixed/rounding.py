"""Stochastic rounding by counter: a weight's random bits are a function of (seed, step, tensor, index).

NUMERICS.md, "Stochastic rounding".
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Uint32 = NDArray[np.uint32]

DRAW = 0xFFFFFFFF  # in the random function, in the place of a tensor's number


def mix(x: Uint32) -> Uint32:
    """A bijection of 32 bits with good avalanche (C. Wellons' lowbias32, public domain)."""
    x = x ^ (x >> np.uint32(16))
    x = x * np.uint32(0x7FEB352D)
    x = x ^ (x >> np.uint32(15))
    x = x * np.uint32(0x846CA68B)
    return x ^ (x >> np.uint32(16))


def draw(seed: int, step: int, count: int) -> int:
    """Which of `count` exemplars the step replays: each as likely as any other."""
    key = np.zeros(1, np.uint32)
    for part in (seed, step, DRAW):
        key = mix(key + np.uint32(part))
    return int(mix(key)[0]) * count >> 32


def random_bits(seed: int, step: int, tensor: int, count: int) -> NDArray[np.int64]:
    """Sixteen random bits for each of `count` elements: of a pair's word the low half first, then the high."""
    key = np.zeros(1, np.uint32)
    for part in (seed, step, tensor):
        key = mix(key + np.uint32(part))
    pairs = mix(key + np.arange((count + 1) // 2, dtype=np.uint32) * np.uint32(0x9E3779B9))
    halves = np.stack([pairs & np.uint32(0xFFFF), pairs >> np.uint32(16)], axis=1)
    return halves.ravel()[:count].astype(np.int64)
