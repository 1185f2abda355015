"""The float reference against an independent model differentiated by reverse-mode autograd.

`test_reference.py` differentiates small networks entry by entry. Here they are larger, the model decides its own masks,
and the derivatives come from a program that knows nothing of BPTT, thresholds or delta networks.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import autograd.numpy as anp
import numpy as np
import numpy.typing as npt
import pytest
from autograd import grad
from autograd.tracer import getval

from deltatrain import reference

CELLS = ("rnn", "gru", "lstm")
Array = npt.NDArray[np.float64]
# Traced by autograd: an array to all that computes with it, untyped to a type checker.
Traced = Any

CASES = {
    # name: steps, sizes (inputs, hidden of each layer, outputs), θx, θh
    "dense": (20, (8, 16, 5), 0.0, 0.0),
    "sparse": (25, (8, 16, 5), 0.4, 0.1),
    "two_layers": (20, (8, 12, 10, 5), 0.3, 0.05),
    "three_layers": (15, (6, 8, 7, 6, 4), 0.3, 0.05),
    "silent": (10, (8, 16, 5), 1e9, 1e9),
    "one_step": (1, (8, 16, 5), 0.1, 0.1),
    "one_unit": (12, (3, 1, 2), 0.2, 0.02),
}


def on(v: Traced, v_hat: Traced, theta: float) -> npt.NDArray[np.bool_]:
    """The mask, from plain numbers: a constant to autograd."""
    d = np.asarray(getval(v)) - np.asarray(getval(v_hat))
    mask: npt.NDArray[np.bool_] = (np.abs(d) >= theta) & (d != 0)
    return mask


def sigma(x: Traced) -> Traced:
    return 1 / (1 + anp.exp(-x))


def run_layer(cell: str, p: Mapping[str, Traced], xs: list[Traced], theta_x: float, theta_h: float) -> dict[str, Any]:
    """One layer as the paper writes it: M grows by W Δ."""
    n_hidden = p["weight_hh"].shape[1]
    h = c = h_hat = np.zeros(n_hidden)
    x_hat = np.zeros(p["weight_ih"].shape[1])
    from_x, from_h = p["bias_ih"], p["bias_hh"]
    hs, masks_x, masks_h, size = [], [], [], 0.0
    for x in xs:
        masks_x.append(on(x, x_hat, theta_x))
        masks_h.append(on(h, h_hat, theta_h))
        delta_x, delta_h = (x - x_hat) * masks_x[-1], (h - h_hat) * masks_h[-1]
        x_hat, h_hat = anp.where(masks_x[-1], x, x_hat), anp.where(masks_h[-1], h, h_hat)
        size = size + anp.sum(anp.abs(delta_h))
        from_x, from_h = from_x + p["weight_ih"] @ delta_x, from_h + p["weight_hh"] @ delta_h
        gx, gh = anp.reshape(from_x, (-1, n_hidden)), anp.reshape(from_h, (-1, n_hidden))
        if cell == "rnn":
            h = anp.tanh(gx[0] + gh[0])
        elif cell == "lstm":
            i, f, g, o = gx + gh
            c = sigma(f) * c + sigma(i) * anp.tanh(g)
            h = sigma(o) * anp.tanh(c)
        else:
            z = sigma(gx[1] + gh[1])
            h = (1 - z) * anp.tanh(gx[2] + sigma(gx[0] + gh[0]) * gh[2]) + z * h
        hs.append(h)
    return {"h": hs, "mask_x": np.array(masks_x), "mask_h": np.array(masks_h), "size": size}


def cross_entropy(logits: Traced, label: int) -> Traced:
    return anp.log(anp.sum(anp.exp(logits))) - logits[label]


def loss_of(
    params: Mapping[str, Traced], network: reference.Network, x: Traced, target: Array, beta: float
) -> tuple[Traced, list[dict[str, Any]]]:
    """Loss of the whole network, and what each layer did."""
    values, value, traces = [x[t] for t in range(len(x))], 0.0, []
    for index, layer in enumerate(network.layers):
        own = {name: params[f"layer{index}.{name}"] for name in layer.params}
        traces.append(run_layer(layer.cell, own, values, layer.theta_x, layer.theta_h))
        values = traces[-1]["h"]
        value = value + beta * traces[-1]["size"]
    assert network.readout is not None
    out = [params["readout.weight"] @ h + params["readout.bias"] for h in values]
    if network.readout.kind == "last":
        return value + cross_entropy(out[-1], int(target)), traces
    if network.readout.kind == "frames":
        judged = [cross_entropy(row, int(label)) for row, label in zip(out, target, strict=True)]
        return value + sum(judged) / len(judged), traces
    errors = [anp.mean((row - wanted) ** 2) for row, wanted in zip(out, target, strict=True)]
    return value + sum(errors) / len(errors), traces


def make(cell: str, name: str, kind: str, beta: float) -> tuple[reference.Network, Array, Array]:
    """A network with weights of order one, a random walk, and its target."""
    steps, sizes, theta_x, theta_h = CASES[name]
    rng = np.random.default_rng(7)
    layers = [reference.CELLS[cell](n, m, theta_x, theta_h, beta=beta) for n, m in pairwise(sizes[:-1])]
    network = reference.Network(layers, reference.Readout(sizes[-2], sizes[-1], kind))
    for key, value in network.params.items():
        network.params[key] = rng.normal(0, 1.2 / np.sqrt(value.shape[-1]), value.shape)
    x = rng.normal(0, 0.5, (steps, sizes[0])).cumsum(axis=0)
    x[steps // 2 :: 3] = x[steps // 2]  # stretches where nothing moves: d = 0 is never sent, not even at θ = 0
    if kind == "regression":
        return network, x, rng.normal(size=(steps, sizes[-1]))
    return network, x, np.asarray(rng.integers(0, sizes[-1], () if kind == "last" else steps), dtype=float)


def check(network: reference.Network, x: Array, target: Array, beta: float) -> None:
    """Loss, masks, and every gradient to 1e-9 of the largest of its tensor."""
    params = {name: np.array(value) for name, value in network.params.items()}
    result = network.loss_and_gradients(x, target)
    value, traces = loss_of(params, network, x, target, beta)
    assert result.loss == pytest.approx(value, rel=1e-12)
    for trace, part in zip(traces, result.trace.layers, strict=True):
        assert np.array_equal(trace["mask_x"], part.mask_x) and np.array_equal(trace["mask_h"], part.mask_h)
    wanted = grad(lambda both: loss_of(both[0], network, both[1], target, beta)[0])((params, x))
    for name, want in [*wanted[0].items(), ("x", wanted[1])]:
        got = result.dx if name == "x" else result.grads[name]
        assert got.shape == want.shape
        worst = float(np.abs(got - want).max())
        assert worst <= 1e-9 * max(float(np.abs(want).max()), 1e-6), f"{name}: differs by {worst}"


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("kind", reference.READOUT_KINDS)
@pytest.mark.parametrize("cell", CELLS)
def test_gradients_against_autograd(cell: str, kind: str, name: str) -> None:
    network, x, target = make(cell, name, kind, beta=0.0)
    occupancy = [part.mask_h.mean() for part in network.forward(x)[1].layers]
    if name in ("sparse", "two_layers", "three_layers"):
        assert all(0 < share < 1 for share in occupancy)
    if name == "silent":
        assert not any(occupancy)
    check(network, x, target, beta=0.0)


@pytest.mark.parametrize("kind", reference.READOUT_KINDS)
@pytest.mark.parametrize("cell", CELLS)
def test_regulariser_against_autograd(cell: str, kind: str) -> None:
    check(*make(cell, "two_layers", kind, beta=0.03), beta=0.03)


@pytest.mark.parametrize("cell", CELLS)
def test_inputs_on_the_threshold_against_autograd(cell: str) -> None:
    network, x, target = make(cell, "sparse", "last", beta=0.0)
    x = np.round(x / 0.25) * 0.25  # differences are exact multiples of θ, so many stand exactly on it
    network.layers[0].theta_x = 0.25
    x_hat, on_threshold = np.zeros(x.shape[1]), 0
    for row in x:
        on_threshold += int((np.abs(row - x_hat) == 0.25).sum())
        x_hat = np.where(np.abs(row - x_hat) >= 0.25, row, x_hat)
    assert on_threshold > 10
    check(network, x, target, beta=0.0)
