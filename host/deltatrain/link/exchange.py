"""One command and its answer, over a line that damages, loses, doubles, stalls and closes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto

from deltatrain.errors import DeviceError
from deltatrain.link import protocol
from deltatrain.link.diagnosis import Heard
from deltatrain.link.frame import DELIMITER, Decoder, encode
from deltatrain.link.line import BAUD_RATE, Line, LineLost
from deltatrain.link.pacing import Pacing, RoundTrips

# At a bit error rate of 1e-3 one answer in four of 160 bytes arrives: that none of so many does is out of the question.
MAX_DAMAGED = 200
MAX_REOPENED = 20
REOPEN_EVERY_S = 0.1
# What has begun and not gone on for so long has lost its end.
GAP_S = 0.1
# What keeps coming without an end for so long is no frame.
LONGEST_FRAME_S = 1.0
# A device that is there answers a hello at once, or after the training step of a host that left.
HELLO_WAIT_S = 2.5
# So long something is listened to that talks, but is no device of ours.
FOREIGN_S = 3.0
BITS_PER_BYTE = 10  # on a serial line
HOW_TO_RECOVER = (
    "reset the board, or end the emulator (`deltatrain stop`) and start it again (`deltatrain flash`); "
    "the training step under way may or may not have been applied: the device's step counter tells"
)

_HELLO = protocol.enumerators("dt_command")["DT_CMD_HELLO"]
_NONE = protocol.enumerators("dt_command")["DT_CMD_NONE"]


class FrameTooLong(Exception):
    """Frames of this length hardly ever arrive whole now: cut them. Never leaves `Device`."""


class _Loss(Enum):
    """Why no answer came."""

    REQUEST = auto()  # the device says that ours was damaged
    REPLY = auto()  # the device's was damaged
    SILENCE = auto()


@dataclass(frozen=True)
class Reply:
    """Status and payload of an answer."""

    status: int
    payload: bytes


@dataclass
class Counters:
    """What happened on the line so far.

    Attributes
    ----------
    frames : int
        Sent, repeated ones included.
    repeated : int
        Of them, sent again.
    requests_damaged, replies_damaged, silences : int
        Why.
    reopened : int
        How often the line was opened again.
    bytes_out, bytes_in : int
        Over the line, to the device and from it.
    """

    frames: int = 0
    repeated: int = 0
    requests_damaged: int = 0
    replies_damaged: int = 0
    silences: int = 0
    reopened: int = 0
    bytes_out: int = 0
    bytes_in: int = 0


class Exchange:
    """Sends a command until it is answered, within bounds.

    Parameters
    ----------
    timeout : float
        Longest wait for an answer before the command is sent again, seconds.
    retries : int
        After 1 + retries such waits in silence the device is given up.
    reopen : float
        Seconds for which a line that closed is tried again; once a device has answered, not before.
    """

    def __init__(self, line: Line, timeout: float, retries: int, reopen: float) -> None:
        self.line = line
        self.outward, self.inward = Pacing(), Pacing()
        self.counters = Counters()
        self._retries = retries
        self._reopen_s = reopen
        self._round_trips = RoundTrips(timeout)
        self._decoder = Decoder()
        self._known = False  # a device of ours has answered
        self._heard = Heard()

    def ask(
        self,
        command: int,
        sequence: int,
        session: int,
        payload: bytes,
        *,
        cut_request: bool = False,
        cut_reply: int = 0,
        takes: float = 0.0,
        is_mine: Callable[[Reply], bool] = lambda reply: True,
    ) -> Reply:
        """The answer to a command.

        Parameters
        ----------
        cut_request : bool
            Whether the caller can send less at once.
        cut_reply : int
            Bytes of payload that it asks for, where it can ask for less at once; else 0.
        takes : float
            Seconds for which the device may be deaf and dumb over this command, as its flash is written: each wait for
            an answer is longer by so much. Others make up for themselves, by what their answers took before.
        is_mine : callable
            Whether an answer with the right command and number belongs to this session.

        Raises
        ------
        FrameTooLong
            Where the caller can cut, and the line no longer carries so much.
        DeviceError
            If no answer comes within the bounds.
        """
        head = protocol.pack("dt_request_t", command=command, sequence=sequence, session=session)
        # A second delimiter: where the first is damaged, the device complains at once, instead of waiting for more.
        frame = encode(head + payload) + DELIMITER
        longest = min(self._round_trips.longest, HELLO_WAIT_S) if command == _HELLO else self._round_trips.longest
        longest += takes
        started = time.monotonic()
        sent = damaged = reopened = 0
        waited = 0.0
        last: _Loss | None = None
        while True:
            wait = min(longest, takes + self._round_trips.wait(command))
            try:
                sent += 1
                self.counters.frames += 1
                self.counters.repeated += sent > 1
                sent_at = time.monotonic()
                self.counters.bytes_out += len(frame)
                self.line.write(frame)
                outcome = self._await(command, sequence, wait + len(frame) * BITS_PER_BYTE / BAUD_RATE, is_mine)
            except LineLost as loss:
                reopened += 1
                if not self._known or reopened > MAX_REOPENED:
                    raise
                self._reopen(loss)
                continue
            if isinstance(outcome, Reply):
                self._known = True
                if sent == 1:
                    self._round_trips.took(command, max(0.0, time.monotonic() - sent_at - takes))
                self.outward.whole(len(payload))
                self.inward.whole(len(outcome.payload))
                return outcome
            self._learn(outcome, again=outcome is last)
            last = outcome
            if outcome is _Loss.SILENCE:
                self._round_trips.expired(command)
                waited += wait
            else:
                damaged += 1
            talks_foreign = not self._known and self._heard.anything and time.monotonic() - started > FOREIGN_S
            if waited > (1 + self._retries) * longest - 1e-6 or damaged >= MAX_DAMAGED or talks_foreign:
                raise self._failure(command, len(frame) - 1, sent, time.monotonic() - started)
            if (cut_request and self.outward.hopeless(len(payload))) or self.inward.hopeless(cut_reply):
                raise FrameTooLong

    def _await(self, command: int, sequence: int, wait: float, is_mine: Callable[[Reply], bool]) -> Reply | _Loss:
        """The answer, or why it is time to send again."""
        deadline = time.monotonic() + wait
        damaged = self._decoder.damaged
        data = self.line.read(wait)
        while data:
            self.counters.bytes_in += len(data)
            if not self._known:
                self._heard.add(data)
            loss = None
            # All of them are looked at: the answer may follow a complaint about noise that stood before the command.
            for body in self._decoder.push(data):
                head = protocol.unpack("dt_reply_t", body)
                reply = Reply(int(head.status), body[protocol.HEADER_BYTES :])
                if (head.command, head.sequence) == (command | protocol.REPLY_FLAG, sequence) and is_mine(reply):
                    return reply
                if head.command == _NONE | protocol.REPLY_FLAG:
                    self._known = True
                    loss = _Loss.REQUEST
                elif not self._known:
                    self._heard.frame(body)
                # Else an answer to what was sent twice and has been taken already, or of a session that is over.
            if loss is not None:
                return loss
            if self._decoder.damaged != damaged:
                return _Loss.REPLY
            left = deadline - time.monotonic()
            if self._decoder.under_way:
                left = min(GAP_S, left + LONGEST_FRAME_S)
            data = self.line.read_more(left) if left > 0 else b""
            if not data and self._decoder.under_way:
                # Perhaps nothing but its end is missing.
                data = DELIMITER
        return _Loss.SILENCE

    def _learn(self, loss: _Loss, again: bool) -> None:
        self.counters.requests_damaged += loss is _Loss.REQUEST
        self.counters.replies_damaged += loss is _Loss.REPLY
        self.counters.silences += loss is _Loss.SILENCE
        if loss is _Loss.SILENCE and not again:
            return  # a PC or a device that is busy says nothing about the line
        if loss is not _Loss.REPLY:
            self.outward.damaged()
        if loss is not _Loss.REQUEST:
            self.inward.damaged()

    def _reopen(self, loss: LineLost) -> None:
        """Open the line again; DeviceError when that takes too long."""
        self._decoder.clear()
        self.counters.reopened += 1
        deadline = time.monotonic() + self._reopen_s
        while True:
            try:
                self.line.reopen()
                return
            except DeviceError as error:
                if time.monotonic() >= deadline:
                    raise DeviceError(f"{loss}; it could not be opened again for {self._reopen_s:g} s") from error
            time.sleep(REOPEN_EVERY_S)

    def _failure(self, command: int, n_bytes: int, sent: int, seconds: float) -> DeviceError:
        counters = self.counters
        told = (
            f"{self.line.url} gave no valid answer to {protocol.command_name(command)} ({n_bytes} bytes, sent "
            f"{sent} times) in {seconds:.1f} s"
        )
        if not self._known:
            return DeviceError(f"{told}. {self._heard.diagnosis()}")
        return DeviceError(
            f"{told}; of {counters.frames} frames sent so far, {counters.requests_damaged} arrived damaged there and "
            f"{counters.replies_damaged} answers here ({self._decoder.damaged} damaged frames), and "
            f"{counters.silences} were not answered. The device hangs or was unplugged, or the line is too bad: "
            f"{HOW_TO_RECOVER}"
        )
