"""What a board's ticks are: cycles where the processor counts them, else a timer's; and what `bench` makes of them."""

from __future__ import annotations

import json
import re
import runpy
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import deltatrain_firmware
from deltatrain.bench import FIXED, PHASES, BoardRow, Case, Desk
from deltatrain.bench.board import _cost
from deltatrain.bench.rows import description
from deltatrain.cli import main
from deltatrain.errors import DeviceError, InputError
from deltatrain.targets import Board, Counter, Probe, parse_target

TESTS = Path(__file__).parent
DISCOVERY, DK = "pyocd:stm32f4_discovery", "pyocd:nrf52840dk"
RENODE = "renode:stm32f4_discovery"
TIM2_CNT = 0x40000024


def board_of(target: str, **defines: int) -> Board:
    """A board, with some of its numbers for C changed or added."""
    board = parse_target(target).board
    assert board is not None
    return replace(board, defines=tuple((dict(board.defines) | defines).items()))


# ---- the driver


def test_cycles_are_counted_where_they_count_and_else_the_timer(tmp_path: Path) -> None:
    """Above a DWT that wraps, that a debugger switches off, and that is not there: tests/native/cycles.c."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed; `make setup` installs it")
    root, program = deltatrain_firmware.root(), tmp_path / "cycles"
    common = root / "boards" / "common"
    command = ["gcc", "-O1", "-std=c11", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-fsanitize=address,undefined"]
    places = [*(f"-I{place}" for place in (root / "src", common, deltatrain_firmware.include_dir()))]
    places += [f"-I{TESTS.parent / 'ctypes_core' / 'deltatrain_core' / 'include'}", "-DDT_CPU_HZ=64000000u"]
    sources = [TESTS / "native" / "cycles.c", common / "counter32.c"]
    subprocess.run([*command, *places, *sources, "-o", program], check=True)
    outcome = subprocess.run([program], capture_output=True, text=True, timeout=60)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr


# ---- what the host makes of ticks


def test_ticks_are_what_firmware_and_target_say() -> None:
    """One and the same firmware: QEMU is known by the rate of its timer, a chip by its cycles, Renode by neither."""
    emulated, chip = Counter.of("stm32f4", "timer", 1_000_000_000), Counter.of("stm32f4", "cycles", 16_000_000)
    renode = Counter.of("stm32f4", "timer", 16_000_000)
    assert (emulated.unit, chip.unit, renode.unit) == ("instructions", "cycles", "microseconds")
    assert (emulated.units(1234), chip.units(1234), renode.units(1234)) == (1234, 1234, 77.1)
    assert Counter.of("mps2-an386", "timer", 25_000_000).units(8) == 5
    assert Counter.of("unknown", "timer", 1000).units(3) == 3000.0
    assert Counter.of("nrf52840", "cycles", 64_000_000).units(2**40 + 1) == 2**40 + 1


@pytest.mark.parametrize("target", [DISCOVERY, DK])
def test_a_board_on_the_desk_needs_its_port(target: str) -> None:
    board = board_of(target)
    assert dict(board.defines)["DT_CPU_HZ"] == {DISCOVERY: 16_000_000, DK: 64_000_000}[target]
    outcome = bench("--target", target)
    assert outcome.exit_code == 2
    assert re.search(r"name it by --port: .*(PA2|probe)", outcome.stderr)


def test_an_emulator_brings_its_own_line() -> None:
    outcome = bench("--port", "/dev/ttyACM0")
    assert outcome.exit_code == 2 and "leave out --port" in outcome.stderr
    with pytest.raises(InputError, match="leave out --port"):
        Desk(board_of(RENODE), probe="0123")


@pytest.mark.parametrize(
    ("target", "words"),
    [(DISCOVERY, r"there is no pyocd; install it.*OpenOCD"), (RENODE, r"there is no renode; .*RENODE")],
)
def test_what_is_missing_is_told(target: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("RENODE", raising=False)
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    elf = tmp_path / "firmware.elf"
    elf.touch()
    port = "socket://127.0.0.1:1" if target == DISCOVERY else None
    with pytest.raises(DeviceError, match=words), Desk(board_of(target), port).running(elf):
        pass


# ---- the whole command


def bench(*words: str) -> Result:
    case = ("--cell", "gru", "--n-in", "4", "--n-hidden", "8", "--steps", "10", "--sparsity", "0.5")
    return CliRunner().invoke(main, ["bench", *case, *words])


def rows_of(outcome: Result, target: str) -> list[dict[str, Any]]:
    assert outcome.exit_code == 0, outcome.output
    values = json.loads(outcome.stdout)
    assert values["target"] == target
    return list(values["rows"])


def stand_in(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program of that name in a folder of its own, that comes first on the PATH."""
    program = folder / name / name
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\nexec '{sys.executable}' '{TESTS / name / 'stand_in.py'}' \"$@\"\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    monkeypatch.delenv("RENODE", raising=False)
    return program


@pytest.fixture
def desk_port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The line of a board that stand_in.py puts firmware on, under the name of pyOCD."""
    for program in ("arm-none-eabi-gcc", "qemu-system-arm"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed; `make setup` installs it")
    stand_in(tmp_path, "pyocd", monkeypatch)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    monkeypatch.setenv("STAND_IN_PORT", str(port))
    monkeypatch.setenv("STAND_IN_PID", str(tmp_path / "pid"))
    yield f"socket://127.0.0.1:{port}"
    runpy.run_path(str(TESTS / "pyocd" / "stand_in.py"))["end"](tmp_path / "pid")


def test_a_board_with_a_cycle_counter_tells_cycles_and_one_in_renode_time(
    desk_port: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The firmware of the board, whose CYCCNT is QEMU's TIM2 here: both engines and the phases, by probe and line.

    And the same with QEMU in place of Renode, whose DWT stands still: there TIM2 is the timer. A tick of it is an
    instruction, so the two must agree, within what it takes to look for a cycle counter.
    """
    monkeypatch.setattr("deltatrain.cli.bench.board_of", lambda target: board_of(target, DT_CYCCNT=TIM2_CNT))
    fixed, of_float = rows_of(bench("--json", "--target", DISCOVERY, "--port", desk_port), DISCOVERY)
    assert (fixed["engine"], of_float["engine"]) == ("fixed", "float-naive")
    for row in (fixed, of_float):
        assert not {"instructions", "microseconds", "unit", "cost"} & row.keys()
        assert isinstance(row["cycles"], int) and row["clock_hz"] == 16_000_000
        assert row["cycles_per_mac"] == round(row["cycles"] / row["macs"], 3)
        assert row["ram_bytes"] == sum(row["ram"].values())
    assert_phases_add_up(fixed, "cycles")
    assert fixed["speedup"] == {"float-naive": round(of_float["cycles"] / fixed["cycles"], 3)}

    stand_in(tmp_path, "renode", monkeypatch)
    # The firmware takes the rate of QEMU's timer for that of Renode's: no rate by which it is known to be QEMU.
    monkeypatch.setattr("deltatrain.cli.bench.board_of", lambda target: board_of(target, DT_QEMU_COUNTER_HZ=16_000_000))
    outcome = bench("--json", "--target", RENODE, "--engine", "fixed")
    (in_time,) = rows_of(outcome, RENODE)
    assert not {"instructions", "cycles", "clock_hz", "unit", "cost"} & in_time.keys()
    assert_phases_add_up(in_time, "microseconds")
    timer_ticks = 16 * in_time["microseconds"]
    assert 0 < fixed["cycles"] - timer_ticks < 0.01 * timer_ticks


def assert_phases_add_up(row: dict[str, Any], unit: str) -> None:
    assert tuple(row["phases"]) == PHASES[1:] and all(count > 0 for count in row["phases"].values())
    with_hooks = row[unit] + row["hooks"]
    assert 0.5 * with_hooks < sum(row["phases"].values()) < with_hooks


def test_a_counter_that_stands_still_is_told() -> None:
    with pytest.raises(DeviceError, match="stands still; if a debugger is attached"):
        _cost(Desk(board_of(DISCOVERY), "socket://127.0.0.1:1"), Counter.of("stm32f4", "cycles", 1), 0, 0)


def test_a_port_with_nothing_behind_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pyOCD that is content, and a line that another device is at."""
    program = tmp_path / "pyocd"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(Probe, "ready_s", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        desk = Desk(board_of(DISCOVERY), f"socket://127.0.0.1:{silent.getsockname()[1]}")
        with (
            pytest.raises(DeviceError, match=r"nothing answers at .* for 0\.5 s.*PA2"),
            desk.running(tmp_path / "x.elf"),
        ):
            pass


@pytest.mark.parametrize(("unit", "cost"), [("cycles", 123_456), ("microseconds", 7716.0)])
def test_the_table_says_what_is_counted(unit: str, cost: float, monkeypatch: pytest.MonkeyPatch) -> None:
    def measured(desk: Desk, cases: list[Case], *__: object, **___: object) -> list[BoardRow]:
        row = BoardRow(
            **description(cases[0], FIXED),
            unit=unit,
            cost=cost,
            clock_hz=16_000_000 if unit == "cycles" else None,
            columns=12,
            n_columns=12,
            phases=dict.fromkeys(PHASES[1:], cost / 8),
            hooks=1,
            ram_bytes=1000,
            ram={"stack": 1000},
            stack_high_water=600,
        )
        assert unit in row.to_dict() and "cost" not in row.to_dict()
        with pytest.raises(InputError, match=f"tells {unit}, not instructions"):
            print(desk, row.instructions)
        return [row]

    monkeypatch.setattr("deltatrain.cli.bench.bench_board", measured)
    outcome = bench("--target", DISCOVERY, "--port", "/dev/ttyUSB0")
    assert outcome.exit_code == 0, outcome.output
    assert f"{cost:,}" in outcome.stdout and "instructions" not in outcome.stdout
    words = {"cycles": "cycles by phase", "microseconds": "µs by phase"}[unit]
    assert words in outcome.stdout
    assert ("cycles at 16 MHz" in outcome.stdout) == (unit == "cycles")
