"""`micropython:PORT` as a target: a board's line played by CPython, with the pure reference in the module's place."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from equality import random_exemplars, random_frames, random_model, random_settings, random_targets
from upy import MICROPYTHON, NODE, train_core

from deltatrain.cli import main
from deltatrain.errors import DeviceError, InputError, SampleRefused
from deltatrain.micropython import MicroPythonDevice, RawRepl, install
from deltatrain.micropython.raw_repl import BoardError
from deltatrain.quant_model import QuantModel
from deltatrain.targets import parse_target
from deltatrain_core import CoreNetwork

pytest.importorskip("mpremote")
ARMV7EMSP = 6 | 3 << 8 | 7 << 10


@dataclass
class Played:
    """A board: its port, and the folder of its files."""

    port: str
    folder: Path
    modules: Path

    @property
    def target(self) -> str:
        return f"micropython:{self.port}"


@pytest.fixture
def board(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Played]:
    """A board that says it is an armv7emsp, or what a parameter says, and a folder with a module for it."""
    files, modules = tmp_path / "board", tmp_path / "modules"
    (files / "lib").mkdir(parents=True)
    (files / "lib" / "deltarnn.py").write_text(
        f"import sys\nsys.path.append({str(MICROPYTHON)!r})\nfrom deltarnn_py import *\n", encoding="utf-8"
    )
    (modules / "armv7emsp").mkdir(parents=True)
    (modules / "armv7emsp" / "deltarnn.mpy").write_bytes(bytes(range(256)) * 3)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    mpy = getattr(request, "param", ARMV7EMSP)
    process = subprocess.Popen([sys.executable, str(NODE / "board.py"), str(port), str(mpy)], cwd=files)
    try:
        _await(port)
        yield Played(f"socket://127.0.0.1:{port}", files, modules)
    finally:
        process.kill()
        process.wait()


def _await(port: int) -> None:
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            time.sleep(0.05)
    raise AssertionError("the board did not start")


@pytest.mark.parametrize("cells, readout", [(["lstm"], "last"), (["gru"], "frames"), (["rnn", "gru"], "regression")])
def test_a_board_trains_as_the_core(board: Played, cells: list[str], readout: str) -> None:
    rng = np.random.default_rng(3)
    model = random_model(rng, 3, 4, 3, 8, 1.0, cells, readout)
    model = replace(model, replay=random_exemplars(rng, model))
    settings, core = random_settings(rng, model), CoreNetwork(model)
    with RawRepl(board.port) as repl:
        installed = install(repl, model, board.modules)
        assert (installed.architecture, installed.folder) == ("armv7emsp", "lib")
        assert (board.folder / "lib" / "deltarnn.mpy").read_bytes() == bytes(range(256)) * 3
        device = MicroPythonDevice(repl)
        device.check_model(model.hash())
        assert (device.info.n_in, device.info.readout, device.info.memory) == (3, readout, model.memory)
        for engine in (core, device):
            settings.apply(engine)
        for _ in range(3):
            x, label = random_frames(rng, 7, 3), int(rng.integers(3))
            targets = random_targets(rng, model, len(x))
            expected = train_core(core, x, label, targets)
            device.begin()
            hidden = device.push(x, targets=targets)
            assert hidden.shape == (7, 4)
            assert (device.train(label) if targets is None else device.learn()) == expected
            assert (hidden[-1] == core.tensor(f"layer{len(cells) - 1}.hidden")).all()
            assert device.replay() == core.replay()
            for name in [*model.tensors(), "logits", "layer0.dm"]:
                assert (device.tensor(name) == core.tensor(name)).all(), name
        config = device.config()
        assert (config.step, config.seed, config.theta_x) == (6, settings.seed, settings.theta_x)
        assert (config.learning_rate, config.clip, config.beta) == (
            settings.learning_rate,
            settings.clip,
            settings.beta,
        )
        other = core.tensor("layer0.weight")[::-1]
        for engine in (core, device):
            engine.begin()
            engine.push(x, False)
            engine.set_tensor("layer0.weight", other)
            engine.begin()
            engine.push(x, False)
        assert device.infer() == core.infer()
        device.reset_weights()
        assert (device.tensor("layer0.bias") == model.layers[0].bias).all()


def test_the_network_outlives_the_session(board: Played, tiny_model: QuantModel) -> None:
    with RawRepl(board.port) as repl:
        install(repl, tiny_model, board.modules)
        MicroPythonDevice(repl).set_tensor("readout.bias", np.array([1, 2, 3], np.int32))
    with MicroPythonDevice.open(board.port) as device:
        assert device.tensor("readout.bias").tolist() == [1, 2, 3]
        with pytest.raises(DeviceError, match="another model"):
            device.check_model(bytes(32))


def test_what_the_board_says_comes_back(board: Played, tiny_model: QuantModel) -> None:
    with RawRepl(board.port) as repl:
        with pytest.raises(DeviceError, match="no module deltarnn, or no model"):
            MicroPythonDevice(repl)
        install(repl, tiny_model, board.modules)
        device = MicroPythonDevice(repl)
        with pytest.raises(BoardError, match="ValueError: no sample is under way"):
            device.infer()
        with pytest.raises(SampleRefused):
            repl.run("raise OverflowError('too many events')")
        with pytest.raises(BoardError, match=r"MemoryError.*smaller model"):
            repl.run("raise MemoryError('4 bytes')")
        with pytest.raises(InputError, match=r"int16\[frames, 3\]"):
            device.push(np.zeros((2, 4), np.int16))
        with pytest.raises(InputError, match="do not fit"):
            device.set_tensor("layer0.weight", np.full(tiny_model.layers[0].weight.shape, 40000))
        with pytest.raises(InputError, match="no tensor 'weight'"):
            device.tensor("weight")


@pytest.mark.parametrize(
    "board", [0, 6 | 2 << 8 | 7 << 10, 6 | 3 << 8 | 4 << 10], indirect=True, ids=["none", "6.2", "m0"]
)
def test_boards_that_take_no_module(board: Played, tiny_model: QuantModel) -> None:
    with RawRepl(board.port) as repl, pytest.raises((DeviceError, InputError)) as caught:
        install(repl, tiny_model, board.modules)
    words = str(caught.value)
    assert any(part in words for part in ("no native modules", "version 6.2", "ARCH=armv6m")), words


def test_nobody_answers(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="cannot open"):
        RawRepl("socket://127.0.0.1:9")
    with pytest.raises(DeviceError, match="cannot open"):
        RawRepl(str(tmp_path / "ttyACM0"))


def test_targets_with_micropython() -> None:
    for text, port in (("micropython:/dev/ttyACM0", "/dev/ttyACM0"), ("micropython:socket://a:1", "socket://a:1")):
        target = parse_target(text)
        assert (target.board, target.port, target.micropython) == (None, port, True)
    assert not parse_target("/dev/ttyACM0").micropython
    with pytest.raises(InputError, match="no target 'micropython:'"):
        parse_target("micropython:")


def _words(folder: Path) -> Path:
    """A data set of two people, with a class at each frame."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    for person in ("ann", "bob"):
        for number in range(12):
            x = rng.normal(0, 1, (6, 3)).cumsum(axis=0)
            np.savez(folder / f"{person}_{number}.npz", x=x, targets=(x[:, 0] > 0).astype(int))
    return folder


def _run(*arguments: object) -> Any:
    done = CliRunner().invoke(main, [*map(str, arguments), "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_the_commands_work_over_it(board: Played, tmp_path: Path) -> None:
    data = _words(tmp_path / "data")
    common = ("--data", data, "--holdout", "bob")
    fitted, model = tmp_path / "f.safetensors", ("--model", tmp_path / "q.safetensors")
    _run("fit", *common, "--hidden", 4, "--epochs", 1, "--out", fitted)
    _run("quantize", "--model", fitted, "--data", data, "--replay", 0, "--out", model[1])
    flashed = _run("flash", "--target", board.target, *model, "--module", board.modules)
    assert (flashed["port"], flashed["architecture"]) == (board.target, "armv7emsp")
    over = (*model, *common, "--per-class", 2, "--target", board.target)
    before = _run("evaluate", *over)
    compared = _run("compare", *over)
    assert compared["steps"] == 2 and compared["words_compared"] > 300 and compared["words_different"] == 0
    assert _run("evaluate", *over) == before  # `compare` put the weights back
    trained = _run("train", *over, "--rollback", "never")
    assert (trained["steps"], trained["error_before"]) == (2, before["error"])
    assert _run("evaluate", *over)["error"] == trained["error_after"]
    pulled = _run("pull", *model, "--target", board.target, "--out", tmp_path / "pulled.safetensors")
    assert pulled["step"] == 4 and pulled["hash"] != pulled["trained_from"]
    _run("flash", "--target", board.target, *model, "--module", board.modules)  # which begins anew
    assert _run("push", "--model", tmp_path / "pulled.safetensors", "--target", board.target)["step"] == 4
    assert _run("evaluate", *over)["error"] == trained["error_after"]


def test_flash_says_what_is_missing(board: Played, tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["flash", "--target", board.target])
    assert done.exit_code == 2 and "--model is missing" in done.output
