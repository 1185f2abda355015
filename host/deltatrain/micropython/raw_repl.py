"""The raw REPL of a board: Python in, what it prints out. mpremote opens the line and enters the mode."""

from __future__ import annotations

import base64
import contextlib
import io
import time
from importlib import resources
from types import TracebackType
from typing import Any, Self

from deltatrain.errors import DeviceError, SampleRefused
from deltatrain.micropython.line import BufferedLine

LINE_S = 10.0  # for an answer of an idle board
RUN_S = 120.0  # for what runs there
_END = b"\x04"  # after what was printed, and after the traceback
_ASK = b"\x06"  # DT_ASK
_PART_BYTES = 120  # of a file at once: as text it fits where received characters wait on small boards


class BoardError(DeviceError):
    """What ran on the board ended with an exception; `kind` is its class's name there."""

    def __init__(self, message: str, kind: str) -> None:
        super().__init__(message)
        self.kind = kind


class BoardRefusedSample(BoardError, SampleRefused):
    """The network dropped the sample, whose events exceed its model's budget, and counted it."""


class RawRepl:
    """A session on the raw REPL, with `board_side.py` at the other end.

    What is running on the board is interrupted; its variables stay, for there is no reset.

    Parameters
    ----------
    port : str
        As mpremote takes it: `/dev/ttyACM0`, `socket://host:port`.
    transport : mpremote's SerialTransport or the like, optional
        In the raw REPL, with a BufferedLine as `serial`; opened at `port` where it is not given.

    Raises
    ------
    DeviceError
        If mpremote is missing, there is no such line, or no MicroPython answers.
    """

    def __init__(self, port: str, transport: Any = None) -> None:
        self.port = port
        self._transport = _open(port) if transport is None else transport
        try:
            self.run(resources.files(__package__).joinpath("board_side.py").read_text(encoding="utf-8"))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Leave the raw REPL and give the line back; may be called twice."""
        with contextlib.suppress(Exception):  # the line may be gone, which is what was wanted
            self._transport.exit_raw_repl()
        with contextlib.suppress(Exception):
            self._transport.serial.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def run(self, code: str, data: bytes = b"", timeout: float = RUN_S) -> list[str]:
        """Run Python there; the lines that it printed.

        Parameters
        ----------
        data : bytes
            A file, for code that asks for it by `dt_next`.

        Raises
        ------
        BoardRefusedSample, BoardError
            If it ended with an exception: OverflowError, another.
        DeviceError
            If no answer came for `timeout` seconds.
        """
        from mpremote.transport import TransportError

        try:
            self._transport.exec_raw_no_follow(code)
            printed, error = self._answer(data, timeout)
        except (TransportError, OSError) as lost:
            raise DeviceError(
                f"the connection to {self.port} is lost ({lost}); reset the board and call `deltatrain flash` again"
            ) from lost
        if error:
            raise self._error(error.decode(errors="replace").strip())
        return printed.decode(errors="replace").splitlines()

    def bytes_of(self, code: str) -> list[bytes]:
        """Run Python there that sends bytes; those of each line."""
        return [base64.b64decode(line) for line in self.run(code)]

    def _answer(self, data: bytes, timeout: float) -> tuple[bytes, bytes]:
        """What was printed and the traceback; hands over `data` on the way, part by part."""
        line = self._transport.serial
        answer, sent, deadline = bytearray(), 0, time.monotonic() + timeout
        while answer.count(_END) < 2:
            arrived = line.read_some()
            if arrived:
                deadline = time.monotonic() + timeout
            elif time.monotonic() > deadline:
                raise DeviceError(
                    f"the board at {self.port} did not answer for {timeout:g} s; "
                    "reset it, and call `deltatrain flash` again"
                )
            if arrived.endswith(_ASK):
                line.write(base64.b64encode(data[sent : sent + _PART_BYTES]) + b"\n")
                sent += _PART_BYTES
            answer += arrived.replace(_ASK, b"")
        printed, error, prompt = bytes(answer).split(_END, 2)
        line.give_back(prompt)
        return printed, error

    def _error(self, traceback: str) -> BoardError:
        last = traceback.splitlines()[-1]
        kind = last.partition(":")[0]
        message = f"the board at {self.port} says: {last}"
        if kind == "OverflowError":
            return BoardRefusedSample(message, kind)
        if kind == "MemoryError":
            message += "; reset it, so that all of its memory is free, or take a smaller model or fewer --max-frames"
        return BoardError(message, kind)


def quoted(data: bytes) -> str:
    """Bytes as the board's `a2b_base64` takes them, in quotes."""
    return f"'{base64.b64encode(data).decode()}'"


def _open(port: str) -> Any:
    """mpremote's transport, in the raw REPL."""
    try:
        from mpremote.transport import TransportError
        from mpremote.transport_serial import SerialTransport
    except ImportError as error:
        raise DeviceError("targets with MicroPython take mpremote; install it: pip install mpremote") from error
    try:
        transport = SerialTransport(port, exclusive="://" not in port, timeout=LINE_S)
    except (TransportError, OSError, ValueError) as error:
        raise DeviceError(
            f"cannot open {port} ({error}); is the board connected, and no other program using it?"
        ) from error
    try:
        transport.serial = BufferedLine(transport.serial, LINE_S)
        with contextlib.redirect_stdout(io.StringIO()):  # mpremote prints what it does not understand
            transport.enter_raw_repl(soft_reset=False)
    except (TransportError, OSError) as error:
        transport.close()
        raise DeviceError(
            f"no MicroPython answers at {port} ({error}); reset the board, or name another port"
        ) from error
    return transport
