"""The worked numbers of NUMERICS.md, computed anew by the integer reference: what the page says is what happens.

python tests/test_numerics.py        # prints the step by hand, as it must stand there
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray

from deltatrain.features import FeatureConfig
from deltatrain.fixed import FixedNetwork, scales
from deltatrain.fixed.activation import sigmoid_q14, tanh_q14
from deltatrain.fixed.arithmetic import round_shift, sqrt_ceil
from deltatrain.fixed.cells import CELLS, Formats
from deltatrain.fixed.layer import delta_shift, int16_exponent
from deltatrain.fixed.rounding import mix, random_bits
from deltatrain.fixed.softmax import cross_entropy, exp_negative_q30
from deltatrain.model import FloatModel, LayerWeights
from deltatrain.quant_model import QuantLayer, QuantModel
from deltatrain.quantize import quantize
from deltatrain.scale import Scale

PAGE = (Path(__file__).parent.parent / "NUMERICS.md").read_text(encoding="utf-8")
ONE_LINE = re.sub(r"\s+", " ", PAGE)
MINUS = str.maketrans("-", "−")


def say(*values: object) -> str:
    """Numbers as the page writes them."""
    return ", ".join(str(value) for value in values).translate(MINUS)


def test_a_regression_s_loss() -> None:
    errors = [round(2**16 * (y - target)) for y, target in ((1.5, 1.0), (-0.25, 0.0))]
    squares = sum(error**2 for error in errors)
    loss = round_shift(squares, 16) // len(errors)
    assert f"d = {say(errors[0])} and {say(errors[1])} (2 · 0.5 and 2 · −0.25 in Q15)" in ONE_LINE
    assert (squares, len(errors) * 2**16) == (2**30 + 2**28, 2**17)
    assert f"the loss {squares} / 2^17 = {loss}, that is {loss / 2**16} = (0.25 + 0.0625) / 2" in ONE_LINE


def test_the_mean_in_the_step_size() -> None:
    """The same rate for each entry as the mean gradient would take, to the precision of the scales."""
    rate, clip = Scale.from_float(0.16, "learning rate"), Scale.from_float(2.0, "clip")
    n = scales.ceil(50, 0)
    assert float(scales.multiply(clip, n)) == 100
    clipped = scales.divide(scales.multiply(rate, clip), scales.ceil(300, 0))
    assert float(clipped) == pytest.approx(0.16 * 2 / 300, rel=1e-4) == pytest.approx(0.16 / 50 * 2 / 6, rel=1e-4)
    assert float(scales.divide(rate, n)) == pytest.approx(0.16 / 50, rel=1e-4)
    one = scales.ceil(1, 0)
    assert scales.divide(rate, one) == rate and scales.multiply(clip, one) == clip
    told = (
        "N C = 100 < B, so η = 0.16 · 2 / 300",
        "With B = 80, η = 0.16 / 50",
        "of bound 6, clipped to 2, or of bound 1.6",
    )
    for words in told:
        assert words in ONE_LINE


def addend(r: int, k: int) -> int:
    """R of the stochastic rounding."""
    return r << (k - 16) if k >= 16 else r >> (16 - k)


def hand_model() -> QuantModel:
    """One LSTM unit with one input, two classes."""
    layer = QuantLayer(
        cell="lstm",
        n_in=1,
        n_hidden=1,
        x_frac_bits=11,
        wx_frac_bits=14,
        wh_frac_bits=14,
        c_frac_bits=11,
        theta_x=614,
        theta_h=1638,
        weight=np.array([[8000, 4000, 16000, 6000], [3000, -2000, 5000, 1000]], np.int16),
        bias=np.array([0, 2**24, 0, 0], np.int32),
    )
    return QuantModel(
        layers=(layer,),
        readout_frac_bits=13,
        readout_weight=np.array([[9000], [-7000]], np.int16),
        readout_bias=np.array([2**22, 0], np.int32),
        max_steps=2,
        learning_rate=Scale.from_float(0.16, ""),
        clip=Scale.from_float(0.25, ""),
        class_names=("a", "b"),
        features=FeatureConfig(n_bands=1, max_frames=2),
    )


def step_by_hand() -> str:
    """Every number of a training step, as NUMERICS.md shows it."""
    model, label, seed, step = hand_model(), 1, 7, 3
    network = FixedNetwork(model)
    network.configure(
        learning_rate=model.learning_rate, clip=model.clip, theta_x=[614], theta_h=[1638], seed=seed, step=step
    )
    layer = network.layers[0]
    lines: list[tuple[str, str]] = []

    def row(name: str, text: str) -> None:
        lines.append((name, text.translate(MINUS)))

    network.begin()
    for t, x in enumerate((2000, 2300)):
        h = int(network.push(np.array([[x]], np.int16))[0, 0])
        done = layer.history[t]
        delta = ["inactive" if not active else str(int(d)) for d, active in zip(done.delta, done.mask, strict=True)]
        row(f"frame {t + 1}", f"x = {x}; Δx {delta[0]}; Δh {delta[1]}; M = {say(*layer.m)}")
        gates = say(*(int(done.kept[name][0]) for name in "ifgo"))
        row("", f"i, f, g, o = {gates}; c = {int(layer.c[0])}; tanh c = {int(done.kept['tanh_c'][0])}; h = {h}")
    before = {name: network.tensor(name) for name in model.tensors()}
    result = network.train(label)
    logits = [int(z) for z in network.tensor("logits")]
    loss, gradient = cross_entropy(logits, label)
    assert loss == result.loss
    row("logits", f"{say(*logits)}")
    row("loss", f"d = {say(*gradient)}; loss = {loss}")
    s = result.grad_exponent + 30
    d = [round_shift(g, s) for g in gradient]
    row("scaled", f"s = {s}; d = {say(*d)}; their unit is 2^{s - 30}")
    e = result.dm_exponent
    for t in (1, 0):
        row(f"dM_{t + 1}", f"stored with e = {e}: {say(*(int(v) for v in layer.dm[t]))}")
    bound = Scale(result.bound_m, result.bound_e)
    eta = scales.divide(scales.multiply(model.learning_rate, model.clip), bound)
    assert result.clipped == 1
    row("clip", f"B = {bound.m} · 2^{bound.e} = {float(bound):.4f} > C = {model.clip.m} · 2^{model.clip.e}")
    row("step size", f"lr = {model.learning_rate.m} · 2^{model.learning_rate.e}; η = {eta.m} · 2^{eta.e}")
    dm_unit = result.grad_exponent + e - 6
    for index, (name, delta_t) in enumerate((("W_x of i", (0, 2000)), ("W_h of i", (1, int(done.delta[1]))))):
        t, delta_value = delta_t
        total = int(layer.dm[t][0]) * delta_value
        k = -(eta.e + dm_unit - (11, 14)[index] + 14)
        r = int(random_bits(seed, step, 0, 8)[4 * index])
        old, new = int(before["layer0.weight"][4 * index]), int(network.tensor("layer0.weight")[4 * index])
        assert new == old - ((total * eta.m + addend(r, k)) >> k)
        row(name, f"sum = {int(layer.dm[t][0])} · {delta_value} = {total}; k = {k}; r = {r}; {old} becomes {new}")
    total, k = int(layer.dm[0][0]), -(eta.e + dm_unit + 24)
    r = int(random_bits(seed, step, 1, 4)[0])
    old, new = int(before["layer0.bias"][0]), int(network.tensor("layer0.bias")[0])
    assert new == old - ((total * eta.m + addend(r, k)) >> k)
    row("b of i", f"sum = {total}; k = {k}; r = {r}; {old} becomes {new}")
    return "\n".join(f"    {name:<11}{text}" for name, text in lines)


def test_step_by_hand_is_what_the_reference_computes() -> None:
    assert step_by_hand() in PAGE


def stated(sentence: str) -> None:
    """The page has this sentence, wherever its lines break."""
    assert sentence.translate(MINUS) in ONE_LINE, sentence


def test_formats() -> None:
    """x up to 5.1 and θ = 0.3 go through `quantize`."""
    rows = np.zeros((4, 1))
    layer = LayerWeights("lstm", 0.3, 0.3, rows, rows, np.zeros(4))
    features = FeatureConfig(n_bands=1, mean=(0.0,), std=(1.0,))
    model = FloatModel((layer,), np.zeros((2, 1)), np.zeros(2), ("a", "b"), features, 4)
    quantised = quantize(model, [np.array([[5.1], [0.0]])])[0].layers[0]
    bits = quantised.x_frac_bits
    stated(f"so fx = {bits} (limit {16383 / 2**bits:.4f}; {bits + 1} would give {16383 / 2 ** (bits + 1):.4f})")
    stated(f"θ = 0.3 becomes round(0.3 · {2**bits}) = {quantised.theta_x}, that is {quantised.theta_x / 2**bits:.4f}")


def test_rounding() -> None:
    cases = [(7, 1), (-7, 1), (5, 2), (6, 2)]
    stated(", ".join(f"round({v}, {n}) = {round_shift(v, n)}" for v, n in cases))
    stated(f"⌈√10⌉ = {sqrt_ceil(10)} and ⌈√16⌉ = {sqrt_ceil(16)}")


def test_tables() -> None:
    x = np.array([2**20])
    low, high = (round(65536 * (1 / (1 + math.exp(-k / 32)) - 0.5)) for k in (32, 33))
    y = 2**16 * low + 2 * (high - low)
    sigma = int(sigmoid_q14(x)[0])
    stated(
        f"x = {x[0]}, k = 32, r = 0, T[32] = {low}, T[33] = {high}, y = {y}, σ = 8192 + round({y}, 18) = {sigma}; "
        f"{sigma}/16384 = {sigma / 16384:.5f}, and σ(1) = {1 / (1 + math.exp(-1)):.5f}"
    )
    tanh = int(tanh_q14(x)[0])
    stated(f"tanh(½) = {tanh}, that is {tanh / 16384:.5f}, and tanh(½) = {math.tanh(0.5):.5f}")
    power = exp_negative_q30(2**15)
    stated(f"exp(−½) = {power}, that is {power / 2**30:.6f}, and e^−½ = {math.exp(-0.5):.6f}")


def forward(cell: str, m: list[float], h: int) -> tuple[dict[str, int], int]:
    """A cell of one unit at fM = 28 and fc = 11: what it keeps, and h."""
    counts = SimpleNamespace(saturated_h=0, saturated_c=0, saturated_grad=0)
    values: NDArray[np.int64] = np.array([v * 2**28 for v in m], np.int64)
    state = CELLS[cell].forward(values, np.array([h]), np.array([0]), Formats(28, 11), counts)
    return {name: int(value[0]) for name, value in state.kept.items()}, int(state.h[0])


def test_other_cells() -> None:
    kept, h = forward("gru", [0.5, 1, -1, 0.25], 4000)
    stated(
        f"M = ½, 1, −1, ¼ for nx, r, z, nh and h_prev = 4000: r = {kept['r']}, z = {kept['z']}, n = {kept['n']}, "
        f"h = {h}, and M_nh is kept as {kept['m_nh']}"
    )
    kept, h = forward("rnn", [4], 0)
    stated(f"M = 4: tanh M = {kept['tanh_m']}, h = {h}")
    kept, h = forward("rnn", [8], 0)
    stated(f"M = 8: tanh M = {kept['tanh_m']}, and h saturates at {h}")


def test_stored_gradients() -> None:
    e = int16_exponent(np.array([5_000_000]))
    stated(
        f"5000000 needs e = {e}, for round(5000000, {e}) = {round_shift(5_000_000, e)} but "
        f"round(5000000, {e - 1}) = {round_shift(5_000_000, e - 1)}; a 1000 stored before with e = 5 becomes "
        f"round(1000, {e - 5}) = {round_shift(1000, e - 5)}"
    )


def test_rounded_deltas() -> None:
    one, two = delta_shift(100000), delta_shift(200000)
    stated(
        f"a column that moved by 100000 in all has n = {one}, one by 200000 has n = {two}; there a Δ of 1003 counts as "
        f"round(1003, {two}) = {round_shift(1003, two)}"
    )


def test_beta() -> None:
    """Of the regulariser alone: the loss has no gradient left."""
    beta = int(0.001 * 2**30)
    s = beta.bit_length() - 14
    stated(
        f"⌊0.001 · 2^30⌋ = {beta} and no error: s = {s}, and β' = round({beta}, {s - 6}) = {round_shift(beta, s - 6)}"
    )


def test_random_function() -> None:
    key = np.zeros(1, np.uint32)
    for part in (7, 3, 0):
        key = mix(key + np.uint32(part))
    pair = mix(key + np.uint32(0x9E3779B9))
    stated(f"key = {int(key[0]):#x}. Elements 2 and 3 share pair 1, {int(pair[0]):#x}, so their r are")
    stated("{} and {}.".format(*random_bits(7, 3, 0, 4)[2:]))


def test_every_bound_of_the_table_holds() -> None:
    """Each row `terms | bound | width` that is arithmetic: the terms are within the bound, the bound fits the width."""
    rows = re.findall(
        r"^\| ([^|]+) \| ([^|]+) \| ([^|]+) \| (64|32)(, unsigned)? \|$", PAGE[PAGE.index("## Bounds") :], re.M
    )
    checked = 0
    for what, terms, bound, width, unsigned in rows:
        pairs = list(zip(terms.split(";"), bound.split(";"), strict=False))
        for each, limit in pairs:
            strictly = limit.strip().startswith("<")
            value, largest = evaluated(each), evaluated(limit.replace("<", ""))
            if value is None or largest is None:
                continue
            assert value < largest * (1 + 1e-12) if strictly else value <= largest * (1 + 1e-12), what
            assert largest <= 2.0 ** (int(width) - (0 if unsigned else 1)), what
            checked += 1
    assert checked >= 18


def evaluated(expression: str) -> float | None:
    """The value of `4,096 · 2^30 + 1`; None for a text with words in it."""
    python = re.sub(r"of <", "·", expression).split(",  ")[0].replace("·", "*").replace("^", "**").replace("−", "-")
    python = re.sub(r"(?<=\d),(?=\d{3})", "", python).strip()
    return float(eval(python)) if re.fullmatch(r"[\d\s.*+()-]+", python) else None


if __name__ == "__main__":
    print(step_by_hand())
