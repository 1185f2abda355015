"""Networks and inputs built so that a given fraction of entries is inactive."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deltatrain.errors import InputError
from deltatrain.features import FeatureConfig
from deltatrain.link import Device
from deltatrain.model import N_ACCUMULATORS, N_GATES
from deltatrain.quant_model import QuantLayer, QuantModel
from deltatrain.quantize import H_FRAC_BITS
from deltatrain.scale import Scale
from deltatrain_core import CoreNetwork, StepResult

SPARSITIES = (0.0, 0.5, 0.8, 0.9)
SEED, LABEL, N_OUTPUTS = 1, 1, 10
X_FRAC_BITS, W_FRAC_BITS, C_FRAC_BITS = 11, 13, 12
THETA_X, THETA_MAX = 1, 2**14
# Biases by accumulator, in the device's order.
CANDIDATE = {"lstm": 2, "gru": 0, "rnn": 0}
REST = {"lstm": {0: 1.0, 1: -1.0, 2: 1.5, 3: 1.0}, "gru": {0: 1.5, 2: -1.0}, "rnn": {0: 1.0}}


@dataclass(frozen=True)
class Case:
    """A network and one sample: x [steps, n_in], with the thresholds that give about the sparsity asked for.

    theta_h is that of every hidden state, also as input of the layer above; that of x is THETA_X.
    """

    model: QuantModel
    frames: NDArray[np.int16]
    theta_h: int
    outcome: StepResult

    @property
    def cell(self) -> str:
        return self.model.layers[0].cell

    @property
    def n_hidden(self) -> int:
        return self.model.layers[0].n_hidden

    @property
    def steps(self) -> int:
        return len(self.frames)

    @property
    def n_columns(self) -> int:
        """Of all layers."""
        return sum(layer.n_in + layer.n_hidden for layer in self.model.layers)

    @property
    def inputs(self) -> NDArray[np.float32]:
        """The sample in real numbers, exactly; shape (steps, n_in)."""
        return np.ldexp(self.frames.astype(np.float32), -X_FRAC_BITS)

    @property
    def sparsity(self) -> float:
        """Fraction of the entries of v that were inactive; h before the first frame, which is 0, is not counted."""
        entries = sum(self.steps * layer.n_in + (self.steps - 1) * layer.n_hidden for layer in self.model.layers)
        return 1 - (self.outcome.active_x + self.outcome.active_h) / entries


@dataclass(frozen=True)
class Shape:
    """A network and the length of its sample."""

    cell: str
    n_in: int
    n_hidden: int
    steps: int
    n_layers: int = 1

    def case(self, sparsity: float) -> Case:
        """As `find_case`."""
        return find_case(self.cell, self.n_in, self.n_hidden, self.steps, sparsity, self.n_layers)


def bench_model(cell: str, n_in: int, n_hidden: int, steps: int, n_layers: int = 1) -> QuantModel:
    """A network of random weights whose units rest at h = ±0.5 or so and move as their inputs do."""
    rng = np.random.default_rng(SEED)
    layers = [_layer(rng, cell, n_in if number == 0 else n_hidden, n_hidden, number) for number in range(n_layers)]
    return QuantModel(
        layers=tuple(layers),
        readout_frac_bits=W_FRAC_BITS,
        readout_weight=rng.normal(0, 2000, (N_OUTPUTS, n_hidden)).clip(-32767, 32767).astype(np.int16),
        readout_bias=np.zeros(N_OUTPUTS, np.int32),
        max_steps=steps,
        learning_rate=Scale.from_float(0.16, "learning rate"),
        clip=Scale.from_float(2.0, "clip"),
        class_names=tuple(str(k) for k in range(N_OUTPUTS)),
        features=FeatureConfig(),
    )


def _layer(rng: np.random.Generator, cell: str, n_in: int, n_hidden: int, number: int) -> QuantLayer:
    bias = rng.normal(0, 0.2, (N_ACCUMULATORS[cell], n_hidden))
    # The candidate far from 0 and a short memory: every h leaves 0 at once, and then follows the inputs.
    for accumulator, value in REST[cell].items():
        bias[accumulator] += value
    bias[CANDIDATE[cell]] *= rng.choice([-1.0, 1.0], n_hidden)
    weight = rng.normal(0, 0.12, (n_in + n_hidden, N_GATES[cell] * n_hidden))
    return QuantLayer(
        cell=cell,
        n_in=n_in,
        n_hidden=n_hidden,
        x_frac_bits=X_FRAC_BITS if number == 0 else H_FRAC_BITS,
        wx_frac_bits=W_FRAC_BITS,
        wh_frac_bits=W_FRAC_BITS,
        c_frac_bits=C_FRAC_BITS,
        theta_x=0,
        theta_h=0,
        weight=np.rint(weight * 2**W_FRAC_BITS).clip(-32767, 32767).astype(np.int16),
        bias=np.rint(bias.reshape(-1) * 2**24).astype(np.int32),
    )


def bench_frames(n_in: int, steps: int, sparsity: float) -> NDArray[np.int16]:
    """Inputs that all change in the first frame, and later in as many places as the sparsity leaves."""
    rng = np.random.default_rng(SEED)
    n_active = min(max(round((1 - sparsity) * steps * n_in), n_in), steps * n_in)
    places = rng.permutation((steps - 1) * n_in)[: n_active - n_in]
    active = np.ones(steps * n_in, bool)
    active[n_in:] = False
    active[n_in + places] = True
    # The sign turns with every change, so that each change is a large one.
    turns = np.cumsum(active.reshape(steps, n_in), axis=0) + rng.integers(2, size=n_in)
    size = rng.integers(1000, 3000, (steps, n_in))
    held = np.zeros((steps, n_in), np.int16)
    last = np.zeros(n_in, np.int64)
    for t in range(steps):
        last = np.where(active.reshape(steps, n_in)[t], np.where(turns[t] % 2, size[t], -size[t]), last)
        held[t] = last
    return held


def find_case(cell: str, n_in: int, n_hidden: int, steps: int, sparsity: float, n_layers: int = 1) -> Case:
    """The case whose sparsity comes nearest to the one asked for: θh by bisection.

    Raises
    ------
    InputError
        If it stays further away than a hundredth, or a column is never active.
    """
    if not 0 <= sparsity < 1:
        raise InputError(f"the sparsity is {sparsity}; give a fraction from 0 to below 1, such as 0.9")
    if steps < 2:
        raise InputError(f"the sample has {steps} frames; a delta of h takes 2 or more")
    model = bench_model(cell, n_in, n_hidden, steps, n_layers)
    frames = bench_frames(n_in, steps, sparsity)
    trials: dict[int, Case] = {}

    def at(theta_h: int) -> Case:
        if theta_h not in trials:
            trials[theta_h] = Case(model, frames, theta_h, _train(model, frames, theta_h))
        return trials[theta_h]

    low, high = 0, THETA_MAX
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if at(middle).sparsity < sparsity else (low, middle)
    for theta_h in range(max(low - 20, 0), low + 20):  # sparsity grows with θh on the whole, not everywhere
        at(theta_h)
    n_columns = at(0).n_columns
    found = min(
        trials.values(),
        key=lambda case: (case.outcome.columns_updated < n_columns, abs(case.sparsity - sparsity), case.theta_h),
    )
    if abs(found.sparsity - sparsity) > 0.01 or found.outcome.columns_updated < n_columns:
        raise InputError(
            f"no sample of {steps} frames gives the {cell} {n_in}→{n_hidden} a sparsity of {sparsity} "
            f"(nearest: {found.sparsity:.3f}, {found.outcome.columns_updated} of {n_columns} columns active); "
            "ask for less, or for more frames"
        )
    return found


def _train(model: QuantModel, frames: NDArray[np.int16], theta_h: int) -> StepResult:
    network = CoreNetwork(model)
    configure(network, model, theta_h)
    network.begin()
    network.push(frames, want_hidden=False)
    return network.train(LABEL)


def configure(network: CoreNetwork | Device, model: QuantModel, theta_h: int) -> None:
    """Set the rates of a case's model, and its thresholds."""
    layers = len(model.layers)
    network.configure(
        learning_rate=model.learning_rate,
        clip=model.clip,
        theta_x=[THETA_X, *[theta_h] * (layers - 1)],
        theta_h=[theta_h] * layers,
        seed=SEED,
    )
