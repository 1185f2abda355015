"""Quantised model and board in, firmware out: written, cross-compiled, linked, measured in the ELF file."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import deltatrain_core
import deltatrain_firmware
from deltatrain.errors import BuildError
from deltatrain.key import Lock
from deltatrain.quant_model import QuantModel
from deltatrain.targets import Board, Store
from deltatrain_codegen.elf import measure
from deltatrain_codegen.generate import SOURCE, generate
from deltatrain_codegen.lock import lock_flags, write_key
from deltatrain_codegen.memory import check_fits, flash_refusal
from deltatrain_codegen.plan import arena_plan
from deltatrain_codegen.store import with_store

ELF = "firmware.elf"

COMPILE_FLAGS = (
    "-std=c11",
    "-ffunction-sections",
    "-fdata-sections",
    "-Wall",
    "-Wextra",
    "-Wconversion",
    "-Werror",
)
# Loops that a training step spends its time in go by speed, where -O2 takes fewer instructions than -O3 and less flash;
# what it spends some time in by size, or by speed too where loops are not in assembly; all else by size at any price.
FAST, SMALL = ("-O2",), ("-Os",)
SMALLEST = (
    *SMALL,
    "-fno-inline-functions-called-once",
    "-fno-ivopts",
    "-fno-move-loop-invariants",
    "-fno-schedule-insns2",
    "-fno-tree-loop-optimize",
)
OPTIMISATION = {
    "size": {
        **{f"drnn_{name}.c": FAST for name in ("encode", "gru", "kernels", "lstm", "rnn")},
        **{f"drnn_{name}.c": SMALL for name in ("accumulators", "backward", "forward")},
    },
    "speed": {
        f"drnn_{name}.c": FAST
        for name in (
            *("accumulators", "backward", "encode", "forward", "gru"),
            *("kernels", "lstm", "readout", "rnn", "update"),
        )
    },
}
# No C library: the firmware brings the three functions that the compiler asks for, libgcc the rest.
LINK_FLAGS = ("-nostdlib", "-Wl,--gc-sections", "-Wl,--build-id=none", "-Wl,--fatal-warnings")
N_PROCESSES = 2
COMPILER_TIMEOUT_S = 120

Progress = Callable[[str], None]


@dataclass(frozen=True)
class ExportResult:
    """A built firmware; sizes in bytes, measured in the ELF file."""

    elf: Path
    flash_bytes: int
    ram_bytes: int
    ram: dict[str, int]  # by purpose; adds up to ram_bytes
    arena_bytes: int


def export(
    model: QuantModel,
    board: Board,
    out_dir: Path,
    progress: Progress | None = None,
    phases: bool = False,
    store: bool = False,
    lock: Lock | None = None,
) -> ExportResult:
    """Write a model's sources and build the firmware for a board.

    Parameters
    ----------
    model : QuantModel
    board : Board
    out_dir : Path
        Folder for the generated sources and `firmware.elf`; made where it is missing. The same model and
        board give the same bytes, whatever the folder.
    progress : callable, optional
        Called with a line of text as each part starts.
    phases : bool
        Whether the core tells the time of each phase (`dt_phase.h`), for measurements: it then takes more.
    store : bool
        Whether it can commit what it learned to the board's non-volatile memory.
    lock : Lock, optional
        Whose key the firmware asks for. The generated key and `firmware.elf`, which holds it too, may then be read by
        their owner alone.

    Raises
    ------
    BuildError
        If the model does not fit the board's RAM or store (before anything is written), there is no compiler,
        the folder cannot be written, or the compiler or linker refuses.
    ModelError
        If the C core does not support the model.
    """
    tell = progress or (lambda _: None)
    board, built_in = with_store(model, board) if store else (board, None)
    check_fits(model, board)
    compiler = find_compiler(board)
    tell(f"generating C for {board.name}")
    texts = generate(model)
    elf = out_dir / ELF
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
        elf.unlink(missing_ok=True)  # whatever fails now, no older firmware is taken for this one
        for name, text in texts.items():
            (out_dir / name).write_text(text, encoding="utf-8")
        keys = write_key(lock, model, out_dir)
    except OSError as error:
        raise BuildError(f"cannot write to {out_dir} ({error.strerror}); name another folder") from error
    sources = [*firmware_sources(board), out_dir / SOURCE, *keys]
    flags = [*compile_flags(board, out_dir), *choice_flags(model), *lock_flags(lock)]
    if phases:
        sources.append(deltatrain_firmware.phases().with_suffix(".c"))
        flags += ["-include", str(deltatrain_firmware.phases())]
    if built_in is not None:
        sources += built_in.sources
        flags += store_flags(built_in)
    optimisation = OPTIMISATION[board.optimise]
    compile_and_link(compiler, board, sources, flags, elf, tell, lambda name: optimisation.get(name, SMALLEST))
    if lock is not None:
        elf.chmod(0o600)  # it holds the key
    size = measure(elf)
    if size.flash_bytes > board.flash_bytes:
        elf.unlink()
        raise BuildError(flash_refusal(size.flash_bytes, model, board))
    plan = arena_plan(model)
    # The linker rounds the arena up to the alignment of what follows it.
    ram = plan.by_purpose() | {name: size.ram[name] for name in ("stack", "link", "other")}
    ram["other"] += size.ram["arena"] - plan.total
    return ExportResult(elf, size.flash_bytes, size.ram_bytes, ram, plan.total)


def find_compiler(board: Board) -> str:
    """Where a board's compiler is; BuildError with what to install where there is none."""
    compiler = shutil.which(board.compiler)
    if compiler is None:
        raise BuildError(
            f"there is no {board.compiler}, which builds for {board.name}; "
            f"install it: sudo apt-get install {' '.join(board.compiler_apt)}"
        )
    return compiler


def firmware_sources(board: Board) -> list[Path]:
    """The C files of a board's firmware, those of the model aside."""
    return [*deltatrain_core.sources(), *deltatrain_firmware.sources(), *board.sources]


def compile_flags(board: Board, out_dir: Path) -> list[str]:
    """What compiling for a board takes, warnings and optimisation aside; `out_dir` holds the generated header."""
    includes = [
        deltatrain_core.include_dir(),
        deltatrain_firmware.include_dir(),
        deltatrain_firmware.root() / "src",
        deltatrain_firmware.root() / "boards" / "common",
        out_dir,
    ]
    return [
        *board.arch_flags,
        f'-DDT_BOARD_NAME="{board.name}"',
        f"-DDT_MAX_PAYLOAD={board.max_payload}",
        *(f"-D{name}={value:#x}u" for name, value in board.defines),
        *(f"-I{include}" for include in includes),
    ]


def link_flags(board: Board) -> list[str]:
    """What linking for a board takes beside `arch_flags`: its memory, and where everything lies in it."""
    places = {
        "dt_flash_origin": board.flash_origin,
        "dt_flash_bytes": board.flash_bytes,
        "dt_ram_origin": board.ram_origin,
        "dt_ram_bytes": board.ram_bytes,
        "dt_stack_bytes": board.stack_bytes,
    }
    if board.store is not None:
        places["dt_flash"] = board.store.origin
    return [
        *LINK_FLAGS,
        *(f"-Wl,--defsym={name}={value:#x}" for name, value in places.items()),
        f"-T{board.linker_script}",
    ]


def choice_flags(model: QuantModel) -> list[str]:
    """What builds in a model's cells, its readout and its plan of memory alone, and replay where it has exemplars."""
    chosen = {
        "CELLS": sorted({layer.cell for layer in model.layers}),
        "READOUTS": [model.readout],
        "MEMORIES": [model.memory.kind],
    }
    return [
        *(f"-DDRNN_{kind}=({'|'.join(f'1u<<DRNN_{n.upper()}' for n in names)})" for kind, names in chosen.items()),
        f"-DDRNN_REPLAY={int(model.replay is not None)}",
    ]


def store_flags(store: Store) -> list[str]:
    """What compiling the server, the store and its driver takes, to build the store in."""
    return [
        "-DDT_STORE",
        f"-DDT_FLASH_PAGE_BYTES={store.page_bytes}u",
        f"-DDT_FLASH_PAGES={store.pages}u",
        f"-DDT_FLASH_WRITE_BYTES={store.write_bytes}u",
    ]


def compile_and_link(
    compiler: str,
    board: Board,
    sources: Sequence[Path],
    flags: Sequence[str],
    elf: Path,
    tell: Progress,
    optimisation: Callable[[str], Sequence[str]],
) -> None:
    """Build a firmware from its sources; `optimisation` tells a file's flags. BuildError if refused."""
    tell(f"compiling {len(sources)} files for {board.core}")
    with tempfile.TemporaryDirectory(prefix="deltatrain-") as folder:
        objects = [Path(folder) / f"{index:02d}_{source.stem}.o" for index, source in enumerate(sources)]
        commands = [
            [
                compiler,
                *COMPILE_FLAGS,
                *optimisation(source.name),
                *flags,
                # Whatever names a file names it without the folders of this machine.
                f"-ffile-prefix-map={source.parent}=.",
                "-c",
                str(source),
                "-o",
                str(target),
            ]
            for source, target in zip(sources, objects, strict=True)
        ]
        with ThreadPoolExecutor(N_PROCESSES) as pool:
            list(pool.map(_run, commands))
        tell("linking")
        _run([compiler, *board.arch_flags, *link_flags(board), *map(str, objects), "-lgcc", "-o", str(elf)])


def _run(command: Sequence[str]) -> None:
    try:
        outcome = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=COMPILER_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildError(f"{command[0]} did not run to its end: {error}") from error
    if outcome.returncode != 0:
        raise BuildError(f"{Path(command[0]).name} refused ({' '.join(command)}):\n{outcome.stderr.strip()}")
