"""Softmax cross-entropy in integers. NUMERICS.md, "Loss"."""

from array import array

from .arithmetic import bit_length, round_shift
from .formats import INT32_MAX

_ONE_Q30 = 1 << 30
_LOG2_E_Q30 = 1549082005
_LN_2_Q30 = 744261118
_EXP2_STEP_Q64 = 18248035989933441397  # 2^(-1/64)
_STEP_BITS = 10  # of a step of 1/64 in Q16


def _make_table() -> list[int]:
    """2^(-k / 64) in Q30 for k = 0 .. 64, to the nearest."""
    table, value_q64 = [], 1 << 64
    for _ in range(65):
        table.append(round_shift(value_q64, 34))
        value_q64 = round_shift(value_q64 * _EXP2_STEP_Q64, 64)
    return table


_EXP2_TABLE_Q30 = _make_table()


def exp_negative_q30(x_q16: int) -> int:
    """e^-x in Q30 for x >= 0 in Q16: 2^-(whole + part), the part by table."""
    y_q16 = (x_q16 * _LOG2_E_Q30) >> 30
    whole, part = y_q16 >> 16, y_q16 & 0xFFFF
    if whole > 30:
        return 0
    high, low = _EXP2_TABLE_Q30[part >> _STEP_BITS], _EXP2_TABLE_Q30[(part >> _STEP_BITS) + 1]
    fraction = part & ((1 << _STEP_BITS) - 1)
    return (high - ((high - low) * fraction >> _STEP_BITS)) >> whole


def ln_q16(value_q30: int) -> int:
    """ln(value) in Q16 for value >= 1: sixteen fraction bits of log2, each by squaring a 32-bit mantissa."""
    length = bit_length(value_q30)
    mantissa_q31 = (value_q30 << 32) >> length  # in [1, 2)
    log2 = length - 31
    for _ in range(16):
        mantissa_q31 = mantissa_q31 * mantissa_q31 >> 31
        log2 <<= 1
        if mantissa_q31 >> 32:
            mantissa_q31 >>= 1
            log2 += 1
    return round_shift(log2 * _LN_2_Q30, 30)


def largest(outputs: "list[int] | array[int]") -> int:
    """Number of the largest output, the first of equals."""
    best = 0
    for k in range(1, len(outputs)):
        if outputs[k] > outputs[best]:
            best = k
    return best


def cross_entropy(outputs: "list[int] | array[int]", label: int) -> "tuple[int, list[int]]":
    """The loss in Q16, and its gradient p - onehot(label) in Q30, of outputs in Q16."""
    top = outputs[largest(outputs)]
    exps = [exp_negative_q30(top - z) for z in outputs]
    total = sum(exps)
    gradient = [(e << 30) // total for e in exps]
    gradient[label] -= _ONE_Q30
    return min(ln_q16(total) + top - outputs[label], INT32_MAX), gradient
