"""Training for long: stopped, killed, moved to other devices, and the end is that of a run which nothing stopped."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from test_cli import write_tones

from deltatrain import datasets
from deltatrain.cli import main
from deltatrain.cli.train import go_on
from deltatrain.errors import SampleRefused
from deltatrain.features import FeatureConfig, fit_standardisation
from deltatrain.key import Key, Lock
from deltatrain.link import Device
from deltatrain.memory import Memory
from deltatrain.order import Order
from deltatrain.quant_model import QuantModel
from deltatrain.replay import choose
from deltatrain.run import read_events
from deltatrain.run.stream import Stream
from deltatrain.samples import streamed
from deltatrain.targets import Emulator, find_board
from deltatrain.trained import state_of
from deltatrain.training import Settings
from deltatrain_core import CoreNetwork

PER_CLASS = 2
CLASSES = ("high", "low", "middle")
SPLIT = ("--holdout", "bob", "--per-class", str(PER_CLASS))
FAST = ("gcc", "-O1")
EPOCHS = 4
N_NEW = EPOCHS * PER_CLASS * len(CLASSES)


def run_json(*arguments: object, status: int = 0) -> Any:
    """Run a command with --json; what it said is part of the failure."""
    result = CliRunner().invoke(main, [*(str(a) for a in arguments), "--json"])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == status, result.output
    return json.loads(result.stdout) if result.stdout else result.stderr


@pytest.fixture(scope="module")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's own recordings."""
    folder = tmp_path_factory.mktemp("data") / "tones"
    write_tones(folder)
    return folder


@pytest.fixture(scope="module")
def model(tones: Path, make_integer_model: Callable[..., QuantModel]) -> Path:
    """A model for them that nobody trained, with exemplars and a budget of events that some samples exceed."""
    data = datasets.load(str(tones), config=FeatureConfig(max_frames=40))
    made = make_integer_model(16, 6, 40, CLASSES)
    made = replace(made, features=fit_standardisation(data.config, data.features[:20]))
    ann = [item for item in range(len(data)) if data.speakers[item] == "ann"]
    made = replace(made, replay=choose(made, data, ann, 4000, 0))
    path = tones.parent / "model.safetensors"
    made.save(path)
    return path


@dataclass
class Board:
    """The firmware on this computer, behind a port that outlives it: a process that can be killed and started anew."""

    program: Path
    listener: socket.socket
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"socket://127.0.0.1:{self.listener.getsockname()[1]}"

    def start(self) -> None:
        """From the weights in flash, at step 0."""
        number = self.listener.fileno()
        self.process = subprocess.Popen(
            [self.program], env={**os.environ, "DT_LISTENER": str(number)}, pass_fds=[number]
        )

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def restart(self) -> None:
        self.kill()
        self.start()


@pytest.fixture
def boards(
    native_program: Callable[..., Path],
) -> Iterator[Callable[..., Board]]:
    """Boards with the firmware of a model's file, locked or not."""
    started: list[Board] = []

    def start(model: Path, lock: Lock | None = None) -> Board:
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        board = Board(native_program(QuantModel.load(model), FAST, lock), listener)
        started.append(board)
        board.start()
        return board

    yield start
    for board in started:
        board.kill()
        board.listener.close()


def options(model: Path, tones: Path, *more: object) -> tuple[object, ...]:
    return (
        *("--model", model, "--data", tones, *SPLIT, "--epochs", EPOCHS, "--seed", 5),
        *("--learning-rate", 0.5, "--rollback", "never", *more),
    )


@pytest.fixture(scope="module")
def uninterrupted(model: Path, tones: Path) -> dict[str, np.ndarray[Any, Any]]:
    """The weights at the end, by the C core on this computer."""
    quantized = QuantModel.load(model)
    data = datasets.stream(str(tones), config=quantized.features)
    settings = Settings.of(quantized, learning_rate=0.5, seed=5)
    assert settings.replay_rate > 0
    train, _ = datasets.personal_split(data, "bob", PER_CLASS, 5)
    stream = Stream(quantized, data, Order(train, 5), settings)
    core = CoreNetwork(quantized)
    settings.apply(core)
    for turn in range(stream.turns.count(N_NEW)):
        stream.sample(turn, turn).train_whole(core)
    return {name: core.tensor(name) for name in quantized.tensors()}


def assert_same(path: Path, expected: dict[str, np.ndarray[Any, Any]]) -> None:
    tensors = QuantModel.load(path).tensors()
    for name, tensor in expected.items():
        np.testing.assert_array_equal(tensors[name].ravel(), tensor, name)


def events(folder: Path, kind: str) -> list[dict[str, Any]]:
    return [event for event in read_events(folder / "log.jsonl") if event["event"] == kind]


def test_a_whole_run(boards: Any, model: Path, tones: Path, uninterrupted: dict[str, Any], tmp_path: Path) -> None:
    board = boards(model)
    folder, log, picture = tmp_path / "run", tmp_path / "log.jsonl", tmp_path / "run.png"
    told = run_json(
        "train",
        *options(model, tones, "--target", board.url, "--run", folder, "--log", log, "--picture", picture),
        *("--eval-every", 10),
    )
    assert (told["steps"], told["replay_steps"], told["refused"]) == (N_NEW, N_NEW // 2, 0)
    assert told["op_reduction"] > 1 and told["loss"] > 0
    assert_same(folder / "weights.safetensors", uninterrupted)
    assert log.read_bytes() == (folder / "log.jsonl").read_bytes()
    assert picture.read_bytes().startswith(b"\x89PNG")
    steps = events(folder, "step")
    assert [step["step"] for step in steps] == list(range(1, N_NEW * 3 // 2 + 1))
    assert sum(step["replayed"] for step in steps) == N_NEW // 2
    assert len(events(folder, "evaluation")) == 2 + len(steps) // 10
    assert [len(events(folder, kind)) for kind in ("start", "end", "resume")] == [1, 1, 0]


SCRIPT = "from deltatrain.cli import main; main()"


def start_process(*arguments: object) -> subprocess.Popen[str]:
    """A command in a process of its own."""
    command = [sys.executable, "-c", SCRIPT, *(str(a) for a in arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_steps(folder: Path, count: int, process: subprocess.Popen[str]) -> None:
    """Wait until a run's log tells of so many steps."""
    deadline = time.monotonic() + 60
    while len(events(folder, "step")) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_stopped_killed_and_moved(
    boards: Any, model: Path, tones: Path, uninterrupted: dict[str, Any], tmp_path: Path
) -> None:
    board, folder = boards(model), tmp_path / "run"
    # Judging after every step makes the run slow enough to be hit in its midst.
    pace = ("--eval-every", 1, "--pull-every", 4)
    process = start_process("train", *options(model, tones, *pace, "--target", board.url, "--run", folder), "--json")
    wait_for_steps(folder, 6, process)
    process.send_signal(signal.SIGINT)
    out, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    told = json.loads(out)
    at = told["step"]
    assert told["stopped"] and told["error_after"] is None and 6 <= at < 36
    assert events(folder, "stopped")[0]["step"] == at and events(folder, "pull")[-1]["step"] == at

    # On the same device, by a host that dies without a word: the last line of its log may be cut.
    again = ("train", "--run", folder, "--resume", "--eval-every", 1, "--pull-every", 1000)
    process = start_process(*again, "--target", board.url)
    wait_for_steps(folder, at + 6, process)
    process.kill()
    process.communicate()
    with (folder / "log.jsonl").open("ab") as file:
        file.write(b'{"event": "step", "st')
    with Device.open(board.url) as device:
        reached = device.config().step
    assert reached >= at + 6

    process = start_process(*again, "--target", board.url)
    wait_for_steps(folder, reached + 3, process)
    resumed = events(folder, "resume")
    assert [event["source"] for event in resumed] == ["device", "computed"]
    assert [event["step"] for event in resumed] == [at, reached]
    process.terminate()
    assert process.wait(timeout=60) == 130
    process.communicate()

    # The device restarts and has lost all; another host has a copy of the folder.
    board.restart()
    moved = tmp_path / "copied"
    folder.rename(moved)
    told = run_json("train", "--run", moved, "--resume", "--target", board.url, "--rollback", "never")
    assert events(moved, "resume")[-1]["source"] == "folder"
    assert (told["steps"], told["replay_steps"]) == (N_NEW, N_NEW // 2)
    assert told["error_before"] == events(moved, "evaluation")[0]["error"]
    assert_same(moved / "weights.safetensors", uninterrupted)
    numbers = [event["step"] for event in events(moved, "step")]
    assert numbers == sorted(numbers) and set(numbers) >= set(range(1, 37)) - {reached}  # its line may be lost

    process = start_process(
        "train", "--run", moved, "--resume", "--steps", 3, "--target", board.url, "--rollback", "never"
    )
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0
    assert f"{N_NEW} new samples had their turn, and 3 are asked for" in " ".join(said.split())


def test_how_to_go_on_names_the_key_without_showing_it() -> None:
    secret = Key.new().secret.hex()
    told = go_on(Path("my run"), "/dev/ttyACM0", Key.given(secret))
    assert told == "deltatrain train --run 'my run' --resume --target /dev/ttyACM0, with the key in DELTATRAIN_KEY"
    assert go_on(Path("run"), None, None) == "deltatrain train --run run --resume"


def test_a_device_that_goes_away(
    boards: Any, model: Path, tones: Path, uninterrupted: dict[str, Any], tmp_path: Path
) -> None:
    key, file, folder = Key.new(), tmp_path / "the key", tmp_path / "run"
    key.save(file)
    board = boards(model, Lock(key))
    url = board.url
    where = ("--target", url, "--run", folder, "--key", file)
    process = start_process("train", *options(model, tones, "--eval-every", 1, "--pull-every", 4, *where))
    wait_for_steps(folder, 6, process)
    board.restart()  # it goes on by itself
    wait_for_steps(folder, 12, process)
    restarts = events(folder, "resume")
    assert [(event["source"], event["step"] % 4) for event in restarts] == [("folder", 0)]
    assert events(folder, "interrupted")[0]["restarted"]
    board.kill()
    board.listener.close()
    _, said = process.communicate(timeout=120)
    assert process.returncode == 2
    found = re.search(r"go on with it: deltatrain (train --run .* --key .*)", said)
    assert found is not None, said
    again = shlex.split(found[1])
    assert again == ["train", "--run", str(folder), "--resume", "--target", url, "--key", str(file)]
    last = events(folder, "step")[-1]["step"]
    # Another one with the same firmware.
    again[again.index(url)] = boards(model, Lock(key)).url
    told = run_json(*again, "--rollback", "never")
    resumed = events(folder, "resume")[-1]
    assert (resumed["source"], resumed["step"], resumed["lost"]) == ("folder", last // 4 * 4, last % 4)
    assert told["steps"] == N_NEW
    assert_same(folder / "weights.safetensors", uninterrupted)


# ---- samples that are refused


@pytest.fixture(scope="module")
def strict(model: Path, tones: Path) -> Path:
    """The same model with a budget of events that some samples exceed."""
    quantized = QuantModel.load(model)
    data = datasets.stream(str(tones), config=quantized.features)
    for budget in range(2**16 - 1, 0, -(2**12)):
        tight = replace(quantized, memory=Memory("history", 0, budget))
        core = CoreNetwork(tight)
        for sample in streamed(tight, data, np.arange(len(data))):
            with contextlib.suppress(SampleRefused):
                sample.train_whole(core)
        if core.n_refused >= len(data) // 4:
            break
    path = tones.parent / "strict.safetensors"
    tight.save(path)
    return path


def test_refused_samples_take_no_step_wherever_it_stops(boards: Any, strict: Path, tones: Path, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    settings = ("--replay-rate", 0.5, "--pull-every", 3)
    told = run_json("train", *options(strict, tones, *settings, "--target", boards(strict).url, "--run", whole))
    refused = events(whole, "refused")
    assert 3 < told["refused"] == len(refused) < N_NEW and told["steps"] + told["refused"] >= N_NEW
    board = boards(strict)
    for samples in (5, 11, 17, N_NEW):
        again = ("--run", parts, "--steps", samples, "--target", board.url)
        if samples == 5:
            run_json("train", *options(strict, tones, *settings, *again))
        else:
            if samples == 17:
                board.restart()
            run_json("train", *again, "--resume", "--rollback", "never")
    assert_same(
        parts / "weights.safetensors",
        {n: t.ravel() for n, t in QuantModel.load(whole / "weights.safetensors").tensors().items()},
    )
    for kind in ("step", "refused"):
        told_of = [[(e["turn"], e["step"], e["sample"]) for e in events(folder, kind)] for folder in (whole, parts)]
        assert told_of[0] == told_of[1]


# ---- weights as files


def test_pulled_weights_are_the_device_s(boards: Any, model: Path, tones: Path, tmp_path: Path) -> None:
    board, other = boards(model), boards(model)
    data = ("--data", tones, *SPLIT, "--seed", 5)
    on = ("--model", model, "--target", board.url)
    # Other thresholds than the model's: they go with the weights.
    run_json("train", *options(model, tones, "--target", board.url, "--theta", 0.5, "--steps", 6))
    pulled = tmp_path / "new" / "pulled.safetensors"
    told = run_json("pull", *on, "--out", pulled)
    assert told["step"] == 6 and told["hash"] != told["trained_from"] == QuantModel.load(model).hash().hex()
    on_device = run_json("evaluate", *on, *data)
    on_host = run_json("evaluate", "--model", pulled, "--target", "host", *data)
    assert on_host == on_device != run_json("evaluate", "--model", model, "--target", "host", *data)
    # The file stands for the model that it was trained from.
    assert run_json("evaluate", "--model", pulled, "--target", board.url, *data) == on_device
    compared = run_json("compare", "--model", pulled, "--target", board.url, *data)
    assert compared["words_different"] == 0 < compared["words_compared"]
    # On another device training goes on as on the first.
    assert run_json("push", "--model", pulled, "--target", other.url)["step"] == 6
    for url in (board.url, other.url):
        run_json("train", *options(pulled, tones, "--target", url, "--theta", 0.5, "--steps", 5))
        run_json("pull", "--model", pulled, "--target", url, "--out", tmp_path / f"{url[-5:]}.safetensors")
    first, second = (QuantModel.load(tmp_path / f"{url[-5:]}.safetensors") for url in (board.url, other.url))
    assert first.hash() == second.hash() != QuantModel.load(pulled).hash()
    assert first.provenance == second.provenance and state_of(first) is not None


def test_what_is_refused(boards: Any, model: Path, strict: Path, tones: Path, tmp_path: Path) -> None:
    board, folder = boards(model), tmp_path / "run"
    on = ("--target", board.url)
    run_json("train", *options(model, tones, *on, "--steps", 4, "--run", folder))
    tight = tmp_path / "tight"
    run_json("train", *options(strict, tones, "--target", boards(strict).url, "--steps", 8, "--run", tight))

    def refused(*arguments: object) -> str:
        return str(run_json(*arguments, status=2))

    assert "holds a run already; go on with it by --resume" in refused(
        "train", *options(model, tones, *on, "--run", folder)
    )
    resume = ("train", "--run", folder, "--resume", *on)
    assert "started with --learning-rate 0.5, not 0.1" in refused(*resume, "--learning-rate", 0.1)
    assert "started with --clip its default, not 3.0" in refused(*resume, "--clip", 3)
    assert "started with --replay-rate 0; leave it out" in refused(*resume, "--replay-rate", 2)
    assert "not the one that the run was started with" in refused(*resume, "--data", "digits")
    assert "holds no run to go on with" in refused("train", "--resume", "--run", tmp_path / "nothing")
    assert "name it by --run" in refused("train", "--resume")
    assert "by --model" in refused("train", "--data", tones)
    assert "no non-volatile store" in refused(*resume, "--commit-every", 5)
    # A device with weights of its own is not overwritten.
    other = boards(model)
    with Device.open(other.url) as device:
        device.set_tensor("readout.bias", device.tensor("readout.bias") + 1)
    assert "holds weights that are not of this run" in refused(
        "train", "--run", folder, "--resume", "--target", other.url
    )
    assert "this one has room for all events, and would refuse other samples" in refused(
        "train", "--run", tight, "--resume", *on
    )
    # Files that would be lost.
    pull = ("pull", "--model", model, *on)
    assert "would overwrite the model that it comes from" in refused(*pull, "--out", model)
    (tmp_path / "here").write_text("x")
    assert "exists already" in refused(*pull, "--out", tmp_path / "here")
    assert run_json(*pull, "--out", tmp_path / "here", "--force")["step"] == 4
    # Firmware of another model.
    another = replace(QuantModel.load(model), max_steps=41)
    another.save(tmp_path / "another.safetensors")
    for command in (
        ("push", "--model", tmp_path / "another.safetensors"),
        ("train", *options(tmp_path / "another.safetensors", tones)),
    ):
        assert "holds another model: its hash is" in refused(*command, *on)
    with_broken_state = replace(another, provenance={"training": {"base": "12"}})
    with_broken_state.save(tmp_path / "broken.safetensors")
    assert "state of training in the model's file is broken" in refused(
        "push", "--model", tmp_path / "broken.safetensors", *on
    )
    assert "no log" in refused("plot", "--log", tmp_path / "nothing.jsonl", "--out", tmp_path / "x.png")


def test_a_device_with_a_store_comes_back_at_its_last_commit(
    model: Path, tones: Path, uninterrupted: dict[str, Any], tmp_path: Path
) -> None:
    board = find_board("mps2-an386")
    assert board is not None
    for program in board.needs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed; `make setup` installs it")
    run_json("export", "--model", model, "--store", "--out", tmp_path / "build")
    elf, memory, folder = tmp_path / "build" / "firmware.elf", tmp_path / "nv.bin", tmp_path / "run"
    pace = ("--commit-every", 20, "--pull-every", 2, "--eval-every", 2)
    emulator = Emulator.start(board, elf, store=memory)
    with emulator:
        process = start_process("train", *options(model, tones, *pace, "--target", emulator.port, "--run", folder))
        wait_for_steps(folder, 23, process)
        os.kill(emulator.pid, signal.SIGKILL)
        process.kill()
        process.communicate()
    committed = events(folder, "commit")[-1]["step"]
    with Emulator.start(board, elf, store=memory) as emulator:
        on = ("--resume", "--target", emulator.port, "--rollback", "never", "--commit-every", 100)
        told = run_json("train", "--run", folder, *on)
        resumed = events(folder, "resume")[0]
        assert (resumed["source"], resumed["step"]) == ("store", committed) and committed == 20
        assert resumed["lost"] > 0 and told["steps"] == N_NEW
        assert_same(folder / "weights.safetensors", uninterrupted)
        with Device.open(emulator.port) as device:
            assert device.info.committed_step == told["step"]
