"""The line under mpremote's transport: read in pieces as they come, where pyserial reads a socket byte by byte."""

from __future__ import annotations

import os
import select
import time
from typing import Any

# Polling a line that is sending costs its sender a wake-up a byte; a pause lets them gather.
GATHER_S = 0.0005
PIECE_BYTES = 1 << 16


class BufferedLine:
    """What mpremote asks of a serial port, with a buffer that bytes may be given back to.

    Parameters
    ----------
    port : serial.SerialBase or the like
        Ports without a file descriptor (rfc2217) are read as they are.
    timeout : float
        Seconds that `read` waits for each piece.
    """

    def __init__(self, port: Any, timeout: float) -> None:
        self._port = port
        self._timeout = timeout
        self._buffer = bytearray()
        try:
            self._descriptor: int | None = int(port.fileno())
        except (AttributeError, OSError, ValueError):
            self._descriptor = None

    def inWaiting(self) -> int:
        """Bytes that have come (mpremote's name for it)."""
        self._gather(0.0)
        return len(self._buffer)

    def read(self, count: int = 1) -> bytes:
        """`count` bytes, or fewer where no more came in time."""
        while len(self._buffer) < count and self._gather(self._timeout):
            pass
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        return data

    def read_some(self) -> bytes:
        """What has come, at least one byte if one comes in time."""
        if not self._buffer:
            self._gather(self._timeout)
        data = bytes(self._buffer)
        self._buffer.clear()
        return data

    def give_back(self, data: bytes) -> None:
        """Bytes that are to be read once more, first of all."""
        self._buffer[:0] = data

    def write(self, data: bytes) -> None:
        """Send all of `data`."""
        self._port.write(data)

    def close(self) -> None:
        """Give the port back."""
        self._port.close()

    def _gather(self, timeout: float) -> bool:
        """Take what has come; whether there was any. OSError when the other end is gone."""
        if self._descriptor is None:
            self._port.timeout = timeout
            data = bytes(self._port.read(max(1, self._port.in_waiting)))
        else:
            if not select.select([self._descriptor], [], [], timeout)[0]:
                return False
            time.sleep(GATHER_S)
            data = os.read(self._descriptor, PIECE_BYTES)
            if not data:
                raise OSError("it was closed at the other end")
        self._buffer += data
        return bool(data)
