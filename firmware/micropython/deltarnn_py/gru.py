"""n = tanh(M_nx + r M_nh) and h_t = (1 - z) n + z h_{t-1}. Accumulators nx, r, z, nh.

A column of x holds the weights of n, r, z and feeds nx, r, z; a column of h those of r, z, n and feeds r, z, nh. In the
place of the accumulator nh M_nh itself is kept for the way back, as int16.
"""

from array import array

from .activation import argument, sigmoid_q14, tanh_q14
from .arithmetic import multiply, round_shift, saturate
from .formats import INT16_MAX, ONE_Q14, ONE_Q28, V_MAX
from .step import Step

N_GATES, N_ACCUMULATORS = 3, 4


def forward(m: list[int], step: Step, m_bits: int, c_bits: int, counts: dict[str, int]) -> None:
    """Accumulators M [4 H] to the step's gates and h."""
    n_units = len(step.h_before)
    step.h = array("h")
    gates = step.gates = array("h", bytes(8 * n_units))
    for j in range(n_units):
        m_nx, m_r, m_z, m_nh = m[j], m[n_units + j], m[2 * n_units + j], m[3 * n_units + j]
        r = gates[n_units + j] = sigmoid_q14(argument(m_r, m_bits - 20))
        z = gates[2 * n_units + j] = sigmoid_q14(argument(m_z, m_bits - 20))
        gated_q21 = round_shift(r * argument(m_nh, m_bits - 22), 15)
        n = gates[j] = tanh_q14(argument(m_nx, m_bits - 21) + gated_q21)
        gates[3 * n_units + j] = saturate(round_shift(m_nh, m_bits - c_bits), INT16_MAX, counts, "saturated_c")
        h = round_shift((ONE_Q14 - z) * n + z * step.h_before[j], 14)
        step.h.append(saturate(h, V_MAX, counts, "saturated_h"))


def backward(
    step: Step, d_h: list[int], d_c: list[int], c_bits: int, counts: dict[str, int]
) -> tuple[list[int], list[int]]:
    """dL/dh_t [H] to the gradients of M [4 H] and of the cell's own path to h_{t-1}."""
    n_units, gates = len(d_h), step.gates
    d_m, own = [0] * (4 * n_units), []
    for j in range(n_units):
        n, r, z, m_nh = gates[j], gates[n_units + j], gates[2 * n_units + j], gates[3 * n_units + j]
        d_nx = multiply(multiply(d_h[j], ONE_Q14 - z, 14, counts), ONE_Q28 - n * n, 28, counts)
        d_m[j] = d_nx
        d_m[n_units + j] = multiply(multiply(d_nx, r * (ONE_Q14 - r), 28, counts), m_nh, c_bits, counts)
        d_m[2 * n_units + j] = multiply(
            multiply(d_h[j], step.h_before[j] - n, 14, counts), z * (ONE_Q14 - z), 28, counts
        )
        d_m[3 * n_units + j] = multiply(d_nx, r, 14, counts)
        own.append(multiply(d_h[j], z, 14, counts))
    return d_m, own
