"""What people and scripts see: progress on standard error, results on standard output, errors in words."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import click
from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.table import Table

from deltatrain.cli.progress import progress_of
from deltatrain.training import Progress

GAP = 2  # between two columns of a table


class Terminal:
    """Where a command speaks.

    Parameters
    ----------
    as_json : bool
        Whether standard output is for a script: then it receives one JSON object and nothing else.
    """

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._progress_console = Console(stderr=True, highlight=False)

    def say(self, text: str) -> None:
        """One line about what is being done, on standard error."""
        self._progress_console.print(text, markup=False, soft_wrap=True)

    def show(self, what: RenderableType) -> None:
        """The same for a table."""
        self._progress_console.print(what)

    def bar(self, label: str) -> AbstractContextManager[Progress]:
        """How far something is; the callback takes (done, total, what to show beside it, the most important first)."""
        return progress_of(label, self._progress_console)

    def result(self, values: dict[str, Any], show: Callable[[Console], None]) -> None:
        """The command's result: JSON for scripts, `show` for people; on standard output."""
        if self._as_json:
            click.echo(json.dumps(values))
        else:
            show(Console(highlight=False))

    def confirm(self, question: str) -> bool:
        """Ask on the terminal, with yes as the default; also yes where nobody can be asked."""
        if self._as_json or not sys.stdin.isatty():
            return True
        return click.confirm(question, default=True, err=True)


def percent(fraction: float) -> str:
    """A fraction as people read it."""
    return f"{100 * fraction:.1f} %"


def table(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]], title: str | None = None) -> Table:
    """A plain table; columns after the first are right-aligned."""
    made = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for index, name in enumerate(columns):
        made.add_column(name, justify="left" if index == 0 else "right", overflow="fold")
    for row in rows:
        made.add_row(*row)
    return made


def print_table(
    console: Console, columns: Sequence[str], rows: Sequence[Sequence[str]], title: str | None = None, keys: int = 1
) -> None:
    """Print a table that cuts no figure: where it is wider than the console, in parts beneath each other.

    Parameters
    ----------
    columns : sequence of str
        Headings; one may have several lines.
    rows : sequence of sequences of str
        As many cells each.
    keys : int
        How many columns, from the left, name a row: each part has them.
    """
    cells = [[line for cell in column for line in cell.split("\n")] for column in zip(columns, *rows, strict=True)]
    widths = [max(map(cell_len, column)) for column in cells]
    named = list(range(keys))
    parts: list[list[int]] = []
    room = -1
    for index in range(keys, len(columns)):
        room -= GAP + widths[index]
        if room < 0:
            parts.append([])
            room = console.width - sum(widths[:keys]) - GAP * keys - widths[index]
        parts[-1].append(index)
    for number, part in enumerate(parts):
        chosen = named + part
        if number:
            console.print()
        console.print(
            table(
                tuple(columns[index] for index in chosen),
                [tuple(row[index] for index in chosen) for row in rows],
                title if number == 0 else None,
            )
        )
