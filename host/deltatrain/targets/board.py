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
    store: tuple[str, ...] = ()

    def store_args(self, file: Path) -> list[str]:
        """What makes a file the board's non-volatile memory; InputError where the emulator cannot."""
        if not self.store:
            raise InputError(f"{self.machine} keeps its non-volatile memory in no file; leave out --store")
        # In QEMU's options a comma ends a value, and two are one.
        return [arg.format(file=str(file.resolve()).replace(",", ",,")) for arg in self.store]


@dataclass(frozen=True)
class Store:
    """A board's non-volatile memory: docs/POWER_LOSS.md.

    Attributes
    ----------
    origin : int
        Where the processor reads it.
    page_bytes, pages : int
        What is erased at once, and how often it is there; each of the two slots has half of them.
    write_bytes : int
        What is programmed at once.
    sources : tuple of Path
        Its driver: `dt_flash.h`.
    erase_cycles : int or None
        How often a page may be erased, as its maker says; None: without limit.
    """

    origin: int
    page_bytes: int
    pages: int
    write_bytes: int
    sources: tuple[Path, ...]
    erase_cycles: int | None = None

    @property
    def slot_bytes(self) -> int:
        """Room for one commit."""
        return self.pages // 2 * self.page_bytes


@dataclass(frozen=True)
class Board:
    """One target, as its folder describes it.

    Attributes
    ----------
    name, title, core : str
        As users write it, in words, and the processor, e.g. `Cortex-M4F`.
    folder : Path
        Holds the description; what it names by file is relative to it.
    compiler : str
        The program, e.g. `arm-none-eabi-gcc`; `compiler_apt` are the Debian packages that bring it.
    arch_flags : tuple of str
        What the compiler needs to know of the processor.
    sources : tuple of Path
        C files beside those that every board shares.
    linker_script : Path
    elf_machine : str
        `e_machine` of its ELF files, e.g. `EM_ARM`.
    flash_origin, flash_bytes, ram_origin, ram_bytes : int
        Memory that the linker fills.
    stack_bytes : int
        RAM that is reserved for the stack.
    max_payload : int
        Longest payload of the link, bytes: DT_MAX_PAYLOAD of its firmware.
    defines : tuple of (str, int)
        Numbers that its C files use: addresses, interrupts, clocks.
    counter_hz : int
        Ticks per second of the counter that the firmware measures with.
    ticks_per_instruction : (int, int) or None
        As a fraction, where the number of ticks tells that of executed instructions.
    emulator : EmulatorSpec or None
    store : Store or None
    """

    name: str
    title: str
    core: str
    folder: Path
    compiler: str
    compiler_apt: tuple[str, ...]
    arch_flags: tuple[str, ...]
    sources: tuple[Path, ...]
    linker_script: Path
    elf_machine: str
    flash_origin: int
    flash_bytes: int
    ram_origin: int
    ram_bytes: int
    stack_bytes: int
    max_payload: int
    defines: tuple[tuple[str, int], ...]
    counter_hz: int
    ticks_per_instruction: tuple[int, int] | None
    emulator: EmulatorSpec | None
    store: Store | None

    @property
    def target(self) -> str:
        """How users name it, e.g. `qemu:mps2-an386`."""
        return self.name if self.emulator is None else f"{self.emulator.kind}:{self.name}"

    @property
    def needs(self) -> tuple[str, ...]:
        """Programs that building for it and running it take."""
        return (self.compiler,) if self.emulator is None else (self.compiler, self.emulator.program)

    @property
    def packages(self) -> tuple[str, ...]:
        """Debian's packages that bring them."""
        return self.compiler_apt if self.emulator is None else (*self.compiler_apt, self.emulator.apt)

    @staticmethod
    def load(folder: Path) -> Board:
        """Read a board's folder."""
        text = _description(folder / DESCRIPTION)
        compiler, counter = text["compiler"], text["counter"]
        ratio = counter.get("ticks_per_instruction")
        return Board(
            **{key: text[key] for key in ("name", "title", "core", "elf_machine", "stack_bytes", "max_payload")},
            folder=folder,
            compiler=compiler["program"],
            compiler_apt=tuple(compiler["apt"]),
            arch_flags=tuple(compiler["flags"]),
            sources=tuple((folder / name).resolve() for name in text["sources"]),
            linker_script=(folder / text["linker_script"]).resolve(),
            flash_origin=text["flash"]["origin"],
            flash_bytes=text["flash"]["bytes"],
            ram_origin=text["ram"]["origin"],
            ram_bytes=text["ram"]["bytes"],
            defines=tuple(text["defines"].items()),
            counter_hz=counter["hz"],
            ticks_per_instruction=None if ratio is None else (int(ratio[0]), int(ratio[1])),
            emulator=_emulator(text.get("emulator")),
            store=_store(text.get("store"), folder),
        )


def _description(path: Path) -> dict[str, Any]:
    """A board's description; where it names a `base`, that of its family with what it says itself put over it."""
    text = tomllib.loads(path.read_text(encoding="utf-8"))
    base = text.pop("base", None)
    return text if base is None else _merged(_description(path.parent / base), text)


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    return base | {
        key: _merged(base[key], value) if isinstance(value, dict) and key in base else value
        for key, value in over.items()
    }


def _emulator(table: dict[str, Any] | None) -> EmulatorSpec | None:
    if table is None:
        return None
    return EmulatorSpec(**{**table, "args": tuple(table["args"]), "store": tuple(table.get("store", ()))})


def _store(table: dict[str, Any] | None, folder: Path) -> Store | None:
    if table is None:
        return None
    return Store(**{**table, "sources": tuple((folder / name).resolve() for name in table["sources"])})


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
