"""The C core gives the same words whatever compiler and flags built it, and does nothing undefined on the way."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from conftest import NativeDevice
from elftools.elf.elffile import ELFFile
from equality import EXTREMES, random_model, random_settings
from study_cores import train_beside

import deltatrain_core
from deltatrain.link import Device

STEPS, FEW_STEPS = 100, 20
WARNINGS = ("-Wall", "-Wextra", "-Wconversion", "-Werror")

BUILDS = {
    "gcc -O0": ("gcc", "-O0"),
    "gcc -O3": ("gcc", "-O3"),
    "gcc -O3 -march=native": ("gcc", "-O3", "-march=native"),
    "gcc UBSan": ("gcc", "-O1", "-fsanitize=undefined", "-fno-sanitize-recover=all"),
    "gcc ASan": ("gcc", "-O1", "-fsanitize=address"),
    "gcc -O3, AVX2": ("gcc", "-O3", "-mavx2"),
    "gcc UBSan, AVX2": ("gcc", "-O1", "-mavx2", "-fsanitize=undefined", "-fno-sanitize-recover=all"),
    "gcc ASan, AVX2": ("gcc", "-O1", "-mavx2", "-fsanitize=address"),
    "clang -O0": ("clang", "-O0"),
    "clang -O3": ("clang", "-O3"),
    "clang -O3, AVX2": ("clang", "-O3", "-mavx2"),
    "clang UBSan": ("clang", "-O1", "-fsanitize=undefined", "-fsanitize-trap=all"),
}
# The levels between, at fewer steps; `make study-equality` takes thousands on each.
FEW = {f"{compiler} {level}": (compiler, level) for compiler in ("gcc", "clang") for level in ("-O1", "-O2", "-Os")}


def needs_vectors(flags: Iterable[str]) -> None:
    """Skip where flags ask for AVX2 and this computer cannot run it; what it has, its kernel tells."""
    cpu = Path("/proc/cpuinfo")
    if "-mavx2" in flags and (not cpu.exists() or " avx2 " not in cpu.read_text()):
        pytest.skip("this computer has no AVX2, or does not tell")


@pytest.mark.parametrize("build", [*BUILDS, *FEW])
def test_every_build_equals_the_integer_reference(build: str, tmp_path: Path) -> None:
    compiler, *flags = (BUILDS | FEW)[build]
    steps = FEW_STEPS if build in FEW else STEPS
    needs_vectors(flags)
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed; `make setup` installs it")
    library = tmp_path / "core.so"
    sources = [str(path) for path in deltatrain_core.sources()]
    build_line = [compiler, "-std=c11", *flags, *WARNINGS, "-shared", "-fPIC", f"-I{deltatrain_core.include_dir()}"]
    subprocess.run([*build_line, *sources, "-o", str(library)], check=True)
    program = Path(__file__).with_name("equality.py")
    environment = dict(os.environ)
    if "-fsanitize=address" in flags:  # its allocator must be there first; Python itself leaks on purpose
        runtime = subprocess.check_output([compiler, "-print-file-name=libasan.so"], text=True).strip()
        environment |= {"LD_PRELOAD": runtime, "ASAN_OPTIONS": "detect_leaks=0"}
    command = [sys.executable, str(program), str(library), str(steps), "1"]
    outcome = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    assert outcome.stdout.startswith(f"{steps + len(EXTREMES)} steps, ")
    assert outcome.stdout.endswith(" words compared, 0 words differ\n")


@pytest.mark.skipif(platform.machine() != "x86_64", reason="32-bit programs beside 64-bit ones: amd64 alone")
@pytest.mark.parametrize("optimisation", ["-O0", "-O3"])
@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_a_32_bit_build_equals_the_integer_reference(
    compiler: str, optimisation: str, native_device: Callable[..., NativeDevice]
) -> None:
    """Core and server as a program of 32 bits, over its socket: pointers of 4 bytes, int64 aligned to 4."""
    rng = np.random.default_rng(32)
    for cells, readout in ((("lstm",), "last"), (("rnn", "gru"), "regression")):
        model = random_model(rng, 9, 12, 5, 24, spread=1.0, cells=cells, readout=readout)
        running = native_device(model, (compiler, "-m32", optimisation, *WARNINGS))
        with running.program.open("rb") as file:
            assert ELFFile(file).elfclass == 32
        with Device.open(running.url) as device:
            assert train_beside(device, model, random_settings(rng, model), rng, 30) > 10_000


CROSS_COMPILER = "arm-none-eabi-gcc"
STACK_BYTES = 1024  # of 4,096 that the firmware has for all
# What a bare machine must bring: three functions of the C library; where the processor has no 64-bit multiplication,
# shift or leading zeros, and no division at all, also those of the compiler's own library. Never a 64-bit division.
LIBC = {"memcpy", "memmove", "memset"}
RUNTIME_OF_M0 = {
    *("__aeabi_lmul", "__aeabi_llsl", "__aeabi_llsr", "__aeabi_lasr", "__aeabi_uidiv"),
    *("__clzsi2", "__clzdi2", "__ctzsi2", "__gnu_thumb1_case_uqi"),
}


@pytest.mark.parametrize("optimisation", ["-Os", "-O2", "-O3"])
@pytest.mark.parametrize(("cpu", "allowed"), [("cortex-m4", LIBC), ("cortex-m0", LIBC | RUNTIME_OF_M0)])
def test_core_has_no_globals_and_needs_no_library(
    cpu: str, allowed: set[str], optimisation: str, tmp_path: Path
) -> None:
    """The whole core: no writable symbol, nothing undefined but `allowed`, stack frames of known and small size."""
    if shutil.which(CROSS_COMPILER) is None:
        pytest.skip(f"{CROSS_COMPILER} is not installed; `make setup` installs it")
    target = [CROSS_COMPILER, f"-mcpu={cpu}", "-mthumb", "-std=c11", optimisation, *WARNINGS]
    sources = [str(path) for path in deltatrain_core.sources()]
    core = tmp_path / "core.o"
    subprocess.run(
        [*target, "-fstack-usage", "-fcallgraph-info=su", f"-I{deltatrain_core.include_dir()}", "-c", *sources],
        check=True,
        cwd=tmp_path,
    )
    objects = sorted(str(path) for path in tmp_path.glob("*.o"))
    subprocess.run([*target, "-nostdlib", "-r", *objects, "-o", str(core)], check=True)
    listing = subprocess.check_output(["arm-none-eabi-nm", "--format=posix", str(core)], text=True)
    symbols = [line.split()[:2] for line in listing.splitlines()]
    assert {name for name, kind in symbols if kind == "U"} <= allowed
    assert [name for name, kind in symbols if kind in "bBdDcCgGsS"] == []
    assert any(kind == "T" and name == "drnn_train" for name, kind in symbols)
    frames = [line.split("\t") for path in tmp_path.glob("*.su") for line in path.read_text().splitlines()]
    assert frames and all(kind == "static" for _, _, kind in frames)
    assert 0 < deepest_stack("".join(path.read_text() for path in tmp_path.glob("*.ci"))) < STACK_BYTES


def deepest_stack(graph: str) -> int:
    """Bytes of the longest chain of calls in what -fcallgraph-info=su wrote; a recursion is an error."""
    sizes = {
        name: int(size) for name, size in re.findall(r'title: "(\S+)" label: ".*\\n(\d+) bytes \(static\)"', graph)
    }
    calls: dict[str, set[str]] = {}
    for caller, called in re.findall(r'sourcename: "(\S+)" targetname: "(\S+)"', graph):
        calls.setdefault(caller, set()).add(called)

    def depth(name: str, above: tuple[str, ...]) -> int:
        assert name not in above, f"{name} calls itself"
        return sizes.get(name, 0) + max((depth(c, (*above, name)) for c in calls.get(name, ())), default=0)

    return max(depth(name, ()) for name in sizes)
