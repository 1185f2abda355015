"""Flash and RAM of a firmware, read from its ELF file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from deltatrain.errors import BuildError

# Each board's linker script sets dt_<name>_start and dt_<name>_end; the firmware reads the same symbols.
WHOLE = "ram"
PARTS = ("arena", "link", "stack")


@dataclass(frozen=True)
class FirmwareSize:
    """Bytes of a firmware; `ram` is by purpose (arena, link, stack, other) and adds up to `ram_bytes`."""

    flash_bytes: int
    ram_bytes: int
    ram: dict[str, int]


def measure(path: Path) -> FirmwareSize:
    """Measure a firmware.

    Flash is all that is loaded, initial values of variables included; RAM is all between the linker script's
    `dt_ram_start` and `dt_ram_end`, stack included.

    Raises
    ------
    BuildError
        If the file is no ELF file, or lacks the symbols of a deltatrain firmware.
    """
    try:
        with path.open("rb") as file:
            elf = ELFFile(file)
            flash_bytes = sum(segment["p_filesz"] for segment in elf.iter_segments() if segment["p_type"] == "PT_LOAD")
            symbols = {
                symbol.name: int(symbol["st_value"])
                for table in elf.iter_sections()
                if isinstance(table, SymbolTableSection)
                for symbol in table.iter_symbols()
            }
        spans = {name: symbols[f"dt_{name}_end"] - symbols[f"dt_{name}_start"] for name in (WHOLE, *PARTS)}
    except (OSError, ELFError) as error:
        raise BuildError(f"{path} is no ELF file that can be read ({error}); export it again") from error
    except KeyError as error:
        raise BuildError(f"{path} is no deltatrain firmware: it has no symbol {error}; export it again") from error
    ram_bytes = spans.pop(WHOLE)
    return FirmwareSize(flash_bytes, ram_bytes, spans | {"other": ram_bytes - sum(spans.values())})
