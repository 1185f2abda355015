"""Commits survive power cuts: on this PC in any operation, and on emulators that are killed."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import SANITIZED
from equality import random_exemplars, random_frames, random_model
from study_power import PowerCuts, cut_until
from test_boards import need

import deltatrain_core
import deltatrain_firmware
from deltatrain.cli import main
from deltatrain.errors import BuildError, DeviceError, InputError
from deltatrain.key import Key, Lock
from deltatrain.link import Device, RefusedError, protocol
from deltatrain.quant_model import QuantModel
from deltatrain.slots import read_slots, slot_bytes
from deltatrain.targets import Board, Emulator, boards, find_board, running
from deltatrain.training import Sample, Settings
from deltatrain_codegen import export, generate
from deltatrain_codegen.store import with_store

PAGE = (Path(__file__).parent.parent / "docs" / "POWER_LOSS.md").read_text(encoding="utf-8")
NATIVE = Path(__file__).parent / "native" / "store_power.c"
# Bytes of a page, pages, bytes programmed at once. A commit of the model takes 720 bytes.
GEOMETRIES = {"small pages": (64, 32, 4), "words of 64 bits": (256, 8, 8), "a page a slot": (2048, 2, 16)}
CODE_BYTES = 1280  # that the store takes on a Cortex-M4, its driver included


def board_named(name: str) -> Board:
    """A board that this machine can build for and run; skips where it cannot."""
    board = find_board(name)
    assert board is not None
    return need(board)


# ---- the store alone, every operation cut


@pytest.fixture(scope="module")
def build_power(
    make_integer_model: Callable[..., QuantModel], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[int, int, int], Path]:
    """Build tests/native/store_power.c with sanitizers for a flash of some geometry; the core is built once."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed; `make setup` installs it")
    folder = tmp_path_factory.mktemp("power")
    for name, text in generate(make_integer_model(cells=("gru", "lstm"))).items():
        (folder / name).write_text(text, encoding="utf-8")
    firmware = deltatrain_firmware.root() / "src"
    places = (deltatrain_core.include_dir(), deltatrain_firmware.include_dir(), firmware, folder)
    command = [*SANITIZED, "-std=gnu11", "-Wall", "-Wextra", "-Wconversion", "-Werror", *(f"-I{p}" for p in places)]

    def compile_one(source: Path) -> Path:
        target = folder / f"{source.stem}.o"
        subprocess.run([*command, "-c", source, "-o", target], check=True)
        return target

    with ThreadPoolExecutor(2) as pool:
        sources = [*deltatrain_core.sources(), firmware / "dt_frame.c", folder / "dt_model.c"]
        objects = list(pool.map(compile_one, sources))

    def build(page_bytes: int, pages: int, write_bytes: int) -> Path:
        sizes = {"PAGE_BYTES": page_bytes, "PAGES": pages, "WRITE_BYTES": write_bytes}
        defines = ["-DDT_STORE", *(f"-DDT_FLASH_{name}={size}u" for name, size in sizes.items())]
        program = folder / f"power_{page_bytes}_{pages}_{write_bytes}"
        subprocess.run([*command, *defines, firmware / "dt_store.c", NATIVE, *objects, "-o", program], check=True)
        return program

    return build


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_power_cut_at_any_operation_loses_no_commit(
    build_power: Callable[[int, int, int], Path], geometry: str
) -> None:
    """And flash that refuses, holds something else than it was given, or rots; see tests/native/store_power.c."""
    program = build_power(*GEOMETRIES[geometry])
    outcome = subprocess.run([program, "1"], capture_output=True, text=True)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    did = json.loads(outcome.stdout)
    assert did["bytes"] == 720
    assert min(did["cuts"], did["commits"], did["flips"]) > 500 and did["fails"] > 50


def test_flash_too_small_for_two_commits_is_none(build_power: Callable[[int, int, int], Path]) -> None:
    outcome = subprocess.run([build_power(64, 22, 4)], capture_output=True, text=True)
    assert outcome.returncode == 0 and json.loads(outcome.stdout)["bytes"] == 0, outcome.stdout


def test_the_driver_of_the_stm32f4_does_as_its_manual_says(tmp_path: Path) -> None:
    """Above a controller written for this: keys, sectors, errors, and one that is absent or never ready."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed; `make setup` installs it")
    root, program = deltatrain_firmware.root(), tmp_path / "flash"
    places = (root / "src", root / "boards" / "stm32f4", root / "boards" / "common")
    sizes = {"PAGE_BYTES": 131072, "PAGES": 2, "WRITE_BYTES": 4}
    command = ["gcc", "-O1", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-Wno-int-to-pointer-cast", "-no-pie"]
    command += [*(f"-DDT_FLASH_{name}={size}u" for name, size in sizes.items()), *(f"-I{place}" for place in places)]
    source = NATIVE.with_name("flash_stm32f4.c")
    subprocess.run([*command, source, "-Wl,--defsym=dt_flash=0x080C0000", "-o", program], check=True)
    outcome = subprocess.run([program], capture_output=True, text=True, timeout=60)
    assert outcome.returncode == 0, outcome.stdout


# ---- on an emulator that is killed


@pytest.fixture(scope="module")
def board() -> Board:
    return board_named("mps2-an386")


@pytest.fixture(scope="module")
def model() -> QuantModel:
    """Larger than a page of the board's store, with exemplars."""
    rng = np.random.default_rng(3)
    model = random_model(rng, 8, 16, 4, 12, spread=1.0, cells=("lstm",))
    return replace(model, replay=random_exemplars(rng, model))


@pytest.fixture(scope="module")
def elf(board: Board, model: QuantModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its firmware with a store, as the command line builds it."""
    folder = tmp_path_factory.mktemp("store")
    model.save(folder / "model.safetensors")
    asked = ("export", "--model", folder / "model.safetensors", "--target", board.target, "--store", "--out", folder)
    built = json.loads(invoke(*asked, "--json"))
    assert built["commit_bytes"] == slot_bytes(model) > 2 * 1024
    assert 0 < built["flash_bytes"] - export(model, board, folder / "without").flash_bytes <= CODE_BYTES
    return Path(built["elf"])


def invoke(*arguments: object) -> str:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def samples(model: QuantModel, count: int) -> list[Sample]:
    rng = np.random.default_rng(5)
    return [
        Sample(random_frames(rng, model.max_steps, model.n_in), int(rng.integers(model.n_outputs)), "")
        for _ in range(count)
    ]


def train(device: Device, model: QuantModel, count: int) -> None:
    for sample in samples(model, count):
        sample.train_whole(device)


def test_training_goes_on_bit_exactly_after_kills(board: Board, model: QuantModel, elf: Path, tmp_path: Path) -> None:
    """The study's own loop, a few times; `make study-power` does it often."""
    rng = np.random.default_rng(7)
    settings = Settings.of(model, seed=11)
    cuts = PowerCuts(board, model, settings, samples(model, 5), elf, tmp_path / "a, b.bin", rng)
    cut_until(cuts, kills=6, torn=1)
    assert cuts.tally.kills >= 6 and cuts.tally.torn >= 1 and cuts.tally.lost == 0
    assert cuts.tally.words > 6 * sum(tensor.size for tensor in model.tensors().values())


def test_flash_keeps_commits_in_a_file(board: Board, model: QuantModel, elf: Path, tmp_path: Path) -> None:
    """By the command line: killed in the background, started again, forgotten, started again."""
    file = tmp_path / "store.bin"
    states = []
    for turn in range(3):
        port = json.loads(invoke("flash", "--elf", elf, "--target", board.target, "--store", file, "--json"))["port"]
        with Device.open(port) as device:
            states.append((device.info.store, device.info.commits, device.info.committed_step, device.info.step))
            if turn == 0:
                train(device, model, 2)
                done = device.commit()
                assert (done.commits, done.step, done.slot_erases, done.bytes) == (1, 2, 1, slot_bytes(model))
                assert (device.hello().store, device.info.commits, device.info.committed_step) == ("loaded", 1, 2)
                learned = device.tensor("layer0.weight")
                train(device, model, 1)
            else:
                expected = learned if turn == 1 else model.layers[0].weight.ravel()
                assert (device.tensor("layer0.weight") == expected).all()
                device.forget()
                assert (device.hello().store, device.info.commits) == ("empty", 0)
            (pid,) = (entry.pid for entry in running() if entry.port == port)
            os.kill(pid, signal.SIGKILL)
    assert states == [("empty", 0, 0, 0), ("loaded", 1, 2, 2), ("empty", 0, 0, 0)]
    assert board.store is not None
    assert read_slots(file.read_bytes(), board.store, model) == (None, None)


@pytest.mark.parametrize("name", ["mps2-an500", "mps2-an505", "mps3-an547"])
def test_every_emulated_flash_keeps_commits_in_a_file(name: str, tiny_model: QuantModel, tmp_path: Path) -> None:
    board = board_named(name)
    elf = export(tiny_model, board, tmp_path, store=True).elf
    for step in range(3):
        emulator = Emulator.start(board, elf, store=tmp_path / "store.bin")
        with emulator, Device.open(emulator.port) as device:
            assert (device.info.committed_step, device.info.step) == (step, step)
            train(device, tiny_model, 1)
            assert device.commit().step == step + 1
            os.kill(emulator.pid, signal.SIGKILL)


def test_a_locked_store_obeys_its_key_alone(board: Board, tiny_model: QuantModel, tmp_path: Path) -> None:
    """Commit and forget, with the key and without it, each before a loss of power: only the key changes the flash."""
    key, file = Key.new(), tmp_path / "store.bin"
    elf = export(tiny_model, board, tmp_path, store=True, lock=Lock(key)).elf

    def run(work: Callable[[Device], None], given: Key | None, starts: tuple[str, int, int]) -> bytes:
        """Start at (store, committed step, step), work and lose the power: the flash after it."""
        with Emulator.start(board, elf, store=file) as emulator, Device.open(emulator.port, key=given) as device:
            info = device.info
            assert (info.store, info.committed_step, info.step) == starts
            work(device)
            os.kill(emulator.pid, signal.SIGKILL)
        return file.read_bytes()

    def refused(device: Device) -> None:
        before = device.info
        for name, call in (("COMMIT", device.commit), ("FORGET", device.forget)):
            with pytest.raises(RefusedError, match=f"refused {name}: .*locked.*--key FILE or DELTATRAIN_KEY") as caught:
                call()
            assert caught.value.status == protocol.constant("DT_ERR_LOCKED")
        now = device.hello()
        assert (now.store, now.commits, now.committed_step) == (before.store, before.commits, before.committed_step)

    def commit(device: Device) -> None:
        train(device, tiny_model, 2)
        assert device.commit().step == 2
        learned.update({name: device.tensor(name) for name in tiny_model.tensors()})
        train(device, tiny_model, 1)

    def holds(device: Device, expected: dict[str, Any]) -> None:
        for name, words in expected.items():
            np.testing.assert_array_equal(device.tensor(name), words.ravel(), err_msg=name)

    def forget(device: Device) -> None:
        holds(device, learned)
        device.forget()

    learned: dict[str, Any] = {}
    assert board.store is not None
    empty = run(refused, None, ("empty", 0, 0))
    committed = run(commit, key, ("empty", 0, 0))
    first, second = read_slots(committed, board.store, tiny_model)
    assert first is not None and first.step == 2 and second is None and committed != empty
    assert run(refused, None, ("loaded", 2, 2)) == committed
    forgotten = run(forget, key, ("loaded", 2, 2))
    assert read_slots(forgotten, board.store, tiny_model) == (None, None)
    assert run(refused, None, ("empty", 0, 0)) == forgotten
    assert run(lambda device: holds(device, tiny_model.tensors()), key, ("empty", 0, 0)) == forgotten


@contextmanager
def qmp(path: Path) -> Iterator[Callable[[str], None]]:
    """Commands to QEMU itself."""
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(str(path))
        with line.makefile("rw") as stream:

            def call(command: str) -> None:
                stream.write(json.dumps({"execute": command}) + "\n")
                stream.flush()
                while "return" not in json.loads(stream.readline()):
                    pass

            stream.readline()
            call("qmp_capabilities")
            yield call


def test_the_nvmc_of_an_nrf5_keeps_commits_over_a_reset(tiny_model: QuantModel, tmp_path: Path) -> None:
    """QEMU models that of the micro:bit, but keeps it in no file: a reset stands for the loss of power."""
    board = board_named("microbit")
    built = export(tiny_model, board, tmp_path, store=True)
    extra = ["-qmp", f"unix:{tmp_path / 'qmp'},server=on,wait=off"]
    with (
        Emulator.start(board, built.elf, extra) as emulator,
        Device.open(emulator.port) as device,
        qmp(tmp_path / "qmp") as call,
    ):
        for step in range(3):
            assert (device.info.committed_step, device.info.step, device.info.fresh) == (step, step, True)
            train(device, tiny_model, 1)
            learned = device.tensor("layer0.weight")
            assert device.commit().step == step + 1
            call("system_reset")
            device.hello()
            assert (device.tensor("layer0.weight") == learned).all()
        device.forget()
        call("system_reset")
        assert (device.hello().store, device.info.step) == ("empty", 0)
    with pytest.raises(InputError, match="leave out --store"):
        Emulator.start(board, built.elf, store=tmp_path / "store.bin")


# ---- flash that is slow

IMPATIENT: dict[str, Any] = {"timeout": 0.1, "retries": 1}
SLOW_S = 1.5  # the device does not answer for so long, several times what the client waits as a rule


@contextmanager
def busy(emulator: Emulator, device: Device) -> Iterator[None]:
    """Each request to commit or forget finds a device that hears and says nothing for a while, as real flash has it."""
    ask, slow = device._link.ask, {protocol.constant(f"DT_CMD_{name}") for name in ("COMMIT", "FORGET")}
    wakers: list[threading.Timer] = []

    def ask_slowly(command: int, *rest: Any, **options: Any) -> Any:
        if command in slow:
            os.kill(emulator.pid, signal.SIGSTOP)
            wakers.append(threading.Timer(SLOW_S, os.kill, (emulator.pid, signal.SIGCONT)))
            wakers[-1].start()
        return ask(command, *rest, **options)

    device._link.ask = ask_slowly  # type: ignore[method-assign]
    yield
    for waker in wakers:
        waker.join()


@pytest.mark.parametrize("stated", [True, False])
def test_slow_flash_is_waited_for_where_the_board_states_it(
    board: Board, tiny_model: QuantModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stated: bool
) -> None:
    """In silence, not by sending again, which a device whose processor stands still would hear in pieces."""
    assert board.store is not None
    page_ms = round(5 * SLOW_S * 1e3 / board.store.pages)  # a commit erases half of them
    slow = replace(board, store=replace(board.store, erase_ms=page_ms if stated else 0))
    monkeypatch.setattr("deltatrain.link.device.find_board", lambda *_: slow)
    elf = export(tiny_model, board, tmp_path, store=True).elf
    with Emulator.start(board, elf) as emulator, Device.open(emulator.port, **IMPATIENT) as device:
        train(device, tiny_model, 1)
        sizes = device._link.outward.size, device._link.inward.size
        repeated = device.counters.repeated  # of training, by a loaded PC
        with busy(emulator, device):
            if not stated:
                with pytest.raises(DeviceError, match="no valid answer to COMMIT"):
                    device.commit()
                return
            for _ in range(2):
                assert device.commit().step == 1
            device.forget()
        assert device.counters.repeated == repeated
        assert device._link.outward.size >= sizes[0] and device._link.inward.size >= sizes[1]
        started = time.monotonic()
        device.statistics()
        assert time.monotonic() - started < SLOW_S, "no other command waits so long"
        os.kill(emulator.pid, signal.SIGKILL)


def test_a_device_that_vanishes_over_a_commit_is_given_up(
    board: Board, tiny_model: QuantModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert board.store is not None
    slow = replace(board, store=replace(board.store, erase_ms=2, program_us=1))
    monkeypatch.setattr("deltatrain.link.device.find_board", lambda *_: slow)
    assert slow.store is not None and slow.store.commit_s == pytest.approx(0.256 + 0.065536)
    elf = export(tiny_model, board, tmp_path, store=True).elf
    with Emulator.start(board, elf) as emulator, Device.open(emulator.port, **IMPATIENT) as device:
        os.kill(emulator.pid, signal.SIGSTOP)
        started = time.monotonic()
        with pytest.raises(DeviceError, match=r"no valid answer to COMMIT .* sent \d times"):
            device.commit()
        assert 2 * (0.1 + slow.store.commit_s) - 0.1 < time.monotonic() - started < 5
        os.kill(emulator.pid, signal.SIGKILL)


# ---- words


def test_firmware_without_a_store_says_so(native_device: Any, tiny_model: QuantModel) -> None:
    with Device.open(native_device(tiny_model).url) as device:
        assert device.info.store == "none"
        for call in (device.commit, device.forget):
            with pytest.raises(DeviceError, match="export --store"):
                call()
        with pytest.raises(RefusedError) as refused:
            device._effect("DT_CMD_COMMIT")
        assert refused.value.status == protocol.constant("DT_ERR_COMMAND")


def test_a_store_is_refused_where_it_cannot_be(make_integer_model: Callable[..., QuantModel], tmp_path: Path) -> None:
    small, large = make_integer_model(), make_integer_model(n_hidden=64)
    without = next(board for board in boards() if board.store is None)
    with pytest.raises(BuildError, match=r"no non-volatile memory of .* for .*mps2-an386"):
        export(small, without, tmp_path, store=True)
    board = find_board("microbit")
    assert board is not None and board.store is not None
    with pytest.raises(BuildError, match=r"takes 3\d,\d{3} bytes, and microbit has room for two of 16,384"):
        with_store(large, board)
    # Its store lies in the flash that the firmware is in, and the firmware must end before.
    shorter, store = with_store(small, board)
    assert store is board.store and shorter.flash_bytes == store.origin == board.flash_bytes - 2 * store.slot_bytes
    other = find_board("mps2-an386")
    assert other is not None and with_store(small, other)[0] == other


def test_stores_are_whole_and_out_of_the_way() -> None:
    for board in boards():
        store = board.store
        if store is None:
            continue
        assert store.pages % 2 == 0 and store.page_bytes % protocol.constant("DT_SLOT_ALIGN") == 0
        assert store.write_bytes in (4, 8, 16) and store.origin % store.page_bytes == 0
        end = store.origin + 2 * store.slot_bytes
        ram_end, flash_end = board.ram_origin + board.ram_bytes, board.flash_origin + board.flash_bytes
        assert end <= board.ram_origin or store.origin >= ram_end
        assert end in (flash_end,) or end <= board.flash_origin or store.origin >= flash_end


def test_firmware_with_a_store_builds_where_no_emulator_runs_it(tiny_model: QuantModel, tmp_path: Path) -> None:
    board = find_board("nrf52840")
    assert board is not None and board.store is not None
    if shutil.which(board.compiler) is None:
        pytest.skip(f"{board.compiler} is not installed; `make setup` installs it")
    built = export(tiny_model, board, tmp_path, store=True)
    assert board.flash_origin + built.flash_bytes <= board.store.origin


def test_the_page_tells_what_the_boards_flash_bears() -> None:
    borne = {f"{board.store.erase_cycles:,}" for board in boards() if board.store and board.store.erase_cycles}
    assert borne == set(re.findall(r"^\|.* of \d+ KiB\) \| ([\d,]+) \|", PAGE, re.MULTILINE))


def test_the_page_tells_how_long_it_may_take() -> None:
    told = {
        name: tuple(map(float, times))
        for name, *times in re.findall(r"^\| `(\w+)` \|.*\| ([\d.]+) s \| ([\d.]+) s \|$", PAGE, re.MULTILINE)
    }
    stores = {board.name: board.store for board in boards() if board.store is not None and board.store.erase_ms}
    assert told == {name: (round(store.commit_s, 1), round(store.forget_s, 1)) for name, store in stores.items()}


def test_the_page_gives_a_slots_layout() -> None:
    rows = [(int(at), field) for at, field in re.findall(r"^\| (\d+) \| [^|]+ \| `(\w+)` \|", PAGE, re.MULTILINE)]
    assert rows == [(at, field) for field, at, _ in protocol.layout_of("dt_slot_t")]
    assert f"0x{protocol.constant('DT_SLOT_MAGIC'):08X}" in PAGE
