"""The readout in integers: outputs, targets, loss, gradient, its part of the bound, its update. NUMERICS.md, "Loss".

Shapes: K outputs on the top layer's H hidden units. Everything is int64, or a Python integer where 64 bits are few.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deltatrain.fixed import scales
from deltatrain.fixed.arithmetic import INT16_LIMIT, INT32_LIMIT, Int64, round_shift, saturate, sqrt_ceil
from deltatrain.fixed.cells import ONE_Q28, multiply
from deltatrain.fixed.layer import BIAS_FRAC_BITS, GRAD_GUARD_BITS
from deltatrain.fixed.result import SampleResult
from deltatrain.fixed.softmax import cross_entropy
from deltatrain.fixed.update import Stepper
from deltatrain.quant_model import QuantModel
from deltatrain.scale import Scale

D_BITS = 14  # of the largest d of a sample
CLASS_FRAC_BITS = 30  # of p − onehot
VALUE_FRAC_BITS = 15  # of twice an error whose outputs are Q16
# A frame without a target has this class, or these values.
NO_CLASS = -1
NO_VALUE = -(2**31)
MAX_LOSS_SUM = 2**63
# The readout's tensors in the random function.
WEIGHT, BIAS = 2, 3


class FixedReadout:
    """A linear layer on h: a class at the last frame, or classes or values at every frame."""

    def __init__(self, model: QuantModel) -> None:
        self._model = model
        self._regression = model.readout == "regression"
        self._frac_bits = VALUE_FRAC_BITS if self._regression else CLASS_FRAC_BITS
        self.reset_weights()

    def reset_weights(self) -> None:
        """Go back to the model's weights; drops a sample."""
        self.weight = self._model.readout_weight.astype(np.int64)  # (K, H)
        self.bias = self._model.readout_bias.astype(np.int64)  # (K,)
        self.begin()

    def begin(self) -> None:
        """Start a sample: no target yet."""
        self.logits = np.zeros(self._model.n_outputs, np.int64)
        self._d: dict[int, Int64] = {}  # by frame, (K,), scaled
        self._shift: int | None = None  # of all of them; None while all are 0
        self._loss_sum = 0

    def forward(self, h: Int64) -> None:
        """Outputs (K,), Q16."""
        acc_frac_bits = self._model.readout_frac_bits + 14
        acc = self.weight @ h + self.bias * 2 ** (acc_frac_bits - BIAS_FRAC_BITS)
        self.logits, _ = saturate(round_shift(acc, acc_frac_bits - 16), INT32_LIMIT)

    def judge(self, t: int, h: Int64, target: Int64 | int, result: SampleResult) -> None:
        """Judge the outputs at frame t by a class, or by values (K,) Q16; not where the frame has no target."""
        if (target == NO_CLASS) if isinstance(target, int) else (target[0] == NO_VALUE):
            return
        self.forward(h)
        if not isinstance(target, int):
            d, saturated = saturate(self.logits - target, INT32_LIMIT)
            result.saturated_grad += saturated
            for error in d:
                self._loss_sum = min(self._loss_sum + int(error) ** 2, MAX_LOSS_SUM)
        else:
            loss, gradient = cross_entropy([int(z) for z in self.logits], target)
            self._loss_sum += loss
            result.n_wrong += int(np.argmax(self.logits) != target)
            d = np.array(gradient, np.int64)
        largest = int(np.abs(d).max())
        if largest:
            self._shorten(largest.bit_length() - D_BITS)
        self._d[t] = np.asarray(round_shift(d, self._shift or 0))
        result.n_targets += 1

    def _shorten(self, shift: int) -> None:
        """One exponent serves all frames, so a larger one rounds those before."""
        if self._shift is None:
            self._shift = shift
        elif shift > self._shift:
            self._d = {t: np.asarray(round_shift(d, shift - self._shift)) for t, d in self._d.items()}
            self._shift = shift

    def n_errors(self, result: SampleResult) -> int:
        """N: what the loss is the mean of."""
        return result.n_targets * (self._model.n_outputs if self._regression else 1)

    def mean_loss(self, result: SampleResult) -> int:
        """Mean over the targets so far, Q16; 0 without one."""
        divisor = self.n_errors(result) * (2**16 if self._regression else 1)  # squares are Q32
        return min((self._loss_sum + divisor // 2) // divisor, INT32_LIMIT) if divisor else 0

    def make_room(self, beta: Scale, times: int, result: SampleResult) -> int:
        """Let the unit be no finer than `times` · β takes; returns that, in carried gradients' unit."""
        beta_q30 = int(scales.exact(beta) * 2**30) * times
        if beta_q30:
            self._shorten(beta_q30.bit_length() - D_BITS - (30 - self._frac_bits))
        result.grad_exponent = (self._shift or 0) - self._frac_bits
        return int(round_shift(beta_q30, result.grad_exponent + 30 - GRAD_GUARD_BITS))

    def begin_backward(self) -> None:
        """Before the last step's `step_back`."""
        self._bound = 0
        self._gradient = np.zeros((self.weight.shape[0], self.weight.shape[1] + 1), np.int64)  # bias last

    def step_back(self, t: int, h: Int64, result: SampleResult) -> Int64:
        """What the target at frame t adds to dL/dh_t (H,), given h_t."""
        if t not in self._d:
            return np.zeros_like(h)
        d = self._d[t]
        self._gradient += np.outer(d, np.append(h, 1))
        self._bound += sqrt_ceil(int(np.sum(d**2))) * sqrt_ceil(int(np.sum(h**2)) + ONE_Q28)
        return multiply(d @ self.weight, 1, self._model.readout_frac_bits - GRAD_GUARD_BITS, result)

    def bound(self) -> int:
        """Σ_t ‖d_t‖ √(‖h_t‖² + 1), each root rounded up, in units of d · 2^−14."""
        return self._bound

    def update(self, stepper: Stepper, result: SampleResult) -> None:
        """Weights and biases, once."""
        exponent = result.grad_exponent  # of d
        self.weight = stepper.stepped(
            self.weight,
            self._gradient[:, :-1],
            exponent - 14 + self._model.readout_frac_bits,
            WEIGHT,
            INT16_LIMIT,
        )
        self.bias = stepper.stepped(self.bias, self._gradient[:, -1], exponent + BIAS_FRAC_BITS, BIAS, INT32_LIMIT)


def targets_of(targets: NDArray[np.int32] | None, n_frames: int) -> list[Int64 | int | None]:
    """One target for each frame, None where none was given."""
    if targets is None:
        return [None] * n_frames
    return [row.astype(np.int64) if row.ndim else int(row) for row in targets]
