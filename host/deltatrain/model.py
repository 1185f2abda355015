"""The float model: weights, thresholds and the features they belong to, as frozen descriptions and as a file.

The file is `.safetensors`: tensors `layer0.weight_ih`, …, `readout.bias` in float64, and everything else as
one JSON object under the metadata key `deltatrain`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from deltatrain import model_file
from deltatrain.errors import InputError, ModelError
from deltatrain.features import FeatureConfig
from deltatrain.readouts import NOT_SCALED, TargetScale
from deltatrain.reference import CELLS, READOUT_KINDS, Array, Network, Readout

N_GATES = {"rnn": 1, "gru": 3, "lstm": 4}
"""Gates of a cell, G: rows of its weight matrices over H."""

N_ACCUMULATORS = {"rnn": 1, "gru": 4, "lstm": 4}
"""Accumulators of a cell, A: rows of its bias over H. The GRU keeps the two parts of its n gate apart."""


@dataclass(frozen=True)
class LayerWeights:
    """One recurrent layer, with one bias for each accumulator.

    Attributes
    ----------
    cell : {"rnn", "gru", "lstm"}
    theta_x, theta_h : float
        Thresholds of inputs and hidden state, in units of the (standardised) features and of h.
    weight_ih : ndarray, shape (G*H, n_in), float64
    weight_hh : ndarray, shape (G*H, H), float64
    bias : ndarray, shape (A*H,), float64
        LSTM: i, f, g, o. GRU: r, z, nx, nh. RNN: one.
    """

    cell: str
    theta_x: float
    theta_h: float
    weight_ih: Array
    weight_hh: Array
    bias: Array

    @property
    def n_in(self) -> int:
        """Inputs of the layer."""
        return int(self.weight_ih.shape[1])

    @property
    def n_hidden(self) -> int:
        """Hidden units H."""
        return int(self.weight_hh.shape[1])

    def torch_biases(self) -> tuple[Array, Array]:
        """bias_ih and bias_hh, each (G*H,), as PyTorch has them: the second is 0 but for the GRU's n gate."""
        rows = N_GATES[self.cell] * self.n_hidden
        bias_hh = np.zeros(rows)
        if self.cell == "gru":
            bias_hh[2 * self.n_hidden :] = self.bias[rows:]
        return self.bias[:rows].copy(), bias_hh

    @staticmethod
    def join_biases(cell: str, bias_ih: Array, bias_hh: Array) -> Array:
        """One bias for each accumulator, (A*H,), from PyTorch's two."""
        if cell != "gru":
            return bias_ih + bias_hh
        n_hidden = len(bias_ih) // 3
        both, n_x, n_h = slice(2 * n_hidden), bias_ih[2 * n_hidden :], bias_hh[2 * n_hidden :]
        return np.concatenate([bias_ih[both] + bias_hh[both], n_x, n_h])


@dataclass(frozen=True)
class FloatModel:
    """A pre-trained network and what is needed to use it.

    Attributes
    ----------
    layers : tuple of LayerWeights
        From the input upwards.
    readout_weight : ndarray, shape (n_outputs, H), float64
    readout_bias : ndarray, shape (n_outputs,), float64
    class_names : tuple of str
    features : FeatureConfig
        Standardised: evaluation can never use other features than training did.
    max_steps : int
        Longest sequence that training saw.
    provenance : dict
        JSON-ready: data, seed, epochs, held-out speakers, error, op reduction, command.
    readout : {"last", "frames", "regression"}
        Where the readout reads, and its loss.
    target_scale : TargetScale
        Units of the outputs, of a regression on values of the user's own.

    Raises
    ------
    ModelError
        When a shape does not fit the others, or a value is NaN or infinite; names the tensor.
    """

    layers: tuple[LayerWeights, ...]
    readout_weight: Array
    readout_bias: Array
    class_names: tuple[str, ...]
    features: FeatureConfig
    max_steps: int
    provenance: dict[str, object] = field(default_factory=dict)
    readout: str = "last"
    target_scale: TargetScale = NOT_SCALED

    def __post_init__(self) -> None:
        if not self.layers:
            raise ModelError("a model needs at least one layer; this one has none")
        if self.readout not in READOUT_KINDS:
            raise ModelError(f"readout {self.readout!r} is unknown; it must be one of {', '.join(READOUT_KINDS)}")
        if self.target_scale.mean and (
            self.readout != "regression" or len(self.target_scale.mean) != len(self.class_names)
        ):
            raise ModelError(
                f"the model scales {len(self.target_scale.mean)} targets, but its readout is {self.readout} with "
                f"{len(self.class_names)} outputs; make it anew"
            )
        if self.max_steps < 1:
            raise ModelError(f"max_steps is {self.max_steps}; it must be at least 1")
        shapes: dict[str, tuple[int, ...]] = {}
        n_in: int | None = None
        for index, layer in enumerate(self.layers):
            name = f"layer{index}"
            if layer.cell not in CELLS:
                raise ModelError(f"{name} is a {layer.cell!r} cell; the cells are {', '.join(CELLS)}")
            for key, theta in (("theta_x", layer.theta_x), ("theta_h", layer.theta_h)):
                if not (math.isfinite(theta) and theta >= 0):
                    raise ModelError(f"{name}.{key} is {theta}; a threshold is a finite number of at least 0")
            for key in ("weight_ih", "weight_hh"):
                if getattr(layer, key).ndim != 2:
                    raise ModelError(f"{name}.{key} has shape {getattr(layer, key).shape}; it must have two axes")
            h = layer.n_hidden
            rows = N_GATES[layer.cell] * h
            shapes[f"{name}.weight_ih"] = (rows, layer.n_in if n_in is None else n_in)
            shapes[f"{name}.weight_hh"] = (rows, h)
            shapes[f"{name}.bias"] = (N_ACCUMULATORS[layer.cell] * h,)
            n_in = h
        shapes["readout.weight"] = (len(self.class_names), self.layers[-1].n_hidden)
        shapes["readout.bias"] = (len(self.class_names),)
        for name, tensor in self.tensors().items():
            if tensor.shape != shapes[name] or tensor.size == 0:
                raise ModelError(f"{name} has shape {tensor.shape}; the rest of the model needs {shapes[name]}")
            if not np.isfinite(tensor).all():
                where = [int(i) for i in np.argwhere(~np.isfinite(tensor))[0]]
                raise ModelError(f"{name}{where} is {tensor[tuple(where)]}; every weight must be finite")

    @property
    def n_in(self) -> int:
        """Features of a frame."""
        return self.layers[0].n_in

    @property
    def n_outputs(self) -> int:
        """Outputs of the readout."""
        return int(self.readout_weight.shape[0])

    @property
    def n_parameters(self) -> int:
        """Trained values: weights and one bias for each accumulator."""
        return sum(tensor.size for tensor in self.tensors().values())

    def tensors(self) -> dict[str, Array]:
        """The trained tensors by their names in the file."""
        named: dict[str, Array] = {}
        for index, layer in enumerate(self.layers):
            named[f"layer{index}.weight_ih"] = layer.weight_ih
            named[f"layer{index}.weight_hh"] = layer.weight_hh
            named[f"layer{index}.bias"] = layer.bias
        return named | {"readout.weight": self.readout_weight, "readout.bias": self.readout_bias}

    def with_tensors(self, tensors: Mapping[str, Array]) -> FloatModel:
        """The same model with other trained values, named as `tensors` names them."""
        layers = tuple(
            replace(
                layer,
                weight_ih=tensors[f"layer{i}.weight_ih"],
                weight_hh=tensors[f"layer{i}.weight_hh"],
                bias=tensors[f"layer{i}.bias"],
            )
            for i, layer in enumerate(self.layers)
        )
        return replace(
            self,
            layers=layers,
            readout_weight=tensors["readout.weight"],
            readout_bias=tensors["readout.bias"],
        )

    def with_thresholds(self, theta_x: float, theta_h: float) -> FloatModel:
        """The same weights with other thresholds in every layer."""
        layers = tuple(replace(layer, theta_x=theta_x, theta_h=theta_h) for layer in self.layers)
        return replace(self, layers=layers)

    def network(self, beta: float = 0.0) -> Network:
        """A float64 reference network with a copy of these weights; `beta` weighs its L1 regulariser."""
        layers = []
        for weights in self.layers:
            layer = CELLS[weights.cell](weights.n_in, weights.n_hidden, weights.theta_x, weights.theta_h, beta=beta)
            bias_ih, bias_hh = weights.torch_biases()
            layer.params = {
                "weight_ih": weights.weight_ih,
                "weight_hh": weights.weight_hh,
                "bias_ih": bias_ih,
                "bias_hh": bias_hh,
            }
            layers.append(layer)
        readout = Readout(self.layers[-1].n_hidden, self.n_outputs, self.readout)
        readout.params = {"weight": self.readout_weight, "bias": self.readout_bias}
        return Network(layers, readout)

    def with_network(self, network: Network) -> FloatModel:
        """The same model with the parameters of a network that `network` made, e.g. after training it."""
        tensors: dict[str, Array] = {}
        for index, layer in enumerate(network.layers):
            params = layer.params
            tensors[f"layer{index}.weight_ih"] = params["weight_ih"].copy()
            tensors[f"layer{index}.weight_hh"] = params["weight_hh"].copy()
            tensors[f"layer{index}.bias"] = LayerWeights.join_biases(layer.cell, params["bias_ih"], params["bias_hh"])
        if network.readout is None:
            raise ModelError("this network has no readout, a model has one; give the network a Readout")
        tensors["readout.weight"] = network.readout.params["weight"].copy()
        tensors["readout.bias"] = network.readout.params["bias"].copy()
        return self.with_tensors(tensors)

    def save(self, path: str | Path) -> None:
        """Write the file; `load` gives back an equal model, and equal models give equal bytes."""
        description = {
            "layers": [{"cell": x.cell, "theta_x": x.theta_x, "theta_h": x.theta_h} for x in self.layers],
            "readout": self.readout,
            "target_scale": self.target_scale.to_dict(),
            "class_names": list(self.class_names),
            "features": self.features.to_dict(),
            "max_steps": self.max_steps,
            "provenance": self.provenance,
        }
        tensors = {name: value.astype(np.float64) for name, value in self.tensors().items()}
        model_file.write(Path(path), model_file.FLOAT, description, tensors)

    @staticmethod
    def load(path: str | Path) -> FloatModel:
        """Read a model.

        Raises
        ------
        ModelError
            If the file is absent, truncated, foreign or inconsistent.
        """
        description, tensors = model_file.read(Path(path), model_file.FLOAT)
        try:
            layers = tuple(
                LayerWeights(
                    cell=entry["cell"],
                    theta_x=float(entry["theta_x"]),
                    theta_h=float(entry["theta_h"]),
                    weight_ih=_take(tensors, f"layer{index}.weight_ih"),
                    weight_hh=_take(tensors, f"layer{index}.weight_hh"),
                    bias=_take(tensors, f"layer{index}.bias"),
                )
                for index, entry in enumerate(description["layers"])
            )
            model = FloatModel(
                layers=layers,
                readout_weight=_take(tensors, "readout.weight"),
                readout_bias=_take(tensors, "readout.bias"),
                class_names=tuple(description["class_names"]),
                features=FeatureConfig.from_dict(description["features"]),
                max_steps=int(description["max_steps"]),
                provenance=dict(description["provenance"]),
                readout=description["readout"],
                target_scale=TargetScale.from_dict(description.get("target_scale")),
            )
        except ModelError as error:
            raise ModelError(f"{path}: {error}") from error
        except (KeyError, TypeError, ValueError, AttributeError, InputError) as error:
            raise ModelError(
                f"{path}: the description does not fit this version of deltatrain ({error!r}); make it anew"
            ) from error
        if extra := sorted(set(tensors) - set(model.tensors())):
            raise ModelError(f"{path} holds tensors that its description does not name: {', '.join(extra)}")
        return model


def _take(tensors: Mapping[str, Any], name: str) -> Array:
    if name not in tensors:
        raise ModelError(f"tensor {name} is missing; make the model anew")
    return np.asarray(tensors[name], dtype=np.float64)
