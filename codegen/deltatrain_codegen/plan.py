"""The arena of a model by region and by purpose, as the C core itself lays it out."""

from __future__ import annotations

from dataclasses import dataclass

import deltatrain_core
from deltatrain.errors import ModelError
from deltatrain.quant_model import QuantModel

# What the regions of drnn_plan_t are for, those of a layer without its name; those not named here are scratch.
PURPOSES = {
    "weight": "weights",
    "bias": "weights",
    "readout_weight": "weights",
    "readout_bias": "weights",
    "gates": "history",
    "states": "history",
    "d_outputs": "history",
    "event_mask": "events",
    "event_start": "events",
    "event_value": "events",
    "frames": "checkpoints",
    "checkpoints": "checkpoints",
    "last_states": "checkpoints",
    "gradient": "gradient",
    "delta_sum": "gradient",
}
SCRATCH = "scratch"
ALWAYS_SHOWN = ("weights", "history", "events", SCRATCH)


@dataclass(frozen=True)
class ArenaPlan:
    """Bytes of each region of the arena, in its order there; `total` is `drnn_arena_size`."""

    regions: dict[str, int]
    total: int

    def by_purpose(self) -> dict[str, int]:
        """Bytes for trained weights, a sample's history, its events, and scratch; they add up to `total`.

        With checkpoints, those (and the inputs) and the gradient's buffer have purposes of their own.
        """
        purposes = dict.fromkeys(["weights", "history", "events", "checkpoints", "gradient", SCRATCH], 0)
        for region, size in self.regions.items():
            purposes[PURPOSES.get(region.rpartition(".")[2], SCRATCH)] += size
        return {name: size for name, size in purposes.items() if size or name in ALWAYS_SHOWN}


def arena_plan(model: QuantModel) -> ArenaPlan:
    """The arena that a model takes by its plan of memory; at worst-case events, where it has no budget of them.

    Raises
    ------
    ModelError
        If the C core does not support the model's dimensions, formats or cells.
    """
    try:
        starts = deltatrain_core.arena_plan(model)
    except deltatrain_core.CoreError as error:
        cells = "/".join(layer.cell for layer in model.layers)
        raise ModelError(
            f"the C core refuses the model ({error}): cells {cells}, {model.n_in} inputs, "
            f"{model.layers[-1].n_hidden} units, {model.n_outputs} outputs, {model.max_steps} steps, {model.memory}; "
            "quantise a model within the limits of drnn_types.h"
        ) from error
    total = starts["total"]
    names = sorted((name for name in starts if name != "total"), key=lambda name: starts[name])
    ends = [*(starts[name] for name in names[1:]), total]
    return ArenaPlan({name: end - starts[name] for name, end in zip(names, ends, strict=True)}, total)


def arena_bytes(model: QuantModel) -> int:
    """Bytes of arena that a model takes, `drnn_arena_size`; ModelError as `arena_plan`."""
    return arena_plan(model).total
