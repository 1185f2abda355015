"""How much to put into one frame, and how long to wait for its answer: both follow what the line does."""

from __future__ import annotations

from dataclasses import dataclass, field

START_BYTES = 256
FLOOR_BYTES = 48
# Half of what a frame costs beside its payload: heads, CRC, delimiters, its answer, the turn-around.
GROWTH_BYTES = 32.0
FIRST_WAIT_S = 1.0
SHORTEST_WAIT_S = 0.1


@dataclass
class Pacing:
    """The payload of frames of one direction: additive increase, multiplicative decrease.

    At a bit error rate p a frame of n bytes is damaged with probability 8 p n, as long as that is small. Halving upon
    damage and growing by g n / size otherwise settles where 8 p size² = 2 g: with g half the overhead of a frame, that
    is the size which carries most. Until the first damage it doubles.

    Attributes
    ----------
    limit : int
        Bytes that the device takes and gives at most.
    size : float
        Bytes of payload to send at once.
    """

    limit: int = START_BYTES
    size: float = START_BYTES
    _doubling: bool = True

    def items(self, head: int, item: int) -> int:
        """How many items of `item` bytes go behind `head` bytes; one at least."""
        return max(1, (min(self.limit, int(self.size)) - head) // item)

    def whole(self, n: int) -> None:
        """A frame with n bytes of payload arrived."""
        share = min(1.0, n / self.size)
        self.size = min(self.limit, self.size + share * (self.size if self._doubling else GROWTH_BYTES))

    def damaged(self) -> None:
        """A frame, of whatever length, did not."""
        self._doubling = False
        self.size = max(FLOOR_BYTES, self.size / 2)

    def hopeless(self, n: int) -> bool:
        """Whether n bytes are far more than the line carries at once now."""
        return n > 2 * self.size


@dataclass
class RoundTrips:
    """How long each command's answer takes: its mean and deviation, as TCP has them (RFC 6298).

    Sending again too early does no harm, so a step that takes longer than those before costs a frame or two; waiting
    too long for what is lost costs the wait.
    """

    longest: float
    _known: dict[int, tuple[float, float]] = field(default_factory=dict)
    _waits: dict[int, float] = field(default_factory=dict)

    def wait(self, command: int) -> float:
        """Seconds after which to send again."""
        return min(self.longest, self._waits.get(command, FIRST_WAIT_S))

    def took(self, command: int, seconds: float) -> None:
        """An answer to what was sent once: its time is known for certain."""
        mean, deviation = self._known.get(command, (seconds, seconds / 2))
        deviation += (abs(seconds - mean) - deviation) / 4
        mean += (seconds - mean) / 8
        self._known[command] = mean, deviation
        self._waits[command] = max(SHORTEST_WAIT_S, mean + 4 * deviation)

    def expired(self, command: int) -> None:
        """No answer came in time: be more patient until one does."""
        self._waits[command] = min(self.longest, 2 * self.wait(command))
