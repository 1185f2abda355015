"""Pre-training: its gradients against the float reference, batches against single sequences, and learning."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from threadpoolctl import threadpool_limits

from deltatrain import reference
from deltatrain.datasets import Dataset
from deltatrain.errors import InputError, ModelError
from deltatrain.features import FeatureConfig, standardise
from deltatrain.model import N_ACCUMULATORS, N_GATES, FloatModel, LayerWeights
from deltatrain.pretrain import Augmentation, Epoch, FitConfig, evaluate, fit, initial_parameters
from deltatrain.pretrain.adam import Adam, clip_to_norm
from deltatrain.pretrain.fit import schedule
from deltatrain.pretrain.network import FlatTensors, Shape, run
from deltatrain.pretrain.packing import Packing, pack

CELLS = ("rnn", "gru", "lstm")
Array = npt.NDArray[np.float64]
N_IN, N_CLASSES = 5, 3


def make_model(cell: str, n_layers: int = 1, thetas: tuple[float, float] = (0.3, 0.1), seed: int = 0) -> FloatModel:
    rng = np.random.default_rng(seed)
    layers = []
    n_in, h = N_IN, 6
    for _ in range(n_layers):
        rows = N_GATES[cell] * h
        layers.append(
            LayerWeights(
                cell,
                *thetas,
                rng.normal(0, 0.6, (rows, n_in)),
                rng.normal(0, 0.6, (rows, h)),
                rng.normal(0, 0.6, N_ACCUMULATORS[cell] * h),
            )
        )
        n_in = h
    config = FeatureConfig(n_bands=N_IN, mean=(0.5,) * N_IN, std=(2.0,) * N_IN)
    return FloatModel(
        tuple(layers),
        rng.normal(size=(N_CLASSES, h)),
        rng.normal(size=N_CLASSES),
        ("a", "b", "c"),
        config,
        12,
    )


def make_sequences(count: int, seed: int = 1) -> tuple[list[Array], npt.NDArray[np.int64]]:
    """Random walks of 1 to 12 frames."""
    rng = np.random.default_rng(seed)
    lengths = [1, *rng.integers(1, 13, count - 1)]
    return [rng.normal(size=(t, N_IN)).cumsum(axis=0) for t in lengths], rng.integers(0, N_CLASSES, count)


def make_dataset(count: int, seed: int = 0) -> Dataset:
    """Three classes that differ in the direction of the walk."""
    rng = np.random.default_rng(seed)
    directions = np.random.default_rng(99).normal(size=(N_CLASSES, N_IN))
    labels = rng.integers(0, N_CLASSES, count)
    features = tuple(
        (rng.normal(size=(t, N_IN)).cumsum(axis=0) * 0.3 + np.arange(t)[:, None] * 0.3 * directions[y]).astype("f4")
        for t, y in zip(rng.integers(6, 13, count), labels, strict=True)
    )
    return Dataset(
        name="walks",
        features=features,
        labels=labels,
        speakers=("one",) * count,
        indices=np.arange(count),
        class_names=("a", "b", "c"),
        config=FeatureConfig(n_bands=N_IN),
    )


def by_reference(
    model: FloatModel, sequences: list[Array], labels: npt.NDArray[np.int64], beta: float
) -> tuple[float, dict[str, Array], Array, reference.OperationCount]:
    """Mean loss and gradients, logits and counts, one sequence at a time."""
    network = model.network(beta)
    grads = {name: np.zeros_like(tensor) for name, tensor in model.tensors().items()}
    logits, loss, count = [], 0.0, reference.OperationCount()
    for x, label in zip(sequences, labels, strict=True):
        result = network.loss_and_gradients(x, label)
        logits.append(result.out)
        loss += result.loss / len(sequences)
        count += reference.count_operations(network.layers, result.trace)
        for index, layer in enumerate(network.layers):
            # One bias an accumulator has the gradient of the one that starts it, not the sum of both.
            own = {key.split(".")[1]: v for key, v in result.grads.items() if key.startswith(f"layer{index}.")}
            bias = own["bias_ih"]
            if layer.cell == "gru":
                bias = np.concatenate([bias, own["bias_hh"][2 * layer.n_hidden :]])
            for name, value in (
                ("weight_ih", own["weight_ih"]),
                ("weight_hh", own["weight_hh"]),
                ("bias", bias),
            ):
                grads[f"layer{index}.{name}"] += value / len(sequences)
        for name in ("readout.weight", "readout.bias"):
            grads[name] += result.grads[name] / len(sequences)
    return loss, grads, np.array(logits), count


@pytest.mark.parametrize("beta", [0.0, 0.05])
@pytest.mark.parametrize("thetas", [(0.0, 0.0), (0.4, 0.15), (1e9, 1e9)], ids=["dense", "sparse", "silent"])
@pytest.mark.parametrize("n_layers", [1, 2])
@pytest.mark.parametrize("cell", CELLS)
def test_batch_gradients_equal_the_reference(
    cell: str, n_layers: int, thetas: tuple[float, float], beta: float
) -> None:
    model = make_model(cell, n_layers, thetas)
    sequences, labels = make_sequences(9)
    loss, grads, logits, count = by_reference(model, sequences, labels, beta)
    shape = Shape.of(model)
    params, got = FlatTensors(shape, np.float64, model.tensors()), FlatTensors(shape, np.float64)
    rows, packing = pack(sequences, np.float64)
    result = run(shape, params, rows, packing, labels, beta=beta, grads=got)
    assert result.loss == pytest.approx(loss, rel=1e-12)
    np.testing.assert_allclose(result.logits, logits, rtol=1e-11)
    assert result.operations == count
    for name, want in grads.items():
        scale = max(float(np.abs(want).max()), 1e-3)
        np.testing.assert_allclose(got.by_name[name], want, rtol=0, atol=1e-9 * scale, err_msg=name)


@pytest.mark.parametrize("cell", CELLS)
def test_evaluate_standardises_and_agrees_with_the_reference(cell: str) -> None:
    model = make_model(cell)
    raw, labels = make_sequences(20)
    got = evaluate(model, raw, labels, dtype=np.float64)
    ready = [standardise(x, model.features) for x in raw]
    loss, _, logits, count = by_reference(model, ready, labels, 0.0)
    np.testing.assert_allclose(got.logits, logits, rtol=1e-11)
    assert got.loss == pytest.approx(loss, rel=1e-12)
    assert got.predictions.tolist() == logits.argmax(axis=1).tolist()
    assert got.error == np.mean(logits.argmax(axis=1) != labels)
    assert got.operations == count and got.op_reduction == count.reduction
    quick = evaluate(model, raw, labels)
    assert quick.logits.dtype == np.float32
    np.testing.assert_allclose(quick.logits, logits, atol=1e-4)


def test_packing_by_hand() -> None:
    packing = Packing.of([2, 3, 1])
    assert packing.order.tolist() == [1, 0, 2] and packing.counts.tolist() == [3, 2, 1]
    assert packing.last_rows().tolist() == [5, 4, 2]
    rows, _ = pack([np.array([[1.0], [2.0]]), np.array([[3.0], [4.0], [5.0]]), np.array([[6.0]])], np.float64)
    assert rows[:, 0].tolist() == [3, 1, 6, 4, 2, 5]


def test_adam_by_hand() -> None:
    """Two steps of the published rule on one parameter, and decay that the gradient does not see."""
    params, mean, square = np.array([1.0, 1.0]), 0.0, 0.0
    adam, want = Adam(2, np.float64), 1.0
    for step, gradient in enumerate((0.5, -2.0), start=1):
        adam.step(params, np.array([gradient, 0.0]), 0.1, np.array([0.0, 0.5]))
        mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
        want -= 0.1 * (mean / (1 - 0.9**step)) / (np.sqrt(square / (1 - 0.999**step)) + 1e-8)
    assert params[0] == pytest.approx(want, rel=1e-12)
    assert params[1] == pytest.approx(0.95**2, rel=1e-12)


def test_clip_keeps_direction_and_small_gradients() -> None:
    small, large = np.array([0.3, 0.4]), np.array([3.0, 4.0])
    assert clip_to_norm(small, 1.0) == pytest.approx(0.5) and small.tolist() == [0.3, 0.4]
    assert clip_to_norm(large, 1.0) == pytest.approx(5.0)
    assert large == pytest.approx([0.6, 0.8])


def test_schedule_rises_and_falls() -> None:
    rates = [schedule(step, 10, 5) for step in range(50)]
    assert max(rates) == 1.0 and rates.index(1.0) == 5
    assert rates[0] > 0 and rates[-1] < 0.01
    assert all(a < b for a, b in pairwise(rates[:6]))
    assert all(a > b for a, b in pairwise(rates[5:]))
    assert schedule(0, 1, 1) == 1.0


SMALL = FitConfig(n_hidden=12, epochs=8, batch_size=16, learning_rate=1e-2, augmentation=Augmentation(), seed=3)


@pytest.mark.parametrize("cell", CELLS)
def test_fit_learns(cell: str) -> None:
    train, test = make_dataset(240), make_dataset(120, seed=5)
    seen: list[Epoch] = []
    fitted = fit(train, dataclasses.replace(SMALL, cell=cell), validation=test, progress=seen.append)
    assert tuple(seen) == fitted.history and [e.epoch for e in seen] == list(range(1, 9))
    result = evaluate(fitted.model, test.features, test.labels)
    assert result.error < 0.15
    assert seen[-1].validation_error == result.error == fitted.model.provenance["error"]
    assert 0 < seen[-1].occupancy < 1
    assert seen[-1].loss < seen[0].loss


def test_the_same_seed_gives_the_same_model() -> None:
    data = make_dataset(60)
    config = dataclasses.replace(SMALL, epochs=2, augmentation=Augmentation(gain=0.2, noise=0.1, speed=0.1))
    first, again = fit(data, config).model, fit(data, config).model
    other = fit(data, dataclasses.replace(config, seed=4)).model
    for name, tensor in first.tensors().items():
        assert (again.tensors()[name] == tensor).all(), name
        assert (other.tensors()[name] != tensor).any(), name


def test_the_regulariser_buys_sparsity() -> None:
    data = make_dataset(240)
    plain = fit(data, SMALL).history[-1].occupancy
    assert fit(data, dataclasses.replace(SMALL, beta=0.2)).history[-1].occupancy < 0.9 * plain


def test_weight_decay_shrinks_weights() -> None:
    data = make_dataset(60)
    plain, decayed = (fit(data, dataclasses.replace(SMALL, epochs=3, weight_decay=decay)).model for decay in (0.0, 1.0))
    for name in ("layer0.weight_ih", "layer0.weight_hh"):
        assert np.abs(decayed.tensors()[name]).sum() < 0.95 * np.abs(plain.tensors()[name]).sum()


def test_a_warm_start_goes_on_from_the_model() -> None:
    data = make_dataset(240)
    dense = fit(data, dataclasses.replace(SMALL, theta_x=0.0, theta_h=0.0)).model
    again = fit(data, dataclasses.replace(SMALL, epochs=1, learning_rate=1e-5, theta_h=0.1), warm_start=dense).model
    assert again.features == dense.features
    assert (again.layers[0].theta_x, again.layers[0].theta_h) == (0.3, 0.1)
    for name, tensor in dense.tensors().items():
        np.testing.assert_allclose(again.tensors()[name], tensor, atol=1e-3, err_msg=name)
    with pytest.raises(InputError, match="n_hidden"):
        fit(data, dataclasses.replace(SMALL, n_hidden=13), warm_start=dense)
    with pytest.raises(InputError, match="knows the classes"):
        fit(data, SMALL, warm_start=dataclasses.replace(dense, class_names=("x", "y", "z")))
    with pytest.raises(InputError, match="other features"):
        fit(
            data,
            SMALL,
            warm_start=dataclasses.replace(dense, features=dataclasses.replace(dense.features, log_floor=1e-5)),
        )


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")
def test_divergence_is_told() -> None:
    with pytest.raises(ModelError, match="diverged in epoch"):
        fit(make_dataset(60), dataclasses.replace(SMALL, cell="rnn", learning_rate=1e38))


def test_bad_input_is_named() -> None:
    model = make_model("gru")
    raw, labels = make_sequences(4)
    with pytest.raises(InputError, match="nothing to evaluate"):
        evaluate(model, [], [])
    with pytest.raises(InputError, match="label 3 of item 2"):
        evaluate(model, raw, [0, 1, 3, 1])
    with pytest.raises(InputError, match="one label each"):
        evaluate(model, raw, labels[:3])
    with pytest.raises(InputError, match="nothing to train on"):
        fit(make_dataset(4).select([]), SMALL)
    for field, value in (
        ("cell", "cnn"),
        ("epochs", 0),
        ("theta_x", -0.1),
        ("learning_rate", float("nan")),
        ("clip_norm", 0.0),
        ("seed", -1),
    ):
        with pytest.raises(InputError, match=field):
            dataclasses.replace(SMALL, **{field: value})  # type: ignore[arg-type]
    with pytest.raises(InputError, match="noise is -1"):
        Augmentation(noise=-1)


def test_initial_parameters_are_orthogonal_and_remember() -> None:
    tensors = initial_parameters(FitConfig(n_hidden=8, n_layers=2), 5, 3, np.random.default_rng(0))
    layer = tensors.layer(1)
    np.testing.assert_allclose(layer.weight_hh[:8] @ layer.weight_hh[:8].T, np.eye(8), atol=1e-12)
    assert layer.bias.tolist() == [0.0] * 8 + [1.0] * 8 + [0.0] * 16


def test_augmentation_does_what_it_says() -> None:
    rng = np.random.default_rng(0)
    x = np.arange(20.0)[:, None] + np.arange(4.0)
    std = np.array([1.0, 2.0, 4.0, 0.5])
    assert (Augmentation().apply([x], std, 64, rng)[0] == x).all()
    moved = Augmentation(gain=1.0).apply([x], std, 64, rng)[0] - x
    np.testing.assert_allclose(moved * std, np.full((20, 4), moved[0, 0]))
    tilted = (Augmentation(tilt=1.0).apply([x], std, 64, rng)[0] - x) * std
    np.testing.assert_allclose(tilted[:, 0], -tilted[:, 3])
    assert Augmentation(noise=0.1).apply([x], std, 64, rng)[0] != pytest.approx(x)
    lengths = {len(Augmentation(speed=0.3).apply([x], std, 24, rng)[0]) for _ in range(200)}
    assert min(lengths) <= 16 and max(lengths) == 24
    fast = Augmentation(speed=0.3).apply([x], std, 64, rng)[0]
    assert fast[0, 0] == 0.0 and fast[-1, 0] == 19.0
    starts = {float(Augmentation(shift=2).apply([x], std, 64, rng)[0][0, 0]) for _ in range(50)}
    assert starts == {0.0, 1.0, 2.0}
    assert len(Augmentation(shift=9).apply([x[:1]], std, 64, rng)[0]) == 1
    warped = Augmentation(warp=1.0).apply([x], std, 64, rng)[0]
    inner = warped[:, 1:-1] - x[:, 1:-1]
    np.testing.assert_allclose(inner, np.full((20, 2), inner[0, 0]))
    assert 0 < abs(inner[0, 0]) <= 1


def test_a_sequence_varies_the_same_alone_and_among_others() -> None:
    sequences = [np.asarray(item, np.float32) for item in make_sequences(20)[0]]
    std = np.arange(1.0, N_IN + 1)
    for augmentation in (Augmentation(1.0, 0.5, 0.1, 0.3, 2, 1.5), Augmentation(shift=3, noise=0.2), Augmentation()):
        one_by_one, together = np.random.default_rng(5), np.random.default_rng(5)
        alone = [augmentation.apply([item], std, 10, one_by_one)[0] for item in sequences]
        for one, other in zip(alone, augmentation.apply(sequences, std, 10, together), strict=True):
            assert one.dtype == other.dtype == np.float32 and len(one) <= 10
            np.testing.assert_array_equal(one, other)


def test_the_number_of_threads_changes_no_word() -> None:
    """The same seed gives the same weights on a machine with one core and with many."""
    with threadpool_limits(limits=4, user_api="blas"):
        many = fit(make_dataset(512), FitConfig(n_hidden=128, batch_size=512, epochs=2)).model
    with threadpool_limits(limits=1, user_api="blas"):
        one = fit(make_dataset(512), FitConfig(n_hidden=128, batch_size=512, epochs=2)).model
    for name, tensor in one.tensors().items():
        np.testing.assert_array_equal(tensor, many.tensors()[name], name)
