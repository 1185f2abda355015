"""Where a firmware that was built is run for a measurement: in the board's emulator, or on the board itself."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from deltatrain.errors import DeviceError, InputError
from deltatrain.link.line import Line
from deltatrain.targets import Board, Emulator, Probe, write_firmware
from deltatrain.targets.process import PROBE, PROBE_S, find_program


@dataclass(frozen=True)
class Desk:
    """A board, and what is known of one that lies on the desk.

    Attributes
    ----------
    board : Board
    port : str or None
        The serial line of one that a debug probe writes to; None of one that is emulated.
    probe : str or None
        Which debug probe, where several are connected.

    Raises
    ------
    InputError
        If a port is missing, or given for an emulator, which brings its own.
    DeviceError
        If the emulator is not installed.
    """

    board: Board
    port: str | None = None
    probe: str | None = None

    def __post_init__(self) -> None:
        run = self.board.run
        if isinstance(run, Probe):
            if self.port is None:
                raise InputError(
                    f"{self.board.target} tells its figures over its serial line; name it by --port: {run.line}"
                )
        elif self.port is not None or self.probe is not None:
            raise InputError(
                f"{self.board.target} is emulated, and brings its line with it; leave out --port and --probe"
            )
        elif run is not None:
            find_program(run)  # now rather than after the firmware was built

    @contextmanager
    def running(self, elf: Path) -> Iterator[str]:
        """Run a firmware; the port of its line. On a board itself it stays. DeviceError as `Emulator.start`."""
        run = self.board.run
        if isinstance(run, Probe):
            assert self.port is not None
            write_firmware(run, elf, self.probe)
            _await_answer(self.port, run)
            yield self.port
        else:
            with Emulator.start(self.board, elf) as emulator:
                yield emulator.port


def _await_answer(port: str, run: Probe) -> None:
    """Wait until the firmware that a board was just given answers at a port; DeviceError where nothing does."""
    line = Line(port)
    try:
        deadline = time.monotonic() + run.ready_s
        while time.monotonic() < deadline:
            line.write(PROBE)
            if line.read(PROBE_S):
                return
    finally:
        line.close()
    raise DeviceError(
        f"{run.title} was written to, but nothing answers at {port} for {run.ready_s:g} s; is that its line? {run.line}"
    )
