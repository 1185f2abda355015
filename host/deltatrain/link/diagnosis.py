"""What answers on a port where no device of ours does: words for the user, from what was heard."""

from __future__ import annotations

from deltatrain.link import protocol
from deltatrain.link.line import BAUD_RATE

KEPT_BYTES = 400
EXCERPT_CHARACTERS = 60
MOSTLY = 0.8
_TEXT = frozenset(range(0x20, 0x7F)) | frozenset(b"\t\r\n\x1b")


class Heard:
    """What came from a line before any device of ours answered."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._frames = 0
        self._requests = 0

    @property
    def anything(self) -> bool:
        """Whether the line is not silent."""
        return bool(self._bytes)

    def add(self, data: bytes) -> None:
        """Bytes as they came."""
        self._bytes += data[: KEPT_BYTES - len(self._bytes)]

    def frame(self, body: bytes) -> None:
        """A whole frame of our format that answers nothing."""
        self._frames += 1
        self._requests += not body[0] & protocol.REPLY_FLAG

    def diagnosis(self) -> str:
        """What that probably is, and what to do."""
        data = bytes(self._bytes).replace(b"\0", b"")
        if not self._bytes:
            return (
                "Nothing was heard. Is it the right port, does the board have power and deltatrain's firmware, and "
                "does no other program hold the port? If so: reset the board, or end the emulator "
                "(`deltatrain stop`) and start it again (`deltatrain flash`)"
            )
        if self._requests:
            return (
                "The line echoes what is sent: its RX and TX are joined, or a terminal stands at its other end; "
                "connect a board with deltatrain's firmware, or name another port by --port"
            )
        if self._frames:
            return (
                f"It sent {self._frames} whole frames, but none that answers: another firmware, which uses the same "
                "frames; export and flash deltatrain's"
            )
        if data and sum(byte in _TEXT for byte in data) >= MOSTLY * len(data):
            kind = "a MicroPython prompt" if b"MicroPython" in data or b">>>" in data else "text"
            return (
                f"It speaks {kind}, not deltatrain's protocol: {_excerpt(data)}; flash deltatrain's firmware "
                "(`deltatrain flash`), or name another port by --port"
            )
        return (
            f"What was heard is not deltatrain's protocol: {len(self._bytes)} bytes or more, such as "
            f"{bytes(self._bytes[:16]).hex(' ')} ({_excerpt(data)}); only damaged frames. Does the board speak at "
            f"{BAUD_RATE} baud, and is it deltatrain's firmware? Export and flash it, or name another port by --port"
        )


def _excerpt(data: bytes) -> str:
    text = "".join(chr(byte) if 0x20 <= byte < 0x7F else " " if byte in b"\t\r\n" else "·" for byte in data)
    text = " ".join(text.split())
    return f"‘{text[:EXCERPT_CHARACTERS]}’" + ("…" if len(text) > EXCERPT_CHARACTERS else "")
