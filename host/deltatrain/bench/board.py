"""What a training step costs on a board, in what its counter tells: of the trainer, and of the float32 network."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from deltatrain.bench.baseline import BaselineDevice, check_loss, float_model
from deltatrain.bench.cases import LABEL, SPARSITIES, Case, configure, find_case
from deltatrain.bench.desk import Desk
from deltatrain.bench.rows import FIXED, FLOAT, BoardRow, description
from deltatrain.errors import BuildError, DeviceError
from deltatrain.link import Device
from deltatrain.link.results import DeviceResult
from deltatrain.targets import Board, Counter
from deltatrain.targets.counter import CYCLES, MICROSECONDS
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
    """Train one step at each sparsity on a board that is emulated: rows by sparsity, and within it by engine.

    Parameters
    ----------
    engines : sequence of str
        `fixed`: the trainer's firmware, and one with hooks for its phases; `float-naive`: dense float32 on the same
        inputs, from the same weights.

    Raises
    ------
    InputError
        If a sparsity cannot be had.
    BuildError
        If a network does not fit the board.
    DeviceError
        If device and host disagree on the outcome.
    """
    cases = [find_case(cell, n_in, n_hidden, steps, sparsity, n_layers) for sparsity in sparsities]
    return bench_board(Desk(board), cases, engines, tell)


def bench_board(
    desk: Desk, cases: Sequence[Case], engines: Sequence[str], tell: Progress, need_all: bool = True
) -> list[BoardRow]:
    """As `bench`, of cases of one network; without `need_all`, `float-naive` is left out where it does not fit."""
    by_engine = []
    with tempfile.TemporaryDirectory(prefix="deltatrain-") as folder:
        for engine in engines:
            try:
                by_engine.append(_MEASURE[engine](desk, cases, Path(folder), tell))
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
    # Each firmware looks for itself whether the cycle counter counts.
    comparable = [row for row in rows if row is not fixed and row.unit == fixed.unit]
    ratios = {row.engine: round(row.cost / fixed.cost, 3) for row in comparable}
    return [replace(row, speedup=ratios) if row is fixed else row for row in rows]


def _cost(desk: Desk, counter: Counter, *ticks: int) -> float:
    """What calls took, in the counter's unit."""
    if not sum(ticks):
        raise DeviceError(
            f"the counter of {desk.board.target} stands still; if a debugger is attached, detach it and reset the board"
        )
    return _rounded(counter, sum(counter.units(count) for count in ticks))


def _rounded(counter: Counter, cost: float) -> float:
    """Without what floating point added to a sum of microseconds."""
    return round(cost, 1) if counter.unit == MICROSECONDS else cost


def _unit(counter: Counter) -> dict[str, Any]:
    """The fields of BoardRow that tell what was counted, by name."""
    return {"unit": counter.unit, "clock_hz": counter.hz if counter.unit == CYCLES else None}


def _fixed_rows(desk: Desk, cases: Sequence[Case], folder: Path, tell: Progress) -> list[BoardRow]:
    board, model = desk.board, cases[0].model
    tell(f"building the trainer for {board.target}")
    plain = export(model, board, folder / "plain")
    tell("building it with hooks between the phases")
    hooked = export(model, board, folder / "phases", phases=True)
    tell("training")
    with desk.running(plain.elf) as port, Device.open(port, timeout=TIMEOUT_S) as device:
        totals = [_on_device(device, case) for case in cases]
        stack = device.statistics().stack_high_water
        counter = device.counter
    split = []
    with desk.running(hooked.elf) as port, Device.open(port, timeout=TIMEOUT_S) as device:
        for case in cases:
            before = device.phases()
            result = _on_device(device, case)
            split.append((result, (device.phases() - before) % 2**32))
        hooked_counter = device.counter
    if hooked_counter != counter:
        raise DeviceError(
            f"the counter of {board.target} told {counter.unit}, then {hooked_counter.unit}; reset the board, try again"
        )
    rows = []
    for case, total, (with_hooks, ticks) in zip(cases, totals, split, strict=True):
        cost = _cost(desk, counter, *total.ticks)
        row = BoardRow(
            **description(case, FIXED),
            **_unit(counter),
            cost=cost,
            columns=total.columns_updated,
            n_columns=case.n_columns,
            phases={name: counter.units(int(count)) for name, count in zip(PHASES[1:], ticks[1:], strict=True)},
            hooks=_rounded(counter, _cost(desk, counter, *with_hooks.ticks) - cost),
            ram_bytes=plain.ram_bytes,
            ram=plain.ram,
            stack_high_water=stack,
        )
        rows.append(row)
    return rows


def _float_rows(desk: Desk, cases: Sequence[Case], folder: Path, tell: Progress) -> list[BoardRow]:
    model = float_model(cases[0])
    network = model.network()
    tell(f"building the float32 network for {desk.board.target}")
    size = export_baseline(model, desk.board, folder / FLOAT)
    tell("training")
    rows = []
    with desk.running(size.elf) as port, BaselineDevice(port, TIMEOUT_S, desk.board.name) as device:
        for case in cases:
            device.send(case.inputs)
            done = device.train(case.steps, LABEL, float(case.model.learning_rate), float(case.model.clip))
            check_loss(case, network, done.loss)
            row = BoardRow(
                **description(case, FLOAT),
                **_unit(done.counter),
                cost=_cost(desk, done.counter, done.ticks),
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
