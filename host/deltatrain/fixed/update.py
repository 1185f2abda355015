"""The step of SGD on one tensor, with one stochastic rounding a parameter. NUMERICS.md, "Stochastic rounding"."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deltatrain.fixed.arithmetic import Int64, saturate
from deltatrain.fixed.result import SampleResult
from deltatrain.fixed.rounding import random_bits
from deltatrain.scale import Scale

BEYOND = 2**40


@dataclass(frozen=True)
class Stepper:
    """One training step: its size η, what its random bits depend on, and where saturations are counted."""

    size: Scale
    seed: int
    step: int
    result: SampleResult

    def stepped(
        self,
        values: Int64,
        sums: Int64,
        exponents: Int64 | int,
        tensor: int,
        limit: int,
        changes: NDArray[np.bool_] | bool = True,
    ) -> Int64:
        """Where `changes`: values − η · sums · 2^exponents, rounded stochastically with 16 random bits, saturated.

        `exponents` takes the sums to units of the values; `tensor` is the tensor's number in the random function.
        """
        random = random_bits(self.seed, self.step, tensor, values.size).reshape(values.shape)
        shifts = np.broadcast_to(-(self.size.e + np.asarray(exponents, np.int64)), values.shape)
        quotient = stochastic_quotient(sums * self.size.m, shifts, random)
        stepped, saturated = saturate(np.where(changes, values - quotient, 0), limit)
        self.result.saturated_w += saturated
        return np.where(changes, stepped, values)


def stochastic_quotient(products: Int64, shifts: Int64, random: Int64) -> Int64:
    """floor(products / 2^shift + random / 2^16), in unbounded integers where a shift is out of the ordinary."""
    low, high = int(shifts.min()), int(shifts.max())
    if low >= 16 and high <= 62:
        return (products + (random << (shifts - 16))) >> shifts

    def one(product: int, shift: int, bits: int) -> int:
        if shift <= 0:
            return product << -shift
        product, shift = product >> max(0, shift - 62), min(shift, 62)
        addend = bits << (shift - 16) if shift >= 16 else bits >> (16 - shift)
        return (product + addend) >> shift

    # More than any parameter's range saturates all the same, and fits 64 bits.
    flat = [
        max(-BEYOND, min(BEYOND, one(int(p), int(s), int(r))))
        for p, s, r in zip(products.ravel(), shifts.ravel(), random.ravel(), strict=True)
    ]
    return np.array(flat, np.int64).reshape(products.shape)
