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


@pytest.mark.parametrize("name", EXTREMES)
def test_checkpoints_hold_at_the_ends_of_all_ranges(name: str) -> None:
    extreme = EXTREMES[name]()
    model = extreme.model
    history, segments = (CoreNetwork(m) for m in (model, by_segments(model, max(1, round(model.max_steps**0.5)))))
    for network in (history, segments):
        replace(Settings.of(model), beta=extreme.beta).apply(network)
        for tensor, values in extreme.written.items():
            network.set_tensor(tensor, values)
    sample = Sample(extreme.frames, extreme.label, "", extreme.targets)
    assert extreme.reaches(assert_same_outcome(model, history, segments, sample))  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(12))
def test_checkpoints_equal_the_integer_reference(seed: int) -> None:
    """What they compute once more is counted alike, and what is held of dM is the same."""
    rng = np.random.default_rng([2, seed])
    model = random_model(rng, 5, 9, 3, 17, float(rng.choice([1.0, 30.0])), random_cells(rng), READOUT_KINDS[seed % 3])
    model = by_segments(model, int(rng.integers(1, 18)))
    oracle, core = FixedNetwork(model), CoreNetwork(model)
    settings = random_settings(rng, model)
    for network in (oracle, core):
        settings.apply(network)
    for _ in range(3):
        sample = random_sample(rng, model, int(rng.integers(1, 18)))
        assert_same_words(oracle, core, model, sample.train_whole(oracle), train(core, sample))


@pytest.mark.parametrize("kind", ["history", "checkpoints"])
@pytest.mark.parametrize("seed", range(8))
def test_an_event_budget_refuses_and_counts_alike(kind: str, seed: int) -> None:
    rng = np.random.default_rng([3, seed])
    cells = random_cells(rng)
    model = random_model(rng, 6, 8, 3, 20, 1.0, cells, READOUT_KINDS[seed % 3])
    layers = tuple(replace(layer, theta_x=0, theta_h=0) for layer in model.layers)
    budget = int(BUDGET_ONE * rng.uniform(0.2, 0.4))
    memory = Memory(kind, 0 if kind == "history" else 7, budget)
    model = replace(model, layers=layers, memory=memory)
    oracle, core = FixedNetwork(model), CoreNetwork(model)
    refused = 0
    for _ in range(20):
        sample = random_sample(rng, model, int(rng.integers(1, 21)))
        try:
            expected = sample.train_whole(oracle)
        except SampleRefused:
            refused += 1
            with pytest.raises(SampleRefused):
                sample.train_whole(core)
            with pytest.raises(CoreError, match="no sample is under way"):  # it is dropped whole
                core.train(0) if model.readout == "last" else core.learn()
            assert core.tensor("layer0.dm").size == 0
        else:
            assert_same_words(oracle, core, model, expected, train(core, sample))
        assert core.n_refused == oracle.n_refused == refused
    assert 0 < refused < 20


@pytest.mark.parametrize("readout", READOUT_KINDS)
def test_inference_alone_takes_little_and_tells_the_same(readout: str) -> None:
    rng = np.random.default_rng(4)
    model = random_model(rng, 5, 9, 3, 30, 1.0, ("gru", "lstm"), readout)
    trains, infers = CoreNetwork(model), CoreNetwork(replace(model, memory=Memory("inference")))
    assert infers.arena_bytes < trains.arena_bytes // 2
    for _ in range(3):
        sample = random_sample(rng, model, 30)
        for network in (trains, infers):
            network.begin()
        hidden = trains.push(sample.frames, targets=sample.targets)
        assert_same(hidden, infers.push(sample.frames, targets=sample.targets), "hidden states")
        assert trains.infer() == infers.infer()
        for name in ("logits", "layer1.cell", "layer0.hidden"):
            assert_same(trains.tensor(name), infers.tensor(name), name)
        with pytest.raises(CoreError, match="built for inference only"):
            sample.train(infers)


def test_a_plan_that_is_none_is_refused() -> None:
    model = random_model(np.random.default_rng(5), 3, 4, 2, 10, 1.0)
    for memory in (Memory("checkpoints", 0), Memory("checkpoints", 11), Memory("history", 3), Memory("inference", 1)):
        assert arena_sizes(model, [Memory(), memory])[1] == 0
        with pytest.raises(CoreError, match="not supported"):
            CoreNetwork(replace(model, memory=memory))


def test_thresholds_are_those_of_the_sample_s_beginning() -> None:
    """Else checkpoints could not compute the sample again."""
    rng = np.random.default_rng(6)
    model = random_model(rng, 4, 6, 3, 12, 1.0)
    sample = random_sample(rng, model, 12)
    networks = (FixedNetwork(model), CoreNetwork(model), CoreNetwork(by_segments(model, 5)))
    results = []
    for network in networks:
        settings = Settings.of(model)
        settings.apply(network)
        network.begin()
        network.push(sample.frames[:6])
        replace(settings, theta_x=(30000,), theta_h=(0,)).apply(network)
        network.push(sample.frames[6:])
        results.append(sample.train(network))
    assert results[1] == replace(results[2], macs_recomputed=0)
    assert_same_words(networks[0], networks[1], model, results[0], results[1])
    untouched = CoreNetwork(model)
    Settings.of(model).apply(untouched)
    assert sample.train_whole(untouched) == results[1]
