"""Training as the device does it, in float: batch 1, no momentum, one bias an accumulator, bounded-norm clip.

The exact norm of the gradient would cost the device a second pass, so it clips by a bound that is known
before any weight changes. With Δ the transmitted deltas, and the bias one more column whose Δ is 1 at t = 1,

    B = Σ_layers Σ_t ‖dM_t‖ √(‖Δx_t‖² + ‖Δh_t‖² + [t=1])  +  Σ_t ‖dout_t‖ √(‖h_t‖² + 1)  ≥  ‖gradient‖ ,

(the last sum over the frames the readout judges), and every parameter moves by −lr · min(1, C/B) · gradient.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from deltatrain.errors import InputError
from deltatrain.reference.layers import DeltaLayer, LayerGradients, LayerTrace
from deltatrain.reference.network import LossAndGradients, Network
from deltatrain.reference.operations import OperationCount, count_operations
from deltatrain.reference.parameters import Array

DEFAULT_LEARNING_RATE = 0.16
"""Step size of personalisation; chosen with `tools/tune_personal.py`, as the clip is (DESIGN.md has the table)."""

DEFAULT_CLIP = 2.0
"""C of the bounded-norm clip."""


@dataclass(frozen=True)
class SgdStep:
    """What one training step did.

    Attributes
    ----------
    loss : float
        Before the update.
    out : ndarray
        Logits (outputs) before the update.
    bound : float
        B ≥ the norm of the gradient over all trained parameters.
    scale : float
        min(1, C/B), which multiplied the learning rate.
    operations : OperationCount
        MACs of the recurrent layers.
    """

    loss: float
    out: Array
    bound: float
    scale: float
    operations: OperationCount

    @property
    def prediction(self) -> int:
        """Index of the largest logit (for a readout at the last step)."""
        return int(np.argmax(self.out))


def layer_bound(gradients: LayerGradients, trace: LayerTrace) -> float:
    """Σ_t ‖dM_t‖ √(‖Δx_t‖² + ‖Δh_t‖² + [t = 1]) ≥ the norm of one layer's gradient."""
    columns = (trace.delta_x**2).sum(axis=1) + (trace.delta_h**2).sum(axis=1)
    columns[0] += 1.0
    return float((np.linalg.norm(gradients.d_accumulators, axis=1) * np.sqrt(columns)).sum())


def gradient_bound(result: LossAndGradients, kind: str) -> float:
    """B over all layers and the readout; `kind` is the readout's, and says which frames it read."""
    of_layers = sum(layer_bound(*pair) for pair in zip(result.layers, result.trace.layers, strict=True))
    read = result.trace.h[-1:] if kind == "last" else result.trace.h
    d_out = np.atleast_2d(result.d_out)
    of_readout = np.linalg.norm(d_out, axis=1) * np.sqrt((read**2).sum(axis=1) + 1.0)
    return of_layers + float(of_readout.sum())


def trained_bias_rows(layer: DeltaLayer) -> slice:
    """Rows of bias_hh that have an accumulator of their own: the GRU's n gate, else none.

    All other accumulators are started by bias_ih + bias_hh; training both would move them at twice the rate.
    """
    start = 2 * layer.n_hidden if layer.cell == "gru" else layer.n_gates * layer.n_hidden
    return slice(start, None)


class SgdTrainer:
    """Batch-1 SGD over a network, one sample a call; the network's parameters change in place.

    Parameters
    ----------
    network : Network
        With a readout.
    learning_rate, clip : float
        lr and C; both positive and finite.

    Raises
    ------
    InputError
        If there is no readout, or lr or C is out of range.
    """

    def __init__(
        self,
        network: Network,
        learning_rate: float = DEFAULT_LEARNING_RATE,
        clip: float = DEFAULT_CLIP,
    ) -> None:
        for name, value in (("learning_rate", learning_rate), ("clip", clip)):
            if not (np.isfinite(value) and value > 0):
                raise InputError(f"{name} is {value}; it must be a finite number above 0")
        if network.readout is None:
            raise InputError("training needs a loss; give the network a Readout")
        self.network, self.learning_rate, self.clip = network, float(learning_rate), float(clip)
        self._readout = network.readout

    def step(self, x: npt.ArrayLike, target: npt.ArrayLike) -> SgdStep:
        """Forward, loss, backward, clip and update on one sample.

        Parameters
        ----------
        x : array_like, shape (T, n_in)
        target : int, or array_like (T,) or (T, n_out)
            As the readout's loss takes it.
        """
        result = self.network.loss_and_gradients(x, target)
        bound = gradient_bound(result, self._readout.kind)
        scale = min(1.0, self.clip / bound) if bound > 0 else 1.0
        self._update(result, self.learning_rate * scale)
        return SgdStep(
            loss=result.loss,
            out=result.out,
            bound=bound,
            scale=scale,
            operations=count_operations(self.network.layers, result.trace),
        )

    def _update(self, result: LossAndGradients, rate: float) -> None:
        for layer, gradients in zip(self.network.layers, result.layers, strict=True):
            for name in ("weight_ih", "weight_hh", "bias_ih"):
                layer.params[name] -= rate * gradients.params[name]
            rows = trained_bias_rows(layer)
            layer.params["bias_hh"][rows] -= rate * gradients.params["bias_hh"][rows]
        for name in ("weight", "bias"):
            self._readout.params[name] -= rate * result.grads[f"readout.{name}"]
