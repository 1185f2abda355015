"""The C core and its Python binding.

`sources()` and `include_dir()` name the C files for cross builds; `CoreNetwork` runs them on this machine.
"""

from __future__ import annotations

from pathlib import Path

from deltatrain_core.network import NO_CLASS, NO_VALUE, CoreError, CoreNetwork, StepResult, arena_plan, arena_sizes

__all__ = [
    "NO_CLASS",
    "NO_VALUE",
    "CoreError",
    "CoreNetwork",
    "StepResult",
    "arena_plan",
    "arena_sizes",
    "include_dir",
    "sources",
]

_HERE = Path(__file__).resolve().parent


def include_dir() -> Path:
    """The folder of the public headers, drnn.h first of all."""
    return _HERE / "include"


def sources() -> list[Path]:
    """The C files of the core, sorted; their private headers lie beside them."""
    return sorted((_HERE / "src").glob("*.c"))
