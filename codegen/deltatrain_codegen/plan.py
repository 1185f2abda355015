"""The arena of a model, asked of the C core itself: the one place that lays it out."""

from __future__ import annotations

from dataclasses import dataclass

from deltatrain.errors import ModelError
from deltatrain.quant_model import QuantModel
from deltatrain_core._core import ffi, lib

# What the regions of drnn_plan_t are for; those not named here are scratch.
PURPOSES = {
    "weight": "weights",
    "bias": "weights",
    "readout_weight": "weights",
    "readout_bias": "weights",
    "gates": "history",
    "cells": "history",
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
            purposes[PURPOSES.get(region, SCRATCH)] += size
        return purposes


def arena_plan(
    model: QuantModel, n_in: int | None = None, n_hidden: int | None = None, max_steps: int | None = None
) -> ArenaPlan:
    """The arena that training a model takes, at worst-case events.

    Parameters
    ----------
    model : QuantModel
    n_in, n_hidden, max_steps : int, optional
        Dimensions to take in place of the model's: inputs of the first layer, units of every layer, longest
        sample.

    Raises
    ------
    ModelError
        If the C core does not support such a model.
    """
    width = n_in or model.n_in
    layers = ffi.new("drnn_layer_t[]", len(model.layers))
    for c_layer, layer in zip(layers, model.layers, strict=True):
        c_layer.cell = getattr(lib, f"DRNN_{layer.cell.upper()}")
        c_layer.n_in = width
        c_layer.n_hidden = width = n_hidden or layer.n_hidden
        for name in ("x_frac_bits", "wx_frac_bits", "wh_frac_bits", "c_frac_bits", "theta_x", "theta_h"):
            setattr(c_layer, name, getattr(layer, name))
    c_model = ffi.new(
        "drnn_model_t *",
        {
            "abi_version": lib.DRNN_ABI_VERSION,
            "n_layers": len(model.layers),
            "n_classes": model.n_classes,
            "max_steps": max_steps or model.max_steps,
            "readout_frac_bits": model.readout_frac_bits,
            "layers": layers,
        },
    )
    plan = ffi.new("drnn_plan_t *")
    if (status := lib.drnn_plan(c_model, plan)) < 0:
        raise ModelError(
            f"the C core refuses the model ({ffi.string(lib.drnn_error_text(status)).decode()}): "
            f"cells {'/'.join(layer.cell for layer in model.layers)}, {width} units, "
            f"{model.n_classes} classes, {max_steps or model.max_steps} steps; "
            "quantise a model within the limits of drnn_types.h"
        )
    starts = {name: int(getattr(plan, name)) for name, _ in ffi.typeof("drnn_plan_t").fields}
    total = starts.pop("total")
    names = sorted(starts, key=lambda name: starts[name])
    ends = [*(starts[name] for name in names[1:]), total]
    return ArenaPlan({name: end - starts[name] for name, end in zip(names, ends, strict=True)}, total)


def arena_bytes(model: QuantModel) -> int:
    """Bytes of arena that training a model takes, `drnn_arena_size`; ModelError as `arena_plan`."""
    return arena_plan(model).total
