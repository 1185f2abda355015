"""Rounding, saturation and roots in integers. NUMERICS.md, "Rounding"."""

from .formats import INT32_MAX


def round_shift(value: int, bits: int) -> int:
    """value / 2^bits to the nearest integer, halves up; negative `bits` multiply."""
    if bits <= 0:
        return value << -bits
    return (value + (1 << (bits - 1))) >> bits


def saturate(value: int, limit: int, counts: dict[str, int], name: str) -> int:
    """Clamp to [-limit, limit], and count it under `name`."""
    if -limit <= value <= limit:
        return value
    counts[name] += 1
    return limit if value > 0 else -limit


def multiply(a: int, b: int, bits: int, counts: dict[str, int]) -> int:
    """One factor of a carried gradient: a * b / 2^bits, rounded, within int32."""
    return saturate(round_shift(a * b, bits), INT32_MAX, counts, "saturated_grad")


def add(a: int, b: int, counts: dict[str, int]) -> int:
    """A sum of carried gradients, within int32."""
    return saturate(a + b, INT32_MAX, counts, "saturated_grad")


def bit_length(value: int) -> int:
    """Bits of value >= 0: 0 for 0, 3 for 5."""
    length = 0
    while value > 0xFFFF:
        value >>= 16
        length += 16
    while value:
        value >>= 1
        length += 1
    return length


def sqrt_ceil(value: int) -> int:
    """The smallest integer whose square is at least value >= 0, by Newton's method from above."""
    if value == 0:
        return 0
    root = 1 << ((bit_length(value) + 1) // 2)
    while True:
        lower = (root + value // root) >> 1
        if lower >= root:
            break
        root = lower
    return root if root * root == value else root + 1
