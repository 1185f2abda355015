"""A bad serial line: a TCP proxy between host and device that damages, loses, doubles, inserts, stalls and cuts."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np

HOST = "127.0.0.1"
CHUNK_BYTES = 1 << 12
CONNECT_S = 20.0


@dataclass(frozen=True)
class Faults:
    """What happens to one direction: probabilities for each bit (`bit_errors`) or byte (the others).

    A cut closes the connection, and what was under way is lost; the host may connect again.
    """

    bit_errors: float = 0.0
    dropped: float = 0.0
    doubled: float = 0.0
    inserted: float = 0.0
    stalls: float = 0.0
    stall_s: float = 0.1
    cuts: float = 0.0


CLEAN = Faults()


@dataclass
class Count:
    """What happened so far, both directions together."""

    bytes: int = 0
    bits_flipped: int = 0
    dropped: int = 0
    doubled: int = 0
    inserted: int = 0
    stalls: int = 0
    cuts: int = 0
    connections: int = 0


class LineProxy:
    """A line to the device behind `target()`, a local port; one connection at a time, as a serial line has one user.

    `outward` happens on the way to the device, `inward` (the same if not given) on the way back. Each direction draws
    its own faults from the seed, chunk by chunk as they come. `banner` is what the host hears first.
    """

    def __init__(
        self,
        target: Callable[[], int],
        outward: Faults = CLEAN,
        inward: Faults | None = None,
        seed: int = 1,
        banner: bytes = b"",
    ) -> None:
        self.faults = [outward, outward if inward is None else inward]
        self.count = Count()
        self._target = target
        self._banner = banner
        self._rngs = [np.random.default_rng([seed, way]) for way in (0, 1)]
        self._ended = threading.Event()
        self._ends: list[socket.socket] = []
        self._listener = socket.create_server((HOST, 0))
        self.url = f"socket://{HOST}:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        self._thread.join(10)
        assert not self._thread.is_alive()

    def cut(self) -> None:
        """Close the connection, as when a plug is pulled."""
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _serve(self) -> None:
        while not self._ended.is_set():
            try:
                host, _ = self._listener.accept()
            except OSError:
                return
            with host:
                device = self._connect()
                if device is None:
                    continue
                with device:
                    self.count.connections += 1
                    self._ends = [host, device]
                    for end in self._ends:
                        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    host.sendall(self._banner)
                    back = threading.Thread(target=self._pump, args=(device, host, 1), daemon=True)
                    back.start()
                    self._pump(host, device, 0)
                    back.join()
                    self._ends = []

    def _connect(self) -> socket.socket | None:
        """The device may be starting."""
        deadline = time.monotonic() + CONNECT_S
        while not self._ended.is_set() and time.monotonic() < deadline:
            try:
                return socket.create_connection((HOST, self._target()), timeout=CONNECT_S)
            except OSError:
                time.sleep(0.02)
        return None

    def _pump(self, source: socket.socket, sink: socket.socket, way: int) -> None:
        source.settimeout(None)
        with contextlib.suppress(OSError):
            while data := source.recv(CHUNK_BYTES):
                spoiled, cut = self._spoil(data, way)
                sink.sendall(spoiled)
                if cut:
                    break
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _spoil(self, data: bytes, way: int) -> tuple[bytes, bool]:
        """The bytes that come out, and whether the line is cut behind them."""
        faults, rng = self.faults[way], self._rngs[way]
        if faults == CLEAN:
            self.count.bytes += len(data)
            return data, False
        values = np.frombuffer(data, np.uint8).copy()
        cut = np.flatnonzero(rng.random(len(values)) < faults.cuts)
        if cut.size:
            values = values[: cut[0]]
        flips = np.packbits(rng.random((len(values), 8)) < faults.bit_errors, axis=1).ravel()
        happens = rng.random((4, len(values))) < np.array(
            [[faults.dropped], [faults.doubled], [faults.inserted], [faults.stalls]]
        )
        dropped, doubled, inserted, stalled = happens
        noise = rng.integers(0, 256, len(values), np.uint8)
        count = self.count
        count.bytes += len(values)
        count.bits_flipped += int(np.unpackbits(flips).sum())
        count.dropped += int(dropped.sum())
        count.doubled += int(doubled.sum())
        count.inserted += int(inserted.sum())
        count.stalls += int(stalled.any())
        count.cuts += bool(cut.size)
        if stalled.any():
            time.sleep(faults.stall_s)
        # Each byte becomes up to three: noise before it, itself, itself again.
        columns = np.stack([noise, values ^ flips, values ^ flips], axis=1)
        kept = np.stack([inserted, ~dropped, doubled & ~dropped], axis=1)
        return columns[kept].tobytes(), bool(cut.size)
