"""Positive real numbers as the integer trainer holds them: m · 2^e with a 16-bit m (`drnn_scale_t`)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from deltatrain.errors import InputError

MANTISSA_BITS = 16


@dataclass(frozen=True)
class Scale:
    """m · 2^e with 32768 ≤ m ≤ 65535, or m = 0 for zero."""

    m: int
    e: int

    @staticmethod
    def from_float(value: float, name: str) -> Scale:
        """The nearest Scale; InputError (naming `name`) when `value` is negative or not finite."""
        if not math.isfinite(value) or value < 0:
            raise InputError(f"{name} is {value}; it must be a finite number, 0 or above")
        if value == 0:
            return Scale(0, 0)
        fraction, exponent = math.frexp(value)
        m, e = round(fraction * 2**MANTISSA_BITS), exponent - MANTISSA_BITS
        return Scale(m >> 1, e + 1) if m >> MANTISSA_BITS else Scale(m, e)

    def __float__(self) -> float:
        return math.ldexp(self.m, self.e)
