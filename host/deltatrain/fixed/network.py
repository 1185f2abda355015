"""The whole integer trainer: forward, loss, backward through time, clip, update; as NUMERICS.md defines it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from deltatrain.fixed import scales
from deltatrain.fixed.arithmetic import INT16_LIMIT, INT32_LIMIT, Int64, round_shift, saturate, sqrt_ceil
from deltatrain.fixed.cells import ONE_Q28, multiply
from deltatrain.fixed.layer import BIAS_FRAC_BITS, GRAD_GUARD_BITS, FixedLayer
from deltatrain.fixed.result import SampleResult
from deltatrain.fixed.softmax import cross_entropy
from deltatrain.fixed.update import Stepper
from deltatrain.quant_model import QuantModel
from deltatrain.scale import Scale

D_LOGIT_BITS = 14
# The readout's tensors in the random function.
READOUT_WEIGHT, READOUT_BIAS = 2, 3


class FixedNetwork:
    """Delta layers, one upon the other, with a softmax readout (K classes) at the last frame, trained by SGD."""

    def __init__(self, model: QuantModel) -> None:
        self._model = model
        self.layers = tuple(FixedLayer(layer, index) for index, layer in enumerate(model.layers))
        self.configure(
            learning_rate=model.learning_rate,
            clip=model.clip,
            theta_x=[layer.theta_x for layer in model.layers],
            theta_h=[layer.theta_h for layer in model.layers],
            seed=0,
        )
        self.reset_weights()

    def configure(
        self,
        *,
        learning_rate: Scale,
        clip: Scale,
        theta_x: Sequence[int],
        theta_h: Sequence[int],
        seed: int,
        beta: Scale | None = None,
        step: int = 0,
    ) -> None:
        """Set what may change at run time: a threshold for each layer; no `beta` is 0."""
        self._learning_rate, self._clip = learning_rate, clip
        self._theta_x, self._theta_h = tuple(theta_x), tuple(theta_h)
        self._beta = Scale(0, 0) if beta is None else beta
        self._seed, self._step = seed, step

    def reset_weights(self) -> None:
        """Go back to the model's weights."""
        for layer in self.layers:
            layer.reset_weights()
        self._readout_weight = self._model.readout_weight.astype(np.int64)  # (K, H)
        self._readout_bias = self._model.readout_bias.astype(np.int64)  # (K,)
        self.begin()

    def set_tensor(self, name: str, values: NDArray[Any]) -> None:
        """Overwrite a trained tensor."""
        owner, attribute = self._find(name)
        setattr(owner, attribute, values.astype(np.int64).reshape(getattr(owner, attribute).shape))

    def tensor(self, name: str) -> NDArray[Any]:
        """A copy of a tensor, flat; names as in `deltatrain_core.network.TENSOR_IDS`."""
        owner, attribute = self._find(name)
        wide = "bias" in name or name == "logits"
        return np.asarray(getattr(owner, attribute)).astype(np.int32 if wide else np.int16).ravel()

    def _find(self, name: str) -> tuple[Any, str]:
        """The object and the attribute that hold a tensor."""
        part, _, kind = name.partition(".")
        if part.startswith("layer"):
            attributes = {"weight": "weight", "bias": "bias", "hidden": "h", "cell": "c", "dm": "dm"}
            return self.layers[int(part.removeprefix("layer"))], attributes[kind]
        names = {"readout.weight": "_readout_weight", "readout.bias": "_readout_bias", "logits": "_logits"}
        return self, names[name]

    def begin(self) -> None:
        """Start a sample."""
        for layer in self.layers:
            layer.begin()
        self._logits = np.zeros(self._model.n_classes, np.int64)
        self.result = SampleResult()

    @overload
    def push(self, frames: NDArray[np.int16], want_hidden: Literal[True] = True) -> NDArray[np.int16]: ...
    @overload
    def push(self, frames: NDArray[np.int16], want_hidden: Literal[False]) -> None: ...

    def push(self, frames: NDArray[np.int16], want_hidden: bool = True) -> NDArray[np.int16] | None:
        """Frames (k, n) in, hidden states of the last layer (k, H) Q1.14 out, if wanted."""
        hidden = np.array([self._push(frame.astype(np.int64)) for frame in frames], np.int16)
        return hidden if want_hidden else None

    def _push(self, v: Int64) -> Int64:
        for layer, theta_x, theta_h in zip(self.layers, self._theta_x, self._theta_h, strict=True):
            v = layer.push(v, theta_x, theta_h, self.result)
        self.result.n_steps += 1
        return v

    @property
    def _h(self) -> Int64:
        """What the readout reads."""
        return self.layers[-1].h

    def infer(self) -> SampleResult:
        """Logits (Q16) of the sample so far."""
        acc_frac_bits = self._model.readout_frac_bits + 14
        acc = self._readout_weight @ self._h + self._readout_bias * 2 ** (acc_frac_bits - BIAS_FRAC_BITS)
        self._logits, _ = saturate(round_shift(acc, acc_frac_bits - 16), INT32_LIMIT)
        self.result.predicted = int(np.argmax(self._logits))
        return self.result

    def train(self, label: int) -> SampleResult:
        """One step of SGD on the cross-entropy at the last frame, and the regulariser β Σ|Δh| of every layer."""
        result = self.infer()
        result.loss, d_logits_q30 = cross_entropy([int(z) for z in self._logits], label)
        beta_q30 = int(scales.exact(self._beta) * 2**30)
        largest = max(beta_q30, *(abs(d) for d in d_logits_q30))
        shift = largest.bit_length() - D_LOGIT_BITS if largest else 0
        d_logits = np.array([round_shift(d, shift) for d in d_logits_q30], np.int64)
        result.grad_exponent = shift - 30

        self._backward(d_logits, round_shift(beta_q30, shift - GRAD_GUARD_BITS))
        self._update(d_logits)
        self._step = (self._step + 1) % 2**32
        return result

    def _backward(self, d_logits: Int64, beta: int) -> None:
        """dM_t of every layer and step, time-major: what a layer's inputs get is used by the one below at once."""
        for layer in self.layers:
            layer.begin_backward()
        self.layers[-1].d_h = multiply(
            d_logits @ self._readout_weight, 1, self._model.readout_frac_bits - GRAD_GUARD_BITS, self.result
        )
        for t in reversed(range(self.result.n_steps)):
            for index in reversed(range(len(self.layers))):
                below = self.layers[index - 1] if index else None
                self.layers[index].step_back(t, beta, below, self.result)
        self.result.dm_exponent = max(layer.exponent for layer in self.layers)

    def _step_size(self, d_logits: Int64) -> Scale:
        """Learning rate · min(1, C / B), with B ≥ the norm of the whole gradient."""
        result = self.result
        unit = result.grad_exponent - 14
        bound = Scale(0, 0)
        for layer in self.layers:
            part = scales.ceil(layer.bound(), layer.exponent - GRAD_GUARD_BITS + unit)
            bound = scales.add_ceil(bound, part)
        readout = sqrt_ceil(int(np.sum(d_logits**2))) * sqrt_ceil(int(np.sum(self._h**2)) + ONE_Q28)
        bound = scales.add_ceil(bound, scales.ceil(readout, unit))

        result.bound_m, result.bound_e = bound.m, bound.e
        if scales.exact(bound) <= scales.exact(self._clip):
            return self._learning_rate
        result.clipped = 1
        return scales.divide(scales.multiply(self._learning_rate, self._clip), bound)

    def _update(self, d_logits: Int64) -> None:
        """Every parameter, once."""
        stepper = Stepper(self._step_size(d_logits), self._seed, self._step, self.result)
        exponent = self.result.grad_exponent  # of d_logits
        self._readout_weight = stepper.stepped(
            self._readout_weight,
            np.outer(d_logits, self._h),
            exponent - 14 + self._model.readout_frac_bits,
            READOUT_WEIGHT,
            INT16_LIMIT,
        )
        self._readout_bias = stepper.stepped(
            self._readout_bias, d_logits, exponent + BIAS_FRAC_BITS, READOUT_BIAS, INT32_LIMIT
        )
        for layer in self.layers:
            layer.update(stepper, self.result)
