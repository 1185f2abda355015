"""What the three cells compute at one step, forward and backward. NUMERICS.md, "Forward" and "Gradients".

A cell reads its accumulators M and leaves, for the way back, what `backward` takes. Everything is int64, (H,) each, and
saturations are counted by the `Arithmetic` that both are given.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from deltatrain.fixed.activation import argument, sigmoid_q14, tanh_q14
from deltatrain.fixed.arithmetic import INT16_LIMIT, INT32_LIMIT, Int64, round_shift, saturate

ONE_Q14 = 2**14
ONE_Q28 = 2**28
V_LIMIT = 2**14 - 1


class Counts(Protocol):
    """Where saturations are counted."""

    saturated_h: int
    saturated_c: int
    saturated_grad: int


@dataclass(frozen=True)
class Formats:
    """Fraction bits of M and of what the layer's `c_frac_bits` is for."""

    m: int
    c: int


@dataclass(frozen=True)
class Forward:
    """One step: the new h and c, and what the way back needs."""

    h: Int64
    c: Int64
    kept: dict[str, Int64]


@dataclass(frozen=True)
class Backward:
    """One step back: the gates' own gradient (A·H,), the cell's own path to h_{t−1}, and dL/dc_{t−1}."""

    d_m: Int64
    d_h: Int64
    d_c: Int64


def multiply(a: Int64, b: Int64 | int, frac_bits: int, counts: Counts) -> Int64:
    """One factor of a carried gradient: a · b / 2^frac_bits, rounded, saturated to int32 and counted."""
    product, saturated = saturate(round_shift(a * b, frac_bits), INT32_LIMIT)
    counts.saturated_grad += saturated
    return product


def add(a: Int64, b: Int64, counts: Counts) -> Int64:
    """A sum of carried gradients, saturated to int32 and counted."""
    total, saturated = saturate(a + b, INT32_LIMIT)
    counts.saturated_grad += saturated
    return total


class Cell(Protocol):
    """One of the cells below."""

    n_gates: int
    n_accumulators: int

    def forward(self, m: Int64, h: Int64, c: Int64, formats: Formats, counts: Counts) -> Forward: ...
    def backward(
        self, kept: dict[str, Int64], d_h: Int64, d_c: Int64, formats: Formats, counts: Counts
    ) -> Backward: ...


def _sigmoid(m: Int64, formats: Formats) -> Int64:
    return sigmoid_q14(argument(m, formats.m - 20))


def _tanh(m: Int64, formats: Formats) -> Int64:
    return tanh_q14(argument(m, formats.m - 21))


def _hidden(h: Int64, counts: Counts) -> Int64:
    h, saturated = saturate(h, V_LIMIT)
    counts.saturated_h += saturated
    return h


class Lstm:
    """c_t = f c_{t−1} + i g and h_t = o tanh c_t, each with one rounding. Accumulators i, f, g, o."""

    n_gates = n_accumulators = 4

    def forward(self, m: Int64, h: Int64, c: Int64, formats: Formats, counts: Counts) -> Forward:
        m_i, m_f, m_g, m_o = np.split(m, 4)
        i, f, o = (_sigmoid(part, formats) for part in (m_i, m_f, m_o))
        g = _tanh(m_g, formats)
        kept = f * c * 2 ** (14 - formats.c)  # Q28
        c_new, saturated = saturate(round_shift(kept + i * g, 28 - formats.c), INT16_LIMIT)
        counts.saturated_c += saturated
        tanh_c = tanh_q14(c_new * 2 ** (21 - formats.c))
        h = _hidden(round_shift(o * tanh_c, 14), counts)
        return Forward(h, c_new, {"i": i, "f": f, "g": g, "o": o, "c_before": c, "tanh_c": tanh_c})

    def backward(self, kept: dict[str, Int64], d_h: Int64, d_c: Int64, formats: Formats, counts: Counts) -> Backward:
        i, f, g, o, tanh_c = (kept[name] for name in ("i", "f", "g", "o", "tanh_c"))

        def times(a: Int64, b: Int64, frac_bits: int) -> Int64:
            return multiply(a, b, frac_bits, counts)

        d_o = times(times(d_h, tanh_c, 14), o * (ONE_Q14 - o), 28)
        d_c = add(d_c, times(times(d_h, o, 14), ONE_Q28 - tanh_c * tanh_c, 28), counts)
        d_i = times(times(d_c, g, 14), i * (ONE_Q14 - i), 28)
        d_f = times(times(d_c, f * (ONE_Q14 - f), 28), kept["c_before"], formats.c)
        d_g = times(times(d_c, i, 14), ONE_Q28 - g * g, 28)
        return Backward(np.concatenate([d_i, d_f, d_g, d_o]), np.zeros_like(d_h), times(d_c, f, 14))


class Gru:
    """n = tanh(M_nx + r M_nh) and h_t = (1 − z) n + z h_{t−1}. Accumulators nx, r, z, nh."""

    n_gates, n_accumulators = 3, 4

    def forward(self, m: Int64, h: Int64, c: Int64, formats: Formats, counts: Counts) -> Forward:
        m_nx, m_r, m_z, m_nh = np.split(m, 4)
        r, z = _sigmoid(m_r, formats), _sigmoid(m_z, formats)
        gated = round_shift(r * argument(m_nh, formats.m - 22), 15)  # Q21
        n = tanh_q14(argument(m_nx, formats.m - 21) + gated)
        stored_nh, saturated = saturate(round_shift(m_nh, formats.m - formats.c), INT16_LIMIT)
        counts.saturated_c += saturated
        h_new = _hidden(round_shift((ONE_Q14 - z) * n + z * h, 14), counts)
        return Forward(h_new, c, {"r": r, "z": z, "n": n, "m_nh": stored_nh, "h_before": h})

    def backward(self, kept: dict[str, Int64], d_h: Int64, d_c: Int64, formats: Formats, counts: Counts) -> Backward:
        r, z, n = kept["r"], kept["z"], kept["n"]

        def times(a: Int64, b: Int64, frac_bits: int) -> Int64:
            return multiply(a, b, frac_bits, counts)

        d_nx = times(times(d_h, ONE_Q14 - z, 14), ONE_Q28 - n * n, 28)
        d_nh = times(d_nx, r, 14)
        d_r = times(times(d_nx, r * (ONE_Q14 - r), 28), kept["m_nh"], formats.c)
        d_z = times(times(d_h, kept["h_before"] - n, 14), z * (ONE_Q14 - z), 28)
        return Backward(np.concatenate([d_nx, d_r, d_z, d_nh]), times(d_h, z, 14), d_c)


class Rnn:
    """h_t = tanh M. One accumulator."""

    n_gates = n_accumulators = 1

    def forward(self, m: Int64, h: Int64, c: Int64, formats: Formats, counts: Counts) -> Forward:
        tanh_m = _tanh(m, formats)
        return Forward(_hidden(tanh_m, counts), c, {"tanh_m": tanh_m})

    def backward(self, kept: dict[str, Int64], d_h: Int64, d_c: Int64, formats: Formats, counts: Counts) -> Backward:
        tanh_m = kept["tanh_m"]
        return Backward(multiply(d_h, ONE_Q28 - tanh_m * tanh_m, 28, counts), np.zeros_like(d_h), d_c)


CELLS: dict[str, Any] = {"rnn": Rnn(), "gru": Gru(), "lstm": Lstm()}
