"""Stacks of delta layers with a readout, their losses, and gradients of the whole by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from deltatrain.errors import InputError
from deltatrain.reference.layers import DeltaLayer, LayerGradients, LayerTrace
from deltatrain.reference.parameters import Array, Parameters, as_finite

READOUT_KINDS = ("last", "frames", "regression")
"""Cross-entropy at the last step; cross-entropy at every frame; squared error at every frame."""


def softmax_cross_entropy(logits: npt.ArrayLike, label: int) -> tuple[float, Array]:
    """Cross-entropy of one label, and its gradient p − 1_label.

    Parameters
    ----------
    logits : array_like, shape (n_classes,)
    label : int
        0 to n_classes − 1.

    Returns
    -------
    loss : float
        In nats.
    d_logits : ndarray, shape (n_classes,)
    """
    logits = as_finite("logits", logits, (None,))
    if int(label) != label or not 0 <= label < len(logits):
        raise InputError(f"label {label} is out of range; the classes are 0 to {len(logits) - 1}")
    shifted = logits - logits.max()
    log_sum = np.log(np.exp(shifted).sum())
    d_logits = np.exp(shifted - log_sum)
    d_logits[int(label)] -= 1.0
    return float(log_sum - shifted[int(label)]), d_logits


def frames_loss(logits: npt.ArrayLike, labels: npt.ArrayLike) -> tuple[float, Array]:
    """Cross-entropy at every frame, averaged over frames; logits (T, n_classes), labels (T,), −1 for no target."""
    logits = as_finite("logits", logits, (None, None))
    labels = as_finite("labels", labels, (len(logits),))
    judged = labels != -1
    if not judged.any():
        raise InputError("no frame has a label; give at least one")
    losses, gradient = [], np.zeros_like(logits)
    for t in np.flatnonzero(judged):
        loss, gradient[t] = softmax_cross_entropy(logits[t], labels[t])
        losses.append(loss)
    return float(np.mean(losses)), gradient / len(losses)


def regression_loss(outputs: npt.ArrayLike, targets: npt.ArrayLike) -> tuple[float, Array]:
    """Squared error averaged over frames and outputs; both arguments (T, n_out)."""
    outputs = as_finite("outputs", outputs, (None, None))
    targets = as_finite("targets", targets, outputs.shape)
    error = outputs - targets
    return float((error**2).mean()), 2.0 * error / error.size


class Readout:
    """A linear layer on the hidden state of the top layer, and the loss that goes with it.

    Parameters
    ----------
    n_hidden, n_out : int
        Size of the top layer; number of classes, or of values to predict.
    kind : {"last", "frames", "regression"}
        Where it reads and which loss it has.
    seed : int
        Of the initial parameters.
    """

    def __init__(self, n_hidden: int, n_out: int, kind: str = "last", *, seed: int = 0) -> None:
        if kind not in READOUT_KINDS:
            raise InputError(f"readout {kind!r} is unknown; choose one of {', '.join(READOUT_KINDS)}")
        if n_hidden < 1 or n_out < 1:
            raise InputError(f"a readout {n_hidden}→{n_out} is empty; both sizes must be at least 1")
        self.n_hidden, self.n_out, self.kind = int(n_hidden), int(n_out), kind
        rng, bound = np.random.default_rng(seed), self.n_hidden**-0.5
        self._params = Parameters(
            {
                "weight": rng.uniform(-bound, bound, (self.n_out, self.n_hidden)),
                "bias": rng.uniform(-bound, bound, self.n_out),
            }
        )

    @property
    def params(self) -> Parameters:
        """weight [n_out, H], bias [n_out]; assignable, checked."""
        return self._params

    @params.setter
    def params(self, values: Mapping[str, npt.ArrayLike]) -> None:
        self._params.assign(values)

    def forward(self, h: Array) -> Array:
        """Outputs (n_out,) of the last step for kind "last", else (T, n_out); h is (T, H)."""
        read = h[-1] if self.kind == "last" else h
        return np.asarray(read @ self.params["weight"].T + self.params["bias"])

    def backward(self, h: Array, d_out: npt.ArrayLike) -> tuple[dict[str, Array], Array]:
        """Gradients of weight and bias, and dL/dh (T, H), from dL/d(outputs)."""
        shape = (self.n_out,) if self.kind == "last" else (len(h), self.n_out)
        rows = np.atleast_2d(as_finite("d_out", d_out, shape))
        read = h[-1:] if self.kind == "last" else h
        dh = np.zeros_like(h)
        dh[len(h) - len(read) :] = rows @ self.params["weight"]
        return {"weight": rows.T @ read, "bias": rows.sum(axis=0)}, dh

    def loss(self, out: npt.ArrayLike, target: npt.ArrayLike) -> tuple[float, Array]:
        """Loss of these outputs and its gradient; target is a label, labels (T,), or values (T, n_out)."""
        if self.kind == "frames":
            return frames_loss(out, target)
        if self.kind == "regression":
            return regression_loss(out, target)
        return softmax_cross_entropy(out, int(as_finite("label", target, ())))


class _NetworkParameters(MutableMapping[str, Array]):
    """The parameters of all parts under one name each: layer0.weight_ih, …, readout.weight, readout.bias."""

    def __init__(self, parts: Mapping[str, Parameters]) -> None:
        self._parts = parts

    def _find(self, name: str) -> tuple[Parameters, str]:
        part, _, key = name.partition(".")
        if part not in self._parts or key not in self._parts[part]:
            raise KeyError(name)
        return self._parts[part], key

    def __getitem__(self, name: str) -> Array:
        part, key = self._find(name)
        return part[key]

    def __setitem__(self, name: str, value: npt.ArrayLike) -> None:
        part, key = self._find(name)
        part[key] = value

    def __delitem__(self, name: str) -> None:
        part, key = self._find(name)
        del part[key]

    def __iter__(self) -> Iterator[str]:
        return (f"{part}.{key}" for part, params in self._parts.items() for key in params)

    def __len__(self) -> int:
        return sum(len(params) for params in self._parts.values())


@dataclass(frozen=True)
class NetworkTrace:
    """What `Network.forward` leaves: one trace a layer, and the top layer's hidden states h (T, H)."""

    layers: tuple[LayerTrace, ...]
    h: Array


@dataclass(frozen=True)
class LossAndGradients:
    """One sample's loss and all that follows from it.

    Attributes
    ----------
    loss : float
        Of the readout, plus every layer's regulariser.
    out : ndarray
        The outputs (logits) that were judged.
    d_out : ndarray
        dL/d(outputs).
    grads : dict
        By name, as `Network.params`.
    dx : ndarray, shape (T, n_in)
    layers : tuple of LayerGradients
        Per layer, with dM_t.
    trace : NetworkTrace
        Of the forward pass.
    """

    loss: float
    out: Array
    d_out: Array
    grads: dict[str, Array]
    dx: Array
    layers: tuple[LayerGradients, ...]
    trace: NetworkTrace


class Network:
    """Delta layers one upon the other, and a readout.

    Parameters
    ----------
    layers : sequence of DeltaLayer
        From the input upwards; each layer's n_in is the n_hidden below it.
    readout : Readout or None
        None leaves the hidden states of the top layer as outputs; `loss` is then undefined.

    Raises
    ------
    InputError
        If there is no layer, or the sizes do not follow from each other.
    """

    def __init__(self, layers: Sequence[DeltaLayer], readout: Readout | None = None) -> None:
        if not layers:
            raise InputError("a network needs at least one layer; none was given")
        sizes = [layers[0].n_in, *(layer.n_hidden for layer in layers)]
        for index, layer in enumerate(layers):
            if layer.n_in != sizes[index]:
                raise InputError(f"layer{index} takes {layer.n_in} inputs, but below it are {sizes[index]} units")
        if readout is not None and readout.n_hidden != sizes[-1]:
            raise InputError(f"the readout takes {readout.n_hidden} inputs, but below it are {sizes[-1]} units")
        self.layers, self.readout = tuple(layers), readout

    @property
    def params(self) -> MutableMapping[str, Array]:
        """Every parameter by name: layer0.weight_ih, …, readout.weight, readout.bias; assignable, checked."""
        parts = {f"layer{index}": layer.params for index, layer in enumerate(self.layers)}
        if self.readout is not None:
            parts["readout"] = self.readout.params
        return _NetworkParameters(parts)

    @params.setter
    def params(self, values: Mapping[str, Array]) -> None:
        params = self.params
        if set(values) != set(params):
            raise InputError(f"expected the parameters {', '.join(params)}; got {', '.join(values) or 'none'}")
        for name, value in values.items():
            params[name] = value

    def forward(self, x: npt.ArrayLike) -> tuple[Array, NetworkTrace]:
        """Run one sequence x (T, n_in).

        Returns
        -------
        out : ndarray
            (n_out,) for a readout at the last step, (T, n_out) at every frame, (T, H) without a readout.
        trace : NetworkTrace
        """
        h = as_finite("x", x, (None, self.layers[0].n_in))
        traces = []
        for layer in self.layers:
            h, trace = layer.forward(h)
            traces.append(trace)
        out = h if self.readout is None else self.readout.forward(h)
        return out, NetworkTrace(tuple(traces), h)

    def backward(self, trace: NetworkTrace, d_out: npt.ArrayLike) -> tuple[dict[str, Array], Array]:
        """Gradients by name, and dx (T, n_in), from dL/d(outputs) in the shape that `forward` gave."""
        grads, layers = self._gradients(trace, d_out)
        return grads, layers[0].dx

    def loss(self, out: npt.ArrayLike, target: npt.ArrayLike) -> tuple[float, Array]:
        """Loss of the readout and dL/d(outputs); a label, labels (T,), or values (T, n_out)."""
        if self.readout is None:
            raise InputError("this network has no readout, so no loss; give it a Readout")
        return self.readout.loss(out, target)

    def regulariser(self, trace: NetworkTrace) -> float:
        """Sum of the layers' β Σ_t |Δh_t|."""
        return sum(layer.regulariser(part) for layer, part in zip(self.layers, trace.layers, strict=True))

    def loss_and_gradients(self, x: npt.ArrayLike, target: npt.ArrayLike) -> LossAndGradients:
        """Forward, loss and backward of one sample."""
        out, trace = self.forward(x)
        loss, d_out = self.loss(out, target)
        grads, layers = self._gradients(trace, d_out)
        return LossAndGradients(
            loss=loss + self.regulariser(trace),
            out=out,
            d_out=d_out,
            grads=grads,
            dx=layers[0].dx,
            layers=layers,
            trace=trace,
        )

    def _gradients(
        self, trace: NetworkTrace, d_out: npt.ArrayLike
    ) -> tuple[dict[str, Array], tuple[LayerGradients, ...]]:
        grads: dict[str, Array] = {}
        if self.readout is None:
            dh = as_finite("d_out", d_out, trace.h.shape)
        else:
            of_readout, dh = self.readout.backward(trace.h, d_out)
            grads = {f"readout.{name}": value for name, value in of_readout.items()}
        of_layers: list[LayerGradients] = []
        for layer, part in zip(reversed(self.layers), reversed(trace.layers), strict=True):
            of_layers.insert(0, layer.gradients(part, dh))
            dh = of_layers[0].dx
        for index, gradients in enumerate(of_layers):
            grads |= {f"layer{index}.{name}": value for name, value in gradients.params.items()}
        return {name: grads[name] for name in self.params}, tuple(of_layers)
