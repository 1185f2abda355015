"""The protocol's numbers and structs, taken from the very headers that the firmware compiles.

`dt_protocol.h`, `dt_slot.h`, `drnn_types.h` and `drnn_image.h` are parsed by cffi; nothing of them is written down a
second time.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any, Final

from cffi import FFI

import deltatrain_core
import deltatrain_firmware

HEADERS: Final = (
    deltatrain_core.include_dir() / "drnn_types.h",
    deltatrain_core.include_dir() / "drnn_image.h",
    deltatrain_firmware.include_dir() / "dt_protocol.h",
    deltatrain_firmware.include_dir() / "dt_slot.h",
)
_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
_NUMBER = re.compile(r"#define \w+ (0x[0-9A-Fa-f]+|\d+)\s*$")
_STATUS = re.compile(r"^\s*(?:DT|DRNN)_ERR_\w+ = (-\d+),?\s*/\* (.*?) \*/", re.MULTILINE)

if sys.byteorder != "little":  # pragma: no cover
    raise ImportError("deltatrain.link lays out messages as the PC does, which must be little-endian")


def declarations(header: Path) -> str:
    """A header as cffi's parser takes it: comments dropped, and directives other than integer constants."""
    lines = _COMMENT.sub("", header.read_text(encoding="utf-8")).splitlines()
    return "\n".join(line for line in lines if not line.startswith("#") or _NUMBER.match(line))


_ffi: Final = FFI()
for _header in HEADERS:
    _ffi.cdef(declarations(_header))
# No library is behind it: the C functions that a process has anyway, for the constants' sake.
_lib: Final = _ffi.dlopen(None)

_STATUS_TEXTS: Final = {
    int(code): text for header in HEADERS for code, text in _STATUS.findall(header.read_text(encoding="utf-8"))
}


def constant(name: str) -> int:
    """The value of a `#define` or of an enumerator, by its C name."""
    return int(getattr(_lib, name))


def enumerators(enum: str) -> dict[str, int]:
    """All names of a C enum with their values; `enum` as in `dt_command`."""
    return {str(name): int(value) for name, value in _ffi.typeof(f"enum {enum}").relements.items()}


def size_of(struct: str) -> int:
    """Bytes of a struct, by its C name."""
    return int(_ffi.sizeof(struct))


def fields_of(struct: str) -> tuple[str, ...]:
    """Names of a struct's fields, in order."""
    return tuple(name for name, _ in _ffi.typeof(struct).fields)


def layout_of(struct: str) -> tuple[tuple[str, int, str], ...]:
    """Name, offset and C type of a struct's fields, in order."""
    return tuple((name, int(field.offset), str(field.type.cname)) for name, field in _ffi.typeof(struct).fields)


def field_size(struct: str, field: str) -> int:
    """Bytes of one field."""
    return int(_ffi.sizeof(dict(_ffi.typeof(struct).fields)[field].type))


def pack(struct: str, **values: Any) -> bytes:
    """The bytes of a struct; fields that are not named are 0."""
    return bytes(_ffi.buffer(_ffi.new(f"{struct} *", values)))


def unpack(struct: str, data: bytes) -> Any:
    """A struct at the start of `data`, as an object with the C field names.

    ValueError when `data` is too short. Arrays of bytes are read by `bytes_of`.
    """
    if len(data) < size_of(struct):
        raise ValueError(f"{struct} takes {size_of(struct)} bytes, {len(data)} arrived")
    value = _ffi.new(f"{struct} *")
    _ffi.memmove(value, data, size_of(struct))
    return value


def bytes_of(array: Any) -> bytes:
    """A struct's array field, as bytes."""
    return bytes(_ffi.buffer(array))


def status_text(status: int) -> str:
    """What a negative status means: the comment behind it in the header."""
    return str(_STATUS_TEXTS.get(status, f"unknown status {status}"))


VERSION: Final = constant("DT_PROTOCOL_VERSION")
ABI_VERSION: Final = constant("DRNN_ABI_VERSION")
MAGIC: Final = constant("DT_MAGIC")
HEADER_BYTES: Final = constant("DT_HEADER_BYTES")
CRC_BYTES: Final = constant("DT_CRC_BYTES")
REPLY_FLAG: Final = constant("DT_REPLY_FLAG")
FIRST_EFFECT: Final = constant("DT_FIRST_EFFECT")
V_MAX: Final = constant("DRNN_V_MAX")
TARGET_MAX: Final = constant("DRNN_TARGET_MAX")
NO_CLASS: Final = constant("DT_NO_CLASS")
TARGETS: Final = enumerators("dt_targets")

COMMANDS: Final = {value: name.removeprefix("DT_CMD_") for name, value in enumerators("dt_command").items()}
CELLS: Final = {value: name.removeprefix("DRNN_").lower() for name, value in enumerators("drnn_cell").items()}
MEMORIES: Final = {value: name.removeprefix("DRNN_").lower() for name, value in enumerators("drnn_memory").items()}
EVENTS_STATUS: Final = constant("DRNN_ERR_EVENTS")
READOUTS: Final = {value: name.removeprefix("DRNN_").lower() for name, value in enumerators("drnn_readout").items()}
STORES: Final = {value: name.removeprefix("DT_STORE_").lower() for name, value in enumerators("dt_store").items()}
COUNTERS: Final = {value: name.removeprefix("DT_COUNTER_").lower() for name, value in enumerators("dt_counter").items()}
FAULTS: Final = {value: name.removeprefix("DT_FAULT_").lower() for name, value in enumerators("dt_fault").items()}


def command_name(command: int) -> str:
    """A command as people call it."""
    return COMMANDS.get(command, f"0x{command:02X}")
