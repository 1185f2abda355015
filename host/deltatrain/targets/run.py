"""The ways to run a board's firmware: in QEMU, in Renode, or on the board itself, where a debug probe puts it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from deltatrain.errors import InputError


@dataclass(frozen=True)
class Run(ABC):
    """What all ways have in common.

    Attributes
    ----------
    name : str
        How users call the board so run: behind `kind` and a colon.
    title : str
        The same in words.
    ready_s : float
        How long it takes at most until the firmware answers.
    has_store : bool
        Whether the board's non-volatile memory is there; emulators leave some out, which the firmware notices.
    """

    name: str
    title: str
    has_store: bool = field(default=True, kw_only=True)
    kind: ClassVar[str]
    ready_s: ClassVar[float] = 10.0

    @property
    def target(self) -> str:
        """How users name it, e.g. `qemu:mps2-an386`."""
        return f"{self.kind}:{self.name}"

    @property
    @abstractmethod
    def program(self) -> str:
        """What runs the firmware or puts it on the board."""

    @property
    def packages(self) -> tuple[str, ...]:
        """Debian's packages that bring it."""
        return ()

    @property
    def install(self) -> str:
        """How to get it, in words."""
        return apt_words(self.packages)

    def store_args(self, file: Path) -> list[str]:
        """What makes a file the board's non-volatile memory; InputError where that cannot be."""
        raise InputError(f"{self.target} keeps its non-volatile memory in no file; leave out --store {file}")


@dataclass(frozen=True)
class Qemu(Run):
    """Emulated by QEMU.

    Attributes
    ----------
    emulator, machine : str
        The program, and its name of the board.
    args : tuple of str
        What else it is told.
    apt : str
        The Debian package that brings it.
    store : tuple of str
        What it is told so that `{file}` is the board's non-volatile memory; empty where that cannot be.
    serial : int
        Which of the machine's serial lines is the link, from 0.
    counter_hz : int or None
        Ticks per second of the firmware's counter where the emulated one runs at another rate than the board's.
    ticks_per_instruction : (int, int) or None
        As a fraction, where the number of ticks tells that of executed instructions.
    """

    kind = "qemu"
    emulator: str
    machine: str
    args: tuple[str, ...]
    apt: str
    store: tuple[str, ...] = ()
    serial: int = 0
    counter_hz: int | None = None
    ticks_per_instruction: tuple[int, int] | None = None

    @property
    def program(self) -> str:
        return self.emulator

    @property
    def packages(self) -> tuple[str, ...]:
        return (self.apt,)

    def store_args(self, file: Path) -> list[str]:
        if not self.store:
            return super().store_args(file)
        # In QEMU's options a comma ends a value, and two are one.
        return [arg.format(file=str(file.resolve()).replace(",", ",,")) for arg in self.store]


@dataclass(frozen=True)
class Renode(Run):
    """Emulated by Renode: `script` makes the machine, loads `$elf` and serves its line at the TCP port `$port`."""

    kind = "renode"
    ready_s = 60.0
    script: Path
    program = "renode"
    install = "Renode, https://renode.io; on the PATH, or named by RENODE"


@dataclass(frozen=True)
class Probe(Run):
    """The board itself, programmed by a debug probe; its line is a serial port that the user connects and names.

    Attributes
    ----------
    chip : str
        pyOCD's name of it.
    openocd : str
        OpenOCD's configuration, for those who prefer that.
    line : str
        Where the serial port comes from, in words.
    """

    kind = "pyocd"
    chip: str
    openocd: str
    line: str
    program = "pyocd"
    install = "pip install 'deltatrain[pyocd]'"


def apt_words(packages: Iterable[str]) -> str:
    """How to install packages of Debian."""
    return f"sudo apt-get install {' '.join(packages)}"


KINDS: tuple[type[Run], ...] = (Qemu, Renode, Probe)


def runs_of(description: dict[str, Any], folder: Path) -> tuple[Run, ...]:
    """The ways that a board's description names, one table each; `name` and `title` are the board's where not given."""
    common = {"name": description["name"], "title": description["title"]}
    found: list[Run] = []
    for kind in KINDS:
        if kind.kind in description:
            found.append(kind(**_typed(common | description[kind.kind], folder)))
    return tuple(found)


def _typed(table: dict[str, Any], folder: Path) -> dict[str, Any]:
    """A table's lists as tuples, and its script as a path."""
    typed = {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}
    return typed | {"script": folder / table["script"]} if "script" in table else typed
