"""What else may stand at the other end of a port: each is told in words, within seconds."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import NativeDevice
from line_proxy import LineProxy

from deltatrain.errors import DeviceError
from deltatrain.link import Device, protocol
from deltatrain.link.exchange import FOREIGN_S
from deltatrain.link.frame import Decoder, encode
from deltatrain.quant_model import QuantModel

WITHIN_S = FOREIGN_S + 2


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Locks of this test only."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


@contextmanager
def port(answer: Callable[[bytes], bytes], banner: bytes = b"") -> Iterator[str]:
    """The URL of a port behind which `answer` says what comes back for what was sent, at first behind `banner`."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            try:
                connection, _ = listener.accept()
                with connection:
                    said = banner
                    while data := connection.recv(1000):
                        connection.sendall(said + answer(data))
                        said = b""
            except OSError:
                pass

        threading.Thread(target=serve, daemon=True).start()
        yield f"socket://127.0.0.1:{listener.getsockname()[1]}"


def repl(data: bytes) -> bytes:
    """A Python prompt echoes what is printable and complains."""
    shown = bytes(byte for byte in data if 0x20 <= byte < 0x7F)
    return shown + b'\r\nTraceback (most recent call last):\r\n  File "<stdin>", line 1\r\nSyntaxError\r\n>>> '


def foreign_frames(data: bytes) -> bytes:
    """Whole frames, none of which answers."""
    return encode(b"\x99\x01\x00\x00ready") if b"\0" in data else b""


def status_of_hello(status: str) -> Callable[[bytes], bytes]:
    """A device of ours that answers each hello by a status."""
    decoder = Decoder()

    def answer(data: bytes) -> bytes:
        replies = [
            protocol.pack(
                "dt_reply_t",
                command=body[0] | protocol.REPLY_FLAG,
                sequence=body[1],
                status=protocol.constant(status),
            )
            for body in decoder.push(data)
        ]
        return b"".join(map(encode, replies))

    return answer


def older(data: bytes) -> bytes:
    """A device of an older protocol that answers a hello as it always did: its first 12 bytes are the same."""
    decoder = Decoder()
    replies = []
    for body in decoder.push(data):
        told = protocol.unpack("dt_hello_t", body[protocol.HEADER_BYTES :])
        head = protocol.pack("dt_reply_t", command=body[0] | protocol.REPLY_FLAG, sequence=body[1])
        replies.append(encode(head + protocol.pack("dt_hello_reply_t", nonce=told.nonce, version=3)[:96]))
    return b"".join(replies)


_noise = random.Random(3)
WRONG = {
    "a console": (
        lambda data: b"-sh: not found\r\n$ ",
        b"board login: ",
        ["It speaks text", "login", "deltatrain flash"],
    ),
    "a prompt": (repl, b"MicroPython v1.22.2 on 2024-02-22; ESP32\r\n>>> ", ["MicroPython prompt", ">>>"]),
    "an echo": (lambda data: data, b"", ["echoes"]),
    "another baud rate": (
        lambda data: _noise.randbytes(40).replace(b"\0", b"\xff"),
        b"\xf8\x80",
        ["115200 baud", "damaged frames", "f8 80"],
    ),
    "other frames": (foreign_frames, b"", ["whole frames, but none that answers"]),
    "another version": (
        status_of_hello("DT_ERR_VERSION"),
        b"",
        ["another version of the protocol", "export and flash"],
    ),
    "an older version": (older, b"", ["has protocol 3", "export and flash"]),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_device_is_told_by_what_was_heard(name: str) -> None:
    answer, banner, words = WRONG[name]
    with port(answer, banner) as url:
        started = time.monotonic()
        with pytest.raises(DeviceError) as caught:
            Device.open(url)
        assert time.monotonic() - started < WITHIN_S
    assert url in str(caught.value)
    for expected in words:
        assert expected in str(caught.value)


def test_a_device_behind_its_boot_messages_is_found(
    native_device: Callable[..., NativeDevice], tiny_model: QuantModel
) -> None:
    device_port = native_device(tiny_model).port
    with LineProxy(lambda: device_port, banner=b"ROM: boot v3\r\nstarting application\r\n") as proxy:
        for _ in range(2):
            with Device.open(proxy.url) as opened:
                assert opened.info.board == "native"
