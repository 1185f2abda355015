"""The float reference against finite differences, complex-step derivatives, and hand-made cases."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Mapping
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest

from deltatrain import reference
from deltatrain.errors import InputError, ModelError
from deltatrain.reference.sgd import gradient_bound

CELLS = ("rnn", "gru", "lstm")
KINDS = reference.READOUT_KINDS
Array = npt.NDArray[np.float64]
Complex = npt.NDArray[np.complex128]
Mask = npt.NDArray[np.bool_]

# Name → thresholds of inputs and hidden state.
THRESHOLDS = {
    "dense": (0.0, 0.0),
    "sparse": (0.1, 0.04),
    "inputs_only": (0.4, 0.0),
    "hidden_only": (0.0, 0.2),
    "silent": (1e9, 1e9),
}


# --- An independent forward pass of the masked network, for derivatives by complex steps -------------------
#
# Masks are arguments, so they are constant by construction, also for inputs exactly on a threshold. It sums
# M_t = b + W v̂_t directly instead of accumulating, works on complex numbers, and shares no code with
# `deltatrain.reference`. The derivative of a real function f at x is Im f(x + i s) / s, with no cancellation.


def logistic(x: Complex) -> Complex:
    return np.asarray(1 / (1 + np.exp(-x)))


def masked_layer(
    cell: str, params: Mapping[str, Complex], x: Complex, mask_x: Mask, mask_h: Mask
) -> tuple[Complex, Complex]:
    """h (T, H) and Δh (T, H) of one layer."""
    n_hidden = params["weight_hh"].shape[1]
    h = np.zeros(n_hidden, complex)
    c, h_hat, x_hat = h.copy(), h.copy(), np.zeros(x.shape[1], complex)
    states, deltas = [], []
    for t in range(len(x)):
        x_hat = np.where(mask_x[t], x[t], x_hat)
        before, h_hat = h_hat, np.where(mask_h[t], h, h_hat)
        from_x = (params["weight_ih"] @ x_hat + params["bias_ih"]).reshape(-1, n_hidden)
        from_h = (params["weight_hh"] @ h_hat + params["bias_hh"]).reshape(-1, n_hidden)
        total = from_x + from_h
        if cell == "rnn":
            h = np.tanh(total[0])
        elif cell == "lstm":
            c = logistic(total[1]) * c + logistic(total[0]) * np.tanh(total[2])
            h = logistic(total[3]) * np.tanh(c)
        else:
            z = logistic(total[1])
            n = np.tanh(from_x[2] + logistic(total[0]) * from_h[2])
            h = n + z * (h - n)
        states.append(h)
        deltas.append(h_hat - before)
    return np.array(states), np.array(deltas)


def masked_loss(
    cells: list[str],
    masks: list[tuple[Mask, Mask]],
    params: Mapping[str, Complex],
    x: Complex,
    kind: str,
    target: npt.NDArray[np.float64],
    beta: float,
) -> complex:
    """Loss of a stack with its readout and regulariser; parameters named as by `Network.params`."""
    value: complex = 0
    h = x
    for index, (cell, (mask_x, mask_h)) in enumerate(zip(cells, masks, strict=True)):
        own = {key.split(".")[1]: p for key, p in params.items() if key.startswith(f"layer{index}.")}
        h, delta_h = masked_layer(cell, own, h, mask_x, mask_h)
        # |Δ| has the derivative sign(Δ); written so, it stays analytic.
        value += beta * (np.sign(delta_h.real) * delta_h).sum()
    out = h @ params["readout.weight"].T + params["readout.bias"]
    if kind == "regression":
        return complex(value + ((out - target) ** 2).mean())
    rows, labels = (out[-1:], [int(target)]) if kind == "last" else (out, [int(y) for y in target])
    losses = [np.log(np.exp(row).sum()) - row[y] for row, y in zip(rows, labels, strict=True)]
    return complex(value + sum(losses) / len(losses))


# --- The reference itself -----------------------------------------------------------------------------------


def make_network(
    cell: str,
    sizes: tuple[int, ...],
    thetas: tuple[float, float] = (0.0, 0.0),
    kind: str = "last",
    beta: float = 0.0,
    seed: int = 0,
) -> reference.Network:
    """A network with O(1) weights, so that no gradient path is negligible."""
    rng = np.random.default_rng(seed)
    layers = [reference.CELLS[cell](n_in, n_hidden, *thetas, beta=beta) for n_in, n_hidden in pairwise(sizes[:-1])]
    network = reference.Network(layers, reference.Readout(sizes[-2], sizes[-1], kind))
    for name, value in network.params.items():
        network.params[name] = rng.normal(0, 0.6, value.shape)
    return network


def make_target(kind: str, steps: int, n_out: int, rng: np.random.Generator) -> Array:
    if kind == "regression":
        return rng.normal(size=(steps, n_out))
    return np.asarray(rng.integers(0, n_out, () if kind == "last" else steps), dtype=float)


def masks_of(network: reference.Network, x: Array) -> list[tuple[Mask, Mask]]:
    return [(part.mask_x, part.mask_h) for part in network.forward(x)[1].layers]


def assert_close(name: str, got: Array, want: Array, tolerance: float) -> None:
    scale = max(float(np.abs(want).max()), 1e-3)
    worst = np.unravel_index(int(np.abs(got - want).argmax()), got.shape)
    difference = abs(float(got[worst]) - float(want[worst]))
    assert difference <= tolerance * scale, f"{name}{list(map(int, worst))}: {got[worst]} against {want[worst]}"


def check_by_complex_steps(network: reference.Network, x: Array, target: Array, tolerance: float = 1e-9) -> None:
    """Every parameter's and input's gradient against Im f(x + i s) / s with constant masks."""
    assert network.readout is not None
    result = network.loss_and_gradients(x, target)
    cells = [layer.cell for layer in network.layers]
    params = {name: value.astype(complex) for name, value in network.params.items()}
    inputs = x.astype(complex)
    masks = masks_of(network, x)
    beta = network.layers[0].beta

    kind = network.readout.kind

    def f() -> complex:
        return masked_loss(cells, masks, params, inputs, kind, target, beta)

    assert f().real == pytest.approx(result.loss, rel=1e-12)
    for name, array, got in [
        *((name, params[name], result.grads[name]) for name in params),
        ("x", inputs, result.dx),
    ]:
        want = np.zeros(array.shape)
        for index in np.ndindex(array.shape):
            array[index] += 1e-30j
            want[index] = f().imag / 1e-30
            array[index] = array[index].real
        assert_close(name, got, want, tolerance)


@pytest.mark.parametrize("thetas", THRESHOLDS.values(), ids=THRESHOLDS.keys())
@pytest.mark.parametrize("sizes", [(3, 4, 3), (3, 4, 2, 3), (2, 3, 2, 3, 4)], ids=["1", "2", "3"])
@pytest.mark.parametrize("cell", CELLS)
def test_gradients_against_complex_steps(cell: str, sizes: tuple[int, ...], thetas: tuple[float, float]) -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(7, sizes[0])).cumsum(axis=0)
    network = make_network(cell, sizes, thetas)
    if thetas == THRESHOLDS["sparse"]:
        for mask_x, mask_h in masks_of(network, x):
            assert 0 < mask_x.mean() < 1 and 0 < mask_h.mean() < 1
    check_by_complex_steps(network, x, make_target("last", 7, sizes[-1], rng))


@pytest.mark.parametrize("beta", [0.0, 0.07])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cell", CELLS)
def test_losses_and_regulariser_against_complex_steps(cell: str, kind: str, beta: float) -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=(6, 3)).cumsum(axis=0)
    network = make_network(cell, (3, 4, 3, 4), (0.3, 0.1), kind, beta)
    check_by_complex_steps(network, x, make_target(kind, 6, 4, rng))


@pytest.mark.parametrize("sizes", [(3, 1, 2), (1, 1, 1, 2), (2, 3, 2)], ids=["hidden1", "all1", "plain"])
@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("cell", CELLS)
def test_smallest_networks_against_complex_steps(cell: str, steps: int, sizes: tuple[int, ...]) -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(steps, sizes[0]))
    check_by_complex_steps(make_network(cell, sizes, (0.1, 0.05)), x, make_target("last", steps, sizes[-1], rng))


@pytest.mark.parametrize("cell", CELLS)
def test_inputs_exactly_on_the_threshold_are_sent(cell: str) -> None:
    # Multiples of a power of two: the differences are exact.
    x = np.array([[0.25, -0.25], [0.5, -0.5], [0.25, -0.25], [0.125, -0.375], [0.125, -0.625]])
    network = make_network(cell, (2, 3, 2), (0.25, 0.0))
    mask_x = network.forward(x)[1].layers[0].mask_x
    assert mask_x.tolist() == [[True, True], [True, True], [True, True], [False, False], [False, True]]
    check_by_complex_steps(network, x, np.array(1.0))


@pytest.mark.parametrize("thetas", [THRESHOLDS["dense"], THRESHOLDS["sparse"]], ids=["dense", "sparse"])
@pytest.mark.parametrize("cell", CELLS)
def test_gradients_against_finite_differences(cell: str, thetas: tuple[float, float]) -> None:
    rng = np.random.default_rng(4)
    x = rng.normal(size=(6, 3)).cumsum(axis=0)
    network = make_network(cell, (3, 4, 2, 3), thetas)
    before = masks_of(network, x)
    result = network.loss_and_gradients(x, 1)
    step = 1e-5
    for name, array, got in [
        *((name, network.params[name], result.grads[name]) for name in network.params),
        ("x", x, result.dx),
    ]:
        want = np.zeros(array.shape)
        for index in np.ndindex(array.shape):
            value = array[index]
            losses = []
            for moved in (value + step, value - step):
                array[index] = moved
                losses.append(network.loss(network.forward(x)[0], 1)[0])
                for (mask_x, mask_h), (was_x, was_h) in zip(masks_of(network, x), before, strict=True):
                    assert (mask_x == was_x).all() and (mask_h == was_h).all(), "choose another seed"
            array[index] = value
            want[index] = (losses[0] - losses[1]) / (2 * step)
        assert_close(name, got, want, 1e-7)


def test_forward_by_hand() -> None:
    layer = reference.DeltaRNN(1, 1, theta_x=0.5, theta_h=0.25)
    layer.params = {"weight_ih": [[2.0]], "weight_hh": [[-1.0]], "bias_ih": [0.1], "bias_hh": [0.2]}
    x = np.array([[0.5], [0.75], [1.25], [1.25]])
    h, trace = layer.forward(x)
    # x: 0.5 is sent (on θ), 0.75 is 0.25 away and not, 1.25 is 0.75 away and is, 1.25 again is not.
    assert trace.mask_x[:, 0].tolist() == [True, False, True, False]
    h1 = np.tanh(0.3 + 2 * 0.5)
    h2 = np.tanh(0.3 + 2 * 0.5 - h1)
    h3 = np.tanh(0.3 + 2 * 1.25 - h2)
    h4 = np.tanh(0.3 + 2 * 1.25 - h3)
    assert trace.mask_h[:, 0].tolist() == [False, True, True, True]
    assert h[:, 0] == pytest.approx([h1, h2, h3, h4], rel=1e-14)


@pytest.mark.parametrize("cell", CELLS)
def test_zero_thresholds_transmit_every_change(cell: str) -> None:
    x = np.random.default_rng(5).normal(size=(5, 3))
    x[2] = x[1]
    trace = reference.CELLS[cell](3, 4).forward(x)[1]
    assert trace.mask_x.tolist() == [[row != 2] * 3 for row in range(5)]
    assert trace.mask_h.tolist() == [[row != 0] * 4 for row in range(5)]


@pytest.mark.parametrize("cell", CELLS)
def test_backward_carries_the_sum_in_d_accumulators(cell: str) -> None:
    rng = np.random.default_rng(6)
    layer = make_network(cell, (3, 4, 2), (0.3, 0.1)).layers[0]
    _, trace = layer.forward(rng.normal(size=(6, 3)).cumsum(axis=0))
    gradients = layer.gradients(trace, rng.normal(size=(6, 4)))
    d_m = gradients.d_accumulators
    rows = layer.n_gates * layer.n_hidden
    assert_close("bias_ih", gradients.params["bias_ih"], d_m[0, :rows], 1e-15)
    assert_close("weight_ih", gradients.params["weight_ih"], d_m[:, :rows].T @ trace.delta_x, 1e-12)
    of_h = np.delete(d_m, slice(8, 12), axis=1) if cell == "gru" else d_m
    assert_close("weight_hh", gradients.params["weight_hh"], of_h.T @ trace.delta_h, 1e-12)


def test_a_network_without_readout_is_a_layer() -> None:
    rng = np.random.default_rng(7)
    layer = reference.DeltaGRU(3, 4, 0.1, 0.1)
    x, dh = rng.normal(size=(5, 3)), rng.normal(size=(5, 4))
    net = reference.Network([layer])
    h, trace = layer.forward(x)
    out, net_trace = net.forward(x)
    grads, dx = layer.backward(trace, dh)
    net_grads, net_dx = net.backward(net_trace, dh)
    assert (out == h).all() and (net_dx == dx).all()
    assert all((net_grads[f"layer0.{name}"] == grads[name]).all() for name in grads)


def test_network_parameters_are_live_and_checked() -> None:
    net = make_network("lstm", (3, 4, 2))
    net.params["layer0.bias_hh"] = np.full(16, 0.5)
    assert (net.layers[0].params["bias_hh"] == 0.5).all()
    net.params = {name: np.zeros(value.shape) for name, value in net.params.items()}
    assert net.forward(np.ones((2, 3)))[0].tolist() == [0.0, 0.0]
    with pytest.raises(KeyError):
        net.params["layer1.bias_hh"] = np.zeros(16)
    with pytest.raises(ModelError, match="weight has shape"):
        net.params["readout.weight"] = np.zeros((3, 3))


@pytest.mark.parametrize(
    ("name", "value", "match"),
    [
        ("weight_ih", np.zeros((4, 3)), r"weight_ih has shape \(4, 3\), expected \(16, 3\)"),
        ("bias_ih", np.full(16, np.nan), r"bias_ih\[0\] is nan"),
        ("weight_hh", np.full((16, 4), np.inf), r"weight_hh\[0, 0\] is inf"),
        ("weight", np.zeros(3), "no parameter 'weight'"),
        ("bias_hh", "sixteen", "not an array"),
    ],
)
def test_wrong_parameters_are_refused(name: str, value: npt.ArrayLike, match: str) -> None:
    layer = reference.DeltaLSTM(3, 4)
    before = {key: array.copy() for key, array in layer.params.items()}
    for assign in (layer.params.__setitem__, lambda key, array: layer.params.update({key: array})):
        with pytest.raises(ModelError, match=match):
            assign(name, value)
    assert all((layer.params[key] == before[key]).all() for key in before)
    with pytest.raises(ModelError):
        layer.params = {name: value}


def test_a_parameter_set_to_nan_in_place_is_found() -> None:
    layer = reference.DeltaRNN(2, 2)
    layer.params["weight_ih"][1, 0] = np.nan
    with pytest.raises(ModelError, match="weight_ih"):
        layer.forward(np.ones((1, 2)))


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: reference.DeltaLSTM(0, 4), "n_in is 0"),
        (lambda: reference.DeltaLSTM(3, 4, theta_x=-0.1), "theta_x is -0.1"),
        (lambda: reference.DeltaLSTM(3, 4, theta_h=float("nan")), "theta_h is nan"),
        (lambda: reference.DeltaLSTM(3, 4).forward(np.zeros((0, 3))), r"shape \(0, 3\)"),
        (lambda: reference.DeltaLSTM(3, 4).forward(np.zeros((5, 2))), r"expected \(any, 3\)"),
        (lambda: reference.DeltaLSTM(3, 4).forward([[0, 0, np.inf]]), r"x\[0, 2\] is inf"),
        (lambda: reference.Network([]), "at least one layer"),
        (lambda: reference.Network([reference.DeltaGRU(3, 4), reference.DeltaGRU(3, 4)]), "layer1 takes 3"),
        (lambda: reference.Readout(4, 2, "mean"), "'mean' is unknown"),
        (lambda: reference.softmax_cross_entropy([0.0, 1.0], 2), "label 2 is out of range"),
        (lambda: reference.softmax_cross_entropy([0.0, 1.0], -1), "label -1 is out of range"),
        (lambda: reference.SgdTrainer(make_network("rnn", (1, 1, 2)), clip=0), "clip is 0"),
    ],
)
def test_bad_input_is_named(call: Callable[[], object], match: str) -> None:
    with pytest.raises(InputError, match=match):
        call()


def test_a_trace_of_another_layer_is_refused() -> None:
    _, trace = reference.DeltaRNN(2, 4).forward(np.ones((3, 2)))
    with pytest.raises(InputError, match="2→4"):
        reference.DeltaRNN(3, 4).backward(trace, np.ones((3, 4)))


def test_copies_and_pickles_keep_the_checks() -> None:
    layer = reference.DeltaLSTM(3, 4, 0.1, 0.2, seed=3)
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert all((twin.params[key] == layer.params[key]).all() for key in layer.params)
        with pytest.raises(ModelError):
            twin.params["bias_ih"] = np.zeros(3)
        twin.params["bias_ih"][:] = 9.0
    assert (layer.params["bias_ih"] != 9.0).all()


def test_cross_entropy_of_large_logits_does_not_overflow() -> None:
    loss, gradient = reference.softmax_cross_entropy([1000.0, 0.0, -1000.0], 1)
    assert loss == pytest.approx(1000.0)
    assert gradient.tolist() == [1.0, -1.0, 0.0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cell", CELLS)
def test_the_clip_bounds_the_gradient(cell: str, kind: str) -> None:
    """B is at least the exact norm over the trained parameters; for one step, it is a sum of two norms."""
    for steps in (1, 9):
        rng = np.random.default_rng(steps)
        network = make_network(cell, (3, 5, 4), (0.2, 0.1), kind)
        x = rng.normal(size=(steps, 3)).cumsum(axis=0)
        result = network.loss_and_gradients(x, make_target(kind, steps, 4, rng))
        bound = gradient_bound(result, kind)
        squares = sum(float((result.grads[name] ** 2).sum()) for name in result.grads if "bias_hh" not in name)
        if cell == "gru":
            squares += float((result.grads["layer0.bias_hh"][10:] ** 2).sum())
        assert bound >= np.sqrt(squares)
        if steps == 1:
            of_readout = np.linalg.norm(result.d_out) * np.sqrt((result.trace.h**2).sum() + 1)
            of_layer = np.linalg.norm(result.layers[0].d_accumulators) * np.sqrt((x**2).sum() + 1)
            # An input below θ was not sent: take what was.
            sent = float((result.trace.layers[0].delta_x ** 2).sum())
            of_layer *= np.sqrt((sent + 1) / ((x**2).sum() + 1))
            assert bound == pytest.approx(of_readout + of_layer, rel=1e-12)


@pytest.mark.parametrize("cell", CELLS)
def test_sgd_moves_every_accumulator_once_at_the_clipped_rate(cell: str) -> None:
    rng = np.random.default_rng(8)
    network = make_network(cell, (3, 4, 3), (0.2, 0.1))
    before = {name: value.copy() for name, value in network.params.items()}
    x = rng.normal(size=(6, 3)).cumsum(axis=0)
    grads = network.loss_and_gradients(x, 2).grads
    step = reference.SgdTrainer(network, learning_rate=0.1, clip=0.5).step(x, 2)
    assert step.scale == pytest.approx(0.5 / step.bound) and step.scale < 1
    for name in before:
        moved = before[name] - 0.1 * step.scale * grads[name]
        if name == "layer0.bias_hh":
            frozen = slice(0, 8 if cell == "gru" else None)
            moved[frozen] = before[name][frozen]
        assert_close(name, network.params[name], moved, 1e-14)
    again = network.loss_and_gradients(x, 2)
    assert again.loss < step.loss


def test_sgd_without_any_gradient_keeps_the_rate() -> None:
    network = make_network("rnn", (1, 1, 1))
    step = reference.SgdTrainer(network).step(np.ones((2, 1)), 0)
    assert (step.loss, step.bound, step.scale, step.prediction) == (0.0, 0.0, 1.0, 0)


def test_operations_by_hand() -> None:
    layers = [reference.DeltaGRU(2, 3, 0.5, 1e9), reference.DeltaRNN(3, 4, 1e9, 1e9)]
    network = reference.Network(layers, reference.Readout(4, 2))
    x = np.array([[1.0, 0.1], [1.1, 0.2], [2.0, 0.9]])  # sent: (1, 0), (0, 0), (1, 1)
    count = reference.count_operations(layers, network.forward(x)[1])
    assert count.executed == 3 * 9 * 3
    assert count.dense == 3 * (9 * 5 * 3 + 4 * 7 * 3)
    assert (count.executed_dx, count.dense_dx) == (9 * 3, 9 * 2 * 3)
    assert count.reduction == pytest.approx(count.dense / count.executed)
    assert count.reduction_without_dx == pytest.approx((count.dense - 54) / (2 * 9 * 3))
    assert (count + count).executed == 2 * count.executed
    assert reference.OperationCount(0, 5).reduction == float("inf")
