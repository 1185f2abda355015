"""From the name of a target to a device that answers: emulated for one job, or found on a serial port."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from deltatrain.errors import DeviceError, InputError
from deltatrain.key import Key
from deltatrain.link import Device
from deltatrain.micropython import MicroPythonDevice
from deltatrain.quant_model import QuantModel
from deltatrain.story import FirmwareSize
from deltatrain.targets import Board, Emulator, Probe, Target, parse_target, running
from deltatrain.trained import check_holds


@dataclass
class Session:
    """An open device, and what is known about where it runs; `model` has the device's own plan of memory."""

    device: Device | MicroPythonDevice
    board_title: str
    model: QuantModel
    build: FirmwareSize | None = None

    def size(self) -> FirmwareSize:
        """Sizes of the firmware; DeviceError where it was not built in this session."""
        if self.build is None:
            raise DeviceError("the firmware's sizes are known only where it was built; give an emulator as target")
        return self.build


@contextmanager
def opened(
    target: str | None, model: QuantModel, out: Path | None, say: Callable[[str], None], key: Key | None = None
) -> Iterator[Session]:
    """Open a target and check that it holds the model, or the one that this was trained from.

    Parameters
    ----------
    target : str or None
        `qemu:BOARD` or `renode:BOARD` builds the firmware (into `out`, or a temporary folder), by the plan of memory
        that takes the least RAM, and emulates it until the block ends; a serial port is opened; None means the emulator
        that `deltatrain flash` left running.
    key : Key, optional
        Unlocks a device that is locked.

    Raises
    ------
    InputError
        If there is no such target, or it is a board that is reached by its serial port.
    DeviceError
        If nothing answers there, or it holds another model.
    """
    where = parse_target(target or _left_running())
    if where.board is not None:
        board = where.board
        if isinstance(board.run, Probe):
            raise InputError(
                f"{board.target} is written to by `deltatrain flash`; then give its serial port as --target: "
                f"{board.run.line}"
            )
        with tempfile.TemporaryDirectory(prefix="deltatrain-") as folder:
            size = _build(model, board, out or Path(folder), say)
            say(f"Starting {board.title}.")
            with (
                Emulator.start(board, (out or Path(folder)) / "firmware.elf") as emulator,
                Device.open(emulator.port) as device,
            ):
                check_holds(device, model)
                yield Session(device, board.title, replace(model, memory=device.info.memory), size)
    else:
        with _open(where, key) as device:
            check_holds(device, model)
            yield Session(device, device.info.board, replace(model, memory=device.info.memory))


def _open(where: Target, key: Key | None) -> Device | MicroPythonDevice:
    if where.micropython:
        return MicroPythonDevice.open(where.port or "")
    return Device.open(where.port or "", key=key)


def board_of(target: str) -> Board:
    """The board that a target names; InputError when it is a port, which does not say what lies behind it."""
    board = parse_target(target).board
    if board is None:
        raise InputError(f"{target} is a serial port; name the board instead: see `deltatrain boards`")
    return board


def check_firmware(elf: Path, board: Board) -> None:
    """InputError unless a file is an ELF file for the processor of a board, and for no other board by its own words."""
    try:
        with elf.open("rb") as file:
            whole = ELFFile(file)
            machine, built_for = whole["e_machine"], _built_for(whole)
    except (OSError, ELFError) as error:
        raise InputError(f"{elf} is no firmware ({error}); build it with `deltatrain export`") from error
    if machine != board.elf_machine:
        raise InputError(
            f"{elf} is for another processor ({machine}, {board.name} has {board.elf_machine}); "
            "build it with `deltatrain export`"
        )
    if built_for not in (None, board.name):
        raise InputError(
            f"{elf} was built for {built_for}, not for {board.name}; name a target of {built_for} "
            f"(see `deltatrain boards`), or build it with `deltatrain export --target {board.target}`"
        )


def _built_for(elf: ELFFile) -> str | None:
    """The board that a firmware names to a hello; None where it has no such name."""
    table = elf.get_section_by_name(".symtab")
    names = table.get_symbol_by_name("dt_board_name") if isinstance(table, SymbolTableSection) else None
    if not names:
        return None
    place = names[0].entry
    section = elf.get_section(place["st_shndx"])
    start = place["st_value"] - section["sh_addr"]
    return bytes(section.data()[start : start + place["st_size"]]).rstrip(b"\0").decode("ascii", "replace")


def _build(model: QuantModel, board: Board, out: Path, say: Callable[[str], None]) -> FirmwareSize:
    # The code generator is a package of its own, which imports this one.
    from deltatrain_codegen import export, plan_memory

    built = export(plan_memory(model), board, out, lambda text: say(text[0].upper() + text[1:] + "."))
    return FirmwareSize(built.flash_bytes, built.ram_bytes, built.ram, built.arena_bytes)


def _left_running() -> str:
    """The port of the one emulator that `flash` started."""
    ports = [entry.port for entry in running()]
    if len(ports) == 1:
        return ports[0]
    if ports:
        raise DeviceError(f"{len(ports)} emulators are running; choose one with --target: {', '.join(ports)}")
    raise DeviceError(
        "no target was given and no emulator is running; give --target (see `deltatrain boards`), set "
        "DELTATRAIN_PORT, or start an emulator with `deltatrain flash`"
    )
