"""`bench`: what a training step costs on a target, and what others take for it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from itertools import product

import click
from rich.console import Console

from deltatrain.bench import (
    BOARD_ENGINES,
    HOST_ENGINES,
    PHASES,
    SPARSITIES,
    TORCH,
    BoardRow,
    Case,
    Desk,
    HostRow,
    Row,
    Shape,
    bench_board,
    bench_host,
)
from deltatrain.bench.torch_engine import load as load_torch
from deltatrain.cli.options import DEFAULT_TARGET, PORT_VARIABLE, json_option
from deltatrain.cli.terminal import Terminal, percent, print_table
from deltatrain.errors import InputError
from deltatrain.session import board_of
from deltatrain.targets import Probe
from deltatrain.targets.counter import CYCLES, INSTRUCTIONS, MICROSECONDS

CELLS = ("lstm", "gru", "rnn")
HOST = "host"


@click.command("bench")
@click.option(
    "--target",
    default=DEFAULT_TARGET,
    show_default=True,
    help=f"A board (see `boards`), emulated or behind a debug probe, or {HOST}: this computer.",
)
@click.option(
    "--port",
    metavar="URL",
    help=f"The serial port of a board behind a debug probe (pyocd:…), such as /dev/ttyACM0; default ${PORT_VARIABLE}.",
)
@click.option("--probe", metavar="UID", help="Its debug probe, where several are connected: see `pyocd list`.")
@click.option(
    "--engine",
    "engines",
    type=click.Choice(HOST_ENGINES),
    multiple=True,
    help="fixed is deltatrain; float-naive a dense float32 network in C, as one writes it by hand; pytorch, on the "
    "host alone, PyTorch where it is installed. May be given several times.  [default: all that there are]",
)
@click.option(
    "--cell",
    "cells",
    type=click.Choice(sorted(CELLS)),
    multiple=True,
    default=("lstm", "gru"),
    show_default=True,
    help="May be given several times.",
)
@click.option("--n-in", type=click.IntRange(1, 1024), default=16, show_default=True, help="Inputs.")
@click.option(
    "--n-hidden",
    "widths",
    type=click.IntRange(1, 1024),
    multiple=True,
    default=(64,),
    show_default=True,
    help="Hidden units of a layer. May be given several times.",
)
@click.option(
    "--layers",
    type=click.IntRange(1, 3),
    multiple=True,
    default=(1,),
    show_default=True,
    help="May be given several times.",
)
@click.option(
    "--steps",
    "lengths",
    type=click.IntRange(2, 4096),
    multiple=True,
    default=(50,),
    show_default=True,
    help="Frames of the sample. May be given several times.",
)
@click.option(
    "--sparsity",
    "sparsities",
    type=click.FloatRange(0, 1, max_open=True),
    multiple=True,
    default=SPARSITIES,
    show_default=True,
    help="Fraction of entries of x and h that are inactive. May be given several times.",
)
@json_option
def bench_command(
    terminal: Terminal,
    target: str,
    port: str | None,
    probe: str | None,
    engines: tuple[str, ...],
    cells: tuple[str, ...],
    n_in: int,
    widths: tuple[int, ...],
    layers: tuple[int, ...],
    lengths: tuple[int, ...],
    sparsities: tuple[float, ...],
) -> None:
    """What one whole training step costs: every combination of what is given, by sparsity and by engine.

    QEMU counts instructions and not time: the same figures on every computer, under any load. A board behind a debug
    probe (pyocd:…) is written to, once for each firmware that is measured, keeps the last of them, and counts the
    cycles of its processor. Renode's platforms have no cycle counter: the figure is the time of the emulated board.
    On the host, engines take turns, and the figure is processor time of one thread.

    The network has ten classes, judged at the last frame; its weights are random, and inputs and θh are chosen so that
    the given fraction of entries is inactive, with every column active at least once. All engines get the same inputs
    and weights. Each outcome is checked: deltatrain's word by word, others' loss against the float64 reference.

    \b
    instructions  of the whole step: encoding, forward, loss, backward, update
    cycles        the same where the board has a cycle counter; `clock_hz` of them are a second
    microseconds  the same where its counter tells time alone; on the host the median over rounds
    macs          multiply-accumulates of the three products, as executed
    speedup       of the row of `fixed`: how many times as much each other engine took
    phases        the same by phase, from a second firmware with hooks; what those add is told as `hooks`
    ram_bytes     the firmware's whole RAM at worst-case events; `ram` is the same by purpose
    """
    combinations = product(cells, layers, widths, lengths)
    shapes = [Shape(cell, n_in, width, steps, n_layers) for cell, n_layers, width, steps in combinations]
    measure, target = (
        _on_host(terminal, engines) if target == HOST else _on_board(terminal, target, port, probe, engines)
    )
    with terminal.bar("inputs") as update:
        cases = []
        for number, shape in enumerate(dict.fromkeys(shapes)):
            update(number, len(shapes), {})
            cases.append([shape.case(sparsity) for sparsity in dict.fromkeys(sparsities)])
        update(len(shapes), len(shapes), {})
    rows: list[Row] = []
    interrupted = False
    with terminal.bar("networks") as update:
        try:
            for number, of_shape in enumerate(cases):
                update(number, len(cases), {})
                rows += measure(of_shape)
            update(len(cases), len(cases), {})
        except KeyboardInterrupt:
            interrupted = True
    if rows:
        terminal.result(
            {"target": target, "rows": [row.to_dict() for row in rows]}, lambda console: show_rows(console, rows)
        )
    if interrupted:
        raise KeyboardInterrupt


Measure = Callable[[Sequence[Case]], Sequence[Row]]


def _on_board(
    terminal: Terminal, target: str, port: str | None, probe: str | None, asked: tuple[str, ...]
) -> tuple[Measure, str]:
    board = board_of(target)
    if TORCH in asked:
        raise InputError(f"{TORCH} does not run on {board.target}; give --target {HOST}")
    engines = tuple(dict.fromkeys(asked)) or BOARD_ENGINES
    if isinstance(board.run, Probe):
        port = port or os.environ.get(PORT_VARIABLE)
    desk = Desk(board, port, probe)
    return lambda cases: bench_board(desk, cases, engines, terminal.say, need_all=bool(asked)), board.target


def _on_host(terminal: Terminal, asked: tuple[str, ...]) -> tuple[Measure, str]:
    engines = tuple(dict.fromkeys(asked)) or HOST_ENGINES
    if TORCH in engines and load_torch() is None:
        if asked:
            raise InputError("PyTorch is not installed here; pip install torch, or leave out --engine pytorch")
        terminal.say("without pytorch, which is not installed here")
        engines = tuple(engine for engine in engines if engine != TORCH)
    return lambda cases: bench_host(cases, engines), HOST


# What rows may differ in, by their fields; columns of a table only where they do.
_VARIED = {"layers": "layer", "n_hidden": "hidden unit", "steps": "frame"}

_UNITS = {INSTRUCTIONS: "instructions", CYCLES: "cycles", MICROSECONDS: "µs"}


def show_rows(console: Console, rows: Sequence[Row]) -> None:
    """Print what was measured, for people."""
    varied = {name: noun for name, noun in _VARIED.items() if len({getattr(row, name) for row in rows}) > 1}
    head = ("cell", *(f"{noun}s" for noun in varied.values()), "sparsity")

    def shape(row: Row) -> tuple[str, ...]:
        return (row.cell, *(str(getattr(row, name)) for name in varied), percent(row.sparsity))

    speedups = {shape(row): row.speedup for row in rows if row.speedup}

    def of_fixed(row: Row) -> str:
        ratio = speedups.get(shape(row), {}).get(row.engine)
        return "" if ratio is None else f"{ratio:.2f}×"

    first = rows[0]
    same = [_counted(getattr(first, name), noun) for name, noun in _VARIED.items() if name not in varied]
    title = ", ".join([_counted(first.n_in, "input"), *same])
    of_boards = [row for row in rows if isinstance(row, BoardRow)]
    of_host = [row for row in rows if isinstance(row, HostRow)]
    if of_boards:
        unit = _UNITS[of_boards[0].unit]
        clock = of_boards[0].clock_hz
        title += "" if clock is None else f", cycles at {clock / 1e6:g} MHz"
        columns = (*head, "engine", unit, "MACs", "per MAC", "RAM", "of fixed")
        keys = len(head) + 1
        print_table(console, columns, [(*shape(row), *_total(row), of_fixed(row)) for row in of_boards], title, keys)
        split = [row for row in of_boards if row.phases]
        if split:
            cases = ["\n".join(_case(row, varied)) for row in split]
            lines = [(name, *(f"{row.phases[name]:,}" for row in split)) for name in PHASES[1:]]
            print_table(console, ("", *cases), lines, f"\n{unit} by phase")
    if of_host:
        columns = (*head, "engine", "µs", "MACs", "of fixed")
        keys = len(head) + 1
        print_table(console, columns, [(*shape(row), *_time(row), of_fixed(row)) for row in of_host], title, keys)


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _case(row: Row, varied: Iterable[str]) -> tuple[str, ...]:
    """What a row was measured on, as the heading of a column."""
    return (row.cell, *(_counted(getattr(row, name), _VARIED[name]) for name in varied), percent(row.sparsity))


def _total(row: BoardRow) -> tuple[str, ...]:
    return (
        row.engine,
        f"{row.cost:,}",
        f"{row.macs:,}",
        f"{row.cost_per_mac:.{3 if row.unit == MICROSECONDS else 2}f}",
        f"{row.ram_bytes:,}",
    )


def _time(row: HostRow) -> tuple[str, ...]:
    return (row.engine, f"{row.microseconds:,.1f}", f"{row.macs:,}")
