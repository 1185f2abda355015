"""Thresholds as a user gives them: one for all layers, or one a layer."""

from __future__ import annotations

from collections.abc import Sequence

from deltatrain.errors import InputError

Thresholds = float | tuple[float, ...]
"""One for all layers, or one for each from the input upwards."""


def per_layer(theta: float | Sequence[float], n_layers: int, name: str) -> tuple[float, ...]:
    """One threshold for each layer; InputError, with `name`, when there are neither one nor as many as layers."""
    values = tuple(theta) if isinstance(theta, Sequence) else (theta,)
    if len(values) not in (1, n_layers):
        layers = "1 layer" if n_layers == 1 else f"{n_layers} layers"
        raise InputError(
            f"{name} has {len(values)} values and the network {layers}; give one for all, or one for each layer"
        )
    return values * n_layers if len(values) == 1 else values
