"""How far M runs away from b + W v̂ over ten thousand frames: in float32 it does, in integers it cannot.

    python tools/study_drift.py [--steps 10000] [--picture docs/drift.png]

The shipped model hears the recordings of `digits` one after the other, as one long sample, in two ways: as the integer
reference, and in float32 as any float implementation accumulates, M += W Δ. After every frame M is compared with
b + W v̂, summed afresh: in float64 for float32's own weights and v̂, in integers for the integers.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from deltatrain import datasets
from deltatrain.demo import shipped_model
from deltatrain.fixed import FixedNetwork
from deltatrain.personal import CALIBRATION_ITEMS, pretraining_items
from deltatrain.quant_model import QuantModel
from deltatrain.quantize import H_FRAC_BITS, dequantize, quantize
from deltatrain.report import svg
from deltatrain.report.palette import LIGHT
from deltatrain.samples import samples_of

Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class Drift:
    """After each frame the largest |M − (b + W v̂)| over the units, in real units, (steps,) each."""

    float32: NDArray[np.float64]
    integers: NDArray[np.float64]


def drift(model: QuantModel, frames: NDArray[np.int16]) -> Drift:
    """Run one long sample both ways; the model has one LSTM layer."""
    return Drift(_of_float32(model, frames), _of_integers(model, frames))


def _of_integers(model: QuantModel, frames: NDArray[np.int16]) -> NDArray[np.float64]:
    layer = model.layers[0]
    network = FixedNetwork(replace(model, max_steps=len(frames)))
    network.begin()
    state, n = network.layers[0], layer.n_in
    weight, bias = layer.weight.astype(np.int64), layer.bias.astype(np.int64)
    m_frac_bits = max(layer.wx_frac_bits + layer.x_frac_bits, layer.wh_frac_bits + H_FRAC_BITS)
    x_unit = 2 ** (m_frac_bits - layer.wx_frac_bits - layer.x_frac_bits)
    h_unit = 2 ** (m_frac_bits - layer.wh_frac_bits - H_FRAC_BITS)
    differences = np.empty(len(frames))
    for t, frame in enumerate(frames):
        network.push(frame[None])
        state.history.clear()  # no way back from here
        direct = bias * 2 ** (m_frac_bits - 24)
        direct += state.v_hat[:n] @ weight[:n] * x_unit + state.v_hat[n:] @ weight[n:] * h_unit
        differences[t] = np.abs(state.m - direct).max() / 2**m_frac_bits
    return differences


def _of_float32(model: QuantModel, frames: NDArray[np.int16]) -> NDArray[np.float64]:
    exact, layer = dequantize(model).layers[0], model.layers[0]
    weight = np.concatenate([exact.weight_ih, exact.weight_hh], axis=1).astype(np.float32)
    bias = exact.bias.astype(np.float32)
    weight64, bias64 = weight.astype(np.float64), bias.astype(np.float64)
    n, h = layer.n_in, layer.n_hidden
    theta = np.repeat([exact.theta_x, exact.theta_h], [n, h]).astype(np.float32)
    v_hat, m = np.zeros(n + h, np.float32), bias.copy()
    hidden, cell = np.zeros(h, np.float32), np.zeros(h, np.float32)
    differences = np.empty(len(frames))
    for t, frame in enumerate(frames):
        v = np.concatenate([(frame / 2.0**layer.x_frac_bits).astype(np.float32), hidden])
        delta = v - v_hat
        active = (np.abs(delta) >= theta) & (delta != 0)
        m += weight[:, active] @ delta[active]
        v_hat = np.where(active, v, v_hat)
        gates_i, gates_f, gates_o = (_sigmoid(m[k * h : (k + 1) * h]) for k in (0, 1, 3))
        cell = gates_f * cell + gates_i * np.tanh(m[2 * h : 3 * h])
        hidden = gates_o * np.tanh(cell)
        differences[t] = np.abs(m - (bias64 + weight64 @ v_hat)).max()
    return differences


def _sigmoid(x: Float32) -> Float32:
    return np.asarray(np.float32(0.5) * (np.float32(1) + np.tanh(np.float32(0.5) * x)), np.float32)


def long_sample(n_steps: int) -> tuple[QuantModel, NDArray[np.int16]]:
    """The shipped model in integers, and the recordings of `digits` end to end, over again where too few."""
    float_model = shipped_model()
    data = datasets.load("digits", config=float_model.features)
    chosen = pretraining_items(data, float_model, CALIBRATION_ITEMS)
    model, _ = quantize(float_model, [data.features[item] for item in chosen])
    frames = np.concatenate([sample.frames for sample in samples_of(model, data, range(len(data))).items])
    return model, np.resize(frames, (n_steps, frames.shape[1]))


def picture(found: Drift, path: Path) -> Path:
    """Draw both over time."""
    with svg.style():
        figure = Figure(figsize=(7.2, 3.6), facecolor=LIGHT["surface"], layout="constrained")
        ax = figure.subplots()
        frames = np.arange(1, len(found.float32) + 1)
        ax.plot(frames, found.float32 * 1e6, color=LIGHT["vermilion"], linewidth=1.2, label="float32")
        ax.plot(frames, found.integers * 1e6, color=LIGHT["blue"], linewidth=2.2, label="integers: 0")
        ax.set_xlabel("frames")
        ax.set_ylabel("largest |M − (b + W v̂)|, 10⁻⁶")
        ax.set_xlim(0, len(frames))
        ax.legend(loc="upper left")
        figure.savefig(path, dpi=120, facecolor=LIGHT["surface"], metadata={"Software": None})
    return path


def main() -> int:
    """Run the study, draw it, and say what it shows; exit status 1 where the integers drift."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10_000, help="frames")
    parser.add_argument("--picture", type=Path, default=Path("docs/drift.png"))
    given = parser.parse_args()
    found = drift(*long_sample(given.steps))
    picture(found, given.picture)
    marks = [count for count in (10, 100, 1_000, 10_000, 100_000) if count <= given.steps]
    for count in marks:
        print(
            f"after {count:>6} frames: float32 {found.float32[count - 1]:.1e}, integers {found.integers[count - 1]:g}"
        )
    print(f"{given.steps} frames: float32 at most {found.float32.max():.1e}, integers at most {found.integers.max():g}")
    return int(found.integers.any())


if __name__ == "__main__":
    sys.exit(main())
