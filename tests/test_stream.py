"""Data sets of any length: read one item at a time, in an order with access at any place, with a log of every step."""

from __future__ import annotations

import itertools
import json
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from equality import random_exemplars
from scipy.io import wavfile

from deltatrain import datasets
from deltatrain.comparison import Comparison, compare
from deltatrain.errors import DataError, InputError
from deltatrain.features import FeatureConfig
from deltatrain.fixed import FixedNetwork
from deltatrain.order import Order, Turns, turn_after
from deltatrain.personal import everybody, personal
from deltatrain.quant_model import QuantModel
from deltatrain.rates import Rates
from deltatrain.replay import taken, with_replay
from deltatrain.report.run_figure import run_figure
from deltatrain.run import Journal, Log, Stream, read_events
from deltatrain.samples import samples_of, streamed
from deltatrain.totals import SUMMED, Totals
from deltatrain.training import Sample, Settings, evaluate
from deltatrain_core import CoreNetwork

# ---- bounded memory


def write_sequences(folder: Path, count: int, n_in: int, n_frames: int) -> None:
    folder.mkdir()
    rng = np.random.default_rng(1)
    for number in range(count):
        x = rng.normal(size=(n_frames, n_in)).astype(np.float32)
        np.savez(folder / f"ann_{number:03}.npz", x=x, targets=rng.integers(0, 3, n_frames))


def write_recordings(folder: Path, count: int, seconds: int) -> None:
    rng = np.random.default_rng(1)
    for word in ("no", "yes"):
        (folder / word).mkdir(parents=True)
        for number in range(count // 2):
            audio = rng.integers(-9999, 9999, 8000 * seconds, np.int16)
            wavfile.write(folder / word / f"ann_{number}.wav", 8000, audio)


def peak_of(work: Callable[[], object]) -> int:
    """Most bytes of memory in use at once beyond those before."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", ["sequences", "recordings"])
def test_a_data_set_is_never_whole_in_memory(
    kind: str, make_integer_model: Callable[..., QuantModel], tmp_path: Path
) -> None:
    folder = tmp_path / "set"
    if kind == "sequences":
        write_sequences(folder, 60, n_in := 100, 400)
        model = make_integer_model(n_in, 4, 400, ("0", "1", "2"), readout="frames")
    else:
        write_recordings(folder, 600, 1)
        model = make_integer_model(16, 4, 98, ("no", "yes"))
    n_in = model.n_in
    config = FeatureConfig(n_bands=n_in, max_frames=model.max_steps, mean=(0.0,) * n_in, std=(9.0,) * n_in)
    model = QuantModel(**{**vars(model), "features": config})
    core = CoreNetwork(model)
    whole = sum(len(item) for item in datasets.load(str(folder), config=config).features) * n_in * 4

    def work() -> None:
        data = datasets.stream(str(folder), config=config)
        order = Order(np.arange(len(data)), 0)
        train = streamed(model, data, np.array([order.item(index) for index in range(40)]))
        for sample in train[:20]:
            sample.train_whole(core)
        evaluate(core, train[20:], model.n_outputs)
        totals, settings = Totals(), Settings.of(model)
        compared = compare(
            {"core": core, "another": CoreNetwork(model)},
            model,
            Stream(model, data, order, settings).samples(5),
            settings,
            with_float=False,
            on_step=totals.add_step,
        )
        assert (totals.steps, compared.steps, compared.words_different) == (5, (), 0)

    work()  # whatever is loaded once is loaded
    assert peak_of(lambda: datasets.load(str(folder), config=config)) > whole
    assert peak_of(work) < whole / 3


def test_what_is_compared_is_what_is_held_and_compared(
    make_integer_model: Callable[..., QuantModel], tmp_path: Path
) -> None:
    """Samples made when their turn comes, steps that are summed: the same, exemplars included, as with all at hand."""
    write_recordings(tmp_path / "set", 6, 1)
    config = FeatureConfig(max_frames=30, mean=(0.0,) * 16, std=(0.4,) * 16)
    data = datasets.stream(str(tmp_path / "set"), config=config)
    model = replace(make_integer_model(16, 4, 30, ("no", "yes")), features=config)
    model = replace(model, replay=random_exemplars(np.random.default_rng(2), model))
    settings, order = Settings.of(model, seed=7, replay_rate=0.7), Order(np.arange(6), 7)

    def run(samples: Sequence[Sample], **options: Any) -> Comparison:
        return compare({"C": CoreNetwork(model), "integers": FixedNetwork(model)}, model, samples, settings, **options)

    held = samples_of(model, data, [order.item(index) for index in range(12)])
    whole = run(with_replay(model, held.items, settings), taken=taken(model, settings))
    totals = Totals()
    summed = run(
        Stream(model, data, order, settings).samples(12), taken=taken(model, settings), on_step=totals.add_step
    )
    assert summed == replace(whole, steps=(), float_model=summed.float_model) and summed.words_different == 0
    assert (totals.new_steps, totals.steps) == (12, len(whole.steps)) == (12, 20)
    told = Rates.of(model, [step.result for step in whole.steps], held)
    assert Rates.of(model, [totals], totals, n_steps=totals.steps) == told and 0 < told.saturated_x < 1


def test_items_are_read_when_asked_for(tmp_path: Path) -> None:
    write_recordings(tmp_path / "set", 4, 1)
    data, held = (make(str(tmp_path / "set")) for make in (datasets.stream, datasets.load))
    assert data.identity() == held.identity() == datasets.stream(str(tmp_path / "set")).identity()
    assert data.n_cut == held.n_cut == 4
    for chosen in (range(4), [3, 1]):
        for one, other in zip(data.select(chosen).features, held.select(chosen).features, strict=True):
            np.testing.assert_array_equal(one, other)
    wavfile.write(tmp_path / "set" / "no" / "ann_0.wav", 8000, np.zeros(900, np.int16))
    assert len(data[0].features) == 9 < len(held[0].features)
    assert datasets.stream(str(tmp_path / "set")).identity() != data.identity()
    (tmp_path / "set" / "no" / "ann_1.wav").write_bytes(b"RIFF")
    with pytest.raises(DataError, match=r"ann_1.wav ends inside its wav header"):
        data[1]


def test_sequences_that_cannot_be_used_are_told_when_read(tmp_path: Path) -> None:
    write_sequences(tmp_path / "set", 2, 3, 5)
    data = datasets.stream(str(tmp_path / "set"))
    np.savez(tmp_path / "set" / "ann_001.npz", x=np.full((5, 3), np.inf), targets=np.zeros(5, int))
    assert data[0].targets is not None and data.judged_by == "frames"
    with pytest.raises(DataError, match=r"ann_001.npz: x\[0, 0\] is inf"):
        data[1]


# ---- order


@pytest.mark.parametrize("rate", [0.0, 0.3, 0.5, 1.0, 2.5])
def test_turns_can_be_found_anywhere(rate: float) -> None:
    turns = Turns.of(rate)
    news: list[int | None] = []
    for done in range(1, 40):
        news += [done - 1, *[None] * (int(done * turns.rate) - int((done - 1) * turns.rate))]
        assert turns.count(done) == len(news)
    assert [turns.new_at(turn) for turn in range(len(news))] == news
    assert [turns.new_before(turn) for turn in range(len(news))] == list(
        itertools.accumulate([0] + [new is not None for new in news[:-1]])
    )


def test_refused_turns_take_no_step() -> None:
    refused = [0, 3, 4, 9]
    trained = [turn for turn in range(14) if turn not in refused]
    assert [turn_after(steps, refused) for steps in range(len(trained))] == trained


def test_the_order_is_the_same_from_everywhere() -> None:
    data = datasets.load("digits")
    order, other = (Order(personal(data, "en-029+boris", per_class=2, epochs=1, seed=3).train, 3) for _ in range(2))
    items = [order.item(index) for index in range(80)]
    assert items == personal(data, "en-029+boris", per_class=2, epochs=4, seed=3).train.tolist()
    assert sorted(items[20:40]) == sorted(items[:20]) != items[:20]
    assert [other.item(index) for index in (79, 3, 41, 20)] == [items[index] for index in (79, 3, 41, 20)]


def test_everybody_trains() -> None:
    data = datasets.load("digits")
    train, test = everybody(data, None, 0.25, 1)
    assert sorted([*train, *test]) == list(range(len(data))) and len(test) == 840
    assert set(np.array(data.speakers)[test]) == set(data.speakers)
    assert len(everybody(data, None, 0, 1)[1]) == 0
    train, test = everybody(data, "en-029+boris", 0.25, 1)
    assert set(np.array(data.speakers)[test]) == {"en-029+boris"} and len(train) + len(test) == len(data)
    assert not np.array_equal(train, everybody(data, "en-029+boris", 0.25, 2)[0])


# ---- Google Speech Commands


def test_gscd_names_say_word_and_speaker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(datasets.DATA_DIR_VARIABLE, raising=False)
    for name in (
        "yes/0a7c2a8d_nohash_0.wav",
        "yes/0a7c2a8d_nohash_1.wav",
        "_unknown_/bed_1b4c9b89_nohash_3.wav.wav",
        "_silence_/10.wav",
        "_background_noise_/pink_noise.wav",
    ):
        (tmp_path / "gscd" / name).parent.mkdir(parents=True, exist_ok=True)
        wavfile.write(tmp_path / "gscd" / name, 16000, np.zeros(16000, np.int16))
    data = datasets.load("gscd", tmp_path)
    assert data.class_names == ("_silence_", "_unknown_", "yes")
    assert data.speakers == ("_silence_", "1b4c9b89", "0a7c2a8d", "0a7c2a8d")
    assert data.indices.tolist() == [0, 0, 0, 1] and {len(item) for item in data.features} == {98}
    assert data.n_cut == 0 and data.config.sample_rate == 16000
    with pytest.raises(DataError, match="sample rate of 16000 Hz, expected 8000"):
        datasets.stream("gscd", tmp_path, FeatureConfig())
    (tmp_path / "gscd" / "yes" / "mine.wav").write_bytes(b"")
    with pytest.raises(DataError, match="not named as a recording of gscd"):
        datasets.stream("gscd", tmp_path)
    for place in (None, tmp_path / "yes"):
        with pytest.raises(DataError, match=r"CC BY 4.0.*--data-dir"):
            datasets.stream("gscd", place)


# ---- the log


def step(number: int, **more: Any) -> dict[str, Any]:
    told = {"step": number, "turn": number - 1, "sample": "x", "replayed": False, "loss": 1.0, "error": 1.0}
    return {**told, "inputs": 4, "inputs_saturated": 1, "occupancy": 0.25, **dict.fromkeys(SUMMED, 2), **more}


def test_a_log_survives_a_cut_anywhere(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    with Log(path) as log:
        log.write("start", step=0)
        log.write("step", **step(1))
        with pytest.raises(InputError, match=r"another program writes to .*log.jsonl"):
            Log(tmp_path / "other.jsonl", path)
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    for end in range(len(whole) + 1):
        path.write_bytes(whole[:end])
        assert len(list(read_events(path))) == (end >= first) + (end == len(whole))
        if end % 50 == 0:
            with Log(path) as log:
                log.write("again")
            assert [event["event"] for event in read_events(path)][-1] == "again"
    path.write_bytes(b"{]\n" + whole)
    with pytest.raises(InputError, match="line 1 is no JSON"):
        list(read_events(path))
    path.write_bytes(b"[]\n" + whole)
    with pytest.raises(InputError, match="line 1 is no event"):
        list(read_events(path))
    assert list(read_events(tmp_path / "nothing")) == []


def test_the_journal_counts_each_step_once() -> None:
    journal = Journal(10)
    for number in (11, 12):
        journal.add({"event": "step", **step(number)})
    journal.add({"event": "refused", "turn": 2})
    journal.add({"event": "refused", "turn": 3})
    for number in (13, 14):
        journal.add({"event": "step", **step(number, replayed=number == 14)})
    assert (journal.step, journal.turn, journal.refused) == (14, 6, [2, 3])
    journal.add({"event": "resume", "step": 12})
    assert (journal.step, journal.turn, journal.refused) == (12, 4, [2, 3])
    journal.add({"event": "resume", "step": 11})
    assert (journal.step, journal.turn, journal.refused) == (11, 1, [])
    for number in (12, 13, 14, 15):
        journal.add({"event": "step", **step(number, replayed=number == 14)})
    totals = journal.totals
    assert (totals.steps, totals.new_steps, totals.loss_sum, totals.values, totals.macs_forward) == (5, 4, 4.0, 16, 10)
    assert totals.loss == 1.0
    with pytest.raises(AttributeError):
        _ = totals.nothing


def test_a_picture_of_any_length(tmp_path: Path) -> None:
    path, picture = tmp_path / "log.jsonl", tmp_path / "run.png"
    lines = [{"event": "evaluation", "step": 0, "error": 0.5}, {"event": "resume", "step": 500}]
    lines += [{"event": "step", **step(number, replayed=number % 3 == 0)} for number in range(1, 2001)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert run_figure(path, picture) == 2000
    assert picture.read_bytes().startswith(b"\x89PNG")
    path.write_text(json.dumps(lines[0]) + "\n")
    with pytest.raises(InputError, match="no training step yet"):
        run_figure(path, picture)
    path.write_text('{"event": "step"}\n')
    with pytest.raises(InputError, match="is no log of `train`"):
        run_figure(path, picture)
