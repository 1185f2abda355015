"""Multiply-accumulates of training, counted as the paper counts them.

Per layer and step, forward (W Δ), weight gradient (dM Δᵀ) and input gradient (Wᵀ dM) each cost one column of
G·H weights for every active entry of [Δx ; Δh]; dense, every entry is active. The first layer's dx is in the
paper's count although nobody needs it: `reduction` counts it on both sides, `reduction_without_dx` on none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from deltatrain.reference.layers import DeltaLayer
from deltatrain.reference.network import NetworkTrace


@dataclass(frozen=True)
class OperationCount:
    """MACs of the recurrent layers; counts of several samples add up.

    Attributes
    ----------
    executed, dense : int
        Of forward, weight gradient and input gradient, the first layer's dx included.
    executed_dx, dense_dx : int
        The share of the first layer's dx.
    """

    executed: int = 0
    dense: int = 0
    executed_dx: int = 0
    dense_dx: int = 0

    def __add__(self, other: OperationCount) -> OperationCount:
        return OperationCount(
            self.executed + other.executed,
            self.dense + other.dense,
            self.executed_dx + other.executed_dx,
            self.dense_dx + other.dense_dx,
        )

    @property
    def reduction(self) -> float:
        """Dense over executed; infinite if nothing was ever active."""
        return self.dense / self.executed if self.executed else float("inf")

    @property
    def reduction_without_dx(self) -> float:
        """The same without the first layer's dx on either side."""
        executed = self.executed - self.executed_dx
        return (self.dense - self.dense_dx) / executed if executed else float("inf")


def count_operations(layers: Sequence[DeltaLayer], trace: NetworkTrace) -> OperationCount:
    """Count one training sample from its trace."""
    total = OperationCount()
    for index, (layer, part) in enumerate(zip(layers, trace.layers, strict=True)):
        rows = layer.n_gates * layer.n_hidden
        active_x, active_h = int(part.mask_x.sum()), int(part.mask_h.sum())
        first = index == 0
        total += OperationCount(
            executed=3 * rows * (active_x + active_h),
            dense=3 * rows * (layer.n_in + layer.n_hidden) * part.steps,
            executed_dx=rows * active_x if first else 0,
            dense_dx=rows * layer.n_in * part.steps if first else 0,
        )
    return total
