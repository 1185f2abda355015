"""Every board trains every cell, word by word as the host does; and tells its faults as well as its processor can."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from equality import random_model, random_settings
from study_cores import train_on
from variants import build_failing, symbol, want

from deltatrain.errors import DeviceError
from deltatrain.link import Device
from deltatrain.quant_model import QuantModel
from deltatrain.targets import Board, Emulator, Qemu, boards, find_board
from deltatrain_codegen import export, ram_needed
from deltatrain_codegen.build import compile_flags, firmware_sources, link_flags
from deltatrain_codegen.elf import measure

N_STEPS = 4
NETWORKS = {"LSTM": ("lstm",), "GRU": ("gru",), "RNN": ("rnn",), "GRU, LSTM": ("gru", "lstm")}
QEMU_BOARDS = [board for board in boards() if isinstance(board.run, Qemu)]
every_board = pytest.mark.parametrize("board", QEMU_BOARDS, ids=lambda board: board.target)


def need(board: Board) -> Board:
    """The board; skips where its compiler or emulator is absent."""
    return need_programs(board, *board.needs)


def need_programs(board: Board, *programs: str) -> Board:
    """The board; skips where a program is absent."""
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed; `make setup` installs it")
    return board


# The STM32F4 has the processor of another board, and trains one.
@pytest.mark.parametrize(
    ("board", "network"),
    [(board, name) for board in QEMU_BOARDS for name in NETWORKS if board.name != "stm32f4" or name == "GRU, LSTM"],
    ids=lambda value: value if isinstance(value, str) else value.target,
)
def test_every_board_trains_every_cell_as_the_host_does(board: Board, network: str) -> None:
    """A model small enough for every board; all words after each step, against the C core here and the integers."""
    rng = np.random.default_rng(6)
    model = random_model(rng, 5, 8, 4, 10, spread=1.0, cells=NETWORKS[network])
    assert train_on(need(board), model, random_settings(rng, model), rng, N_STEPS) > 1000


@every_board
def test_every_board_tells_its_memory_and_counts_its_instructions(
    board: Board, tiny_model: QuantModel, tmp_path: Path
) -> None:
    """RAM as the ELF file has it, and no more than foreseen; the stack two thirds full at most; counts that repeat."""
    built = export(tiny_model, need(board), tmp_path)
    frames = np.random.default_rng(2).normal(0, 2000, (8, 3)).astype(np.int16)
    counted = []
    with Emulator.start(board, built.elf) as emulator, Device.open(emulator.port) as device:
        assert (device.info.board, device.info.max_payload) == (board.name, board.max_payload)
        assert (
            device.info.counter == "timer"
        )  # QEMU has no cycle counter: a firmware that looks for one takes the timer
        for _ in range(3):
            device.reset_weights()
            device.begin()
            device.push(frames)
            counted.append(device.train(1).instructions or 0)
        device.tensor("layer0.weight")
        totals = device.statistics()
    size = measure(built.elf)
    assert totals.ram_bytes == size.ram_bytes <= sum(ram_needed(tiny_model, board).values()) <= board.ram_bytes
    assert totals.ram_stack == size.ram["stack"] == board.stack_bytes
    assert 200 < totals.stack_high_water <= 2 * totals.ram_stack // 3
    assert min(counted) > 10_000 and max(counted) < 1_000_000
    # Each measured call may be off by a tick, and a tick is up to 1.6 instructions.
    assert max(counted) - min(counted) <= 32


def test_a_board_that_can_be_run_in_several_ways_has_one_firmware(tmp_path: Path) -> None:
    """QEMU, Renode and the board itself get what is compiled from the same files in the same way."""
    made: dict[str, set[object]] = {}
    for board in boards():
        inputs = (
            *(board.compiler, *compile_flags(board, tmp_path), *link_flags(board)),
            *(*firmware_sources(board), board.store, board.flash_bytes),
        )
        made.setdefault(board.name, set()).add(inputs)
    assert {name for name, inputs in made.items() if len(inputs) > 1} == set()
    assert len(made) < len(boards())


@pytest.mark.parametrize("board", [find_board("nrf52840")], ids=["nrf52840"])
def test_a_board_without_qemu_is_built(board: Board, tiny_model: QuantModel, tmp_path: Path) -> None:
    assert not isinstance(board.run, Qemu)
    built = export(tiny_model, need_programs(board, board.compiler), tmp_path, store=True)
    assert measure(built.elf).ram_bytes == built.ram_bytes <= board.ram_bytes


def test_a_store_that_the_emulator_does_not_model_is_none(tiny_model: QuantModel, tmp_path: Path) -> None:
    """The firmware of the STM32F4 finds its flash controller on the board and in Renode; in QEMU it does without."""
    board = find_board("stm32f4")
    assert board is not None and board.store is not None and board.kept is None
    built = export(tiny_model, need(board), tmp_path, store=True)
    with Emulator.start(board, built.elf) as emulator, Device.open(emulator.port) as device:
        assert device.info.store == "none"
        device.begin()


# What each processor knows of a fault. ARMv6-M has one fault for all, and none that a full stack could be told by.
NOTHING_THERE = {
    "mps2-an385": 0x60000000,
    "mps2-an386": 0x60000000,
    "mps2-an500": 0x70000000,
    "mps2-an505": 0x60000000,
    "mps3-an547": 0x5F000000,
    "microbit": 0x30000000,
    "riscv32-virt": 0x00200000,
    "stm32f4": 0x60000000,
}


@every_board
def test_a_fault_restarts_the_board_and_is_told(board: Board, tiny_model: QuantModel, tmp_path: Path) -> None:
    elf = build_failing(need(board), tiny_model, tmp_path, NOTHING_THERE[board.name])
    code = range(board.flash_origin, board.flash_origin + board.flash_bytes)
    for fault in faults_of(board):
        with Emulator.start(board, elf, want(elf, fault)) as emulator, Device.open(emulator.port) as device:
            assert device.info.fault == ("hard" if board.core == "Cortex-M0" else fault)
            # The program counter of a fault lies in the code; at a stack overflow there is no saying.
            assert device.info.fault_address == 0 if fault == "stack" else device.info.fault_address in code
            device.begin()
    with Emulator.start(board, elf, want(elf, "watchdog")) as emulator:
        hang(emulator.port)
        with Device.open(emulator.port) as device:
            assert device.info.fault == "watchdog" and device.info.fault_address in code
            # Waiting is no command: it may take as long as it likes.
            time.sleep({"mps2-an386": 2, "riscv32-virt": 4}.get(board.name, 0))
            device.begin()


@pytest.mark.parametrize("name", ["stm32f4", "microbit"])
def test_a_chips_own_watchdog_is_fed_before_the_first_command(
    name: str, tiny_model: QuantModel, tmp_path: Path
) -> None:
    """QEMU has no IWDG or WDT that could bite; but the beats that feed them are counted, in a word of the firmware."""
    board = find_board(name)
    assert board is not None and "DT_WATCHDOG_FEED" in dict(board.defines)
    elf = export(tiny_model, need(board), tmp_path).elf
    monitor = ["-qmp", f"unix:{tmp_path / 'qmp'},server=on,wait=off"]
    with Emulator.start(board, elf, monitor, wait=False), qmp(tmp_path / "qmp") as ask:
        deadline = time.monotonic() + 20
        while int(ask(f"xp /1wx {symbol(elf, 'beats_left'):#x}").split()[-1], 16) == 0:
            assert time.monotonic() < deadline, "no beat in 20 s"
            time.sleep(0.1)


@contextmanager
def qmp(path: Path) -> Iterator[Callable[[str], str]]:
    """What QEMU's monitor answers to a command."""
    deadline = time.monotonic() + 10
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(str(path))
        with line.makefile("rw") as stream:

            def call(request: dict[str, object]) -> str:
                stream.write(json.dumps(request) + "\n")
                stream.flush()
                while "return" not in (answer := json.loads(stream.readline())):
                    pass
                return str(answer["return"])

            stream.readline()
            call({"execute": "qmp_capabilities"})
            yield lambda text: call({"execute": "human-monitor-command", "arguments": {"command-line": text}})


def hang(port: str) -> None:
    """Send the command that never ends; what it gets for an answer is a restart."""
    with Device.open(port) as device:
        assert device.info.fault == "none"
        with pytest.raises(DeviceError):
            device.begin()


def faults_of(board: Board) -> tuple[str, ...]:
    """What makes the board fault and be told.

    On a Cortex-M0 an unaligned access too, so that its training shows that the core makes none; but not a full stack:
    a real one is reset, the emulated one locks up, which ends QEMU.
    """
    return ("usage", "bus", "alignment") if board.core == "Cortex-M0" else ("usage", "bus", "stack")


def test_the_cortex_m55_computes_with_vectors(tiny_model: QuantModel, tmp_path: Path) -> None:
    """Lest the equality of that board say nothing about MVE: some loops of the core use its registers q0 to q7."""
    board = find_board("mps3-an547")
    assert board is not None
    elf = export(tiny_model, need(board), tmp_path).elf
    listing = subprocess.check_output(["arm-none-eabi-objdump", "-d", str(elf)], text=True)
    assert re.search(r"\bq[0-7]\b", listing)
