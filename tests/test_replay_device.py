"""Replay from the model's file to the device: what is kept, what is refused, and that every engine trains it alike."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from equality import assert_same_words, random_exemplars, random_frames, random_model
from safetensors.numpy import load_file

from deltatrain.comparison import compare
from deltatrain.errors import BuildError, InputError, ModelError
from deltatrain.exemplars import VALUE_MAX, Exemplars
from deltatrain.fixed import FixedNetwork
from deltatrain.link import Device, RefusedError
from deltatrain.quant_model import QuantModel
from deltatrain.replay import exemplar, with_replay
from deltatrain.targets import Emulator, find_board
from deltatrain.training import DEFAULT_REPLAY_RATE, Engine, Sample, Settings, train
from deltatrain_codegen import export, generate
from deltatrain_core import CoreError, CoreNetwork, StepResult
from deltatrain_core._core import lib

READOUTS = ("last", "frames", "regression")


def keeping_model(seed: int = 1, readout: str = "last", cells: tuple[str, ...] = ("lstm",)) -> QuantModel:
    """A random model with a few exemplars."""
    rng = np.random.default_rng(seed)
    model = random_model(rng, 11, 14, 5, 20, 1.0, cells)
    model = replace(model, readout=readout)
    return replace(model, replay=random_exemplars(rng, model))


def store_of(model: QuantModel) -> Exemplars:
    assert model.replay is not None
    return model.replay


def new_samples(model: QuantModel, count: int) -> list[Sample]:
    """Samples as a host streams them, with the targets that the readout takes."""
    rng = np.random.default_rng(8)
    samples = []
    for number in range(count):
        label = int(rng.integers(model.n_outputs))
        frames = random_frames(rng, 15, model.n_in)
        targets = {
            "last": None,
            "frames": np.full(15, label, np.int32),
            "regression": np.repeat(2**16 * np.eye(model.n_outputs, dtype=np.int32)[[label]], 15, axis=0),
        }[model.readout]
        samples.append(Sample(frames, label, str(number), targets))
    return samples


# ---- the model's file


def test_the_store_goes_with_the_file_and_the_hash(tmp_path: Path) -> None:
    model = keeping_model()
    model.save(tmp_path / "model.safetensors")
    loaded = QuantModel.load(tmp_path / "model.safetensors")
    assert loaded.hash() == model.hash() != replace(model, replay=None).hash()
    assert store_of(loaded).names == store_of(model).names
    for name, tensor in store_of(model).tensors().items():
        np.testing.assert_array_equal(store_of(loaded).tensors()[name], tensor, name)
    assert set(load_file(tmp_path / "model.safetensors")) == set(model.tensors()) | set(store_of(model).tensors())
    without = replace(model, replay=None)
    without.save(tmp_path / "without.safetensors")
    assert QuantModel.load(tmp_path / "without.safetensors").replay is None


def _changed(name: str, place: int, value: int) -> Callable[[QuantModel], Exemplars]:
    def change(model: QuantModel) -> Exemplars:
        values = getattr(store_of(model), name).copy()
        values[place] = value
        return replace(store_of(model), **{name: values})

    return change


def _cut(model: QuantModel) -> Exemplars:
    return replace(store_of(model), events=store_of(model).events[:-1])


def _beyond(model: QuantModel) -> Exemplars:
    """A bit of the mask where there is no input: 11 inputs take two bytes."""
    return _changed("events", 1, 0x80)(model)


def _most_negative(model: QuantModel) -> Exemplars:
    """A frame of one value, -128."""
    events = np.array([1, 0, 0x80], np.uint8)
    one = np.array([0])
    return Exemplars(model.n_in, events, one.astype(np.uint32), one.astype(np.uint16) + np.uint16(1),
                     one.astype(np.uint8), ("x",))  # fmt: skip


@pytest.mark.parametrize(
    "fault",
    [
        _changed("labels", 0, 5),
        _changed("n_steps", 0, 0),
        _changed("n_steps", 0, 21),
        _changed("starts", 0, 2**32 - 1),
        _cut,
        _beyond,
        _most_negative,
    ],
)
def test_a_store_that_does_not_fit_is_refused(fault: Callable[[QuantModel], Exemplars], tmp_path: Path) -> None:
    """By the file's reader, and by the core where a program hands it one."""
    model = keeping_model()
    broken = replace(model, replay=fault(model))
    broken.save(tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match="exemplars for replay do not fit"):
        QuantModel.load(tmp_path / "model.safetensors")
    with pytest.raises(CoreError) as refused:
        CoreNetwork(broken)
    assert "model's dimensions" in str(refused.value)


def test_the_largest_values_are_taken() -> None:
    events = np.array([0xFF, 0x07, *([0x7F, 0x81] * 6)[:11]], np.uint8)
    model = keeping_model()
    zero = np.zeros(1, np.uint32)
    store = Exemplars(11, events, zero, np.ones(1, np.uint16), np.zeros(1, np.uint8), ("ends",))
    np.testing.assert_array_equal(np.unique(store.frames(0)), [-VALUE_MAX << 7, VALUE_MAX << 7])
    model = replace(model, replay=store)
    oracle, core = FixedNetwork(model), CoreNetwork(model)
    assert assert_same_words(oracle, core, model, oracle.replay(), core.replay()) > 0


# ---- engines


@pytest.mark.parametrize("readout", READOUTS)
def test_replay_is_what_a_host_would_stream(readout: str) -> None:
    model = keeping_model(3, readout, ("gru", "lstm"))
    by_itself, streamed = CoreNetwork(model), CoreNetwork(model)
    settings = Settings.of(model, seed=77)
    for core in (by_itself, streamed):
        settings.apply(core, step=12)
    for _ in range(6):
        number = by_itself.replay_next()
        sample = replace(exemplar(model, number), replayed=False)
        assert by_itself.replay() == sample.train_whole(streamed)
        for name in [*model.tensors(), "logits", "layer1.hidden"]:
            np.testing.assert_array_equal(by_itself.tensor(name), streamed.tensor(name), name)


def test_every_exemplar_has_its_turn() -> None:
    model = keeping_model()
    core, oracle = CoreNetwork(model), FixedNetwork(model)
    turns = []
    for step in (*range(200), 2**32 - 1):
        for engine in (core, oracle):
            Settings.of(model, seed=5).apply(engine, step=step)
        assert core.replay_next() == oracle.replay_next()
        turns.append(core.replay_next())
    counts = np.bincount(turns, minlength=len(store_of(model)))
    assert counts.min() > 0.5 * len(turns) / len(counts)


@pytest.mark.parametrize("rate", [0.5, 1.0, 2.0])
def test_the_host_knows_whose_turn_it_is(rate: float) -> None:
    model = keeping_model(4)
    settings = Settings.of(model, replay_rate=rate, seed=9)
    turns = with_replay(model, new_samples(model, 8), settings, step=3)
    assert sum(turn.replayed for turn in turns) == 8 * rate
    core = CoreNetwork(model)
    settings.apply(core, step=3)
    for turn in turns:
        if turn.replayed:
            assert turn.name == store_of(model).names[core.replay_next()]
        turn.train_whole(core)
    again = CoreNetwork(model)
    settings.apply(again, step=3)
    assert len(train(again, turns)) == len(turns)
    np.testing.assert_array_equal(again.tensor("layer0.weight"), core.tensor("layer0.weight"))


@pytest.mark.parametrize("readout", READOUTS)
def test_compare_checks_replayed_steps(readout: str) -> None:
    model = keeping_model(5, readout)
    assert Settings.of(model).replay_rate == DEFAULT_REPLAY_RATE
    settings = Settings.of(model, replay_rate=1.0)
    turns = with_replay(model, new_samples(model, 4), settings)
    core, oracle = CoreNetwork(model), FixedNetwork(model)
    same = compare({"core": core, "oracle": oracle}, model, turns, settings)
    assert (len(same.steps), len(same.new_steps), same.words_different) == (8, 4, 0)
    weights = sum(tensor.size for tensor in model.tensors().values())
    n_fields, n_new, n_last = len(fields(StepResult)), 4 * 15 * 14, 4 * 14
    assert same.words_compared == 8 * (weights + n_fields + 5) + n_new + n_last

    def flip(number: int) -> None:
        if number == 1:  # the first exemplar
            core.set_tensor("readout.bias", core.tensor("readout.bias") + 1)

    other = compare({"core": core, "oracle": oracle}, model, turns, settings, after_step=flip)
    assert other.first_difference is not None
    assert (other.first_difference.step, other.first_difference.tensor) == (1, "readout.bias")


def test_the_float_reference_takes_the_exemplars_too(make_integer_model: Callable[..., QuantModel]) -> None:
    model = make_integer_model(11, 14, 20, tuple("abcde"), weight_bound=2000)
    model = replace(model, replay=random_exemplars(np.random.default_rng(2), model))
    settings = Settings.of(model, replay_rate=2.0)
    new = new_samples(model, 6)
    followed = compare({"core": CoreNetwork(model)}, model, with_replay(model, new, settings), settings)
    assert followed.float_weight_error is not None and followed.float_error is not None
    assert followed.float_weight_error < 0.1
    assert 0 < followed.float_error < 0.01


def test_without_a_store_there_is_nothing_to_replay() -> None:
    model = replace(keeping_model(), replay=None)
    with pytest.raises(CoreError, match="keeps no exemplars") as refused:
        CoreNetwork(model).replay()
    assert refused.value.code == lib.DRNN_ERR_REPLAY
    for call in (FixedNetwork(model).replay, lambda: exemplar(model, 0), lambda: Settings.of(model, replay_rate=1.0)):
        with pytest.raises(InputError, match=r"keeps no exemplars; give `quantize` bytes"):
            call()
    settings = Settings.of(model)
    assert settings.replay_rate == 0
    samples = new_samples(model, 3)
    assert with_replay(model, samples, settings) == tuple(samples)


def test_a_replay_drops_an_unfinished_sample() -> None:
    model = keeping_model()
    begun, fresh = CoreNetwork(model), CoreNetwork(model)
    begun.begin()
    begun.push(new_samples(model, 1)[0].frames)
    assert begun.replay() == fresh.replay()
    with pytest.raises(CoreError, match="no sample is under way"):
        begun.train(0)


# ---- generated code, and the device


def _follow(device: Engine, model: QuantModel, turns: tuple[Sample, ...], settings: Settings) -> None:
    """Every word of a run on a device equals the core's."""
    outcome = compare({"device": device, "core": CoreNetwork(model)}, model, turns, settings, with_float=False)
    assert outcome.words_different == 0, outcome.first_difference
    assert any(step.sample.replayed for step in outcome.steps)


@pytest.mark.parametrize("readout", READOUTS)
def test_a_device_replays_what_it_keeps(native_device: Any, readout: str) -> None:
    model = keeping_model(6, readout)
    settings = Settings.of(model, replay_rate=1.0, seed=4)
    with Device.open(native_device(model).url) as device:
        device.check_model(model.hash())
        _follow(device, model, with_replay(model, new_samples(model, 3), settings), settings)
        statistics = device.statistics()
        assert statistics.samples_trained == 6
        device.begin()
        assert device.replay().ticks_forward == 0
        with pytest.raises(RefusedError, match="does not fit the state"):
            device.infer()


def test_a_device_without_a_store_says_so(native_device: Any, tiny_model: QuantModel) -> None:
    with Device.open(native_device(tiny_model).url) as device, pytest.raises(RefusedError, match="keeps no exemplars"):
        device.replay()


def test_the_emulated_core_replays(tmp_path: Path) -> None:
    board = find_board("mps2-an386")
    assert board is not None
    for program in board.needs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed; `make setup` installs it")
    model = keeping_model(7)
    settings = Settings.of(model, replay_rate=2.0)
    built = export(model, board, tmp_path / "with")
    without = export(replace(model, replay=None), board, tmp_path / "without")
    store = store_of(model)
    end = int(store.starts[1])
    one = replace(
        model,
        replay=replace(
            store,
            events=store.events[:end],
            **{name: getattr(store, name)[:1] for name in ("starts", "n_steps", "labels", "names")},
        ),
    )
    fewer = export(one, board, tmp_path / "fewer")
    more_bytes = model.replay_bytes - one.replay_bytes
    assert abs(built.flash_bytes - fewer.flash_bytes - more_bytes) <= 8  # and nothing beside
    assert without.flash_bytes + one.replay_bytes + 400 < fewer.flash_bytes  # replay itself is left out
    assert 0 <= built.arena_bytes - without.arena_bytes <= 2 * 11 + 8
    with Emulator.start(board, built.elf) as emulator, Device.open(emulator.port) as device:
        device.check_model(model.hash())
        _follow(device, model, with_replay(model, new_samples(model, 3), settings), settings)


def test_names_cannot_leave_their_comment() -> None:
    model = keeping_model()
    names = ("*/ evil /*", "line\nbreak", "zwölf\\", "??/")[: len(store_of(model))]
    named = replace(store_of(model), names=names + ("x",) * (len(store_of(model)) - len(names)))
    source = generate(replace(model, replay=named))["dt_model.c"]
    assert "evil" in source and "*/ evil" not in source
    assert source.isascii()


def test_a_store_beyond_the_flash_is_refused(tmp_path: Path) -> None:
    """Before anything is built where the constants alone exceed it, else after; the advice names the option."""
    board = find_board("mps2-an386")
    assert board is not None
    model = keeping_model()
    constants = sum(tensor.nbytes for tensor in model.tensors().values()) + model.replay_bytes
    told = rf"flash, mps2-an386 has [\d,]+: .*{model.replay_bytes:,} for the exemplars .*--replay"
    with pytest.raises(BuildError, match=told):
        export(model, replace(board, flash_bytes=constants - 1), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    if shutil.which(board.compiler) is None:
        pytest.skip(f"{board.compiler} is not installed; `make setup` installs it")
    with pytest.raises(BuildError, match=told):
        export(model, replace(board, flash_bytes=constants + 5000), tmp_path / "out")
