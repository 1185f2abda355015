"""Float models: what the file keeps, and what is refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from deltatrain.errors import ModelError
from deltatrain.features import FeatureConfig
from deltatrain.model import N_ACCUMULATORS, N_GATES, FloatModel, LayerWeights
from deltatrain.model_file import METADATA_KEY

CELLS = ("rnn", "gru", "lstm")


def make_model(cell: str = "lstm", n_layers: int = 1, seed: int = 0) -> FloatModel:
    rng = np.random.default_rng(seed)
    layers = []
    n_in, h = 4, 5
    for _ in range(n_layers):
        rows = N_GATES[cell] * h
        layers.append(
            LayerWeights(
                cell=cell,
                theta_x=0.3,
                theta_h=0.2,
                weight_ih=rng.normal(size=(rows, n_in)),
                weight_hh=rng.normal(size=(rows, h)),
                bias=rng.normal(size=N_ACCUMULATORS[cell] * h),
            )
        )
        n_in = h
    config = FeatureConfig(n_bands=4, mean=(0.0, 1.0, 2.0, 3.0), std=(1.0, 2.0, 3.0, 4.0))
    return FloatModel(
        layers=tuple(layers),
        readout_weight=rng.normal(size=(3, h)),
        readout_bias=rng.normal(size=3),
        class_names=("a", "b", "ç"),
        features=config,
        max_steps=64,
        provenance={"seed": 1, "held_out": ["x"], "error": 0.125},
    )


@pytest.mark.parametrize("n_layers", [1, 3])
@pytest.mark.parametrize("cell", CELLS)
def test_a_saved_model_comes_back_equal(cell: str, n_layers: int, tmp_path: Path) -> None:
    model = make_model(cell, n_layers)
    model.save(tmp_path / "a.safetensors")
    model.save(tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    twin = FloatModel.load(tmp_path / "a.safetensors")
    for name, tensor in model.tensors().items():
        assert twin.tensors()[name].dtype == np.float64
        assert (twin.tensors()[name] == tensor).all(), name
    for key in ("class_names", "features", "max_steps", "provenance", "readout"):
        assert getattr(twin, key) == getattr(model, key)
    assert [(x.cell, x.theta_x, x.theta_h) for x in twin.layers] == [(cell, 0.3, 0.2)] * n_layers


@pytest.mark.parametrize("cell", CELLS)
def test_a_network_has_the_weights_and_gives_them_back(cell: str) -> None:
    model = make_model(cell, 2)
    network = model.network()
    assert [(x.theta_x, x.theta_h) for x in network.layers] == [(0.3, 0.2)] * 2
    twin = model.with_network(network)
    assert all((twin.tensors()[name] == tensor).all() for name, tensor in model.tensors().items())
    network.layers[0].params["bias_hh"][:] += 1.0
    moved = model.with_network(network).layers[0].bias - model.layers[0].bias
    # The input half of the GRU's n gate is the one accumulator that bias_hh does not start.
    still = slice(10, 15) if cell == "gru" else slice(0, 0)
    want = np.ones(len(moved))
    want[still] = 0.0
    np.testing.assert_allclose(moved, want, rtol=0, atol=1e-14)


def test_the_network_does_not_share_memory_with_the_model() -> None:
    model = make_model()
    before = model.readout_weight.copy()
    network = model.network()
    for value in network.params.values():
        value[...] = 7.0
    assert (model.readout_weight == before).all()
    assert model.layers[0].weight_ih.max() < 7.0


def test_thresholds_are_replaced_in_every_layer() -> None:
    model = make_model(n_layers=2).with_thresholds(0.0, 0.1)
    assert [(x.theta_x, x.theta_h) for x in model.layers] == [(0.0, 0.1)] * 2


def test_parameters_are_counted_once_per_accumulator() -> None:
    assert make_model("gru").n_parameters == 15 * 4 + 15 * 5 + 20 + 3 * 5 + 3


@pytest.mark.parametrize("name", list(make_model(n_layers=2).tensors()))
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_value_that_is_not_finite_is_named(name: str, value: float) -> None:
    model = make_model(n_layers=2)
    tensors = {key: tensor.copy() for key, tensor in model.tensors().items()}
    tensors[name].flat[2] = value
    with pytest.raises(ModelError, match=rf"{name}\[.*2\] is {value}"):
        model.with_tensors(tensors)


@pytest.mark.parametrize("name", list(make_model(n_layers=2).tensors()))
def test_a_wrong_shape_in_a_file_is_named(name: str, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    make_model(n_layers=2).save(path)
    tensors = load_file(path)
    tensors[name] = np.ascontiguousarray(tensors[name][:-1])
    save_file(tensors, path, metadata=metadata_of(path))
    with pytest.raises(ModelError, match=r"layer\d|readout") as caught:
        FloatModel.load(path)
    # A matrix with too few rows may be reported as it is, or through the tensor that it no longer fits.
    assert name.split(".")[0] in str(caught.value)


def metadata_of(path: Path) -> dict[str, str]:
    raw = path.read_bytes()
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    metadata: dict[str, str] = header["__metadata__"]
    return metadata


def test_missing_and_surplus_tensors_are_named(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    make_model().save(path)
    metadata, tensors = metadata_of(path), load_file(path)
    save_file({k: v for k, v in tensors.items() if k != "layer0.bias"}, path, metadata=metadata)
    with pytest.raises(ModelError, match=r"layer0\.bias is missing"):
        FloatModel.load(path)
    save_file(tensors | {"layer1.bias": np.zeros(3)}, path, metadata=metadata)
    with pytest.raises(ModelError, match=r"layer1\.bias"):
        FloatModel.load(path)


@pytest.mark.parametrize("kept", [0, 5, 100, 400, -1])
def test_a_truncated_file_is_refused(kept: int, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    make_model().save(path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ModelError, match=r"not a whole .safetensors file"):
        FloatModel.load(path)


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    with pytest.raises(ModelError, match="there is no model file"):
        FloatModel.load(path)
    with pytest.raises(ModelError, match="not a whole"):
        FloatModel.load(tmp_path)
    path.write_text("PK, or something else entirely")
    with pytest.raises(ModelError, match="not a whole"):
        FloatModel.load(path)
    for metadata in (None, {METADATA_KEY: "{"}, {"format": "pt"}):
        save_file({"weight": np.zeros(3)}, path, metadata=metadata)
        with pytest.raises(ModelError, match="no deltatrain model"):
            FloatModel.load(path)
    for description, match in (
        ("[]", "foreign"),
        ('{"kind": "quantised"}', "quantised"),
        ('{"kind": "float"}', "layers"),
    ):
        save_file({"weight": np.zeros(3)}, path, metadata={METADATA_KEY: description})
        with pytest.raises(ModelError, match=match):
            FloatModel.load(path)


def test_a_description_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    make_model().save(path)
    description, tensors = json.loads(metadata_of(path)[METADATA_KEY]), load_file(path)
    for key, value, match in (
        ("class_names", ["a", "b"], r"readout\.weight"),
        ("max_steps", 0, "max_steps"),
        ("readout", "mean", "'mean'"),
        ("features", {}, "feature settings"),
        ("layers", [], "at least one layer"),
        ("layers", [{"cell": "cnn", "theta_x": 0, "theta_h": 0}], "'cnn'"),
        ("layers", [{"cell": "gru", "theta_x": 0, "theta_h": 0}], r"layer0"),
        ("layers", [{"cell": "lstm", "theta_x": -1, "theta_h": 0}], r"layer0\.theta_x is -1"),
        ("layers", 3, "does not fit"),
    ):
        save_file(tensors, path, metadata={METADATA_KEY: json.dumps(description | {key: value})})
        with pytest.raises(ModelError, match=match):
            FloatModel.load(path)


def test_stacks_must_fit_together() -> None:
    model = make_model(n_layers=2)
    with pytest.raises(ModelError, match=r"layer1\.weight_ih"):
        dataclasses.replace(model, layers=(model.layers[0], model.layers[0]))
    with pytest.raises(ModelError, match="cannot write"):
        model.save("/nonexistent/folder/m.safetensors")
