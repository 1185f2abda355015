"""A quantised model as C source: data and constants only; the logic is the C core's.

The same model gives the same bytes, on every machine and day: what is written depends on the model, the
version of deltatrain and the C core's ABI, and on nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from numpy.typing import NDArray

import deltatrain
from deltatrain.exemplars import Exemplars
from deltatrain.quant_model import QuantLayer, QuantModel, q_format
from deltatrain.scale import Scale
from deltatrain_codegen import c_text
from deltatrain_codegen.plan import arena_bytes
from deltatrain_core._core import lib

HEADER, SOURCE = "dt_model.h", "dt_model.c"
# In the device's order.
X_GATE_NAMES = {"rnn": "h", "gru": "n, r, z", "lstm": "i, f, g, o"}
ACCUMULATOR_NAMES = {"rnn": "h", "gru": "nx, r, z, nh", "lstm": "i, f, g, o"}


@dataclass(frozen=True)
class CArray:
    """A constant array of the generated source."""

    name: str
    c_type: str
    comment: list[str]
    count: str  # C expression: its shape, multiplied out by the compiler
    size: str  # C expression, bytes
    lines: list[str]


def generate(model: QuantModel) -> dict[str, str]:
    """The generated files of a model.

    Parameters
    ----------
    model : QuantModel

    Returns
    -------
    dict of str to str
        File name to text: `dt_model.h` (dimensions, arena size, class names) and `dt_model.c` (`dt_model` and
        its arrays).

    Raises
    ------
    ModelError
        If the C core does not support the model's dimensions, formats or cells.
    """
    first, last = model.layers[0], model.layers[-1]
    values = {
        "version": deltatrain.__version__,
        "model_hash": model.hash().hex(),
        "abi_version": lib.DRNN_ABI_VERSION,
        "v_max": lib.DRNN_V_MAX,
        "n_in": model.n_in,
        "x_format": q_format(first.x_frac_bits),
        "x_frac_bits": first.x_frac_bits,
        "n_hidden": last.n_hidden,
        "n_outputs": model.n_outputs,
        "readout": f"DRNN_{model.readout.upper()}",
        "max_steps": model.max_steps,
        "memory": f"DRNN_{model.memory.kind.upper()}",
        "memory_words": str(model.memory),
        "segment_steps": model.memory.segment_steps,
        "event_budget": model.memory.event_budget,
        "arena_bytes": arena_bytes(model),
        "class_names": [c_text.string(name) for name in model.class_names],
        "arrays": _arrays(model),
        "replay_arrays": [] if model.replay is None else _replay_arrays(model.replay),
        "replay": model.replay,
        "layers": [_layer(layer) for layer in model.layers],
        "readout_frac_bits": model.readout_frac_bits,
        "learning_rate": _scale(model.learning_rate),
        "clip": _scale(model.clip),
        "hash_lines": c_text.comma_lines((f"0x{byte:02x}" for byte in model.hash()), width=16 * len("0x00, ")),
    }
    return {name: template(f"{name}.j2").render(values) for name in (HEADER, SOURCE)}


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("deltatrain_codegen"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # C, not HTML
    )
    environment.filters["sizeof"] = lambda name: f"sizeof {name}"
    return environment


def template(name: str) -> Template:
    """A template of this package; a variable it does not find is an error."""
    return _environment().get_template(name)


def _layer(layer: QuantLayer) -> dict[str, Any]:
    return {
        "cell": f"DRNN_{layer.cell.upper()}",
        "x_frac_bits": layer.x_frac_bits,
        "wx_frac_bits": layer.wx_frac_bits,
        "wh_frac_bits": layer.wh_frac_bits,
        "c_frac_bits": layer.c_frac_bits,
        "n_in": layer.n_in,
        "n_hidden": layer.n_hidden,
        "theta_x": layer.theta_x,
        "theta_x_real": c_text.real(layer.theta_x * 2.0**-layer.x_frac_bits),
        "theta_h": layer.theta_h,
        "theta_h_real": c_text.real(layer.theta_h * 2.0**-lib.DRNN_H_FRAC_BITS),
    }


def _scale(scale: Scale) -> dict[str, str]:
    return {"c": f"{{{scale.m}u, {scale.e}}}", "real": c_text.real(float(scale))}


def _arrays(model: QuantModel) -> list[CArray]:
    arrays: list[CArray] = []
    for index, layer in enumerate(model.layers):
        arrays += [_weight_array(layer, index), _bias_array(layer, index)]
    return [*arrays, *_readout_arrays(model)]


def _weight_array(layer: QuantLayer, index: int) -> CArray:
    n_in, n_hidden = layer.n_in, layer.n_hidden
    gates = layer.weight.shape[1] // n_hidden
    wx, wh = layer.weight[:n_in], layer.weight[n_in:]
    return CArray(
        name=f"dt_weight_{index}",
        c_type="int16_t",
        comment=[
            f"Layer {index}, weights [n_in + n_hidden][{gates} * n_hidden]: each row a column of W, "
            f"gates {X_GATE_NAMES[layer.cell]}.",
            *(["In columns of h the gates are r, z, n."] if layer.cell == "gru" else []),
            f"Those of x: {_format_and_range(wx, layer.wx_frac_bits, 16)}.",
            f"Those of h: {_format_and_range(wh, layer.wh_frac_bits, 16)}.",
        ],
        count=f"({n_in} + {n_hidden}) * ({gates} * {n_hidden})",
        size=f"2 * ({n_in} + {n_hidden}) * ({gates} * {n_hidden})",
        lines=c_text.array_lines(
            layer.weight.ravel().tolist(),
            [f"x[{i}]" for i in range(n_in)] + [f"h[{i}]" for i in range(n_hidden)],
        ),
    )


def _bias_array(layer: QuantLayer, index: int) -> CArray:
    accumulators = layer.bias.size // layer.n_hidden
    return CArray(
        name=f"dt_bias_{index}",
        c_type="int32_t",
        comment=[
            f"Layer {index}, biases [{accumulators} * n_hidden], one for each accumulator.",
            f"{_format_and_range(layer.bias, lib.DRNN_BIAS_FRAC_BITS, 32)}.",
        ],
        count=f"{accumulators} * {layer.n_hidden}",
        size=f"4 * {accumulators} * {layer.n_hidden}",
        lines=c_text.array_lines(layer.bias.tolist(), ACCUMULATOR_NAMES[layer.cell].split(", ")),
    )


def _readout_arrays(model: QuantModel) -> list[CArray]:
    n_outputs, n_hidden = model.readout_weight.shape
    return [
        CArray(
            name="dt_readout_weight",
            c_type="int16_t",
            comment=[
                "Readout, weights [n_outputs][n_hidden].",
                f"{_format_and_range(model.readout_weight, model.readout_frac_bits, 16)}.",
            ],
            count=f"{n_outputs} * {n_hidden}",
            size=f"2 * {n_outputs} * {n_hidden}",
            lines=c_text.array_lines(
                model.readout_weight.ravel().tolist(), [f"output {index}" for index in range(n_outputs)]
            ),
        ),
        CArray(
            name="dt_readout_bias",
            c_type="int32_t",
            comment=[
                "Readout, biases [n_outputs].",
                f"{_format_and_range(model.readout_bias, lib.DRNN_BIAS_FRAC_BITS, 32)}.",
            ],
            count=f"{n_outputs}",
            size=f"4 * {n_outputs}",
            lines=c_text.comma_lines(c_text.integer(value) for value in model.readout_bias.tolist()),
        ),
    ]


def _replay_arrays(store: Exemplars) -> list[CArray]:
    """Stored exemplars, as `drnn_replay_t` describes them."""
    ends = [*store.starts[1:].tolist(), store.events.size]
    lines: list[str] = []
    for name, start, end in zip(store.names, store.starts.tolist(), ends, strict=True):
        # A name comes from a file's name: it must not end the comment.
        lines.append(f"/* {c_text.comment(name)} */")
        lines += c_text.comma_lines(str(byte) for byte in store.events[start:end].tolist())
    columns: list[tuple[str, str, int, str, NDArray[Any]]] = [
        ("dt_replay_start", "uint32_t", 4, "Where each exemplar begins in dt_replay_events.", store.starts),
        ("dt_replay_steps", "uint16_t", 2, "Frames of each exemplar.", store.n_steps),
        ("dt_replay_label", "uint8_t", 1, "Class of each exemplar.", store.labels),
    ]
    count = len(store)
    return [
        CArray(
            name="dt_replay_events",
            c_type="uint8_t",
            comment=[
                "Exemplars for drnn_replay, frame after frame: the mask of inputs that changed, then their values,",
                f"int8, in units of 2^{lib.DRNN_REPLAY_SHIFT} of the input format.",
            ],
            count=str(store.events.size),
            size=str(store.events.size),
            lines=lines,
        ),
        *(
            CArray(
                name=name,
                c_type=c_type,
                comment=[comment],
                count=str(count),
                size=f"{item} * {count}",
                lines=c_text.comma_lines(str(value) for value in values.tolist()),
            )
            for name, c_type, item, comment, values in columns
        ),
    ]


def _format_and_range(values: NDArray[Any], frac_bits: int, total_bits: int) -> str:
    low, high = float(np.min(values)), float(np.max(values))
    unit = 2.0**-frac_bits
    return f"{q_format(frac_bits, total_bits)}, {c_text.real(low * unit)} to {c_text.real(high * unit)}"
