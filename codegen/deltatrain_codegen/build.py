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
from deltatrain.quant_model import QuantModel
from deltatrain.targets import Board
from deltatrain_codegen.elf import measure
from deltatrain_codegen.generate import SOURCE, generate
from deltatrain_codegen.memory import check_fits
from deltatrain_codegen.plan import arena_plan

ELF = "firmware.elf"
# Debian's packages that bring a cross-compiler with its headers.
COMPILER_PACKAGES = {"arm-none-eabi-gcc": "gcc-arm-none-eabi libnewlib-arm-none-eabi"}

# -O3 takes 6 % fewer instructions for a training step than -O2, and 5 % more flash.
COMPILE_FLAGS = (
    "-std=c11",
    "-O3",
    "-ffunction-sections",
    "-fdata-sections",
    "-Wall",
    "-Wextra",
    "-Wconversion",
    "-Werror",
)
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


def export(model: QuantModel, board: Board, out_dir: Path, progress: Progress | None = None) -> ExportResult:
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

    Raises
    ------
    BuildError
        If the model does not fit the board's RAM (before anything is written), there is no compiler, the
        folder cannot be written, or the compiler or linker refuses.
    ModelError
        If the C core does not support the model.
    """
    tell = progress or (lambda _: None)
    check_fits(model, board.name, board.ram_bytes)
    compiler = _find_compiler(board)
    tell(f"generating C for {board.name}")
    texts = generate(model)
    elf = out_dir / ELF
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
        elf.unlink(missing_ok=True)  # whatever fails now, no older firmware is taken for this one
        for name, text in texts.items():
            (out_dir / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise BuildError(f"cannot write to {out_dir} ({error.strerror}); name another folder") from error
    _build(compiler, board, out_dir, elf, tell)
    size = measure(elf)
    if size.flash_bytes > board.flash_bytes:
        elf.unlink()
        raise BuildError(
            f"the firmware needs {size.flash_bytes:,} bytes of flash, {board.name} has {board.flash_bytes:,}: "
            "the weights as first trained lie there; choose fewer hidden units or another board"
        )
    plan = arena_plan(model)
    # The linker rounds the arena up to the alignment of what follows it.
    ram = plan.by_purpose() | {name: size.ram[name] for name in ("stack", "link", "other")}
    ram["other"] += size.ram["arena"] - plan.total
    return ExportResult(elf, size.flash_bytes, size.ram_bytes, ram, plan.total)


def _find_compiler(board: Board) -> str:
    compiler = shutil.which(board.compiler)
    if compiler is None:
        packages = COMPILER_PACKAGES.get(board.compiler, board.compiler)
        raise BuildError(
            f"there is no {board.compiler}, which builds for {board.name}; install it: sudo apt-get install {packages}"
        )
    return compiler


def _build(compiler: str, board: Board, out_dir: Path, elf: Path, tell: Progress) -> None:
    sources = [
        *deltatrain_core.sources(),
        *deltatrain_firmware.sources(),
        *(board.folder / name for name in board.sources),
        out_dir / SOURCE,
    ]
    includes = [
        deltatrain_core.include_dir(),
        deltatrain_firmware.include_dir(),
        deltatrain_firmware.root() / "src",
        board.folder,
        out_dir,
    ]
    tell(f"compiling {len(sources)} files for {board.core}")
    with tempfile.TemporaryDirectory(prefix="deltatrain-") as folder:
        objects = [Path(folder) / f"{index:02d}_{source.stem}.o" for index, source in enumerate(sources)]
        commands = [
            [
                compiler,
                *board.arch_flags,
                *COMPILE_FLAGS,
                *(f"-I{include}" for include in includes),
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
        script = board.folder / board.linker_script
        _run(
            [
                compiler,
                *board.arch_flags,
                *LINK_FLAGS,
                f"-T{script}",
                *map(str, objects),
                "-lgcc",
                "-o",
                str(elf),
            ]
        )


def _run(command: Sequence[str]) -> None:
    try:
        outcome = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=COMPILER_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildError(f"{command[0]} did not run to its end: {error}") from error
    if outcome.returncode != 0:
        raise BuildError(f"{Path(command[0]).name} refused ({' '.join(command)}):\n{outcome.stderr.strip()}")
