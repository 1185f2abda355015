"""Boards that pyOCD writes to, as far as that shows without a probe."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from deltatrain.cli import main
from deltatrain.targets import Board, Probe, boards

PROBE_BOARDS = [board for board in boards() if isinstance(board.run, Probe)]
every_probe_board = pytest.mark.parametrize("board", PROBE_BOARDS, ids=lambda board: board.target)
DISCOVERY = "pyocd:stm32f4_discovery"


@pytest.fixture
def elf(tmp_path: Path) -> Path:
    """Enough of an ELF file for an ARM to be taken for a firmware."""
    path = tmp_path / "firmware.elf"
    head = b"\x7fELF\x01\x01\x01".ljust(16, b"\0") + bytes((2, 0, 40, 0, 1, 0, 0, 0))
    path.write_bytes(head.ljust(40, b"\0") + bytes((52, 0, 32, 0, 0, 0, 40, 0, 0, 0, 0, 0)))
    return path


def flash(*words: str) -> Result:
    return CliRunner().invoke(main, ["flash", *words])


@every_probe_board
def test_pyocd_itself_understands_us_and_finds_no_probe(board: Board, elf: Path) -> None:
    """With the real pyOCD, and a probe that cannot exist lest one that does be written to."""
    outcome = flash("--elf", str(elf), "--target", board.target, "--probe", "no-such-probe")
    assert outcome.exit_code == 2, outcome.output
    assert re.search(r"error: no debug probe was found.*pyocd list.*udev", outcome.stderr)
    assert re.search(r'openocd -f board/\w+\.cfg -c "program \S+firmware\.elf verify reset exit"', outcome.stderr)
    assert "Traceback" not in outcome.output


@pytest.fixture
def pyocd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int], Path]:
    """A program `pyocd` that says something, ends with a status, and keeps its arguments."""

    def make(says: str, status: int) -> Path:
        kept = tmp_path / "arguments"
        program = tmp_path / "bin" / "pyocd"
        program.parent.mkdir()
        program.write_text(f"#!/bin/sh\nprintf '%s\\n' \"$@\" > '{kept}'\necho '{says}'\nexit {status}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
        return kept

    return make


def test_a_board_that_was_written_to_tells_where_its_line_is(elf: Path, pyocd: Callable[[str, int], Path]) -> None:
    arguments = pyocd("written", 0)
    outcome = flash("--elf", str(elf), "--target", DISCOVERY, "--json")
    assert outcome.exit_code == 0, outcome.output
    assert json.loads(outcome.stdout)["port"] is None and "PA2" in json.loads(outcome.stdout)["line"]
    assert arguments.read_text().split() == [
        *("flash", "--no-wait", "--target", "stm32f407vg", "--format", "elf", str(elf)),
    ]


@pytest.mark.parametrize(
    ("says", "told"),
    [
        ("Target type stm32f407vg not recognized.", r"pyocd pack install stm32f407vg"),
        ("flash program failure", r"pyOCD failed: flash program failure"),
        ("", r"pyOCD failed: status 1"),
    ],
)
def test_what_pyocd_says_is_told_with_what_to_do(
    says: str, told: str, elf: Path, pyocd: Callable[[str, int], Path]
) -> None:
    pyocd(says, 1)
    outcome = flash("--elf", str(elf), "--target", DISCOVERY)
    assert outcome.exit_code == 2
    assert re.search(rf"error: .*{told}.*openocd -f board/stm32f4discovery\.cfg", outcome.stderr)


def test_without_pyocd_it_is_told_how_to_get_it(elf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    outcome = flash("--elf", str(elf), "--target", DISCOVERY)
    assert outcome.exit_code == 2
    assert "there is no pyocd; install it: pip install 'deltatrain[pyocd]'" in outcome.stderr


def test_a_board_itself_is_no_target_of_training(tmp_path: Path) -> None:
    outcome = CliRunner().invoke(main, ["demo", "--target", DISCOVERY, "--out", str(tmp_path)])
    assert outcome.exit_code == 2
    assert re.search(r"`deltatrain flash`; then give its serial port as --target: .*PA2", outcome.stderr)
