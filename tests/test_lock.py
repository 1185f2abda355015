"""The lock: its HMAC against another implementation, what it refuses and to whom, and the commands that know of it."""

from __future__ import annotations

import hashlib
import hmac
import json
import random
import re
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cffi import FFI
from click.testing import CliRunner
from test_protocol import NONCE, STATUS, TRAIN_1, RawLine
from variants import build_variant

import deltatrain_core
import deltatrain_firmware
from deltatrain.cli import main
from deltatrain.errors import InputError
from deltatrain.key import Key, Lock
from deltatrain.link import Device, RefusedError, protocol
from deltatrain.link.line import Line
from deltatrain.quant_model import QuantModel
from deltatrain.targets import Board, Emulator, find_board
from deltatrain.training import Sample, evaluate
from deltatrain_core import CoreNetwork

NEXT_NONCE = NONCE ^ 0x10000  # whose low half, which stands in requests, is the same
KEY = Key(bytes(range(32)))
OTHER = Key(bytes(32))
TRAINING, INFERENCE = (protocol.constant(f"DT_LOCK_{name}") for name in ("TRAINING", "INFERENCE"))
SOURCES = deltatrain_firmware.root() / "src"

# RFC 4231, test cases 1 to 4, 6 and 7 (5 truncates): key, data, HMAC-SHA-256.
RFC_4231 = [
    (b"\x0b" * 20, b"Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
    (b"Jefe", b"what do ya want for nothing?", "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
    (b"\xaa" * 20, b"\xdd" * 50, "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"),
    (bytes(range(1, 26)), b"\xcd" * 50, "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b"),
    (
        b"\xaa" * 131,
        b"Test Using Larger Than Block-Size Key - Hash Key First",
        "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
    ),
    (
        b"\xaa" * 131,
        b"This is a test using a larger than block-size key and a larger than block-size data. The key needs to be "
        b"hashed before being used by the HMAC algorithm.",
        "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2",
    ),
]


def need(name: str) -> Board:
    """A board by its name; skips where its compiler or emulator is absent."""
    found = find_board(name)
    assert found is not None
    for program in found.needs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed; `make setup` installs it")
    return found


@pytest.fixture
def board() -> Board:
    """The emulated Cortex-M4F."""
    return need("mps2-an386")


# ---- HMAC

# Asked: bytes of key and of message, 16 bits each, then both. Told: hash and HMAC of the message.
HMAC_LOOP = """
#include "dt_hmac.h"

static uint8_t message[1024], key[256], told[2 * DT_HASH_BYTES];

static void answer(void)
{
    const uint32_t n_key = next() | (uint32_t)next() << 8, n = next() | (uint32_t)next() << 8;
    for (uint32_t i = 0; i < n_key; i++) {
        key[i] = next();
    }
    for (uint32_t i = 0; i < n; i++) {
        message[i] = next();
    }
    dt_sha256(message, n, told);
    dt_hmac(key, n_key, message, n, told + DT_HASH_BYTES);
}
"""
ON_HOST = """
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static uint8_t next(void)
{
    const int byte = getchar();
    if (byte == EOF) {
        exit(0);
    }
    return (uint8_t)byte;
}
%s
int main(void)
{
    for (;;) {
        answer();
        fwrite(told, 1, sizeof told, stdout);
    }
}
"""
ON_BOARD = """
#define next dt_board_read
%s
int __wrap_main(void)
{
    dt_board_init();
    for (;;) {
        answer();
        dt_board_write(told, sizeof told);
    }
}
"""


def _cases(count: int) -> list[tuple[bytes, bytes]]:
    """Keys and messages: those of the standard, messages of each length around two blocks, random ones."""
    rng = random.Random(4231)
    cases = [(key, data) for key, data, _ in RFC_4231]
    cases += [(rng.randbytes(rng.choice((0, 20, 32, 63, 64, 65, 131))), rng.randbytes(n)) for n in range(132)]
    return cases + [(rng.randbytes(rng.randrange(200)), rng.randbytes(rng.randrange(1000))) for _ in range(count)]


def _asked(case: tuple[bytes, bytes]) -> bytes:
    key, data = case
    return len(key).to_bytes(2, "little") + len(data).to_bytes(2, "little") + key + data


def _check(cases: list[tuple[bytes, bytes]], told: bytes) -> None:
    assert len(told) == 64 * len(cases)
    for place, (key, data) in enumerate(cases):
        expected = hashlib.sha256(data).digest() + hmac.digest(key, data, "sha256")
        assert told[64 * place : 64 * place + 64] == expected, (key, data)
    for place, (_, _, mac) in enumerate(RFC_4231):
        assert told[64 * place + 32 : 64 * place + 64].hex() == mac


def test_the_hmac_is_that_of_another_implementation(tmp_path: Path) -> None:
    """Vectors of the standard, then thousands of random lengths, under both sanitizers."""
    source, program = tmp_path / "hmac.c", tmp_path / "hmac"
    source.write_text(ON_HOST % HMAC_LOOP)
    flags = ("-std=c11", "-O1", "-Wall", "-Wextra", "-Werror", "-fsanitize=address,undefined", "-fno-sanitize-recover")
    command = ["gcc", *flags, f"-I{SOURCES}", str(SOURCES / "dt_hmac.c"), str(source), "-o", str(program)]
    subprocess.run(command, check=True)
    cases = _cases(5000)
    asked = b"".join(map(_asked, cases))
    _check(cases, subprocess.run([str(program)], input=asked, capture_output=True, check=True).stdout)


def test_the_hmac_is_the_same_on_the_emulated_core(board: Board, tiny_model: QuantModel, tmp_path: Path) -> None:
    elf = build_variant(board, tiny_model, tmp_path, ON_BOARD % HMAC_LOOP)
    cases, told = _cases(60), b""
    with Emulator.start(board, elf, wait=False) as emulator:
        line = Line(emulator.port)
        for number, case in enumerate(cases, 1):
            line.write(_asked(case))
            while len(told) < 64 * number:
                more = line.read(10)
                assert more, f"no answer to case {number}"
                told += more
        line.close()
    _check(cases, told)


@pytest.fixture(scope="module")
def c_lock(tmp_path_factory: pytest.TempPathFactory) -> tuple[FFI, Any]:
    """dt_lock.c as a library of this PC."""
    library = tmp_path_factory.mktemp("lock") / "lock.so"
    includes = [f"-I{path}" for path in (deltatrain_firmware.include_dir(), deltatrain_core.include_dir())]
    strict = ["-std=c11", "-O1", "-shared", "-fPIC", "-Wall", "-Wextra", "-Wconversion", "-Werror"]
    sources = [str(SOURCES / name) for name in ("dt_lock.c", "dt_hmac.c")]
    subprocess.run(["gcc", *strict, *includes, *sources, "-o", str(library)], check=True)
    ffi = FFI()
    ffi.cdef("#define DT_CHALLENGE_BYTES 16\n#define DT_PROOF_BYTES 32")
    ffi.cdef(protocol.declarations(SOURCES / "dt_lock.h"))
    ffi.cdef(protocol.declarations(SOURCES / "dt_hmac.h"))
    return ffi, ffi.dlopen(str(library))


def test_the_comparison_sees_each_bit(c_lock: tuple[FFI, Any]) -> None:
    _, lib = c_lock
    right = random.Random(1).randbytes(32)
    assert lib.dt_equal(right, right, 32) == 1
    for bit in range(256):
        wrong = bytearray(right)
        wrong[bit // 8] ^= 1 << bit % 8
        assert lib.dt_equal(right, bytes(wrong), 32) == 0


def test_challenges_differ_in_all_that_they_are_made_of(c_lock: tuple[FFI, Any]) -> None:
    """Also after a restart at the same tick with the same nonce, where the board has any entropy."""
    ffi, lib = c_lock
    lock, out = ffi.new("dt_lock_t *"), ffi.new("uint8_t[16]")
    key = ffi.new("uint8_t[]", KEY.secret)

    def challenge(entropy: int = 1, nonce: int = 2, ticks: int = 3, restart: bool = True) -> bytes:
        if restart:
            lib.dt_lock_init(lock, key, TRAINING, entropy)
        lib.dt_lock_session(lock, nonce)
        lib.dt_lock_challenge(lock, ticks, out)
        return bytes(out)

    first = challenge()
    others = [challenge(entropy=0), challenge(nonce=3), challenge(ticks=4), challenge(), challenge(restart=False)]
    assert others[3] == first, "the same run gives the same"
    assert len({first, *others}) == 5
    lib.dt_lock_challenge(lock, 99, out)
    assert bytes(out) == others[4], "a lost answer may be asked for again"


def test_a_board_with_a_generator_has_entropy(tiny_model: QuantModel, tmp_path: Path) -> None:
    """An nRF51's, as QEMU models it: other bits at each start."""
    board = need("microbit")
    main = """
int __wrap_main(void)
{
    dt_board_init();
    (void)dt_board_read();
    const uint32_t bits = dt_board_entropy();
    dt_board_write((const uint8_t *)&bits, sizeof bits);
    for (;;) {
    }
}
"""
    elf = build_variant(board, tiny_model, tmp_path, main)
    told = []
    for _ in range(2):
        with Emulator.start(board, elf, wait=False) as emulator:
            line = Line(emulator.port)
            line.write(b"x")
            bits = b""
            while len(bits) < 4:
                more = line.read(10)
                assert more, "no answer"
                bits += more
            told.append(bits)
            line.close()
    assert told[0] != told[1] and bytes(4) not in told


# ---- the server


@pytest.fixture
def locked(native_device: Any, tiny_model: QuantModel) -> Iterator[RawLine]:
    """A session with a locked device that lets anyone recognise."""
    with RawLine(native_device(tiny_model, lock=Lock(KEY)).port) as line:
        assert line.hello()[0] == 0
        yield line


def number_of(name: str) -> int:
    """A number of dt_lock.h."""
    found = re.search(rf"{name} (\d+)", (SOURCES / "dt_lock.h").read_text())
    assert found is not None
    return int(found[1])


def _proof(line: RawLine, model: QuantModel, key: Key = KEY, nonce: int = NONCE) -> bytes:
    status, challenge = line.ask("CHALLENGE", 50)
    assert status == 0 and len(challenge) == 16
    return key.proof(model.hash(), challenge, nonce)


QUICKLY = ("gcc", "-O0")  # to compile
READING = {"GET_CONFIG": b"", "READ_TENSOR": protocol.pack("dt_tensor_t", count=1)}
WRITING = {
    "SET_CONFIG": bytes(32),
    "WRITE_TENSOR": protocol.pack("dt_tensor_t", count=1) + b"\1\0",
    "RESET_WEIGHTS": b"",
    "TRAIN": TRAIN_1,
    "LEARN": b"",
    "REPLAY": b"",
}
RECOGNISING = {"BEGIN": b"", "FRAMES": protocol.pack("dt_frames_t", n_frames=1) + bytes(6), "INFER": b""}
OPEN = {"STATISTICS": b"", "CHALLENGE": b""}


@pytest.mark.parametrize("inference", [False, True])
def test_each_command_is_locked_or_open(native_device: Any, tiny_model: QuantModel, inference: bool) -> None:
    """Every command of the protocol is in one of the tables above, so that a new one cannot be forgotten."""
    built_in = {"COMMIT", "FORGET", "PHASES"}  # where there is a store, or hooks
    known = {"NONE", "HELLO", "UNLOCK"} | built_in | READING.keys() | WRITING.keys() | RECOGNISING.keys() | OPEN.keys()
    assert known == set(protocol.COMMANDS.values())
    with RawLine(native_device(tiny_model, QUICKLY, Lock(KEY, inference)).port) as line:
        hello = protocol.unpack("dt_hello_reply_t", line.hello()[1])
        assert hello.locks == (TRAINING | INFERENCE if inference else TRAINING)
        sequence = 0
        for name, payload in (READING | WRITING).items():
            sequence += protocol.enumerators("dt_command")[f"DT_CMD_{name}"] >= protocol.FIRST_EFFECT
            assert line.ask(name, sequence, payload) == (STATUS["DT_ERR_LOCKED"], b""), name
        for name, payload in RECOGNISING.items():
            sequence += 1
            expected = STATUS["DT_ERR_LOCKED"] if inference else 0
            assert line.ask(name, sequence, payload)[0] == expected, name
        for name, payload in OPEN.items():
            assert line.ask(name, 9, payload)[0] == 0, name
        assert line.ask("UNLOCK", sequence + 1, _proof(line, tiny_model)) == (0, b"")
        refused = {"SET_CONFIG": "DRNN_ERR_RANGE", "LEARN": "DRNN_ERR_READOUT", "REPLAY": "DRNN_ERR_REPLAY"}
        for name in ("WRITE_TENSOR", "RESET_WEIGHTS", "BEGIN", "FRAMES", "SET_CONFIG", "READ_TENSOR", "GET_CONFIG"):
            sequence += protocol.enumerators("dt_command")[f"DT_CMD_{name}"] >= protocol.FIRST_EFFECT
            status, _ = line.ask(name, sequence + 1, (READING | WRITING | RECOGNISING)[name])
            assert status == (STATUS[refused[name]] if name in refused else 0), name


def test_the_page_tells_what_is_locked() -> None:
    page = (Path(__file__).parent.parent / "PROTOCOL.md").read_text()
    rows = dict(re.findall(r"^\| (neither|1|2) \| (.*) \|$", page, re.MULTILINE))
    told = {who: set(re.findall(r"[A-Z_]{3,}", row.replace("; FRAMES with", ""))) for who, row in rows.items()}
    assert told["neither"] == {"HELLO", "UNLOCK", "PHASES"} | OPEN.keys()
    assert told["1"] == {"COMMIT", "FORGET"} | READING.keys() | WRITING.keys()
    assert told["2"] == RECOGNISING.keys()


def test_hidden_states_are_locked_where_outputs_are_open(locked: RawLine) -> None:
    assert locked.ask("BEGIN", 1) == (0, b"")
    frame = protocol.pack("dt_frames_t", n_frames=1, want_hidden=1) + bytes(6)
    assert locked.ask("FRAMES", 2, frame) == (STATUS["DT_ERR_LOCKED"], b"")
    assert locked.ask("FRAMES", 3, RECOGNISING["FRAMES"])[0] == 0
    assert locked.ask("INFER", 4)[0] == 0


def test_a_challenge_serves_once(locked: RawLine, tiny_model: QuantModel) -> None:
    assert locked.ask("UNLOCK", 1, bytes(32)) == (STATUS["DT_ERR_KEY"], b""), "none was asked for"
    proof = _proof(locked, tiny_model)
    assert locked.ask("UNLOCK", 2, bytes(32)) == (STATUS["DT_ERR_KEY"], b"")
    assert locked.ask("UNLOCK", 3, proof) == (STATUS["DT_ERR_KEY"], b""), "used up by the wrong one"
    proof = _proof(locked, tiny_model)
    assert locked.ask("UNLOCK", 4, proof) == (0, b"")
    assert locked.ask("UNLOCK", 4, proof) == (0, b""), "the same frame, whose answer was lost"
    assert locked.ask("GET_CONFIG", 1)[0] == 0
    assert locked.hello()[0] == 0
    assert locked.ask("GET_CONFIG", 1)[0] == 0, "the same hello, doubled on the line"
    assert locked.hello(NEXT_NONCE)[0] == 0
    assert locked.ask("GET_CONFIG", 1)[0] == STATUS["DT_ERR_LOCKED"], "a session's lock ends with it"
    assert locked.ask("UNLOCK", 1, proof) == (STATUS["DT_ERR_KEY"], b"")
    _proof(locked, tiny_model)
    assert locked.ask("UNLOCK", 2, proof) == (STATUS["DT_ERR_KEY"], b""), "an old proof, a new challenge"


def test_a_proof_is_of_its_session_and_model(locked: RawLine, tiny_model: QuantModel) -> None:
    assert locked.ask("UNLOCK", 1, _proof(locked, tiny_model, nonce=NEXT_NONCE))[0] == STATUS["DT_ERR_KEY"]
    assert locked.ask("UNLOCK", 2, _proof(locked, tiny_model, OTHER))[0] == STATUS["DT_ERR_KEY"]
    challenge = locked.ask("CHALLENGE", 1)[1]
    assert locked.ask("UNLOCK", 3, KEY.proof(bytes(32), challenge, NONCE))[0] == STATUS["DT_ERR_KEY"]
    assert locked.ask("UNLOCK", 4, _proof(locked, tiny_model)) == (0, b"")


def test_after_ten_wrong_proofs_no_other_is_taken(locked: RawLine, tiny_model: QuantModel) -> None:
    tries = number_of("DT_UNLOCK_TRIES")
    sequence = 0
    for _ in range(2):  # a right one in between starts the count again
        for _ in range(tries - 1):
            sequence += 1
            assert locked.ask("UNLOCK", sequence, _proof(locked, tiny_model, OTHER))[0] == STATUS["DT_ERR_KEY"]
        sequence += 1
        assert locked.ask("UNLOCK", sequence, _proof(locked, tiny_model)) == (0, b"")
    locked.hello(NEXT_NONCE)
    for sequence in range(1, tries + 1):
        assert locked.ask("UNLOCK", sequence, _proof(locked, tiny_model, OTHER))[0] == STATUS["DT_ERR_KEY"]
    assert locked.ask("UNLOCK", tries + 1, _proof(locked, tiny_model, nonce=NEXT_NONCE))[0] == STATUS["DT_ERR_KEY"]
    assert locked.ask("BEGIN", tries + 2) == (0, b""), "all else goes on"


def test_the_session_of_an_unlocked_device_cannot_be_guessed(locked: RawLine, tiny_model: QuantModel) -> None:
    guesses = number_of("DT_FOREIGN_REQUESTS")
    assert locked.ask("UNLOCK", 1, _proof(locked, tiny_model)) == (0, b"")
    for guess in range(1, guesses + 1):
        assert locked.ask("GET_CONFIG", 1)[0] == 0
        assert locked.ask("GET_CONFIG", 1, session=NONCE + guess)[0] == STATUS["DT_ERR_SESSION"]
    assert locked.ask("GET_CONFIG", 1)[0] == STATUS["DT_ERR_LOCKED"]
    assert locked.ask("UNLOCK", 2, _proof(locked, tiny_model)) == (0, b"")
    assert locked.ask("GET_CONFIG", 1)[0] == 0


def test_a_device_without_a_lock_knows_no_challenge(native_device: Any, tiny_model: QuantModel) -> None:
    with RawLine(native_device(tiny_model, QUICKLY).port) as line:
        assert protocol.unpack("dt_hello_reply_t", line.hello()[1]).locks == 0
        assert line.ask("CHALLENGE", 1) == (STATUS["DT_ERR_COMMAND"], b"")
        assert line.ask("UNLOCK", 1, bytes(32)) == (STATUS["DT_ERR_COMMAND"], b"")


# ---- the client


def test_the_client_unlocks_at_every_hello(native_device: Any, tiny_model: QuantModel) -> None:
    native = native_device(tiny_model, QUICKLY, Lock(KEY, inference=True))
    url = native.url
    with Device.open(url) as device:
        assert device.info.locks == TRAINING | INFERENCE
        with pytest.raises(RefusedError, match=r"locked.*--key FILE or DELTATRAIN_KEY") as caught:
            device.config()
        assert caught.value.status == STATUS["DT_ERR_LOCKED"]
        with pytest.raises(RefusedError, match="give the key that this device was exported with"):
            device.unlock(OTHER)
        device.unlock(KEY)
        assert device.config().step == 0 and device.info.locks == 0
        assert device.hello().locks == 0
        np.testing.assert_array_equal(device.tensor("layer0.bias"), tiny_model.layers[0].bias)
    with Device.open(url, key=KEY) as device:
        device.begin()
        assert device.push(np.zeros((2, 3), np.int16)).shape == (2, 4)
        nonce = device._nonce
    with RawLine(native.port) as stranger:  # who knows the last session
        status, _ = stranger.ask("GET_CONFIG", 1, session=nonce)
        assert status == STATUS["DT_ERR_SESSION"], "the client closed it"
    with pytest.raises(RefusedError, match="UNLOCK"):
        Device.open(url, key=OTHER)


def test_recognising_takes_no_key_where_it_is_open(native_device: Any, tiny_model: QuantModel) -> None:
    rng = np.random.default_rng(1)
    frames = [rng.integers(-9000, 9000, (5, 3)).astype(np.int16) for _ in range(6)]
    samples = [Sample(x, index % 3, str(index)) for index, x in enumerate(frames)]
    with Device.open(native_device(tiny_model, lock=Lock(KEY)).url) as device:
        told = evaluate(device, samples, 3)
    assert told == evaluate(CoreNetwork(tiny_model), samples, 3)


# ---- keys


def test_a_key_is_a_file_or_its_digits(tmp_path: Path) -> None:
    path = tmp_path / "key"
    key = Key.new()
    assert key != Key.new() and key.secret.hex() not in repr(key)
    key.save(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert Key.given(str(path)) == Key.given(key.secret.hex().upper()) == key
    with pytest.raises(InputError, match="never overwritten"):
        key.save(path)
    assert Key.given(str(path)) == key
    with pytest.raises(InputError, match="cannot write the key"):
        key.save(tmp_path / "absent" / "key")


@pytest.mark.parametrize("content", [b"", b"#+*", b"g" * 64, b"0" * 65, b"\xff\xfe", b"0" * 64 + b" x"])
def test_what_is_no_key_is_refused_without_showing_it(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        Key.given(str(path))
    assert f"{path} is no key file" in str(caught.value) and (
        not content or content.decode("latin-1") not in str(caught.value)
    )
    digits = "a" * 63
    with pytest.raises(InputError, match="63 hexadecimal digits") as caught:
        Key.given(digits)
    assert digits not in str(caught.value)


# ---- commands


def invoke(*arguments: object, expect: int = 0) -> Any:
    """Run a command in this process; its result."""
    result = CliRunner().invoke(main, [str(word) for word in arguments], catch_exceptions=False)
    assert result.exit_code == expect, result.stderr
    return result


def test_export_makes_a_key_and_the_firmware_asks_for_it(board: Board, tiny_model: QuantModel, tmp_path: Path) -> None:
    model, key, out = tmp_path / "m.safetensors", tmp_path / "device.key", tmp_path / "build"
    tiny_model.save(model)
    export = ("export", "--model", model, "--out", out, "--json")
    told = json.loads(invoke(*export, "--new-key", key, "--lock-inference").stdout)
    assert told["locked"] == ["training", "inference"]
    derived, elf = Key.given(str(key)).of_device(tiny_model.hash()), out / "firmware.elf"
    assert derived in elf.read_bytes() and Key.given(str(key)).secret not in elf.read_bytes()
    for path in (key, out / "dt_key.c", elf):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    again = invoke(*export, "--new-key", key, expect=2)
    assert "never overwritten" in again.stderr
    with Emulator.start(board, elf) as emulator:
        with Device.open(emulator.port) as device, pytest.raises(RefusedError, match="locked"):
            device.begin()
        with Device.open(emulator.port, key=Key.given(str(key))) as device:
            device.begin()
            np.testing.assert_array_equal(device.tensor("layer0.bias"), tiny_model.layers[0].bias)
        with pytest.raises(RefusedError, match="UNLOCK"):
            Device.open(emulator.port, key=OTHER)
    assert json.loads(invoke(*export).stdout)["locked"] == []
    assert not (out / "dt_key.c").exists() and derived not in elf.read_bytes()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--lock-inference",), "--lock-inference takes a key"),
        (("--key", "00" * 32, "--new-key", "k"), "give one of the two"),
        (("--key", "absent"), "cannot read the key from absent"),
        (("--library", "--key", "00" * 32), "no serial line to lock"),
    ],
)
def test_export_refuses_what_cannot_be(
    tiny_model: QuantModel, tmp_path: Path, options: tuple[str, ...], words: str
) -> None:
    tiny_model.save(tmp_path / "m.safetensors")
    refused = invoke("export", "--model", tmp_path / "m.safetensors", "--out", tmp_path / "o", *options, expect=2)
    assert words in refused.stderr and not (tmp_path / "o").exists()
