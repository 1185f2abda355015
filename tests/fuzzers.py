"""Fuzzers of what hostile bytes reach: built by clang with libFuzzer and sanitizers; run, minimised, their coverage."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from conftest import integer_model

import deltatrain_core
import deltatrain_firmware
from deltatrain import image
from deltatrain.exemplars import Exemplars
from deltatrain.quant_model import QuantModel
from deltatrain.targets import Store
from deltatrain_codegen import for_inference, plan_memory
from deltatrain_codegen.build import store_flags
from deltatrain_codegen.generate import generate

FOLDER = Path(__file__).parent / "fuzz"
CORPUS = FOLDER / "corpus"
MAX_PAYLOAD = 256  # small, so that what does not fit a reply is soon asked for
MAX_BYTES = {"frame": 600, "server": 600, "image": 2400}  # of an input
MALLOC_LIMIT_MB = 256
TIMEOUT_S = 60  # of the clock, for an input that takes milliseconds: the machine may be busy
SANITIZED = ("-O1", "-g", "-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=all")
COVERED = ("-O1", "-fsanitize=fuzzer", "-fprofile-instr-generate", "-fcoverage-mapping")
MEASURED = {
    "frame": ("dt_frame.c",),
    "image": ("drnn_image.c",),
    "server": ("dt_frame.c", "dt_hmac.c", "dt_lock.c", "dt_server.c", "dt_store.c"),
}
# Pages for two slots of the smaller models; the largest one finds that it has no store.
STORE = Store(origin=0, page_bytes=256, pages=8, write_bytes=4, sources=())


def models() -> list[QuantModel]:
    """Each cell, readout and plan of memory, with exemplars and an event budget; small, so that inputs are short."""
    last = integer_model()
    store = Exemplars(
        n_in=last.n_in,
        events=np.array([0b101, 40, 0x90, 0, 0b010, 99, 0b111, 1, 2, 3], np.uint8),
        starts=np.array([0, 6], np.uint32),
        n_steps=np.array([2, 1], np.uint16),
        labels=np.array([1, 2], np.uint8),
        names=("a", "b"),
    )
    return [
        last,
        integer_model(cells=("gru",), readout="frames"),
        integer_model(cells=("rnn",), readout="regression"),
        plan_memory(integer_model(cells=("gru", "lstm"), readout="regression"), "checkpoints"),
        plan_memory(replace(last, replay=store), "history", event_budget=0.5),
        for_inference(last),
        integer_model(n_in=16, n_hidden=24, max_steps=64),
    ]


@dataclass(frozen=True)
class Fuzzer:
    """A harness, and the inputs that are committed with it."""

    name: str

    @property
    def corpus(self) -> Path:
        """Its folder of inputs."""
        return CORPUS / self.name

    @property
    def max_bytes(self) -> int:
        """The longest input."""
        return MAX_BYTES[self.name]

    def seeds(self, folder: Path) -> Path:
        """A folder of inputs that are made anew: of `image` the files of `models`."""
        folder.mkdir()
        if self.name == "image":
            for index, model in enumerate(models()[:-1]):
                # Its first byte, of the magic number that the harness mends, says that it is to be mended.
                (folder / f"model{index}").write_bytes(image.encode(model))
        return folder

    def build(self, folder: Path, flags: tuple[str, ...] = SANITIZED) -> Path:
        """Compile it into `folder`; the program."""
        firmware = deltatrain_firmware.root() / "src"
        sources = [FOLDER / f"fuzz_{self.name}.c"]
        sources += deltatrain_core.sources() if self.name != "frame" else []
        sources += [firmware / "dt_frame.c"] if self.name != "image" else []
        if self.name == "server":
            sources += [firmware / name for name in ("dt_hmac.c", "dt_lock.c", "dt_server.c", "dt_store.c")]
            sources += _write_models(folder)
        includes = (deltatrain_core.include_dir(), deltatrain_firmware.include_dir(), firmware, folder)
        program = folder / f"fuzz_{self.name}"
        subprocess.run(
            [
                *("clang", "-std=gnu11", *flags, f"-DDT_MAX_PAYLOAD={MAX_PAYLOAD}", "-DDT_LOCK", *store_flags(STORE)),
                *(f"-I{path}" for path in includes),
                *map(str, sources),
                *("-o", str(program)),
            ],
            check=True,
        )
        return program


FUZZERS = (Fuzzer("frame"), Fuzzer("image"), Fuzzer("server"))


def _write_models(folder: Path) -> list[Path]:
    """Generated sources of `models`, each under a name of its own, and the table of them."""
    sources = []
    for index, model in enumerate(models()):
        of_model = folder / f"model{index}"
        of_model.mkdir(exist_ok=True)
        for name, text in generate(model).items():
            (of_model / name).write_text(text, encoding="utf-8")
        sources.append(folder / f"model{index}.c")
        sources[-1].write_text(f'#define dt_model fuzz_model_{index}\n#include "model{index}/dt_model.c"\n')
    names = [f"fuzz_model_{index}" for index in range(len(sources))]
    (folder / "fuzz_models.h").write_text(
        '#include "drnn.h"\n'
        f"#define FUZZ_N_MODELS {len(names)}u\n"
        f"extern const drnn_model_t *const fuzz_models[FUZZ_N_MODELS];\n"
    )
    sources.append(folder / "fuzz_models.c")
    sources[-1].write_text(
        '#include "fuzz_models.h"\n'
        f"extern const drnn_model_t {', '.join(names)};\n"
        f"const drnn_model_t *const fuzz_models[] = {{{', '.join('&' + name for name in names)}}};\n"
    )
    return sources


@dataclass(frozen=True)
class Outcome:
    """What a run of a fuzzer told."""

    inputs: int
    rate: int  # a second
    edges: int
    findings: int
    words: str


def run(
    fuzzer: Fuzzer,
    program: Path,
    *folders: Path,
    artifacts: Path,
    seconds: int = 0,
    inputs: int = -1,
    seed: int = 0,
) -> Outcome:
    """Fuzz from the inputs in `folders`, into the first of which new ones go; each of them is run first."""
    options = {
        "max_total_time": seconds,
        "runs": inputs,
        "seed": seed,
        "max_len": fuzzer.max_bytes,
        "timeout": TIMEOUT_S,
        # The peak that libFuzzer looks at is, of a new process, that of its parent: what is allocated counts instead.
        "rss_limit_mb": 0,
        "malloc_limit_mb": MALLOC_LIMIT_MB,
        "print_final_stats": 1,
        "artifact_prefix": f"{artifacts}/",
    }
    command = [str(program), *(f"-{name}={value}" for name, value in options.items()), *map(str, folders)]
    ended = subprocess.run(command, capture_output=True, text=True, errors="replace")
    words = ended.stderr
    executed = re.search(r"stat::number_of_executed_units: (\d+)", words)
    rate = re.search(r"stat::average_exec_per_sec: +(\d+)", words)
    edges = re.findall(r" cov: (\d+)", words)
    return Outcome(
        inputs=int(executed[1]) if executed else 0,
        rate=int(rate[1]) if rate else 0,
        edges=int(edges[-1]) if edges else 0,
        findings=int(ended.returncode != 0),
        words=words,
    )


def minimise(fuzzer: Fuzzer, program: Path, into: Path, *folders: Path) -> None:
    """Of the inputs in `folders`, copy into `into` as few as pass all edges that they pass."""
    options = ("-set_cover_merge=1", "-use_counters=0", f"-max_len={fuzzer.max_bytes}")
    command = [str(program), *options, str(into), *map(str, folders)]
    subprocess.run(command, check=True, capture_output=True)


@dataclass(frozen=True)
class Coverage:
    """Lines of a source file that inputs reached."""

    lines: int
    covered: int
    missed: tuple[int, ...]


def coverage(fuzzer: Fuzzer, *folders: Path) -> dict[str, Coverage]:
    """By the name of the source, over the inputs in `folders`; takes llvm-profdata and llvm-cov."""
    with tempfile.TemporaryDirectory() as folder:
        program = fuzzer.build(Path(folder), COVERED)
        raw, merged = Path(folder) / "raw", Path(folder) / "merged"
        environment = {**os.environ, "LLVM_PROFILE_FILE": str(raw)}
        subprocess.run([str(program), "-runs=0", *map(str, folders)], env=environment, check=True, capture_output=True)
        subprocess.run(["llvm-profdata", "merge", str(raw), "-o", str(merged)], check=True)
        told = subprocess.run(
            ["llvm-cov", "export", "-format=lcov", str(program), f"-instr-profile={merged}"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
    found = {}
    for record in told.split("end_of_record"):
        name = re.search(r"^SF:.*/(\w+\.c)$", record, re.MULTILINE)
        if name and name[1] in MEASURED[fuzzer.name]:
            lines = [(int(line), int(count)) for line, count in re.findall(r"^DA:(\d+),(\d+)", record, re.MULTILINE)]
            missed = tuple(line for line, count in lines if not count)
            found[name[1]] = Coverage(len(lines), len(lines) - len(missed), missed)
    return found
