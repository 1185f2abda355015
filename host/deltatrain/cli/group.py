"""Groups of commands whose modules are imported when a command is asked for, and whose errors end in one line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import click

from deltatrain.errors import CheckFailed, DeltatrainError

EXIT_CHECK_FAILED = 1
EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130


@dataclass(frozen=True)
class Lazy:
    """A command that is not imported yet: help and a mistyped name wait for no numerical library."""

    where: str  # module:function
    summary: str  # the line of the group's help

    def load(self) -> click.Command:
        """Import it."""
        module, function = self.where.split(":")
        command = getattr(import_module(module), function)
        assert isinstance(command, click.Command)
        return command


class Group(click.Group):
    """Lazy commands; their expected errors end in one line and an exit status, never in a traceback."""

    def __init__(self, *arguments: Any, lazy: Mapping[str, Lazy], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of the work, not of the alphabet."""
        return list(self._lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return self._lazy[cmd_name].load() if cmd_name in self._lazy else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The summaries, which are known without the commands."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.summary) for name, command in self._lazy.items()])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except DeltatrainError as error:
            status = EXIT_CHECK_FAILED if isinstance(error, CheckFailed) else EXIT_BAD_INPUT
            _fail(str(error), status)
        except (KeyboardInterrupt, click.Abort):
            _fail("interrupted", EXIT_INTERRUPTED)


def _fail(message: str, status: int) -> None:
    """Say what went wrong and end the command."""
    click.echo(f"error: {message}", err=True)
    raise click.exceptions.Exit(status)
