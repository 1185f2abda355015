"""What a training step costs on an emulated board, in instructions: of the trainer, and of the float32 network."""

from __future__ import annotations

import json
import socket
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection
from numpy.typing import NDArray

from deltatrain.bench.baseline import BaselineDevice, check_loss, float_model
from deltatrain.bench.cases import LABEL, SPARSITIES, Case, configure, find_case
from deltatrain.bench.rows import FIXED, FLOAT, BoardRow, description
from deltatrain.errors import BuildError, DeviceError, InputError
from deltatrain.link import Device
from deltatrain.link.results import DeviceResult
from deltatrain.targets import Board, Emulator
from deltatrain_codegen import export
from deltatrain_codegen.baseline import export_baseline
from deltatrain_core import StepResult

# Of a training step, in the order of dt_phase.h; those that are no phase of the core's come first.
PHASES = (
    "other",
    "encode",
    "forward product",
    "activations",
    "readout",
    "cell gradient",
    "backward product",
    "gradient product",
    "update",
)
TIMEOUT_S = 60.0
Progress = Callable[[str], None]


def bench(
    board: Board,
    cell: str,
    n_in: int,
    n_hidden: int,
    steps: int,
    sparsities: Sequence[float] = SPARSITIES,
    tell: Progress = lambda _: None,
    *,
    n_layers: int = 1,
    engines: Sequence[str] = (FIXED,),
) -> list[BoardRow]:
    """Train one step at each sparsity on an emulated board: rows by sparsity, and within it by engine.

    Parameters
    ----------
    engines : sequence of str
        `fixed`: the trainer's firmware, and one with hooks for its phases; `float-naive`: dense float32 on the same
        inputs, from the same weights.

    Raises
    ------
    InputError
        If a sparsity cannot be had, or the board's counter does not tell instructions.
    BuildError
        If a network does not fit the board.
    DeviceError
        If device and host disagree on the outcome.
    """
    cases = [find_case(cell, n_in, n_hidden, steps, sparsity, n_layers) for sparsity in sparsities]
    return bench_board(board, cases, engines, tell)


def bench_board(
    board: Board, cases: Sequence[Case], engines: Sequence[str], tell: Progress, need_all: bool = True
) -> list[BoardRow]:
    """As `bench`, of cases of one network; without `need_all`, `float-naive` is left out where it does not fit."""
    if board.ticks_per_instruction is None:
        raise InputError(f"the counter of {board.target} does not tell instructions; name an emulated board")
    by_engine = []
    with tempfile.TemporaryDirectory(prefix="deltatrain-") as folder:
        for engine in engines:
            try:
                by_engine.append(_MEASURE[engine](board, cases, Path(folder), tell))
            except BuildError as error:
                if need_all or engine != FLOAT:
                    raise
                tell(f"without {FLOAT}: {error}")
    return [row for rows in zip(*by_engine, strict=True) for row in _with_speedups(rows)]


def _with_speedups(rows: Sequence[BoardRow]) -> list[BoardRow]:
    """The engines' rows of one case; that of `fixed` with how much more the others took."""
    fixed = next((row for row in rows if row.engine == FIXED), None)
    if fixed is None:
        return list(rows)
    ratios = {row.engine: round(row.instructions / fixed.instructions, 3) for row in rows if row.engine != FIXED}
    return [replace(row, speedup=ratios) if row is fixed else row for row in rows]


def _instructions(board: Board, ticks: int) -> int:
    assert board.ticks_per_instruction is not None
    numerator, denominator = board.ticks_per_instruction
    return ticks * denominator // numerator


def _fixed_rows(board: Board, cases: Sequence[Case], folder: Path, tell: Progress) -> list[BoardRow]:
    model = cases[0].model
    tell(f"building the trainer for {board.target}")
    plain = export(model, board, folder / "plain")
    tell("building it with hooks between the phases")
    hooked = export(model, board, folder / "phases", phases=True)
    tell("training")
    with Emulator.start(board, plain.elf) as emulator, Device.open(emulator.port, timeout=TIMEOUT_S) as device:
        totals = [_on_device(device, case) for case in cases]
        stack = device.statistics().stack_high_water
    monitor = folder / "monitor"
    arguments = ("-qmp", f"unix:{monitor},server=on,wait=off")
    split = []
    with (
        Emulator.start(board, hooked.elf, arguments) as emulator,
        Device.open(emulator.port, timeout=TIMEOUT_S) as device,
    ):
        for case in cases:
            before = _phase_ticks(monitor, hooked.elf)
            result = _on_device(device, case)
            split.append((result, _phase_ticks(monitor, hooked.elf) - before))
    rows = []
    for case, total, (with_hooks, ticks) in zip(cases, totals, split, strict=True):
        instructions = total.instructions or 0
        told = description(case, FIXED)
        phases = {name: _instructions(board, int(count)) for name, count in zip(PHASES[1:], ticks[1:], strict=True)}
        row = BoardRow(
            **told,
            instructions=instructions,
            instructions_per_mac=round(instructions / told["macs"], 3),
            columns=total.columns_updated,
            n_columns=case.n_columns,
            phases=phases,
            hooks=(with_hooks.instructions or 0) - instructions,
            ram_bytes=plain.ram_bytes,
            ram=plain.ram,
            stack_high_water=stack,
        )
        rows.append(row)
    return rows


def _float_rows(board: Board, cases: Sequence[Case], folder: Path, tell: Progress) -> list[BoardRow]:
    model = float_model(cases[0])
    network = model.network()
    tell(f"building the float32 network for {board.target}")
    size = export_baseline(model, board, folder / FLOAT)
    tell("training")
    rows = []
    with (
        Emulator.start(board, size.elf) as emulator,
        BaselineDevice(emulator.port, TIMEOUT_S) as device,
    ):
        for case in cases:
            device.send(case.inputs)
            done = device.train(case.steps, LABEL, float(case.model.learning_rate), float(case.model.clip))
            check_loss(case, network, done.loss)
            told = description(case, FLOAT)
            instructions = _instructions(board, done.ticks)
            row = BoardRow(
                **told,
                instructions=instructions,
                instructions_per_mac=round(instructions / told["macs"], 3),
                columns=case.n_columns,
                n_columns=case.n_columns,
                phases={},
                hooks=0,
                ram_bytes=size.ram_bytes,
                ram=size.ram,
                stack_high_water=done.stack_high_water,
            )
            rows.append(row)
    return rows


_MEASURE = {FIXED: _fixed_rows, FLOAT: _float_rows}


def _on_device(device: Device, case: Case) -> DeviceResult:
    device.reset_weights()
    configure(device, case.model, case.theta_h)
    device.begin()
    device.push(case.frames, want_hidden=False)
    result = device.train(LABEL)
    for name in (field.name for field in fields(StepResult)):
        if getattr(result, name) != getattr(case.outcome, name):
            raise DeviceError(
                f"the device's {name} is {getattr(result, name)}, the host's {getattr(case.outcome, name)}: "
                "they were built from different sources; run `make setup`"
            )
    return result


def _phase_ticks(monitor: Path, elf: Path) -> NDArray[np.int64]:
    """The firmware's counters, read from its memory through QEMU's monitor."""
    with elf.open("rb") as file:
        table = ELFFile(file).get_section_by_name(".symtab")
        assert isinstance(table, SymbolTableSection)
        (address,) = (s["st_value"] for s in table.iter_symbols() if s.name == "dt_phase_ticks")
    command = {"command-line": f"xp /{len(PHASES)}wx {address:#x}"}
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(TIMEOUT_S)
        line.connect(str(monitor))
        with line.makefile("rw") as file_of_line:
            file_of_line.readline()
            for request in (
                {"execute": "qmp_capabilities"},
                {"execute": "human-monitor-command", "arguments": command},
            ):
                file_of_line.write(json.dumps(request) + "\n")
                file_of_line.flush()
                answer = json.loads(file_of_line.readline())
                while "event" in answer:
                    answer = json.loads(file_of_line.readline())
    words = [word for text in answer["return"].splitlines() for word in text.partition(":")[2].split()]
    return np.array([int(word, 16) for word in words], np.int64)
