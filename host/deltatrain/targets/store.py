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
    erase_ms, program_us : int
        How long erasing a page and programming `write_bytes` may take, as its maker says; 0: no time to speak of.
    """

    origin: int
    page_bytes: int
    pages: int
    write_bytes: int
    sources: tuple[Path, ...]
    erase_cycles: int | None = None
    erase_ms: int = 0
    program_us: int = 0

    @property
    def n_bytes(self) -> int:
        """All of it."""
        return self.pages * self.page_bytes

    @property
    def slot_bytes(self) -> int:
        """Room for one commit."""
        return self.pages // 2 * self.page_bytes

    @property
    def commit_s(self) -> float:
        """Seconds that the memory may take for a commit that fills its slot."""
        return self.pages // 2 * self.erase_ms / 1e3 + self.slot_bytes // self.write_bytes * self.program_us / 1e6

    @property
    def forget_s(self) -> float:
        """Seconds that it may take to forget all commits; the few words that are programmed do not count."""
        return self.pages * self.erase_ms / 1e3

    def to_dict(self) -> dict[str, int | float | None]:
        """JSON-ready: numbers alone."""
        numbers = {key: value for key, value in vars(self).items() if key != "sources"}
        return numbers | {
            "bytes": self.n_bytes,
            "slot_bytes": self.slot_bytes,
            "commit_s": self.commit_s,
            "forget_s": self.forget_s,
        }

    @staticmethod
    def of(table: dict[str, Any], folder: Path) -> Store:
        """The table `[store]` of a board's description; files are relative to its folder."""
        return Store(**{**table, "sources": tuple((folder / name).resolve() for name in table["sources"])})
