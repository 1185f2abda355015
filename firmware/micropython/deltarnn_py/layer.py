"""One delta layer: forward, backward through time, its part of the norm's bound, its update.

One list of events (which entries of v = [x ; h] changed, and by how much) drives all three products: W Delta forward,
W^T dM backward, and dM Delta^T for the gradient of W. NUMERICS.md, "Forward", "Gradients" and "Step size".
"""

from array import array

from . import gru, lstm, rnn
from .arithmetic import add, multiply, round_shift, sqrt_ceil
from .formats import BIAS_BITS, DELTA_SUM, GUARD_BITS, H_BITS, INT16_MAX, INT32_MAX, ONE_Q28
from .image import INFERENCE, LSTM, Image
from .sgd import Stepper
from .step import Step

_CELLS = (rnn, gru, lstm)  # by enum drnn_cell
# Of a layer's tensors in the random function, and how far the next layer's are from them.
_WEIGHT, _BIAS, _TENSORS_PER_LAYER = 0, 1, 8


class Layer:
    """A layer of n inputs and H units, the `number`th from the input upwards."""

    def __init__(self, model: Image, number: int) -> None:
        image = model.layers[number]
        self.number, self.n_in, self.n_hidden = number, image.n_in, image.n_hidden
        self.width, self.has_c = image.n_in + image.n_hidden, image.cell == LSTM
        # The C core holds the history of so many frames at once, and has room for so many of their events.
        self._window, self.max_events = model.window, model.max_events(self.width)
        self._keeps_history = model.memory != INFERENCE
        self._cell = _CELLS[image.cell]
        self._x_bits, self._wx_bits, self._wh_bits = image.x_bits, image.wx_bits, image.wh_bits
        self._m_bits = max(image.wx_bits + image.x_bits, image.wh_bits + H_BITS)
        self._c_bits = image.c_bits
        self.rows = self._cell.N_GATES * image.n_hidden  # of a column of W
        # Columns of x feed the first rows of M, columns of h the last: they differ for the GRU alone.
        self._h_first = (self._cell.N_ACCUMULATORS - self._cell.N_GATES) * image.n_hidden
        self.weight, self.bias = image.weight(), image.bias()  # [n + H][rows], column after column; [A H]
        self.exponent = self.n_events = 0
        self.history: list[Step] = []
        self.h = self.c = array("h", bytes(2 * self.n_hidden))

    def begin(self, theta_x: int, theta_h: int) -> None:
        """Start a sample: nothing was sent yet, h = c = 0, M = b."""
        self._theta_x, self._theta_h = theta_x, theta_h
        self._v_hat = array("h", bytes(2 * self.width))
        self.h = self.c = array("h", bytes(2 * self.n_hidden))
        self._m = [b << (self._m_bits - BIAS_BITS) for b in self.bias]
        self.history = []
        self.n_events = 0  # of the frames whose history is held

    # Forward

    def push(self, x: "array[int]", counts: dict[str, int]) -> "array[int]":
        """One frame x [n] in, h [H] out."""
        step = Step(self.h, self.c)
        self._encode(x, 0, self._theta_x, step)
        active_x = len(step.active)
        self._encode(self.h, self.n_in, self._theta_h, step)
        active_h = len(step.active) - active_x
        self._add_products(step)
        self._cell.forward(self._m, step, self._m_bits, self._c_bits, counts)
        if len(self.history) % self._window == 0:
            self.n_events = 0
        if not self._keeps_history:
            self.history = []
        self.history.append(step)
        self.n_events += len(step.active)
        self.h, self.c = step.h, step.c

        counts["active_h"] += active_h
        counts["active_h" if self.number else "active_x"] += active_x  # an upper layer's inputs are hidden units
        counts["macs_forward"] += self.rows * (active_x + active_h)
        return step.h

    def _encode(self, v: "array[int]", first: int, theta: int, step: Step) -> None:
        """Note what of v has changed by the threshold since it was last sent; `first` is its place in [x ; h]."""
        v_hat = self._v_hat
        for j, value in enumerate(v, first):
            delta = value - v_hat[j]
            if delta and abs(delta) >= theta:
                v_hat[j] = value
                step.active.append(j)
                step.delta.append(delta)

    def _add_products(self, step: Step) -> None:
        """M += W Delta, exactly: products of x and of h are shifted to M's fraction bits, to the left."""
        m, weight, rows = self._m, self.weight, self.rows
        x_shift = self._m_bits - self._wx_bits - self._x_bits
        h_shift = self._m_bits - self._wh_bits - H_BITS
        for j, delta in zip(step.active, step.delta):
            is_h = j >= self.n_in
            delta <<= h_shift if is_h else x_shift
            row = self._h_first if is_h else 0
            for k in range(j * rows, (j + 1) * rows):
                m[row] += weight[k] * delta
                row += 1

    # Backward

    def begin_backward(self) -> None:
        """Before the last step's `step_back`: nothing is carried yet."""
        n_hidden = self.n_hidden
        self.d_h = [0] * n_hidden  # dL/dh_t, whole when `step_back` is called
        self._d_c = [0] * n_hidden
        self._d_v_hat = [0] * self.width
        self._d_m = [0] * len(self.bias)  # dM, summed over later steps
        self.exponent = 0  # of the dM as stored: one for the whole sample

    def receive(self, d_h: "list[int]", counts: "dict[str, int]") -> None:
        """Add to dL/dh_t."""
        for j, gradient in enumerate(d_h):
            self.d_h[j] = add(self.d_h[j], gradient, counts)

    def step_back(self, t: int, beta: int, below: "Layer | None", counts: dict[str, int]) -> None:
        """dM_t from d_h = dL/dh_t; then d_h is this layer's part of dL/dh_{t-1}, and dL/dx_t is added to `below`'s."""
        step = self.history[t]
        own_d_m, self.d_h = self._cell.backward(step, self.d_h, self._d_c, self._c_bits, counts)
        for row, own in enumerate(own_d_m):
            self._d_m[row] = add(self._d_m[row], own, counts)
        self._store(t, counts)

        for j, delta in zip(step.active, step.delta):
            if j >= self.n_in:
                product = self._column_product(j, self._h_first, step.gates, counts)
                sparsity = beta if delta > 0 else -beta
                d_delta = add(round_shift(product, self._wh_bits - self.exponent), sparsity, counts)
                self._send_back(j, d_delta, self.d_h, j - self.n_in, counts)
            elif below:
                product = self._column_product(j, 0, step.gates, counts)
                d_delta = multiply(product, 1, self._wx_bits - self.exponent, counts)
                self._send_back(j, d_delta, below.d_h, j, counts)

    def _column_product(self, j: int, first: int, d_m: "array[int]", counts: dict[str, int]) -> int:
        """W_j^T dM, of the rows that column j feeds."""
        weight, product, row = self.weight, 0, first
        for k in range(j * self.rows, (j + 1) * self.rows):
            product += weight[k] * d_m[row]
            row += 1
        counts["macs_backward"] += self.rows
        return product

    def _send_back(self, j: int, d_delta: int, d_v: list[int], place: int, counts: dict[str, int]) -> None:
        """v_j was sent at this step: it has the gradient of v^_j; v^_j before it has the opposite of Delta's."""
        d_v[place] = add(d_v[place], self._d_v_hat[j] + d_delta, counts)
        self._d_v_hat[j] = -d_delta

    def _store(self, t: int, counts: dict[str, int]) -> None:
        """dM_t as int16 in the gates' place; a larger exponent than before rounds the steps stored so far."""
        needed = int16_exponent(min(self._d_m), max(self._d_m))
        if needed > self.exponent:
            shift, self.exponent = needed - self.exponent, needed
            for later in self.history[t + 1 :]:
                _shorten(later.gates, later.gates, shift, counts)
        _shorten(self._d_m, self.history[t].gates, self.exponent, counts)

    # Update

    def bound(self) -> int:
        """Sum over t of |dM_t| sqrt(|Delta_t|^2 + [t = 0]), each root rounded up, in units of dM 2^-14."""
        total = 0
        for t, step in enumerate(self.history):
            x_squared, h_squared = 0, 0 if t else ONE_Q28
            for j, delta in zip(step.active, step.delta):
                if j < self.n_in:
                    x_squared += delta * delta
                else:
                    h_squared += delta * delta
            delta_squared = (x_squared << 2 * (H_BITS - self._x_bits)) + h_squared
            total += sqrt_ceil(sum([d * d for d in step.gates])) * sqrt_ceil(delta_squared)
        return total

    def update(self, stepper: Stepper, grad_exponent: int, counts: dict[str, int]) -> None:
        """Every column of W that had an event, and the bias, once."""
        exponent = grad_exponent + self.exponent - GUARD_BITS  # of the stored dM
        first = _TENSORS_PER_LAYER * self.number
        stepper.begin(first + _WEIGHT, INT16_MAX)
        for j, events in enumerate(self._events_by_column()):
            if events:
                self._update_column(j, events, stepper, exponent)
                counts["columns_updated"] += 1
                counts["macs_gradient"] += self.rows * len(events)
        stepper.begin(first + _BIAS, INT32_MAX)
        for row, d_m in enumerate(self.history[0].gates):
            self.bias[row] = stepper.stepped(self.bias[row], d_m, exponent + BIAS_BITS, row)

    def _events_by_column(self) -> "list[list[tuple[int, Step]]]":
        """Of each column its (Delta, step), over time."""
        columns: list[list[tuple[int, Step]]] = [[] for _ in range(self.width)]
        for step in self.history:
            for j, delta in zip(step.active, step.delta):
                columns[j].append((delta, step))
        return columns

    def _update_column(self, j: int, events: "list[tuple[int, Step]]", stepper: Stepper, exponent: int) -> None:
        """Column j, by the sum of dM_t Delta_t,j over its events: exact, but for `shift` bits of Delta."""
        shift = delta_shift(sum([abs(delta) for delta, _ in events]))
        is_h = j >= self.n_in
        first, v_bits, w_bits = (self._h_first, H_BITS, self._wh_bits) if is_h else (0, self._x_bits, self._wx_bits)
        sums = [0] * self.rows
        for delta, step in events:
            delta, d_m = round_shift(delta, shift), step.gates
            for row in range(self.rows):
                sums[row] += d_m[first + row] * delta
        weight, k = self.weight, j * self.rows
        for gradient in sums:
            weight[k] = stepper.stepped(weight[k], gradient, exponent - v_bits + w_bits + shift, k)
            k += 1


def _shorten(values: "list[int] | array[int]", into: "array[int]", shift: int, counts: dict[str, int]) -> None:
    """Round each value by `shift` bits; those that become 0 are counted."""
    for row, value in enumerate(values):
        into[row] = shorter = round_shift(value, shift)
        if value and not shorter:
            counts["underflow_dm"] += 1


def int16_exponent(low: int, high: int) -> int:
    """The smallest e >= 0 with which round(v, e) fits int16, for low <= v <= high."""
    exponent = 0
    while round_shift(low, exponent) < -32768 or round_shift(high, exponent) > 32767:
        exponent += 1
    return exponent


def delta_shift(total: int) -> int:
    """The smallest n >= 0 with total <= 63487 2^n, so that the sums of a column fit 32 bits in the C core."""
    shift = 0
    while total > DELTA_SUM << shift:
        shift += 1
    return shift
