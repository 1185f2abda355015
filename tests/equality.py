"""Random models and samples for checking that two trainers agree word by word; also a program.

    python tests/equality.py LIBRARY STEPS SEED

loads the C core from a shared library (built with whatever compiler and flags), trains it beside the integer reference,
on random models and then at the ends of all ranges, and prints `N steps, M words compared, 0 words differ`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from cffi import FFI
from numpy.typing import NDArray

import deltatrain_core.network
from deltatrain.exemplars import Exemplars, encode, store
from deltatrain.features import FeatureConfig
from deltatrain.fixed import FixedNetwork, SampleResult
from deltatrain.memory import Memory
from deltatrain.model import N_ACCUMULATORS, N_GATES
from deltatrain.quant_model import QuantLayer, QuantModel
from deltatrain.reference import READOUT_KINDS as READOUTS
from deltatrain.scale import Scale
from deltatrain.training import Engine, Settings
from deltatrain_core import NO_CLASS, NO_VALUE, CoreNetwork, StepResult
from deltatrain_core._core import lib
from deltatrain_core.build_core import DECLARING_HEADERS, declarations

Rng = np.random.Generator
NO_BETA = Scale(0, 0)
V_MAX = lib.DRNN_V_MAX
TARGET_MAX = lib.DRNN_TARGET_MAX
CELLS = ("lstm", "gru", "rnn")


def words_of(model: QuantModel) -> list[str]:
    """Every tensor that a trainer of this model shows."""
    names = [*model.tensors(), "logits"]
    for index, layer in enumerate(model.layers):
        names += [f"layer{index}.hidden", f"layer{index}.dm", *([f"layer{index}.cell"] if layer.cell == "lstm" else [])]
    return names


def random_layer(rng: Rng, cell: str, n_in: int, n_hidden: int, x_frac_bits: int, spread: float) -> QuantLayer:
    """A layer with random tensors and formats."""
    shape = (n_in + n_hidden, N_GATES[cell] * n_hidden)
    n_biases = N_ACCUMULATORS[cell] * n_hidden
    return QuantLayer(
        cell=cell,
        n_in=n_in,
        n_hidden=n_hidden,
        x_frac_bits=x_frac_bits,
        wx_frac_bits=int(rng.integers(8, 17)),
        wh_frac_bits=int(rng.integers(10, 17)),
        c_frac_bits=int(rng.integers(6, 15)),
        theta_x=int(rng.integers(0, 4000)),
        theta_h=int(rng.integers(0, 8000)),
        weight=rng.normal(0, 1000 * spread, shape).clip(-32767, 32767).astype(np.int16),
        bias=rng.normal(0, spread * 2**22, n_biases).clip(-(2.0**31) + 1, 2.0**31 - 1).astype(np.int32),
    )


def random_model(
    rng: Rng,
    n_in: int,
    n_hidden: int,
    n_classes: int,
    max_steps: int,
    spread: float,
    cells: Sequence[str] = ("lstm",),
    readout: str = "last",
) -> QuantModel:
    """A model with random tensors and formats; `spread` 1 is a trained network's, 30 saturates everything.

    One layer for each of `cells`, from the input upwards; the last has `n_hidden` units, those below as many as come.
    """
    layers: list[QuantLayer] = []
    width, x_frac_bits = n_in, int(rng.integers(6, 15))
    for cell in cells:
        units = n_hidden if len(layers) == len(cells) - 1 else int(rng.integers(1, 32))
        layers.append(random_layer(rng, cell, width, units, x_frac_bits, spread))
        width, x_frac_bits = units, 14
    readout_weight = rng.normal(0, 2000 * spread, (n_classes, n_hidden)).clip(-32767, 32767)
    return QuantModel(
        layers=tuple(layers),
        readout_frac_bits=int(rng.integers(10, 16)),
        readout_weight=readout_weight.astype(np.int16),
        readout_bias=rng.normal(0, 2**20, n_classes).astype(np.int32),
        max_steps=max_steps,
        learning_rate=Scale.from_float(float(rng.choice([0.001, 0.08, 1.0, 20.0])), "learning rate"),
        clip=Scale.from_float(float(rng.choice([0.1, 2.0, 1e6])), "clip"),
        class_names=tuple(str(k) for k in range(n_classes)),
        features=FeatureConfig(),
        readout=readout,
    )


def random_targets(rng: Rng, model: QuantModel, n_steps: int) -> NDArray[np.int32] | None:
    """A target for each frame, of some or most of them missing; None for a readout that takes none."""
    missing = rng.random(n_steps) < rng.choice([0.0, 0.2, 0.9])
    missing[rng.integers(n_steps)] = False
    if model.readout == "frames":
        return np.where(missing, NO_CLASS, rng.integers(model.n_outputs, size=n_steps)).astype(np.int32)
    if model.readout == "regression":
        spread = rng.choice([2.0**4, 2.0**12, 2.0**16, 2.0**30])
        values = rng.normal(0, spread, (n_steps, model.n_outputs)).clip(-TARGET_MAX, TARGET_MAX)
        return np.where(missing[:, None], NO_VALUE, values).astype(np.int32)
    return None


def random_cells(rng: Rng) -> list[str]:
    """One to three layers, of any cells."""
    return [str(rng.choice(CELLS)) for _ in range(int(rng.integers(1, 4)))]


def random_settings(rng: Rng, model: QuantModel) -> Settings:
    """The model's settings with any seed, and the regulariser or not."""
    beta = float(rng.choice([0.0, 0.0, 1e-6, 1e-3, 0.9]))
    return Settings.of(model, beta=beta, seed=int(rng.integers(2**32)))


def random_frames(rng: Rng, n_steps: int, n_in: int) -> NDArray[np.int16]:
    """A random walk, as features are: some steps exceed the threshold, others do not."""
    walk = np.cumsum(rng.normal(0, rng.choice([100, 1500, 10000]), (n_steps, n_in)), axis=0)
    return walk.clip(-V_MAX, V_MAX).astype(np.int16)


def assert_same_step(
    oracle: FixedNetwork,
    core: CoreNetwork,
    model: QuantModel,
    x: NDArray[np.int16],
    label: int,
    targets: NDArray[np.int32] | None = None,
) -> int:
    """Train both on a sample, by its label or by the targets of its frames; how many words agree."""
    for network in (oracle, core):
        network.begin()
    hidden = oracle.push(x, targets=targets)
    assert_same(hidden, core.push(x, targets=targets), "hidden states")
    if targets is not None:
        return hidden.size + assert_same_words(oracle, core, model, oracle.learn(), core.learn())
    return hidden.size + assert_same_words(oracle, core, model, oracle.train(label), core.train(label))


def assert_same_words(
    oracle: FixedNetwork, core: Engine, model: QuantModel, expected: SampleResult, result: StepResult
) -> int:
    """How many words of the outcomes and of all tensors agree. Names the tensor and the first words that differ."""
    for name in StepResult.__dataclass_fields__:
        assert_same(np.array([getattr(expected, name)]), np.array([getattr(result, name)]), name)
    words = len(StepResult.__dataclass_fields__)
    shapes = {name: tensor.shape for name, tensor in model.tensors().items()}
    for name in words_of(model):
        values = oracle.tensor(name)
        shape = shapes.get(name, (-1,))
        assert_same(values.reshape(shape), core.tensor(name).reshape(shape), name)
        words += values.size
    return words


def assert_same(expected: NDArray[Any], words: NDArray[Any], name: str) -> None:
    """All words are equal; else the tensor, how many differ, and the first with its index and both values."""
    assert expected.shape == words.shape, f"{name}: shape {words.shape}, not {expected.shape}"
    unequal = np.argwhere(expected != words)
    if len(unequal):
        first = tuple(int(i) for i in unequal[0])
        raise AssertionError(
            f"{name}{list(first)}: integer reference {expected[first]}, C core {words[first]} "
            f"({len(unequal)} of {expected.size} words differ)"
        )


def random_exemplars(rng: Rng, model: QuantModel) -> Exemplars:
    """A few recordings as a model keeps them, events of any threshold."""
    kept = []
    for number in range(int(rng.integers(1, 5))):
        x = random_frames(rng, int(rng.integers(1, model.max_steps + 1)), model.n_in)
        kept.append((encode(x, int(rng.integers(0, 4000))), len(x), int(rng.integers(model.n_outputs)), str(number)))
    return store(model.n_in, kept)


def replay_step(oracle: FixedNetwork, core: CoreNetwork, model: QuantModel) -> int:
    """Train both on a stored exemplar; how many words were compared."""
    assert oracle.replay_next() == core.replay_next()
    return 1 + assert_same_words(oracle, core, model, oracle.replay(), core.replay())


def random_step(
    rng: Rng, oracle: FixedNetwork, core: CoreNetwork, model: QuantModel, n_steps: int | None = None
) -> int:
    """Train both on a random sample, of any length or of `n_steps` frames; how many words were compared."""
    x = random_frames(rng, n_steps or int(rng.integers(1, model.max_steps + 1)), model.n_in)
    targets = random_targets(rng, model, len(x))
    return assert_same_step(oracle, core, model, x, int(rng.integers(model.n_outputs)), targets)


@dataclass(frozen=True)
class Extreme:
    """A model, what a host writes into it, one sample, and what its outcome must show, lest the case lose its point."""

    model: QuantModel
    frames: NDArray[np.int16]
    label: int
    reaches: Callable[[SampleResult], bool]
    written: dict[str, NDArray[Any]] = field(default_factory=dict)
    targets: NDArray[np.int32] | None = None
    beta: Scale = NO_BETA


FASTEST = Scale(65535, -11)  # the largest learning rate
SLOWEST = Scale(32768, -64)
LOOSEST = Scale(65535, 64)
TIGHTEST = Scale(32768, -64)
INT16_MIN, INT32_MIN = -(2**15), -(2**31)  # saturation never gives them, but a host may write them


def extreme_model(n_in: int, n_hidden: int, n_classes: int, max_steps: int, **changes: Any) -> QuantModel:
    """A model where every change is an event; `changes` are fields of QuantModel or of its layer."""
    model = random_model(np.random.default_rng(1), n_in, n_hidden, n_classes, max_steps, 1.0)
    of_layer = {name: value for name, value in changes.items() if hasattr(model.layers[0], name)}
    of_model = {name: value for name, value in changes.items() if name not in of_layer}
    layer = replace(model.layers[0], **({"theta_x": 0, "theta_h": 0} | of_layer))
    return replace(model, layers=(layer,), **({"learning_rate": FASTEST, "clip": LOOSEST} | of_model))


def swings(n_steps: int, n_in: int) -> NDArray[np.int16]:
    """Every input from one end of its range to the other in every frame."""
    return np.repeat([[V_MAX], [-V_MAX]] * n_steps, n_in, axis=1)[:n_steps].astype(np.int16)


def constant(model: QuantModel, **values: int) -> dict[str, NDArray[Any]]:
    """Tensors of one value each; `layer0_bias` stands for layer0.bias."""
    tensors = model.tensors()
    named = {name.replace("_", "."): value for name, value in values.items()}
    return {name: np.full_like(tensors[name], value) for name, value in named.items()}


def largest_m() -> Extreme:
    """M reaches 2^55: the coarsest inputs and weights beside the finest weights from h."""
    model = extreme_model(1024, 4, 256, 3, x_frac_bits=6, wx_frac_bits=8, wh_frac_bits=16)
    written = constant(model, layer0_weight=INT16_MIN, layer0_bias=INT32_MIN, readout_bias=INT32_MIN)
    return Extreme(model, swings(3, 1024), 255, lambda r: r.active_x == 3 * 1024, written)


def finest_formats() -> Extreme:
    finest = {"x_frac_bits": 14, "wx_frac_bits": 16, "wh_frac_bits": 16, "c_frac_bits": 14}
    model = extreme_model(3, 4, 3, 10, readout_frac_bits=15, **finest)
    return Extreme(model, swings(10, 3), 2, lambda r: r.saturated_h + r.saturated_c + r.saturated_w > 0)


def wide() -> Extreme:
    model = extreme_model(1024, 256, 2, 1, x_frac_bits=6)
    return Extreme(model, swings(1, 1024), 0, lambda r: r.macs_gradient == 1024 * 1024)


def long() -> Extreme:
    model = extreme_model(1, 1, 2, 4096, x_frac_bits=6)
    return Extreme(model, swings(4096, 1), 1, lambda r: r.n_steps == r.active_x == 4096)


def saturating_gradients() -> Extreme:
    """Gates half open and weights of up to 3 from h: gradients grow by orders of magnitude a step."""
    model = extreme_model(2, 16, 3, 30, x_frac_bits=6, wh_frac_bits=10, c_frac_bits=14, readout_frac_bits=10)
    rng = np.random.default_rng(3)
    weight = rng.choice([-3500, 3500], model.layers[0].weight.shape)
    weight[:2] = rng.integers(-20, 20, weight[:2].shape)
    readout = rng.choice([-32767, 32767], model.readout_weight.shape)
    written = {"layer0.weight": weight, "readout.weight": readout} | constant(model, layer0_bias=0)
    x = rng.integers(-3, 4, (30, 2)).astype(np.int16)
    return Extreme(model, x, 1, lambda r: r.saturated_grad > 0 and r.dm_exponent == 17, written)


def saturating_loss() -> Extreme:
    model = extreme_model(1, 720, 2, 1, readout_frac_bits=10)
    readout = np.repeat([[INT16_MIN], [32767]], 720, axis=1)
    written = {"readout.weight": readout} | constant(model, layer0_bias=2**31 - 1)
    return Extreme(model, swings(1, 1), 0, lambda r: r.loss == 2**31 - 1, written)


def no_gradient() -> Extreme:
    model = extreme_model(3, 4, 2, 5)
    written = constant(model, readout_weight=0) | {"readout.bias": np.array([2**31 - 1, INT32_MIN])}
    return Extreme(model, swings(5, 3), 0, lambda r: r.bound_m == 0 and r.grad_exponent == -30, written)


def no_event() -> Extreme:
    """No column changes, so a written -32768 stays."""
    model = extreme_model(3, 4, 2, 5, theta_x=32767, theta_h=32767, learning_rate=SLOWEST)
    written = constant(model, layer0_weight=INT16_MIN)
    return Extreme(model, swings(5, 3), 0, lambda r: r.active_x + r.active_h + r.saturated_w == 0, written)


def equal_logits() -> Extreme:
    model = extreme_model(3, 4, 256, 5)
    written = constant(model, readout_weight=0, readout_bias=INT32_MIN)
    return Extreme(model, swings(5, 3), 255, lambda r: r.predicted == 0, written)


def rate(learning_rate: Scale, clip: Scale, clipped: int) -> Callable[[], Extreme]:
    """A sample at the ends of learning rate and clip."""

    def build() -> Extreme:
        model = extreme_model(3, 6, 4, 8, learning_rate=learning_rate, clip=clip)
        frames = random_frames(np.random.default_rng(2), 8, 3)
        return Extreme(model, frames, 2, lambda r: r.clipped == clipped and r.bound_m > 0)

    return build


def frames_at_most_confidence() -> Extreme:
    """Every frame is judged with the greatest error, p − onehot = ±1, over the longest sample."""
    model = extreme_model(1, 8, 2, 4096, readout="frames", readout_frac_bits=10)
    readout = np.repeat([[32767], [-32767]], 8, axis=1)
    written = {"readout.weight": readout, "readout.bias": np.array([2**31 - 1, INT32_MIN])}
    targets = np.ones(4096, np.int32)
    return Extreme(model, swings(4096, 1), 0, lambda r: r.n_wrong == 4096 and r.loss > 2**23, written, targets)


def frames_with_no_error() -> Extreme:
    """Every frame is judged right without a doubt: no gradient, whatever its unit."""
    model = extreme_model(3, 4, 2, 5, readout="frames")
    written = constant(model, readout_weight=0) | {"readout.bias": np.array([2**31 - 1, INT32_MIN])}
    targets = np.zeros(5, np.int32)
    return Extreme(model, swings(5, 3), 0, lambda r: r.bound_m == r.loss == r.n_wrong == 0, written, targets)


def growing_error() -> Extreme:
    """Tiny errors first, the greatest one last: what was stored is shortened to nothing."""
    model = extreme_model(3, 4, 2, 40, readout="regression", learning_rate=SLOWEST)
    targets = np.ones((40, 2), np.int32)
    targets[-1] = TARGET_MAX
    written = constant(model, readout_weight=0, readout_bias=0)
    return Extreme(model, swings(40, 3), 0, lambda r: r.grad_exponent == 2, written, targets)


def huge_errors() -> Extreme:
    """Outputs at one end of their range, targets at the other: error, its square and the loss saturate."""
    model = extreme_model(1, 720, 256, 8, readout="regression", readout_frac_bits=10)
    written = constant(model, layer0_bias=2**31 - 1, readout_weight=32767, readout_bias=2**31 - 1)
    targets = np.full((8, 256), -TARGET_MAX, np.int32)
    return Extreme(model, swings(8, 1), 0, lambda r: r.loss == 2**31 - 1 and r.grad_exponent == 2, written, targets)


def fastest_weights() -> Extreme:
    """The largest error of all, once, grows on its way back as fast as gradients do: steps are shifted to the left."""
    base = saturating_gradients()
    layer = replace(base.model.layers[0], wx_frac_bits=16)
    weight = base.written["layer0.weight"].copy()
    weight[:2] <<= 16 - base.model.layers[0].wx_frac_bits
    readout = np.full((1, 16), 32767, np.int16)
    model = replace(
        base.model,
        layers=(layer,),
        readout="regression",
        readout_weight=readout,
        readout_bias=np.zeros(1, np.int32),
        class_names=("value",),
    )
    targets = np.full((30, 1), NO_VALUE, np.int32)
    targets[-1] = TARGET_MAX
    written = base.written | {"layer0.weight": weight, "readout.weight": readout}

    def reaches(r: SampleResult) -> bool:
        return r.grad_exponent + r.dm_exponent >= 17 and r.saturated_w > 1000 and r.n_targets == 1 and not r.clipped

    return Extreme(model, base.frames, 0, reaches, written, targets)


def most_errors_with_beta(readout: str, exponent: int) -> Callable[[], Extreme]:
    """β close to 1, times the most errors: it alone chooses the unit."""

    def build() -> Extreme:
        model = extreme_model(1, 2, 256, 4096, readout=readout, theta_h=1)
        targets = np.zeros((4096, 256) if readout == "regression" else 4096, np.int32)
        beta = Scale(65535, -16)
        return Extreme(model, swings(4096, 1), 0, lambda r: r.grad_exponent == exponent, {}, targets, beta)

    return build


EXTREMES: dict[str, Callable[[], Extreme]] = {
    "largest M": largest_m,
    "finest formats": finest_formats,
    "1,024 inputs": wide,
    "4,096 steps": long,
    "saturating gradients": saturating_gradients,
    "saturating loss": saturating_loss,
    "no gradient": no_gradient,
    "no event": no_event,
    "256 equal logits": equal_logits,
    "largest rate, largest clip": rate(FASTEST, LOOSEST, 0),
    "largest rate, smallest clip": rate(FASTEST, TIGHTEST, 1),
    "smallest rate, largest clip": rate(SLOWEST, LOOSEST, 0),
    "smallest rate, smallest clip": rate(SLOWEST, TIGHTEST, 1),
    "rate 0, smallest clip": rate(Scale(0, 0), TIGHTEST, 1),
    "4,096 frames judged wrong for certain": frames_at_most_confidence,
    "no error at any frame": frames_with_no_error,
    "an error that grows by orders of magnitude": growing_error,
    "errors beyond every range": huge_errors,
    "steps beyond every range": fastest_weights,
    "beta times 4,096 frames": most_errors_with_beta("frames", -2),
    "beta times 4,096 frames of 256 values": most_errors_with_beta("regression", 6),
}


def train_at(extreme: Extreme) -> int:
    """One training step from the extreme's state; how many words were compared."""
    oracle, core = FixedNetwork(extreme.model), CoreNetwork(extreme.model)
    settings = replace(Settings.of(extreme.model), beta=extreme.beta)
    for network in (oracle, core):
        settings.apply(network)
        for name, values in extreme.written.items():
            network.set_tensor(name, values)
    words = assert_same_step(oracle, core, extreme.model, extreme.frames, extreme.label, extreme.targets)
    assert extreme.reaches(oracle.result)
    return words


STEPS_PER_MODEL = 5
LARGE_HIDDEN, LARGE_FRAMES = 32, 40


def run(n_steps: int, seed: int, large: bool = False) -> int:
    """Train `n_steps` random steps over random models; how many words were compared.

    `large`: the last layer has LARGE_HIDDEN units and every sample LARGE_FRAMES frames, or more.
    """
    rng = np.random.default_rng(seed)
    least_hidden, least_frames = (LARGE_HIDDEN, LARGE_FRAMES) if large else (1, 1)
    words = 0
    for done in range(n_steps):
        if done % STEPS_PER_MODEL == 0:
            model = random_model(
                rng,
                n_in=int(rng.integers(1, 40)),
                n_hidden=int(rng.integers(least_hidden, 48)),
                n_classes=int(rng.integers(2, 12)),
                max_steps=int(rng.integers(least_frames, 50)),
                spread=float(rng.choice([0.3, 1.0, 4.0, 30.0])),
                cells=random_cells(rng),
                readout=str(rng.choice(READOUTS)),
            )
            if not large and rng.random() < 0.4:
                model = replace(model, replay=random_exemplars(rng, model))
            if not large and rng.random() < 0.4:
                model = replace(model, memory=Memory("checkpoints", int(rng.integers(1, model.max_steps + 1))))
            oracle, core = FixedNetwork(model), CoreNetwork(model)
            settings = random_settings(rng, model)
            for network in (oracle, core):
                settings.apply(network)
        if not large and model.replay is not None and rng.random() < 0.4:
            words += replay_step(oracle, core, model)
            continue
        words += random_step(rng, oracle, core, model, int(rng.integers(least_frames, model.max_steps + 1)))
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
    words = run(steps, int(sys.argv[3])) + sum(train_at(build()) for build in EXTREMES.values())
    print(f"{steps + len(EXTREMES)} steps, {words} words compared, 0 words differ")
