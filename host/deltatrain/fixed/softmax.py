"""Softmax cross-entropy in integers. NUMERICS.md, "Loss"."""

from __future__ import annotations

import math

ONE_Q30 = 2**30
EXP2_STEPS = 64
LOG2_E_Q30 = round(math.log2(math.e) * ONE_Q30)
LN_2_Q30 = round(math.log(2) * ONE_Q30)

_EXP2_NEGATIVE_Q30 = [round(2 ** (-k / EXP2_STEPS) * ONE_Q30) for k in range(EXP2_STEPS + 1)]


def exp_negative_q30(x_q16: int) -> int:
    """exp(−x) in Q30 for x ≥ 0 in Q16: 2^−(whole + part), the part by table."""
    y_q16 = (x_q16 * LOG2_E_Q30) >> 30
    whole, part = divmod(y_q16, 2**16)
    if whole > 30:
        return 0
    index, fraction = divmod(part, 2**16 // EXP2_STEPS)
    high, low = _EXP2_NEGATIVE_Q30[index], _EXP2_NEGATIVE_Q30[index + 1]
    return (high - ((high - low) * fraction * EXP2_STEPS >> 16)) >> whole


def ln_q16(value_q30: int) -> int:
    """ln(value) in Q16 for value ≥ 1 in Q30: sixteen fraction bits of log2 by squaring a 32-bit mantissa."""
    length = value_q30.bit_length()
    mantissa = (value_q30 << 32) >> length  # in [2^31, 2^32)
    log2 = length - 1 - 30
    for _ in range(16):
        mantissa = mantissa * mantissa >> 31
        doubled = mantissa >= 2**32
        mantissa >>= doubled
        log2 = 2 * log2 + doubled
    return (log2 * LN_2_Q30 + 2**29) >> 30


def cross_entropy(logits_q16: list[int], label: int) -> tuple[int, list[int]]:
    """The loss in nats, Q16, and p − onehot(label) in Q30."""
    top = max(logits_q16)
    exps = [exp_negative_q30(top - logit) for logit in logits_q16]
    total = sum(exps)
    gradient = [e * ONE_Q30 // total - (ONE_Q30 if k == label else 0) for k, e in enumerate(exps)]
    return min(ln_q16(total) + top - logits_q16[label], 2**31 - 1), gradient
