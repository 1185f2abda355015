"""Fixtures that several areas share."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from deltatrain.features import FeatureConfig
from deltatrain.quant_model import QuantLayer, QuantModel
from deltatrain.scale import Scale


def _integers(count: int, bound: int, seed: int) -> NDArray[np.int64]:
    """`count` integers in [-bound, bound] of a linear congruential sequence: the same with every numpy."""
    values, state = np.empty(count, np.int64), seed
    for index in range(count):
        state = (state * 1103515245 + 12345) % 2**31
        values[index] = (state >> 8) % (2 * bound + 1) - bound
    return values


def integer_model(
    n_in: int = 3,
    n_hidden: int = 4,
    max_steps: int = 8,
    class_names: tuple[str, ...] = ("yes", "no", "maybe"),
    weight_bound: int = 6000,
) -> QuantModel:
    """An LSTM made of integers alone."""
    rows, n_classes = 4 * n_hidden, len(class_names)
    return QuantModel(
        layers=(
            QuantLayer(
                cell="lstm",
                n_in=n_in,
                n_hidden=n_hidden,
                x_frac_bits=11,
                wx_frac_bits=14,
                wh_frac_bits=14,
                c_frac_bits=11,
                theta_x=205,
                theta_h=1638,
                weight=_integers((n_in + n_hidden) * rows, weight_bound, 1)
                .reshape(n_in + n_hidden, rows)
                .astype(np.int16),
                bias=_integers(rows, 1 << 22, 2).astype(np.int32),
            ),
        ),
        readout_frac_bits=13,
        readout_weight=_integers(n_classes * n_hidden, 8000, 3).reshape(n_classes, n_hidden).astype(np.int16),
        readout_bias=_integers(n_classes, 1 << 20, 4).astype(np.int32),
        max_steps=max_steps,
        learning_rate=Scale.from_float(0.08, "learning rate"),
        clip=Scale.from_float(2.0, "clip"),
        class_names=class_names,
        features=FeatureConfig(n_bands=n_in, max_frames=max_steps),
    )


@pytest.fixture
def make_integer_model() -> Callable[..., QuantModel]:
    """Make models of any dimensions, of integers alone; see `integer_model`."""
    return integer_model


@pytest.fixture
def tiny_model() -> QuantModel:
    """The model whose generated sources are committed in tests/golden."""
    return integer_model()
