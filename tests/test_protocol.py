"""The protocol: its page against its headers, frames in C against frames in Python, the server byte by byte."""

from __future__ import annotations

import random
import re
import socket
import subprocess
import zlib
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from cffi import FFI
from hypothesis import given, settings
from hypothesis import strategies as st
from struct_tables import layout, tables

import deltatrain_core
import deltatrain_firmware
from deltatrain.link import protocol
from deltatrain.link.frame import Decoder, crc32, decode, encode
from deltatrain.link.results import DeviceResult, Statistics
from deltatrain.quant_model import QuantModel
from deltatrain_core.network import error_text

PAGE = (Path(__file__).parent.parent / "PROTOCOL.md").read_text(encoding="utf-8")
TABLES = tables(PAGE)
COMMANDS = protocol.enumerators("dt_command")
STATUS = protocol.enumerators("dt_status") | protocol.enumerators("drnn_error")
NONCE = 0x89ABCDEF


# ---- the page


def test_each_struct_of_the_header_stands_on_the_page() -> None:
    header = (deltatrain_firmware.include_dir() / "dt_protocol.h").read_text(encoding="utf-8")
    structs = set(re.findall(r"\} (dt_\w+_?t);", header))
    assert structs and structs <= set(TABLES)


@pytest.mark.parametrize("name", sorted(TABLES))
def test_the_page_gives_each_fields_place(name: str) -> None:
    assert TABLES[name] == layout(name)


@pytest.mark.parametrize("name", sorted(TABLES))
def test_structs_have_no_holes(name: str) -> None:
    end = 0
    for field, at, _ in protocol.layout_of(name):
        assert at == end, f"{name}.{field} lies at {at}, {end} is free"
        end += protocol.field_size(name, field)
    assert end == protocol.size_of(name)


def test_the_page_lists_every_command_and_status() -> None:
    commands = {int(code, 16): name for code, name in re.findall(r"^\| 0x(\w\w) \| (\w+) \|", PAGE, re.MULTILINE)}
    assert commands == {code: name for code, name in protocol.COMMANDS.items() if name != "NONE"}
    status = re.findall(r"^\| (-\d+) \| `(\w+)` \| (.*) \|$", PAGE, re.MULTILINE)
    assert {name: int(code) for code, name, _ in status} == {n: c for n, c in STATUS.items() if c}
    assert all(protocol.status_text(int(code)) == text for code, _, text in status)


def test_status_codes_are_told_once() -> None:
    codes = [code for code in STATUS.values() if code]
    assert len(set(codes)) == len(codes)
    assert all("unknown" not in protocol.status_text(code) for code in codes)
    assert all("unknown" not in error_text(code) for code in protocol.enumerators("drnn_error").values())


def test_descriptions_in_python_have_the_fields_in_c() -> None:
    assert tuple(f.name for f in fields(Statistics)) == protocol.fields_of("dt_statistics_t")
    result = tuple(f.name for f in fields(DeviceResult))
    assert set(protocol.fields_of("drnn_result_t")) <= set(result)


def _example() -> list[tuple[str, str, bytes]]:
    block = PAGE.split("## A session, byte by byte")[1].split("```")[1]
    lines = block.strip().splitlines()
    return [(head[0], head[2:], bytes.fromhex(data)) for head, data in zip(lines[::2], lines[1::2], strict=True)]


def test_the_worked_example_is_what_a_device_does(native_device: Any, tiny_model: QuantModel) -> None:
    with RawLine(native_device(tiny_model).port) as line:
        heard: list[bytes] = []
        for side, what, data in _example():
            if side == ">":
                assert not heard, f"the page does not tell of {heard[0].hex(' ')}"
                line.send(data)
                answer = line.receive_frame()
                if "HELLO" not in what:  # whose long answer the page leaves out
                    heard.append(answer)
            else:
                assert heard.pop(0) == data, what


def test_the_worked_example_is_what_a_host_sends() -> None:
    hello = protocol.pack("dt_request_t", command=COMMANDS["DT_CMD_HELLO"], session=NONCE & 0xFFFF) + protocol.pack(
        "dt_hello_t", magic=protocol.MAGIC, version=protocol.VERSION, nonce=NONCE
    )
    example = _example()
    assert encode(hello) == example[0][2]
    assert decode(example[0][2].strip(b"\0")) == hello
    assert crc32(hello).hex(" ") in PAGE and hello[:4].hex(" ") in PAGE


# ---- frames


@given(st.binary(min_size=protocol.HEADER_BYTES, max_size=1200))
def test_a_frame_comes_back(body: bytes) -> None:
    frame = encode(body)
    assert b"\0" not in frame[1:-1]
    assert Decoder().push(frame) == [body]


@given(st.binary(max_size=600), st.integers(1, 64))
def test_random_bytes_never_stop_the_decoder(noise: bytes, piece: int) -> None:
    decoder = Decoder()
    for start in range(0, len(noise), piece):
        assert decoder.push(noise[start : start + piece]) == []
    assert decoder.push(encode(b"body")) == [b"body"]


def test_an_endless_frame_takes_no_memory() -> None:
    decoder = Decoder(max_bytes=1000)
    for _ in range(100):
        assert decoder.push(b"\x01" * 999) == []
    assert len(decoder._pending) <= 1000
    assert decoder.push(encode(b"body")) == [b"body"] and decoder.damaged == 1


@given(st.binary(min_size=protocol.HEADER_BYTES, max_size=60), st.data())
def test_any_flipped_bit_is_noticed(body: bytes, data: st.DataObject) -> None:
    frame = bytearray(encode(body))
    bit = data.draw(st.integers(0, 8 * len(frame) - 1))
    frame[bit // 8] ^= 1 << bit % 8
    # A flip in a delimiter may leave the frame whole; what must never appear is another body.
    assert all(found == body for found in Decoder().push(b"\0" + bytes(frame) + b"\0"))


@pytest.fixture(scope="module")
def c_frame(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[FFI, Any]]:
    """dt_frame.c as a library of this PC."""
    source = deltatrain_firmware.root() / "src"
    library = tmp_path_factory.mktemp("frame") / "frame.so"
    includes = [f"-I{path}" for path in (deltatrain_firmware.include_dir(), deltatrain_core.include_dir())]
    command = ["gcc", "-std=c11", "-O1", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", *includes]
    subprocess.run([*command, str(source / "dt_frame.c"), "-o", str(library)], check=True)
    ffi = FFI()
    ffi.cdef(protocol.declarations(source / "dt_frame.h"))
    yield ffi, ffi.dlopen(str(library))


def _c_encode(c_frame: tuple[FFI, Any], body: bytes) -> bytes:
    ffi, lib = c_frame
    sent: list[bytes] = []

    @ffi.callback("void(void *, const uint8_t *, uint32_t)")
    def write(_: Any, data: Any, n: int) -> None:
        sent.append(bytes(ffi.buffer(data, n)))

    buffer = ffi.new("uint8_t[]", body + bytes(protocol.CRC_BYTES))
    lib.dt_frame_send(buffer, len(body), write, ffi.NULL)
    return b"".join(sent)


def _c_decode(c_frame: tuple[FFI, Any], data: bytes, capacity: int) -> list[bytes | int]:
    ffi, lib = c_frame
    decoder, buffer, crc = ffi.new("dt_decoder_t *"), ffi.new("uint8_t[]", capacity), ffi.new("uint32_t *")
    lib.dt_decoder_init(decoder, buffer, capacity)
    found: list[bytes | int] = []
    for byte in data:
        n = lib.dt_decoder_push(decoder, byte, crc)
        if n != 0:
            found.append(bytes(ffi.buffer(buffer, n)) if n > 0 else n)
    return found


@settings(max_examples=200)
@given(st.data())
def test_c_and_python_send_the_same_bytes(c_frame: tuple[FFI, Any], data: st.DataObject) -> None:
    # Long runs without a zero are what COBS treats apart, at 254 bytes.
    runs = data.draw(st.lists(st.integers(0, 300), min_size=1, max_size=4))
    body = b"\0".join(b"\x55" * run for run in runs).ljust(4, b"\0")
    assert _c_encode(c_frame, body) == encode(body)
    assert _c_decode(c_frame, encode(body), len(body) + protocol.CRC_BYTES) == [body]


@settings(max_examples=300)
@given(st.lists(st.binary(max_size=30) | st.binary(min_size=4, max_size=30).map(encode), max_size=6))
def test_c_and_python_understand_the_same_bytes(c_frame: tuple[FFI, Any], parts: list[bytes]) -> None:
    data = b"".join(parts)
    in_c = _c_decode(c_frame, data, 256)
    decoder = Decoder()
    assert [body for body in in_c if isinstance(body, bytes)] == decoder.push(data)
    assert sum(isinstance(body, int) for body in in_c) == decoder.damaged


def test_a_group_that_ends_early_is_damage(c_frame: tuple[FFI, Any]) -> None:
    """Its CRC is right, but its COBS code promises more than came."""
    frame = bytearray(encode(b"\x11" * 8))
    assert frame[1] == 8 + protocol.CRC_BYTES + 1, "one group"
    frame[1] += 1
    assert _c_decode(c_frame, bytes(frame), 256) == [STATUS["DT_ERR_FRAME"]]
    assert Decoder().push(bytes(frame)) == []


def test_the_c_decoder_refuses_what_is_too_long(c_frame: tuple[FFI, Any]) -> None:
    data = encode(bytes(100)) + encode(b"body")
    assert _c_decode(c_frame, data, 103) == [STATUS["DT_ERR_OVERSIZE"], b"body"]
    assert _c_decode(c_frame, data, 104) == [bytes(100), b"body"]


def test_the_crc_in_c_is_zlibs(c_frame: tuple[FFI, Any]) -> None:
    _, lib = c_frame
    for data in (b"", b"123456789", bytes(range(256))):
        assert lib.dt_crc32(data, len(data)) == zlib.crc32(data)


# ---- the server, byte by byte


class RawLine:
    """A connection without any of the host's cleverness: what is sent is what the test says."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self._decoder = Decoder()
        self._bodies: list[bytes] = []

    def __enter__(self) -> RawLine:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def receive(self) -> tuple[int, int, int, bytes]:
        """Command, sequence, status and payload of the next reply."""
        while not self._bodies:
            data = self._socket.recv(4096)
            assert data, "the device closed the line"
            self._bodies += self._decoder.push(data)
            assert self._decoder.damaged == 0
        body = self._bodies.pop(0)
        head = protocol.unpack("dt_reply_t", body)
        return head.command, head.sequence, head.status, body[protocol.HEADER_BYTES :]

    def receive_frame(self) -> bytes:
        """The next reply as it came over the line."""
        command, sequence, status, payload = self.receive()
        return encode(protocol.pack("dt_reply_t", command=command, sequence=sequence, status=status) + payload)

    def ask(self, command: str, sequence: int, payload: bytes = b"", session: int = NONCE) -> tuple[int, bytes]:
        """Send one request; status and payload of its answer, whose head must fit."""
        number = COMMANDS[f"DT_CMD_{command}"]
        head = protocol.pack("dt_request_t", command=number, sequence=sequence, session=session & 0xFFFF)
        self.send(encode(head + payload))
        command_back, sequence_back, status, answer = self.receive()
        assert (command_back, sequence_back) == (number | protocol.REPLY_FLAG, sequence)
        return status, answer

    def hello(self, nonce: int = NONCE, version: int = protocol.VERSION) -> tuple[int, bytes]:
        payload = protocol.pack("dt_hello_t", magic=protocol.MAGIC, version=version, nonce=nonce)
        return self.ask("HELLO", 0, payload, nonce)

    def step(self) -> int:
        """The device's step counter."""
        status, answer = self.ask("GET_CONFIG", 77)
        assert status == 0
        return int(protocol.unpack("drnn_config_t", answer).step)

    def weights(self) -> bytes:
        """Weights and biases, as they lie in the device."""
        parts = []
        for tensor, count in ((0, 7 * 16), (1, 16), (2, 12), (3, 3)):
            request = protocol.pack("dt_tensor_t", tensor=tensor, count=count)
            status, answer = self.ask("READ_TENSOR", 9, request)
            assert status == 0
            parts.append(answer)
        return b"".join(parts)


@pytest.fixture
def line(native_device: Any, tiny_model: QuantModel) -> Iterator[RawLine]:
    """A session with a device that holds the tiny model: 3 inputs, 4 units, 3 classes, at most 8 frames."""
    with RawLine(native_device(tiny_model).port) as raw:
        assert raw.hello()[0] == 0
        yield raw


def _frames(*values: int, count: int = 1, hidden: int = 0) -> bytes:
    data = b"".join(value.to_bytes(2, "little", signed=True) for value in values)
    return protocol.pack("dt_frames_t", n_frames=count, want_hidden=hidden) + data


def _sample(line: RawLine, sequence: int) -> int:
    """A sample of two frames; the next sequence number."""
    assert line.ask("BEGIN", sequence) == (0, b"")
    assert line.ask("FRAMES", sequence + 1, _frames(900, -800, 4000, 300, 2000, 1000, count=2))[0] == 0
    return sequence + 2


TRAIN_1 = protocol.pack("dt_train_t", label=1)


def test_a_repeated_training_step_is_answered_but_not_done(line: RawLine) -> None:
    sequence = _sample(line, 1)
    first = line.ask("TRAIN", sequence, TRAIN_1)
    assert first[0] == 0
    for _ in range(5):
        assert line.ask("TRAIN", sequence, TRAIN_1) == first
    assert line.step() == 1


def test_a_repeated_step_is_not_done_either_when_its_reply_is_gone(line: RawLine) -> None:
    sequence = _sample(line, 1)
    assert line.ask("TRAIN", sequence, TRAIN_1)[0] == 0
    trained = line.weights()  # overwrites the kept reply
    assert line.ask("TRAIN", sequence, TRAIN_1) == (STATUS["DT_ERR_DUPLICATE"], b"")
    assert line.weights() == trained and line.step() == 1


def test_damaged_retries_leave_the_kept_reply_alone(line: RawLine) -> None:
    sequence = _sample(line, 1)
    first = line.ask("TRAIN", sequence, TRAIN_1)
    line.send(b"\0\x05garbage\0")
    assert line.receive()[:3] == (protocol.REPLY_FLAG, 0, STATUS["DT_ERR_FRAME"])
    assert line.ask("TRAIN", sequence, TRAIN_1) == first
    assert line.step() == 1


@pytest.mark.parametrize("offset", [0, 2, 3, 128, 255])
def test_numbers_out_of_turn_are_refused(line: RawLine, offset: int) -> None:
    before = line.weights()
    sequence = _sample(line, 1)  # the last number is sequence - 1
    out_of_turn = (sequence - 1 + offset) & 0xFF
    assert line.ask("TRAIN", out_of_turn, TRAIN_1) == (STATUS["DT_ERR_SEQUENCE"], b"")
    assert line.weights() == before
    assert line.ask("TRAIN", sequence, TRAIN_1)[0] == 0


def test_sequence_numbers_wrap(line: RawLine) -> None:
    for sequence in range(1, 600):
        assert line.ask("BEGIN", sequence & 0xFF) == (0, b"")


def test_requests_of_another_session_are_refused(line: RawLine) -> None:
    sequence = _sample(line, 1)
    other = NONCE ^ 1
    assert line.ask("TRAIN", sequence, TRAIN_1, session=other) == (STATUS["DT_ERR_SESSION"], b"")
    assert line.ask("GET_CONFIG", 1, session=other) == (STATUS["DT_ERR_SESSION"], b"")
    assert line.hello(other)[0] == 0
    assert line.ask("TRAIN", sequence, TRAIN_1) == (STATUS["DT_ERR_SESSION"], b"")
    status, answer = line.ask("GET_CONFIG", 1, session=other)
    assert (status, protocol.unpack("drnn_config_t", answer).step) == (0, 0)


def test_a_hello_drops_the_sample_and_keeps_the_rest(line: RawLine) -> None:
    sequence = _sample(line, 1)
    assert line.ask("TRAIN", sequence, TRAIN_1)[0] == 0
    trained = line.weights()
    _sample(line, sequence + 1)
    other = NONCE ^ 0x10000  # of which a request bears the same half
    status, answer = line.hello(other)
    hello = protocol.unpack("dt_hello_reply_t", answer)
    assert (status, hello.step, hello.boot_id) == (0, 1, NONCE)
    assert line.ask("TRAIN", 1, TRAIN_1) == (STATUS["DRNN_ERR_STATE"], b"")
    assert line.weights() == trained


def test_a_hello_that_comes_twice_changes_nothing(line: RawLine) -> None:
    sequence = _sample(line, 1)
    status, answer = line.hello()
    assert (status, protocol.unpack("dt_hello_reply_t", answer).nonce) == (0, NONCE)
    assert line.ask("BEGIN", 1) == (STATUS["DT_ERR_SEQUENCE"], b"")
    assert line.ask("TRAIN", sequence, TRAIN_1)[0] == 0
    assert line.hello()[0] == 0
    assert line.ask("TRAIN", sequence, TRAIN_1) == (STATUS["DT_ERR_DUPLICATE"], b"")
    assert line.step() == 1


def test_a_command_is_cut_under_its_number(line: RawLine) -> None:
    assert line.ask("BEGIN", 1) == (0, b"")
    two, one = _frames(900, -800, 4000, 300, 2000, 1000, count=2), _frames(900, -800, 4000)
    status, answer = line.ask("FRAMES", 2, one)  # the longer one did not arrive
    assert (status, protocol.unpack("dt_frames_reply_t", answer).n_steps) == (0, 1)
    status, answer = line.ask("FRAMES", 3, two)  # but its answer got lost
    assert (status, protocol.unpack("dt_frames_reply_t", answer).n_steps) == (0, 3)
    assert line.ask("FRAMES", 3, one) == (STATUS["DT_ERR_SEQUENCE"], b"")
    assert line.ask("BEGIN", 4) == (0, b"")


def test_boot_id_is_the_first_hellos_nonce(line: RawLine) -> None:
    status, answer = line.hello(12345)
    assert status == 0 and protocol.unpack("dt_hello_reply_t", answer).boot_id == NONCE


def test_another_version_opens_no_session(native_device: Any, tiny_model: QuantModel) -> None:
    with RawLine(native_device(tiny_model).port) as line:
        assert line.hello(version=protocol.VERSION + 1) == (STATUS["DT_ERR_VERSION"], b"")
        assert line.ask("GET_CONFIG", 1) == (STATUS["DT_ERR_SESSION"], b"")
        assert line.hello()[0] == 0


@pytest.mark.parametrize(
    ("command", "payload", "status"),
    [
        ("GET_CONFIG", b"\0", "DT_ERR_LENGTH"),
        ("READ_TENSOR", bytes(11), "DT_ERR_LENGTH"),
        ("READ_TENSOR", bytes(13), "DT_ERR_LENGTH"),
        ("READ_TENSOR", protocol.pack("dt_tensor_t", tensor=99), "DRNN_ERR_TENSOR"),
        ("READ_TENSOR", protocol.pack("dt_tensor_t", offset=112, count=1), "DRNN_ERR_TENSOR"),
        ("READ_TENSOR", protocol.pack("dt_tensor_t", offset=2**32 - 1, count=2), "DRNN_ERR_TENSOR"),
        ("READ_TENSOR", protocol.pack("dt_tensor_t", count=2**31), "DRNN_ERR_TENSOR"),
        ("STATISTICS", b"\0", "DT_ERR_LENGTH"),
        ("SET_CONFIG", bytes(19), "DT_ERR_LENGTH"),
        ("SET_CONFIG", protocol.pack("drnn_config_t", learning_rate=(1, 0)), "DRNN_ERR_RANGE"),
        ("WRITE_TENSOR", protocol.pack("dt_tensor_t", count=1), "DT_ERR_LENGTH"),
        ("WRITE_TENSOR", protocol.pack("dt_tensor_t", count=1) + bytes(3), "DT_ERR_LENGTH"),
        ("WRITE_TENSOR", protocol.pack("dt_tensor_t", count=2**31) + bytes(4), "DRNN_ERR_TENSOR"),
        ("WRITE_TENSOR", protocol.pack("dt_tensor_t", offset=111, count=2) + bytes(4), "DRNN_ERR_TENSOR"),
        ("WRITE_TENSOR", protocol.pack("dt_tensor_t", tensor=4, count=1) + bytes(2), "DRNN_ERR_TENSOR"),
        ("RESET_WEIGHTS", b"\0", "DT_ERR_LENGTH"),
        ("BEGIN", b"\0", "DT_ERR_LENGTH"),
        ("FRAMES", _frames(count=0), "DT_ERR_LENGTH"),
        ("FRAMES", _frames(1, 2, count=1), "DT_ERR_LENGTH"),
        ("FRAMES", _frames(1, 2, 3, count=65535), "DT_ERR_LENGTH"),
        ("FRAMES", _frames(1, 2, 3, hidden=2), "DT_ERR_LENGTH"),
        ("FRAMES", _frames(1, 2, 3), "DRNN_ERR_STATE"),
        ("TRAIN", b"", "DT_ERR_LENGTH"),
        ("LEARN", b"\0", "DT_ERR_LENGTH"),
        ("LEARN", b"", "DRNN_ERR_STATE"),
        ("TRAIN", TRAIN_1, "DRNN_ERR_STATE"),
        ("INFER", b"", "DRNN_ERR_STATE"),
    ],
)
def test_bad_requests_are_refused_and_change_nothing(line: RawLine, command: str, payload: bytes, status: str) -> None:
    before = line.weights(), line.ask("GET_CONFIG", 1)
    assert line.ask(command, 1, payload) == (STATUS[status], b"")
    assert (line.weights(), line.ask("GET_CONFIG", 1)) == before


def test_frames_are_accepted_whole_or_not_at_all(line: RawLine) -> None:
    assert line.ask("BEGIN", 1) == (0, b"")
    assert line.ask("FRAMES", 2, _frames(1, 2, 3, 4, 5, 16384, count=2)) == (STATUS["DRNN_ERR_RANGE"], b"")
    assert line.ask("FRAMES", 3, _frames(1, 2, 3, 4, 5, -32768, count=2)) == (STATUS["DRNN_ERR_RANGE"], b"")
    assert line.ask("FRAMES", 4, _frames(*range(27), count=9)) == (STATUS["DRNN_ERR_TOO_LONG"], b"")
    status, answer = line.ask("FRAMES", 5, _frames(*range(24), count=8))
    assert (status, protocol.unpack("dt_frames_reply_t", answer).n_steps) == (0, 8)
    assert line.ask("FRAMES", 6, _frames(1, 2, 3)) == (STATUS["DRNN_ERR_TOO_LONG"], b"")
    assert line.ask("TRAIN", 7, TRAIN_1)[0] == 0


def test_a_bad_label_leaves_the_sample_open(line: RawLine) -> None:
    sequence = _sample(line, 1)
    assert line.ask("TRAIN", sequence, protocol.pack("dt_train_t", label=3)) == (STATUS["DRNN_ERR_LABEL"], b"")
    assert line.ask("TRAIN", sequence + 1, TRAIN_1)[0] == 0


def test_an_empty_sample_cannot_be_trained(line: RawLine) -> None:
    assert line.ask("BEGIN", 1) == (0, b"")
    assert line.ask("TRAIN", 2, TRAIN_1) == (STATUS["DRNN_ERR_EMPTY"], b"")
    assert line.ask("INFER", 3) == (STATUS["DRNN_ERR_EMPTY"], b"")


@pytest.mark.parametrize("command", ["WRITE_TENSOR", "RESET_WEIGHTS", "SET_CONFIG"])
def test_what_changes_the_weights_ends_the_sample(line: RawLine, command: str) -> None:
    sequence = _sample(line, 1)
    payload = {
        "WRITE_TENSOR": protocol.pack("dt_tensor_t", count=1) + b"\x07\x00",
        "RESET_WEIGHTS": b"",
        "SET_CONFIG": line.ask("GET_CONFIG", 1)[1],
    }[command]
    assert line.ask(command, sequence, payload)[0] == 0
    assert line.ask("TRAIN", sequence + 1, TRAIN_1) == (STATUS["DRNN_ERR_STATE"], b"")


@pytest.mark.parametrize("number", [0x00, 0x05, 0x06, 0x0F, 0x1F, 0x7F, 0x80, 0x95, 0xFF])
def test_unknown_commands_are_refused(line: RawLine, number: int) -> None:
    line.send(encode(protocol.pack("dt_request_t", command=number, sequence=1, session=NONCE & 0xFFFF)))
    assert line.receive() == (number | protocol.REPLY_FLAG, 1, STATUS["DT_ERR_COMMAND"], b"")


def test_oversize_frames_are_refused(line: RawLine) -> None:
    hello = protocol.unpack("dt_hello_reply_t", line.hello()[1])
    head = protocol.pack("dt_request_t", command=COMMANDS["DT_CMD_WRITE_TENSOR"], sequence=1, session=NONCE & 0xFFFF)
    line.send(encode(head + bytes(hello.max_payload + 1)))
    assert line.receive()[:3] == (protocol.REPLY_FLAG, 0, STATUS["DT_ERR_OVERSIZE"])
    line.send(encode(head + bytes(hello.max_payload)))
    assert line.receive()[2] == STATUS["DT_ERR_LENGTH"]


def test_statistics_count_what_happened(line: RawLine) -> None:
    sequence = _sample(line, 1)
    line.ask("INFER", sequence)
    outcome = protocol.unpack("dt_outcome_t", line.ask("TRAIN", sequence + 1, TRAIN_1)[1])  # owns its result
    line.ask("TRAIN", sequence + 1, TRAIN_1)
    line.send(b"\0\x01\x01\0")
    line.receive()
    totals = protocol.unpack("dt_statistics_t", line.ask("STATISTICS", 1)[1])
    assert (totals.frames, totals.samples_trained, totals.samples_inferred) == (2, 1, 1)
    assert (totals.repeated, totals.damaged, totals.oversize) == (1, 1, 0)
    assert totals.macs_forward == outcome.result.macs_forward > 0
    assert totals.ticks_forward == 3  # one begin, two frames: the native board's tick is a call


def _with_targets(targets: bytes, kind: int, count: int = 2) -> bytes:
    """`count` frames of zeros with targets before them."""
    return protocol.pack("dt_frames_t", n_frames=count, targets=kind) + targets + bytes(6 * count)


NONE, EACH, ONE = (protocol.TARGETS[f"DT_TARGETS_{kind}"] for kind in ("NONE", "EACH", "ONE"))


@pytest.mark.parametrize(
    ("readout", "payload", "status"),
    [
        ("last", _with_targets(bytes(4), EACH), "DRNN_ERR_READOUT"),
        ("frames", _with_targets(bytes(4), NONE), "DT_ERR_LENGTH"),
        ("frames", _with_targets(bytes(4), ONE), "DT_ERR_LENGTH"),
        ("frames", _with_targets(bytes(2), EACH), "DT_ERR_LENGTH"),
        ("frames", _with_targets(bytes(4), 3), "DT_ERR_LENGTH"),
        ("frames", _with_targets(b"\0\0\3\0", EACH), "DRNN_ERR_LABEL"),
        ("frames", _with_targets(b"\3\0", ONE), "DRNN_ERR_LABEL"),
        ("regression", _with_targets(bytes(4), ONE), "DT_ERR_LENGTH"),
        ("regression", _with_targets(bytes(23), EACH), "DT_ERR_LENGTH"),
        ("regression", _with_targets(bytes(8) + b"\1\0\0\x40", ONE), "DRNN_ERR_RANGE"),
        ("regression", _with_targets(bytes(20) + b"\0\0\0\x80", EACH), "DRNN_ERR_RANGE"),
        ("regression", _with_targets(b"\xff\xff\xff\xbf" + bytes(8), ONE), "DRNN_ERR_RANGE"),
    ],
)
def test_bad_targets_are_refused_and_no_frame_is_taken(
    native_device: Any, make_integer_model: Any, readout: str, payload: bytes, status: str
) -> None:
    with RawLine(native_device(make_integer_model(readout=readout)).port) as line:
        assert line.hello()[0] == 0
        assert line.ask("BEGIN", 1) == (0, b"")
        assert line.ask("FRAMES", 2, payload) == (STATUS[status], b"")
        after = line.ask("FRAMES", 3, _frames(1, 2, 3))
        assert protocol.unpack("dt_frames_reply_t", after[1]).n_steps == 1


def test_targets_decide_how_a_sample_ends(native_device: Any, make_integer_model: Any) -> None:
    with RawLine(native_device(make_integer_model(readout="frames")).port) as line:
        assert line.hello()[0] == 0
        assert line.ask("LEARN", 1) == (STATUS["DRNN_ERR_STATE"], b"")
        assert line.ask("BEGIN", 2) == (0, b"")
        assert line.ask("LEARN", 3) == (STATUS["DRNN_ERR_EMPTY"], b"")
        assert line.ask("FRAMES", 4, _with_targets(b"\xff\xff", ONE))[0] == 0
        assert line.ask("LEARN", 5) == (STATUS["DRNN_ERR_EMPTY"], b""), "no frame had a target"
        assert line.ask("TRAIN", 6, TRAIN_1) == (STATUS["DRNN_ERR_READOUT"], b"")
        assert line.ask("FRAMES", 7, _with_targets(b"\2\0\xff\xff", EACH))[0] == 0
        status, answer = line.ask("LEARN", 8)
        outcome = protocol.unpack("dt_outcome_t", answer)
        assert (status, outcome.result.n_targets) == (0, 1)
        assert line.ask("LEARN", 8) == (status, answer)
        assert line.step() == 1


@pytest.mark.parametrize("readout", ["last", "frames", "regression"])
def test_random_requests_never_stop_the_server(native_device: Any, make_integer_model: Any, readout: str) -> None:
    """Whole frames of random content, many with a plausible head: the sanitizers watch."""
    rng = random.Random(2312)
    with RawLine(native_device(make_integer_model(readout=readout)).port) as line:
        assert line.hello()[0] == 0
        _random_requests(line, rng)


def _random_requests(line: RawLine, rng: random.Random) -> None:
    numbers = list(COMMANDS.values())
    sequence = 0
    for _ in range(3000):
        if rng.random() < 0.02:
            line.hello()
            sequence = 0
        command = rng.choice(numbers)
        small = rng.random() < 0.7
        n = rng.choice((0, 4, 10, 12, 14, 16, 20, 28, rng.randrange(400)))
        payload = bytes(rng.choice((0, 1, 2, 4, 255) if small else range(256)) for _ in range(n))
        if command == COMMANDS["DT_CMD_HELLO"]:
            continue
        number = (sequence + 1) & 0xFF if rng.random() < 0.9 else rng.randrange(256)
        head = protocol.pack("dt_request_t", command=command, sequence=number, session=NONCE & 0xFFFF)
        line.send(encode(head + payload))
        _, back, status, _ = line.receive()
        assert back == number
        executed = status not in (STATUS["DT_ERR_SEQUENCE"], STATUS["DT_ERR_DUPLICATE"], STATUS["DT_ERR_COMMAND"])
        if command >= protocol.FIRST_EFFECT and executed:
            sequence = number
    assert line.hello()[0] == 0


def test_random_bytes_never_stop_the_server(line: RawLine) -> None:
    rng = random.Random(9)
    noise = bytes(rng.choice((0, 1, 2, 255, rng.randrange(256))) for _ in range(60_000))
    line.send(noise)
    line.send(encode(protocol.pack("dt_request_t", command=0x7F, sequence=200)))
    while (answer := line.receive())[1] != 200:
        assert answer[2] in (STATUS["DT_ERR_FRAME"], STATUS["DT_ERR_OVERSIZE"])
    assert line.hello()[0] == 0
