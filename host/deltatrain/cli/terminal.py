"""What people and scripts see: progress on standard error, results on standard output, errors in words."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click
from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column, Table

from deltatrain.training import Progress as ProgressCallback


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

    @contextmanager
    def bar(self, label: str) -> Iterator[ProgressCallback]:
        """A progress bar; the callback takes (done, total, what to show beside it)."""
        columns = (
            TextColumn("  {task.description:<22}"),
            BarColumn(bar_width=12),
            MofNCompleteColumn(),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[beside]}", table_column=Column(no_wrap=False)),  # the one that gives way
        )
        with Progress(*columns, console=self._progress_console) as progress:
            task = progress.add_task(label, total=None, beside="")

            def update(done: int, total: int, beside: dict[str, Any]) -> None:
                text = "  ".join(f"{name} {shown(value)}" for name, value in beside.items())
                progress.update(task, completed=done, total=total, beside=text)

            yield update

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


def shown(value: Any) -> str:
    """A number as it stands beside a progress bar."""
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def percent(fraction: float) -> str:
    """A fraction as people read it."""
    return f"{100 * fraction:.1f} %"


def table(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]], title: str | None = None) -> Table:
    """A plain table; columns after the first are right-aligned."""
    made = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for index, name in enumerate(columns):
        made.add_column(name, justify="left" if index == 0 else "right")
    for row in rows:
        made.add_row(*row)
    return made
