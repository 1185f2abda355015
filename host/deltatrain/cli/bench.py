"""`bench`: what a training step costs on a target."""

from __future__ import annotations

import click
from rich.console import Console

from deltatrain.bench import PHASES, SPARSITIES, BoardRow, bench
from deltatrain.cli.options import DEFAULT_TARGET, json_option
from deltatrain.cli.terminal import Terminal, table
from deltatrain.session import board_of

CELLS = ("lstm", "gru", "rnn")


@click.command("bench")
@click.option("--target", default=DEFAULT_TARGET, show_default=True, help="An emulated board: see `boards`.")
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
@click.option("--n-hidden", type=click.IntRange(1, 1024), default=64, show_default=True, help="Hidden units.")
@click.option("--steps", type=click.IntRange(2, 4096), default=50, show_default=True, help="Frames of the sample.")
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
    cells: tuple[str, ...],
    n_in: int,
    n_hidden: int,
    steps: int,
    sparsities: tuple[float, ...],
) -> None:
    """Instructions and RAM of one whole training step, by sparsity and by phase.

    The trainer's own firmware runs on the emulator, which counts instructions and not time: the same figures on every
    computer, under any load. The network has one layer and ten classes, judged at the last frame; its weights are
    random, and inputs and θh are chosen so that the given fraction of entries is inactive, with every column active
    at least once. Each step's outcome is checked against the host's.

    \b
    instructions  of the whole step: encoding, forward, loss, backward, update, server included
    macs          multiply-accumulates of the three products, as executed
    phases        instructions by phase, from a second firmware with hooks; what those add is told as `hooks`
    ram_bytes     the firmware's whole RAM at worst-case events; `ram` is the same by purpose
    """
    board = board_of(target)
    rows: list[BoardRow] = []
    with terminal.bar("cells") as update:
        update(0, len(cells), {})
        for number, cell in enumerate(cells):
            rows += bench(board, cell, n_in, n_hidden, steps, sparsities, terminal.say)
            update(number + 1, len(cells), {})

    def show(console: Console) -> None:
        head = ("cell", "sparsity", "columns", "instructions", "MACs", "per MAC", "RAM", "hooks add")
        console.print(table(head, [_total(row) for row in rows]))
        console.print(table(("cell", "sparsity", *PHASES[1:]), [_phases(row) for row in rows]))

    terminal.result({"target": board.target, "rows": [row.to_dict() for row in rows]}, show)


def _total(row: BoardRow) -> tuple[str, ...]:
    return (
        row.cell,
        f"{100 * row.sparsity:.1f} %",
        f"{row.columns} of {row.n_columns}",
        f"{row.instructions:,}",
        f"{row.macs:,}",
        f"{row.instructions_per_mac:.2f}",
        f"{row.ram_bytes:,}",
        f"{row.hooks:,}",
    )


def _phases(row: BoardRow) -> tuple[str, ...]:
    return (row.cell, f"{100 * row.sparsity:.1f} %", *(f"{count:,}" for count in row.phases.values()))
