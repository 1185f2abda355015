"""How much of a sample's history a device holds at once, and for how many events it has room: `drnn_model_t`.

No word that training computes depends on it, but what is refused: a sample whose events exceed the budget.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from deltatrain.errors import InputError

KINDS = ("history", "checkpoints", "inference")
BUDGET_ONE = 2**16
IN_WORDS = {
    "history": "the whole sample's history",
    "checkpoints": "checkpoints every {steps} frames",
    "inference": "inference only",
}


@dataclass(frozen=True)
class Memory:
    """A plan of memory.

    Attributes
    ----------
    kind : {"history", "checkpoints", "inference"}
        Whether the whole history is held, that of a segment, or that of one frame (which cannot train).
    segment_steps : int
        Frames of a segment, of `checkpoints`; else 0.
    event_budget : int
        Events that the history has room for, as a part of all entries of all frames that it holds, in 2^-16; 0: all.
    """

    kind: str = "history"
    segment_steps: int = 0
    event_budget: int = 0

    def window(self, max_steps: int) -> int:
        """Frames whose history is held at once."""
        return {"history": max_steps, "checkpoints": self.segment_steps, "inference": 1}[self.kind]

    def max_events(self, width: int, max_steps: int) -> int:
        """Events of a layer of `width` entries for which a window has room: those of one frame at least."""
        everything = self.window(max_steps) * width
        if not self.event_budget:
            return everything
        return max(width, -(-everything * self.event_budget // BUDGET_ONE))

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; `from_dict` gives back an equal plan."""
        return {"kind": self.kind, "segment_steps": self.segment_steps, "event_budget": self.event_budget}

    @staticmethod
    def from_dict(values: dict[str, Any] | None) -> Memory:
        """InputError where there is no such plan; the whole history where none is told."""
        memory = Memory(**(values or {}))
        if memory.kind not in KINDS:
            raise InputError(f"the plan of memory {memory.kind!r} is unknown; it must be one of {', '.join(KINDS)}")
        return memory

    def __str__(self) -> str:
        words = IN_WORDS[self.kind].format(steps=self.segment_steps)
        if self.event_budget:
            words += f", room for {self.event_budget / BUDGET_ONE:.1%} of all events"
        return words


WHOLE_HISTORY = Memory()


def budget_of(fraction: float | None) -> int:
    """An event budget as the device takes it, rounded up; None is room for all. InputError outside (0, 1)."""
    if fraction is None:
        return 0
    if not 0 < fraction <= 1:
        raise InputError(f"the event budget is {fraction}; it must lie above 0 and be at most 1, which is room for all")
    units = -int(-fraction * BUDGET_ONE // 1)
    return 0 if units >= BUDGET_ONE else units
