"""The firmware on its emulated board: what it computes, what it withstands, and how its emulator comes and goes."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from equality import random_targets, words_of
from variants import build_variant

from deltatrain.errors import DeviceError, InputError
from deltatrain.link import Device
from deltatrain.quant_model import QuantModel
from deltatrain.scale import Scale
from deltatrain.targets import (
    Board,
    Emulator,
    boards,
    find_board,
    parse_target,
    running,
    start_background,
    stop_background,
)
from deltatrain.targets.process import started_at
from deltatrain.targets.state import state_dir
from deltatrain.training import Sample, Settings
from deltatrain_codegen.build import export
from deltatrain_codegen.elf import measure
from deltatrain_core import CoreNetwork, StepResult

TRAINED = ("layer0.weight", "layer0.bias", "readout.weight", "readout.bias")
SPEECH = {"n_in": 16, "n_hidden": 64, "max_steps": 64, "class_names": tuple("0123456789"), "weight_bound": 3000}


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Locks and background emulators of this test only."""
    (tmp_path / "state").mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "state"))


@pytest.fixture(scope="module")
def board() -> Board:
    """The emulated Cortex-M4F; skips where its compiler or emulator is absent."""
    found = find_board("mps2-an386")
    assert found is not None
    for program in found.needs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed; `make setup` installs it")
    return found


@pytest.fixture(scope="module")
def model(make_integer_model: Callable[..., QuantModel]) -> QuantModel:
    """A network of the size that keyword spotting takes."""
    return make_integer_model(**SPEECH)


@pytest.fixture(scope="module")
def elf(board: Board, model: QuantModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The firmware of that model."""
    return export(model, board, tmp_path_factory.mktemp("firmware")).elf


@pytest.fixture
def emulator(board: Board, elf: Path) -> Iterator[Emulator]:
    with Emulator.start(board, elf) as started:
        yield started


# ---- what it computes


def test_the_emulated_core_computes_what_the_host_does(emulator: Emulator, model: QuantModel) -> None:
    """Every word after every step: hidden states, logits, result, weights and biases."""
    core = CoreNetwork(model)
    rng = np.random.default_rng(1)
    with Device.open(emulator.port) as device:
        device.check_model(model.hash())
        for engine in (device, core):
            engine.configure(
                learning_rate=Scale.from_float(0.08, ""),
                clip=Scale.from_float(2.0, ""),
                theta_x=[300],
                theta_h=[2000],
                seed=5,
            )
        for step in range(4):
            frames = rng.normal(0, 2500, (40, 16)).clip(-16383, 16383).astype(np.int16)
            device.begin()
            core.begin()
            np.testing.assert_array_equal(device.push(frames), core.push(frames))
            on_device, on_host = device.train(step), core.train(step)
            assert [getattr(on_device, f.name) for f in fields(StepResult)] == [
                getattr(on_host, f.name) for f in fields(StepResult)
            ]
            for name in words_of(model):
                np.testing.assert_array_equal(device.tensor(name), core.tensor(name), err_msg=name)
        assert device.hello().step == 4


@pytest.mark.parametrize(
    ("cells", "readout"),
    [
        (("gru",), "last"),
        (("rnn",), "frames"),
        (("gru", "lstm"), "regression"),
        (("lstm",), "frames"),
    ],
)
def test_the_emulated_core_trains_every_cell_and_readout(
    cells: tuple[str, ...], readout: str, board: Board, make_integer_model: Callable[..., QuantModel], tmp_path: Path
) -> None:
    """Every word after every step: hidden states, result, and all tensors of all layers."""
    model = make_integer_model(n_in=16, n_hidden=30, max_steps=40, weight_bound=4000, cells=cells, readout=readout)
    core = CoreNetwork(model)
    rng = np.random.default_rng(4)
    settings = Settings.of(model, beta=1e-4, seed=8)
    with (
        Emulator.start(board, export(model, board, tmp_path).elf) as emulator,
        Device.open(emulator.port) as device,
    ):
        assert (device.info.cell, device.info.n_layers, device.info.readout) == (cells[0], len(cells), readout)
        for engine in (device, core):
            settings.apply(engine)
        for label in range(3):
            frames = rng.normal(0, 2500, (40, 16)).clip(-16383, 16383).astype(np.int16)
            sample = Sample(frames, label, "", random_targets(rng, model, len(frames)))
            device.begin()
            core.begin()
            on_device, on_host = (engine.push(frames, targets=sample.targets) for engine in (device, core))
            np.testing.assert_array_equal(on_device, on_host)
            result, expected = sample.train(device), sample.train(core)
            for field in fields(StepResult):
                assert getattr(result, field.name) == getattr(expected, field.name), field.name
            assert expected.active_h > 0
            for name in words_of(model):
                np.testing.assert_array_equal(device.tensor(name), core.tensor(name), err_msg=name)


def test_instructions_are_counted_and_repeat_exactly(emulator: Emulator) -> None:
    frames = np.random.default_rng(2).normal(0, 2000, (30, 16)).astype(np.int16)
    counted = []
    with Device.open(emulator.port) as device:
        for _ in range(2):
            device.reset_weights()
            device.begin()
            device.push(frames, want_hidden=False)
            counted.append(device.train(3).instructions)
    assert counted[0] is not None and counted[1] is not None
    # A tick is 1.6 instructions: each measured call may be off by one.
    assert abs(counted[0] - counted[1]) <= 64
    assert 100_000 < counted[0] < 50_000_000


def test_ram_is_what_the_elf_file_says_and_the_stack_holds(emulator: Emulator, elf: Path) -> None:
    with Device.open(emulator.port) as device:
        device.begin()
        device.push(np.full((64, 16), 3000, np.int16))
        device.infer()
        device.train(0)
        device.tensor("layer0.weight")
        totals = device.statistics()
    size = measure(elf)
    assert totals.ram_bytes == size.ram_bytes
    assert (totals.ram_arena, totals.ram_link, totals.ram_stack) == (
        size.ram["arena"],
        size.ram["link"],
        size.ram["stack"],
    )
    assert totals.arena_used <= totals.ram_arena
    assert 200 < totals.stack_high_water <= totals.ram_stack // 2


def test_weights_come_back_fast(emulator: Emulator, model: QuantModel) -> None:
    """42 KB after each training step: at 100 KB/s and more on an idle PC; a busy one is given ten times as long."""
    with Device.open(emulator.port) as device:
        device.tensor("readout.bias")
        started = time.monotonic()
        weights = device.tensor("layer0.weight")
        rate = weights.nbytes / (time.monotonic() - started)
    assert rate > 10_000, f"{rate / 1000:.1f} KB/s"


# ---- what it withstands


def _send(port: str, data: bytes) -> None:
    host, number = port.removeprefix("socket://").split(":")
    with socket.create_connection((host, int(number))) as line:
        line.settimeout(0.5)
        line.sendall(data)
        try:
            while line.recv(1 << 16):
                pass
        except TimeoutError:
            pass


def test_random_bytes_do_no_harm(emulator: Emulator, model: QuantModel) -> None:
    rng = random.Random(11)
    noise = b"".join(rng.randbytes(rng.randrange(1, 60)) + b"\0" * rng.randrange(2) for _ in range(150))
    _send(emulator.port, noise + b"\x03" * 5000 + b"\0")
    with Device.open(emulator.port) as device:
        assert (device.info.fault, device.info.fresh) == ("none", True)
        np.testing.assert_array_equal(device.tensor("layer0.weight"), model.layers[0].weight.ravel())
        totals = device.statistics()
        assert totals.damaged > 50 and totals.oversize == 1 and totals.samples_trained == 0


def test_a_host_that_leaves_in_the_middle_leaves_a_device_that_goes_on(emulator: Emulator) -> None:
    with Device.open(emulator.port) as device:
        device.begin()
        device.push(np.zeros((3, 16), np.int16))
        device._line.write(b"\0\x20half a frame")
    with Device.open(emulator.port) as device:
        assert not device.info.fresh
        with pytest.raises(DeviceError, match="state"):
            device.train(0)
        device.begin()


def test_a_model_that_cannot_run_is_told_at_each_hello(board: Board, tiny_model: QuantModel, tmp_path: Path) -> None:
    # What stands for flash on this board is RAM, so a test can spoil it.
    spoil = "*(volatile uint32_t *)(uintptr_t)&dt_model.abi_version = 99;"
    main = f'#include "dt_model.h"\nint __wrap_main(void) {{ {spoil} return __real_main(); }}'
    with Emulator.start(board, build_variant(board, tiny_model, tmp_path, main)) as emulator:
        for _ in range(2):
            with pytest.raises(DeviceError, match=r"refused HELLO: .*ABI version are not supported"):
                Device.open(emulator.port)


# ---- how its emulator comes and goes


def _gone(pid: int, within: float = 5.0) -> bool:
    deadline = time.monotonic() + within
    while started_at(pid) is not None:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def test_an_emulator_ends_with_its_context(board: Board, elf: Path) -> None:
    with Emulator.start(board, elf) as emulator:
        assert emulator.alive and started_at(emulator.pid) is not None
    assert not emulator.alive and _gone(emulator.pid)
    emulator.stop()


def test_many_emulators_at_once_have_ports_of_their_own(board: Board, elf: Path) -> None:
    with Emulator.start(board, elf) as one, Emulator.start(board, elf) as other:
        assert one.port != other.port
        with Device.open(one.port) as first, Device.open(other.port) as second:
            assert first.info.hash == second.info.hash


def test_a_killed_emulator_is_told_once_its_line_cannot_be_opened_again(emulator: Emulator) -> None:
    with Device.open(emulator.port, timeout=30, reopen=0.5) as device:
        os.kill(emulator.pid, signal.SIGKILL)
        started = time.monotonic()
        with pytest.raises(DeviceError, match=r"is lost.*deltatrain flash"):
            for _ in range(3):
                device.begin()
        assert time.monotonic() - started < 2
    with pytest.raises(DeviceError, match="cannot open"):
        Device.open(emulator.port)


def test_an_emulator_that_hangs_is_told_in_time(emulator: Emulator) -> None:
    with Device.open(emulator.port, timeout=0.3, retries=1) as device:
        os.kill(emulator.pid, signal.SIGSTOP)
        with pytest.raises(DeviceError, match="no valid answer to BEGIN"):
            device.begin()
    # One that is stopped cannot end when asked: it is killed.
    started = time.monotonic()
    emulator.stop()
    assert not emulator.alive and time.monotonic() - started < 6


def test_a_busy_emulator_is_told(emulator: Emulator) -> None:
    """Another program, without our lock, holds the one connection."""
    host, number = emulator.port.removeprefix("socket://").split(":")
    with socket.create_connection((host, int(number))), pytest.raises(DeviceError, match="no other program hold"):
        Device.open(emulator.port, timeout=0.3, retries=1)


PARENT = """
import sys, time
from pathlib import Path
from deltatrain.targets import Emulator, find_board
with Emulator.start(find_board("mps2-an386"), Path(sys.argv[1])) as emulator:
    print(emulator.pid, flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_emulator_outlives_the_process_that_started_it(board: Board, elf: Path, number: signal.Signals) -> None:
    parent = _parent(PARENT, elf)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert started_at(pid) is not None
    # Ctrl-C reaches the whole group of processes.
    os.killpg(parent.pid, number)
    parent.wait(10)
    parent.stdout.close()
    assert _gone(pid)


CALM_PARENT = """
import sys, time
from pathlib import Path
from deltatrain.targets import Emulator, find_board
with Emulator.start(find_board("mps2-an386"), Path(sys.argv[1])) as emulator:
    try:
        print("running", flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        time.sleep(0.5)
        print(emulator.alive, flush=True)
"""


def _parent(script: str, elf: Path) -> subprocess.Popen[str]:
    """Another Python that uses an emulator, as leader of its group of processes."""
    return subprocess.Popen(
        [sys.executable, "-c", script, str(elf)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        start_new_session=True,
    )


def test_ctrl_c_leaves_the_emulator_to_us(board: Board, elf: Path) -> None:
    """Ctrl-C goes to the whole group; what still wants to read the weights back must find the emulator alive."""
    with _parent(CALM_PARENT, elf) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "running\n"
        os.killpg(parent.pid, signal.SIGINT)
        assert parent.stdout.readline() == "True\n"
        assert parent.wait(10) == 0


def test_a_firmware_that_is_none_is_told(board: Board, tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="deltatrain export"):
        Emulator.start(board, tmp_path / "absent.elf")
    foreign = tmp_path / "foreign.elf"
    foreign.write_text("no firmware")
    with pytest.raises(DeviceError, match=r"foreign\.elf"):
        Emulator.start(board, foreign)


def test_an_emulator_that_refuses_is_told_in_its_own_words(board: Board, elf: Path) -> None:
    with pytest.raises(DeviceError, match="nonsense"):
        Emulator.start(board, elf, extra=["-nonsense"])


def test_a_missing_emulator_is_told_with_its_package(board: Board, elf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(DeviceError, match="sudo apt-get install qemu-system-arm"):
        Emulator.start(board, elf)


# ---- in the background


@pytest.fixture
def clean_background() -> Iterator[None]:
    yield
    stop_background()


@pytest.mark.usefixtures("clean_background")
def test_a_background_emulator_is_found_used_and_stopped(board: Board, elf: Path, model: QuantModel) -> None:
    port = start_background(board, elf, model.hash().hex())
    (entry,) = running()
    assert (entry.port, entry.target, entry.elf) == (port, "qemu:mps2-an386", str(elf))
    assert entry.model_hash == model.hash().hex()
    with Device.open(port) as device:
        device.check_model(model.hash())
    assert stop_background("socket://127.0.0.1:1") == []
    assert stop_background(port) == [port]
    assert _gone(entry.pid) and running() == [] and stop_background() == []
    assert not list(state_dir().glob("emulator-*"))


@pytest.mark.usefixtures("clean_background")
def test_a_background_emulator_outlives_the_process_that_started_it(board: Board, elf: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from deltatrain.targets import find_board, start_background\n"
        "print(start_background(find_board('mps2-an386'), Path(sys.argv[1])))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    port = subprocess.run(
        [sys.executable, "-c", script, str(elf)], capture_output=True, text=True, check=True, env=environment
    ).stdout.strip()
    with Device.open(port) as device:
        assert device.info.board == "mps2-an386"
    assert stop_background() == [port]


def test_stale_and_foreign_entries_end_no_process(board: Board) -> None:
    bystander = subprocess.Popen(["sleep", "60"])
    try:
        entry = {
            "pid": bystander.pid,
            "started": "1",  # of the emulator that had this number before
            "port": "socket://127.0.0.1:5",
            "target": board.target,
            "elf": "x",
            "model_hash": "",
        }
        (state_dir() / "emulator-5.json").write_text(json.dumps(entry))
        (state_dir() / "emulator-6.json").write_text(json.dumps({**entry, "pid": 2**22 + 1}))
        (state_dir() / "emulator-7.json").write_text("{torn")
        (state_dir() / "emulator-8.json").write_text('{"pid": 1}')
        assert stop_background() == []
        assert bystander.poll() is None
        assert not list(state_dir().glob("emulator-*"))
    finally:
        bystander.kill()
        bystander.wait()


def test_a_background_emulator_that_fails_leaves_nothing(board: Board, elf: Path) -> None:
    with pytest.raises(DeviceError, match="nonsense"):
        start_background(board, elf, extra=["-nonsense"])
    assert running() == [] and not list(state_dir().glob("emulator-*"))


def test_the_state_folder_is_one_that_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert state_dir() == tmp_path / "state" / "deltatrain"
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "only-made-at-log-in"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert state_dir() == tmp_path / "cache" / "deltatrain" and state_dir().is_dir()
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(DeviceError, match="XDG_RUNTIME_DIR"):
        state_dir()


# ---- targets by name


def test_every_board_is_described_wholly() -> None:
    assert [board.name for board in boards()] == sorted(board.name for board in boards())
    for board in boards():
        assert board.title and board.core and board.needs
        assert board.flash_bytes > 0 and board.ram_bytes > 0 and board.counter_hz > 0
        for path in (*board.sources, board.linker_script):
            assert path.is_file(), path
        assert parse_target(board.target).board == board
        assert len(board.name) < 32  # fits the hello
    assert len({board.target for board in boards()}) == len(boards())
    assert {board.target for board in boards()} >= {
        "qemu:netduinoplus2",
        "renode:stm32f4_discovery",
        "pyocd:stm32f4_discovery",
        "renode:nrf52840dk_nrf52840",
        "pyocd:nrf52840dk",
    }


def test_a_counter_tells_instructions_only_where_it_runs_as_the_emulated_one() -> None:
    """The same firmware answers with the same name in QEMU and on a chip: there its ticks are cycles."""
    emulated, chip = find_board("stm32f4", 1_000_000_000), find_board("stm32f4", 16_000_000)
    assert emulated is not None and emulated.ticks_per_instruction == (1, 1)
    assert chip is not None and chip.ticks_per_instruction is None
    assert find_board("stm32f4", 5) is None


@pytest.mark.parametrize("port", ["/dev/ttyACM0", "socket://127.0.0.1:5555", "rfc2217://host:7", "COM3"])
def test_ports_are_targets(port: str) -> None:
    target = parse_target(port)
    assert (target.board, target.port) == (None, port)


@pytest.mark.parametrize("text", ["", "qemu:", "qemu:nothing", "renode:mps2-an386", "mps2-an386", "stm32f4"])
def test_an_unknown_target_is_told_with_the_known(text: str) -> None:
    with pytest.raises(InputError, match="qemu:mps2-an386"):
        parse_target(text)
