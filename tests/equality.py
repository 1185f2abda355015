"""Random models and samples for checking that two trainers agree word by word; also a program.

    python tests/equality.py LIBRARY STEPS SEED

loads the C core from a shared library (built with whatever compiler and flags), trains it beside the integer reference
and prints `N steps, M words compared, 0 words differ`.
"""

from __future__ import annotations

import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
from cffi import FFI
from numpy.typing import NDArray

import deltatrain_core.network
from deltatrain.features import FeatureConfig
from deltatrain.fixed import FixedNetwork
from deltatrain.quant_model import QuantLayer, QuantModel
from deltatrain.scale import Scale
from deltatrain_core import CoreNetwork, StepResult
from deltatrain_core._core import lib
from deltatrain_core.build_core import DECLARING_HEADERS, declarations

Rng = np.random.Generator
V_MAX = lib.DRNN_V_MAX
WORDS = (
    "hidden",
    "cell",
    "logits",
    "dm",
    "readout.weight",
    "readout.bias",
    "layer0.weight",
    "layer0.bias",
)


def random_model(rng: Rng, n_in: int, n_hidden: int, n_classes: int, max_steps: int, spread: float) -> QuantModel:
    """A model with random tensors and formats; `spread` 1 is a trained network's, 30 saturates everything."""
    shape = (n_in + n_hidden, 4 * n_hidden)
    layer = QuantLayer(
        cell="lstm",
        n_in=n_in,
        n_hidden=n_hidden,
        x_frac_bits=int(rng.integers(6, 15)),
        wx_frac_bits=int(rng.integers(8, 17)),
        wh_frac_bits=int(rng.integers(10, 17)),
        c_frac_bits=int(rng.integers(4, 15)),
        theta_x=int(rng.integers(0, 4000)),
        theta_h=int(rng.integers(0, 8000)),
        weight=rng.normal(0, 1000 * spread, shape).clip(-32767, 32767).astype(np.int16),
        bias=rng.normal(0, spread * 2**22, 4 * n_hidden).clip(-(2.0**31) + 1, 2.0**31 - 1).astype(np.int32),
    )
    readout = rng.normal(0, 2000 * spread, (n_classes, n_hidden)).clip(-32767, 32767)
    return QuantModel(
        layers=(layer,),
        readout_frac_bits=int(rng.integers(10, 16)),
        readout_weight=readout.astype(np.int16),
        readout_bias=rng.normal(0, 2**20, n_classes).astype(np.int32),
        max_steps=max_steps,
        learning_rate=Scale.from_float(float(rng.choice([0.001, 0.08, 1.0, 20.0])), "learning rate"),
        clip=Scale.from_float(float(rng.choice([0.1, 2.0, 1e6])), "clip"),
        class_names=tuple(str(k) for k in range(n_classes)),
        features=FeatureConfig(),
    )


def random_frames(rng: Rng, n_steps: int, n_in: int) -> NDArray[np.int16]:
    """A random walk, as features are: some steps exceed the threshold, others do not."""
    walk = np.cumsum(rng.normal(0, rng.choice([100, 1500, 10000]), (n_steps, n_in)), axis=0)
    return walk.clip(-V_MAX, V_MAX).astype(np.int16)


def assert_same_step(oracle: FixedNetwork, core: CoreNetwork, x: NDArray[np.int16], label: int) -> int:
    """Train both on a sample; how many words agree. Names the tensor and the first words that differ."""
    for network in (oracle, core):
        network.begin()
    hidden = oracle.push(x)
    np.testing.assert_array_equal(hidden, core.push(x), "hidden states")
    expected, result = oracle.train(label), core.train(label)
    for field in fields(StepResult):
        assert getattr(expected, field.name) == getattr(result, field.name), field.name
    words = hidden.size + len(fields(StepResult))
    for name in WORDS:
        values = oracle.tensor(name)
        np.testing.assert_array_equal(values, core.tensor(name), name)
        words += values.size
    return words


def random_step(rng: Rng, oracle: FixedNetwork, core: CoreNetwork, model: QuantModel) -> int:
    """Train both on a random sample; how many words were compared."""
    x = random_frames(rng, int(rng.integers(1, model.max_steps + 1)), model.n_in)
    return assert_same_step(oracle, core, x, int(rng.integers(model.n_classes)))


STEPS_PER_MODEL = 5


def run(n_steps: int, seed: int) -> int:
    """Train `n_steps` random steps over random models; how many words were compared."""
    rng = np.random.default_rng(seed)
    words = 0
    for done in range(n_steps):
        if done % STEPS_PER_MODEL == 0:
            model = random_model(
                rng,
                n_in=int(rng.integers(1, 40)),
                n_hidden=int(rng.integers(1, 48)),
                n_classes=int(rng.integers(2, 12)),
                max_steps=int(rng.integers(1, 50)),
                spread=float(rng.choice([0.3, 1.0, 4.0, 30.0])),
            )
            oracle, core = FixedNetwork(model), CoreNetwork(model)
        words += random_step(rng, oracle, core, model)
    return words


def use_library(path: Path) -> None:
    """Let CoreNetwork run the C core of a shared library instead of the installed extension."""
    ffi = FFI()
    for header in DECLARING_HEADERS:
        ffi.cdef(declarations(header))
    deltatrain_core.network.ffi = ffi  # type: ignore[attr-defined]
    deltatrain_core.network.lib = ffi.dlopen(str(path))  # type: ignore[attr-defined]


if __name__ == "__main__":
    use_library(Path(sys.argv[1]))
    steps = int(sys.argv[2])
    print(f"{steps} steps, {run(steps, int(sys.argv[3]))} words compared, 0 words differ")
