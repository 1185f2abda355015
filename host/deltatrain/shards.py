"""Long studies in independent parts: run through joblib, each finished part kept, none done twice.

A part's file holds its settings beside its result. The same study goes on where it stopped; another study in the
same folder does not take over results that were made with other settings.
"""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from joblib import Parallel, delayed, parallel_config
from joblib.externals.loky import get_reusable_executor

from deltatrain.errors import InputError
from deltatrain.folders import make_folder
from deltatrain.model import FloatModel
from deltatrain.training import Progress

Row = dict[str, Any]

DASK_TIMEOUT_S = 10


@dataclass(frozen=True)
class Outcome:
    """What a shard's work makes.

    Attributes
    ----------
    row : dict
        JSON-ready.
    model : FloatModel, optional
        Kept beside the row, as `Shard.model_path`.
    """

    row: Row
    model: FloatModel | None = None


@dataclass(frozen=True)
class Shard:
    """One part of a study.

    Attributes
    ----------
    name : str
        Unique in the study; names its files, so a `/` becomes `_`.
    settings : mapping
        JSON-ready: everything that the result depends on.
    work : callable
        Called with `args`; both picklable where shards run in other processes.
    args : tuple
    """

    name: str
    settings: Mapping[str, Any]
    work: Callable[..., Outcome]
    args: tuple[Any, ...] = ()

    def path(self, folder: Path) -> Path:
        """Where the row is kept."""
        return folder / f"{self.name.replace('/', '_')}.json"

    def model_path(self, folder: Path) -> Path:
        """Where the model is kept, if there is one."""
        return self.path(folder).with_suffix(".safetensors")

    def kept(self, folder: Path) -> Row | None:
        """The row kept in `folder`; None where there is none, or it was made with other settings."""
        try:
            held = json.loads(self.path(folder).read_text())
            return dict(held["row"]) if held["settings"] == _as_json(self.settings) else None
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError):  # cut short or foreign: as good as none
            return None

    def keep(self, folder: Path, outcome: Outcome) -> None:
        """Keep an outcome; the row comes last and whole, so that it vouches for the model."""
        if outcome.model is not None:
            outcome.model.save(self.model_path(folder))
        path = self.path(folder)
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps({"settings": self.settings, "row": outcome.row}, indent=1) + "\n")
        partial.replace(path)


def run_shards(
    shards: Sequence[Shard],
    folder: Path,
    *,
    jobs: int = 1,
    dask: str | None = None,
    shared: Sequence[Any] = (),
    progress: Progress | None = None,
    beside: Callable[[Row], dict[str, Any]] | None = None,
) -> list[Row]:
    """The rows of all shards, in their order; those not yet kept in `folder` are computed and kept.

    Parameters
    ----------
    shards : sequence of Shard
        With different names.
    folder : Path
        Made where it is missing. Only this process touches it: workers need no disk in common.
    jobs : int
        Processes beside each other; 1 works in this process, −1 takes every core.
    dask : str, optional
        Address of a Dask scheduler (tcp://HOST:PORT) whose workers do the work in place of `jobs` processes.
    shared : sequence
        Large arguments of many shards, sent to each Dask worker once.
    progress : callable, optional
        Called with (done, total, what to show) at the start and after each shard; kept ones count as done.
    beside : callable, optional
        What to show of the latest row.

    Raises
    ------
    InputError
        If the folder cannot be made, Dask is not installed, or its scheduler does not answer.
    """
    make_folder(folder)
    rows = {index: row for index, shard in enumerate(shards) if (row := shard.kept(folder)) is not None}
    todo = [index for index in range(len(shards)) if index not in rows]

    def show(row: Row | None) -> None:
        if progress is not None:
            progress(len(rows), len(shards), beside(row) if beside is not None and row is not None else {})

    show(None)
    if todo:
        with _workers(jobs, dask, shared) as parallel:
            calls = (delayed(_numbered)(index, shards[index].work, *shards[index].args) for index in todo)
            for index, outcome in parallel(calls):
                shards[index].keep(folder, outcome)
                rows[index] = outcome.row
                show(outcome.row)
    return [rows[index] for index in range(len(shards))]


def _numbered(index: int, work: Callable[..., Outcome], *args: Any) -> tuple[int, Outcome]:
    return index, work(*args)


def _as_json(settings: Mapping[str, Any]) -> Any:
    """As they come back from a file: tuples are lists there."""
    return json.loads(json.dumps(settings))


@contextmanager
def _workers(jobs: int, dask: str | None, shared: Sequence[Any]) -> Iterator[Parallel]:
    """joblib's pool, whose results come as they finish: processes of this computer, or a Dask cluster."""
    if dask is None:
        with _one_interrupt():
            try:
                yield Parallel(n_jobs=jobs, return_as="generator_unordered")
            except BaseException:
                # Else Python would wait for the workers at its end, and for ever for those that the same Ctrl-C ended.
                get_reusable_executor().shutdown(wait=True, kill_workers=True)
                raise
        return
    try:
        from distributed import Client
    except ImportError as error:
        raise InputError(
            f"--dask {dask} needs Dask's scheduler client ({error}); pip install 'deltatrain[dask]'"
        ) from error
    try:
        client = Client(dask, timeout=DASK_TIMEOUT_S)
    except (OSError, ValueError) as error:
        raise InputError(
            f"no Dask scheduler answers at {dask} within {DASK_TIMEOUT_S} s ({error}); "
            "start one with `dask scheduler` and `dask worker ADDRESS`, and give the address that it prints"
        ) from error
    with client, parallel_config(backend="dask", n_jobs=-1, scatter=list(shared) or None):
        yield Parallel(return_as="generator_unordered")


@contextmanager
def _one_interrupt() -> Iterator[None]:
    """While it is open, Ctrl-C is heard once: a second one would interrupt joblib as it ends its workers."""
    is_ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    if is_ignored or threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
