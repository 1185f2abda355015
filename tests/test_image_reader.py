"""The C reader of model files: it takes what the host writes, where it lies, and never looks beyond the file's end."""

from __future__ import annotations

import subprocess
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from equality import random_exemplars, random_frames, random_model, random_targets
from hypothesis import given, settings
from hypothesis import strategies as st
from upy import train_core

import deltatrain_core
from deltatrain import image
from deltatrain.link import protocol
from deltatrain.memory import Memory
from deltatrain.quant_model import QuantModel
from deltatrain_core import CoreNetwork
from deltatrain_core._core import ffi, lib

NATIVE = Path(__file__).parent / "native"
CRC_START = lib.DRNN_IMAGE_CRC_START
N_HEAD, N_LAYER = ffi.sizeof("drnn_image_t"), ffi.sizeof("drnn_image_layer_t")


class Opened:
    """A file's bytes in a buffer of exactly their size, and what the reader says of them."""

    def __init__(self, data: bytes) -> None:
        self.buffer = ffi.from_buffer(bytearray(data))
        self.model, self.layers = ffi.new("drnn_model_t *"), ffi.new("drnn_layer_t[]", lib.DRNN_MAX_LAYERS)
        self.replay = ffi.new("drnn_replay_t *")
        self.outcome = lib.drnn_image_model(self.buffer, len(data), self.model, self.layers, self.replay)

    def started(self) -> Any:
        """A network with the model; None where the core does not support it."""
        size = lib.drnn_arena_size(self.model)
        if size == 0:
            return None
        self.arena = np.zeros((size + 7) // 8, np.uint64)
        net = ffi.new("drnn_t *")
        outcome = lib.drnn_init(net, self.model, ffi.from_buffer(self.arena), self.arena.nbytes)
        return net if outcome == 0 else None


def models() -> list[QuantModel]:
    """One of each cell and readout, with exemplars and plans of memory."""
    rng = np.random.default_rng(5)
    cells = (["rnn"], ["gru"], ["lstm"], ["gru", "rnn", "lstm"])
    readouts = ("last", "frames", "regression", "last")
    made = [random_model(rng, 5, 6, 3, 12, 1.0, *kinds) for kinds in zip(cells, readouts, strict=True)]
    made[1] = replace(made[1], replay=random_exemplars(rng, made[1]))
    made[3] = replace(made[3], replay=random_exemplars(rng, made[3]), memory=Memory("checkpoints", 4))
    return made


MODELS = models()
FILES = [image.encode(model) for model in MODELS]


def mended(data: bytes | bytearray) -> bytes:
    """The same with the CRC that belongs to it."""
    return bytes(data[:12]) + zlib.crc32(data[CRC_START:]).to_bytes(4, "little") + bytes(data[CRC_START:])


@pytest.mark.parametrize("number", range(len(MODELS)))
def test_a_model_trains_from_its_file(number: int) -> None:
    model, rng = MODELS[number], np.random.default_rng(number)
    core, opened = CoreNetwork(model), Opened(FILES[number])
    assert opened.outcome == 0
    net, result = opened.started(), ffi.new("drnn_result_t *")
    for _ in range(5):
        frames, label = random_frames(rng, 10, model.n_in), int(rng.integers(3))
        targets = random_targets(rng, model, len(frames))
        expected = train_core(core, frames, label, targets)
        lib.drnn_begin(net)
        for t, frame in enumerate(frames):
            lib.drnn_push(net, ffi.from_buffer("int16_t[]", frame))
            if targets is not None and targets.ndim == 1 and targets[t] >= 0:
                lib.drnn_target_class(net, int(targets[t]))
            if targets is not None and targets.ndim == 2 and targets[t, 0] != -(2**31):
                lib.drnn_target_values(net, ffi.from_buffer("int32_t[]", np.ascontiguousarray(targets[t])))
        assert (lib.drnn_train(net, label, result) if targets is None else lib.drnn_learn(net, result)) == 0
        assert (result.loss, result.bound_m) == (expected.loss, expected.bound_m)
        if model.replay is not None:
            assert lib.drnn_replay(net, result) >= 0
            assert result.loss == core.replay().loss
    weights = net.plan.layers[0].weight
    trained = opened.arena.view(np.int16)[weights // 2 : weights // 2 + model.layers[0].weight.size]
    assert (trained == core.tensor("layer0.weight")).all()


def test_nothing_is_copied() -> None:
    opened = Opened(FILES[1])
    start, end = int(ffi.cast("uintptr_t", opened.buffer)), len(FILES[1])
    places = [opened.layers[0].weight, opened.layers[0].bias, opened.model.readout_weight, opened.replay.events]
    assert all(0 < int(ffi.cast("uintptr_t", place)) - start < end for place in places)


@pytest.mark.parametrize("length", [0, 1, 15, 16, N_HEAD - 1, N_HEAD, N_HEAD + N_LAYER - 1])
def test_a_short_file_is_none(length: int) -> None:
    assert Opened(FILES[0][:length]).outcome == lib.DRNN_ERR_IMAGE


def test_damage_versions_and_misalignment_are_told_apart() -> None:
    data = FILES[0]
    for at in range(len(data)):
        changed = bytearray(data)
        changed[at] ^= 1 << at % 8
        assert Opened(bytes(changed)).outcome in (lib.DRNN_ERR_IMAGE, lib.DRNN_ERR_VERSION)
    for at in (4, 6):  # version, ABI version
        newer = bytearray(data)
        newer[at] += 1
        assert Opened(bytes(newer)).outcome == lib.DRNN_ERR_VERSION
    shifted = ffi.from_buffer(bytearray(b"\0\0\0\0" + data))
    opened = Opened(data)
    misaligned = lib.drnn_image_model(shifted + 4, len(data), opened.model, opened.layers, opened.replay)
    assert misaligned == lib.DRNN_ERR_IMAGE


PLACES = [
    (name, at)
    for name, at, kind in protocol.layout_of("drnn_image_t")
    if kind == "uint32_t" and name not in ("magic", "n_bytes", "crc")
] + [
    (f"layer.{name}", N_HEAD + at) for name, at, kind in protocol.layout_of("drnn_image_layer_t") if kind == "uint32_t"
]


@pytest.mark.parametrize("name, at", PLACES)
def test_no_place_lies_beyond_the_end(name: str, at: int) -> None:
    n = len(FILES[1])  # which has exemplars
    for value in (0, 8, n - 8 + 1, n, n + 8, 2**31, 2**32 - 8, 2**32 - 1):
        data = bytearray(FILES[1])
        data[at : at + 4] = value.to_bytes(4, "little")
        outcome = Opened(mended(data)).outcome
        # A length of 0 or 8 is one that fits; nothing else does.
        assert outcome == lib.DRNN_ERR_IMAGE or (name in ("names_bytes", "replay_bytes") and value in (0, 8)), value


@st.composite
def hostile_files(draw: st.DrawFn) -> bytes:
    """Files with fields, bytes and lengths changed, as a whole with the right CRC and length or not."""
    data = bytearray(draw(st.sampled_from(FILES)))
    numbers = st.sampled_from([0, 1, 7, 8, 255, 1024, 1025, 32767, 65535, 2**31, 2**32 - 1, len(data)])
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, min(len(data), N_HEAD + 3 * N_LAYER) - 1))
        width = draw(st.sampled_from([1, 2, 4]))
        value = draw(numbers | st.integers(0, 2**32 - 1)) % 256**width
        data[at : at + width] = value.to_bytes(width, "little")
    if draw(st.booleans()):
        del data[draw(st.integers(0, len(data))) :]
    if draw(st.integers(0, 9)) and len(data) >= CRC_START:
        data[:4] = lib.DRNN_IMAGE_MAGIC.to_bytes(4, "little")
        data[4:8] = FILES[0][4:8]
        data[8:12] = len(data).to_bytes(4, "little")
        return mended(data)
    return bytes(data)


@given(hostile_files())
@settings(max_examples=400, deadline=None)
def test_hostile_files_are_refused_or_train(data: bytes) -> None:
    """Whatever passes can be used: all that the model points to lies in the file."""
    opened = Opened(data)
    if opened.outcome != 0:
        assert opened.outcome in (lib.DRNN_ERR_IMAGE, lib.DRNN_ERR_VERSION, lib.DRNN_ERR_MODEL)
        return
    model, start = opened.model, int(ffi.cast("uintptr_t", opened.buffer))
    extents = [(model.readout_weight, 2 * model.n_outputs * opened.layers[model.n_layers - 1].n_hidden)]
    extents += [(model.readout_bias, 4 * model.n_outputs)]
    for layer in opened.layers[0 : model.n_layers]:
        gates, accumulators = ((1, 1), (3, 4), (4, 4))[layer.cell]
        extents += [(layer.weight, 2 * (layer.n_in + layer.n_hidden) * gates * layer.n_hidden)]
        extents += [(layer.bias, 4 * accumulators * layer.n_hidden)]
    if model.replay != ffi.NULL:
        count = model.replay.n_exemplars
        extents += [(model.replay.events, model.replay.n_bytes), (model.replay.start, 4 * count)]
        extents += [(model.replay.n_steps, 2 * count), (model.replay.label, count)]
    for place, n_bytes in extents:
        assert 0 < int(ffi.cast("uintptr_t", place)) - start <= len(data) - n_bytes
    if lib.drnn_arena_size(model) > 10**8 or (net := opened.started()) is None:
        return
    result, frame = ffi.new("drnn_result_t *"), np.full(opened.layers[0].n_in, 9000, np.int16)
    lib.drnn_begin(net)
    lib.drnn_push(net, ffi.from_buffer("int16_t[]", frame))
    if model.readout == lib.DRNN_LAST:
        lib.drnn_train(net, 0, result)
    if model.replay != ffi.NULL:
        lib.drnn_replay(net, result)


def test_sanitizers_see_nothing(tmp_path: Path) -> None:
    """2,000 changed files through the C reader and a training step, each in memory of its own size."""
    rng, files = np.random.default_rng(11), []
    for number in range(2000):
        data = bytearray(FILES[number % len(FILES)])
        for _ in range(int(rng.integers(0, 4))):
            at, width = int(rng.integers(16, N_HEAD + N_LAYER)), int(rng.choice([1, 2, 4]))
            numbers = (0, 1, 2, 8, 200, 1024, 65535, 2**32 - 1, len(data), int(rng.integers(2**32)))
            value = numbers[int(rng.integers(len(numbers)))]
            data[at : at + width] = (value % 256**width).to_bytes(width, "little")
        if number % 7 == 0:
            del data[int(rng.integers(16, len(data))) :]
        data[8:12] = len(data).to_bytes(4, "little")
        whole = mended(data)
        files.append(len(whole).to_bytes(4, "little") + whole)
    program = tmp_path / "image_files"
    include = f"-I{deltatrain_core.include_dir()}"
    sources = [str(NATIVE / "image_files.c"), *map(str, deltatrain_core.sources())]
    command = ["gcc", "-std=c11", "-O0", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", include]
    subprocess.run([*command, *sources, "-o", str(program)], check=True)
    done = subprocess.run([program], input=b"".join(files), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    refused, used = (int(word) for word in done.stdout.split() if word.isdigit())
    assert refused > 500 and used > 300, done.stdout
