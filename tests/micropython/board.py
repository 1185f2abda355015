"""A board as far as its line goes: the raw REPL of MicroPython on a TCP socket, played by CPython.

    python board.py PORT MPY

in a folder that stands for the board's files. MPY is what `sys.implementation._mpy` says; modules come from `lib`.
"""

from __future__ import annotations

import contextlib
import io
import socket
import sys
import traceback
from typing import Any

# MicroPython has fewer classes of exceptions.
AS_THERE = {"FileNotFoundError": "OSError", "ModuleNotFoundError": "ImportError"}
BANNER = "raw REPL; CTRL-B to exit\r\n>"


class Line(io.TextIOBase):
    """A connection, as bytes and as standard input and output."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._received = connection.makefile("rb")

    def read_byte(self) -> bytes:
        return self._received.read(1)

    def readline(self, size: int = -1, /) -> str:  # type: ignore[override]
        return self._received.readline(size).decode()

    def write(self, text: str, /) -> int:
        self._connection.sendall(text.encode())
        return len(text)


class Board:
    """One connection after another; variables outlive them."""

    def __init__(self) -> None:
        self.names: dict[str, Any] = {"__name__": "__main__"}

    def serve(self, line: Line) -> None:
        """Answer until the other end closes."""
        code = bytearray()
        while byte := line.read_byte():
            if byte == b"\x01":
                line.write(BANNER)
            elif byte == b"\x05":  # raw paste, which this board does not have
                line.read_byte(), line.read_byte()
                line.write("R\x00")
            elif byte == b"\x04":
                line.write("OK")
                line.write(f"\x04{self.run(bytes(code).decode(), line)}\x04>")
            elif byte not in b"\x02\x03\r":
                code += byte
                continue
            code.clear()

    def run(self, code: str, line: Line) -> str:
        """Run code with the line as its standard input and output; the traceback, if there was one."""
        sys.stdin = line
        try:
            with contextlib.redirect_stdout(line):
                exec(code, self.names)
        except Exception:
            told = traceback.format_exc().replace("\n", "\r\n")
            for name, there in AS_THERE.items():
                told = told.replace(name, there)
            return told
        finally:
            sys.stdin = sys.__stdin__
        return ""


def main(port: int, mpy: int) -> None:
    """Serve the port."""
    sys.implementation._mpy = mpy  # type: ignore[attr-defined]
    sys.implementation._machine = "a board in Python"  # type: ignore[attr-defined]
    sys.path.insert(0, "lib")
    board = Board()
    with socket.create_server(("127.0.0.1", port)) as server:
        while True:
            connection, _ = server.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with contextlib.suppress(OSError), connection:
                board.serve(Line(connection))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
