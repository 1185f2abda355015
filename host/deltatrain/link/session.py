"""A session with a device: hello, sequence numbers, and what happens when the device knows it no more."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from deltatrain.errors import DeviceError, LinkInterrupted, SampleRefused
from deltatrain.key import KEY_VARIABLE, Key
from deltatrain.link import protocol
from deltatrain.link.exchange import Counters, Exchange, FrameTooLong, Reply
from deltatrain.link.frame import encode
from deltatrain.link.line import Line
from deltatrain.link.results import Hello

DEFAULT_TIMEOUT_S = 5.0
DEFAULT_RETRIES = 3
DEFAULT_REOPEN_S = 10.0
_CMD = protocol.enumerators("dt_command")
_SEQUENCE, _DUPLICATE = protocol.constant("DT_ERR_SEQUENCE"), protocol.constant("DT_ERR_DUPLICATE")
# What a device answers whose session this is no more.
_LOST_SESSION = frozenset({protocol.constant("DT_ERR_SESSION"), _SEQUENCE, _DUPLICATE})
_WRONG_VERSION = protocol.constant("DT_ERR_VERSION")
_LOCKED = protocol.constant("DT_ERR_LOCKED")
_UNLOCKING = frozenset({"DT_CMD_CHALLENGE", "DT_CMD_UNLOCK"})  # never locked themselves

_WHAT_TO_DO = {
    _LOCKED: f"; give the key that it was exported with, by --key FILE or {KEY_VARIABLE}",
    protocol.constant("DT_ERR_KEY"): "; give the key that this device was exported with. After some wrong ones in a "
    "row it must be restarted before it takes another",
}


class RefusedError(DeviceError):
    """The device answered, and said no; `status` is its code (enum dt_status or drnn_error)."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class RefusedSampleError(RefusedError, SampleRefused):
    """The device dropped the sample, whose events exceed its model's budget, and counted it."""


class LinkSession:
    """A session with a device that runs deltatrain's firmware.

    Parameters
    ----------
    line : Line
        Given back by `close`.
    timeout : float
        Longest wait for an answer before a command is sent again, seconds.
    retries : int
        The device is given up after 1 + retries such waits in silence: a training step must take less. None is executed
        twice, however often it is sent.
    reopen : float
        Seconds for which a line that closed is tried again.
    key : Key, optional
        Unlocks a locked device: at every hello, and where it has locked itself again within the session.

    What the line does to frames is mended as long as it carries any (see docs/LINK.md). Every method raises DeviceError
    when no valid answer comes; RefusedError, which is one too, when the device refuses the command; LinkInterrupted
    when the device restarted or another program took the session: then a new one is open.
    """

    def __init__(
        self,
        line: Line,
        timeout: float = DEFAULT_TIMEOUT_S,
        retries: int = DEFAULT_RETRIES,
        reopen: float = DEFAULT_REOPEN_S,
        key: Key | None = None,
    ) -> None:
        self._line = line
        self._key = key
        self._unlocked = False
        self._recovering = False
        self._link = Exchange(line, timeout, retries, reopen)
        self._nonce = 0
        self._effects = 0  # sequence number of the last command with an effect
        self._queries = 0  # of the last command without one
        self._hello: Hello | None = None

    @classmethod
    def open(
        cls,
        url: str,
        timeout: float = DEFAULT_TIMEOUT_S,
        retries: int = DEFAULT_RETRIES,
        reopen: float = DEFAULT_REOPEN_S,
        key: Key | None = None,
    ) -> Self:
        """Open a line (see `Line`) and say hello; DeviceError, with what was heard, when nothing of ours answers."""
        device = cls(Line(url), timeout, retries, reopen, key)
        try:
            device.hello()
        except BaseException:
            device.close()
            raise
        return device

    def close(self) -> None:
        """Give the line back; a device that was unlocked is locked again, whoever comes next."""
        if self._unlocked:
            nonce = secrets.randbits(32)
            head = protocol.pack("dt_request_t", command=_CMD["DT_CMD_HELLO"], session=nonce & 0xFFFF)
            with contextlib.suppress(DeviceError):
                self._line.write(encode(head + _hello_payload(nonce)))
        self._line.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def info(self) -> Hello:
        """What the device said in the last hello."""
        return self._hello if self._hello is not None else self.hello()

    @property
    def counters(self) -> Counters:
        """What the line did so far."""
        return self._link.counters

    def hello(self) -> Hello:
        """Open a session, which ends any other and drops an unfinished sample; unlocked, where the key is known."""
        self._nonce = secrets.randbits(32)
        self._effects = self._queries = 0
        request = _hello_payload(self._nonce)
        nonce = self._nonce.to_bytes(4, "little")
        try:
            # A late answer to another program's hello bears that one's nonce.
            reply = self._exchange(
                _CMD["DT_CMD_HELLO"], 0, request, is_mine=lambda r: r.status < 0 or r.payload.startswith(nonce)
            )
        except RefusedError as refusal:
            if refusal.status != _WRONG_VERSION:
                raise
            raise DeviceError(
                f"the firmware at {self._line.url} speaks another version of the protocol than this program "
                f"({protocol.VERSION}); export and flash it again"
            ) from refusal
        # What other versions answer may be of another length, but begins alike.
        raw = self._unpack("dt_hello_reply_t", reply.ljust(protocol.size_of("dt_hello_reply_t"), b"\0"))
        if (raw.version, raw.abi_version) != (protocol.VERSION, protocol.ABI_VERSION):
            raise DeviceError(
                f"the firmware at {self._line.url} has protocol {raw.version} and core ABI "
                f"{raw.abi_version}, this program {protocol.VERSION} and {protocol.ABI_VERSION}; "
                "export and flash it again"
            )
        hello = Hello.of(self._unpack("dt_hello_reply_t", reply))
        if fault := hello.impossible():
            raise DeviceError(f"{self._line.url} speaks another dialect ({fault}); export and flash its firmware again")
        self._hello = hello
        self._link.outward.limit = self._link.inward.limit = hello.max_payload
        self._opened(hello)
        if hello.locks and self._key is not None:
            self.unlock(self._key)
        return self.info

    def unlock(self, key: Key) -> None:
        """Prove to a locked device that the key is known, now and after every hello to come.

        RefusedError when it is another device's key.
        """
        answer = self._unpack("dt_challenge_t", self._query("DT_CMD_CHALLENGE"))
        proof = key.proof(self.info.hash, protocol.bytes_of(answer.challenge), self._nonce)
        self._effect("DT_CMD_UNLOCK", protocol.pack("dt_unlock_t", proof=list(proof)))
        self._key, self._unlocked = key, True
        if self.info.locks:  # else it had locked itself again: whoever holds the hello sees that it is the same session
            self._hello = replace(self.info, locks=0)

    def _opened(self, hello: Hello) -> None:
        """A new session is open: for subclasses, which forget here what belonged to the old one."""

    # ---- commands

    def _query(self, name: str, payload: bytes = b"", cut_reply: int = 0) -> bytes:
        """A command without effect: it may be executed any number of times."""
        return self._command(name, self._next_number(name), payload, cut_reply=cut_reply)

    def _effect(self, name: str, payload: bytes = b"", takes: float = 0.0) -> bytes:
        """A command with an effect: the sequence number lets the device execute it once; `takes` as for `Exchange`."""
        return self._command(name, self._next_number(name), payload, takes=takes)

    def _next_number(self, name: str) -> int:
        """The sequence number of a new command: those with an effect are counted apart."""
        if _CMD[name] >= protocol.FIRST_EFFECT:
            self._effects = (self._effects + 1) & 0xFF
            return self._effects
        self._queries = (self._queries + 1) & 0xFF
        return self._queries

    def _part(
        self,
        name: str,
        rest: int,
        at_once: Callable[[], int],
        payload: Callable[[int], bytes],
        reply_bytes: int = 0,
    ) -> tuple[int, bytes | None]:
        """As `_effect`, for the first of `rest` items: cut until the line carries them, all under one number.

        Parameters
        ----------
        at_once : callable
            How many items the line carries at once.
        payload : callable
            The request with so many.
        reply_bytes : int
            Of an item, in the reply.

        Returns
        -------
        int
            The least number that was sent, before the device answered one of the requests.
        bytes or None
            The answer; None when the device answered one that was cut since, took it or refused it, and that answer is
            lost.
        """
        self._next_number(name)
        sent: int | None = None
        while True:
            count = min(rest, at_once())
            try:
                reply = self._command(
                    name,
                    self._effects,
                    payload(count),
                    cut_request=count > 1,
                    cut_reply=count * reply_bytes if count > 1 else 0,
                    cut_before=sent is not None,
                )
            except FrameTooLong:
                sent = count
            except RefusedError as refusal:
                if refusal.status == _SEQUENCE and sent is not None:
                    return sent, None
                raise
            else:
                return count, reply

    def _command(self, name: str, sequence: int, payload: bytes, cut_before: bool = False, **how: Any) -> bytes:
        """The answer to a command of this session; LinkInterrupted where the device knows the session no more.

        `cut_before` says that a longer command was sent under the same number, which the device may have executed.
        Where the device has locked itself meanwhile, and the key is known, it is unlocked and asked again, once: what
        it refused as locked it has not executed. The number is another then, for the refusal used up the first.
        """
        try:
            try:
                return self._exchange(_CMD[name], sequence, payload, **how)
            except RefusedError as refusal:
                if refusal.status != _LOCKED or self._key is None or name in _UNLOCKING:
                    raise
                self.unlock(self._key)
                cut_before = False
                return self._exchange(_CMD[name], self._next_number(name), payload, **how)
        except RefusedError as refusal:
            if refusal.status not in _LOST_SESSION or (cut_before and refusal.status == _SEQUENCE):
                raise
            raise self._interrupted(_CMD[name], refusal.status) from refusal

    def _exchange(self, command: int, sequence: int, payload: bytes, **options: Any) -> bytes:
        """The payload of the answer; RefusedError when the device refuses."""
        reply: Reply = self._link.ask(command, sequence, self._nonce & 0xFFFF, payload, **options)
        if reply.status < 0:
            raise self._refused(command, reply.status)
        return reply.payload

    def _interrupted(self, command: int, status: int) -> LinkInterrupted:
        """Open a new session, and say what became of the old one; DeviceError where that is lost at once as well."""
        name = protocol.command_name(command)
        if self._recovering:
            raise DeviceError(
                f"the device at {self._line.url} lost a session that was just opened, at {name} "
                f"({protocol.status_text(status)}); end whatever else talks to it"
            )
        before = self._hello
        self._recovering = True
        try:
            now = self.hello()
        finally:
            self._recovering = False
        restarted = before is not None and before.boot_id != now.boot_id
        if before is not None and before.hash != now.hash:
            raise DeviceError(
                f"the device at {self._line.url} restarted with another model (its hash was {before.hash.hex()}, is "
                f"{now.hash.hex()}); open it anew"
            )
        if restarted:
            what = f"the device at {self._line.url} restarted ({now.fault_words}) before it answered {name}"
        elif status in (_SEQUENCE, _DUPLICATE):
            what = (
                f"the device at {self._line.url} lost count of this session at {name} ({protocol.status_text(status)})"
            )
        else:
            what = f"another program opened a session with the device at {self._line.url} before it answered {name}"
        return LinkInterrupted(
            f"{what}; it is at step {now.step} now, and a new session is open. The sample under way is gone",
            restarted=restarted,
            step=now.step,
        )

    def _refused(self, command: int, status: int) -> RefusedError:
        name, text = protocol.command_name(command), protocol.status_text(status)
        kind = RefusedSampleError if status == protocol.EVENTS_STATUS else RefusedError
        what_to_do = _WHAT_TO_DO.get(status, "")
        return kind(f"the device at {self._line.url} refused {name}: {text} (status {status}){what_to_do}", status)

    def _unpack(self, struct: str, data: bytes) -> Any:
        try:
            return protocol.unpack(struct, data)
        except ValueError as error:
            raise DeviceError(
                f"{self._line.url} speaks another dialect ({error}); export and flash its firmware again"
            ) from error


def _hello_payload(nonce: int) -> bytes:
    return protocol.pack("dt_hello_t", magic=protocol.MAGIC, version=protocol.VERSION, nonce=nonce)
