"""Write the lookup tables of the C core (ctypes_core/deltatrain_core/src/drnn_tables.c).

    python tools/make_tables.py            # write the file
    python tools/make_tables.py --print    # to standard output

The entries are rounded from 40-digit decimals, so that the file is the same on every machine.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from pathlib import Path

TARGET = Path(__file__).parent.parent / "ctypes_core" / "deltatrain_core" / "src" / "drnn_tables.c"

SIGMOID_RANGE = 16  # σ is tabulated over [0, 16) ...
SIGMOID_STEPS_PER_UNIT = 32
EXP2_STEPS = 64

HEADER = """\
/* Written by tools/make_tables.py; do not edit. NUMERICS.md, "Tables". */
#include "drnn_tables.h"
"""


def sigmoid_above_half_q16(k: int) -> Decimal:
    """(σ(k / 32) − ½) · 2^16."""
    return (1 / (1 + (-Decimal(k) / SIGMOID_STEPS_PER_UNIT).exp()) - Decimal("0.5")) * 2**16


def sigmoid_entry(k: int) -> Decimal:
    """High half: the value at k, of odd k that at k + 1, 2^15 − 1 at most. Low half: twice the rise from k."""
    low, high = (
        min(sigmoid_above_half_q16(i).to_integral_value(ROUND_HALF_EVEN), Decimal(2**15 - 1)) for i in (k, k + 1)
    )
    return (high if k % 2 else low) * 2**16 + 2 * (high - low)


def exp2_negative_q30(k: int) -> Decimal:
    """2^(−k / 64) · 2^30."""
    return Decimal(2) ** (-Decimal(k) / EXP2_STEPS) * 2**30


def table(declaration: str, entry: Callable[[int], Decimal], count: int, suffix: str) -> str:
    """One C array of `count` entries, rounded to nearest."""
    values = [f"{int(entry(k).to_integral_value(ROUND_HALF_EVEN))}{suffix}" for k in range(count)]
    per_line = 10
    lines = [", ".join(values[i : i + per_line]) for i in range(0, count, per_line)]
    return f"\n{declaration} = {{\n    " + ",\n    ".join(lines) + "\n};\n"


def text() -> str:
    """The whole C file."""
    with localcontext() as context:
        context.prec = 40
        return (
            HEADER
            + table(
                "const uint32_t drnn_sigmoid_table[DRNN_SIGMOID_ENTRIES]",
                sigmoid_entry,
                SIGMOID_RANGE * SIGMOID_STEPS_PER_UNIT,
                "u",
            )
            + table("const uint32_t drnn_exp2_table[DRNN_EXP2_ENTRIES]", exp2_negative_q30, EXP2_STEPS + 1, "u")
        )


if __name__ == "__main__":
    if "--print" in sys.argv[1:]:
        sys.stdout.write(text())
    else:
        TARGET.write_text(text())
