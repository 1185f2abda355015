"""The main job over many speakers and seeds: what one run cannot show. Finished runs are kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from deltatrain import datasets
from deltatrain.datasets.digits import HELD_OUT_VOICES
from deltatrain.demo import DemoConfig, run
from deltatrain.shards import Outcome, Row, Shard, run_shards
from deltatrain.training import Progress


@dataclass(frozen=True)
class Summary:
    """Means over runs: of all, or of one speaker's.

    Attributes
    ----------
    error_before, error_after, error_after_float : float
        Fractions.
    op_reduction : float
        Mean of the runs' reductions.
    words_compared, words_different : int
        Sums.
    """

    speaker: str
    runs: int
    error_before: float
    error_after: float
    error_after_float: float
    op_reduction: float
    words_compared: int
    words_different: int

    @property
    def ratio(self) -> float:
        """Mean error after over mean error before."""
        return self.error_after / self.error_before if self.error_before else float("nan")

    @staticmethod
    def of(speaker: str, rows: Sequence[Row]) -> Summary:
        """Summarise the rows of a study."""

        def mean(key: str) -> float:
            return float(np.mean([row[key] for row in rows]))

        return Summary(
            speaker=speaker,
            runs=len(rows),
            error_before=mean("error_before"),
            error_after=mean("error_after"),
            error_after_float=mean("error_after_float"),
            op_reduction=mean("op_reduction"),
            words_compared=sum(row["words_compared"] for row in rows),
            words_different=sum(row["words_different"] for row in rows),
        )


def summaries(rows: Sequence[Row]) -> list[Summary]:
    """One for each speaker, in the order of first appearance, and last one over all runs."""
    speakers = dict.fromkeys(row["speaker"] for row in rows)
    each = [Summary.of(name, [row for row in rows if row["speaker"] == name]) for name in speakers]
    return [*each, Summary.of("all", rows)]


def speakers_of(config: DemoConfig) -> tuple[str, ...]:
    """Whom a study of a data set is about: its held-out voices, or everybody."""
    if config.data == "digits":
        return HELD_OUT_VOICES
    return datasets.load(config.data, config.data_dir).speaker_names


def personal_study(
    config: DemoConfig,
    speakers: Sequence[str],
    seeds: Sequence[int],
    jobs: int = 1,
    progress: Progress | None = None,
) -> list[Row]:
    """Run the main job for each speaker and seed; `config.out` keeps one JSON file a run.

    A run whose file is there already, made with the same settings, is not repeated.

    Returns
    -------
    list of dict
        `Story.to_dict` of each run, by speaker and seed.
    """
    runs = [replace(config, holdout=speaker, seed=seed) for speaker in speakers for seed in seeds]
    shards = [_shard(one) for one in runs]

    def beside(row: Row) -> dict[str, Any]:
        return {"last": f"{row['speaker']} {row['error_before']:.3f} → {row['error_after']:.3f}"}

    return run_shards(shards, config.out, jobs=jobs, progress=progress, beside=beside)


class _Silent:
    """A reporter for jobs that run beside each other."""

    def say(self, text: str) -> None:
        """Say nothing."""

    @contextmanager
    def bar(self, label: str) -> Iterator[Progress]:
        """Show nothing."""
        yield lambda done, total, beside: None


def _shard(config: DemoConfig) -> Shard:
    """One run of the main job, in a folder of its own."""
    name = f"{config.holdout}-{config.seed}".replace("/", "_")
    settings = {key: str(value) for key, value in asdict(config).items() if key != "out"}
    return Shard(name, settings, _run, (replace(config, out=config.out / name),))


def _run(config: DemoConfig) -> Outcome:
    return Outcome(run(config, _Silent()).to_dict(None))
