"""One recurrent layer in integers: forward, backward through time, its part of the norm's bound, its update.

Shapes: T frames, n inputs, H hidden units, G gates and A accumulators of H entries; v = [x ; h] has n + H entries.
Indices t count from 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deltatrain.fixed.arithmetic import INT16_LIMIT, INT32_LIMIT, Int64, round_shift, sqrt_ceil
from deltatrain.fixed.cells import CELLS, ONE_Q28, Formats, add, multiply
from deltatrain.fixed.result import SampleResult
from deltatrain.fixed.update import Stepper
from deltatrain.quant_model import QuantLayer

BIAS_FRAC_BITS = 24
GRAD_GUARD_BITS = 6
DELTA_SUM = 63487
# A layer's tensors in the random function, and how far the next layer's are from them.
WEIGHT, BIAS = 0, 1
TENSORS_PER_LAYER = 8


@dataclass(frozen=True)
class Step:
    """What one frame leaves behind for the way back."""

    delta: Int64  # (n + H,), 0 where inactive
    mask: NDArray[np.bool_]  # (n + H,)
    kept: dict[str, Int64]  # of the cell
    h: Int64  # (H,), after it
    v_hat: Int64  # (n + H,), before it


class FixedLayer:
    """A delta layer; `index` is its place in the stack, from the input upwards."""

    def __init__(self, layer: QuantLayer, index: int) -> None:
        self.layer, self.index = layer, index
        self._cell = CELLS[layer.cell]
        self._rows = self._cell.n_gates * layer.n_hidden
        self._formats = Formats(
            m=max(layer.wx_frac_bits + layer.x_frac_bits, layer.wh_frac_bits + 14), c=layer.c_frac_bits
        )
        self.reset_weights()

    def reset_weights(self) -> None:
        """Go back to the model's weights; drops a sample."""
        self.weight = self.layer.weight.astype(np.int64)  # (n + H, G·H)
        self.bias = self.layer.bias.astype(np.int64)  # (A·H,)
        self.begin()

    def begin(self) -> None:
        """Start a sample: v̂ = 0, h = c = 0, M = b."""
        n_hidden = self.layer.n_hidden
        self.v_hat = np.zeros(self.layer.n_in + n_hidden, np.int64)
        self.h = np.zeros(n_hidden, np.int64)
        self.c = np.zeros(n_hidden, np.int64)
        self.m = self.bias * 2 ** (self._formats.m - BIAS_FRAC_BITS)
        self.history: list[Step] = []
        self.dm = np.zeros((0, self.bias.size), np.int64)

    # Columns of x feed the first G·H entries of M, columns of h the last: they differ for the GRU alone.

    def _of_x(self, m: Int64) -> Int64:
        return m[..., : self._rows]

    def _of_h(self, m: Int64) -> Int64:
        return m[..., m.shape[-1] - self._rows :]

    def push(self, x: Int64, theta_x: int, theta_h: int, result: SampleResult) -> Int64:
        """One frame (n,) in, h (H,) out."""
        layer, n = self.layer, self.layer.n_in
        v = np.concatenate([x, self.h])
        difference = v - self.v_hat
        theta = np.concatenate([np.full(n, theta_x), np.full(layer.n_hidden, theta_h)])
        mask = (np.abs(difference) >= theta) & (difference != 0)
        delta = np.where(mask, difference, 0)
        v_hat_before = self.v_hat
        self.v_hat = np.where(mask, v, self.v_hat)

        # M += W Δ, exactly: the two parts are aligned to M's fraction bits by shifts to the left.
        x_unit = 2 ** (self._formats.m - layer.wx_frac_bits - layer.x_frac_bits)
        h_unit = 2 ** (self._formats.m - layer.wh_frac_bits - 14)
        self.m = self.m.copy()
        self._of_x(self.m)[:] += delta[:n] @ self.weight[:n] * x_unit
        self._of_h(self.m)[:] += delta[n:] @ self.weight[n:] * h_unit
        forward = self._cell.forward(self.m, self.h, self.c, self._formats, result)
        self.history.append(Step(delta, mask, forward.kept, forward.h, v_hat_before))
        self.h, self.c = forward.h, forward.c

        active_x, active_h = int(mask[:n].sum()), int(mask[n:].sum())
        if self.index == 0:
            result.active_x += active_x
            result.active_h += active_h
        else:  # its inputs are hidden units
            result.active_h += active_x + active_h
        result.macs_forward += self._rows * (active_x + active_h)
        return self.h

    def n_events(self, first: int) -> int:
        """Events of the frames from `first` on."""
        return sum(int(step.mask.sum()) for step in self.history[first:])

    def recomputed_macs(self, segment_steps: int) -> int:
        """What going back by segments computes once more: each twice, but the last, which still stands, once.

        A segment costs the products of its events, and those of v̂ at its start, from which M is formed again.
        """
        macs = 0
        for first in range(0, len(self.history), segment_steps):
            segment = self.history[first : first + segment_steps]
            products = np.count_nonzero(segment[0].v_hat) + sum(int(step.mask.sum()) for step in segment)
            macs += self._rows * products * (1 if first + segment_steps >= len(self.history) else 2)
        return macs

    def begin_backward(self) -> None:
        """Before the last step's `step_back`: nothing is carried yet."""
        n_hidden = self.layer.n_hidden
        self.d_h = np.zeros(n_hidden, np.int64)  # dL/dh_t, whole when `step_back` is called
        self._d_c = np.zeros(n_hidden, np.int64)
        self._d_h_hat = np.zeros(n_hidden, np.int64)
        self._d_x_hat = np.zeros(self.layer.n_in, np.int64)
        self._dm_carried = np.zeros(self.bias.size, np.int64)  # dM_{t+1}, int32
        self.dm = np.zeros((len(self.history), self.bias.size), np.int64)  # as stored: int16, one exponent
        self.exponent = 0

    def step_back(self, t: int, beta: int, below: FixedLayer | None, result: SampleResult) -> None:
        """dM_t from d_h = dL/dh_t; then d_h is this layer's part of dL/dh_{t−1}, and dL/dx_t is added to `below`'s."""
        layer, n, step = self.layer, self.layer.n_in, self.history[t]
        backward = self._cell.backward(step.kept, self.d_h, self._d_c, self._formats, result)
        self._dm_carried = add(self._dm_carried, backward.d_m, result)
        self._d_c = backward.d_c
        self._store(t, result)

        self.d_h = backward.d_h
        if t > 0:
            active = step.mask[n:]
            products = self.weight[n:][active] @ self._of_h(self.dm[t])
            d_delta = np.zeros(layer.n_hidden, np.int64)
            d_delta[active] = add(
                round_shift(products, layer.wh_frac_bits - self.exponent),
                beta * np.sign(step.delta[n:][active]),
                result,
            )
            self.d_h = add(self.d_h, np.where(active, self._d_h_hat + d_delta, 0), result)
            self._d_h_hat = np.where(active, -d_delta, self._d_h_hat)
            result.macs_backward += self._rows * int(active.sum())
        if below is not None:
            active = step.mask[:n]
            d_delta = np.zeros(n, np.int64)
            d_delta[active] = multiply(
                self.weight[:n][active] @ self._of_x(self.dm[t]), 1, layer.wx_frac_bits - self.exponent, result
            )
            below.d_h = add(below.d_h, np.where(active, self._d_x_hat + d_delta, 0), result)
            self._d_x_hat = np.where(active, -d_delta, self._d_x_hat)
            result.macs_backward += self._rows * int(active.sum())

    def _store(self, t: int, result: SampleResult) -> None:
        """dM_t as int16; one exponent serves all steps, so a larger one rounds those stored before."""
        needed = int16_exponent(self._dm_carried)
        if needed > self.exponent:
            shorter = round_shift(self.dm[t + 1 :], needed - self.exponent)
            result.underflow_dm += int(np.count_nonzero((shorter == 0) & (self.dm[t + 1 :] != 0)))
            self.dm[t + 1 :], self.exponent = shorter, needed
        self.dm[t] = round_shift(self._dm_carried, self.exponent)
        result.underflow_dm += int(np.count_nonzero((self.dm[t] == 0) & (self._dm_carried != 0)))

    def bound(self) -> int:
        """Σ_t ‖stored dM_t‖ √(‖Δ_t‖² + [t = 0]), each root rounded up, in units of stored dM · 2^−14."""
        n, total = self.layer.n_in, 0
        for t, step in enumerate(self.history):
            x_squared, h_squared = int(np.sum(step.delta[:n] ** 2)), int(np.sum(step.delta[n:] ** 2))
            delta_squared = x_squared * 4 ** (14 - self.layer.x_frac_bits) + h_squared + (ONE_Q28 if t == 0 else 0)
            total += sqrt_ceil(int(np.sum(self.dm[t] ** 2))) * sqrt_ceil(delta_squared)
        return total

    def update(self, stepper: Stepper, result: SampleResult) -> None:
        """Weights and biases, once; columns of W without an event have no gradient and stay."""
        layer, n = self.layer, self.layer.n_in
        exponent = result.grad_exponent + self.exponent - GRAD_GUARD_BITS  # of the stored dM
        deltas = np.array([step.delta for step in self.history])  # (T, n + H)
        masks = np.array([step.mask for step in self.history])
        shifts = np.array([delta_shift(int(total)) for total in np.abs(deltas).sum(axis=0)])  # (n + H,)
        deltas = np.stack([round_shift(deltas[:, j], shift) for j, shift in enumerate(shifts)], axis=1)
        # (n + H, G·H): sums over time, exact
        gradient = np.concatenate([deltas[:, :n].T @ self._of_x(self.dm), deltas[:, n:].T @ self._of_h(self.dm)])
        exponents = np.empty((n + layer.n_hidden, 1), np.int64)
        exponents[:n] = exponent - layer.x_frac_bits + layer.wx_frac_bits
        exponents[n:] = exponent - 14 + layer.wh_frac_bits
        exponents += shifts[:, None]
        touched = np.any(masks, axis=0, keepdims=True).T
        first = TENSORS_PER_LAYER * self.index
        self.weight = stepper.stepped(self.weight, gradient, exponents, first + WEIGHT, INT16_LIMIT, touched)
        self.bias = stepper.stepped(self.bias, self.dm[0], exponent + BIAS_FRAC_BITS, first + BIAS, INT32_LIMIT)
        result.columns_updated += int(touched.sum())
        result.macs_gradient += self._rows * int(masks.sum())


def delta_shift(total: int) -> int:
    """The smallest n ≥ 0 with Σ_t |Δ_t,j| ≤ 63487 · 2^n, so that Σ_t |round(Δ_t,j, n)| ≤ 65535 over 4,096 steps."""
    shift = 0
    while total > DELTA_SUM << shift:
        shift += 1
    return shift


def int16_exponent(values: Int64) -> int:
    """The smallest e ≥ 0 with which all round(values / 2^e) fit int16."""
    exponent, ends = 0, np.array([values.min(), values.max()])
    while np.any(round_shift(ends, exponent) != round_shift(ends, exponent).astype(np.int16)):
        exponent += 1
    return exponent
