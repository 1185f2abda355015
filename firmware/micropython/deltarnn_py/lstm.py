"""c_t = f c_{t-1} + i g and h_t = o tanh c_t, each with one rounding. Gates and accumulators i, f, g, o."""

from array import array

from .activation import argument, sigmoid_q14, tanh_q14
from .arithmetic import add, multiply, round_shift, saturate
from .formats import INT16_MAX, ONE_Q14, ONE_Q28, V_MAX
from .step import Step

N_GATES = N_ACCUMULATORS = 4


def forward(m: list[int], step: Step, m_bits: int, c_bits: int, counts: dict[str, int]) -> None:
    """Accumulators M [4 H] to the step's gates, c and h."""
    n = len(step.h_before)
    step.h, step.c = array("h"), array("h")
    gates = step.gates = array("h", bytes(8 * n))
    for j in range(n):
        i = gates[j] = sigmoid_q14(argument(m[j], m_bits - 20))
        f = gates[n + j] = sigmoid_q14(argument(m[n + j], m_bits - 20))
        g = gates[2 * n + j] = tanh_q14(argument(m[2 * n + j], m_bits - 21))
        o = gates[3 * n + j] = sigmoid_q14(argument(m[3 * n + j], m_bits - 20))
        kept_q28 = (f * step.c_before[j]) << (14 - c_bits)
        c = saturate(round_shift(kept_q28 + i * g, 28 - c_bits), INT16_MAX, counts, "saturated_c")
        step.c.append(c)
        h = round_shift(o * tanh_q14(c << (21 - c_bits)), 14)
        step.h.append(saturate(h, V_MAX, counts, "saturated_h"))


def backward(
    step: Step, d_h: list[int], d_c: list[int], c_bits: int, counts: dict[str, int]
) -> tuple[list[int], list[int]]:
    """dL/dh_t [H] to the gradients of M [4 H] and of the cell's own path to h_{t-1}; d_c is of c_{t-1} afterwards."""
    n, gates = len(d_h), step.gates
    d_m = [0] * (4 * n)
    for j in range(n):
        i, f, g, o = gates[j], gates[n + j], gates[2 * n + j], gates[3 * n + j]
        tanh_c = tanh_q14(step.c[j] << (21 - c_bits))
        through_c = multiply(multiply(d_h[j], o, 14, counts), ONE_Q28 - tanh_c * tanh_c, 28, counts)
        dc = add(d_c[j], through_c, counts)
        d_m[j] = multiply(multiply(dc, g, 14, counts), i * (ONE_Q14 - i), 28, counts)
        d_m[n + j] = multiply(multiply(dc, f * (ONE_Q14 - f), 28, counts), step.c_before[j], c_bits, counts)
        d_m[2 * n + j] = multiply(multiply(dc, i, 14, counts), ONE_Q28 - g * g, 28, counts)
        d_m[3 * n + j] = multiply(multiply(d_h[j], tanh_c, 14, counts), o * (ONE_Q14 - o), 28, counts)
        d_c[j] = multiply(dc, f, 14, counts)
    return d_m, [0] * n
