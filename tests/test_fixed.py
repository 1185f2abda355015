"""The integer reference against the C core, word by word; and both against real arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from equality import (
    CELLS,
    EXTREMES,
    TARGET_MAX,
    V_MAX,
    assert_same_words,
    random_frames,
    random_model,
    random_settings,
    random_step,
    random_targets,
    train_at,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from deltatrain.fixed import FixedNetwork, SampleResult, scales
from deltatrain.fixed.activation import sigmoid_q14, tanh_q14
from deltatrain.fixed.rounding import random_bits
from deltatrain.fixed.softmax import cross_entropy
from deltatrain.quant_model import QuantLayer, QuantModel, bias_order, reorder
from deltatrain.quantize import dequantize
from deltatrain.reference import READOUT_KINDS
from deltatrain.scale import Scale
from deltatrain.training import Settings
from deltatrain_core import NO_CLASS, NO_VALUE, CoreError, CoreNetwork, StepResult
from deltatrain_core._core import ffi, lib


def thresholds() -> st.SearchStrategy[int]:
    """As often small as from the whole range, whose ends are events everywhere and nowhere."""
    return st.integers(0, 4000) | st.integers(0, 32767)


@settings(max_examples=100, deadline=None, print_blob=True)
@given(
    seed=st.integers(0, 2**32 - 1),
    n_in=st.integers(1, 40),
    n_hidden=st.integers(1, 48),
    n_classes=st.integers(2, 12),
    lengths=st.lists(st.integers(1, 50), min_size=1, max_size=5),
    spread=st.sampled_from([0.3, 1.0, 4.0, 30.0]),
    cells=st.lists(st.sampled_from(CELLS), min_size=1, max_size=3),
    thetas=st.lists(st.tuples(thresholds(), thresholds()), min_size=3, max_size=3),
    readout=st.sampled_from(READOUT_KINDS),
)
def test_core_equals_the_integer_reference(
    seed: int,
    n_in: int,
    n_hidden: int,
    n_classes: int,
    lengths: list[int],
    spread: float,
    cells: list[str],
    thetas: list[tuple[int, int]],
    readout: str,
) -> None:
    """Cells, shapes, thresholds of each layer, lengths, scales and readouts as Hypothesis draws and shrinks them.

    The seed gives weights, formats, frames, targets (some missing), rates and rounding.
    """
    rng = np.random.default_rng(seed)
    model = random_model(rng, n_in, n_hidden, n_classes, max(lengths), spread, cells, readout)
    theta_x, theta_h = zip(*thetas[: len(cells)], strict=True)
    oracle, core = FixedNetwork(model), CoreNetwork(model)
    settings = replace(random_settings(rng, model), theta_x=theta_x, theta_h=theta_h)
    for network in (oracle, core):
        settings.apply(network, step=2**32 - 2)  # the step counter wraps on the way
    for n_steps in lengths:
        random_step(rng, oracle, core, model, n_steps)


@pytest.mark.parametrize("name", EXTREMES)
def test_core_equals_the_integer_reference_at_the_ends_of_the_ranges(name: str) -> None:
    assert train_at(EXTREMES[name]()) > 0


def test_core_equals_the_integer_reference_through_any_order_of_calls() -> None:
    """Inference before the end, thresholds changed on the way, a sample dropped, weights reset, training on."""
    model = small_model()
    oracle, core = FixedNetwork(model), CoreNetwork(model)
    x = random_frames(np.random.default_rng(5), model.max_steps, model.n_in)
    for network in (oracle, core):
        network.begin()
        network.push(x[:3])
        network.begin()
        network.push(x[:4])
        network.infer()
        rate = Scale.from_float(1.0, "learning rate")
        network.configure(learning_rate=rate, clip=model.clip, theta_x=[1], theta_h=[1], seed=3, step=2**32 - 1)
        network.push(x[4:7])
        network.infer()
        network.push(x[7:])
    assert_same_words(oracle, core, model, oracle.train(1), core.train(1))
    for network in (oracle, core):
        network.begin()
        network.push(x)
        network.reset_weights()
        network.begin()
        network.push(x[:5])
    assert_same_words(oracle, core, model, oracle.train(2), core.train(2))


@pytest.mark.parametrize("readout", ["frames", "regression"])
def test_core_equals_the_integer_reference_when_targets_come_in_any_order(readout: str) -> None:
    """Inference between targets, frames without any, a sample dropped half way, a sample in several pieces."""
    rng = np.random.default_rng(9)
    model = random_model(rng, 3, 5, 4, 20, 1.0, readout=readout)
    x, targets = random_frames(rng, 20, 3), random_targets(rng, model, 20)
    assert targets is not None
    targets[[0, -1]] = 1
    oracle, core = FixedNetwork(model), CoreNetwork(model)
    between: list[list[Any]] = []
    for network in (oracle, core):
        network.begin()
        network.push(x[:7], targets=targets[:7])
        network.begin()
        results: list[Any] = []
        for start, end in ((0, 1), (1, 5), (5, 20)):
            network.push(x[start:end], targets=None if start == 1 else targets[start:end])
            results.append(vars(network.infer()).copy())
            results.append(network.tensor("logits").tolist())
        between.append(results)
    assert between[0] == between[1]
    assert between[0][0]["n_targets"] == 1 and between[0][0]["loss"] == between[0][2]["loss"] > 0
    assert_same_words(oracle, core, model, oracle.learn(), core.learn())


def test_a_label_for_each_frame_of_one_is_a_label_at_the_last() -> None:
    """The readout at every frame, given one target, at the last frame, trains as the readout there does."""
    model = small_model()
    x = random_frames(np.random.default_rng(6), 12, 3)
    targets = np.full(12, NO_CLASS, np.int32)
    targets[-1] = 2
    at_last, at_frames = CoreNetwork(model), CoreNetwork(replace(model, readout="frames"))
    for network in (at_last, at_frames):
        Settings.of(model, beta=0.0, seed=3).apply(network)
        network.begin()
    at_last.push(x)
    at_frames.push(x, targets=targets)
    assert at_last.train(2) == at_frames.learn()
    for name in model.tensors():
        np.testing.assert_array_equal(at_last.tensor(name), at_frames.tensor(name), name)


def test_underflow_counts_what_a_later_exponent_rounds_away() -> None:
    """Going back, gradients that grow by orders of magnitude leave nothing of those stored first."""
    case = EXTREMES["saturating gradients"]()
    oracle = FixedNetwork(case.model)
    for name, values in case.written.items():
        oracle.set_tensor(name, values)
    oracle.begin()
    oracle.push(case.frames)
    top = oracle.layers[-1]
    stored: list[NDArray[np.int64]] = []
    step_back = top.step_back

    def spy(t: int, *rest: Any) -> None:
        step_back(t, *rest)
        stored.append(top.dm.copy())

    top.step_back = spy  # type: ignore[assignment,method-assign]
    result = oracle.train(case.label)
    vanished = sum(int(np.count_nonzero((before != 0) & (after == 0))) for before, after in pairwise(stored))
    assert vanished > 0
    assert result.underflow_dm >= vanished


def test_reference_and_core_report_the_same_fields() -> None:
    assert [f.name for f in fields(SampleResult)] == [f.name for f in fields(StepResult)]


def small_model(n_in: int = 3, n_hidden: int = 5) -> QuantModel:
    return random_model(np.random.default_rng(7), n_in, n_hidden, n_classes=4, max_steps=20, spread=1.0)


@pytest.mark.parametrize("cell", CELLS)
def test_m_never_drifts(cell: str) -> None:
    """M = b + W v̂ holds exactly after every step: the incremental sum is the direct one."""
    n_in, n_hidden = 8, 16
    model = random_model(np.random.default_rng(3), n_in, n_hidden, 4, 2000, 1.0, [cell])
    layer = model.layers[0]
    weight, bias = layer.weight.astype(np.int64), layer.bias.astype(np.int64)
    m_frac_bits = max(layer.wx_frac_bits + layer.x_frac_bits, layer.wh_frac_bits + 14)
    network = FixedNetwork(model)
    state = network.layers[0]
    rng = np.random.default_rng(4)
    for x in random_frames(rng, 2000, n_in):
        network.push(x[None])
        from_x = state.v_hat[:n_in] @ weight[:n_in] * 2 ** (m_frac_bits - layer.wx_frac_bits - layer.x_frac_bits)
        from_h = state.v_hat[n_in:] @ weight[n_in:] * 2 ** (m_frac_bits - layer.wh_frac_bits - 14)
        direct = bias * 2 ** (m_frac_bits - 24)
        direct[: from_x.size] += from_x  # the GRU's nx comes of x alone, its nh of h alone
        direct[direct.size - from_h.size :] += from_h
        np.testing.assert_array_equal(state.m, direct)


@pytest.mark.parametrize("beta", [0.0, 0.01])
@pytest.mark.parametrize("readout", READOUT_KINDS)
@pytest.mark.parametrize("cells", [["lstm"], ["gru"], ["rnn"], ["gru", "lstm"], ["lstm", "rnn", "gru"]])
def test_gradients_are_those_of_the_float_reference(cells: list[str], readout: str, beta: float) -> None:
    """Of random runs, the first in which no entry is so near its threshold that rounding decides over it: dM_t of every
    layer is within 0.1 % of its norm, and each parameter moves by learning rate times gradient within a unit of its
    format, which stochastic rounding takes, and 0.2 % of the largest.
    """
    settings: dict[str, Any] = {"learning_rate": Scale.from_float(0.125, ""), "clip": Scale.from_float(1e6, "")}
    for seed in range(20):
        rng = np.random.default_rng(seed)
        model, x = moderate_run(rng, cells, readout)
        targets, exact_targets = moderate_targets(rng, model, len(x))
        oracle = FixedNetwork(model)
        replace(Settings.of(model, beta=beta), **settings).apply(oracle)
        oracle.begin()
        oracle.push(x, targets=targets)
        real_x = x / 2.0 ** model.layers[0].x_frac_bits
        expected = dequantize(model).network(beta).loss_and_gradients(real_x, exact_targets)
        masks = [np.array([step.mask for step in layer.history]) for layer in oracle.layers]
        exact_masks = [np.concatenate([part.mask_x, part.mask_h], axis=1) for part in expected.trace.layers]
        one_unit = any(layer.n_hidden == 1 for layer in model.layers)  # its largest may be an accident next to 0
        if not one_unit and all((a == b).all() for a, b in zip(masks, exact_masks, strict=True)):
            break
    else:
        pytest.fail("in every run some mask differs, or a layer has one unit")

    result = oracle.train(2) if targets is None else oracle.learn()
    n_errors = 1 if targets is None else targets.size
    regulariser = dequantize(model).network(beta).regulariser(expected.trace)
    assert result.loss / 2**16 == pytest.approx(expected.loss - regulariser, rel=2e-3)
    assert (result.clipped, result.saturated_w, result.saturated_c, result.saturated_grad) == (0, 0, 0, 0)
    assert result.active_h > 100
    trained = dequantize(model.with_tensors({n: oracle.tensor(n).reshape(t.shape) for n, t in model.tensors().items()}))
    before = dequantize(model)
    for index, layer in enumerate(oracle.layers):
        gradients, order = expected.layers[index], bias_order(layer.layer.cell)
        d_m = layer.dm * 2.0 ** (result.grad_exponent - 6 + layer.exponent) / n_errors
        assert_near(d_m.T, reorder(gradients.d_accumulators.T, order), 0.001, f"layer{index} dM")
        exact = {"bias": gradients.d_accumulators[0]} | {
            kind: gradients.params[kind] for kind in ("weight_ih", "weight_hh")
        }
        for kind, gradient in exact.items():
            moved = getattr(before.layers[index], kind) - getattr(trained.layers[index], kind)
            unit = 2.0**-24 if kind == "bias" else 2.0**-14
            limit = unit + 0.002 * 0.125 * np.abs(gradient).max()
            np.testing.assert_allclose(moved, 0.125 * gradient, rtol=0, atol=limit, err_msg=f"layer{index} {kind}")
    for kind, unit in (("weight", 2.0**-13), ("bias", 2.0**-24)):
        gradient = expected.grads[f"readout.{kind}"]
        moved = getattr(before, f"readout_{kind}") - getattr(trained, f"readout_{kind}")
        limit = unit + 0.002 * 0.125 * np.abs(gradient).max()
        np.testing.assert_allclose(moved, 0.125 * gradient, rtol=0, atol=limit, err_msg=f"readout {kind}")


def moderate_targets(
    rng: np.random.Generator, model: QuantModel, n_frames: int
) -> tuple[NDArray[np.int32] | None, Any]:
    """Targets of a sample, for the trainer in integers and for the float reference."""
    if model.readout == "last":
        return None, 2
    if model.readout == "frames":
        labels = rng.integers(0, model.n_outputs, n_frames).astype(np.int32)
        return labels, labels
    values = rng.integers(-(2**17), 2**17, (n_frames, model.n_outputs)).astype(np.int32)
    return values, values / 2.0**16


def moderate_run(
    rng: np.random.Generator, cells: list[str], readout: str = "last"
) -> tuple[QuantModel, NDArray[np.int16]]:
    """A model that saturates nowhere, and a sample of 30 frames."""
    model = random_model(rng, 6, 12, 5, 30, 1.0, cells, readout)
    layers: list[QuantLayer] = []
    for layer in model.layers:
        weight = rng.normal(0, 4500, layer.weight.shape).clip(-16000, 16000).astype(np.int16)
        formats = replace(layer, x_frac_bits=14 if layers else 12, wx_frac_bits=14, wh_frac_bits=14, c_frac_bits=11)
        layers.append(replace(formats, weight=weight, theta_x=700, theta_h=700))
    x = np.cumsum(rng.normal(0, 1500, (30, 6)), axis=0).clip(-V_MAX, V_MAX).astype(np.int16)
    return replace(model, layers=tuple(layers), readout_frac_bits=13), x


def assert_near(
    values: NDArray[np.floating[Any]], exact: NDArray[np.floating[Any]], tolerance: float, what: str
) -> None:
    """The difference's norm is at most `tolerance` of the exact norm."""
    error = float(np.linalg.norm(values - exact) / np.linalg.norm(exact))
    assert error <= tolerance, f"{what} differs by {error:.2g} of its norm"


def test_activations_equal_the_core_and_are_within_their_stated_error() -> None:
    x = np.arange(-18 * 2**20, 18 * 2**20, 607, dtype=np.int64)
    sigmoid, tanh = sigmoid_q14(x), tanh_q14(x)
    assert [lib.drnn_sigmoid_q14(int(v)) for v in x] == sigmoid.tolist()
    assert [lib.drnn_tanh_q14(int(v)) for v in x] == tanh.tolist()
    every = np.arange(-14 * 2**20, 14 * 2**20)
    assert np.abs(sigmoid_q14(every) - 2**14 / (1 + np.exp(-every / 2**20))).max() < 0.8
    assert np.abs(tanh_q14(every) - 2**14 * np.tanh(every / 2**21)).max() < 1.1
    far = 2**62
    assert lib.drnn_sigmoid_q14(far) == 2**14
    assert lib.drnn_sigmoid_q14(-far) == 0
    assert lib.drnn_tanh_q14(-far) == -(2**14)


@settings(deadline=None)
@given(st.lists(st.integers(-(2**24), 2**24), min_size=2, max_size=20), st.data())
def test_cross_entropy_equals_the_core_and_float(logits: list[int], data: st.DataObject) -> None:
    label = data.draw(st.integers(0, len(logits) - 1))
    loss, gradient = cross_entropy(logits, label)
    d_logits = ffi.new("int32_t[]", len(logits))
    assert lib.drnn_softmax_cross_entropy(logits, len(logits), label, d_logits) == loss
    assert list(d_logits) == gradient
    z = np.array(logits) / 2**16
    p = np.exp(z - z.max())
    exact = np.log(p.sum()) + z.max() - z[label]
    assert loss / 2**16 == pytest.approx(exact, abs=4e-5, rel=2e-5)
    onehot = np.arange(len(z)) == label
    np.testing.assert_allclose(np.array(gradient) / 2**30, p / p.sum() - onehot, atol=3e-5)


def mantissas() -> st.SearchStrategy[int]:
    """The ends as often as all the rest."""
    return st.sampled_from([2**15, 2**15 + 1, 2**16 - 2, 2**16 - 1]) | st.integers(2**15, 2**16 - 1)


@settings(max_examples=300, deadline=None)
@given(m=mantissas(), n=mantissas(), distance=st.integers(-20, 20), zeros=st.integers(0, 46), rest=st.integers(-1, 1))
def test_scales_equal_the_core(m: int, n: int, distance: int, zeros: int, rest: int) -> None:
    """Each operation, with mantissas that carry, and where one operand is zero."""

    def scale(result: Any) -> Scale:
        return Scale(result.m, result.e)

    a, b, zero = Scale(m, distance), Scale(n, 0), Scale(0, 0)
    value = (m << zeros) + (rest if zeros else 0)
    assert scale(lib.drnn_scale_ceil(value, distance)) == scales.ceil(value, distance)
    assert scale(lib.drnn_scale_ceil(value >> 30, distance)) == scales.ceil(value >> 30, distance)
    for x, y in ((a, b), (b, a), (a, zero), (zero, a)):
        c_x, c_y = (x.m, x.e), (y.m, y.e)
        assert scale(lib.drnn_scale_add_ceil(c_x, c_y)) == scales.add_ceil(x, y)
        assert scale(lib.drnn_scale_mul(c_x, c_y)) == scales.multiply(x, y)
        assert lib.drnn_scale_greater(c_x, c_y) == (scales.exact(x) > scales.exact(y))
        if y.m != 0:
            assert scale(lib.drnn_scale_div(c_x, c_y)) == scales.divide(x, y)


def test_stochastic_rounding_is_unbiased() -> None:
    """A quarter of a unit is rounded up a quarter of the time."""
    bits = random_bits(seed=5, step=9, tensor=0, count=100_000)
    assert bits.min() >= 0 and bits.max() < 2**16
    assert np.mean(bits + 2**14 >= 2**16) == pytest.approx(0.25, abs=0.01)
    again = random_bits(seed=5, step=9, tensor=0, count=50)
    np.testing.assert_array_equal(bits[:50], again)
    assert (random_bits(5, 10, 0, 50) != again).any()
    assert (random_bits(5, 9, 1, 50) != again).any()


def test_learning_rate_zero_changes_nothing() -> None:
    model = replace(small_model(), learning_rate=Scale(0, 0))
    core = CoreNetwork(model)
    before = core.tensors(model.tensors())
    core.begin()
    core.push(random_frames(np.random.default_rng(1), 10, 3))
    core.train(2)
    for name, values in before.items():
        np.testing.assert_array_equal(core.tensor(name), values)


def test_core_refuses_what_does_not_fit() -> None:
    model = small_model()
    core = CoreNetwork(model)
    frame = np.zeros((1, 3), np.int16)

    @contextmanager
    def refused(code: int) -> Iterator[None]:
        with pytest.raises(CoreError) as caught:
            yield
        assert caught.value.code == code

    with refused(lib.DRNN_ERR_STATE):
        core.push(frame)
    core.begin()
    with refused(lib.DRNN_ERR_EMPTY):
        core.train(0)
    with refused(lib.DRNN_ERR_RANGE):
        core.push(np.full((1, 3), V_MAX + 1, np.int16))
    core.push(np.repeat(frame, model.max_steps, axis=0))
    with refused(lib.DRNN_ERR_TOO_LONG):
        core.push(frame)
    weights = core.tensor("layer0.weight")
    with refused(lib.DRNN_ERR_LABEL):
        core.train(4)
    np.testing.assert_array_equal(core.tensor("layer0.weight"), weights)
    assert core.train(3).n_steps == model.max_steps
    with refused(lib.DRNN_ERR_STATE):
        core.train(3)
    with refused(lib.DRNN_ERR_RANGE):
        core.configure(learning_rate=Scale(40000, -10), clip=model.clip, theta_x=[0], theta_h=[0], seed=0)
    with refused(lib.DRNN_ERR_RANGE):
        core.configure(learning_rate=model.learning_rate, clip=Scale(0, 0), theta_x=[0], theta_h=[0], seed=0)
    with refused(lib.DRNN_ERR_RANGE):
        core.configure(
            learning_rate=model.learning_rate, clip=model.clip, beta=Scale(32768, -15), theta_x=[0], theta_h=[0], seed=0
        )
    with refused(lib.DRNN_ERR_READOUT):
        core.learn()
    for zero in (Scale(0, 1), Scale(0, 32767)):
        with refused(lib.DRNN_ERR_RANGE):
            core.configure(learning_rate=zero, clip=model.clip, theta_x=[0], theta_h=[0], seed=0)
    with refused(lib.DRNN_ERR_TENSOR):
        core.set_tensor("layer0.hidden", np.zeros(5, np.int16))
    with refused(lib.DRNN_ERR_TENSOR):
        core.set_tensor("layer0.bias", np.zeros(1, np.int32))
    with refused(lib.DRNN_ERR_RANGE):
        core.set_tensor("readout.weight", np.full(20, 2**15))
    with pytest.raises(ValueError, match=r"int16\[1, 2\]"):
        core.push(frame[:, :2])


def test_core_refuses_targets_that_do_not_fit() -> None:
    frame = np.zeros((1, 3), np.int16)
    at_frames = CoreNetwork(replace(small_model(), readout="frames"))
    at_values = CoreNetwork(replace(small_model(), readout="regression"))

    def refused(core: CoreNetwork, code: int, call: Callable[[CoreNetwork], Any]) -> None:
        with pytest.raises(CoreError) as caught:
            call(core)
        assert caught.value.code == code

    label, values = ffi.cast("uint16_t", 1), ffi.new("int32_t[]", 4)
    assert lib.drnn_target_class(at_frames._net, label) == lib.DRNN_ERR_STATE
    assert lib.drnn_target_class(at_values._net, label) == lib.DRNN_ERR_READOUT
    assert lib.drnn_target_values(at_frames._net, values) == lib.DRNN_ERR_READOUT
    for core in (at_frames, at_values):
        refused(core, lib.DRNN_ERR_STATE, lambda core: core.learn())
        core.begin()
        refused(core, lib.DRNN_ERR_EMPTY, lambda core: core.learn())
        core.push(frame)
        refused(core, lib.DRNN_ERR_EMPTY, lambda core: core.learn())
        refused(core, lib.DRNN_ERR_READOUT, lambda core: core.train(1))
    refused(at_frames, lib.DRNN_ERR_LABEL, lambda core: core.push(frame, targets=np.array([4], np.int32)))
    for value in (TARGET_MAX + 1, -TARGET_MAX - 1, NO_VALUE):
        target = np.array([[0, 0, 0, value]], np.int32)
        with pytest.raises(CoreError, match="outside its range"):
            at_values.push(frame, targets=target)
    assert lib.drnn_target_class(at_frames._net, label) == lib.DRNN_OK
    assert lib.drnn_target_class(at_frames._net, label) == lib.DRNN_ERR_STATE, "a frame has one target"
    assert at_frames.learn().n_targets == 1
    with pytest.raises(ValueError, match=r"int32\[1, 4\]"):
        at_values.push(frame, targets=np.zeros(1, np.int32))


def test_core_refuses_models_that_do_not_fit() -> None:
    model = small_model()
    stack = random_model(np.random.default_rng(7), 5, 3, 4, 20, 1.0, ["lstm", "gru"])
    lower, upper = stack.layers
    layer = model.layers[0]
    widest = np.zeros((1025, 4 * 1024), np.int16)
    long = replace(layer, n_in=1, n_hidden=1024, weight=widest, bias=np.zeros(4 * 1024, np.int32))
    too_many_macs = replace(model, layers=(long,), readout_weight=np.zeros((4, 1024), np.int16), max_steps=1024)
    for unsupported in (
        replace(model, layers=(replace(layer, cell="gru"),)),  # an LSTM's tensors are too many
        replace(stack, layers=(lower, replace(upper, x_frac_bits=13))),
        replace(stack, layers=(upper, lower)),
        replace(model, layers=(replace(layer, n_in=5, weight=np.zeros((10, 20), np.int16)),) * 4),
        replace(model, layers=()),
        replace(model, layers=(replace(layer, cell="transformer"),)),
        replace(model, layers=(replace(layer, x_frac_bits=5),)),
        replace(model, layers=(replace(layer, x_frac_bits=300),)),
        replace(model, layers=(replace(layer, weight=layer.weight[1:]),)),
        replace(model, layers=(replace(layer, bias=layer.bias.astype(np.int64)),)),
        replace(model, readout_bias=model.readout_bias[1:]),
        replace(model, learning_rate=Scale(0, 1)),
        replace(model, readout="elsewhere"),
        replace(model, readout_weight=model.readout_weight[:1], readout_bias=model.readout_bias[:1]),
        too_many_macs,
    ):
        with pytest.raises(CoreError, match="not supported") as caught:
            CoreNetwork(unsupported)
        assert caught.value.code == lib.DRNN_ERR_MODEL
    CoreNetwork(replace(too_many_macs, max_steps=1023))
    single = replace(model, readout_weight=model.readout_weight[:1], readout_bias=model.readout_bias[:1])
    CoreNetwork(replace(single, readout="regression"))  # one value is enough, one class is not


def test_a_refused_model_leaves_the_state_alone() -> None:
    core = CoreNetwork(small_model())
    core._model.pointer.clip = (0, 0)
    before = bytes(ffi.buffer(core._net)), core._arena_words.copy()
    assert lib.drnn_init(core._net, core._model.pointer, core._arena, core.arena_bytes) == lib.DRNN_ERR_MODEL
    core._model.pointer.clip = (32768, 0)
    too_small = core.arena_bytes - 1
    assert lib.drnn_init(core._net, core._model.pointer, core._arena, too_small) == lib.DRNN_ERR_ARENA
    misaligned = core._arena + 4
    assert lib.drnn_init(core._net, core._model.pointer, misaligned, core.arena_bytes) == lib.DRNN_ERR_ARENA
    assert bytes(ffi.buffer(core._net)) == before[0]
    np.testing.assert_array_equal(core._arena_words, before[1])


def test_dm_is_there_after_training_only() -> None:
    model = small_model()
    core = CoreNetwork(model)
    assert core.tensor("layer0.dm").size == 0
    for _ in range(2):
        core.begin()
        core.push(random_frames(np.random.default_rng(1), 7, 3))
        assert core.tensor("layer0.dm").size == 0
        core.train(0)
        assert core.tensor("layer0.dm").size == 7 * 4 * 5
    core.reset_weights()
    assert core.tensor("layer0.dm").size == 0


def test_every_error_has_its_own_text() -> None:
    codes = ffi.typeof("enum drnn_error").elements
    texts = {ffi.string(lib.drnn_error_text(code)) for code in codes}
    assert len(texts) == len(codes)
    assert ffi.string(lib.drnn_error_text(-99)) not in texts
