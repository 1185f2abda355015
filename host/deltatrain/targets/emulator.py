"""An emulator for as long as it is needed: it ends with its context, and with the process that started it."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from deltatrain.errors import DeviceError
from deltatrain.targets.board import Board
from deltatrain.targets.process import HOST, await_ready, end, launch


class Emulator:
    """A board's emulator that runs a firmware; made by `Emulator.start`.

    Attributes
    ----------
    board : Board
    elf : Path
    port : str
        The serial line as pyserial takes it: `socket://127.0.0.1:N`. One user at a time.
    """

    def __init__(
        self, board: Board, elf: Path, process: subprocess.Popen[bytes], port: int, messages: IO[bytes]
    ) -> None:
        self.board = board
        self.elf = elf
        self.port = f"socket://{HOST}:{port}"
        self._process = process
        self._messages = messages

    @classmethod
    def start(
        cls, board: Board, elf: Path, extra: Sequence[str] = (), wait: bool = True, store: Path | None = None
    ) -> Emulator:
        """Start a board's emulator.

        Parameters
        ----------
        extra : sequence of str
            Further arguments of the emulator.
        wait : bool
            Whether to wait until the firmware answers; not for firmware that does not speak our protocol.
        store : Path, optional
            A file for the board's non-volatile memory: what is committed outlives the emulator, however that ends.

        Raises
        ------
        DeviceError
            If the emulator is not installed, ends at once (with its own words), or its firmware stays silent.
        """
        messages = tempfile.TemporaryFile()  # noqa: SIM115 (closed by stop)
        try:
            process, port = launch(board, elf, extra, messages, outlive=False, store=store)
        except BaseException:
            messages.close()
            raise
        emulator = cls(board, elf, process, port, messages)
        try:
            if wait and not await_ready(lambda: emulator.alive, port, board.ready_s):
                raise emulator._failure()
        except BaseException:
            emulator.stop()
            raise
        return emulator

    @property
    def pid(self) -> int:
        """The emulator's process."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the emulator runs."""
        return self._process.poll() is None

    def messages(self) -> str:
        """What the emulator wrote to its standard error so far."""
        self._messages.seek(0)
        return self._messages.read().decode(errors="replace").strip()

    def wait(self) -> None:
        """Wait until the emulator ends by itself."""
        self._process.wait()

    def stop(self) -> None:
        """End the emulator; may be called twice."""
        if self.alive:
            end(self.pid, lambda: self.alive)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=0)
        self._messages.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _failure(self) -> DeviceError:
        words = self.messages() or "it said nothing"
        if not self.alive:
            return DeviceError(
                f"the emulator of {self.board.name} ended at once with {self.elf} "
                f"(status {self._process.returncode}): {words}"
            )
        return DeviceError(
            f"the emulator of {self.board.name} runs, but {self.elf} did not answer for {self.board.ready_s:g} s "
            f"({words}); is it a firmware that `deltatrain export` built for this board?"
        )
