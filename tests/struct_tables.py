"""Tables of structs, as pages of the documentation have them: held against the headers that C compiles."""

from __future__ import annotations

import re

from deltatrain.link import protocol

C_TYPES = {
    "uint8_t": "u8",
    "int8_t": "i8",
    "uint16_t": "u16",
    "int16_t": "i16",
    "uint32_t": "u32",
    "int32_t": "i32",
    "uint64_t": "u64",
}
Rows = list[tuple[int, str, str]]


def tables(page: str) -> dict[str, tuple[int, Rows]]:
    """Struct name -> (bytes, rows of offset, type, field) as the page has them."""
    found = {}
    for name, size, table in re.findall(r"^`(\w+)`, (\d+) bytes:\n\n((?:\|.*\n)+)", page, re.MULTILINE):
        rows = re.findall(r"^\| (\d+) \| `?([^|`]+?)`? \| `(\w+)` \|", table, re.MULTILINE)
        found[name] = (int(size), [(int(at), kind, field) for at, kind, field in rows])
    return found


def layout(struct: str, also: dict[str, str] | None = None) -> tuple[int, Rows]:
    """The same of the struct as C lays it out; `also` has the page's names of further types."""
    names = C_TYPES | (also or {})

    def page_type(c_name: str) -> str:
        base, _, length = c_name.partition("[")
        return names.get(base, base) + ("[" + length if length else "")

    rows = [(at, page_type(kind), field) for field, at, kind in protocol.layout_of(struct)]
    return protocol.size_of(struct), rows
