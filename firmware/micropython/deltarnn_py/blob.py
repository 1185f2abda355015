"""Numbers in a file, or in bytes as in a file, read where they lie: no copy of the whole is made.

Both kinds of files of deltatrain begin alike: magic, version, ABI version, bytes of the whole, CRC-32 of all that comes
after these.
"""

import struct
from array import array
from io import BytesIO

from .checksum import crc32

ABI_VERSION = 5  # of drnn_types.h
_START, _START_BYTES = "<IHHII", 16
_CHUNK_BYTES = 256


def write(file, magic: int, version: int, parts: list) -> None:
    """Write a file that begins as told above, then `parts`, to a file object."""
    n_bytes, crc = _START_BYTES, 0
    for part in parts:
        data = bytes(part)
        n_bytes, crc = n_bytes + len(data), crc32(data, crc)
    file.write(struct.pack(_START, magic, version, ABI_VERSION, n_bytes, crc))
    for part in parts:
        file.write(bytes(part))


class Blob:
    """A file that begins as told above. ValueError where it cannot be used; `what` names it in messages."""

    def __init__(self, source, magic: int, version: int, what: str) -> None:
        """`source` is a file's name, its bytes, or a file object that can seek."""
        self._owns = isinstance(source, str)
        self._file = open(source, "rb") if self._owns else source if hasattr(source, "read") else BytesIO(source)
        self._start = 0 if self._owns else self._file.seek(0, 1)
        self._what = what
        try:
            self._check(magic, version)
        except ValueError:
            self.close()
            raise

    def _check(self, magic: int, version: int) -> None:
        start = self._file.read(_START_BYTES)
        if len(start) < _START_BYTES:
            raise ValueError("%s is cut off: %d bytes" % (self._what, len(start)))
        found, its_version, abi_version, self.n_bytes, crc = struct.unpack(_START, start)
        if found != magic:
            raise ValueError("this is no %s" % self._what)
        if its_version != version or abi_version != ABI_VERSION:
            wanted = (its_version, abi_version, version, ABI_VERSION)
            raise ValueError("%s of version %d.%d; this module reads %d.%d" % ((self._what,) + wanted))
        left, computed = self.n_bytes - _START_BYTES, 0
        while left > 0:
            chunk = self._file.read(min(left, _CHUNK_BYTES))
            if not chunk:
                raise ValueError("%s is cut off: %d of %d bytes are missing" % (self._what, left, self.n_bytes))
            computed, left = crc32(chunk, computed), left - len(chunk)
        if computed != crc:
            raise ValueError("%s is damaged: CRC 0x%08x, not 0x%08x" % (self._what, computed, crc))

    def bytes(self, place: int, count: int) -> bytes:
        """`count` bytes from `place` on."""
        if place + count > self.n_bytes:
            raise ValueError("%s ends before byte %d" % (self._what, place + count))
        self._file.seek(self._start + place)
        return self._file.read(count)

    def array(self, typecode: str, place: int, count: int) -> "array[int]":
        """`count` numbers from `place` on."""
        item = struct.calcsize(typecode)
        if place % item:
            raise ValueError("%s has numbers of %d bytes at byte %d" % (self._what, item, place))
        return array(typecode, self.bytes(place, item * count))

    def unpack(self, layout: str, place: int) -> "tuple[int, ...]":
        """The integers of a struct at `place`."""
        return struct.unpack(layout, self.bytes(place, struct.calcsize(layout)))

    def close(self) -> None:
        """Close the file, if it was opened here."""
        if self._owns:
            self._file.close()
