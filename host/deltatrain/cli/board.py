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
from deltatrain.targets import (
    MICROPYTHON,
    Board,
    Emulator,
    Probe,
    parse_target,
    running,
    start_background,
    stop_background,
    write_firmware,
)
from deltatrain.targets import boards as known_boards


@click.command()
@json_option
def boards(terminal: Terminal) -> None:
    """The boards: core, memory, store for what is learned, and what building for each and running it takes.

    One that is emulated (qemu:, renode:) is a target of every command. One that a debug probe writes to (pyocd:) is a
    target of `export` and `flash`; name its serial port to the others. Everything about a board stands in its folder;
    docs/BOARDS.md tells more, docs/ADDING_A_BOARD.md how to add one.
    """
    known = known_boards()
    values = {"boards": [_described(board) for board in known]}

    def show(console: Console) -> None:
        rows = [
            (
                board.target,
                board.core,
                f"{board.ram_bytes // 1024}",
                f"{board.flash_bytes // 1024}",
                "" if board.kept is None else f"{board.kept.pages}×{board.kept.page_bytes // 1024}",
                "" if board.run is None else board.run.program,
            )
            for board in known
        ]
        console.print(table(("target", "core", "RAM", "flash", "store", "run by"), rows))
        console.print("\nSizes in KiB. `export --store` keeps in a store's pages what was learned.")
        console.print("\nWhat compiles for them and runs them comes from:")
        for name, words in {name: words for board in known for name, words in board.install.items()}.items():
            console.print(f"  {name}: {words}", markup=False, soft_wrap=True)
        console.print("\nA serial port is a target too:")
        console.print("  /dev/ttyACM0, socket://HOST:PORT, …  with our firmware on it", soft_wrap=True)
        console.print("  micropython:/dev/ttyACM0, …          with MicroPython on it", soft_wrap=True)

    terminal.result(values, show)


def _described(board: Board) -> dict[str, object]:
    return {
        "target": board.target,
        "title": board.title,
        "core": board.core,
        "ram_bytes": board.ram_bytes,
        "flash_bytes": board.flash_bytes,
        "store": None if board.kept is None else board.kept.to_dict(),
        "needs": list(board.needs),
        "packages": list(board.packages),
        "install": board.install,
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
    "--store",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File that keeps the emulated board's non-volatile memory; made where it is missing.  [default: none: "
    "commits are lost when the emulator ends]",
)
@click.option("--probe", metavar="UID", help="The debug probe, where several are connected: see `pyocd list`.")
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
def flash(
    terminal: Terminal,
    elf: Path,
    target: str,
    foreground: bool,
    store: Path | None,
    probe: str | None,
    model: Path | None,
    module: Path,
) -> None:
    """Put firmware on a board; an emulator is started and left running in the background.

    \b
    qemu:…, renode:…  the emulator's port is told, and is the default target of the commands that follow
    pyocd:…           the board itself is written to through its debug probe; its serial port is yours to name
    micropython:PORT  the board keeps its firmware: it gets the native module of its architecture, and a model
    """
    where = parse_target(target)
    if where.micropython:
        _flash_micropython(terminal, where.port or "", model, module)
        return
    board = board_of(target)
    check_firmware(elf, board)
    if isinstance(board.run, Probe):
        if store is not None:
            board.run.store_args(store)  # which refuses: the memory is the board's own
        write_firmware(board.run, elf, probe)
        line = board.run.line
        terminal.result(
            {"port": None, "line": line},
            lambda console: console.print(f"{board.title} runs {elf}. Its serial line: {line}. Name it by --target."),
        )
        return
    if foreground:
        with Emulator.start(board, elf, store=store) as emulator:
            port = emulator.port
            terminal.result({"port": port}, lambda console: console.print(f"{port}; Ctrl-C ends it"))
            with suppress(KeyboardInterrupt):
                emulator.wait()
        return
    others = [entry.port for entry in running()]
    port = start_background(board, elf, store=store)
    words = f"{port}; `deltatrain stop` ends the emulator"
    if others:
        words = f"{port}; others run at {', '.join(others)}, so name this one by --target; `deltatrain stop` ends all"
    terminal.result({"port": port, "others": others}, lambda console: console.print(words, soft_wrap=True))


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
