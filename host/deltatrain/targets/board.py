"""Boards as data: what their `board.toml` says, and the names by which users call them."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import deltatrain_firmware
from deltatrain.errors import InputError
from deltatrain.targets.run import Qemu, Renode, Run, apt_words, runs_of
from deltatrain.targets.store import Store

DESCRIPTION = "board.toml"
MICROPYTHON = "micropython:"


@dataclass(frozen=True)
class Board:
    """A board, and one way to run its firmware, as its folder describes them: what users name as a target.

    Where a folder describes several ways, there is one of these for each, and the firmware is the same.

    Attributes
    ----------
    name, title, core : str
        As the firmware answers to a hello, in words, and the processor, e.g. `Cortex-M4F`.
    folder : Path
        Holds the description; what it names by file is relative to it.
    compiler : str
        The program, e.g. `arm-none-eabi-gcc`; `compiler_apt` are the Debian packages that bring it.
    arch_flags : tuple of str
        What the compiler needs to know of the processor.
    optimise : str
        `speed` where the loops that a training step spends its time in are the compiler's, else `size`.
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
        Ticks per second of the counter that the firmware measures with, so run.
    ticks_per_instruction : (int, int) or None
        As a fraction, where the number of ticks tells that of executed instructions.
    run : Qemu, Renode or Probe, or None
        None where the description names no way: the firmware can be built, and a port be named that it answers at.
    store : Store or None
    """

    name: str
    title: str
    core: str
    folder: Path
    compiler: str
    compiler_apt: tuple[str, ...]
    arch_flags: tuple[str, ...]
    optimise: str
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
    run: Run | None
    store: Store | None

    @property
    def target(self) -> str:
        """How users name it, e.g. `qemu:mps2-an386`."""
        return self.name if self.run is None else self.run.target

    @property
    def needs(self) -> tuple[str, ...]:
        """Programs that building for it and running it take."""
        return (self.compiler,) if self.run is None else (self.compiler, self.run.program)

    @property
    def packages(self) -> tuple[str, ...]:
        """Debian's packages that bring them."""
        return self.compiler_apt if self.run is None else (*self.compiler_apt, *self.run.packages)

    @property
    def install(self) -> dict[str, str]:
        """How to get each of the programs that it needs, in words."""
        runs = {} if self.run is None else {self.run.program: self.run.install}
        return {self.compiler: apt_words(self.compiler_apt)} | runs

    @property
    def emulated(self) -> bool:
        """Whether a program stands for the board, which can be started and ended here."""
        return isinstance(self.run, Qemu | Renode)

    @property
    def kept(self) -> Store | None:
        """Where commits are kept, so run; None also where the firmware has a store, and the emulator leaves it out."""
        return self.store if self.run is None or self.run.has_store else None

    @property
    def ready_s(self) -> float:
        """How long it takes at most until the firmware of a started emulator answers."""
        return 0.0 if self.run is None else self.run.ready_s

    @staticmethod
    def load(folder: Path) -> tuple[Board, ...]:
        """Read a board's folder: one for each way to run it."""
        text = _description(folder / DESCRIPTION)
        runs = runs_of(text, folder)
        # What the firmware is told of its counter holds for all ways: it is the same.
        rates = {"DT_COUNTER_HZ": text["counter"]["hz"]} | {
            f"DT_{run.kind.upper()}_COUNTER_HZ": run.counter_hz
            for run in runs
            if isinstance(run, Qemu) and run.counter_hz is not None
        }
        return tuple(Board._of(folder, text, rates, run) for run in runs or (None,))

    @staticmethod
    def _of(folder: Path, text: dict[str, Any], rates: dict[str, int], run: Run | None) -> Board:
        compiler = text["compiler"]
        counter_hz, ratio = text["counter"]["hz"], None
        if isinstance(run, Qemu):
            counter_hz, ratio = run.counter_hz or counter_hz, run.ticks_per_instruction
        return Board(
            **{key: text[key] for key in ("name", "core", "elf_machine", "stack_bytes", "max_payload")},
            title=text["title"] if run is None else run.title,
            folder=folder,
            compiler=compiler["program"],
            compiler_apt=tuple(compiler["apt"]),
            arch_flags=tuple(compiler["flags"]),
            optimise=compiler.get("optimise", "size"),
            sources=tuple((folder / name).resolve() for name in text["sources"]),
            linker_script=(folder / text["linker_script"]).resolve(),
            flash_origin=text["flash"]["origin"],
            flash_bytes=text["flash"]["bytes"],
            ram_origin=text["ram"]["origin"],
            ram_bytes=text["ram"]["bytes"],
            defines=tuple((text["defines"] | rates).items()),
            counter_hz=counter_hz,
            ticks_per_instruction=ratio,
            run=run,
            store=None if "store" not in text else Store.of(text["store"], folder),
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


@cache
def boards() -> tuple[Board, ...]:
    """All boards, by name, and each in every way that it can be run: QEMU first."""
    folders = (path.parent for path in (deltatrain_firmware.root() / "boards").glob(f"*/{DESCRIPTION}"))
    return tuple(sorted((board for folder in folders for board in Board.load(folder)), key=lambda board: board.name))


def find_board(name: str, counter_hz: int | None = None) -> Board | None:
    """The board of this name, QEMU's if it has one; of one that runs so, whose counter has this rate."""
    return next(
        (board for board in boards() if board.name == name and counter_hz in (None, board.counter_hz)),
        None,
    )


@dataclass(frozen=True)
class Target:
    """What a user's `--target` means: a board in one way of running it, or an open port; never both.

    Behind the port is our firmware, or MicroPython where `micropython` is set.
    """

    board: Board | None
    port: str | None
    micropython: bool = False


def parse_target(text: str) -> Target:
    """Understand `qemu:mps2-an386`, `/dev/ttyACM0`, `socket://host:port`, `micropython:/dev/ttyACM0`, ...

    Raises
    ------
    InputError
        If it names an emulator's board that does not exist, or nothing at all.
    """
    port = text.removeprefix(MICROPYTHON)
    if "://" in port or port.startswith(("/", "COM")):
        return Target(None, port, micropython=port != text)
    for board in boards():
        if text == board.target:
            return Target(board, None)
    known = ", ".join(board.target for board in boards())
    raise InputError(
        f"there is no target {text!r}; known are {known}, and serial ports: /dev/ttyACM0, socket://host:port, "
        "or of boards with MicroPython micropython:/dev/ttyACM0"
    )
