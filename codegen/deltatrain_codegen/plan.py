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
}
SCRATCH = "scratch"


@dataclass(frozen=True)
class ArenaPlan:
    """Bytes of each region of the arena, in its order there; `total` is `drnn_arena_size`."""

    regions: dict[str, int]
    total: int

    def by_purpose(self) -> dict[str, int]:
        """Bytes for trained weights, a sample's history, its events, and scratch; they add up to `total`."""
        purposes = {"weights": 0, "history": 0, "events": 0, SCRATCH: 0}
        for region, size in self.regions.items():
            purposes[PURPOSES.get(region.rpartition(".")[2], SCRATCH)] += size
        return purposes


def arena_plan(model: QuantModel) -> ArenaPlan:
    """The arena that training a model takes, at worst-case events.

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
            f"{model.layers[-1].n_hidden} units, {model.n_outputs} outputs, {model.max_steps} steps; "
            "quantise a model within the limits of drnn_types.h"
        ) from error
    total = starts["total"]
    names = sorted((name for name in starts if name != "total"), key=lambda name: starts[name])
    ends = [*(starts[name] for name in names[1:]), total]
    return ArenaPlan({name: end - starts[name] for name, end in zip(names, ends, strict=True)}, total)


def arena_bytes(model: QuantModel) -> int:
    """Bytes of arena that training a model takes, `drnn_arena_size`; ModelError as `arena_plan`."""
    return arena_plan(model).total
