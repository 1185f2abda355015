"""The logistic function and tanh, from one table with linear interpolation. NUMERICS.md, "Tables".

The table is made here, once, by integers of 64 fraction bits, finer than the floats of any port.
"""

from array import array

from .arithmetic import round_shift

_STEPS_PER_UNIT = 32
_RANGE = 16
_ONE = 1 << 64
_EXP_STEP_Q64 = 17879197424118840458  # e^(-1/32)
_FARTHEST = 1 << 30  # of an argument: no value changes beyond 16
_LAST_Q20 = (_RANGE << 20) - 1


def _make_table() -> "array[int]":
    """sigmoid(k / 32) - 1/2 in Q16 for k = 0 .. 512, to the nearest, below 1/2."""
    table = array("H")
    exp_q64 = _ONE  # e^(-k / 32)
    for _ in range(_RANGE * _STEPS_PER_UNIT + 1):
        # 1 / (1 + e) - 1/2 = (1 - e) / (2 (1 + e))
        value = (((_ONE - exp_q64) << 16) // (_ONE + exp_q64) + 1) >> 1
        table.append(min(value, 32767))
        exp_q64 = (exp_q64 * _EXP_STEP_Q64) >> 64
    return table


_TABLE = _make_table()


def _above_half_q32(magnitude_q20: int) -> int:
    """sigmoid(x) - 1/2 for x >= 0."""
    x = min(magnitude_q20, _LAST_Q20)
    low, high = _TABLE[x >> 15], _TABLE[(x >> 15) + 1]
    return (low << 16) + 2 * (high - low) * ((x & 0x7FFF) + 1)


def sigmoid_q14(x_q20: int) -> int:
    """sigmoid(x) in Q1.14 for x in Q20."""
    y = _above_half_q32(abs(x_q20))
    return 8192 + round_shift(-y if x_q20 < 0 else y, 18)


def tanh_q14(x_q21: int) -> int:
    """tanh(x) = 2 sigmoid(2x) - 1 in Q1.14 for x in Q21, which is 2x in Q20."""
    y = round_shift(_above_half_q32(abs(x_q21)), 17)
    return -y if x_q21 < 0 else y


def argument(m: int, bits: int) -> int:
    """An accumulator as an activation takes it: round(m / 2^bits), within +-2^30."""
    return max(-_FARTHEST, min(_FARTHEST, round_shift(m, bits)))
