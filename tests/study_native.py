"""The native module in MicroPython's own ports, against the C core on this computer, word by word; also a program.

    python tests/study_native.py --mpy-dir DIR --data-dir DIR

builds the module for every architecture that there is a compiler for, and MicroPython's unix port (alone, and with the
module built in) and QEMU port (Cortex-M3, Cortex-M4F) from its source tree, and trains real motion data there. Every
word is compared after every step. Then the module is called wrongly, and what it costs is told. The last line is
`N steps, M words compared, K words differ`; the exit status is 0 where K is 0 and nothing else failed.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Timer

import click
import numpy as np
from click.testing import CliRunner
from equality import random_exemplars, random_model
from upy import record
from upy_ports import (
    AN385,
    AN386,
    HEAP_BYTES,
    ICOUNT_SHIFT,
    MICROPYTHON,
    ROOT,
    UNIX,
    UNIX_WITHIN,
    Port,
    build_modules,
    build_port,
    emulated,
    unix,
)

from deltatrain import datasets, image
from deltatrain.cli import main as deltatrain
from deltatrain.comparison import compare
from deltatrain.micropython import MicroPythonDevice, RawRepl, install
from deltatrain.micropython.raw_repl import BoardError
from deltatrain.quant_model import QuantModel
from deltatrain.samples import samples_of
from deltatrain.training import Sample, Settings
from deltatrain_core import CoreNetwork

HOLDOUT = "user05"
N_STEPS = 200
N_BAD_CALLS = 10_000
N_BAD_CALLS_ON_BOARD = 2_000
N_RANDOM_STEPS = 20
N_PURE_STEPS = 3
TESTS = ROOT / "tests" / "micropython"
PROGRAMS = (UNIX, UNIX_WITHIN, AN385, AN386)


@dataclass(frozen=True)
class Compared:
    """Steps trained, and words of them."""

    steps: int = 0
    words: int = 0
    different: int = 0

    def __add__(self, other: Compared) -> Compared:
        return Compared(self.steps + other.steps, self.words + other.words, self.different + other.different)

    def __str__(self) -> str:
        return f"{self.steps} steps, {self.words} words compared, {self.different} words differ"


@dataclass(frozen=True)
class Job:
    """A model pre-trained without one person, and that person's samples."""

    model: QuantModel
    samples: tuple[Sample, ...]

    @staticmethod
    def make(data_dir: Path, folder: Path) -> Job:
        """Pre-train on the others; a small model, so that it fits the heap of the QEMU port as it is."""
        for arguments in (
            [
                "fit",
                "--holdout",
                HOLDOUT,
                "--hidden",
                "16",
                "--epochs",
                "4",
                "--theta",
                "0.2",
                "--out",
                str(folder / "f"),
            ],
            ["quantize", "--model", str(folder / "f"), "--replay", "2048", "--out", str(folder / "q")],
        ):
            done = CliRunner().invoke(deltatrain, [*arguments, "--data", "har", "--data-dir", str(data_dir), "--json"])
            if done.exit_code != 0:
                raise click.ClickException(done.output)
        model = QuantModel.load(folder / "q")
        data = datasets.load("har", data_dir, model.features)
        theirs = [number for number, speaker in enumerate(data.speakers) if speaker == HOLDOUT]
        chosen = np.random.default_rng(0).permutation(theirs)[:N_STEPS]
        return Job(model, samples_of(model, data, np.resize(chosen, N_STEPS)).items)


def train_beside_core(repl: RawRepl, job: Job) -> Compared:
    """Train the network on the board beside the C core here."""
    settings = Settings.of(job.model, seed=3)
    outcome = compare(
        {"board": MicroPythonDevice(repl), "host C": CoreNetwork(job.model)},
        job.model,
        job.samples,
        settings,
        with_float=False,
    )
    if outcome.first_difference is not None:
        print(f"first difference: {outcome.first_difference}", flush=True)
    return Compared(len(outcome.steps), outcome.words_compared, outcome.words_different)


def call_wrongly(repl: RawRepl, models: list[QuantModel], n_calls: int, seed: int) -> None:
    """Random calls; an exception that is not to be expected, or no answer, fails."""
    source = (TESTS / "bad_calls.py").read_text(encoding="utf-8")
    repl.run(source.partition('"""\n')[2])  # without its first words, to spare the board's heap
    names = []
    for number, model in enumerate(models):
        data = image.encode(model)
        repl.run(f"dt_fill({len(data)})\nmodel{number} = bytes(dt_buffer)\ndt_drop_buffer()", data)
        names.append(f"model{number}")
    (line,) = repl.run(f"import deltarnn\nbad_calls(deltarnn, [{', '.join(names)}], {n_calls}, {seed})", timeout=600)
    print(f"  {line}", flush=True)


# What is wrong, and what it raises; `net` is open, `model` its bytes, `arena` its arena, `x` a sample.
WRONG = (
    ("net.train_step(x, net.n_outputs)", "ValueError"),
    ("net.train_step(x, -1)", "ValueError"),
    ("net.train_step(x, 2**40)", "ValueError"),
    ("net.train_step(x, 'one')", "TypeError"),
    ("net.train_step(x[:-1], 0)", "ValueError"),
    ("net.train_step(x + x, 0)", "ValueError"),
    ("net.train_step(None, 0)", "TypeError"),
    ("net.forward(memoryview(bytes(x) + b'..')[1:-1])", "ValueError"),
    ("net.forward(array('i', x))", "ValueError"),
    ("net.forward(array('h', [20000] * len(x)))", "ValueError"),
    ("net.push(x[:net.n_in])", "ValueError"),
    ("net.train(0)", "ValueError"),
    ("net.tensor('layer3.weight')", "ValueError"),
    ("net.set_tensor('layer0.hidden', net.hidden())", "ValueError"),
    ("net.set_tensor('readout.bias', b'1234')", "ValueError"),
    ("net.configure(learning_rate=(1, 0))", "ValueError"),
    ("net.configure(theta_x=(1, 2, 3, 4))", "ValueError"),
    ("net.configure(seed=2**32)", "ValueError"),
    ("net.load(DT_MODEL)", "ValueError"),
    ("net.load('absent')", "OSError"),
    ("deltarnn.Network('absent', arena)", "OSError"),
    ("deltarnn.Network(model, bytearray(8))", "ValueError"),
    ("deltarnn.Network(model, memoryview(bytearray(len(arena) + 8))[4:])", "ValueError"),
    ("deltarnn.Network(model, bytes(len(arena)))", "TypeError"),
    ("deltarnn.Network(model[:-8], bytearray(len(arena)))", "ValueError"),
    ("deltarnn.Network(model[:4] + b'\\x02' + model[5:], bytearray(len(arena)))", "ValueError"),
    ("deltarnn.Network(memoryview(b'....' + model)[4:], bytearray(len(arena)))", "ValueError"),
    ("deltarnn.Network(model, arena); net.infer()", "ValueError"),
    ("net.close(); net.forward(x)", "ValueError"),
    ("net.n_in", "ValueError"),
)


def err(repl: RawRepl, job: Job) -> None:
    """Each of WRONG raises what it should."""
    repl.run(
        "import deltarnn\nfrom array import array\n"
        "model = open(DT_MODEL, 'rb').read()\n"
        "arena = bytearray(deltarnn.arena_size(model))\n"
        f"net = deltarnn.Network(model, arena)\nx = array('h', {job.samples[0].frames.ravel().tolist()})"
    )
    for code, expected in WRONG:
        raised = "nothing"
        try:
            repl.run(code)
        except BoardError as error:
            raised = error.kind
        if raised != expected:
            raise RuntimeError(f"{code} raised {raised}, not {expected}")
    print(f"  {len(WRONG)} errors raised as they should be", flush=True)


def random_models(readouts: tuple[str, ...] = ("last", "frames", "regression")) -> list[QuantModel]:
    """One of each readout, with exemplars."""
    rng = np.random.default_rng(1)
    models = [
        random_model(rng, 5, 6, 3, 12, 1.0, cells, readout)
        for cells, readout in zip((["lstm"], ["gru"], ["rnn", "lstm"]), readouts, strict=True)
    ]
    return [_with_exemplars(rng, model) for model in models]


def _with_exemplars(rng: np.random.Generator, model: QuantModel) -> QuantModel:
    return replace(model, replay=random_exemplars(rng, model))


def on_board(port: Port, program: Path, job: Job) -> Compared:
    """Everything on a board under QEMU, with the heap that MicroPython's port has."""
    with emulated(port, program) as repl:
        (before,) = repl.run("gc.collect()\nprint(gc.mem_alloc())")
        installed = install(repl, job.model)
        compared = train_beside_core(repl, job)
        print(f"{port.name} ({installed.architecture}, {port.machine}): {compared}", flush=True)
        held = HEAP_BYTES - installed.heap_free
        print(f"  heap: {int(before)} bytes before, {held} with module, model and network", flush=True)
    with emulated(port, program) as repl:
        install(repl, random_models()[0])
        repl.run("dt_net.close()")
        call_wrongly(repl, random_models(), N_BAD_CALLS_ON_BOARD, seed=4)
    return compared


def instructions(port: Port, program: Path, job: Job) -> int:
    """Of a training step in the mean, by emulated time, in which each instruction takes as long."""
    frames = [sample.frames for sample in job.samples[:20]]
    with emulated(port, program, ("-icount", f"shift={ICOUNT_SHIFT}")) as repl:
        install(repl, job.model)
        repl.run("from array import array\nfrom time import ticks_us, ticks_diff")
        spent = 0
        for sample, x in zip(job.samples, frames, strict=False):
            repl.run(f"frames = array('h', {x.ravel().tolist()})")
            lines = repl.run(
                f"start = ticks_us()\ndt_net.train_step(frames, {sample.label})\nprint(ticks_diff(ticks_us(), start))"
            )
            spent += int(lines[0])
    return round(spent * 1000 / (1 << ICOUNT_SHIFT) / len(frames))


def interrupt(repl: RawRepl, pid: int, job: Job) -> None:
    """Ctrl-C during endless training is heard between two calls, and training goes on as if nothing had been."""
    frames, label = job.samples[0].frames.ravel().tolist(), job.samples[0].label
    timer = Timer(0.5, os.kill, (pid, signal.SIGINT))
    timer.start()
    try:
        repl.run(
            f"from array import array\nframes = array('h', {frames})\nwhile True: dt_net.train_step(frames, {label})"
        )
    except BoardError as error:
        if error.kind != "KeyboardInterrupt":
            raise
    (line,) = repl.run(
        f"before = dt_net.stats()['step']\ndt_net.train_step(frames, {label})\nprint(dt_net.stats()['step'] - before)"
    )
    if line != "1":
        raise RuntimeError(f"after Ctrl-C training does not go on: {line}")
    print("  Ctrl-C: heard", flush=True)


def on_unix(port: Port, program: Path, job: Job, folder: Path) -> Compared:
    """Everything on the unix port, random models of all kinds too."""
    folder.mkdir()
    (folder / "lib").mkdir()
    with unix(program, folder) as repl:
        if port == UNIX:
            install(repl, job.model)
        else:
            (folder / "deltatrain.drnn").write_bytes(image.encode(job.model))
        compared = train_beside_core(repl, job)
        print(f"{port.name}: {compared}", flush=True)
        err(repl, job)
        interrupt(repl, int(repl.port.partition(":")[2]), job)
        call_wrongly(repl, random_models(), N_BAD_CALLS, seed=5)
    more = train_recorded(program, folder)
    print(f"  random models: {more}", flush=True)
    return compared + more


def train_recorded(program: Path, folder: Path) -> Compared:
    """Random models of every kind, as the pure reference trains them in tests/micropython/compare.py."""
    rng = np.random.default_rng(6)
    for number, model in enumerate(random_models()):
        record(folder / "cases" / f"{number}", model, N_RANDOM_STEPS, rng)
    source = (TESTS / "compare.py").read_text(encoding="utf-8").replace("deltarnn_py as deltarnn", "deltarnn")
    (folder / "compare.py").write_text(source, encoding="utf-8")
    done = subprocess.run(
        [program, "-X", "heapsize=64m", "compare.py"],
        cwd=folder,
        env={"MICROPYPATH": "lib"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"compare.py failed: {done.stderr}")
    steps, words, different = map(int, re.findall(r"\d+", done.stdout.splitlines()[-1]))
    return Compared(steps, words, different)


def speed(program: Path, job: Job, folder: Path) -> tuple[float, float]:
    """Milliseconds of a training step in the unix port, by the native module and by the pure one."""
    (folder / "lib").mkdir(parents=True)
    shutil.copytree(MICROPYTHON / "deltarnn_py", folder / "lib" / "deltarnn_py")
    with unix(program, folder, "-X", "heapsize=64m") as repl:
        install(repl, job.model)
        x, label = job.samples[0].frames, job.samples[0].label
        repl.run(
            f"from array import array\nfrom time import ticks_us, ticks_diff\nframes = array('h', {x.ravel().tolist()})"
        )
        spent = []
        for module, n_steps in (("deltarnn", N_STEPS), ("deltarnn_py", N_PURE_STEPS)):
            lines = repl.run(
                f"import {module} as m\n"
                "net = m.Network(DT_MODEL, bytearray(m.arena_size(DT_MODEL)))\n"
                "net.configure(seed=3)\n"
                "start = ticks_us()\n"
                f"for _ in range({n_steps}):\n    net.train_step(frames, {label})\n"
                "print(ticks_diff(ticks_us(), start), net.loss)",
                timeout=600,
            )
            spent.append(int(lines[0].split()[0]) / n_steps / 1000)
    return spent[0], spent[1]


def build(mpy_dir: Path) -> dict[str, Path]:
    """Module and ports; tells the module's sizes."""
    print("building the module", flush=True)
    for architecture, path in build_modules(mpy_dir, sys.executable).items():
        print(f"  {architecture}: {path.stat().st_size} bytes")
    print("building MicroPython's ports", flush=True)
    return {port.name: build_port(mpy_dir, port) for port in PROGRAMS}


@click.command()
@click.option("--mpy-dir", type=click.Path(path_type=Path), envvar="MPY_DIR", help="MicroPython's source tree.")
@click.option(
    "--data-dir", type=click.Path(path_type=Path), envvar=datasets.DATA_DIR_VARIABLE, help="Folder that holds har."
)
def study(mpy_dir: Path | None, data_dir: Path | None) -> None:
    """Train in MicroPython's own ports and compare every word."""
    if mpy_dir is None or not (mpy_dir / "py" / "dynruntime.mk").is_file():
        raise click.ClickException(
            "set MPY_DIR to a MicroPython source tree of 1.24 or newer: "
            "git clone --depth 1 https://github.com/micropython/micropython"
        )
    if data_dir is None:
        raise click.ClickException("name the folder that holds har by --data-dir or DELTATRAIN_DATA")
    mpy_dir = mpy_dir.resolve()
    with tempfile.TemporaryDirectory(prefix="deltatrain-") as name, ProcessPoolExecutor(2) as pool:
        folder = Path(name)
        programs = build(mpy_dir)
        print("pre-training", flush=True)
        job = Job.make(data_dir, folder)
        arena = CoreNetwork(job.model).arena_bytes
        print(
            f"  {len(image.encode(job.model))} bytes of model, {arena} of arena, {job.model.max_steps} frames a sample"
        )
        parts = [pool.submit(on_board, port, programs[port.name], job) for port in (AN385, AN386)]
        parts += [
            pool.submit(on_unix, port, programs[port.name], job, folder / port.name) for port in (UNIX, UNIX_WITHIN)
        ]
        total = sum((part.result() for part in parts), Compared())
        for port in (AN385, AN386):
            print(f"{port.name}: {instructions(port, programs[port.name], job)} instructions a training step")
        native, pure = speed(programs["unix"], job, folder / "speed")
        print(f"unix: {native:.3f} ms a training step, pure Python {pure:.0f} ms: {pure / native:.0f} times")
    print(total)
    sys.exit(total.different != 0 or total.steps < 4 * N_STEPS)


if __name__ == "__main__":
    study()
