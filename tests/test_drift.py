"""M = b + W v̂ over a long sample of real features: float32 runs away from it, integers never do."""

from __future__ import annotations

import numpy as np
import pytest
import study_drift
from numpy.typing import NDArray

from deltatrain.fixed import FixedNetwork


def test_float32_drifts_and_integers_do_not() -> None:
    found = study_drift.drift(*study_drift.long_sample(1500))
    assert found.integers.shape == found.float32.shape == (1500,)
    assert not found.integers.any()
    early, late = found.float32[:100].mean(), found.float32[-100:].mean()
    assert 0 < 2 * early < late < 1e-4


def test_a_wrong_m_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The smallest change of M, a unit of its last bit, is not lost on the way to the figure."""
    push = FixedNetwork.push

    def one_bit_off(network: FixedNetwork, frames: NDArray[np.int16]) -> NDArray[np.int16]:
        hidden = push(network, frames)
        network.layers[0].m[0] += 1
        return hidden

    monkeypatch.setattr(FixedNetwork, "push", one_bit_off)
    assert (study_drift.drift(*study_drift.long_sample(3)).integers > 0).all()
