"""`boards`, `flash` and `stop`: where firmware runs."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import click
from rich.console import Console

from deltatrain.cli.options import DEFAULT_TARGET, json_option
from deltatrain.cli.terminal import Terminal, table
from deltatrain.errors import InputError
from deltatrain.micropython import RawRepl, install
from deltatrain.micropython.install import MODULES
from deltatrain.quant_model import QuantModel
from deltatrain.session import board_of, check_firmware
from deltatrain.targets import MICROPYTHON, Board, Emulator, parse_target, start_background, stop_background
from deltatrain.targets import boards as known_boards


@click.command()
@json_option
def boards(terminal: Terminal) -> None:
    """The boards: core, memory, and the Debian packages that building for each and emulating it take.

    Everything about a board stands in its folder; docs/ADDING_A_BOARD.md tells how to add one.
    """
    known = known_boards()
    values = {"boards": [_described(board) for board in known]}

    def show(console: Console) -> None:
        rows = [
            (
                board.target,
                board.core,
                f"{board.ram_bytes // 1024} KiB",
                f"{board.flash_bytes // 1024} KiB",
                " ".join(board.packages),
            )
            for board in known
        ]
        console.print(table(("target", "core", "RAM", "flash", "Debian packages"), rows))
        console.print("A serial port with the firmware on it is a target too: /dev/ttyACM0, socket://HOST:PORT, …")
        console.print("and so is one with MicroPython: micropython:/dev/ttyACM0, …")

    terminal.result(values, show)


def _described(board: Board) -> dict[str, object]:
    return {
        "target": board.target,
        "title": board.title,
        "core": board.core,
        "ram_bytes": board.ram_bytes,
        "flash_bytes": board.flash_bytes,
        "needs": list(board.needs),
        "packages": list(board.packages),
    }


@click.command()
@click.option(
    "--elf",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("build/firmware.elf"),
    show_default=True,
    help="Firmware, as `export` built it.",
)
@click.option("--target", default=DEFAULT_TARGET, show_default=True, help="Where to put it: see `boards`.")
@click.option("--foreground", is_flag=True, help="Hold the emulator until Ctrl-C instead of leaving it running.")
@click.option(
    "--model",
    type=click.Path(path_type=Path, dir_okay=False),
    help="For a board with MicroPython (micropython:PORT): the quantised model that goes there beside deltarnn.",
)
@click.option(
    "--module",
    type=click.Path(path_type=Path),
    default=MODULES,
    show_default=True,
    help="For such a board: folder of ARCHITECTURE/deltarnn.mpy, as `make -C firmware/micropython` builds them.",
)
@json_option
def flash(terminal: Terminal, elf: Path, target: str, foreground: bool, model: Path | None, module: Path) -> None:
    """Put firmware on a board; an emulator is started and left running in the background.

    A board with MicroPython keeps its firmware: it gets the native module deltarnn of its architecture, and a model.
    """
    where = parse_target(target)
    if where.micropython:
        _flash_micropython(terminal, where.port or "", model, module)
        return
    board = board_of(target)
    check_firmware(elf, board)
    if foreground:
        with Emulator.start(board, elf) as emulator:
            port = emulator.port
            terminal.result({"port": port}, lambda console: console.print(f"{port}; Ctrl-C ends it"))
            with suppress(KeyboardInterrupt):
                emulator.wait()
        return
    port = start_background(board, elf)
    terminal.result({"port": port}, lambda console: console.print(f"{port}; `deltatrain stop` ends the emulator"))


def _flash_micropython(terminal: Terminal, port: str, model: Path | None, module: Path) -> None:
    if model is None:
        raise InputError(f"--model is missing: the quantised model that the board at {port} is to train")
    quantized = QuantModel.load(model)
    with RawRepl(port) as repl:
        installed = install(repl, quantized, module, terminal.say)
    values = {
        "port": f"{MICROPYTHON}{port}",
        "architecture": installed.architecture,
        "module": str(installed.module),
        "module_bytes": installed.module.stat().st_size,
        "folder": installed.folder,
        "heap_free": installed.heap_free,
    }
    terminal.result(
        values,
        lambda console: console.print(
            f"{values['port']} has deltarnn ({installed.architecture}) and the model; "
            f"{installed.heap_free:,} bytes of its heap are free"
        ),
    )


@click.command()
@click.option("--port", help="The emulator to end, by its port; default: all that `flash` started.")
@json_option
def stop(terminal: Terminal, port: str | None) -> None:
    """End the emulators that `flash` left running."""
    stopped = stop_background(port)
    terminal.result(
        {"stopped": stopped},
        lambda console: console.print(
            "\n".join(f"stopped {name}" for name in stopped)
            or ("no emulator was running" if port is None else f"no emulator of `flash` was running at {port}")
        ),
    )
