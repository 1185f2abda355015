"""The firmware's C sources, and one folder a board; `deltatrain export` compiles them for a target."""

from __future__ import annotations

from pathlib import Path


def root() -> Path:
    """The folder that holds `include/`, `src/` and `boards/`."""
    return Path(__file__).resolve().parent


def include_dir() -> Path:
    """The folder of the protocol's header, `dt_protocol.h`."""
    return root() / "include"


def sources() -> list[Path]:
    """The C files that every board shares, in a fixed order."""
    return sorted((root() / "src").glob("*.c"))


def phases() -> Path:
    """The header that makes the core tell the time of each phase; its C file lies beside it."""
    return root() / "phases" / "dt_phase.h"


def baseline() -> Path:
    """The folder of the float32 network that `deltatrain bench` compares with; no part of any firmware but its own."""
    return root() / "baseline"
