"""The whole integer trainer: forward, loss, backward through time, clip, update; as NUMERICS.md defines it.

Shapes: T frames, n inputs, H hidden units, v = [x ; h] has n + H entries, K classes. Indices t count from 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from deltatrain.fixed import scales
from deltatrain.fixed.activation import sigmoid_q14, tanh_q14
from deltatrain.fixed.arithmetic import INT16_LIMIT, INT32_LIMIT, Int64, round_shift, saturate, sqrt_ceil
from deltatrain.fixed.rounding import random_bits
from deltatrain.fixed.softmax import cross_entropy
from deltatrain.quant_model import QuantModel
from deltatrain.scale import Scale

ONE_Q14 = 2**14
ONE_Q28 = 2**28
V_LIMIT = 2**14 - 1
BIAS_FRAC_BITS = 24
GRAD_GUARD_BITS = 6
D_LOGIT_BITS = 14
# The tensors' numbers in the random function.
WEIGHT, BIAS, READOUT_WEIGHT, READOUT_BIAS = range(4)


@dataclass(frozen=True)
class Step:
    """What one frame leaves behind for the way back."""

    delta: Int64  # (n + H,), 0 where inactive
    mask: NDArray[np.bool_]  # (n + H,)
    gates: tuple[Int64, Int64, Int64, Int64]  # i, f, g, o: (H,) each, Q14
    c_previous: Int64  # (H,)
    c: Int64  # (H,)


@dataclass
class SampleResult:
    """Counts and outcomes of one sample; the names and meanings are those of `drnn_result_t`."""

    loss: int = 0
    predicted: int = 0
    n_steps: int = 0
    active_x: int = 0
    active_h: int = 0
    macs_forward: int = 0
    macs_backward: int = 0
    macs_gradient: int = 0
    columns_updated: int = 0
    clipped: int = 0
    grad_exponent: int = 0
    dm_exponent: int = 0
    bound_m: int = 0
    bound_e: int = 0
    saturated_h: int = 0
    saturated_c: int = 0
    saturated_grad: int = 0
    saturated_w: int = 0
    underflow_dm: int = 0


class FixedNetwork:
    """One delta LSTM with a softmax readout at the last frame, trained by SGD in integers."""

    def __init__(self, model: QuantModel) -> None:
        self._model = model
        self._layer = model.layers[0]
        self._learning_rate, self._clip = model.learning_rate, model.clip
        self._theta_x, self._theta_h = self._layer.theta_x, self._layer.theta_h
        self._seed, self._step = 0, 0
        layer = self._layer
        self._m_frac_bits = max(layer.wx_frac_bits + layer.x_frac_bits, layer.wh_frac_bits + 14)
        self.reset_weights()

    def configure(
        self, *, learning_rate: Scale, clip: Scale, theta_x: int, theta_h: int, seed: int, step: int = 0
    ) -> None:
        """Set what may change at run time."""
        self._learning_rate, self._clip = learning_rate, clip
        self._theta_x, self._theta_h = theta_x, theta_h
        self._seed, self._step = seed, step

    def reset_weights(self) -> None:
        """Go back to the model's weights."""
        self._weight = self._layer.weight.astype(np.int64)  # (n + H, 4H)
        self._bias = self._layer.bias.astype(np.int64)  # (4H,)
        self._readout_weight = self._model.readout_weight.astype(np.int64)  # (K, H)
        self._readout_bias = self._model.readout_bias.astype(np.int64)  # (K,)
        self.begin()

    def set_tensor(self, name: str, values: NDArray[Any]) -> None:
        """Overwrite a trained tensor."""
        attribute = {
            "layer0.weight": "_weight",
            "layer0.bias": "_bias",
            "readout.weight": "_readout_weight",
            "readout.bias": "_readout_bias",
        }[name]
        setattr(self, attribute, values.astype(np.int64).reshape(getattr(self, attribute).shape))

    def tensor(self, name: str) -> NDArray[Any]:
        """A copy of a tensor, flat; names as in `deltatrain_core.network.TENSOR_IDS`."""
        values, dtype = {
            "layer0.weight": (self._weight, np.int16),
            "layer0.bias": (self._bias, np.int32),
            "readout.weight": (self._readout_weight, np.int16),
            "readout.bias": (self._readout_bias, np.int32),
            "hidden": (self._h, np.int16),
            "cell": (self._c, np.int16),
            "logits": (np.asarray(self._logits), np.int32),
            "dm": (np.asarray(self._dm), np.int16),
        }[name]
        return values.astype(dtype).ravel()

    def begin(self) -> None:
        """Start a sample: v̂ = 0, h = c = 0, M = b."""
        n, n_hidden = self._layer.n_in, self._layer.n_hidden
        self._v_hat = np.zeros(n + n_hidden, np.int64)
        self._h = np.zeros(n_hidden, np.int64)
        self._c = np.zeros(n_hidden, np.int64)
        self._m = self._bias * 2 ** (self._m_frac_bits - BIAS_FRAC_BITS)
        self._history: list[Step] = []
        self._logits = np.zeros(self._model.n_classes, np.int64)
        self._dm = np.zeros((0, 4 * n_hidden), np.int64)
        self.result = SampleResult()

    @overload
    def push(self, frames: NDArray[np.int16], want_hidden: Literal[True] = True) -> NDArray[np.int16]: ...
    @overload
    def push(self, frames: NDArray[np.int16], want_hidden: Literal[False]) -> None: ...

    def push(self, frames: NDArray[np.int16], want_hidden: bool = True) -> NDArray[np.int16] | None:
        """Frames (k, n) in, hidden states (k, H) Q1.14 out, if wanted."""
        hidden = np.array([self._push(frame.astype(np.int64)) for frame in frames], np.int16)
        return hidden if want_hidden else None

    def _push(self, x: Int64) -> Int64:
        layer, n = self._layer, self._layer.n_in
        v = np.concatenate([x, self._h])
        difference = v - self._v_hat
        theta = np.concatenate([np.full(n, self._theta_x), np.full(layer.n_hidden, self._theta_h)])
        mask = (np.abs(difference) >= theta) & (difference != 0)
        delta = np.where(mask, difference, 0)
        self._v_hat = np.where(mask, v, self._v_hat)

        # M += W Δ, exactly: the two parts are aligned to M's fraction bits by shifts to the left.
        x_unit = 2 ** (self._m_frac_bits - layer.wx_frac_bits - layer.x_frac_bits)
        h_unit = 2 ** (self._m_frac_bits - layer.wh_frac_bits - 14)
        self._m = self._m + delta[:n] @ self._weight[:n] * x_unit + delta[n:] @ self._weight[n:] * h_unit
        self._lstm_cell(delta, mask)

        result = self.result
        active_x, active_h = int(mask[:n].sum()), int(mask[n:].sum())
        result.active_x += active_x
        result.active_h += active_h
        result.macs_forward += 4 * layer.n_hidden * (active_x + active_h)
        result.n_steps += 1
        return self._h

    def _lstm_cell(self, delta: Int64, mask: NDArray[np.bool_]) -> None:
        """c_t = f c_{t−1} + i g and h_t = o tanh c_t, each with one rounding."""
        c_frac_bits = self._layer.c_frac_bits
        m_i, m_f, m_g, m_o = np.split(self._m, 4)
        i, f, o = (sigmoid_q14(round_shift(m, self._m_frac_bits - 13)) for m in (m_i, m_f, m_o))
        g = tanh_q14(round_shift(m_g, self._m_frac_bits - 14))
        kept = f * self._c * 2 ** (14 - c_frac_bits)  # Q28
        c, saturated_c = saturate(round_shift(kept + i * g, 28 - c_frac_bits), INT16_LIMIT)
        h, saturated_h = saturate(round_shift(o * tanh_q14(c * 2 ** (14 - c_frac_bits)), 14), V_LIMIT)
        self._history.append(Step(delta, mask, (i, f, g, o), self._c, c))
        self._c, self._h = c, h
        self.result.saturated_c += saturated_c
        self.result.saturated_h += saturated_h

    def infer(self) -> SampleResult:
        """Logits (Q16) of the sample so far."""
        acc_frac_bits = self._model.readout_frac_bits + 14
        acc = self._readout_weight @ self._h + self._readout_bias * 2 ** (acc_frac_bits - BIAS_FRAC_BITS)
        self._logits, _ = saturate(round_shift(acc, acc_frac_bits - 16), INT32_LIMIT)
        self.result.predicted = int(np.argmax(self._logits))
        return self.result

    def train(self, label: int) -> SampleResult:
        """One step of SGD on the cross-entropy at the last frame."""
        result = self.infer()
        result.loss, d_logits_q30 = cross_entropy([int(z) for z in self._logits], label)
        largest = max(abs(d) for d in d_logits_q30)
        shift = largest.bit_length() - D_LOGIT_BITS if largest else 0
        d_logits = np.array([round_shift(d, shift) for d in d_logits_q30], np.int64)
        result.grad_exponent = shift - 30

        self._backward(d_logits)
        self._update(d_logits)
        self._step = (self._step + 1) % 2**32
        return result

    def _multiply(self, a: Int64, b: Int64 | int, frac_bits: int) -> Int64:
        """One factor of a carried gradient: a · b / 2^frac_bits, rounded, saturated to int32 and counted."""
        product, saturated = saturate(round_shift(a * b, frac_bits), INT32_LIMIT)
        self.result.saturated_grad += saturated
        return product

    def _add(self, a: Int64, b: Int64) -> Int64:
        total, saturated = saturate(a + b, INT32_LIMIT)
        self.result.saturated_grad += saturated
        return total

    def _backward(self, d_logits: Int64) -> None:
        """dM_t of every step, as int16 with one exponent for the sample."""
        layer, n = self._layer, self._layer.n_in
        n_hidden = layer.n_hidden
        d_h = self._multiply(d_logits @ self._readout_weight, 1, self._model.readout_frac_bits - GRAD_GUARD_BITS)
        d_c = np.zeros(n_hidden, np.int64)
        d_v_hat = np.zeros(n_hidden, np.int64)
        dm = np.zeros(4 * n_hidden, np.int64)  # carried: dM_{t+1}, int32
        stored = np.zeros((len(self._history), 4 * n_hidden), np.int64)
        exponent = 0

        for t in reversed(range(len(self._history))):
            step = self._history[t]
            local, d_c = self._lstm_cell_backward(step, d_h, d_c)
            dm = self._add(dm, local)

            needed = int16_exponent(int(np.abs(dm).max()))
            if needed > exponent:
                stored[t + 1 :] = round_shift(stored[t + 1 :], needed - exponent)
                exponent = needed
            stored[t] = round_shift(dm, exponent)
            self.result.underflow_dm += int(np.count_nonzero((stored[t] == 0) & (dm != 0)))

            if t > 0:
                active = step.mask[n:]
                d_delta = np.zeros(n_hidden, np.int64)
                d_delta[active] = self._multiply(self._weight[n:][active] @ stored[t], 1, layer.wh_frac_bits - exponent)
                d_h = np.where(active, self._add(d_v_hat, d_delta), 0)
                d_v_hat = np.where(active, -d_delta, d_v_hat)
                self.result.macs_backward += 4 * n_hidden * int(active.sum())
        self._dm = stored
        self.result.dm_exponent = exponent

    def _lstm_cell_backward(self, step: Step, d_h: Int64, d_c: Int64) -> tuple[Int64, Int64]:
        """The gates' own gradients (4H,), and dL/dc_{t−1}."""
        i, f, g, o = step.gates
        c_frac_bits = self._layer.c_frac_bits
        tanh_c = tanh_q14(step.c * 2 ** (14 - c_frac_bits))
        d_o = self._multiply(self._multiply(d_h, tanh_c, 14), o * (ONE_Q14 - o), 28)
        d_c = self._add(d_c, self._multiply(self._multiply(d_h, o, 14), ONE_Q28 - tanh_c * tanh_c, 28))
        d_i = self._multiply(self._multiply(d_c, g, 14), i * (ONE_Q14 - i), 28)
        d_f = self._multiply(self._multiply(d_c, f * (ONE_Q14 - f), 28), step.c_previous, c_frac_bits)
        d_g = self._multiply(self._multiply(d_c, i, 14), ONE_Q28 - g * g, 28)
        return np.concatenate([d_i, d_f, d_g, d_o]), self._multiply(d_c, f, 14)

    def _step_size(self, d_logits: Int64) -> Scale:
        """Learning rate · min(1, C / B), with B ≥ the norm of the whole gradient."""
        n, result = self._layer.n_in, self.result
        recurrent = 0
        for t, step in enumerate(self._history):
            x_squared, h_squared = int(np.sum(step.delta[:n] ** 2)), int(np.sum(step.delta[n:] ** 2))
            delta_squared = x_squared * 4 ** (14 - self._layer.x_frac_bits) + h_squared + (ONE_Q28 if t == 0 else 0)
            recurrent += sqrt_ceil(int(np.sum(self._dm[t] ** 2))) * sqrt_ceil(delta_squared)
        readout = sqrt_ceil(int(np.sum(d_logits**2))) * sqrt_ceil(int(np.sum(self._h**2)) + ONE_Q28)

        unit = result.grad_exponent - 14
        bound = scales.add_ceil(
            scales.ceil(recurrent, result.dm_exponent - GRAD_GUARD_BITS + unit), scales.ceil(readout, unit)
        )
        result.bound_m, result.bound_e = bound.m, bound.e
        if scales.exact(bound) <= scales.exact(self._clip):
            return self._learning_rate
        result.clipped = 1
        return scales.divide(scales.multiply(self._learning_rate, self._clip), bound)

    def _update(self, d_logits: Int64) -> None:
        """Every parameter, once; columns of W without an event have no gradient and stay."""
        layer, n, result = self._layer, self._layer.n_in, self.result
        size = self._step_size(d_logits)
        deltas = np.array([step.delta for step in self._history])  # (T, n + H)
        masks = np.array([step.mask for step in self._history])

        exponent = result.grad_exponent  # of d_logits
        self._readout_weight = self._stepped(
            self._readout_weight,
            np.outer(d_logits, self._h),
            size.m,
            -(size.e + exponent - 14 + self._model.readout_frac_bits),
            READOUT_WEIGHT,
            INT16_LIMIT,
        )
        self._readout_bias = self._stepped(
            self._readout_bias,
            d_logits,
            size.m,
            -(size.e + exponent + BIAS_FRAC_BITS),
            READOUT_BIAS,
            INT32_LIMIT,
        )

        exponent += result.dm_exponent - GRAD_GUARD_BITS  # of the stored dM
        gradient = deltas.T @ self._dm  # (n + H, 4H): sums over time, exact
        shifts = np.empty((n + layer.n_hidden, 1), np.int64)
        shifts[:n] = -(size.e + exponent - layer.x_frac_bits + layer.wx_frac_bits)
        shifts[n:] = -(size.e + exponent - 14 + layer.wh_frac_bits)
        touched = np.any(masks, axis=0, keepdims=True).T
        self._weight = self._stepped(self._weight, gradient, size.m, shifts, WEIGHT, INT16_LIMIT, changes=touched)
        result.columns_updated = int(touched.sum())
        result.macs_gradient = 4 * layer.n_hidden * int(masks.sum())
        self._bias = self._stepped(
            self._bias, self._dm[0], size.m, -(size.e + exponent + BIAS_FRAC_BITS), BIAS, INT32_LIMIT
        )

    def _stepped(
        self,
        values: Int64,
        sums: Int64,
        m: int,
        shift: Any,
        tensor: int,
        limit: int,
        changes: NDArray[np.bool_] | bool = True,
    ) -> Int64:
        """Where `changes`: values − sums · m / 2^shift, rounded stochastically with 16 random bits, saturated."""
        random = random_bits(self._seed, self._step, tensor, values.size).reshape(values.shape)
        quotient = stochastic_quotient(sums * m, np.broadcast_to(shift, values.shape), random)
        stepped, saturated = saturate(np.where(changes, values - quotient, 0), limit)
        self.result.saturated_w += saturated
        return np.where(changes, stepped, values)


def int16_exponent(largest: int) -> int:
    """The smallest e ≥ 0 with round(largest / 2^e) ≤ 32767."""
    exponent = 0
    while round_shift(largest, exponent) > INT16_LIMIT:
        exponent += 1
    return exponent


def stochastic_quotient(products: Int64, shifts: Int64, random: Int64) -> Int64:
    """floor(products / 2^shift + random / 2^16), in unbounded integers where a shift is out of the ordinary."""
    low, high = int(shifts.min()), int(shifts.max())
    if low >= 16 and high <= 62:
        return (products + (random << (shifts - 16))) >> shifts

    def one(product: int, shift: int, bits: int) -> int:
        if shift <= 0:
            return product << -shift
        product, shift = product >> max(0, shift - 62), min(shift, 62)
        addend = bits << (shift - 16) if shift >= 16 else bits >> (16 - shift)
        return (product + addend) >> shift

    flat = [
        one(int(p), int(s), int(r)) for p, s, r in zip(products.ravel(), shifts.ravel(), random.ravel(), strict=True)
    ]
    return np.array(flat, np.int64).reshape(products.shape)
