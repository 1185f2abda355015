"""CRC-32, that of zlib: by the port where it has it, else half a byte at a time."""


def _make_table() -> "list[int]":
    table = []
    for value in range(16):
        for _ in range(4):
            value = (value >> 1) ^ (0xEDB88320 if value & 1 else 0)
        table.append(value)
    return table


_TABLE = _make_table()


def slow_crc32(data: bytes, crc: int = 0) -> int:
    """CRC-32 of data that come after others of CRC-32 `crc`."""
    crc ^= 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        crc = (crc >> 4) ^ _TABLE[crc & 15]
        crc = (crc >> 4) ^ _TABLE[crc & 15]
    return crc ^ 0xFFFFFFFF


try:
    import binascii

    crc32 = getattr(binascii, "crc32", slow_crc32)  # some ports leave it out
except ImportError:
    crc32 = slow_crc32
