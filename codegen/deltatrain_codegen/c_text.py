"""Numbers, names and comments as C source text."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

LINE_WIDTH = 110
INDENT = 4
_INT32_MIN = -(2**31)
# A digit after \x would be taken for a part of it, so bytes are written as three octal digits.
_ESCAPES = {ord('"'): '\\"', ord("\\"): "\\\\", ord("?"): "\\?"}


def integer(value: int) -> str:
    """A C constant expression of type int; -2^31 has no literal of its own."""
    return "(-2147483647 - 1)" if value == _INT32_MIN else str(value)


def string(text: str) -> str:
    """A C string literal with the bytes of `text` in UTF-8, in plain ASCII whatever `text` holds."""
    return '"' + "".join(_character(byte) for byte in text.encode()) + '"'


def _character(byte: int) -> str:
    if byte in _ESCAPES:
        return _ESCAPES[byte]
    return chr(byte) if 0x20 <= byte < 0x7F else f"\\{byte:03o}"


def comment(text: str) -> str:
    """Text for within a comment, in plain ASCII, without what would begin or end one."""
    plain = "".join(character if " " <= character <= "~" else "?" for character in text)
    return plain.replace("*/", "*?").replace("/*", "?*")


def comma_lines(values: Iterable[str], width: int = LINE_WIDTH - INDENT) -> list[str]:
    """Lines of at most `width` characters, each value followed by a comma."""
    return textwrap.wrap(
        " ".join(f"{value}," for value in values), width, break_long_words=False, break_on_hyphens=False
    )


def array_lines(values: Sequence[int], row_names: Sequence[str]) -> list[str]:
    """Initialiser lines of a row-major array, a comment with its name before each row.

    Parameters
    ----------
    values : sequence of int, length n_rows * row length
    row_names : sequence of str, length n_rows
    """
    length = len(values) // len(row_names)
    lines: list[str] = []
    for row, name in enumerate(row_names):
        lines.append(f"/* {name} */")
        lines += comma_lines(integer(value) for value in values[row * length : (row + 1) * length])
    return lines


def real(value: float) -> str:
    """A real number for a comment, four significant digits."""
    return f"{value:.4g}"
