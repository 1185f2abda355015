"""Firmware that does something else before its own main: how tests make a board fail."""

from __future__ import annotations

import subprocess
from pathlib import Path

from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from deltatrain.quant_model import QuantModel
from deltatrain.targets import Board
from deltatrain_codegen import generate
from deltatrain_codegen.build import compile_flags, firmware_sources, link_flags


def build_variant(board: Board, model: QuantModel, folder: Path, main: str, *flags: str) -> Path:
    """The firmware with `main` put before its own: `int __real_main(void)` is the true one.

    `flags` are further ones of the compiler, `-Wl,--wrap=NAME` for another function than `main`.
    """
    for name, text in generate(model).items():
        (folder / name).write_text(text, encoding="utf-8")
    extra = folder / "before_main.c"
    extra.write_text('#include "dt_board.h"\nint __real_main(void);\nint __wrap_main(void);\n' + main)
    sources = [*firmware_sources(board), folder / "dt_model.c", extra]
    elf = folder / "variant.elf"
    all_flags = ("-std=gnu11", "-O1", *compile_flags(board, folder), "-Wl,--wrap=main", *flags, *link_flags(board))
    subprocess.run([board.compiler, *all_flags, *map(str, sources), "-lgcc", "-o", str(elf)], check=True)
    return elf


# In the order of `wanted`: what makes a processor fault, by the link's name of the fault where it has one.
FAULTS = ("usage", "bus", "alignment", "stack", "watchdog")
FAILING = """
#include "drnn.h"

static volatile uint32_t started_before __attribute__((section(".bss.dt_noinit")));
static volatile uint32_t hung_before __attribute__((section(".bss.dt_noinit")));
volatile uint32_t wanted __attribute__((section(".bss.dt_noinit")));
static volatile uint32_t depth;
static uint32_t words[2];

__attribute__((noinline)) static uint32_t fail_at(uint32_t n)
{
    volatile uint32_t room[64];
    room[n % 64u] = n;
    depth = n;
    return fail_at(n + 1u) + room[0];
}

int __wrap_main(void)
{
    if (started_before != 0x600DCAFEu) {
        started_before = 0x600DCAFEu;
        switch (wanted) {
        case 0:
            __builtin_trap();
        case 1:
            *(volatile uint32_t *)NOTHING_THERE = 1;
            break;
        case 2: {
            uintptr_t odd = (uintptr_t)words + 1u;
            __asm__ volatile("" : "+r"(odd)); /* or the compiler stores the bytes one by one */
            *(volatile uint32_t *)odd = 1;
            break;
        }
        case 3:
            (void)fail_at(0);
        }
    }
    return __real_main();
}

int __real_drnn_begin(drnn_t *net);
int __wrap_drnn_begin(drnn_t *net);
int __wrap_drnn_begin(drnn_t *net)
{
    if (wanted == 4 && hung_before != 0x600DCAFEu) { /* what QEMU was told is there again after a restart */
        hung_before = 0x600DCAFEu;
        for (;;) {
        }
    }
    return __real_drnn_begin(net);
}
"""


def build_failing(board: Board, model: QuantModel, folder: Path, nothing_there: int) -> Path:
    """Firmware that fails as `want` says at its first start, or hangs in its first DT_CMD_BEGIN, and not again.

    `nothing_there` is an address at which the board has neither memory nor device. The watchdog waits for two beats.
    """
    main = f"#define NOTHING_THERE {nothing_there:#x}u\n{FAILING}"
    return build_variant(board, model, folder, main, "-Wl,--wrap=drnn_begin", "-DDT_WATCHDOG_BEATS=2u")


def symbol(elf: Path, name: str) -> int:
    """The address of a variable of a firmware."""
    with elf.open("rb") as file:
        table = ELFFile(file).get_section_by_name(".symtab")
        assert isinstance(table, SymbolTableSection)
        (address,) = (entry["st_value"] for entry in table.iter_symbols() if entry.name == name)
    return int(address)


def want(elf: Path, fault: str) -> list[str]:
    """What QEMU must be told so that this firmware fails in this way."""
    return ["-device", f"loader,addr={symbol(elf, 'wanted'):#x},data={FAULTS.index(fault)},data-len=4"]
