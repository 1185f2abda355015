"""How often values were clamped or lost, as fractions of those computed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from equality import SLOWEST, V_MAX, extreme_model, saturating_gradients

from deltatrain.rates import Rates
from deltatrain.samples import Samples
from deltatrain.training import Sample
from deltatrain_core import CoreNetwork


def test_rates_are_counts_over_what_was_computed() -> None:
    """A sample that saturates gradients and weights: 30 frames of an LSTM 2 → 16 and three classes."""
    extreme = saturating_gradients()
    core = CoreNetwork(extreme.model)
    for name, values in extreme.written.items():
        core.set_tensor(name, values)
    core.begin()
    core.push(extreme.frames)
    result = core.train(extreme.label)
    samples = Samples((Sample(extreme.frames, extreme.label, ""),), saturated=3)
    rates = Rates.of(extreme.model, [result], samples)
    entries = 30 * 4 * 16
    assert result.saturated_grad > 0 and rates.saturated_grad == result.saturated_grad / entries
    assert rates.underflow_dm == result.underflow_dm / entries
    assert rates.saturated_w == result.saturated_w / (18 * 64 + 64 + 3 * 16 + 3)
    assert rates.saturated_h == result.saturated_h / (30 * 16)
    assert rates.saturated_c == result.saturated_c / (30 * 16)
    assert rates.saturated_x == 3 / 60
    assert Rates.of(extreme.model, [result], samples, replace(samples, saturated=0)).saturated_x == 3 / 120


def test_an_rnn_has_no_cell_state_to_saturate() -> None:
    model = extreme_model(2, 3, 2, 5, learning_rate=SLOWEST)
    rnn = replace(model.layers[0], cell="rnn", weight=np.zeros((5, 3), np.int16), bias=np.zeros(3, np.int32))
    model = replace(model, layers=(rnn,))
    core = CoreNetwork(model)
    core.begin()
    core.push(np.full((5, 2), V_MAX, np.int16))
    result = core.train(0)
    assert Rates.of(model, [result], Samples((), 0)) == Rates(0, 0, 0, 0, 0, result.underflow_dm / (5 * 3))
