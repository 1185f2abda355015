"""A log as lines of JSON, one an event: appended, flushed line by line, and read again after any end."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from deltatrain.errors import InputError


def read_events(path: Path) -> Iterator[dict[str, Any]]:
    """The events of a log, one held at a time; a last line that was cut off is passed over.

    InputError when the file cannot be read, or another line is no event.
    """
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    return  # cut off while it was written
                yield _event(path, number, line)
    except FileNotFoundError:
        return
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); check its permissions") from error


def _event(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        event = json.loads(line)
    except ValueError as error:
        raise InputError(f"{path}, line {number} is no JSON ({error}); remove that line") from error
    if not isinstance(event, dict) or not isinstance(event.get("event"), str):
        raise InputError(f"{path}, line {number} is no event of a log; give a file that `train --log` wrote")
    return event


class Log:
    """A log to append to, of one file or of several with the same lines.

    Parameters
    ----------
    paths : Path
        Files; a last line that was cut off is taken away first. InputError when one cannot be written, or another
        program writes to it.
    """

    def __init__(self, *paths: Path) -> None:
        self._files: list[BinaryIO] = []
        for path in paths:
            try:
                file = path.open("ab+")
            except OSError as error:
                raise InputError(f"cannot write the log to {path} ({error.strerror}); name another file") from error
            self._files.append(file)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                self.close()
                raise InputError(f"another program writes to {path}; wait for its end, or name another file") from error
            _cut_tail(file)

    def write(self, event: str, **values: Any) -> dict[str, Any]:
        """Append an event; the line is in the file when this returns."""
        entry = {"event": event, **values}
        line = json.dumps(entry).encode() + b"\n"
        for file in self._files:
            file.write(line)
            file.flush()
        return entry

    def close(self) -> None:
        """Close the files."""
        for file in self._files:
            file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _cut_tail(file: BinaryIO) -> None:
    """Take away what follows the last line's end."""
    end = place = file.seek(0, os.SEEK_END)
    while place > 0:
        place = max(0, place - 4096)
        file.seek(place)
        found = file.read(min(4096, end - place)).rfind(b"\n")
        if found >= 0:
            place += found + 1
            break
    if place < end:
        file.truncate(place)
    file.seek(0, os.SEEK_END)
