"""Fuzzing, shortly: the committed inputs, then new ones for some seconds; `make fuzz` goes on for long."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from fuzzers import FUZZERS, Fuzzer, run

SECONDS = 5
MOST_FILES, MOST_BYTES = 200, 200_000


@pytest.mark.parametrize("fuzzer", FUZZERS, ids=lambda fuzzer: fuzzer.name)
def test_no_input_breaks_anything(fuzzer: Fuzzer, tmp_path: Path) -> None:
    if shutil.which("clang") is None:
        pytest.skip("clang is not installed; `make setup` installs it")
    (tmp_path / "found").mkdir()
    program = fuzzer.build(tmp_path)
    folders = (tmp_path / "found", fuzzer.corpus, fuzzer.seeds(tmp_path / "seeds"))
    outcome = run(fuzzer, program, *folders, artifacts=tmp_path, seconds=SECONDS)
    assert not outcome.findings, outcome.words[-6000:]
    assert outcome.inputs > len(list(fuzzer.corpus.iterdir()))


def test_the_committed_inputs_are_few() -> None:
    files = [path for fuzzer in FUZZERS for path in fuzzer.corpus.iterdir()]
    assert 0 < len(files) < MOST_FILES and sum(path.stat().st_size for path in files) < MOST_BYTES
