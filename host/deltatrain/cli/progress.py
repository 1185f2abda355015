"""How far a command is: a bar on a terminal, a plain line now and then elsewhere; both as wide as there is room."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Column
from rich.text import Text

from deltatrain.training import Progress

PLAIN_EVERY_S = 10.0
GAP = "  "


def shown(value: Any) -> str:
    """A number as it stands beside a progress bar."""
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def fitting(fields: Sequence[str], width: int) -> str:
    """As many of the fields as have room; those at the end, which matter least, give way."""
    for kept in range(len(fields), 0, -1):
        if len(text := GAP.join(fields[:kept])) <= width:
            return text
    return ""


@contextmanager
def progress_of(label: str, console: Console) -> Iterator[Progress]:
    """Show progress while the block runs; the callback takes (done, total, what to show beside it)."""
    with (_bar if console.is_interactive else _lines)(label, console) as update:
        yield update


def _fields(beside: dict[str, Any]) -> list[str]:
    return [f"{name} {shown(value)}" for name, value in beside.items()]


class _Beside:
    """Fields that take the room which the other columns leave."""

    def __init__(self, fields: Sequence[str]) -> None:
        self._fields = fields

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(0, len(GAP.join(self._fields))).with_maximum(options.max_width)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text(fitting(self._fields, options.max_width), no_wrap=True)


class _BesideColumn(ProgressColumn):
    def render(self, task: Task) -> Any:
        return _Beside(task.fields["beside"])


@contextmanager
def _bar(label: str, console: Console) -> Iterator[Progress]:
    def whole() -> Column:
        return Column(no_wrap=True)

    columns = (
        TextColumn("  {task.description:<22}"),
        BarColumn(bar_width=12, table_column=whole()),
        MofNCompleteColumn(table_column=whole()),
        TimeRemainingColumn(compact=True, table_column=whole()),
        _BesideColumn(),  # the one that gives way
    )
    with Bar(*columns, console=console) as bar:
        task = bar.add_task(label, total=None, beside=[])

        def update(done: int, total: int, beside: dict[str, Any]) -> None:
            bar.update(task, completed=done, total=total, beside=_fields(beside))

        yield update


@contextmanager
def _lines(label: str, console: Console) -> Iterator[Progress]:
    """The first state, one every `PLAIN_EVERY_S` and the last, a line each."""
    due = 0.0
    untold = ""

    def tell(line: str) -> None:
        nonlocal due, untold
        console.print(line, markup=False, soft_wrap=True)
        due, untold = monotonic() + PLAIN_EVERY_S, ""

    def update(done: int, total: int, beside: dict[str, Any]) -> None:
        nonlocal untold
        untold = fitting([f"  {label:<22}", f"{done}/{total}", *_fields(beside)], console.width)
        if monotonic() >= due:
            tell(untold)

    try:
        yield update
    finally:
        if untold:
            tell(untold)
