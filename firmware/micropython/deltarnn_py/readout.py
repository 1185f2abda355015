"""The readout: outputs, loss, gradient, its part of the bound, its update. NUMERICS.md, "Loss" and "Gradients"."""

from array import array

from .arithmetic import bit_length, multiply, round_shift, saturate, sqrt_ceil
from .formats import BIAS_BITS, GUARD_BITS, H_BITS, INT16_MAX, INT32_MAX, ONE_Q28, OUTPUT_BITS
from .image import REGRESSION, Image
from .sgd import Stepper
from .softmax import cross_entropy, largest

_D_BITS = 14  # of the largest d of a sample
_CLASS_BITS = 30  # fraction bits of p - onehot
_VALUE_BITS = 15  # of twice an error whose outputs are Q16
_BETA_BITS = 30
_MAX_LOSS_SUM = 1 << 63
_WEIGHT, _BIAS = 2, 3  # in the random function


class Readout:
    """K outputs, linear in the top layer's h [H]."""

    def __init__(self, image: Image) -> None:
        self.n_outputs, self._n_hidden = image.n_outputs, image.layers[-1].n_hidden
        self._regression = image.readout == REGRESSION
        self._frac_bits = _VALUE_BITS if self._regression else _CLASS_BITS
        self._w_bits = image.readout_bits
        self.weight, self.bias = image.readout_weight(), image.readout_bias()  # [K][H], [K]
        self.outputs = array("i", bytes(4 * self.n_outputs))
        self.begin()

    def begin(self) -> None:
        """Start a sample: no target yet."""
        self._d: dict[int, array[int]] = {}  # by frame, [K], scaled
        self._shift: int | None = None  # of all of them; None while all are 0
        self._loss_sum = 0

    def forward(self, h: "array[int]") -> None:
        """Outputs in Q16, exact before the one rounding."""
        bits = self._w_bits + H_BITS
        ignored = {"": 0}  # the outcome itself shows that an output saturates
        for k in range(self.n_outputs):
            z = self.bias[k] << (bits - BIAS_BITS)
            for j, value in enumerate(h, k * self._n_hidden):
                z += self.weight[j] * value
            self.outputs[k] = saturate(round_shift(z, bits - OUTPUT_BITS), INT32_MAX, ignored, "")

    def judge(self, t: int, target: "int | list[int]", counts: dict[str, int]) -> None:
        """Compare the outputs, which are of frame t, with its class, or with its values in Q16."""
        if isinstance(target, int):
            loss, d = cross_entropy(self.outputs, target)
            self._loss_sum += loss
            counts["n_wrong"] += largest(self.outputs) != target
        else:
            d = []
            for z, value in zip(self.outputs, target):
                error = saturate(z - value, INT32_MAX, counts, "saturated_grad")
                d.append(error)
                self._loss_sum = min(self._loss_sum + error * error, _MAX_LOSS_SUM)
        greatest = max([abs(error) for error in d])
        if greatest:
            self._shorten(bit_length(greatest) - _D_BITS)
        self._d[t] = array("h", [round_shift(error, self._shift or 0) for error in d])
        counts["n_targets"] += 1

    def _shorten(self, shift: int) -> None:
        """One exponent serves all frames, so a larger one rounds those before."""
        if self._shift is None:
            self._shift = shift
        elif shift > self._shift:
            for d in self._d.values():
                for k, error in enumerate(d):
                    d[k] = round_shift(error, shift - self._shift)
            self._shift = shift

    def largest(self) -> int:
        """Number of the largest output."""
        return largest(self.outputs)

    def n_errors(self, counts: dict[str, int]) -> int:
        """N: what the loss is the mean of."""
        return counts["n_targets"] * (self.n_outputs if self._regression else 1)

    def mean_loss(self, counts: dict[str, int]) -> int:
        """Mean over the targets so far, Q16; 0 without one."""
        divisor = self.n_errors(counts) << (OUTPUT_BITS if self._regression else 0)  # squares are Q32
        return min((self._loss_sum + divisor // 2) // divisor, INT32_MAX) if divisor else 0

    def make_room(self, beta: tuple[int, int], times: int, counts: dict[str, int]) -> int:
        """Let the unit of d be no finer than `times` beta takes; returns that, in carried gradients' unit."""
        beta_q30 = round_down(beta, _BETA_BITS) * times
        if beta_q30:
            self._shorten(bit_length(beta_q30) - _D_BITS - (_BETA_BITS - self._frac_bits))
        counts["grad_exponent"] = (self._shift or 0) - self._frac_bits
        return round_shift(beta_q30, counts["grad_exponent"] + _BETA_BITS - GUARD_BITS)

    # Backward and update

    def begin_backward(self) -> None:
        """Before the last step's `step_back`."""
        self.bound = 0  # sum over t of |d_t| sqrt(|h_t|^2 + 1), each root rounded up, in units of d 2^-14
        self._d_weight, self._d_bias = [0] * len(self.weight), [0] * self.n_outputs

    def step_back(self, t: int, h: "array[int]", counts: dict[str, int]) -> list[int]:
        """What the target at frame t adds to dL/dh_t [H]; nothing where there is none."""
        n_hidden, d_h = self._n_hidden, [0] * self._n_hidden
        if t not in self._d:
            return d_h
        d = self._d[t]
        for k, error in enumerate(d):
            self._d_bias[k] += error
            for j, value in enumerate(h):
                d_h[j] += error * self.weight[k * n_hidden + j]
                self._d_weight[k * n_hidden + j] += error * value
        self.bound += sqrt_ceil(sum([e * e for e in d])) * sqrt_ceil(sum([v * v for v in h]) + ONE_Q28)
        return [multiply(value, 1, self._w_bits - GUARD_BITS, counts) for value in d_h]

    def update(self, stepper: Stepper, grad_exponent: int) -> None:
        """Weights and biases, once."""
        stepper.begin(_WEIGHT, INT16_MAX)
        for index, gradient in enumerate(self._d_weight):
            exponent = grad_exponent - H_BITS + self._w_bits
            self.weight[index] = stepper.stepped(self.weight[index], gradient, exponent, index)
        stepper.begin(_BIAS, INT32_MAX)
        for index, gradient in enumerate(self._d_bias):
            self.bias[index] = stepper.stepped(self.bias[index], gradient, grad_exponent + BIAS_BITS, index)


def round_down(scale: tuple[int, int], bits: int) -> int:
    """floor(scale 2^bits)."""
    m, shift = scale[0], scale[1] + bits
    return m << shift if shift >= 0 else m >> -shift
