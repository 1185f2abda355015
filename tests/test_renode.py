"""Boards that Renode emulates, as far as that shows without Renode: scripts, launcher, and the Robot Framework test."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from deltatrain.cli import main
from deltatrain.errors import DeviceError
from deltatrain.link import Device
from deltatrain.quant_model import QuantModel
from deltatrain.targets import Board, Emulator, Renode, boards, parse_target, running, start_background, stop_background
from deltatrain.targets.process import renode_arguments
from deltatrain_codegen import export

RENODE_BOARDS = [board for board in boards() if isinstance(board.run, Renode)]
ROBOT = Path(__file__).parent / "renode" / "training.robot"


def script_of(board: Board) -> str:
    assert isinstance(board.run, Renode)
    return board.run.script.read_text(encoding="utf-8")


# ---- scripts

# Every command that a script of ours may hold, as Renode's own scripts write them.
COMMANDS = (
    r":(name|description): \S.*",
    r"\$(elf\?=@build/firmware\.elf|port\?=\d+)",
    r"using sysbus",
    r'mach create "\w+"',
    r'machine LoadPlatformDescriptionFromString """(?P<platform>(?:[^"]|"(?!""))+)"""',
    r'emulation CreateServerSocketTerminal \$port "line" false',
    r"connector Connect sysbus\.(?P<line>\w+) line",
    r"sysbus LoadELF \$elf",
    r'macro reset\n"""\n    cpu VectorTableOffset (?P<vectors>0x[0-9A-F]{8})\n"""',
    r"runMacro \$reset",
    r"start",
)


def parsed(script: str) -> dict[str, str]:
    """What a script says, by the names in COMMANDS; fails at what is no command of ours."""
    said: dict[str, str] = {}
    rest = re.sub(r"^#.*\n", "", script, flags=re.MULTILINE)
    while rest := rest.lstrip("\n"):
        found = next((m for pattern in COMMANDS if (m := re.match(rf"{pattern}(\n|\Z)", rest))), None)
        assert found is not None, f"unknown to Renode, or to this test: {rest.splitlines()[0]}"
        said |= found.groupdict()
        rest = rest[found.end() :]
    return said


@pytest.mark.parametrize("board", RENODE_BOARDS, ids=lambda board: board.target)
def test_a_script_runs_the_firmware_on_the_platform_of_its_name(board: Board) -> None:
    said = parsed(script_of(board))
    assert board.run is not None
    assert re.match(rf'\nusing "platforms/boards/{board.run.name}\.repl"\n', said["platform"])
    # What changes the platform: indented values of devices.
    assert re.fullmatch(r'\nusing "[^"]+"\n(\w+:\n(    \w+: \w+\n)+)*', said["platform"])
    assert int(said["vectors"], 16) == board.flash_origin
    assert said["line"] in {"usart2", "uart0"}


def test_a_script_with_an_unknown_command_is_found() -> None:
    with pytest.raises(AssertionError, match="machine Frobnicate"):
        parsed(script_of(RENODE_BOARDS[0]) + "machine Frobnicate\n")


def test_paths_with_spaces_reach_renode(tmp_path: Path) -> None:
    run = RENODE_BOARDS[0].run
    assert isinstance(run, Renode)
    moved = replace(run, script=tmp_path / "my scripts" / "x.resc")
    (words,) = renode_arguments(moved, tmp_path / "my firmware.elf", 7)[-1:]
    assert words == f"$elf=@{tmp_path}/my\\ firmware.elf; $port=7; include @{tmp_path}/my\\ scripts/x.resc"


# ---- launcher


@pytest.fixture(scope="module")
def discovery() -> Board:
    """The STM32F4-Discovery in Renode; skips where what builds for it or stands in for Renode is absent."""
    for program in ("arm-none-eabi-gcc", "qemu-system-arm"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed; `make setup` installs it")
    board = parse_target("renode:stm32f4_discovery").board
    assert board is not None
    return board


@pytest.fixture(scope="module")
def elf(
    discovery: Board, make_integer_model: Callable[..., QuantModel], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A firmware for it, in a folder whose name has a space."""
    return export(make_integer_model(), discovery, tmp_path_factory.mktemp("a folder")).elf


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A program `renode`, named by RENODE, that is stand_in.py."""
    program = tmp_path / "bin" / "renode"
    program.parent.mkdir()
    script = Path(__file__).parent / "renode" / "stand_in.py"
    program.write_text(f"#!/bin/sh\nexec '{sys.executable}' '{script}' \"$@\"\n")
    program.chmod(0o755)
    monkeypatch.setenv("RENODE", str(program))
    yield program
    stop_background()


@pytest.mark.usefixtures("stand_in")
def test_the_emulator_is_started_answers_and_ends(discovery: Board, elf: Path, tiny_model: QuantModel) -> None:
    with Emulator.start(discovery, elf) as emulator:
        with Device.open(emulator.port) as device:
            assert (device.info.board, device.info.fault) == ("stm32f4", "none")
        port = start_background(discovery, elf)
        (entry,) = running()
        assert (entry.port, entry.target) == (port, "renode:stm32f4_discovery") and port != emulator.port
        with Device.open(port) as device:
            device.check_model(tiny_model.hash())
        assert stop_background() == [port]
        assert emulator.alive
    assert not emulator.alive and running() == []


@pytest.mark.usefixtures("stand_in")
def test_what_renode_says_of_a_script_is_told(
    discovery: Board, elf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Renode, "ready_s", 1.5)
    assert isinstance(discovery.run, Renode)
    broken = replace(discovery, run=replace(discovery.run, script=tmp_path / "absent.resc"))
    with pytest.raises(DeviceError, match=r"did not answer for 1\.5 s.*error executing command.*absent\.resc"):
        Emulator.start(broken, elf)


def test_without_renode_it_is_told_where_to_get_it(
    discovery: Board, elf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("RENODE", raising=False)
    outcome = CliRunner().invoke(main, ["flash", "--elf", str(elf), "--target", discovery.target])
    assert outcome.exit_code == 2
    assert re.search(r"there is no renode; .*https://renode\.io.*RENODE", outcome.stderr)


# ---- the test for Renode's own runner


def suite_of(path: Path) -> Any:
    from robot.api import TestSuite

    return TestSuite.from_file_system(path)


def test_the_robot_test_uses_keywords_that_exist(tmp_path: Path) -> None:
    """A dry run: all but what Renode brings."""
    suite = suite_of(ROBOT)
    stub = tmp_path / "renode_keywords.py"
    stub.write_text("def execute_command(command: str, machine: str = '') -> str:\n    return ''\n")
    suite.resource.imports.library(str(stub))
    result = suite.run(dryrun=True, output=None, log=None, report=None, console="none")
    assert result.return_code == 0 and result.statistics.total.passed == len(RENODE_BOARDS)
    targets = [test.body[0].args[0] for test in suite.tests]
    assert targets == [board.target for board in RENODE_BOARDS][::-1]


STAND_IN_KEYWORDS = """
import subprocess
from stand_in import Monitor

ROBOT_LIBRARY_SCOPE = "TEST"
monitor = Monitor()
started = []

def execute_command(command: str) -> None:
    words = monitor.qemu(command)
    if words:
        started.append(subprocess.Popen(words, stdin=subprocess.DEVNULL))

def end_all() -> None:
    for process in started:
        process.kill()
        process.wait()
"""


def test_the_robot_test_passes_where_its_machine_trains(
    discovery: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With QEMU in place of Renode, on the board that both have."""
    (tmp_path / "stand_in_keywords.py").write_text(STAND_IN_KEYWORDS)
    monkeypatch.syspath_prepend(str(ROBOT.parent))
    suite = suite_of(ROBOT)
    suite.tests = [test for test in suite.tests if test.body[0].args[0] == discovery.target]
    suite.resource.imports.library(str(tmp_path / "stand_in_keywords.py"))
    suite.teardown.config(name="End All")
    result = suite.run(output=None, log=None, report=None, console="none")
    messages = [test.message for test in result.suite.tests]
    assert result.return_code == 0 and result.statistics.total.passed == 1, messages
