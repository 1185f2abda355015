"""h_t = tanh M. One accumulator."""

from array import array

from .activation import argument, tanh_q14
from .arithmetic import multiply, saturate
from .formats import ONE_Q28, V_MAX
from .step import Step

N_GATES = N_ACCUMULATORS = 1


def forward(m: list[int], step: Step, m_bits: int, c_bits: int, counts: dict[str, int]) -> None:
    """Accumulators M [H] to the step's h; tanh M is kept as it is, h saturates."""
    step.gates, step.h = array("h"), array("h")
    for value in m:
        tanh_m = tanh_q14(argument(value, m_bits - 21))
        step.gates.append(tanh_m)
        step.h.append(saturate(tanh_m, V_MAX, counts, "saturated_h"))


def backward(
    step: Step, d_h: list[int], d_c: list[int], c_bits: int, counts: dict[str, int]
) -> tuple[list[int], list[int]]:
    """dL/dh_t [H] to the gradient of M [H]; the cell has no path of its own to h_{t-1}."""
    d_m = []
    for j, tanh_m in enumerate(step.gates):
        d_m.append(multiply(d_h[j], ONE_Q28 - tanh_m * tanh_m, 28, counts))
    return d_m, [0] * len(d_h)
