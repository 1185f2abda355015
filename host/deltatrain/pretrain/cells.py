"""The cells over a packed batch. What differs from the float reference is the form, not the mathematics.

M_t is computed as b + W v̂_t, which the accumulated form equals, and the gradient with respect to v̂_t is
carried instead of dM and dv̂: with g_t the local gradient of M_t and p_t the total gradient of v̂_t,

    p_t = Wᵀ g_t + (1 − m_{t+1}) ⊙ p_{t+1} ;  dv_t = m_t ⊙ p_t ;  dW = Σ g_t v̂_tᵀ ;  db = Σ g_t .

The regulariser β Σ|v̂_t − v̂_{t-1}| adds β (s_t − s_{t+1}) to p_t, s_t = sign(v̂_t − v̂_{t-1}).
σ(M) is taken as (1 + tanh(M/2))/2, so that one call of tanh serves all gates.

Arrays are packed, see `packing`: N rows over all steps, n of them at step t.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from deltatrain.pretrain.packing import Packing

Array = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Parameters:
    """Views into the flat parameter vector: weight_ih (G*H, n_in), weight_hh (G*H, H), bias (A*H,)."""

    weight_ih: Array
    weight_hh: Array
    bias: Array


@dataclass(frozen=True)
class Held:
    """A packed signal v, what was transmitted of it, and when.

    Attributes
    ----------
    values : ndarray, shape (N, n)
        v̂_t.
    mask : ndarray, shape (N, n), 0.0 or 1.0
        m_t, in the floating type so that it multiplies without conversion.
    """

    values: Array
    mask: Array

    def active(self) -> int:
        """Transmitted entries in all."""
        return int(np.count_nonzero(self.mask))


@dataclass(frozen=True)
class Tape:
    """What a layer's forward pass leaves: what was transmitted, h (N, H), and the cell's own arrays."""

    x: Held
    h: Held
    hidden: Array
    gates: Array
    states: Array


def changed(d: Array, theta: float, out: npt.NDArray[np.bool_]) -> None:
    """m = |d| ≥ θ and d ≠ 0, into `out`; `d` is overwritten."""
    np.abs(d, out=d)
    if theta > 0:
        np.greater_equal(d, d.dtype.type(theta), out=out)
    else:
        np.not_equal(d, 0, out=out)


def hold(v: Array, theta: float, packing: Packing) -> Held:
    """Transmit a packed signal v (N, n) that is known beforehand."""
    held = Held(np.empty_like(v), np.empty_like(v))
    v_hat = np.zeros((packing.batch, v.shape[1]), v.dtype)
    mask = np.empty(v_hat.shape, np.bool_)
    for start, n in packing.spans():
        now, sent = v[start : start + n], mask[:n]
        changed(now - v_hat[:n], theta, sent)
        np.copyto(v_hat[:n], now, where=sent)
        held.values[start : start + n] = v_hat[:n]
        held.mask[start : start + n] = sent
    return held


def hold_backward(p: Array, mask: Array, packing: Packing) -> Array:
    """dL/dv (N, n) from the direct gradient Wᵀ g_t of v̂_t (overwritten)."""
    carried = np.zeros((packing.batch, p.shape[1]), p.dtype)
    dv = np.empty_like(p)
    for start, n in reversed(packing.spans()):
        rows = slice(start, start + n)
        total = p[rows]
        total += carried[:n]
        np.multiply(total, mask[rows], out=dv[rows])
        np.subtract(total, dv[rows], out=carried[:n])
    return dv


def gates_of(cell: str, n_hidden: int) -> npt.NDArray[np.float64]:
    """Scale of M before tanh for each accumulator row: ½ where the gate is a sigmoid, else 1."""
    scale = {"rnn": [1.0], "lstm": [0.5, 0.5, 1.0, 0.5], "gru": [0.5, 0.5, 1.0]}[cell]
    return np.repeat(scale, n_hidden)


def forward(cell: str, p: Parameters, x: Array, packing: Packing, theta_x: float, theta_h: float) -> Tape:
    """Run a layer over a packed batch x (N, n_in)."""
    dtype = x.dtype
    n_hidden = p.weight_hh.shape[1]
    held_x = hold(x, theta_x, packing)
    rows_x = p.weight_ih.shape[0]
    scale = gates_of(cell, n_hidden).astype(dtype)
    # tanh and affine: σ = ½ tanh(½ M) + ½ where the scale is ½; tanh itself elsewhere.
    offset = (1 - scale).astype(dtype)
    gates = held_x.values @ (p.weight_ih * scale[:, None]).T
    gates += p.bias[:rows_x] * scale
    recurrent = np.ascontiguousarray((p.weight_hh * scale[:, None]).T)
    bias_nh = p.bias[rows_x:]

    held_h = Held(np.empty((packing.rows, n_hidden), dtype), np.empty((packing.rows, n_hidden), dtype))
    hidden = np.empty((packing.rows, n_hidden), dtype)
    states = np.empty((packing.rows, (2 if cell == "lstm" else 1) * n_hidden), dtype)
    h, h_hat = np.zeros((2, packing.batch, n_hidden), dtype)
    c = np.zeros((packing.batch, n_hidden), dtype)
    mask = np.empty((packing.batch, n_hidden), np.bool_)
    from_h = np.empty((packing.batch, rows_x), dtype)
    scratch = np.empty((packing.batch, n_hidden), dtype)
    for start, n in packing.spans():
        rows = slice(start, start + n)
        h_n, h_hat_n, mask_n, scratch_n = h[:n], h_hat[:n], mask[:n], scratch[:n]
        np.subtract(h_n, h_hat_n, out=scratch_n)
        changed(scratch_n, theta_h, mask_n)
        np.copyto(h_hat_n, h_n, where=mask_n)
        held_h.values[rows] = h_hat_n
        held_h.mask[rows] = mask_n
        np.matmul(h_hat_n, recurrent, out=from_h[:n])
        m = gates[rows]
        if cell == "gru":
            _gru_step(m, from_h[:n], bias_nh, h_n, states[rows], scratch_n)
        else:
            m += from_h[:n]
            np.tanh(m, out=m)
            if cell == "lstm":
                m *= scale
                m += offset
                _lstm_step(m, c[:n], h_n, states[rows], scratch_n)
            else:
                h_n[...] = m
        hidden[rows] = h_n
    return Tape(held_x, held_h, hidden, gates, states)


def _lstm_step(gates: Array, c: Array, h: Array, states: Array, scratch: Array) -> None:
    """c and h in place from the gates i, f, g, o (n, 4H); states (n, 2H) keep c_{t-1} and tanh c_t."""
    k = c.shape[1]
    states[:, :k] = c
    np.multiply(gates[:, :k], gates[:, 2 * k : 3 * k], out=scratch)
    c *= gates[:, k : 2 * k]
    c += scratch
    tanh_c = states[:, k:]
    np.tanh(c, out=tanh_c)
    np.multiply(gates[:, 3 * k :], tanh_c, out=h)


def _gru_step(m: Array, from_h: Array, bias_nh: Array, h: Array, states: Array, scratch: Array) -> None:
    """h in place; m (n, 3H) becomes r, z, n; states (n, H) keep M_nh."""
    k = h.shape[1]
    rz = m[:, : 2 * k]
    rz += from_h[:, : 2 * k]
    np.tanh(rz, out=rz)
    rz *= 0.5
    rz += 0.5
    np.add(from_h[:, 2 * k :], bias_nh, out=states)
    n = m[:, 2 * k :]
    np.multiply(m[:, :k], states, out=scratch)
    n += scratch
    np.tanh(n, out=n)
    h -= n
    h *= m[:, k : 2 * k]
    h += n


def before(v: Array, packing: Packing) -> Array:
    """v_{t-1} at each row of v_t: packed, zero at the first step."""
    out = np.zeros_like(v)
    for (start, n), (earlier, _) in zip(packing.spans()[1:], packing.spans()[:-1], strict=True):
        out[start : start + n] = v[earlier : earlier + n]
    return out


def _local_factors(cell: str, tape: Tape, packing: Packing) -> tuple[Array, Array]:
    """What dc and dh are multiplied with for the local gradients, and what carries to the step before.

    Returns
    -------
    factors : ndarray, shape (N, A*H)
        LSTM: of dc for i, f, g and of dh for o. GRU: of dh for r, z, nh, nx. RNN: of dh.
    carry : ndarray, shape (N, 2H), (N, H) or (N, 0)
        LSTM: dh → dc, and f, which takes dc a step back. GRU: z, which takes dh a step back.
    """
    g, k = tape.gates, tape.hidden.shape[1]
    if cell == "rnn":
        return 1 - g**2, g[:, :0]
    if cell == "lstm":
        c_before, tanh_c = tape.states[:, :k], tape.states[:, k:]
        i, f, cell_input, o = (g[:, j * k : (j + 1) * k] for j in range(4))
        factors = g * (1 - g)
        factors[:, :k] *= cell_input
        factors[:, k : 2 * k] *= c_before
        np.multiply(i, 1 - cell_input**2, out=factors[:, 2 * k : 3 * k])
        factors[:, 3 * k :] *= tanh_c
        return factors, np.concatenate([o * (1 - tanh_c**2), f], axis=1)
    r, z, n = g[:, :k], g[:, k : 2 * k], g[:, 2 * k :]
    of_n = (1 - z) * (1 - n**2)
    of_r = of_n * tape.states * r * (1 - r)
    of_z = (before(tape.hidden, packing) - n) * z * (1 - z)
    return np.concatenate([of_r, of_z, of_n * r, of_n], axis=1), z


def backward(
    cell: str,
    p: Parameters,
    grads: Parameters,
    tape: Tape,
    packing: Packing,
    dh: Array,
    beta: float,
    *,
    need_dx: bool,
) -> Array | None:
    """Gradients of a layer, written into `grads`; dx (N, n_in) if wanted.

    Parameters
    ----------
    dh : ndarray, shape (N, H)
        dL/dh_t from above; overwritten.
    beta : float
        Weight of Σ|Δh|, already divided by the batch.
    """
    dtype, k = dh.dtype, dh.shape[1]
    factors, carry = _local_factors(cell, tape, packing)
    spans = packing.spans()
    if beta:
        step = np.sign(tape.h.values - before(tape.h.values, packing)) * dtype.type(beta)
    # Rows of g that the recurrent weights see: r, z, nh of the GRU's r, z, nh, nx; all of the others.
    seen = slice(0, p.weight_hh.shape[0])
    dh_later, held_p, dc = np.zeros((3, packing.batch, k), dtype)
    total = np.empty((packing.batch, k), dtype)
    for t in range(packing.steps - 1, -1, -1):
        start, n = spans[t]
        rows = slice(start, start + n)
        now = dh[rows]
        now += dh_later[:n]
        g = factors[rows]
        if cell == "lstm":
            dc_n = dc[:n]
            dc_n += now * carry[rows, :k]
            by_gate = g.reshape(n, 4, k)
            by_gate[:, :3] *= dc_n[:, None, :]
            by_gate[:, 3] *= now
            dc_n *= carry[rows, k:]
        else:
            g.reshape(n, -1, k)[...] *= now[:, None, :]
        p_t = total[:n]
        np.matmul(g[:, seen], p.weight_hh, out=p_t)
        p_t += held_p[:n]
        if beta:
            p_t += step[rows]
            if t + 1 < packing.steps:
                after, n_after = spans[t + 1]
                p_t[:n_after] -= step[after : after + n_after]
        np.multiply(p_t, tape.h.mask[rows], out=dh_later[:n])
        np.subtract(p_t, dh_later[:n], out=held_p[:n])
        if cell == "gru":
            dh_later[:n] += now * carry[rows]
    np.matmul(factors[:, seen].T, tape.h.values, out=grads.weight_hh)
    sums = factors.sum(axis=0)
    from_x = factors
    if cell == "gru":
        grads.bias[...] = np.concatenate([sums[: 2 * k], sums[3 * k :], sums[2 * k : 3 * k]])
        from_x = np.concatenate([factors[:, : 2 * k], factors[:, 3 * k :]], axis=1)
    else:
        grads.bias[...] = sums
    np.matmul(from_x.T, tape.x.values, out=grads.weight_ih)
    return hold_backward(from_x @ p.weight_ih, tape.x.mask, packing) if need_dx else None
