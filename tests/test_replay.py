"""Stored exemplars: their coding, their choice, their schedule, and what a study makes of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from equality import random_frames, random_model

from deltatrain import datasets
from deltatrain.datasets import Dataset
from deltatrain.datasets.digits import KNOWN_VOICES
from deltatrain.demo import shipped_model
from deltatrain.errors import InputError
from deltatrain.exemplars import ENTRY_BYTES, VALUE_MAX, VALUE_SHIFT, coarse, decode, encode
from deltatrain.quant_model import QuantModel
from deltatrain.quantize import quantize
from deltatrain.replay import balanced_order, choose, due
from deltatrain.replay_choice import Way, choices, choices_without, pooled
from deltatrain.replay_choice import choose as choose_way
from deltatrain.replay_study import FORMATS, ReplayStudy, run_study
from deltatrain.samples import samples_of
from deltatrain.shards import Row
from deltatrain.training import Settings, check_replay_rate
from deltatrain_core import CoreNetwork


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return datasets.load("digits")


@pytest.fixture(scope="module")
def shipped(digits: Dataset) -> QuantModel:
    return quantize(shipped_model(), [digits.features[0]])[0]


@pytest.mark.parametrize("n_in", [1, 7, 8, 9, 16, 33])
@pytest.mark.parametrize("theta_x", [0, 1, 700, 32767])
def test_decoded_events_are_events_again(n_in: int, theta_x: int) -> None:
    frames = random_frames(np.random.default_rng(n_in), 40, n_in)
    events = encode(frames, theta_x)
    decoded = decode(np.frombuffer(events, np.uint8), len(frames), n_in)
    assert encode(decoded, theta_x) == events
    # Nothing sent lies further from its value than the threshold and the rounding allow.
    assert abs(decoded.astype(int) - (coarse(frames) << VALUE_SHIFT)).max() <= max(theta_x - 1, 0)
    assert (abs(decoded) <= VALUE_MAX << VALUE_SHIFT).all()


def test_bytes_of_two_frames() -> None:
    """The worked example of NUMERICS.md."""
    page = (Path(__file__).parent.parent / "NUMERICS.md").read_text(encoding="utf-8")
    assert "are 05 08 fe and 02 05, and\ndecode to (1024, 0, −256) and (1024, 640, −256)" in page
    frames = np.array([[1000, 0, -300], [1020, 700, -300]], np.int16)
    assert encode(frames, 256).hex(" ") == "05 08 fe 02 05"
    np.testing.assert_array_equal(
        decode(np.frombuffer(bytes.fromhex("0508fe0205"), np.uint8), 2, 3), [[1024, 0, -256], [1024, 640, -256]]
    )


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_events_train_as_all_values_do(cell: str) -> None:
    """What the threshold held back does not reach the network, so leaving it out changes no word."""
    rng = np.random.default_rng(5)
    model = random_model(rng, 12, 10, 4, 40, 1.0, (cell,))
    x = (coarse(random_frames(rng, 40, 12)) << VALUE_SHIFT).astype(np.int16)
    events = encode(x, model.layers[0].theta_x)
    decoded = decode(np.frombuffer(events, np.uint8), 40, 12)
    assert (decoded != x).any()
    results, tensors = [], []
    for frames in (x, decoded):
        core = CoreNetwork(model)
        Settings.of(model, seed=3).apply(core)
        core.begin()
        core.push(frames)
        results.append(core.train(1))
        tensors.append(core.tensors(model.tensors()))
    assert results[0] == results[1]
    for name, values in tensors[0].items():
        np.testing.assert_array_equal(values, tensors[1][name], name)


def test_every_beginning_is_balanced(digits: Dataset) -> None:
    items = np.flatnonzero([name in KNOWN_VOICES for name in digits.speakers])
    order = balanced_order(digits, items, 0)
    assert sorted(order) == list(items)
    assert len(set(digits.labels[order[:10]])) == 10
    assert len({digits.speakers[i] for i in order[:10]}) == len(KNOWN_VOICES)
    cells = {(int(digits.labels[i]), digits.speakers[i]) for i in order[:100]}
    assert len(cells) == 100
    assert list(balanced_order(digits, items, 0)) == list(order)
    assert list(balanced_order(digits, items, 1)) != list(order)


def test_speakers_may_lack_classes(digits: Dataset) -> None:
    items = [i for i in range(len(digits)) if (digits.labels[i] < 3) == (digits.speakers[i] == KNOWN_VOICES[0])][:500]
    assert sorted(balanced_order(digits, items, 0)) == items


def test_a_budget_is_kept(shipped: QuantModel, digits: Dataset) -> None:
    items = np.flatnonzero([name in KNOWN_VOICES for name in digits.speakers])
    store = choose(shipped, digits, items, 4096, 0)
    assert 4096 - 1000 < store.n_bytes <= 4096
    samples = samples_of(shipped, digits, balanced_order(digits, items, 0)[: len(store)]).items
    for number, sample in enumerate(samples):
        assert store.names[number] == sample.name
        assert store.labels[number] == sample.label
        frames = store.frames(number)
        assert encode(frames, shipped.layers[0].theta_x) == encode(sample.frames, shipped.layers[0].theta_x)
    with pytest.raises(InputError, match="hold no exemplar; the first one takes"):
        choose(shipped, digits, items, ENTRY_BYTES, 0)


@pytest.mark.parametrize("rate", [0.0, 0.25, 0.1, 1.0, 1.5, 2.0])
def test_replays_come_at_their_rate(rate: float) -> None:
    counts = [due(done, rate) for done in range(1, 101)]
    assert sum(counts) == round(100 * rate)
    assert max(counts) - min(counts) <= 1


def test_a_rate_out_of_range_is_refused() -> None:
    for rate in (-0.5, 17.0, float("nan")):
        with pytest.raises(InputError, match="replay rate"):
            check_replay_rate(rate)


def row(way: Way, speaker: str, error: float, known: float, passes: int = 1) -> Row:
    return {
        "speaker": speaker, "seed": 0, "order": 0, "passes": passes, "format": way.format,
        "budget_kib": way.budget_kib, "rate": way.rate, "exemplars": 3, "bytes": 100,
        "error": error, "known_error": known,
    }  # fmt: skip


def test_the_choice_takes_the_least_that_is_as_good() -> None:
    none, small, large = Way("none", 0, 0.0), Way("events", 4, 1.0), Way("events", 64, 1.0)
    rows = []
    for number, speaker in enumerate("abcdef"):
        wobble = 0.002 * (-1) ** number
        rows.append(row(none, speaker, 0.10, 0.08))
        rows.append(row(small, speaker, 0.11, 0.03 + wobble))
        rows.append(row(large, speaker, 0.11, 0.0298))
    assert choose_way(rows) == small
    assert choices(rows) == {1: small}
    assert choices_without(rows) == {name: {1: small} for name in "abcdef"}
    assert [(cell.way, cell.meetings) for cell in pooled(rows)] == [(none, 6), (small, 6), (large, 6)]
    assert choose_way([one for one in rows if one["format"] == "none"]) == none
    # Where replay gains less than its error bar, none is taken.
    assert choose_way([one | ({"known_error": 0.06} if one["format"] == "none" else {}) for one in rows]) == small
    assert choose_way([one | ({"known_error": 0.02} if one["format"] == "none" else {}) for one in rows]) == none
    with pytest.raises(InputError, match="no rows with training"):
        choose_way([row(none, "a", 0.1, 0.1, passes=0)])


def test_a_study_goes_on_where_it_stopped(tmp_path: Path) -> None:
    study = ReplayStudy(data="digits", budgets=(2, 8), rates=(0.5,), passes=(1,), format_rate=0.5, fit_epochs=1)
    seen: list[int] = []

    def run(orders: int) -> list[Row]:
        return run_study(
            study, ["en-029+boris"], 1, orders, tmp_path, progress=lambda done, total, beside: seen.append(done)
        )

    first = run(1)
    assert {(r["format"], r["budget_kib"], r["rate"]) for r in first} == {
        ("none", 0, 0.0), *((form, budget, 0.5) for form in FORMATS for budget in (2, 8))
    }  # fmt: skip
    most = {r["format"]: r["exemplars"] for r in first if r["budget_kib"] == 8}
    assert most["int16"] < most["int8"] < most["events"]
    assert all(r["bytes"] <= r["budget_kib"] * 1024 for r in first)
    again = run(2)
    assert again[: len(first)] == first
    assert {r["order"] for r in again} == {0, 1}
