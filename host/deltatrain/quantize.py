"""Float model to integers: Q-formats from calibration data, and what rounding cost. NUMERICS.md, "Formats".

The rule of the formats: the finest one that holds the largest magnitude seen, times a margin. No format can
make M overflow (it is 64 bits wide); what may saturate (x, c, weights in training) is counted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deltatrain.errors import InputError, ModelError
from deltatrain.features import standardise
from deltatrain.model import FloatModel, LayerWeights
from deltatrain.quant_model import QuantLayer, QuantModel
from deltatrain.reference import DEFAULT_CLIP, DEFAULT_LEARNING_RATE
from deltatrain.scale import Scale

Array = NDArray[np.float64]

H_FRAC_BITS = 14
BIAS_FRAC_BITS = 24
V_MAX = 2**14 - 1  # of x and h: a guard bit, so that their differences fit int16
INT16_MAX = 2**15 - 1
INT32_MAX = 2**31 - 1
THETA_MAX = INT16_MAX

# Within what the C core accepts (drnn_arena.c); weights keep a range of at least ±2, for training moves them.
X_FRAC_BITS = (6, 14)
WX_FRAC_BITS = (8, 14)
WH_FRAC_BITS = (10, 14)
C_FRAC_BITS = (4, 14)
READOUT_FRAC_BITS = (10, 14)

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
        Root of the mean squared rounding error, in real units.
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
        When the model has several layers, another cell than an LSTM, another readout than at the last step,
        or a weight, bias or threshold outside what the formats hold.
    InputError
        When there is no calibration data.
    """
    layer = _only_layer(model)
    if not calibration:
        raise InputError("there is no calibration data; give the recordings that the model was pre-trained on")
    inputs = [standardise(item, model.features)[: model.max_steps] for item in calibration]
    x = np.concatenate(inputs)
    c_largest = _largest_cell(model, inputs)

    x_frac_bits = _frac_bits(np.abs(x).max() * X_MARGIN, V_MAX, X_FRAC_BITS, "the inputs")
    formats = {
        name: _frac_bits(np.abs(values).max() * WEIGHT_MARGIN, INT16_MAX, allowed, name)
        for name, values, allowed in (
            ("layer0.weight_ih", layer.weight_ih, WX_FRAC_BITS),
            ("layer0.weight_hh", layer.weight_hh, WH_FRAC_BITS),
            ("readout.weight", model.readout_weight, READOUT_FRAC_BITS),
        )
    }
    c_frac_bits = _frac_bits(c_largest * C_MARGIN, INT16_MAX, C_FRAC_BITS, "the cell state")

    rows = [_row("layer0.x", x, x_frac_bits, V_MAX)]
    quantized: dict[str, NDArray[np.int64]] = {}
    for name, values in model.tensors().items():
        bits, limit = (formats[name], INT16_MAX) if name in formats else (BIAS_FRAC_BITS, INT32_MAX)
        rows.append(_row(name, values, bits, limit))
        if rows[-1].saturated:
            raise ModelError(
                f"{name} reaches {rows[-1].largest:g}, beyond the ±{rows[-1].limit:g} that the device holds; "
                "pre-train with more weight decay or a smaller learning rate"
            )
        quantized[name] = np.rint(values * 2.0**bits).astype(np.int64)
    rows.append(
        TensorFormat("layer0.c", _q(c_frac_bits, 15), c_frac_bits, c_largest, INT16_MAX / 2**c_frac_bits, 0.0, 0)
    )

    quant_layer = QuantLayer(
        cell=layer.cell,
        n_in=layer.n_in,
        n_hidden=layer.n_hidden,
        x_frac_bits=x_frac_bits,
        wx_frac_bits=formats["layer0.weight_ih"],
        wh_frac_bits=formats["layer0.weight_hh"],
        c_frac_bits=c_frac_bits,
        theta_x=quantize_threshold(layer.theta_x, x_frac_bits, "theta_x"),
        theta_h=quantize_threshold(layer.theta_h, H_FRAC_BITS, "theta_h"),
        weight=np.concatenate([quantized["layer0.weight_ih"].T, quantized["layer0.weight_hh"].T]).astype(np.int16),
        bias=quantized["layer0.bias"].astype(np.int32),
    )
    quant_model = QuantModel(
        layers=(quant_layer,),
        readout_frac_bits=formats["readout.weight"],
        readout_weight=quantized["readout.weight"].astype(np.int16),
        readout_bias=quantized["readout.bias"].astype(np.int32),
        max_steps=model.max_steps,
        learning_rate=Scale.from_float(learning_rate, "learning rate"),
        clip=Scale.from_float(clip, "clip"),
        class_names=model.class_names,
        features=model.features,
        provenance=dict(model.provenance),
    )
    return quant_model, tuple(rows)


def quantize_threshold(theta: float, frac_bits: int, name: str) -> int:
    """A threshold in the format of what it is compared with; InputError when it is negative or too large."""
    if not (math.isfinite(theta) and 0 <= theta * 2**frac_bits <= THETA_MAX):
        raise InputError(f"{name} is {theta}; it must lie between 0 and {THETA_MAX / 2**frac_bits:g}")
    return int(np.rint(theta * 2**frac_bits))


def dequantize(model: QuantModel) -> FloatModel:
    """The float model of exactly the values that the integers stand for: where a comparison starts."""
    layers = []
    for layer in model.layers:
        layers.append(
            LayerWeights(
                cell=layer.cell,
                theta_x=layer.theta_x / 2**layer.x_frac_bits,
                theta_h=layer.theta_h / 2**H_FRAC_BITS,
                weight_ih=np.ascontiguousarray(layer.weight[: layer.n_in].T / 2.0**layer.wx_frac_bits),
                weight_hh=np.ascontiguousarray(layer.weight[layer.n_in :].T / 2.0**layer.wh_frac_bits),
                bias=layer.bias / 2.0**BIAS_FRAC_BITS,
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
    )


def _only_layer(model: FloatModel) -> LayerWeights:
    if len(model.layers) != 1 or model.layers[0].cell != "lstm" or model.readout != "last":
        cells = " + ".join(layer.cell for layer in model.layers)
        raise ModelError(
            "the device trains one LSTM layer with a loss at the last step; "
            f"this model is {cells} with readout {model.readout!r}"
        )
    return model.layers[0]


def _frac_bits(largest: float, limit: int, allowed: tuple[int, int], name: str) -> int:
    """The most fraction bits, within `allowed`, with which `largest` stays within `limit`."""
    fewest, most = allowed
    bits = most if largest == 0 else min(most, math.floor(math.log2(limit / largest)))
    if bits < fewest:
        raise ModelError(
            f"{name} reaches {largest:g} with its margin, beyond the ±{limit / 2**fewest:g} that the device holds"
        )
    return bits


def _largest_cell(model: FloatModel, inputs: Sequence[Array]) -> float:
    """The largest |c| over the calibration data."""
    layer = model.network().layers[0]
    steps = (saved for x in inputs for saved in layer.forward(x)[1].saved)
    return max(float(np.abs(s["f"] * s["c_before"] + s["i"] * s["g"]).max()) for s in steps)


def _row(name: str, values: Array, frac_bits: int, limit: int) -> TensorFormat:
    rounded = np.rint(values * 2.0**frac_bits)
    clamped = np.clip(rounded, -limit, limit)
    return TensorFormat(
        name=name,
        q_format=_q(frac_bits, limit.bit_length()),
        frac_bits=frac_bits,
        largest=float(np.abs(values).max()),
        limit=limit / 2**frac_bits,
        rms_error=float(np.sqrt(np.mean((clamped / 2.0**frac_bits - values) ** 2))),
        saturated=int(np.count_nonzero(clamped != rounded)),
    )


def _q(frac_bits: int, magnitude_bits: int) -> str:
    return f"Q{magnitude_bits - frac_bits}.{frac_bits}"
