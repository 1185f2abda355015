"""Quantising: formats, ranges, files, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from deltatrain.errors import InputError, ModelError
from deltatrain.features import FeatureConfig
from deltatrain.model import N_ACCUMULATORS, N_GATES, FloatModel, LayerWeights
from deltatrain.quant_model import QuantModel
from deltatrain.quantize import V_MAX, dequantize, quantize, quantize_features, quantize_targets, quantize_threshold
from deltatrain.readouts import TargetScale
from deltatrain.reference import READOUT_KINDS

N_BANDS = 4
N_HIDDEN = 6


def random_layer(cell: str, n_in: int, n_hidden: int) -> LayerWeights:
    rng = np.random.default_rng(n_in)
    rows = N_GATES[cell] * n_hidden
    return LayerWeights(
        cell=cell,
        theta_x=0.2,
        theta_h=0.1,
        weight_ih=rng.uniform(-0.9, 0.9, (rows, n_in)),
        weight_hh=rng.uniform(-0.4, 0.4, (rows, n_hidden)),
        bias=rng.uniform(-1, 1, N_ACCUMULATORS[cell] * n_hidden),
    )


@pytest.fixture
def model() -> FloatModel:
    rng = np.random.default_rng(0)
    layer = LayerWeights(
        cell="lstm",
        theta_x=0.3,
        theta_h=0.1,
        weight_ih=rng.uniform(-0.9, 0.9, (4 * N_HIDDEN, N_BANDS)),
        weight_hh=rng.uniform(-0.4, 0.4, (4 * N_HIDDEN, N_HIDDEN)),
        bias=rng.uniform(-1, 1, 4 * N_HIDDEN),
    )
    return FloatModel(
        layers=(layer,),
        readout_weight=rng.uniform(-3, 3, (3, N_HIDDEN)),
        readout_bias=rng.uniform(-1, 1, 3),
        class_names=("a", "b", "c"),
        features=FeatureConfig(n_bands=N_BANDS, mean=(0.0,) * N_BANDS, std=(1.0,) * N_BANDS),
        max_steps=20,
    )


@pytest.fixture
def calibration() -> list[NDArray[np.float64]]:
    rng = np.random.default_rng(1)
    return [rng.normal(0, 1, (15, N_BANDS)).clip(-3, 3) for _ in range(5)]


def test_formats_hold_what_calibration_showed_with_a_margin(
    model: FloatModel, calibration: list[NDArray[np.float64]]
) -> None:
    quantized, rows = quantize(model, calibration)
    layer = quantized.layers[0]
    largest_x = max(np.abs(x).max() for x in calibration)
    assert largest_x * 1.25 <= V_MAX / 2**layer.x_frac_bits < 2 * 1.25 * largest_x + 0.1
    by_name = {row.name: row for row in rows}
    assert by_name["layer0.weight_ih"].frac_bits == 14  # twice 0.9 fits ±2
    assert by_name["readout.weight"].frac_bits == 12  # twice 3 fits ±8
    for row in rows:
        assert row.saturated == 0
        assert row.rms_error <= 2.0**-row.frac_bits / 2
        assert row.largest <= row.limit
        assert row.q_format == f"Q{(31 if row.name.endswith('bias') else 15) - row.frac_bits}.{row.frac_bits}"


def test_integers_are_the_float_model_to_half_a_unit(model: FloatModel, calibration: list[NDArray[np.float64]]) -> None:
    quantized, rows = quantize(model, calibration)
    again = dequantize(quantized)
    bits = {row.name: row.frac_bits for row in rows}
    for name, tensor in model.tensors().items():
        assert np.abs(again.tensors()[name] - tensor).max() <= 2.0 ** -bits[name] / 2
    assert again.layers[0].theta_h == pytest.approx(0.1, abs=2**-14)


@pytest.mark.parametrize("cells", [("rnn",), ("gru",), ("gru", "lstm", "gru")])
def test_every_cell_and_stack_comes_back_to_half_a_unit(
    cells: tuple[str, ...], model: FloatModel, calibration: list[NDArray[np.float64]], tmp_path: Path
) -> None:
    """The GRU's gates stand in another order on the device; each weight must find its way back."""
    widths = [N_BANDS, 7, 5, N_HIDDEN][-len(cells) - 1 :]
    widths[0] = N_BANDS
    layers = tuple(random_layer(cell, *widths[i : i + 2]) for i, cell in enumerate(cells))
    quantized, rows = quantize(replace(model, layers=layers), calibration)
    assert [layer.x_frac_bits for layer in quantized.layers[1:]] == [14] * (len(cells) - 1)
    quantized.save(tmp_path / "q.safetensors")
    again = dequantize(QuantModel.load(tmp_path / "q.safetensors"))
    bits = {row.name: row.frac_bits for row in rows}
    for index, layer in enumerate(layers):
        for kind in ("weight_ih", "weight_hh", "bias"):
            error = np.abs(getattr(again.layers[index], kind) - getattr(layer, kind)).max()
            assert error <= 2.0 ** -bits[f"layer{index}.{kind}"] / 2
        assert again.layers[index].theta_x == pytest.approx(0.2, abs=2.0 ** -quantized.layers[index].x_frac_bits)
    kept = {"lstm": "c", "gru": "m_nh"}
    expected = {f"layer{i}.{kept[cell]}" for i, cell in enumerate(cells) if cell in kept}
    assert {name for name in bits if name.endswith((".c", ".m_nh"))} == expected


@pytest.mark.parametrize("readout", READOUT_KINDS)
def test_a_model_keeps_its_readout_and_its_units(
    readout: str, model: FloatModel, calibration: list[NDArray[np.float64]], tmp_path: Path
) -> None:
    k = model.n_outputs
    scale = TargetScale(tuple(range(k)), tuple(range(1, k + 1))) if readout == "regression" else TargetScale()
    quantized, _ = quantize(replace(model, readout=readout, target_scale=scale), calibration)
    quantized.save(tmp_path / "q.safetensors")
    again = QuantModel.load(tmp_path / "q.safetensors")
    assert (again.readout, again.target_scale) == (readout, scale)
    assert (dequantize(again).readout, dequantize(again).target_scale) == (readout, scale)
    others = {replace(again, readout=other).hash() for other in READOUT_KINDS}
    assert len(others) == len(READOUT_KINDS) and quantized.hash() == again.hash() in others


def test_targets_become_what_the_device_takes(model: FloatModel, calibration: list[NDArray[np.float64]]) -> None:
    k = model.n_outputs
    last, _ = quantize(model, calibration)
    frames, regression = replace(last, readout="frames"), replace(last, readout="regression")
    assert quantize_targets(last, 1, None, 3) is None
    np.testing.assert_array_equal(quantize_targets(frames, 1, None, 3), [1, 1, 1])
    np.testing.assert_array_equal(quantize_targets(regression, 1, None, 2), [[65536 * (j == 1) for j in range(k)]] * 2)
    own = np.array([0, -1, 1, 1])
    np.testing.assert_array_equal(quantize_targets(frames, 0, own, 3), [0, -1, 1])
    scaled = replace(regression, target_scale=TargetScale((1.0,) * k, (2.0,) * k))
    np.testing.assert_array_equal(quantize_targets(scaled, 0, np.full((1, k), 4.0), 1), [[3 * 2**15] * k])
    for model_, targets, complaint in (
        (last, own, "use a model with `frames`"),
        (regression, own, "use a model with `frames`"),
        (frames, np.zeros((4, k)), "use a model with `regression`"),
        (frames, np.array([0, k]), f"the model has {k} classes"),
        (frames, np.array([0, -2]), f"the model has {k} classes"),
        (regression, np.zeros((4, k + 1)), f"the model has {k} outputs"),
        (regression, np.full((4, k), 16385.0), "16385 in the model's units"),
    ):
        with pytest.raises(InputError, match=complaint):
            quantize_targets(model_, 0, targets, len(targets))


def test_a_file_gives_back_the_same_model(
    model: FloatModel, calibration: list[NDArray[np.float64]], tmp_path: Path
) -> None:
    quantized, _ = quantize(model, calibration)
    quantized.save(tmp_path / "q.safetensors")
    loaded = QuantModel.load(tmp_path / "q.safetensors")
    assert loaded.hash() == quantized.hash()
    for name, tensor in quantized.tensors().items():
        np.testing.assert_array_equal(loaded.tensors()[name], tensor)
    quantized.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "q.safetensors").read_bytes()


def test_the_hash_covers_every_weight_and_format(model: FloatModel, calibration: list[NDArray[np.float64]]) -> None:
    quantized, _ = quantize(model, calibration)
    tensors = {name: tensor.copy() for name, tensor in quantized.tensors().items()}
    tensors["layer0.weight"][3, 2] ^= 1
    assert quantized.with_tensors(tensors).hash() != quantized.hash()
    other = replace(quantized, layers=(replace(quantized.layers[0], theta_x=5),))
    assert other.hash() != quantized.hash()


def test_features_are_clamped_and_counted(model: FloatModel, calibration: list[NDArray[np.float64]]) -> None:
    quantized, _ = quantize(model, calibration)
    loud = np.zeros((25, N_BANDS))
    loud[3, 1], loud[4, 2] = 1000.0, -1000.0
    result = quantize_features(quantized, loud)
    assert result.frames.shape == (20, N_BANDS)  # cut to max_steps
    assert (result.frames[3, 1], result.frames[4, 2]) == (V_MAX, -V_MAX)
    assert result.saturated == 2
    with pytest.raises(InputError, match="nan"):
        quantize_features(quantized, np.full((3, N_BANDS), np.nan))
    with pytest.raises(InputError, match="shape"):
        quantize_features(quantized, np.zeros((3, N_BANDS + 1)))


@pytest.mark.parametrize("theta", [-0.1, float("nan"), float("inf"), 3.0])
def test_thresholds_out_of_range_are_refused(theta: float) -> None:
    with pytest.raises(InputError, match="theta_h"):
        quantize_threshold(theta, 14, "theta_h")


def test_what_the_device_cannot_hold_is_refused(model: FloatModel, calibration: list[NDArray[np.float64]]) -> None:
    huge = replace(model, layers=(replace(model.layers[0], weight_hh=model.layers[0].weight_hh * 100),))
    with pytest.raises(ModelError, match="weight_hh"):
        quantize(huge, calibration)
    biased = replace(model, readout_bias=np.array([0.0, 200.0, 0.0]))
    with pytest.raises(ModelError, match=r"readout\.bias"):
        quantize(biased, calibration)
    with pytest.raises(InputError, match="calibration"):
        quantize(model, [])


def test_bad_files_are_refused(model: FloatModel, calibration: list[NDArray[np.float64]], tmp_path: Path) -> None:
    quantized, _ = quantize(model, calibration)
    path = tmp_path / "q.safetensors"
    quantized.save(path)
    whole = path.read_bytes()

    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match="whole"):
        QuantModel.load(path)
    path.write_bytes(b"RIFF" + whole)
    with pytest.raises(ModelError, match="whole"):
        QuantModel.load(path)
    with pytest.raises(ModelError, match="there is no"):
        QuantModel.load(tmp_path / "absent.safetensors")
    save_file({"a": np.zeros(3)}, str(path))
    with pytest.raises(ModelError, match="no deltatrain model"):
        QuantModel.load(path)
    model.save(path)
    with pytest.raises(ModelError, match="deltatrain quantize"):
        QuantModel.load(path)

    path.write_bytes(whole)
    tensors, quantized_again = load_file(str(path)), QuantModel.load(path)
    assert tensors.keys() == quantized_again.tensors().keys()
