"""From a quantised model to C sources, firmware, or a library for a program of one's own."""

from deltatrain_codegen.build import ExportResult, export
from deltatrain_codegen.elf import FirmwareSize, measure
from deltatrain_codegen.generate import generate
from deltatrain_codegen.library import LibraryResult, export_library
from deltatrain_codegen.memory import check_fits, for_inference, plan_memory, ram_needed
from deltatrain_codegen.plan import ArenaPlan, arena_bytes, arena_plan

__all__ = [
    "ArenaPlan",
    "ExportResult",
    "FirmwareSize",
    "LibraryResult",
    "arena_bytes",
    "arena_plan",
    "check_fits",
    "export",
    "export_library",
    "for_inference",
    "generate",
    "measure",
    "plan_memory",
    "ram_needed",
]
