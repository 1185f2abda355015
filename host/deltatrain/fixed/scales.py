"""Arithmetic of `Scale`: bounds are rounded up, the step size down. NUMERICS.md, "Step size"."""

from __future__ import annotations

from fractions import Fraction

from deltatrain.scale import MANTISSA_BITS, Scale


def _normalise(value: Fraction, *, up: bool) -> Scale:
    """The nearest Scale not below (`up`) or not above `value`."""
    if value == 0:
        return Scale(0, 0)
    exponent = value.numerator.bit_length() - value.denominator.bit_length() - MANTISSA_BITS
    while value / Fraction(2) ** exponent >= 2**MANTISSA_BITS:
        exponent += 1
    scaled = value / Fraction(2) ** exponent
    m = -(-scaled.numerator // scaled.denominator) if up else scaled.numerator // scaled.denominator
    return Scale(m >> 1, exponent + 1) if m == 2**MANTISSA_BITS else Scale(m, exponent)


def exact(scale: Scale) -> Fraction:
    """The number that a Scale stands for."""
    return scale.m * Fraction(2) ** scale.e


def ceil(value: int, exponent: int) -> Scale:
    """value · 2^exponent, rounded up."""
    return _normalise(value * Fraction(2) ** exponent, up=True)


def add_ceil(a: Scale, b: Scale) -> Scale:
    """a + b, rounded up."""
    return _normalise(exact(a) + exact(b), up=True)


def multiply(a: Scale, b: Scale) -> Scale:
    """a · b, rounded down."""
    return _normalise(exact(a) * exact(b), up=False)


def divide(a: Scale, b: Scale) -> Scale:
    """a / b, rounded down."""
    return _normalise(exact(a) / exact(b), up=False)
