"""Emulators that stay when the command ends: `deltatrain flash` starts one, `deltatrain stop` ends it.

Each has one file in the state folder. A process number alone proves nothing, for the system uses it again; so
the file holds the process' starting time too.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from deltatrain.errors import DeviceError
from deltatrain.targets.board import Board
from deltatrain.targets.process import HOST, await_ready, end, launch, started_at
from deltatrain.targets.state import state_dir

PATTERN = "emulator-*.json"


@dataclass(frozen=True)
class BackgroundEmulator:
    """One emulator in the background; `port` as pyserial takes it, `model_hash` in hexadecimal or empty."""

    pid: int
    started: str
    port: str
    target: str
    elf: str
    model_hash: str

    @property
    def alive(self) -> bool:
        """Whether this very process still runs."""
        return started_at(self.pid) == self.started


def start_background(
    board: Board, elf: Path, model_hash: str = "", extra: Sequence[str] = (), store: Path | None = None
) -> str:
    """Start a board's emulator so that it outlives this process; its port. Options and errors as `Emulator.start`."""
    elf = elf.resolve()
    log = state_dir() / f"emulator-{os.getpid()}-{time.monotonic_ns()}.log"
    with log.open("wb") as messages:
        process, number = launch(board, elf, extra, messages, outlive=True, store=store)

    def alive() -> bool:
        return process.poll() is None

    try:
        if not await_ready(alive, number, board.ready_s):
            words = log.read_text(errors="replace").strip() or "it said nothing"
            state = f"did not answer for {board.ready_s:g} s" if alive() else f"ended (status {process.returncode})"
            raise DeviceError(f"the emulator of {board.name} with {elf} {state}: {words}")
        port = f"socket://{HOST}:{number}"
        entry = BackgroundEmulator(process.pid, started_at(process.pid) or "", port, board.target, str(elf), model_hash)
        file = state_dir() / f"emulator-{number}.json"
        part = file.with_suffix(".part")
        part.write_text(json.dumps(asdict(entry)), encoding="utf-8")
        part.replace(file)
    except BaseException:
        end(process.pid, alive)
        raise
    finally:
        log.unlink(missing_ok=True)
    # Nobody waits for this child any more, on purpose.
    process.returncode = 0
    return port


def running() -> list[BackgroundEmulator]:
    """Emulators in the background that run; files of those that do not are removed."""
    return [entry for _, entry in _entries()]


def stop_background(port: str | None = None) -> list[str]:
    """End the emulator at `port`, or all; the ports of those that were ended."""
    stopped: list[str] = []
    for file, entry in _entries():
        if port is not None and entry.port != port:
            continue
        end(entry.pid, lambda entry=entry: entry.alive)  # type: ignore[misc]
        if entry.alive:
            raise DeviceError(f"process {entry.pid}, the emulator at {entry.port}, cannot be ended; end it yourself")
        file.unlink(missing_ok=True)
        stopped.append(entry.port)
    return stopped


def _entries() -> Iterator[tuple[Path, BackgroundEmulator]]:
    for file in sorted(state_dir().glob(PATTERN)):
        try:
            entry = BackgroundEmulator(**json.loads(file.read_text(encoding="utf-8")))
        except FileNotFoundError:
            continue
        except (OSError, ValueError, TypeError):
            entry = None
        if entry is not None and entry.alive:
            yield file, entry
        else:
            with contextlib.suppress(OSError):
                file.unlink()
