"""The whole integer trainer: forward, loss, backward through time, clip, update; as NUMERICS.md defines it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from deltatrain.errors import InputError, SampleRefused
from deltatrain.exemplars import Exemplars
from deltatrain.fixed import scales
from deltatrain.fixed.arithmetic import Int64
from deltatrain.fixed.cells import add
from deltatrain.fixed.layer import GRAD_GUARD_BITS, FixedLayer
from deltatrain.fixed.readout import FixedReadout, targets_of
from deltatrain.fixed.result import SampleResult
from deltatrain.fixed.rounding import draw
from deltatrain.fixed.update import Stepper
from deltatrain.quant_model import QuantModel
from deltatrain.scale import Scale


class FixedNetwork:
    """Delta layers, one upon the other, and a readout, trained by SGD."""

    def __init__(self, model: QuantModel) -> None:
        self._model = model
        self.n_refused = 0  # samples dropped so far because their events exceeded the budget
        self.layers = tuple(FixedLayer(layer, index) for index, layer in enumerate(model.layers))
        self.readout = FixedReadout(model)
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
        self.readout.reset_weights()
        self.begin()

    def set_tensor(self, name: str, values: NDArray[Any]) -> None:
        """Overwrite a trained tensor."""
        owner, attribute = self._find(name)
        setattr(owner, attribute, values.astype(np.int64).reshape(getattr(owner, attribute).shape))

    def tensor(self, name: str) -> NDArray[Any]:
        """A copy of a tensor, flat; names as in `deltatrain_core.network.TENSOR_IDS`."""
        if name.endswith(".dm"):  # as much of it as is held
            layer, _ = self._find(name)
            return np.asarray(layer.dm[: self._model.memory.window(self._model.max_steps)]).astype(np.int16).ravel()
        owner, attribute = self._find(name)
        wide = "bias" in name or name == "logits"
        return np.asarray(getattr(owner, attribute)).astype(np.int32 if wide else np.int16).ravel()

    def _find(self, name: str) -> tuple[Any, str]:
        """The object and the attribute that hold a tensor."""
        part, _, kind = name.partition(".")
        if part.startswith("layer"):
            attributes = {"weight": "weight", "bias": "bias", "hidden": "h", "cell": "c", "dm": "dm"}
            return self.layers[int(part.removeprefix("layer"))], attributes[kind]
        return self.readout, kind or part

    def begin(self) -> None:
        """Start a sample: its thresholds are those of now."""
        self._thresholds = tuple(zip(self._theta_x, self._theta_h, strict=True))
        for layer in self.layers:
            layer.begin()
        self.readout.begin()
        self.result = SampleResult()

    @overload
    def push(
        self, frames: NDArray[np.int16], want_hidden: Literal[True] = True, targets: NDArray[np.int32] | None = None
    ) -> NDArray[np.int16]: ...
    @overload
    def push(
        self, frames: NDArray[np.int16], want_hidden: Literal[False], targets: NDArray[np.int32] | None = None
    ) -> None: ...

    def push(
        self, frames: NDArray[np.int16], want_hidden: bool = True, targets: NDArray[np.int32] | None = None
    ) -> NDArray[np.int16] | None:
        """Frames (k, n) in, hidden states of the last layer (k, H) Q1.14 out, if wanted.

        targets : classes (k,), below 0 for none, or values (k, K) Q16, NO_VALUE for none.
        """
        hidden = []
        for frame, target in zip(frames, targets_of(targets, len(frames)), strict=True):
            hidden.append(self._push(frame.astype(np.int64)))
            if target is not None:
                self.readout.judge(self.result.n_steps - 1, hidden[-1], target, self.result)
        return np.array(hidden, np.int16).reshape(len(frames), -1) if want_hidden else None

    def _push(self, v: Int64) -> Int64:
        memory, t = self._model.memory, self.result.n_steps
        window = memory.window(self._model.max_steps)
        for layer, (theta_x, theta_h) in zip(self.layers, self._thresholds, strict=True):
            v = layer.push(v, theta_x, theta_h, self.result)
            room = memory.max_events(layer.v_hat.size, self._model.max_steps)
            if memory.event_budget and layer.n_events(t - t % window) > room:
                self.n_refused += 1
                self.begin()
                raise SampleRefused(f"frame {t} of the sample has more events than the budget of {room} holds")
        self.result.n_steps += 1
        return v

    def infer(self) -> SampleResult:
        """Outputs (Q16) at the last frame, and the loss over the targets so far."""
        self.readout.forward(self.layers[-1].h)
        self.result.loss = self.readout.mean_loss(self.result)
        self.result.predicted = int(np.argmax(self.readout.logits))
        return self.result

    def train(self, label: int) -> SampleResult:
        """One step of SGD on the cross-entropy at the last frame, and the regulariser β Σ|Δh| of every layer."""
        result = self.infer()
        self.readout.make_room(self._beta, 1, result)  # before the target, so that its gradient is rounded once
        self.readout.judge(result.n_steps - 1, self.layers[-1].h, label, result)
        return self._learn()

    def learn(self) -> SampleResult:
        """One step of SGD on the mean loss of the frames that were given a target, and the regulariser."""
        self.infer()
        return self._learn()

    def _learn(self) -> SampleResult:
        result = self.result
        result.loss = self.readout.mean_loss(result)
        self._backward(self.readout.make_room(self._beta, self.readout.n_errors(result), result))
        self._update()
        memory = self._model.memory
        if memory.kind == "checkpoints":
            # The way back is gone twice.
            recomputed = sum(layer.recomputed_macs(memory.segment_steps) for layer in self.layers)
            result.macs_recomputed = recomputed + result.macs_backward
        self._step = (self._step + 1) % 2**32
        return result

    def replay_next(self) -> int:
        """Number of the stored exemplar that `replay` would take now."""
        return draw(self._seed, self._step, len(self._exemplars))

    def replay(self) -> SampleResult:
        """One step of SGD on the stored exemplar whose turn it is."""
        number = self.replay_next()
        targets = self._exemplars.targets(number, self._model.readout, self._model.n_outputs)
        self.begin()
        self.push(self._exemplars.frames(number), want_hidden=False, targets=targets)
        return self.train(int(self._exemplars.labels[number])) if targets is None else self.learn()

    @property
    def _exemplars(self) -> Exemplars:
        if self._model.replay is None:
            raise InputError("the model keeps no exemplars; give `quantize` bytes for them by --replay")
        return self._model.replay

    def _backward(self, beta: int) -> None:
        """dM_t of every layer and step, time-major: what a layer's inputs get is used by the one below at once."""
        self.readout.begin_backward()
        for layer in self.layers:
            layer.begin_backward()
        top = self.layers[-1]
        for t in reversed(range(self.result.n_steps)):
            top.d_h = add(top.d_h, self.readout.step_back(t, top.history[t].h, self.result), self.result)
            for index in reversed(range(len(self.layers))):
                below = self.layers[index - 1] if index else None
                self.layers[index].step_back(t, beta, below, self.result)
        self.result.dm_exponent = max(layer.exponent for layer in self.layers)

    def _step_size(self) -> Scale:
        """Learning rate / N · min(1, N C / B), with B ≥ the norm of the gradient summed over N errors."""
        result = self.result
        unit = result.grad_exponent - 14
        bound = Scale(0, 0)
        for layer in self.layers:
            part = scales.ceil(layer.bound(), layer.exponent - GRAD_GUARD_BITS + unit)
            bound = scales.add_ceil(bound, part)
        bound = scales.add_ceil(bound, scales.ceil(self.readout.bound(), unit))

        result.bound_m, result.bound_e = bound.m, bound.e
        n = scales.ceil(self.readout.n_errors(result), 0)
        if scales.exact(bound) <= scales.exact(scales.multiply(self._clip, n)):
            return scales.divide(self._learning_rate, n)
        result.clipped = 1
        return scales.divide(scales.multiply(self._learning_rate, self._clip), bound)

    def _update(self) -> None:
        """Every parameter, once."""
        stepper = Stepper(self._step_size(), self._seed, self._step, self.result)
        self.readout.update(stepper, self.result)
        for layer in self.layers:
            layer.update(stepper, self.result)
