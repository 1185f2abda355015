"""What the ticks of a device's counter are: instructions, cycles, or time."""

from __future__ import annotations

from dataclasses import dataclass

from deltatrain.targets.board import find_board

INSTRUCTIONS, CYCLES, MICROSECONDS = "instructions", "cycles", "microseconds"


@dataclass(frozen=True)
class Counter:
    """A device's counter.

    Attributes
    ----------
    unit : {"instructions", "cycles", "microseconds"}
        Instructions of an emulator whose timer counts them; cycles of the processor; else time.
    ticks_per_unit : (int, int)
        As a fraction.
    hz : int
        Ticks per second; where they are cycles, the processor's clock.
    """

    unit: str
    ticks_per_unit: tuple[int, int]
    hz: int

    @staticmethod
    def of(board: str, kind: str, hz: int) -> Counter:
        """What is known of it by what the firmware says: its board, what its ticks are, how many there are a second.

        The same firmware may run on a chip and in an emulator: only where its timer has the emulated one's rate are
        its ticks taken for instructions.
        """
        if kind == "cycles":
            return Counter(CYCLES, (1, 1), hz)
        emulated = find_board(board, hz)
        if emulated is not None and emulated.ticks_per_instruction is not None:
            return Counter(INSTRUCTIONS, emulated.ticks_per_instruction, hz)
        return Counter(MICROSECONDS, (hz, 1_000_000), hz)

    def units(self, ticks: int) -> float:
        """So many ticks in the counter's unit: a whole number of instructions or cycles, or microseconds."""
        numerator, denominator = self.ticks_per_unit
        if self.unit == MICROSECONDS:
            return round(ticks * denominator / numerator, 1)
        return ticks * denominator // numerator
