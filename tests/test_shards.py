"""Studies in parts: what is kept, what is done again, and that processes and clusters give the same rows."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from test_pretrain import make_model

from deltatrain.errors import InputError
from deltatrain.model import FloatModel
from deltatrain.shards import Outcome, Shard, run_shards


def power(base: list[int], exponent: int) -> Outcome:
    return Outcome({"value": sum(base) ** exponent, "process": os.getpid()})


SLEEPING = """
import sys, time
from pathlib import Path
from deltatrain.shards import Outcome, Shard, run_shards

def sleep(seconds):
    time.sleep(seconds)
    return Outcome({})

if __name__ == "__main__":
    parts = [Shard(f"two/{k}", {"k": k}, sleep, (0.1 if k < 2 else 300,)) for k in range(6)]
    run_shards(parts, Path(sys.argv[1]), jobs=2)
"""


def shards(*exponents: int, base: list[int] | None = None) -> list[Shard]:
    given = [2] if base is None else base
    return [Shard(f"two/{e}", {"exponent": e, "base": tuple(given)}, power, (given, e)) for e in exponents]


def values(rows: list[dict[str, Any]]) -> list[int]:
    return [row["value"] for row in rows]


def test_rows_come_in_the_order_of_the_shards_from_several_processes(tmp_path: Path) -> None:
    rows = run_shards(shards(5, 1, 3, 2), tmp_path, jobs=2)
    assert values(rows) == [32, 2, 8, 4]
    assert os.getpid() not in {row["process"] for row in rows}
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"two_{e}.json" for e in (1, 2, 3, 5)]


def test_what_is_kept_is_not_done_again(tmp_path: Path) -> None:
    def fail(*args: Any) -> Outcome:
        raise AssertionError("done again")

    first = run_shards(shards(1, 2), tmp_path)
    again = [Shard(s.name, s.settings, fail) for s in shards(1, 2)]
    assert run_shards(again, tmp_path) == first


def test_a_study_that_was_stopped_keeps_what_was_done_and_goes_on(tmp_path: Path) -> None:
    def stop(*args: Any) -> Outcome:
        raise KeyboardInterrupt

    calls: list[tuple[int, int, dict[str, Any]]] = []
    one, two = shards(1, 2)
    with pytest.raises(KeyboardInterrupt):
        run_shards([one, Shard(two.name, two.settings, stop)], tmp_path)
    rows = run_shards(
        [one, two], tmp_path, progress=lambda *call: calls.append(call), beside=lambda row: {"last": row["value"]}
    )
    assert values(rows) == [2, 4]
    assert calls == [(1, 2, {}), (2, 2, {"last": 4})]


def test_ctrl_c_ends_processes_beside_each_other_at_once(tmp_path: Path) -> None:
    """A terminal interrupts the whole group: workers end in their own time, and nothing waits for them."""
    process = subprocess.Popen(
        [sys.executable, "-c", SLEEPING, str(tmp_path)],
        cwd=Path(__file__).parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 60
        while len(list(tmp_path.glob("two_*.json"))) < 2:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)  # twice, for who is in a hurry
        os.killpg(process.pid, signal.SIGINT)
        _, words = process.communicate(timeout=20)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode != 0 and "KeyboardInterrupt" in words


def test_other_settings_and_files_cut_short_are_done_again(tmp_path: Path) -> None:
    run_shards(shards(1, 2), tmp_path)
    (tmp_path / "two_2.json").write_text('{"settings": {"expo')
    assert values(run_shards(shards(1, 2, base=[1, 2]), tmp_path)) == [3, 9]


def keeping(seed: int) -> Outcome:
    return Outcome({"seed": seed}, make_model("gru", seed=seed))


def test_a_model_is_kept_beside_its_row(tmp_path: Path) -> None:
    shard = Shard("model", {}, keeping, (7,))
    assert run_shards([shard], tmp_path) == [{"seed": 7}]
    kept = FloatModel.load(shard.model_path(tmp_path))
    assert all((value == make_model("gru", seed=7).tensors()[name]).all() for name, value in kept.tensors().items())


def test_a_dask_cluster_gives_the_same_rows(tmp_path: Path, scheduler: str) -> None:
    base = list(range(1000))
    here = run_shards(shards(*range(6), base=base), tmp_path / "here")
    there = run_shards(shards(*range(6), base=base), tmp_path / "there", dask=scheduler, shared=[base])
    assert values(there) == values(here)
    assert os.getpid() not in {row["process"] for row in there}


def test_a_scheduler_that_is_not_there_is_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deltatrain.shards.DASK_TIMEOUT_S", 1)
    with pytest.raises(InputError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9"):
        run_shards(shards(1), tmp_path, dask="tcp://127.0.0.1:9")


def test_without_dask_the_line_to_install_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(InputError, match=r"pip install 'deltatrain\[dask\]'"):
        run_shards(shards(1), tmp_path, dask="tcp://127.0.0.1:9")
