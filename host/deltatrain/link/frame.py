"""Frames on a serial line: COBS between zero bytes, with a CRC-32 at the end; as PROTOCOL.md has it."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field

from cobs import cobs

from deltatrain.link import protocol

DELIMITER = b"\0"


def crc32(data: bytes) -> bytes:
    """CRC-32 of `data` as it stands in a frame: 4 bytes, little-endian."""
    return zlib.crc32(data).to_bytes(protocol.CRC_BYTES, "little")


def encode(body: bytes) -> bytes:
    """One frame as it goes onto the line: delimiter, COBS of body and CRC-32, delimiter.

    The first delimiter ends whatever noise stands on the line before the frame.
    """
    return DELIMITER + bytes(cobs.encode(body + crc32(body))) + DELIMITER


def decode(frame: bytes) -> bytes | None:
    """The body of what stood between two delimiters, or None when it is damaged."""
    try:
        data = bytes(cobs.decode(frame))
    except cobs.DecodeError:
        return None
    body, tail = data[: -protocol.CRC_BYTES], data[-protocol.CRC_BYTES :]
    if len(body) < protocol.HEADER_BYTES or crc32(body) != tail:
        return None
    return body


@dataclass
class Decoder:
    """Bytes from the line in, bodies of whole frames out; never fails, whatever the bytes.

    Attributes
    ----------
    max_bytes : int
        Longer frames are dropped as they arrive, so that noise without delimiters takes no memory.
    damaged : int
        Frames that were refused so far.
    """

    max_bytes: int = 1 << 17
    damaged: int = 0
    _pending: bytearray = field(default_factory=bytearray)
    _too_long: bool = False

    def push(self, data: bytes) -> list[bytes]:
        """Bodies of the frames that end in `data`, in order."""
        bodies: list[bytes] = []
        *ended, rest = data.split(DELIMITER)
        for part in ended:
            self._append(part)
            if self._too_long or self._pending:
                body = None if self._too_long else decode(bytes(self._pending))
                if body is None:
                    self.damaged += 1
                else:
                    bodies.append(body)
            self.clear()
        self._append(rest)
        return bodies

    @property
    def under_way(self) -> bool:
        """Whether a frame has begun and not ended."""
        return self._too_long or bool(self._pending)

    def clear(self) -> None:
        """Forget the frame under way."""
        self._pending.clear()
        self._too_long = False

    def _append(self, part: bytes) -> None:
        if len(self._pending) + len(part) > self.max_bytes:
            self._too_long = True
            self._pending.clear()
        if not self._too_long:
            self._pending += part
