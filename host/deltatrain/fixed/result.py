"""What a sample leaves behind in counts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class SampleResult:
    """Counts and outcomes of one sample; the names and meanings are those of `drnn_result_t`."""

    loss: int = 0
    predicted: int = 0
    n_steps: int = 0
    active_x: int = 0
    active_h: int = 0
    macs_forward: int = 0
    macs_backward: int = 0
    macs_gradient: int = 0
    columns_updated: int = 0
    clipped: int = 0
    grad_exponent: int = 0
    dm_exponent: int = 0
    bound_m: int = 0
    bound_e: int = 0
    saturated_h: int = 0
    saturated_c: int = 0
    saturated_grad: int = 0
    saturated_w: int = 0
    underflow_dm: int = 0
    n_targets: int = 0
    n_wrong: int = 0
    macs_recomputed: int = 0
