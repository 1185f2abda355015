"""Plans of memory: the same words from all of them; what has no room is refused and counted."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import plan_table
import pytest
from conftest import NativeDevice
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
from study_cores import train_beside
from test_cli import run, run_json

from deltatrain.comparison import compare
from deltatrain.errors import BuildError, DeviceError, InputError, SampleRefused
from deltatrain.exemplars import encode, store
from deltatrain.fixed import FixedNetwork
from deltatrain.link import Device
from deltatrain.memory import BUDGET_ONE, Memory
from deltatrain.quant_model import QuantModel
from deltatrain.reference import READOUT_KINDS
from deltatrain.replay import taken, with_replay
from deltatrain.targets import Board, Emulator, find_board
from deltatrain.training import Engine, Sample, Settings, evaluate
from deltatrain.training import train as train_engine
from deltatrain_codegen import check_fits, export, for_inference, plan_memory, ram_needed
from deltatrain_codegen.memory import resized, ways_out
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


def test_replay_goes_on_in_step_after_a_refusal() -> None:
    """A refused sample takes no step, and the step's number tells which exemplar comes."""
    rng = np.random.default_rng(14)
    model = random_model(rng, 6, 8, 3, 20, 1.0)
    layers = tuple(replace(layer, theta_x=0, theta_h=0) for layer in model.layers)
    kept = [
        (encode(random_frames(rng, n_steps, 6), 0), n_steps, n_steps % 3, str(n_steps)) for n_steps in (1, 2, 3, 4, 5)
    ]
    model = replace(model, layers=layers, replay=store(6, kept), memory=Memory("history", 0, BUDGET_ONE // 2))
    settings = replace(Settings.of(model, seed=3), replay_rate=1.0)
    samples = [random_sample(rng, model, n_steps) for n_steps in (4, 20, 5, 20, 20, 6, 3)]
    turns = with_replay(model, samples, settings)
    networks: tuple[Engine, ...] = (CoreNetwork(model), FixedNetwork(model))
    for network in networks:
        settings.apply(network)
        trained = train_engine(network, turns, taken=taken(model, settings))
        assert 0 < len(trained.refused) < len(samples)
        assert all(step.result.n_steps == len(step.sample.frames) for step in trained)
    assert_same(networks[0].tensor("layer0.weight"), networks[1].tensor("layer0.weight"), "layer0.weight")
    names = [step.sample.name for step in trained if step.sample.replayed]
    assert names != [sample.name for sample in turns if sample.replayed]  # what was planned without refusals


# the planner
# -----------


def an386() -> Board:
    board = find_board("mps2-an386")
    assert board is not None
    return board


def sized(cell: str, n_hidden: int, max_steps: int) -> QuantModel:
    return random_model(np.random.default_rng(0), 16, n_hidden, 10, max_steps, 1.0, (cell,))


def ram_of(model: QuantModel) -> int:
    return sum(ram_needed(model, an386()).values())


@pytest.mark.parametrize(
    ("cell", "n_hidden", "max_steps", "kind", "limit"),
    [
        ("lstm", 64, 50, "history", 97_000),
        ("gru", 64, 50, "history", 84_700),
        ("lstm", 110, 50, "history", 192 * 1024),
        ("lstm", 64, 400, "checkpoints", 192 * 1024),
    ],
)
def test_the_planner_takes_the_smaller_plan(cell: str, n_hidden: int, max_steps: int, kind: str, limit: int) -> None:
    model = sized(cell, n_hidden, max_steps)
    planned = plan_memory(model)
    assert planned.memory.kind == kind
    by_kind = [ram_of(plan_memory(model, plan)) for plan in ("history", "checkpoints")]
    assert ram_of(planned) == min(by_kind) <= limit
    assert ram_of(for_inference(model)) < ram_of(planned) - 30_000
    assert planned.hash() == model.hash()  # the host need not know the plan to know the model


def test_the_length_of_segments_is_the_best_one() -> None:
    model = random_model(np.random.default_rng(0), 5, 7, 3, 60, 1.0, ("gru", "lstm"))
    best = plan_memory(model, "checkpoints").memory.segment_steps
    sizes = arena_sizes(model, [Memory("checkpoints", steps) for steps in range(1, 61)])
    assert sizes[best - 1] == min(sizes)


def test_a_plan_out_of_the_question_is_a_clear_error() -> None:
    model = sized("gru", 4, 5)
    with pytest.raises(InputError, match="must be one of auto, history, checkpoints"):
        plan_memory(model, "none")
    for fraction in (0.0, -1.0, 1.5):
        with pytest.raises(InputError, match="above 0 and be at most 1"):
            plan_memory(model, "history", fraction)
    assert plan_memory(model, "history", 1.0).memory == Memory()


def test_the_refusal_offers_checkpoints_and_an_event_budget() -> None:
    model = replace(sized("lstm", 64, 400), memory=Memory())
    small = replace(an386(), ram_bytes=192 * 1024)
    with pytest.raises(BuildError, match=r"checkpoints every \d+ frames, which takes more time \(--plan checkpoints\)"):
        check_fits(model, small)
    model = sized("lstm", 64, 50)
    board = replace(an386(), ram_bytes=ram_of(model) - 1_000)
    budgets = [way for way in ways_out(model, board) if way.memory is not None]
    assert len(budgets) == 1
    found = re.search(r"room for (\d+)% of all events \(--event-budget (0\.\d+)\)", str(budgets[0]))
    assert found is not None
    assert ram_of(plan_memory(model, "history", float(found[2]))) <= board.ram_bytes
    assert ram_of(plan_memory(model, "history", float(found[2]) + 0.01)) > board.ram_bytes
    # Sizes that are offered for checkpoints are planned with segments of their own.
    long = plan_memory(sized("lstm", 64, 400), "checkpoints")
    board = replace(an386(), ram_bytes=ram_of(long) - 30_000)
    ways = ways_out(long, board)
    assert {"n_hidden"} in [set(way.sizes) for way in ways]
    for way in ways:
        smaller = resized(long, **way.sizes) if way.sizes else long
        assert ram_of(plan_memory(smaller, "checkpoints")) <= board.ram_bytes


def test_the_page_shows_what_the_planner_says() -> None:
    page = (Path(__file__).parents[1] / "docs" / "MEMORY.md").read_text(encoding="utf-8")
    for row in plan_table.rows(an386()):
        assert row in page, "run tools/plan_table.py and put its table there"


# on devices
# ----------


def need_board(board: Board) -> None:
    for program in board.needs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed; `make setup` installs it")


def test_a_long_sample_trains_in_192_kib(tmp_path: Path) -> None:
    """LSTM 16→64 over 400 frames: 385 KB by the whole history."""
    small = replace(an386(), ram_bytes=192 * 1024)
    need_board(small)
    model = plan_memory(sized("lstm", 64, 400))
    layer = replace(model.layers[0], theta_x=600, theta_h=1600)
    model = replace(model, layers=(layer,))
    built = export(model, small, tmp_path)
    assert built.ram_bytes <= small.ram_bytes
    with Emulator.start(small, built.elf) as emulator, Device.open(emulator.port, timeout=60) as device:
        assert device.info.memory == model.memory
        rng = np.random.default_rng(7)
        engines: dict[str, Engine] = {"device": device, "host C": CoreNetwork(replace(model, memory=Memory()))}
        samples = [random_sample(rng, model, n_steps) for n_steps in (400, 57, 399)]
        words = 0
        for engine in engines.values():
            Settings.of(model).apply(engine)
        for sample in samples:
            results = [sample.train_whole(engine) for engine in engines.values()]
            for name in ("loss", "bound_m", "underflow_dm", "macs_gradient", "dm_exponent"):
                assert getattr(results[0], name) == getattr(results[1], name), name
            for name in model.tensors():
                values = [engine.tensor(name) for engine in engines.values()]
                assert_same(values[1], values[0], name)
                words += values[0].size
        assert words == 3 * (80 * 256 + 256 + 640 + 10)
        totals = device.statistics()
        assert totals.samples_trained == 3 and totals.samples_refused == 0 < totals.macs_recomputed
        assert totals.stack_high_water <= 2 * totals.ram_stack // 3


@pytest.fixture(scope="module")
def on_the_board(tmp_path_factory: pytest.TempPathFactory) -> tuple[QuantModel, Path]:
    """A stack by checkpoints, with a budget of events, exported by the command line into 24 KiB."""
    need_board(an386())
    folder = tmp_path_factory.mktemp("checkpoints")
    rng = np.random.default_rng(8)
    model = random_model(rng, 9, 12, 4, 30, 1.0, ("gru", "lstm"), "frames")
    layers = tuple(replace(layer, theta_x=50, theta_h=50) for layer in model.layers)
    model = replace(model, layers=layers)
    model.save(folder / "model.safetensors")
    built = run_json(
        *("export", "--model", folder / "model.safetensors", "--out", folder / "build"),
        *("--plan", "checkpoints", "--event-budget", 0.6, "--ram-bytes", 24 * 1024),
    )
    assert built["memory"]["kind"] == "checkpoints" and built["ram_bytes"] <= 24 * 1024
    assert set(built["ram"]) == {
        *("weights", "history", "events", "checkpoints", "gradient", "scratch", "stack", "link", "other")
    }
    assert 0 <= sum(built["ram_needed"]["training"].values()) - built["ram_bytes"] < 512
    assert sum(built["ram_needed"]["inference"].values()) < built["ram_bytes"] // 2 + 6_000
    return replace(QuantModel.load(folder / "build" / "model.safetensors"), provenance={}), Path(built["elf"])


def test_checkpoints_and_refusals_on_the_emulated_board(on_the_board: tuple[QuantModel, Path]) -> None:
    model, elf = on_the_board
    rng = np.random.default_rng(9)
    samples = [random_sample(rng, model, int(rng.integers(1, 31))) for _ in range(12)]
    with Emulator.start(an386(), elf) as emulator, Device.open(emulator.port) as device:
        assert device.info.memory == model.memory
        engines: dict[str, Engine] = {
            "device": device,
            "host C": CoreNetwork(model),
            "integer reference": FixedNetwork(model),
        }
        outcome = compare(engines, model, samples, Settings.of(model), with_float=False)
        assert outcome.words_different == 0, str(outcome.first_difference)
        assert 0 < outcome.refused < len(samples) == outcome.refused + len(outcome.steps)
        assert device.statistics().samples_refused == outcome.refused
        judged = evaluate(device, samples, model.n_outputs)
        assert judged.refused == outcome.refused
        device.reset_weights()
        trained = train_engine(device, samples)
        assert len(trained.refused) == outcome.refused and len(trained) == len(outcome.steps)


def test_a_refusal_of_one_engine_alone_is_a_difference() -> None:
    model = random_model(np.random.default_rng(10), 4, 6, 3, 20, 1.0)
    model = replace(model, layers=tuple(replace(layer, theta_x=0, theta_h=0) for layer in model.layers))
    tight = replace(model, memory=Memory("history", 0, BUDGET_ONE // 5))
    samples = [random_sample(np.random.default_rng(11), model, 20)]
    engines = {"tight": CoreNetwork(tight), "roomy": CoreNetwork(model)}
    outcome = compare(engines, model, samples, Settings.of(model), with_float=False)
    assert outcome.refused == outcome.words_different == 1
    assert outcome.first_difference is not None and outcome.first_difference.tensor == "refused"


def test_checkpoints_under_sanitizers(native_device: Callable[..., NativeDevice]) -> None:
    rng = np.random.default_rng(12)
    model = random_model(rng, 7, 10, 3, 24, 1.0, ("lstm", "gru"), "regression")
    model = by_segments(model, 5)
    with Device.open(native_device(model).url) as device:
        assert train_beside(device, model, random_settings(rng, model), rng, 10) > 1_000


def test_a_device_for_inference_only(native_device: Callable[..., NativeDevice]) -> None:
    rng = np.random.default_rng(13)
    model = for_inference(random_model(rng, 7, 10, 3, 24, 1.0, ("lstm", "gru")))
    sample, host = random_sample(rng, model, 24), CoreNetwork(model)
    with Device.open(native_device(model).url) as device:
        engines: tuple[Engine, ...] = (host, device)
        for engine in engines:
            engine.begin()
        hidden = [engine.push(sample.frames) for engine in engines]
        assert_same(hidden[0], hidden[1], "hidden states")
        assert device.infer().predicted == host.infer().predicted
        with pytest.raises(DeviceError, match="built for inference only"):
            device.train(0)
        assert device.infer().predicted == host.infer().predicted  # the sample is still there


def test_more_ram_than_the_board_has_is_a_clear_error(tmp_path: Path) -> None:
    sized("rnn", 4, 5).save(tmp_path / "model.safetensors")
    refused = run("export", "--model", tmp_path / "model.safetensors", "--ram-bytes", 2**30, status=2)
    assert "mps2-an386 has 4194304 bytes of RAM" in refused.output
