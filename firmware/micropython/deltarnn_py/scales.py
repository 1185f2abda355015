"""Real numbers m 2^e as (m, e), 32768 <= m <= 65535, or (0, 0): rates and bounds. NUMERICS.md, "Step size"."""

from .arithmetic import bit_length

_M_MIN, _M_BITS = 32768, 16


def _is_valid(scale: tuple[int, int], largest_e: int) -> bool:
    m, e = scale
    return (m == 0 and e == 0) or (_M_MIN <= m < 2 * _M_MIN and -64 <= e <= largest_e)


def is_learning_rate(scale: tuple[int, int]) -> bool:
    """Whether it is one: 0, or 2^-49 to below 32."""
    return _is_valid(scale, -11)


def is_clip(scale: tuple[int, int]) -> bool:
    """Whether it is one: not 0."""
    return scale[0] != 0 and _is_valid(scale, 64)


def is_beta(scale: tuple[int, int]) -> bool:
    """Whether it is a regulariser's factor: 0, or 2^-49 to below 1."""
    return _is_valid(scale, -16)


def ceil(value: int, exponent: int) -> tuple[int, int]:
    """value 2^exponent, rounded up."""
    if value == 0:
        return 0, 0
    excess = bit_length(value) - _M_BITS
    m = -(-value >> excess) if excess > 0 else value << -excess
    if m >> _M_BITS:  # rounding up reached 65536
        return m >> 1, exponent + excess + 1
    return m, exponent + excess


def add_ceil(a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int]:
    """a + b, rounded up."""
    if a[0] == 0 or b[0] == 0:
        return b if a[0] == 0 else a
    low = min(a[1], b[1])
    return ceil((a[0] << (a[1] - low)) + (b[0] << (b[1] - low)), low)


def multiply(a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int]:
    """a b, rounded down."""
    product = a[0] * b[0]
    if product == 0:
        return 0, 0
    excess = bit_length(product) - _M_BITS
    return product >> excess, a[1] + b[1] + excess


def divide(a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int]:
    """a / b, rounded down; b is not zero."""
    if a[0] == 0:
        return 0, 0
    up = _M_BITS - 1 if a[0] >= b[0] else _M_BITS
    return (a[0] << up) // b[0], a[1] - b[1] - up


def is_greater(a: tuple[int, int], b: tuple[int, int]) -> bool:
    """Whether a > b."""
    if a[0] == 0 or b[0] == 0:
        return a[0] > b[0]
    return (a[1], a[0]) > (b[1], b[0])
