"""Sums over the steps of a run of any length, in place of its steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from deltatrain.training import Step

# Of `drnn_result_t`: what `count_operations` and `Rates` sum, by the same names.
SUMMED = (
    "n_steps",
    "active_x",
    "active_h",
    "macs_forward",
    "macs_backward",
    "macs_gradient",
    "macs_recomputed",
    "saturated_h",
    "saturated_c",
    "saturated_grad",
    "saturated_w",
    "underflow_dm",
    "clipped",
)


@dataclass
class Totals:
    """What `count_operations` and `Rates.of` take as the outcome of one step, summed over all.

    Attributes
    ----------
    steps, new_steps : int
        Training steps, and those on new samples among them.
    loss_sum : float
        Over new samples.
    saturated, values : int
        Feature values that the input format clamped, and all, of new samples.
    n_steps, active_x, ... : int
        See `drnn_result_t`.
    """

    steps: int = 0
    new_steps: int = 0
    loss_sum: float = 0.0
    saturated: int = 0
    values: int = 0
    _sums: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SUMMED, 0))

    def __getattr__(self, name: str) -> int:
        if name in SUMMED:
            return self._sums[name]
        raise AttributeError(name)

    def add_step(self, step: Step) -> None:
        """Take a step in as an engine told it."""
        sample = step.sample
        told = {"replayed": sample.replayed, "loss": step.loss}
        told |= {"inputs": sample.frames.size, "inputs_saturated": sample.saturated}
        self.add(told | {name: getattr(step.result, name) for name in SUMMED})

    def add(self, step: Mapping[str, Any]) -> None:
        """Take a step in, as a line of a log tells it."""
        self.steps += 1
        if not step["replayed"]:
            self.new_steps += 1
            self.loss_sum += step["loss"]
            self.saturated += step["inputs_saturated"]
            self.values += step["inputs"]
        for name in SUMMED:
            self._sums[name] += step[name]

    @property
    def loss(self) -> float | None:
        """Mean over new samples, each before its update."""
        return self.loss_sum / self.new_steps if self.new_steps else None
