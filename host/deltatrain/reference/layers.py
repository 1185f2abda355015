"""The delta layers: forward with thresholds, and backward through time with the masks held constant.

With v_t = [x_t ; h_{t-1}] and v̂ the last value transmitted (θ = θx for inputs, θh for hidden):

    d_t = v_t − v̂_{t-1} ;  m_t = |d_t| ≥ θ and d_t ≠ 0 ;  Δ_t = m_t ⊙ d_t ;  M_t = M_{t-1} + W Δ_t ,  M_0 = b

and backwards, from dM_{T+1} = 0 and dv̂_T = 0:

    dM_t = (local gradient) + dM_{t+1} ;   dW += dM_t Δ_tᵀ ;   db = dM_1 ;   dΔ_t = Wᵀ dM_t (+ β sign Δh_t)
    dv_t = m_t ⊙ (dv̂_t + dΔ_t) ;           dv̂_{t-1} = (1 − m_t) ⊙ dv̂_t − m_t ⊙ dΔ_t

This is the exact gradient of the masked network. The input and the hidden part of M are kept apart (`m_x`,
`m_h`) because the GRU's n gate needs them so; the other gates use their sum.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from deltatrain.errors import InputError, ModelError
from deltatrain.reference.parameters import Array, Parameters, as_finite

Mask = npt.NDArray[np.bool_]


def sigmoid(x: Array) -> Array:
    """Logistic function, written so that neither tail overflows."""
    return 0.5 * (1.0 + np.tanh(0.5 * x))


def transmit(v: Array, v_hat: Array, theta: float) -> tuple[Mask, Array, Array]:
    """Decide which entries have moved enough to be sent.

    Parameters
    ----------
    v, v_hat : ndarray, shape (n,)
        The value now, and the value last transmitted.
    theta : float
        Threshold θ ≥ 0; an entry exactly at θ is sent.

    Returns
    -------
    mask, delta, v_hat : ndarray, shape (n,)
        m_t, Δ_t and the new v̂_t. v̂ takes v itself where sent, so that it cannot creep away from it.
    """
    d = v - v_hat
    mask = (np.abs(d) >= theta) & (d != 0.0)
    return mask, np.where(mask, d, 0.0), np.where(mask, v, v_hat)


@dataclass(frozen=True)
class LayerTrace:
    """What `forward` leaves for `backward`: one row a step.

    Attributes
    ----------
    mask_x, mask_h : ndarray of bool, shapes (T, n_in), (T, H)
        m_t: which entries were transmitted at step t.
    delta_x, delta_h : ndarray, shapes (T, n_in), (T, H)
        Δ_t.
    saved : tuple of dict
        Per step, the gates and states that the cell's local gradient needs, each of shape (H,).
    """

    mask_x: Mask
    mask_h: Mask
    delta_x: Array
    delta_h: Array
    saved: tuple[Mapping[str, Array], ...]

    @property
    def steps(self) -> int:
        """Number of time steps T."""
        return len(self.saved)


@dataclass(frozen=True)
class LayerGradients:
    """Gradients of one layer.

    Attributes
    ----------
    params : dict
        Gradients with the names and shapes of the layer's parameters.
    dx : ndarray, shape (T, n_in)
        dL/dx_t.
    d_accumulators : ndarray, shape (T, A*H)
        dM_t of each accumulator (LSTM: i, f, g, o; GRU: r, z, nx, nh; RNN: one), the carried sum over later
        steps included. The bounded-norm clip is made of their norms.
    """

    params: dict[str, Array]
    dx: Array
    d_accumulators: Array


class DeltaLayer(ABC):
    """What the three cells share: thresholds, accumulators, and the walk through time in both directions.

    Parameters
    ----------
    n_in, n_hidden : int
        Sizes, at least 1.
    theta_x, theta_h : float
        Thresholds of the inputs and of the hidden state; 0 gives the ordinary dense cell.
    beta : float
        Weight of the regulariser β Σ_t |Δh_t|, which buys sparsity; 0 leaves it out.
    seed : int
        Of the initial parameters, uniform in ±1/√n_hidden as PyTorch draws them.

    Raises
    ------
    InputError
        For a size below 1, or a threshold or β that is negative or not finite.
    """

    cell: ClassVar[str]
    n_gates: ClassVar[int]

    def __init__(
        self,
        n_in: int,
        n_hidden: int,
        theta_x: float = 0.0,
        theta_h: float = 0.0,
        *,
        beta: float = 0.0,
        seed: int = 0,
    ) -> None:
        for name, size in (("n_in", n_in), ("n_hidden", n_hidden)):
            if int(size) != size or size < 1:
                raise InputError(f"{name} is {size}; a layer needs a whole number of at least 1")
        for name, value in (("theta_x", theta_x), ("theta_h", theta_h), ("beta", beta)):
            if not (np.isfinite(value) and value >= 0):
                raise InputError(f"{name} is {value}; it must be a finite number of at least 0")
        self.n_in, self.n_hidden = int(n_in), int(n_hidden)
        self.theta_x, self.theta_h, self.beta = float(theta_x), float(theta_h), float(beta)
        rows, bound = self.n_gates * self.n_hidden, self.n_hidden**-0.5
        rng = np.random.default_rng(seed)
        self._params = Parameters(
            {
                "weight_ih": rng.uniform(-bound, bound, (rows, self.n_in)),
                "weight_hh": rng.uniform(-bound, bound, (rows, self.n_hidden)),
                "bias_ih": rng.uniform(-bound, bound, rows),
                "bias_hh": rng.uniform(-bound, bound, rows),
            }
        )

    @property
    def params(self) -> Parameters:
        """weight_ih [G*H, n_in], weight_hh [G*H, H], bias_ih [G*H], bias_hh [G*H]; assignable, checked."""
        return self._params

    @params.setter
    def params(self, values: Mapping[str, npt.ArrayLike]) -> None:
        self._params.assign(values)

    def forward(self, x: npt.ArrayLike) -> tuple[Array, LayerTrace]:
        """Run one sequence from h_0 = 0, c_0 = 0, v̂_0 = 0, M_0 = b.

        Parameters
        ----------
        x : array_like, shape (T, n_in)
            T of at least 1, all values finite.

        Returns
        -------
        h : ndarray, shape (T, H)
            Hidden state after each step.
        trace : LayerTrace
            For `backward`.

        Raises
        ------
        InputError
            If x has another shape, no step, or a value that is not finite.
        ModelError
            If a parameter was set to NaN or infinity in place.
        """
        x = as_finite("x", x, (None, self.n_in))
        for name, value in self.params.items():
            if not np.isfinite(value).all():
                raise ModelError(f"{name} holds NaN or infinity; assign finite weights before forward")
        weight_ih, weight_hh = self.params["weight_ih"], self.params["weight_hh"]
        accumulated_x, accumulated_h = self.params["bias_ih"], self.params["bias_hh"]
        x_hat, h_hat = np.zeros(self.n_in), np.zeros(self.n_hidden)
        h, c = np.zeros(self.n_hidden), np.zeros(self.n_hidden)
        rows_x: list[tuple[Mask, Array]] = []
        rows_h: list[tuple[Mask, Array]] = []
        hidden: list[Array] = []
        saved: list[Mapping[str, Array]] = []
        for x_t in x:
            mask_x, delta_x, x_hat = transmit(x_t, x_hat, self.theta_x)
            mask_h, delta_h, h_hat = transmit(h, h_hat, self.theta_h)
            accumulated_x = accumulated_x + weight_ih @ delta_x
            accumulated_h = accumulated_h + weight_hh @ delta_h
            h, c, kept = self._cell(accumulated_x, accumulated_h, h, c)
            rows_x.append((mask_x, delta_x))
            rows_h.append((mask_h, delta_h))
            hidden.append(h)
            saved.append(kept)
        trace = LayerTrace(
            mask_x=np.array([mask for mask, _ in rows_x]),
            mask_h=np.array([mask for mask, _ in rows_h]),
            delta_x=np.array([delta for _, delta in rows_x]),
            delta_h=np.array([delta for _, delta in rows_h]),
            saved=tuple(saved),
        )
        return np.array(hidden), trace

    def backward(self, trace: LayerTrace, dh: npt.ArrayLike) -> tuple[dict[str, Array], Array]:
        """Back-propagate through time; the two biases each get the gradient of the accumulator they start.

        Parameters
        ----------
        trace : LayerTrace
            From `forward` of this layer.
        dh : array_like, shape (T, H)
            dL/dh_t, without what h_t does to later steps.

        Returns
        -------
        grads : dict
            Names and shapes of `params`; the regulariser's gradient is included if β > 0.
        dx : ndarray, shape (T, n_in)
            dL/dx_t.
        """
        gradients = self.gradients(trace, dh)
        return gradients.params, gradients.dx

    def gradients(self, trace: LayerTrace, dh: npt.ArrayLike) -> LayerGradients:
        """As `backward`, and with dM_t of every accumulator."""
        dh = as_finite("dh", dh, (trace.steps, self.n_hidden))
        if trace.delta_x.shape[1] != self.n_in or trace.delta_h.shape[1] != self.n_hidden:
            raise InputError(
                f"the trace is of a layer {trace.delta_x.shape[1]}→{trace.delta_h.shape[1]}, this one is "
                f"{self.n_in}→{self.n_hidden}; pass the trace that this layer's forward returned"
            )
        weight_ih, weight_hh = self.params["weight_ih"], self.params["weight_hh"]
        dweight_ih, dweight_hh = np.zeros_like(weight_ih), np.zeros_like(weight_hh)
        dm_x, dm_h = np.zeros(len(weight_ih)), np.zeros(len(weight_hh))
        dx_hat, dh_hat = np.zeros(self.n_in), np.zeros(self.n_hidden)
        dh_later, dc = np.zeros(self.n_hidden), np.zeros(self.n_hidden)
        dx = np.zeros((trace.steps, self.n_in))
        d_accumulators = [np.zeros(0)] * trace.steps
        for t in reversed(range(trace.steps)):
            mask_x, delta_x = trace.mask_x[t], trace.delta_x[t]
            mask_h, delta_h = trace.mask_h[t], trace.delta_h[t]
            local_x, local_h, dh_own_path, dc = self._cell_backward(trace.saved[t], dh[t] + dh_later, dc)
            dm_x = local_x + dm_x
            dm_h = local_h + dm_h
            d_accumulators[t] = self._per_accumulator(dm_x, dm_h)
            dweight_ih += np.outer(dm_x, delta_x)
            dweight_hh += np.outer(dm_h, delta_h)
            ddelta_x = weight_ih.T @ dm_x
            ddelta_h = weight_hh.T @ dm_h + self.beta * np.sign(delta_h)
            dx[t] = mask_x * (dx_hat + ddelta_x)
            dh_later = mask_h * (dh_hat + ddelta_h) + dh_own_path
            dx_hat = ~mask_x * dx_hat - mask_x * ddelta_x
            dh_hat = ~mask_h * dh_hat - mask_h * ddelta_h
        params = {"weight_ih": dweight_ih, "weight_hh": dweight_hh, "bias_ih": dm_x, "bias_hh": dm_h}
        return LayerGradients(params, dx, np.array(d_accumulators))

    def regulariser(self, trace: LayerTrace) -> float:
        """β Σ_t |Δh_t|, summed over the hidden units and steps of one sequence."""
        return self.beta * float(np.abs(trace.delta_h).sum())

    @abstractmethod
    def _cell(self, m_x: Array, m_h: Array, h: Array, c: Array) -> tuple[Array, Array, Mapping[str, Array]]:
        """h_t, c_t and what the backward pass needs, from M_t, h_{t-1}, c_{t-1} (only the LSTM has a c)."""

    @abstractmethod
    def _cell_backward(self, saved: Mapping[str, Array], dh: Array, dc: Array) -> tuple[Array, Array, Array, Array]:
        """Local gradients of M_x and M_h, the cell's own path to h_{t-1}, and dL/dc_{t-1}."""

    def _per_accumulator(self, dm_x: Array, dm_h: Array) -> Array:
        """dM_t with one row for each accumulator; where a gate has only one, both parts are equal."""
        del dm_h
        return dm_x


class DeltaRNN(DeltaLayer):
    """h_t = tanh M_t."""

    cell = "rnn"
    n_gates = 1

    def _cell(self, m_x: Array, m_h: Array, h: Array, c: Array) -> tuple[Array, Array, Mapping[str, Array]]:
        h = np.tanh(m_x + m_h)
        return h, c, {"h": h}

    def _cell_backward(self, saved: Mapping[str, Array], dh: Array, dc: Array) -> tuple[Array, Array, Array, Array]:
        local = dh * (1.0 - saved["h"] ** 2)
        return local, local, np.zeros_like(dh), dc


class DeltaLSTM(DeltaLayer):
    """c_t = σ(M_f) c_{t-1} + σ(M_i) tanh(M_g);  h_t = σ(M_o) tanh c_t."""

    cell = "lstm"
    n_gates = 4

    def _cell(self, m_x: Array, m_h: Array, h: Array, c: Array) -> tuple[Array, Array, Mapping[str, Array]]:
        m_i, m_f, m_g, m_o = np.split(m_x + m_h, 4)
        i, f, g, o = sigmoid(m_i), sigmoid(m_f), np.tanh(m_g), sigmoid(m_o)
        c_before, c = c, f * c + i * g
        return o * np.tanh(c), c, {"i": i, "f": f, "g": g, "o": o, "c_before": c_before, "tanh_c": np.tanh(c)}

    def _cell_backward(self, saved: Mapping[str, Array], dh: Array, dc: Array) -> tuple[Array, Array, Array, Array]:
        i, f, g, o, tanh_c = (saved[name] for name in ("i", "f", "g", "o", "tanh_c"))
        dc = dc + dh * o * (1.0 - tanh_c**2)
        local = np.concatenate(
            [
                dc * g * i * (1.0 - i),
                dc * saved["c_before"] * f * (1.0 - f),
                dc * i * (1.0 - g**2),
                dh * tanh_c * o * (1.0 - o),
            ]
        )
        return local, local, np.zeros_like(dh), dc * f


class DeltaGRU(DeltaLayer):
    """n = tanh(M_nx + r M_nh);  h_t = (1 − z) n + z h_{t-1}: r outside the recurrent product (PyTorch)."""

    cell = "gru"
    n_gates = 3

    def _cell(self, m_x: Array, m_h: Array, h: Array, c: Array) -> tuple[Array, Array, Mapping[str, Array]]:
        (r_x, z_x, m_nx), (r_h, z_h, m_nh) = np.split(m_x, 3), np.split(m_h, 3)
        r, z = sigmoid(r_x + r_h), sigmoid(z_x + z_h)
        n = np.tanh(m_nx + r * m_nh)
        return (1.0 - z) * n + z * h, c, {"r": r, "z": z, "n": n, "m_nh": m_nh, "h_before": h}

    def _cell_backward(self, saved: Mapping[str, Array], dh: Array, dc: Array) -> tuple[Array, Array, Array, Array]:
        r, z, n, m_nh, h_before = (saved[name] for name in ("r", "z", "n", "m_nh", "h_before"))
        local_nx = dh * (1.0 - z) * (1.0 - n**2)
        local_nh = local_nx * r
        local_r = local_nx * m_nh * r * (1.0 - r)
        local_z = dh * (h_before - n) * z * (1.0 - z)
        return (
            np.concatenate([local_r, local_z, local_nx]),
            np.concatenate([local_r, local_z, local_nh]),
            dh * z,
            dc,
        )

    def _per_accumulator(self, dm_x: Array, dm_h: Array) -> Array:
        return np.concatenate([dm_x, dm_h[2 * self.n_hidden :]])


CELLS: dict[str, type[DeltaLayer]] = {"rnn": DeltaRNN, "gru": DeltaGRU, "lstm": DeltaLSTM}
"""The layer class of each cell name."""
