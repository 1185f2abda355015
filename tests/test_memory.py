"""Plans of memory: the same words from all of them; what has no room is refused and counted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from equality import (
    CELLS,
    EXTREMES,
    Rng,
    assert_same,
    assert_same_words,
    random_cells,
    random_frames,
    random_model,
    random_settings,
    random_targets,
    words_of,
)

from deltatrain.errors import SampleRefused
from deltatrain.fixed import FixedNetwork
from deltatrain.memory import BUDGET_ONE, Memory
from deltatrain.quant_model import QuantModel
from deltatrain.reference import READOUT_KINDS
from deltatrain.training import Engine, Sample, Settings
from deltatrain_core import CoreError, CoreNetwork, StepResult, arena_sizes


def by_segments(model: QuantModel, steps: int) -> QuantModel:
    return replace(model, memory=Memory("checkpoints", steps))


def random_sample(rng: Rng, model: QuantModel, n_steps: int) -> Sample:
    x = random_frames(rng, n_steps, model.n_in)
    return Sample(x, int(rng.integers(model.n_outputs)), "", random_targets(rng, model, n_steps))


def train(engine: Engine, sample: Sample) -> StepResult:
    result = sample.train_whole(engine)
    assert isinstance(result, StepResult)
    return result


def assert_same_outcome(model: QuantModel, history: CoreNetwork, segments: CoreNetwork, sample: Sample) -> StepResult:
    """Train both on a sample and compare all that both hold."""
    expected, result = train(history, sample), train(segments, sample)
    assert expected.macs_recomputed == 0 < result.macs_recomputed or not result.macs_forward
    assert replace(result, macs_recomputed=0) == expected
    for name in words_of(model):
        words, others = history.tensor(name), segments.tensor(name)
        if name.endswith(".dm"):
            words = words[: others.size]
        assert_same(words, others, name)
    return result


@pytest.mark.parametrize("seed", range(60))
def test_checkpoints_give_the_words_of_the_whole_history(seed: int) -> None:
    rng = np.random.default_rng([1, seed])
    model = random_model(
        rng,
        n_in=int(rng.integers(1, 20)),
        n_hidden=int(rng.integers(1, 24)),
        n_classes=int(rng.integers(2, 6)),
        max_steps=int(rng.integers(2, 40)),
        spread=float(rng.choice([0.3, 1.0, 4.0, 30.0])),
        cells=(CELLS[seed % 3],) if seed % 2 else random_cells(rng),
        readout=READOUT_KINDS[seed % len(READOUT_KINDS)],
    )
    if rng.random() < 0.3:
        model = replace(model, layers=tuple(replace(layer, theta_x=0, theta_h=0) for layer in model.layers))
    longest = model.max_steps
    steps = [1, 2, max(1, longest - 1), longest, int(rng.integers(1, longest + 1))][seed % 5]
    history, segments = CoreNetwork(model), CoreNetwork(by_segments(model, min(steps, longest)))
    settings = random_settings(rng, model)
    for network in (history, segments):
        settings.apply(network)
    for _ in range(4):
        sample = random_sample(rng, model, int(rng.integers(1, longest + 1)))
        assert_same_outcome(model, history, segments, sample)
