"""Training over bad lines, with hosts that are killed and devices that restart: what study, soak and tests share."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from conftest import integer_model
from line_proxy import CLEAN, Count, Faults, LineProxy

from deltatrain.errors import LinkInterrupted
from deltatrain.link import Device
from deltatrain.link.exchange import Counters
from deltatrain.quant_model import QuantModel
from deltatrain.recovery import train_from
from deltatrain.targets import Board, Emulator, find_board
from deltatrain.training import Sample, Settings
from deltatrain_codegen.build import export
from deltatrain_core import CoreNetwork

SMALL = {"n_in": 8, "n_hidden": 16, "max_steps": 12, "class_names": ("a", "b", "c", "d")}
SPEECH = {"n_in": 16, "n_hidden": 64, "max_steps": 50, "class_names": tuple("0123456789"), "weight_bound": 3000}
# What a serial cable in a workshop may do, all at once.
MIX = Faults(bit_errors=1e-3, dropped=1e-4, doubled=1e-4, inserted=1e-4, stalls=1e-5)


def an386() -> Board:
    """The emulated Cortex-M4F."""
    board = find_board("mps2-an386")
    assert board is not None
    return board


@dataclass(frozen=True)
class Bench:
    """A model, its firmware, and samples without end, each a function of its position alone."""

    model: QuantModel
    elf: Path
    n_frames: int

    @staticmethod
    def build(sizes: dict[str, object], folder: Path) -> Bench:
        """Build the firmware into `folder`."""
        model = integer_model(**sizes)  # type: ignore[arg-type]
        return Bench(model, export(model, an386(), folder).elf, model.max_steps)

    @property
    def settings(self) -> Settings:
        """How it is trained."""
        return Settings.of(self.model, seed=3)

    def sample_at(self, position: int) -> Sample:
        """The sample at a position."""
        rng = np.random.default_rng([5, position])
        frames = rng.normal(0, 2500, (self.n_frames, self.model.layers[0].n_in)).clip(-16383, 16383).astype(np.int16)
        return Sample(frames, int(rng.integers(self.model.n_outputs)), str(position))

    @property
    def payload_bytes(self) -> int:
        """Bytes of a sample."""
        return 2 * self.n_frames * self.model.layers[0].n_in

    def expected(self, steps: int) -> CoreNetwork:
        """The host's core after so many steps."""
        core = CoreNetwork(self.model)
        self.settings.apply(core)
        for position in range(steps):
            self.sample_at(position).train_whole(core)
        return core

    def words_different(self, device: Device, core: CoreNetwork) -> tuple[int, int]:
        """Words of all trained tensors compared, and of them different."""
        names = list(self.model.tensors())
        pairs = [(device.tensor(name), core.tensor(name)) for name in names]
        return sum(a.size for a, _ in pairs), sum(int((a != b).sum()) for a, b in pairs)


@dataclass
class Run:
    """What came of a run."""

    steps: int
    seconds: float = 0.0
    positions: list[int] = field(default_factory=list)
    words: int = 0
    words_different: int = 0
    samples_trained: int = 0
    link: Counters = field(default_factory=Counters)
    line: Count = field(default_factory=Count)
    interruptions: list[LinkInterrupted] = field(default_factory=list)

    @property
    def once_each(self) -> bool:
        """Whether host and device agree that every sample was trained once."""
        return self.positions == list(range(self.steps)) and self.samples_trained == self.steps


def over_bad_line(bench: Bench, faults: Faults, steps: int, seed: int = 1) -> Run:
    """Train through the proxy, and compare with the core."""
    run = Run(steps)
    with (
        Emulator.start(an386(), bench.elf) as emulator,
        LineProxy(lambda: port_of(emulator), replace(faults, cuts=0), seed=seed) as proxy,
        Device.open(proxy.url) as device,
    ):
        # A port that closes at first contact is none of ours, so not before.
        proxy.faults = [faults, faults]
        bench.settings.apply(device)
        before = proxy.count.bytes
        started = time.monotonic()
        run.positions = [done.position for done in train_from(device, bench.settings, bench.sample_at, 0, steps)]
        run.seconds = time.monotonic() - started
        run.line, run.link = Count(**vars(proxy.count)), Counters(**vars(device.counters))
        run.line.bytes -= before
        run.words, run.words_different = bench.words_different(device, bench.expected(steps))
        run.samples_trained = device.statistics().samples_trained
    return run


def port_of(emulator: Emulator) -> int:
    """The TCP port of its serial line."""
    return int(emulator.port.rpartition(":")[2])


# ---- hosts that are killed


def _host(url: str, bench: Bench, steps: int, started: multiprocessing.synchronize.Event) -> None:
    """Go on where the device stands."""
    with Device.open(url) as device:
        step = device.info.step
        bench.settings.apply(device, step)
        started.set()
        for _ in train_from(device, bench.settings, bench.sample_at, step, steps):
            pass


def with_killed_hosts(bench: Bench, steps: int, kills: int, longest_s: float, seed: int = 1) -> Run:
    """Train with hosts that are killed (SIGKILL) at random moments, each followed by another; the last one ends."""
    run, rng = Run(steps), np.random.default_rng(seed)
    # Of a process without threads, which has all imported already.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    begun = time.monotonic()
    with Emulator.start(an386(), bench.elf) as emulator:
        for kill in range(kills + 1):
            started = context.Event()
            host = context.Process(target=_host, args=(emulator.port, bench, steps, started), daemon=True)
            host.start()
            if kill < kills:
                started.wait(30)
                host.join(rng.uniform(0, longest_s))
                assert host.is_alive(), "it ended before it could be killed; give it more steps"
                os.kill(host.pid or 0, signal.SIGKILL)
            host.join()
        run.seconds = time.monotonic() - begun
        with Device.open(emulator.port) as device:
            run.positions = list(range(device.info.step))
            run.words, run.words_different = bench.words_different(device, bench.expected(steps))
            run.samples_trained = device.statistics().samples_trained
    return run


# ---- devices that restart


def with_restarts(
    bench: Bench, steps: int, restarts: int, longest_s: float, faults: Faults = CLEAN, seed: int = 1
) -> Run:
    """Train on a device whose emulator is killed (SIGKILL) at random moments, a new one at the same port.

    It has no store, so that it starts from the model in flash each time, and all samples come again.
    """
    run, rng = Run(steps), np.random.default_rng(seed)
    begun = time.monotonic()
    emulators = [Emulator.start(an386(), bench.elf)]
    failures: list[BaseException] = []

    def host() -> None:
        try:
            with Device.open(proxy.url) as device:
                bench.settings.apply(device)
                training = train_from(
                    device,
                    bench.settings,
                    bench.sample_at,
                    0,
                    steps,
                    patience=restarts,  # the next may come before a step is done
                    on_interruption=run.interruptions.append,
                )
                for done in training:
                    if done.position == 0:
                        run.positions.clear()
                    run.positions.append(done.position)
                run.words, run.words_different = bench.words_different(device, bench.expected(steps))
                run.samples_trained = device.statistics().samples_trained
        except BaseException as failure:
            failures.append(failure)
            raise

    try:
        with LineProxy(lambda: port_of(emulators[-1]), faults, seed=seed) as proxy:
            thread = threading.Thread(target=host, daemon=True)
            thread.start()
            # Emulators end with the thread that started them, so the host has the other one.
            for number in range(restarts):
                wait_until(lambda: run.positions or failures)
                time.sleep(rng.uniform(0, longest_s))
                os.kill(emulators[-1].pid, signal.SIGKILL)
                emulators[-1].wait()
                emulators[-1].stop()
                assert thread.is_alive(), f"it ended before the device could be killed: {failures}"
                emulators.append(Emulator.start(an386(), bench.elf))
                _await_more(run.interruptions, number, failures)
            thread.join()
    finally:
        emulators[-1].stop()
    if failures:
        raise failures[0]
    run.seconds = time.monotonic() - begun
    return run


def _await_more(what: list[LinkInterrupted], than: int, failures: list[BaseException]) -> None:
    wait_until(lambda: len(what) > than or failures)


def wait_until(happened: Callable[[], object], within: float = 60.0) -> None:
    """Wait, AssertionError when it takes too long."""
    deadline = time.monotonic() + within
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.005)
