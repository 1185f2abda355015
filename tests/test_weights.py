"""The variants of the weights: real arithmetic, the core's own where nothing is varied."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import study_weights
from equality import random_frames, random_model
from study_weights import PRODUCT, VARIANTS, Adapt, Variant, VariantCore

import deltatrain_core.network
from deltatrain_core import CoreNetwork

STEPS = 12


@pytest.fixture(autouse=True)
def installed_core_again() -> Iterator[None]:
    """The variants take the place of the installed core in their process; other tests want that back."""
    before: dict[str, Any] = {name: getattr(deltatrain_core.network, name) for name in ("ffi", "lib")}
    yield
    for name, value in before.items():
        setattr(deltatrain_core.network, name, value)
    study_weights._load.cache_clear()


def train(variant: Variant) -> tuple[list[np.ndarray[Any, Any]], CoreNetwork, VariantCore]:
    """The recurrent weights after each step, of the variant; and the plain core beside it."""
    rng = np.random.default_rng(5)
    model = random_model(rng, 16, 40, 10, 30, 1.0)
    study_weights._load()
    core, varied = CoreNetwork(model), VariantCore(Adapt(variant)(model), variant)
    weights = [varied.tensor("layer0.weight")]
    for _ in range(STEPS):
        x, label = random_frames(rng, int(rng.integers(1, 31)), 16), int(rng.integers(10))
        for network in (core, varied):
            network.begin()
            network.push(x)
            network.train(label)
        weights.append(varied.tensor("layer0.weight"))
    return weights, core, varied


def test_without_a_variation_it_is_the_core() -> None:
    weights, core, varied = train(VARIANTS[PRODUCT])
    assert (weights[0] != weights[-1]).any()
    for name in ("layer0.weight", "layer0.bias", "readout.weight", "readout.bias", "layer0.hidden"):
        np.testing.assert_array_equal(varied.tensor(name), core.tensor(name), name)


def test_int8_weights_stay_on_their_grid() -> None:
    weights, _, _ = train(VARIANTS["int8"])
    assert (weights[0] != weights[-1]).any()
    assert all((step % 256 == 0).all() and np.abs(step).max() <= 127 * 256 for step in weights)


def test_low_bits_are_kept_beside_the_weights() -> None:
    """Small steps add up in them; what is used is their rounding."""
    weights, core, varied = train(VARIANTS["24-bit"])
    low = varied.kept
    assert -128 <= low.min() < 0 < low.max() <= 128
    moved = np.abs(weights[-1].astype(int) - core.tensor("layer0.weight"))
    assert moved.max() > 0  # another rounding
    assert np.median(moved) <= 2


def test_sums_reach_the_weights_every_fourth_sample() -> None:
    weights, _, varied = train(VARIANTS["batch-4"])
    changed = [bool((a != b).any()) for a, b in pairwise(weights)]
    assert changed == [step % 4 == 3 for step in range(STEPS)]
    assert not varied.kept.any()


@pytest.mark.parametrize(("name", "factor"), [("finer", 2.0), ("coarser", 0.5)])
def test_other_formats_hold_the_same_weights(name: str, factor: float) -> None:
    model = random_model(np.random.default_rng(5), 16, 40, 10, 30, 1.0)
    adapted = Adapt(VARIANTS[name])(model).layers[0]
    assert adapted.wx_frac_bits - model.layers[0].wx_frac_bits == np.log2(factor)
    assert np.abs(adapted.weight - factor * model.layers[0].weight).max() <= 0.5
