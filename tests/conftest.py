"""Fixtures that several areas share."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import deltatrain_core
import deltatrain_firmware
from deltatrain.features import FeatureConfig
from deltatrain.key import Lock
from deltatrain.memory import Memory
from deltatrain.model import N_ACCUMULATORS, N_GATES
from deltatrain.quant_model import QuantLayer, QuantModel
from deltatrain.scale import Scale
from deltatrain_codegen.generate import generate
from deltatrain_codegen.lock import lock_flags, write_key


def _integers(count: int, bound: int, seed: int) -> NDArray[np.int64]:
    """`count` integers in [-bound, bound] of a linear congruential sequence: the same with every numpy."""
    values, state = np.empty(count, np.int64), seed
    for index in range(count):
        state = (state * 1103515245 + 12345) % 2**31
        values[index] = (state >> 8) % (2 * bound + 1) - bound
    return values


def integer_layer(index: int, cell: str, n_in: int, n_hidden: int, weight_bound: int) -> QuantLayer:
    """A layer of `integer_model`."""
    rows, n_biases = N_GATES[cell] * n_hidden, N_ACCUMULATORS[cell] * n_hidden
    weight = _integers((n_in + n_hidden) * rows, weight_bound, 1 + 10 * index)
    return QuantLayer(
        cell=cell,
        n_in=n_in,
        n_hidden=n_hidden,
        x_frac_bits=11 if index == 0 else 14,
        wx_frac_bits=14,
        wh_frac_bits=14,
        c_frac_bits=11,
        theta_x=205,
        theta_h=1638,
        weight=weight.reshape(n_in + n_hidden, rows).astype(np.int16),
        bias=_integers(n_biases, 1 << 22, 2 + 10 * index).astype(np.int32),
    )


def integer_model(
    n_in: int = 3,
    n_hidden: int = 4,
    max_steps: int = 8,
    class_names: tuple[str, ...] = ("yes", "no", "maybe"),
    weight_bound: int = 6000,
    cells: tuple[str, ...] = ("lstm",),
    readout: str = "last",
) -> QuantModel:
    """A model made of integers alone; one layer for each of `cells`, each of `n_hidden` units."""
    n_classes = len(class_names)
    return QuantModel(
        layers=tuple(
            integer_layer(index, cell, n_hidden if index else n_in, n_hidden, weight_bound)
            for index, cell in enumerate(cells)
        ),
        readout_frac_bits=13,
        readout_weight=_integers(n_classes * n_hidden, 8000, 3).reshape(n_classes, n_hidden).astype(np.int16),
        readout_bias=_integers(n_classes, 1 << 20, 4).astype(np.int32),
        max_steps=max_steps,
        learning_rate=Scale.from_float(0.08, "learning rate"),
        clip=Scale.from_float(2.0, "clip"),
        class_names=class_names,
        features=FeatureConfig(n_bands=n_in, max_frames=max_steps),
        readout=readout,
    )


@pytest.fixture(scope="session")
def make_integer_model() -> Callable[..., QuantModel]:
    """Make models of any dimensions, of integers alone; see `integer_model`."""
    return integer_model


@pytest.fixture
def tiny_model() -> QuantModel:
    """The model whose generated sources are committed in tests/golden."""
    return integer_model()


@pytest.fixture(scope="session", autouse=True)
def background_of_this_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Background emulators of this process alone: tests that run beside it have others, which nobody may take."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("state")))
        yield


SANITIZED = ("gcc", "-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


@pytest.fixture(scope="session")
def native_program(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., Path]:
    """Build the firmware's loop and server for this PC, by a compiler and its flags; it serves one TCP socket."""
    built: dict[tuple[bytes, Memory, tuple[str, ...], Lock | None], Path] = {}

    def build(model: QuantModel, compiler: tuple[str, ...], lock: Lock | None = None) -> Path:
        if shutil.which(compiler[0]) is None:
            pytest.skip(f"{compiler[0]} is not installed; `make setup` installs it")
        key = model.hash(), model.memory, compiler, lock
        if key not in built:
            folder = tmp_path_factory.mktemp("native")
            for name, text in generate(model).items():
                (folder / name).write_text(text, encoding="utf-8")
            firmware = deltatrain_firmware.root() / "src"
            sources = [
                *deltatrain_core.sources(),
                *(firmware / name for name in ("main.c", "dt_frame.c", "dt_hmac.c", "dt_lock.c", "dt_server.c")),
                Path(__file__).parent / "native" / "native_board.c",
                folder / "dt_model.c",
                *write_key(lock, model, folder),
            ]
            includes = [
                deltatrain_core.include_dir(),
                deltatrain_firmware.include_dir(),
                firmware,
                folder,
            ]
            program = folder / "native_device"
            command = [
                *compiler,
                "-std=gnu11",
                *(f"-I{path}" for path in includes),
                *lock_flags(lock),
                *map(str, sources),
                "-o",
                str(program),
            ]
            subprocess.run(command, check=True)
            built[key] = program
        return built[key]

    return build


@dataclass(frozen=True)
class NativeDevice:
    """A running device on this PC."""

    port: int
    process: subprocess.Popen[bytes]
    program: Path

    @property
    def url(self) -> str:
        """As pyserial takes it."""
        return f"socket://127.0.0.1:{self.port}"


@pytest.fixture
def native_device(
    native_program: Callable[..., Path],
) -> Iterator[Callable[..., NativeDevice]]:
    """Start devices on this PC; each must still run, without a sanitizer's complaint, when the test ends."""
    started: list[NativeDevice] = []

    def start(model: QuantModel, compiler: tuple[str, ...] = SANITIZED, lock: Lock | None = None) -> NativeDevice:
        program = native_program(model, compiler, lock)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            # Accepted connections inherit it: a reply goes out in several small pieces.
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            process = subprocess.Popen(
                [program],
                env={**os.environ, "DT_LISTENER": str(listener.fileno())},
                pass_fds=[listener.fileno()],
                stderr=subprocess.PIPE,
            )
            started.append(NativeDevice(listener.getsockname()[1], process, program))
        return started[-1]

    yield start
    for device in started:
        ended = device.process.poll()
        device.process.kill()
        _, complaint = device.process.communicate()
        assert ended is None or ended == -signal.SIGKILL, complaint.decode(errors="replace")


@pytest.fixture(scope="session")
def scheduler() -> Iterator[str]:
    """Address of a Dask scheduler with two worker processes."""
    from distributed import LocalCluster

    with pytest.MonkeyPatch.context() as patch:
        # Workers find the functions of this file as this process does.
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0") as cluster:
            yield cluster.scheduler_address
