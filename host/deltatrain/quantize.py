"""Float model to integers: Q-formats from calibration data, and what rounding cost. NUMERICS.md, "Formats".

The rule of the formats: the finest one that holds the largest magnitude seen, times a margin. No format can
make M overflow (it is 64 bits wide); what may saturate (x, c, weights in training) is counted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deltatrain.errors import InputError, ModelError
from deltatrain.features import standardise
from deltatrain.model import FloatModel, LayerWeights
from deltatrain.quant_model import (
    QuantLayer,
    QuantModel,
    bias_order,
    h_gate_order,
    q_format,
    reorder,
    restore,
    x_gate_order,
)
from deltatrain.readouts import NO_CLASS, frame_targets
from deltatrain.reference import DEFAULT_CLIP, DEFAULT_LEARNING_RATE
from deltatrain.scale import Scale

Array = NDArray[np.float64]

H_FRAC_BITS = 14
BIAS_FRAC_BITS = 24
TARGET_FRAC_BITS = 16  # of the values of a regression, as of its outputs
TARGET_MAX = 2**30
V_MAX = 2**14 - 1  # of x and h: a guard bit, so that their differences fit int16
INT16_MAX = 2**15 - 1
INT32_MAX = 2**31 - 1
THETA_MAX = INT16_MAX

# Within what the C core accepts (drnn_arena.c); weights keep a range of at least ±2, for training moves them.
X_FRAC_BITS = (6, 14)
WX_FRAC_BITS = (8, 14)
WH_FRAC_BITS = (10, 14)
C_FRAC_BITS = (6, 14)
READOUT_FRAC_BITS = (10, 14)

# What `c_frac_bits` is the format of.
KEPT_TENSORS = {"lstm": "c", "gru": "m_nh"}
KEPT_NAMES = {"lstm": "the cell state", "gru": "what h brings to the gate n"}

# Room for what calibration did not show: other speakers' features, cells and weights that training will move.
X_MARGIN = 1.25
C_MARGIN = 2.0
WEIGHT_MARGIN = 2.0


@dataclass(frozen=True)
class TensorFormat:
    """One row of the table of formats.

    Attributes
    ----------
    name, q_format : str
        E.g. `layer0.weight_hh`, `Q1.14`.
    frac_bits : int
    largest : float
        Largest magnitude: of the weights, or over the calibration data.
    limit : float
        Largest magnitude that the format holds.
    rms_error : float
        Root of the mean squared rounding error, in real units; 0 for what is computed and so was not rounded.
    saturated : int
        Values that were clamped.
    """

    name: str
    q_format: str
    frac_bits: int
    largest: float
    limit: float
    rms_error: float
    saturated: int


@dataclass(frozen=True)
class QuantizedFeatures:
    """Frames ready for the device: int16 in the model's input format, and how many values were clamped."""

    frames: NDArray[np.int16]
    saturated: int


def quantize_features(model: QuantModel, features: NDArray[Any]) -> QuantizedFeatures:
    """Raw features (T, n_in) to the device's integers: standardised, cut to max_steps, scaled, clamped.

    InputError when a value is not finite, the sequence is empty, or its width is not the model's.
    """
    if features.ndim != 2 or features.shape[1] != model.n_in:
        raise InputError(f"features have shape {features.shape}; the model takes (T, {model.n_in})")
    x = standardise(features, model.features)[: model.max_steps]
    rounded = np.rint(x * 2.0 ** model.layers[0].x_frac_bits)
    frames = np.clip(rounded, -V_MAX, V_MAX)
    return QuantizedFeatures(frames.astype(np.int16), int(np.count_nonzero(frames != rounded)))


def quantize_targets(
    model: QuantModel, label: int, own: NDArray[Any] | None, n_frames: int
) -> NDArray[np.int32] | None:
    """Targets of an item's first `n_frames` frames as the device takes them; see `readouts.frame_targets`.

    Returns
    -------
    None, classes (n_frames,), or values (n_frames, n_outputs) in the model's units, Q16

    Raises
    ------
    InputError
        If the targets are not for the model's readout, or a value is beyond what the device holds.
    """
    targets = frame_targets(model.readout, label, own, n_frames, model.n_outputs)
    if targets is None:
        return None
    if targets.ndim == 1:
        if targets.max(initial=0) >= model.n_outputs or targets.min(initial=0) < NO_CLASS:
            raise InputError(f"labels are {targets.min()} .. {targets.max()}; the model has {model.n_outputs} classes")
        return targets.astype(np.int32)
    if targets.shape[1] != model.n_outputs:
        raise InputError(f"the data have {targets.shape[1]} values a frame; the model has {model.n_outputs} outputs")
    rounded = np.rint(model.target_scale.apply(targets) * 2.0**TARGET_FRAC_BITS)
    largest = float(np.abs(rounded).max(initial=0.0))
    if largest > TARGET_MAX:
        raise InputError(
            f"a target is {largest / 2**TARGET_FRAC_BITS:g} in the model's units, the device holds up to "
            f"±{TARGET_MAX // 2**TARGET_FRAC_BITS}; leave out what is so far from the pre-training data, or scale it"
        )
    return rounded.astype(np.int32)


def quantize(
    model: FloatModel,
    calibration: Sequence[NDArray[Any]],
    learning_rate: float = DEFAULT_LEARNING_RATE,
    clip: float = DEFAULT_CLIP,
) -> tuple[QuantModel, tuple[TensorFormat, ...]]:
    """Quantise a model; also the table of its formats.

    Parameters
    ----------
    model : FloatModel
    calibration : sequence of ndarray, shape (T, n_in)
        Raw features of pre-training data.
    learning_rate, clip : float
        Defaults of the training on the device.

    Raises
    ------
    ModelError
        When a weight or bias is outside what the formats hold.
    InputError
        When there is no calibration data.
    """
    if not calibration:
        raise InputError("there is no calibration data; give the recordings that the model was pre-trained on")
    inputs = [standardise(item, model.features)[: model.max_steps] for item in calibration]
    ranges = _kept_ranges(model, inputs)

    rows: list[TensorFormat] = []
    layers: list[QuantLayer] = []
    x: Array | None = np.concatenate(inputs)
    for index, (layer, kept) in enumerate(zip(model.layers, ranges, strict=True)):
        quant_layer, formats = _quantize_layer(layer, f"layer{index}", x, kept)
        layers.append(quant_layer)
        rows += formats
        x = None  # the layers above read hidden states, whose format is fixed
    readout_frac_bits, readout_weight, row = _quantize_weight(model.readout_weight, READOUT_FRAC_BITS, "readout.weight")
    readout_bias, bias_row = _quantize_bias(model.readout_bias, "readout.bias")
    quant_model = QuantModel(
        layers=tuple(layers),
        readout_frac_bits=readout_frac_bits,
        readout_weight=readout_weight,
        readout_bias=readout_bias,
        max_steps=model.max_steps,
        learning_rate=Scale.from_float(learning_rate, "learning rate"),
        clip=Scale.from_float(clip, "clip"),
        class_names=model.class_names,
        features=model.features,
        provenance=dict(model.provenance),
        readout=model.readout,
        target_scale=model.target_scale,
    )
    return quant_model, (*rows, row, bias_row)


def _quantize_layer(
    layer: LayerWeights, name: str, x: Array | None, kept: float | None
) -> tuple[QuantLayer, list[TensorFormat]]:
    """One layer and its rows of the table.

    x : the first layer's inputs over the calibration data; None for an upper layer.
    kept : the largest value of what `c_frac_bits` is for, over the calibration data; None for an RNN.
    """
    rows = []
    x_frac_bits = H_FRAC_BITS
    if x is not None:
        x_frac_bits = _frac_bits(np.abs(x).max() * X_MARGIN, V_MAX, X_FRAC_BITS, "the inputs")
        rows.append(_row(f"{name}.x", x, x_frac_bits, V_MAX))
    wx_frac_bits, weight_ih, row_ih = _quantize_weight(layer.weight_ih, WX_FRAC_BITS, f"{name}.weight_ih")
    wh_frac_bits, weight_hh, row_hh = _quantize_weight(layer.weight_hh, WH_FRAC_BITS, f"{name}.weight_hh")
    bias, row_bias = _quantize_bias(layer.bias, f"{name}.bias")
    rows += [row_ih, row_hh, row_bias]
    c_frac_bits = C_FRAC_BITS[1]
    if kept is not None:
        c_frac_bits = _frac_bits(kept * C_MARGIN, INT16_MAX, C_FRAC_BITS, KEPT_NAMES[layer.cell])
        limit = INT16_MAX / 2**c_frac_bits
        kept_name = f"{name}.{KEPT_TENSORS[layer.cell]}"
        rows.append(TensorFormat(kept_name, q_format(c_frac_bits), c_frac_bits, kept, limit, 0.0, 0))
    quant_layer = QuantLayer(
        cell=layer.cell,
        n_in=layer.n_in,
        n_hidden=layer.n_hidden,
        x_frac_bits=x_frac_bits,
        wx_frac_bits=wx_frac_bits,
        wh_frac_bits=wh_frac_bits,
        c_frac_bits=c_frac_bits,
        theta_x=quantize_threshold(layer.theta_x, x_frac_bits, "theta_x"),
        theta_h=quantize_threshold(layer.theta_h, H_FRAC_BITS, "theta_h"),
        weight=np.concatenate(
            [
                reorder(weight_ih, x_gate_order(layer.cell)).T,
                reorder(weight_hh, h_gate_order(layer.cell)).T,
            ]
        ),
        bias=reorder(bias, bias_order(layer.cell)),
    )
    return quant_layer, rows


def quantize_threshold(theta: float, frac_bits: int, name: str) -> int:
    """A threshold in the format of what it is compared with; InputError when it is negative or too large."""
    if not (math.isfinite(theta) and 0 <= theta * 2**frac_bits <= THETA_MAX):
        raise InputError(f"{name} is {theta}; it must lie between 0 and {THETA_MAX / 2**frac_bits:g}")
    return int(np.rint(theta * 2**frac_bits))


def dequantize(model: QuantModel) -> FloatModel:
    """The float model of exactly the values that the integers stand for: where a comparison starts."""
    layers = []
    for layer in model.layers:
        of_x, of_h = layer.weight[: layer.n_in].T, layer.weight[layer.n_in :].T
        layers.append(
            LayerWeights(
                cell=layer.cell,
                theta_x=layer.theta_x / 2**layer.x_frac_bits,
                theta_h=layer.theta_h / 2**H_FRAC_BITS,
                weight_ih=restore(of_x, x_gate_order(layer.cell)) / 2.0**layer.wx_frac_bits,
                weight_hh=restore(of_h, h_gate_order(layer.cell)) / 2.0**layer.wh_frac_bits,
                bias=restore(layer.bias, bias_order(layer.cell)) / 2.0**BIAS_FRAC_BITS,
            )
        )
    return FloatModel(
        layers=tuple(layers),
        readout_weight=model.readout_weight / 2.0**model.readout_frac_bits,
        readout_bias=model.readout_bias / 2.0**BIAS_FRAC_BITS,
        class_names=model.class_names,
        features=model.features,
        max_steps=model.max_steps,
        provenance=dict(model.provenance),
        readout=model.readout,
        target_scale=model.target_scale,
    )


def _quantize_weight(values: Array, allowed: tuple[int, int], name: str) -> tuple[int, NDArray[np.int16], TensorFormat]:
    """Fraction bits, integers and row of a weight."""
    bits = _frac_bits(np.abs(values).max() * WEIGHT_MARGIN, INT16_MAX, allowed, name)
    row = _row(name, values, bits, INT16_MAX)
    return bits, np.rint(values * 2.0**bits).astype(np.int16), row


def _quantize_bias(values: Array, name: str) -> tuple[NDArray[np.int32], TensorFormat]:
    """Integers and row of a bias; ModelError where its fixed format cannot hold it."""
    row = _row(name, values, BIAS_FRAC_BITS, INT32_MAX)
    if row.saturated:
        raise ModelError(
            f"{name} reaches {row.largest:g}, beyond the ±{row.limit:g} that the device holds; "
            "pre-train with more weight decay or a smaller learning rate"
        )
    return np.rint(values * 2.0**BIAS_FRAC_BITS).astype(np.int32), row


def _frac_bits(largest: float, limit: int, allowed: tuple[int, int], name: str) -> int:
    """The most fraction bits, within `allowed`, with which `largest` stays within `limit`."""
    fewest, most = allowed
    bits = most if largest == 0 else min(most, math.floor(math.log2(limit / largest)))
    if bits < fewest:
        raise ModelError(
            f"{name} reaches {largest:g} with its margin, beyond the ±{limit / 2**fewest:g} that the device holds"
        )
    return bits


def _kept_ranges(model: FloatModel, inputs: Sequence[Array]) -> list[float | None]:
    """Per layer, over the calibration data: the largest |c| of an LSTM, the largest |M_nh| of a GRU."""
    largest = [0.0] * len(model.layers)
    network = model.network()
    for x in inputs:
        _, trace = network.forward(x)
        for index, part in enumerate(trace.layers):
            largest[index] = max(largest[index], *(_kept(model.layers[index].cell, saved) for saved in part.saved))
    return [value if layer.cell in KEPT_TENSORS else None for value, layer in zip(largest, model.layers, strict=True)]


def _kept(cell: str, saved: Mapping[str, Array]) -> float:
    if cell == "lstm":
        return float(np.abs(saved["f"] * saved["c_before"] + saved["i"] * saved["g"]).max())
    return float(np.abs(saved["m_nh"]).max()) if cell == "gru" else 0.0


def _row(name: str, values: Array, frac_bits: int, limit: int) -> TensorFormat:
    rounded = np.rint(values * 2.0**frac_bits)
    clamped = np.clip(rounded, -limit, limit)
    return TensorFormat(
        name=name,
        q_format=q_format(frac_bits, 32 if limit > INT16_MAX else 16),
        frac_bits=frac_bits,
        largest=float(np.abs(values).max()),
        limit=limit / 2**frac_bits,
        rms_error=float(np.sqrt(np.mean((clamped / 2.0**frac_bits - values) ** 2))),
        saturated=int(np.count_nonzero(clamped != rounded)),
    )
