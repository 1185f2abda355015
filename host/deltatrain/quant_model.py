"""The quantised model: integers, their Q-formats, and what is needed to use them, described and as a file.

The file is `.safetensors`: the tensors by name, and one JSON description under the metadata key `deltatrain`.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from deltatrain import model_file
from deltatrain.errors import InputError, ModelError
from deltatrain.exemplars import Exemplars
from deltatrain.features import FeatureConfig
from deltatrain.memory import WHOLE_HISTORY, Memory
from deltatrain.model import N_ACCUMULATORS, N_GATES
from deltatrain.readouts import NOT_SCALED, TargetScale
from deltatrain.reference import READOUT_KINDS
from deltatrain.scale import Scale

Int16 = NDArray[np.int16]
Int32 = NDArray[np.int32]
Number = TypeVar("Number", bound=np.generic)


def q_format(frac_bits: int, total_bits: int = 16) -> str:
    """The name of a format, Qm.n: m integer bits beside the sign, n fraction bits; see NUMERICS.md."""
    return f"Q{total_bits - 1 - frac_bits}.{frac_bits}"


# The device keeps the GRU's accumulators in the order nx, r, z, nh, so that columns of x (n, r, z) and of h (r, z, n)
# each feed neighbouring ones. These give, for each place on the device, the gate's place in a float model
# (r, z, n; biases r, z, nx, nh). The other cells have one order.


def x_gate_order(cell: str) -> tuple[int, ...]:
    """Gates in the columns of x."""
    return (2, 0, 1) if cell == "gru" else h_gate_order(cell)


def h_gate_order(cell: str) -> tuple[int, ...]:
    """Gates in the columns of h."""
    return tuple(range(N_GATES[cell]))


def bias_order(cell: str) -> tuple[int, ...]:
    """Accumulators in the bias."""
    return (2, 0, 1, 3) if cell == "gru" else tuple(range(N_ACCUMULATORS[cell]))


def reorder(rows: NDArray[Number], order: tuple[int, ...]) -> NDArray[Number]:
    """Blocks of rows, one a gate, from a float model's order to the device's."""
    blocks = np.split(rows, len(order))
    return np.concatenate([blocks[place] for place in order])


def restore(rows: NDArray[Number], order: tuple[int, ...]) -> NDArray[Number]:
    """The same back, from the device's order to a float model's."""
    blocks = np.split(rows, len(order))
    return np.concatenate([blocks[order.index(gate)] for gate in range(len(order))])


@dataclass(frozen=True)
class QuantLayer:
    """One recurrent layer in integers; the C core's `drnn_layer_t`.

    weight : ndarray, shape (n_in + n_hidden, G * n_hidden), int16
        Row j holds the weights that multiply v_j = [x ; h]_j; rows below n_in in Q(wx_frac_bits), the rest in
        Q(wh_frac_bits).
    bias : ndarray, shape (A * n_hidden,), int32, Q7.24, one per accumulator.
        All in the device's order; see `x_gate_order` for where it is not that of a float model.
    c_frac_bits : int
        LSTM: of the cell state; GRU: of M_nh as kept for the way back; RNN: of nothing.
    theta_x, theta_h : thresholds, as integers in the format of x and of h (Q1.14).
    """

    cell: str
    n_in: int
    n_hidden: int
    x_frac_bits: int
    wx_frac_bits: int
    wh_frac_bits: int
    c_frac_bits: int
    theta_x: int
    theta_h: int
    weight: Int16
    bias: Int32


@dataclass(frozen=True)
class QuantModel:
    """A whole network in integers; the C core's `drnn_model_t`.

    readout_weight : ndarray, shape (n_outputs, n_hidden), int16, Q(readout_frac_bits).
    readout_bias : ndarray, shape (n_outputs,), int32, Q7.24.
    readout : {"last", "frames", "regression"}, where the readout reads, and its loss.
    target_scale : units of the outputs, of a regression on values of the user's own.
    class_names : names of the outputs: classes, or the values of a regression.
    learning_rate, clip : defaults of training, which the user may override at run time.
    replay : recordings of old speakers, kept so that they can be trained again; or None.
    memory : how much of a sample's history is held at once; no part of the hash, for no word depends on it.
    """

    layers: tuple[QuantLayer, ...]
    readout_frac_bits: int
    readout_weight: Int16
    readout_bias: Int32
    max_steps: int
    learning_rate: Scale
    clip: Scale
    class_names: tuple[str, ...]
    features: FeatureConfig
    provenance: dict[str, Any] = field(default_factory=dict)
    readout: str = "last"
    target_scale: TargetScale = NOT_SCALED
    replay: Exemplars | None = None
    memory: Memory = WHOLE_HISTORY

    @property
    def n_in(self) -> int:
        return self.layers[0].n_in

    @property
    def n_outputs(self) -> int:
        return int(self.readout_weight.shape[0])

    @property
    def replay_bytes(self) -> int:
        """Flash that the exemplars take."""
        return 0 if self.replay is None else self.replay.n_bytes

    def tensors(self) -> dict[str, NDArray[Any]]:
        """The trained tensors by their names in the file."""
        named: dict[str, NDArray[Any]] = {}
        for index, layer in enumerate(self.layers):
            named[f"layer{index}.weight"] = layer.weight
            named[f"layer{index}.bias"] = layer.bias
        named["readout.weight"] = self.readout_weight
        named["readout.bias"] = self.readout_bias
        return named

    def hash(self) -> bytes:
        """SHA-256 of all that the device computes with: description and tensors, not the provenance."""
        digest = hashlib.sha256(json.dumps(self._arithmetic(), sort_keys=True).encode())
        for name, tensor in sorted((self.tensors() | self._stored()).items()):
            digest.update(name.encode() + b"\0" + tensor.astype(tensor.dtype.newbyteorder("<")).tobytes())
        return digest.digest()

    def _stored(self) -> dict[str, NDArray[Any]]:
        """Tensors that are kept beside the trained ones."""
        return {} if self.replay is None else self.replay.tensors()

    def with_tensors(self, tensors: dict[str, NDArray[Any]]) -> QuantModel:
        """The same model with other trained values, e.g. those read back from a device."""
        layers = tuple(
            replace(layer, weight=tensors[f"layer{i}.weight"], bias=tensors[f"layer{i}.bias"])
            for i, layer in enumerate(self.layers)
        )
        return replace(
            self,
            layers=layers,
            readout_weight=tensors["readout.weight"],
            readout_bias=tensors["readout.bias"],
        )

    def save(self, path: Path) -> None:
        """Write the file; `load` gives back an equal model."""
        description = {
            **self._arithmetic(),
            "class_names": list(self.class_names),
            "features": self.features.to_dict(),
            "target_scale": self.target_scale.to_dict(),
            "provenance": self.provenance,
            "memory": self.memory.to_dict(),
            **({} if self.replay is None else {"replay_names": list(self.replay.names)}),
        }
        model_file.write(path, model_file.QUANTISED, description, self.tensors() | self._stored())

    @staticmethod
    def load(path: Path) -> QuantModel:
        """Read a quantised model; ModelError when the file is absent, truncated, foreign or inconsistent."""
        description, tensors = model_file.read(path, model_file.QUANTISED)
        try:
            model = _from_description(description, tensors)
        except (KeyError, TypeError, ValueError, InputError) as error:
            raise ModelError(f"{path}: the description does not fit this version ({error!r}); make it anew") from error
        _check(model, path)
        return model

    def _arithmetic(self) -> dict[str, Any]:
        return {
            "max_steps": self.max_steps,
            "readout": self.readout,
            "learning_rate": [self.learning_rate.m, self.learning_rate.e],
            "clip": [self.clip.m, self.clip.e],
            "readout_frac_bits": self.readout_frac_bits,
            "layers": [
                {
                    key: getattr(layer, key)
                    for key in (
                        "cell",
                        "n_in",
                        "n_hidden",
                        "x_frac_bits",
                        "wx_frac_bits",
                        "wh_frac_bits",
                        "c_frac_bits",
                        "theta_x",
                        "theta_h",
                    )
                }
                for layer in self.layers
            ],
        }


def _from_description(description: dict[str, Any], tensors: dict[str, NDArray[Any]]) -> QuantModel:
    layers = tuple(
        QuantLayer(**layer, weight=tensors[f"layer{i}.weight"], bias=tensors[f"layer{i}.bias"])
        for i, layer in enumerate(description["layers"])
    )
    names = description.get("replay_names")
    return QuantModel(
        layers=layers,
        replay=None if names is None else Exemplars.of(layers[0].n_in, tensors, names),
        readout_frac_bits=int(description["readout_frac_bits"]),
        readout_weight=tensors["readout.weight"],
        readout_bias=tensors["readout.bias"],
        max_steps=int(description["max_steps"]),
        learning_rate=Scale(*description["learning_rate"]),
        clip=Scale(*description["clip"]),
        class_names=tuple(description["class_names"]),
        features=FeatureConfig.from_dict(description["features"]),
        provenance=dict(description["provenance"]),
        readout=description.get("readout", "last"),
        target_scale=TargetScale.from_dict(description.get("target_scale")),
        memory=Memory.from_dict(description.get("memory")),
    )


def _check(model: QuantModel, path: Path) -> None:
    expected: dict[str, tuple[tuple[int, ...], type]] = {}
    for i, layer in enumerate(model.layers):
        width = N_GATES[layer.cell] * layer.n_hidden
        accumulators = N_ACCUMULATORS[layer.cell] * layer.n_hidden
        expected[f"layer{i}.weight"] = ((layer.n_in + layer.n_hidden, width), np.int16)
        expected[f"layer{i}.bias"] = ((accumulators,), np.int32)
    if model.readout not in READOUT_KINDS:
        raise ModelError(f"{path}: readout {model.readout!r} is unknown; it must be one of {', '.join(READOUT_KINDS)}")
    n_outputs = len(model.class_names)
    expected["readout.weight"] = ((n_outputs, model.layers[-1].n_hidden), np.int16)
    expected["readout.bias"] = ((n_outputs,), np.int32)
    for name, tensor in model.tensors().items():
        shape, dtype = expected[name]
        if tensor.shape != shape or tensor.dtype != dtype:
            raise ModelError(
                f"{path}: tensor {name} is {tensor.dtype}{list(tensor.shape)}, "
                f"the description asks for {np.dtype(dtype)}{list(shape)}"
            )
    if model.replay is not None and (fault := model.replay.fault(model.max_steps, n_outputs)):
        raise ModelError(f"{path}: the exemplars for replay do not fit the model ({fault}); quantise it anew")
