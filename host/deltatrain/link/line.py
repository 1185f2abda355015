"""A serial line: whatever pyserial opens, for one user at a time, read as the bytes come."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import select
import socket
import time
from typing import IO, Any

import serial

from deltatrain.errors import DeviceError
from deltatrain.targets.state import state_dir

BAUD_RATE = 115200
CONNECT_S = 5.0
# Polling a line that is sending costs its sender a wake-up a byte; a pause lets them gather.
GATHER_S = 0.0005
CHUNK_BYTES = 1 << 16
WHAT_TO_DO = (
    "is the emulator or board running? `deltatrain flash` starts one, `deltatrain boards` lists them, "
    "--port or DELTATRAIN_PORT names the line"
)


class LineLost(DeviceError):
    """The line closed: its emulator ended, its board was unplugged, its connection was cut."""


class Line:
    """An open serial line.

    Parameters
    ----------
    url : str
        `/dev/ttyACM0`, `socket://host:port`, `rfc2217://host:port`: what `serial.serial_for_url` takes.

    Raises
    ------
    DeviceError
        If there is no such line, or another program holds it.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._lock = _lock(url)
        try:
            self._open()
        except DeviceError:
            self._lock.close()
            raise

    def _open(self) -> None:
        try:
            # Only real ttys know exclusive access; the lock covers the others.
            options: dict[str, Any] = {} if "://" in self.url else {"exclusive": True}
            self._port = serial.serial_for_url(
                self.url, baudrate=BAUD_RATE, timeout=0, write_timeout=CONNECT_S, **options
            )
        except (serial.SerialException, OSError, ValueError) as error:
            if "lock" in str(error):
                raise DeviceError(f"{self.url} is busy: another program holds it; end that one first") from error
            raise DeviceError(f"cannot open {self.url} ({error}); {WHAT_TO_DO}") from error
        self._descriptor = _descriptor(self._port)
        if self._descriptor is not None and self.url.startswith("socket://"):
            _send_at_once(self._descriptor)

    def reopen(self) -> None:
        """Close the line and open it again, held all the while; DeviceError where it cannot be opened (yet)."""
        self._close_port()
        self._open()

    def close(self) -> None:
        """Give the line back; may be called twice."""
        self._close_port()
        self._lock.close()

    def _close_port(self) -> None:
        with contextlib.suppress(serial.SerialException, OSError):
            self._port.close()

    def write(self, data: bytes) -> None:
        """Send all of `data`; LineLost when the line is gone, DeviceError when it takes nothing."""
        try:
            self._port.write(data)
        except serial.SerialTimeoutException as error:
            raise DeviceError(
                f"{self.url} took none of {len(data)} bytes for {CONNECT_S:g} s; reset the board, "
                "or end the emulator (`deltatrain stop`) and start it again"
            ) from error
        except (serial.SerialException, OSError) as error:
            raise self._gone(error) from error

    def read(self, timeout: float) -> bytes:
        """What has arrived, waiting for its first byte up to `timeout` seconds; empty when none came.

        LineLost when the line is gone.
        """
        deadline = time.monotonic() + timeout
        try:
            if self._descriptor is None:
                return self._poll(deadline)
            ready, _, _ = select.select([self._descriptor], [], [], max(0.0, timeout))
            return bytes(self._port.read(CHUNK_BYTES)) if ready else b""
        except (serial.SerialException, OSError, ValueError) as error:
            raise self._gone(error) from error

    def read_more(self, timeout: float) -> bytes:
        """As `read`, for the rest of a message under way: lets some of it gather first."""
        time.sleep(min(GATHER_S, max(0.0, timeout)))
        return self.read(timeout)

    def _poll(self, deadline: float) -> bytes:
        while True:
            data = bytes(self._port.read(CHUNK_BYTES))
            if data or time.monotonic() >= deadline:
                return data
            time.sleep(GATHER_S)

    def _gone(self, error: Exception) -> LineLost:
        return LineLost(
            f"the connection to {self.url} is lost ({error}): the emulator ended or the board was unplugged; "
            "start it again with `deltatrain flash`"
        )


def _descriptor(port: serial.SerialBase) -> int | None:
    """What `select` can wait on; None where the port has no such thing (rfc2217)."""
    try:
        return int(port.fileno())
    except (AttributeError, OSError, ValueError):
        return None


def _send_at_once(descriptor: int) -> None:
    """Switch off Nagle's algorithm: commands are small and wait for their answer."""
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _lock(url: str) -> IO[str]:
    """Hold the line against other runs of deltatrain: an emulator's socket takes a second one in silence."""
    path = state_dir() / f"line-{hashlib.sha256(url.encode()).hexdigest()[:16]}.lock"
    file = path.open("a+", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.seek(0)
        holder = file.read().strip() or "unknown"
        file.close()
        raise DeviceError(
            f"{url} is busy: process {holder} of deltatrain holds it; wait for its end, or end it"
        ) from error
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file
