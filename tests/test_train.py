"""Training for long: stopped, killed, moved to other devices, and the end is that of a run which nothing stopped."""

from __future__ import annotations

import json
import os
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
from deltatrain.features import FeatureConfig, fit_standardisation
from deltatrain.link import Device
from deltatrain.order import Order
from deltatrain.quant_model import QuantModel
from deltatrain.replay import choose
from deltatrain.run import read_events
from deltatrain.run.stream import Stream
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
    native_program: Callable[[QuantModel, tuple[str, ...]], Path],
) -> Iterator[Callable[[Path], Board]]:
    """Boards with the firmware of a model's file."""
    started: list[Board] = []

    def start(model: Path) -> Board:
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        board = Board(native_program(QuantModel.load(model), FAST), listener)
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


def test_a_whole_run(
    boards: Any, model: Path, tones: Path, uninterrupted: dict[str, Any], tmp_path: Path
) -> None:
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
