"""The C core gives the same words whatever compiler and flags built it, and does nothing undefined on the way."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import deltatrain_core

STEPS = 100

BUILDS = {
    "gcc -O0": ("gcc", "-O0"),
    "gcc -O3": ("gcc", "-O3"),
    "gcc -O3 -march=native": ("gcc", "-O3", "-march=native"),
    "gcc UBSan": ("gcc", "-O1", "-fsanitize=undefined", "-fno-sanitize-recover=all"),
    "gcc ASan": ("gcc", "-O1", "-fsanitize=address"),
    "clang -O0": ("clang", "-O0"),
    "clang -O3": ("clang", "-O3"),
    "clang UBSan": ("clang", "-O1", "-fsanitize=undefined", "-fsanitize-trap=all"),
}


@pytest.mark.parametrize("build", BUILDS)
def test_every_build_equals_the_integer_reference(build: str, tmp_path: Path) -> None:
    compiler, *flags = BUILDS[build]
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed; `make setup` installs it")
    library = tmp_path / "core.so"
    sources = [str(path) for path in deltatrain_core.sources()]
    warnings = ["-Wall", "-Wextra", "-Wconversion", "-Werror"]
    build_line = [compiler, "-std=c11", *flags, *warnings, "-shared", "-fPIC", f"-I{deltatrain_core.include_dir()}"]
    subprocess.run([*build_line, *sources, "-o", str(library)], check=True)
    program = Path(__file__).with_name("equality.py")
    environment = dict(os.environ)
    if build == "gcc ASan":  # its allocator must be there first; Python itself leaks on purpose
        runtime = subprocess.check_output([compiler, "-print-file-name=libasan.so"], text=True).strip()
        environment |= {"LD_PRELOAD": runtime, "ASAN_OPTIONS": "detect_leaks=0"}
    command = [sys.executable, str(program), str(library), str(STEPS), "1"]
    outcome = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    assert outcome.stdout.startswith(f"{STEPS} steps, ")
    assert outcome.stdout.endswith(" words compared, 0 words differ\n")
