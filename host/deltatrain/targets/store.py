"""A board's non-volatile memory, as its folder describes it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Store:
    """Where a board keeps commits: docs/POWER_LOSS.md.

    Attributes
    ----------
    origin : int
        Where the processor reads it.
    page_bytes, pages : int
        What is erased at once, and how often it is there; each of the two slots has half of them.
    write_bytes : int
        What is programmed at once.
    sources : tuple of Path
        Its driver: `dt_flash.h`.
    erase_cycles : int or None
        How often a page may be erased, as its maker says; None: without limit.
    """

    origin: int
    page_bytes: int
    pages: int
    write_bytes: int
    sources: tuple[Path, ...]
    erase_cycles: int | None = None

    @property
    def n_bytes(self) -> int:
        """All of it."""
        return self.pages * self.page_bytes

    @property
    def slot_bytes(self) -> int:
        """Room for one commit."""
        return self.pages // 2 * self.page_bytes

    def to_dict(self) -> dict[str, int | None]:
        """JSON-ready: numbers alone."""
        numbers = {key: value for key, value in vars(self).items() if key != "sources"}
        return numbers | {"bytes": self.n_bytes, "slot_bytes": self.slot_bytes}

    @staticmethod
    def of(table: dict[str, Any], folder: Path) -> Store:
        """The table `[store]` of a board's description; files are relative to its folder."""
        return Store(**{**table, "sources": tuple((folder / name).resolve() for name in table["sources"])})
