"""The firmware of the float32 network that `deltatrain bench` compares with: written, cross-compiled, measured."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import deltatrain_firmware
from deltatrain.errors import BuildError
from deltatrain.model import FloatModel
from deltatrain.targets import Board
from deltatrain_codegen.build import ELF, compile_and_link, compile_flags, find_compiler
from deltatrain_codegen.c_text import comma_lines
from deltatrain_codegen.elf import FirmwareSize, measure

Float32 = NDArray[np.float32]

HEADER, SOURCE = "float_case.h", "float_case.c"
# As one compiles floating point for speed; products and sums may fuse, their order stays.
FLAGS = ("-O3", "-ffp-contract=fast")
SHARED = ("dt_board.c", "dt_frame.c", "dt_libc.c", "dt_memory.c")

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Baseline:
    """A built firmware; sizes in bytes, measured in the ELF file. `ram` is by purpose and adds up to ram_bytes."""

    elf: Path
    flash_bytes: int
    ram_bytes: int
    ram: dict[str, int]


def flat_parameters(model: FloatModel) -> Float32:
    """All parameters in the order of float_naive.h."""
    parts = [part.ravel() for layer in model.layers for part in (layer.weight_ih, layer.weight_hh, layer.bias)]
    return np.concatenate([*parts, model.readout_weight.ravel(), model.readout_bias]).astype(np.float32)


def generate_baseline(model: FloatModel) -> dict[str, str]:
    """float_case.h and float_case.c: a model's sizes and its parameters."""
    cells = [f"FLOAT_{layer.cell.upper()}" for layer in model.layers]
    sizes = list(zip(cells, model.layers, strict=True))
    last, n_outputs = model.layers[-1].n_hidden, model.n_outputs
    parameters = [f"FLOAT_LAYER_PARAMETERS({cell}, {layer.n_in}, {layer.n_hidden})" for cell, layer in sizes]
    parameters.append(f"FLOAT_READOUT_PARAMETERS({last}, {n_outputs})")
    rest = [f"FLOAT_LAYER_HISTORY({cell}, {layer.n_hidden}, CASE_MAX_STEPS)" for cell, layer in sizes]
    rest += [f"CASE_MAX_STEPS * {layer.n_in}" for layer in model.layers[1:]]
    rest.append(f"FLOAT_SCRATCH({max(layer.n_hidden for layer in model.layers)}, {n_outputs})")
    layers = ", ".join(
        f"{{.cell = {cell}, .n_in = {layer.n_in}, .n_hidden = {layer.n_hidden}}}" for cell, layer in sizes
    )
    banner = "/* Written by `deltatrain bench`; do not edit. */\n"
    header = (
        f"{banner}#ifndef FLOAT_CASE_H\n#define FLOAT_CASE_H\n\n"
        '#include "float_naive.h"\n\n'
        f"#define CASE_N_LAYERS {len(model.layers)}\n"
        f"#define CASE_N_IN {model.n_in}\n"
        f"#define CASE_N_OUTPUTS {n_outputs}\n"
        f"#define CASE_MAX_STEPS {model.max_steps}\n"
        f"#define CASE_LAYERS {{{layers}}}\n"
        f"#define CASE_PARAMETERS ({' + '.join(parameters)})\n"
        f"#define CASE_FLOATS (2 * CASE_PARAMETERS + {' + '.join(rest)})\n\n"
        "/* In the order of float_net_t.parameters. */\n"
        "extern const float case_parameters[CASE_PARAMETERS];\n\n#endif\n"
    )
    values = "\n".join(f"    {line}" for line in comma_lines(f"{float(v).hex()}f" for v in flat_parameters(model)))
    source = f'{banner}#include "{HEADER}"\n\nconst float case_parameters[CASE_PARAMETERS] = {{\n{values}\n}};\n'
    return {HEADER: header, SOURCE: source}


def export_baseline(model: FloatModel, board: Board, out_dir: Path, progress: Progress | None = None) -> Baseline:
    """Write the sources and build `firmware.elf` in a folder; its place and sizes.

    Raises
    ------
    BuildError
        If the network does not fit the board, there is no compiler, or the compiler or linker refuses.
    """
    compiler = find_compiler(board)
    out_dir.mkdir(parents=True, exist_ok=True)
    for name, text in generate_baseline(model).items():
        (out_dir / name).write_text(text, encoding="utf-8")
    folder, shared = deltatrain_firmware.baseline(), deltatrain_firmware.root() / "src"
    sources = [
        *sorted(folder.glob("*.c")),
        *(shared / name for name in SHARED),
        *board.sources,
        out_dir / SOURCE,
    ]
    elf = out_dir / ELF
    try:
        flags = [f"-I{folder}", *compile_flags(board, out_dir)]
        compile_and_link(compiler, board, sources, flags, elf, progress or (lambda _: None), lambda _: FLAGS)
    except BuildError as error:
        short = re.search(r"overflowed by (\d+) bytes", str(error))
        if short is None:
            raise
        raise BuildError(
            f"the float32 network is {int(short[1]):,} bytes too large for the RAM of {board.target}; "
            "give fewer hidden units or frames, or leave it out with --engine fixed"
        ) from error
    size = measure(elf)
    if size.flash_bytes > board.flash_bytes:
        raise BuildError(
            f"the float32 network takes {size.flash_bytes:,} bytes of flash and {board.target} has "
            f"{board.flash_bytes:,}; give fewer hidden units, or leave it out with --engine fixed"
        )
    return Baseline(elf, size.flash_bytes, size.ram_bytes, _by_purpose(model, size))


def _by_purpose(model: FloatModel, size: FirmwareSize) -> dict[str, int]:
    weights = flat_parameters(model).nbytes
    rest = {name: size.ram[name] for name in ("stack", "link", "other")}
    return {"weights": weights, "gradient": weights, "history": size.ram["arena"] - 2 * weights} | rest
