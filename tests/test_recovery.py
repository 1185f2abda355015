"""Lines that fail, hosts that are killed, devices that restart: each sample is trained once, and no word differs."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
from line_proxy import Faults
from link_runs import MIX, SMALL, Bench, an386, over_bad_line, with_killed_hosts, with_restarts


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A small model on the emulated Cortex-M4F; skips where its compiler or emulator is absent."""
    for program in an386().needs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed; `make setup` installs it")
    return Bench.build(SMALL, tmp_path_factory.mktemp("firmware"))


BYTES = Faults(dropped=1e-3, doubled=1e-3, inserted=1e-3, cuts=2e-4)


@pytest.mark.parametrize("faults", [MIX, BYTES], ids=["bits", "bytes"])
def test_a_bad_line_changes_no_word(bench: Bench, faults: Faults) -> None:
    run = over_bad_line(bench, faults, steps=40)
    assert run.once_each and run.words > 0 and run.words_different == 0
    # It was bad indeed.
    assert run.link.requests_damaged > 10 and run.link.replies_damaged > 10
    if faults.cuts:
        assert run.line.cuts > 0 and run.link.reopened >= run.line.cuts


def test_a_host_that_is_killed_is_followed_by_another(bench: Bench) -> None:
    run = with_killed_hosts(bench, steps=150, kills=2, longest_s=0.2)
    assert run.once_each and run.words > 0 and run.words_different == 0


def test_a_device_that_restarts_trains_anew(bench: Bench) -> None:
    run = with_restarts(bench, steps=60, restarts=2, longest_s=0.2, faults=replace(MIX, bit_errors=1e-4))
    assert run.once_each and run.words > 0 and run.words_different == 0
    assert [(each.restarted, each.step) for each in run.interruptions] == [(True, 0)] * 2
    assert "restarted (no fault is known" in str(run.interruptions[0])
