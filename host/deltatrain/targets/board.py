"""Boards as data: what their `board.toml` says, and the names by which users call them."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import deltatrain_firmware
from deltatrain.errors import InputError

DESCRIPTION = "board.toml"


@dataclass(frozen=True)
class EmulatorSpec:
    """The emulator that stands for a board; `apt` is the Debian package that brings it."""

    kind: str
    program: str
    machine: str
    args: tuple[str, ...]
    apt: str


@dataclass(frozen=True)
class Board:
    """One target, as its folder describes it.

    Attributes
    ----------
    name, title, core : str
        As users write it, in words, and the processor, e.g. `Cortex-M4F`.
    folder : Path
        Holds what follows.
    sources : tuple of str
        C files beside those that every board shares, relative to `folder`.
    linker_script : str
        Relative to `folder`.
    elf_machine : str
        `e_machine` of its ELF files, e.g. `EM_ARM`.
    flash_bytes, ram_bytes : int
    counter_hz : int
        Ticks per second of the counter that the firmware measures with.
    ticks_per_instruction : (int, int) or None
        As a fraction, where the number of ticks tells that of executed instructions.
    emulator : EmulatorSpec or None
    """

    name: str
    title: str
    core: str
    folder: Path
    compiler: str
    arch_flags: tuple[str, ...]
    sources: tuple[str, ...]
    linker_script: str
    elf_machine: str
    flash_bytes: int
    ram_bytes: int
    counter_hz: int
    ticks_per_instruction: tuple[int, int] | None
    emulator: EmulatorSpec | None

    @property
    def target(self) -> str:
        """How users name it, e.g. `qemu:mps2-an386`."""
        return self.name if self.emulator is None else f"{self.emulator.kind}:{self.name}"

    @property
    def needs(self) -> tuple[str, ...]:
        """Programs that building for it and running it take."""
        return (self.compiler,) if self.emulator is None else (self.compiler, self.emulator.program)

    @staticmethod
    def load(folder: Path) -> Board:
        """Read a board's folder."""
        text = tomllib.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        counter = text["counter"]
        ratio = counter.get("ticks_per_instruction")
        return Board(
            **{
                key: text[key]
                for key in (
                    "name",
                    "title",
                    "core",
                    "compiler",
                    "linker_script",
                    "elf_machine",
                    "flash_bytes",
                    "ram_bytes",
                )
            },
            folder=folder,
            arch_flags=tuple(text["arch_flags"]),
            sources=tuple(text["sources"]),
            counter_hz=counter["hz"],
            ticks_per_instruction=None if ratio is None else (int(ratio[0]), int(ratio[1])),
            emulator=_emulator(text.get("emulator")),
        )


def _emulator(table: dict[str, Any] | None) -> EmulatorSpec | None:
    if table is None:
        return None
    return EmulatorSpec(**{**table, "args": tuple(table["args"])})


@cache
def boards() -> tuple[Board, ...]:
    """All boards, by name."""
    folders = (path.parent for path in (deltatrain_firmware.root() / "boards").glob(f"*/{DESCRIPTION}"))
    return tuple(sorted((Board.load(folder) for folder in folders), key=lambda board: board.name))


def find_board(name: str) -> Board | None:
    """The board of this name, without its emulator's."""
    return next((board for board in boards() if board.name == name), None)


@dataclass(frozen=True)
class Target:
    """What a user's `--target` means: a board that an emulator stands for, or an open port; never both."""

    board: Board | None
    port: str | None


def parse_target(text: str) -> Target:
    """Understand `qemu:mps2-an386`, `/dev/ttyACM0`, `socket://host:port`, ...

    Raises
    ------
    InputError
        If it names an emulator's board that does not exist, or nothing at all.
    """
    if "://" in text or text.startswith(("/", "COM")):
        return Target(None, text)
    for board in boards():
        if text == board.target:
            return Target(board, None)
    known = ", ".join(board.target for board in boards())
    raise InputError(
        f"there is no target {text!r}; known are {known}, and serial ports: /dev/ttyACM0, socket://host:port"
    )
