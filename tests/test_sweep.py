"""The sweep: its folds, its models and what they share, pooling, and the command."""

from __future__ import annotations

import csv
import json
import runpy
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from scipy.stats import binomtest

from deltatrain import datasets
from deltatrain.cli import main
from deltatrain.datasets import Dataset, fold_split, fsdd
from deltatrain.errors import InputError
from deltatrain.features import FeatureConfig
from deltatrain.model import FloatModel
from deltatrain.points import bootstrap_ratio, pooled, read_csv, wilson, write_csv
from deltatrain.shards import Outcome, Row
from deltatrain.sweep import MODES, SweepConfig, jobs_of, run_sweep

VOICES = ("en-us+m1", "en+f4")
ROOT = Path(__file__).parent.parent
SMALL = SweepConfig(
    cells=("gru",), hidden=(6,), thetas=((0.0, 0.0), (0.2, 0.3)), folds=(0, 3), epochs=1, finetune_epochs=1
)


@pytest.fixture(scope="module")
def words() -> Dataset:
    """Two voices of the embedded data."""
    digits = datasets.load("digits")
    return digits.select([speaker in VOICES for speaker in digits.speakers])


@pytest.fixture(scope="module")
def kept(words: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that keeps the sweep SMALL."""
    folder = tmp_path_factory.mktemp("sweep")
    run_sweep(words, SMALL, folder)
    return folder


def numbered(speakers: dict[str, int], n_classes: int = 2) -> Dataset:
    """So many recordings of each speaker and class, last ones first."""
    chosen = [(s, y, i) for s, n in speakers.items() for y in range(n_classes) for i in reversed(range(n))]
    return Dataset(
        name="numbered",
        features=tuple(np.zeros((1, 2), np.float32) for _ in chosen),
        labels=np.array([y for _, y, _ in chosen]),
        speakers=tuple(s for s, _, _ in chosen),
        indices=np.array([i for _, _, i in chosen]),
        class_names=("a", "b"),
        config=FeatureConfig(n_bands=2),
    )


def without_time(rows: list[Row]) -> list[Row]:
    return [{key: value for key, value in row.items() if key != "cpu_seconds"} for row in rows]


def test_folds_test_every_recording_once_and_begin_with_the_official_split() -> None:
    data = numbered({"x": 50, "y": 50})
    tested = [fold_split(data, fold)[1] for fold in range(10)]
    assert sorted(np.concatenate(tested)) == list(range(len(data)))
    assert set(data.indices[tested[0]]) == set(fsdd.OFFICIAL_TEST_INDICES)
    for fold, test in enumerate(tested):
        train = fold_split(data, fold)[0]
        assert not set(train) & set(test) and len(train) + len(test) == len(data)
        assert Counter((data.speakers[i], int(data.labels[i])) for i in test) == dict.fromkeys(
            [("x", 0), ("x", 1), ("y", 0), ("y", 1)], 5
        )


def test_speakers_with_fewer_recordings_than_folds_are_spread() -> None:
    data = numbered(dict.fromkeys("abcdefghij", 1))
    assert [fold_split(data, fold)[1].tolist() for fold in range(10)] == [[2 * i, 2 * i + 1] for i in range(10)]


def test_a_fold_that_cannot_be_is_said_so() -> None:
    with pytest.raises(InputError, match="fold 10 was asked for; there are 10, 0 to 9"):
        fold_split(numbered({"x": 50}), 10)
    with pytest.raises(InputError, match="0 to test on"):
        fold_split(numbered({"x": 1}), 5)


def test_every_model_is_asked_for_once_and_dense_ones_are_shared() -> None:
    config = replace(SMALL, cells=("gru", "lstm"), betas=(1e-3, 1e-2), seeds=2)
    dense, others = jobs_of(config)
    assert len(dense) == len({job.fit for job in dense}) == 2 * 2 * 2
    # A network and fold has plain 1, beta 2, finetune 2 (one at θ = 0), finetune+beta 2.
    assert Counter(job.mode for job in others) == {"plain": 8, "beta": 16, "finetune": 16, "finetune+beta": 16}
    assert {job.dense for job in others} == {None, *(job.fit for job in dense)}
    assert all(job.fit.beta > 0 for job in others if "beta" in job.mode)


def test_rows_tell_what_the_command_promises(words: Dataset, kept: Path) -> None:
    rows = run_sweep(words, SMALL, kept)
    assert [row["mode"] for row in rows] == ["plain"] * 2 + [
        "plain",
        "beta",
        "finetune",
        "finetune",
        "finetune+beta",
    ] * 2
    for row in rows:
        assert row["error"] == len(row["wrong"]) / row["items"]
        assert set(row["wrong"]) <= set(fold_split(words, row["fold"])[1].tolist())
        # MACs follow from occupancies: 16 inputs and 6 hidden units.
        occupancy = (16 * row["occupancy_x"] + 6 * row["occupancy_h"]) / 22
        assert row["op_reduction"] == pytest.approx(1 / occupancy)
        assert row["op_reduction_without_dx"] != row["op_reduction"]
    thresholds = {row["theta_x"]: row["op_reduction"] for row in rows}
    assert thresholds[0.2] > 2 > thresholds[0.0] >= 1


def test_fine_tuning_goes_on_from_the_dense_model_of_the_fold(words: Dataset, kept: Path) -> None:
    still = replace(SMALL, modes=("finetune",), thetas=((0.0, 0.0),), finetune_rate=1e-12)
    dense, tuned = run_sweep(words, still, kept)[:2], run_sweep(words, still, kept)[2:]
    assert [row["wrong"] for row in tuned] == [row["wrong"] for row in dense]
    models = [FloatModel.load(path) for path in kept.glob("*.safetensors")]
    assert len(models) == 2 and all(model.layers[0].theta_h == 0 for model in models)


def test_a_sweep_goes_on_where_it_stopped(words: Dataset, kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = run_sweep(words, SMALL, kept)
    gone = next(kept.glob("gru-1x6-beta-*.json"))
    gone.unlink()
    trained: list[Any] = []

    def train(data: Dataset, job: Any, dense: FloatModel | None) -> Outcome:
        trained.append(job.mode)
        return Outcome(done[0])

    monkeypatch.setattr("deltatrain.sweep.train_one", train)
    told: list[tuple[int, int]] = []
    run_sweep(words, SMALL, kept, progress=lambda n, total, _: told.append((n, total)))
    assert trained == ["beta"]
    assert told == [(2, 12), (11, 12), (12, 12)]
    gone.unlink()


def test_a_cluster_gives_the_same_rows(words: Dataset, kept: Path, tmp_path: Path, scheduler: str) -> None:
    there = run_sweep(words, SMALL, tmp_path, dask=scheduler)
    assert without_time(there) == without_time(run_sweep(words, SMALL, kept))


def test_unknown_modes_and_empty_lists_are_refused() -> None:
    with pytest.raises(InputError, match="mode 'sparse' is unknown; the modes are plain, beta"):
        SweepConfig(modes=("sparse",))
    with pytest.raises(InputError, match="a sweep needs folds"):
        SweepConfig(folds=())


@pytest.mark.parametrize(("wrong", "items"), [(0, 300), (14, 1500), (1, 2), (30, 30)])
def test_intervals_of_errors_agree_with_scipy(wrong: int, items: int) -> None:
    expected = binomtest(wrong, items).proportion_ci(0.95, "wilson")
    low, high = wilson(wrong, items)
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-6)
    assert low <= wrong / items <= high


def test_intervals_of_ratios_know_that_the_recordings_are_the_same() -> None:
    same = Counter(range(20))
    assert bootstrap_ratio(same, same, 1000) == (1.0, 1.0)
    one_more = bootstrap_ratio(Counter(range(22)), same, 1000)
    others = bootstrap_ratio(Counter(range(100, 122)), same, 1000)
    assert 1.0 <= one_more[0] < 1.1 < one_more[1] < 1.3
    # Independent errors: the logarithm of the ratio spreads by √(1/20 + 1/22), to first order.
    spread = 1.96 * np.sqrt(1 / 20 + 1 / 22)
    assert np.log(others) == pytest.approx((np.log(1.1) - spread, np.log(1.1) + spread), abs=0.12)
    # Two models of one kind, each half of the mistakes of one of the other.
    assert bootstrap_ratio(same, same, 1000, (2, 1)) == (0.5, 0.5)


def point_row(mode: str, theta: float, fold: int, wrong: list[int], **more: Any) -> Row:
    row: Row = {"cell": "gru", "n_layers": 1, "n_hidden": 6, "mode": mode, "theta_x": theta, "theta_h": theta}
    row |= {"beta": 0.0, "epochs": 1, "fold": fold, "seed": 0, "items": 100, "wrong": wrong}
    row |= {"error": len(wrong) / 100, "params": 9, "macs_executed": 40 + fold, "macs_dense": 100}
    return row | {"macs_executed_dx": 1, "macs_dense_dx": 10} | more


def test_points_pool_folds_and_compare_with_the_right_dense_network() -> None:
    rows = [
        point_row("plain", 0.0, 0, [1, 2]),
        point_row("plain", 0.0, 1, [101, 102, 103, 104]),
        point_row("finetune", 0.0, 0, [1]),
        point_row("plain", 0.3, 0, [1, 5, 6]),
        point_row("plain", 0.3, 1, [101]),
        point_row("finetune", 0.3, 0, [1, 2, 3]),
    ]
    dense, dense_tuned, plain, tuned = pooled(rows)
    assert (plain.items, plain.folds, plain.models, plain.error) == (200, 2, 2, 0.02)
    assert plain.op_reduction == 200 / 81 and plain.op_reduction_without_dx == 180 / 79
    assert (plain.ratio, plain.versus) == (4 / 6, "plain")
    # Fold 1 is not there yet: only fold 0 is compared, and with the dense network that trained as long.
    assert (tuned.ratio, tuned.versus) == (3.0, "finetune")
    assert dense.ratio == dense_tuned.ratio == 1.0


def test_a_dense_network_without_mistakes_has_no_ratio_and_one_with_few_no_upper_end() -> None:
    _, none = pooled([point_row("plain", 0.0, 0, []), point_row("plain", 0.3, 0, [1])])
    assert (none.ratio, none.ratio_low, none.ratio_high) == (None, None, None)
    _, few = pooled([point_row("plain", 0.0, 0, [2]), point_row("plain", 0.3, 0, [1])])
    assert few.ratio == 1.0 and few.ratio_low == 0.0 and few.ratio_high is None
    json.dumps(vars(few), allow_nan=False)


def test_a_recording_that_two_seeds_test_counts_once() -> None:
    (point,) = pooled([point_row("plain", 0.0, 0, [1, 2]), point_row("plain", 0.0, 0, [2], seed=1)])
    assert (point.items, point.seeds, point.error) == (100, 2, 0.015)
    assert (point.error_low, point.error_high) == wilson(1.5, 100)


def test_the_command_writes_tables_and_a_picture(tmp_path: Path) -> None:
    options = ["--cell", "lstm", "--hidden", "4", "--epochs", "1", "--finetune-epochs", "1", "--folds", "0,2"]
    options += ["--theta", "0.2", "--theta-x", "0.1", "--theta-h", "0.3", "--batch-size", "256", "--jobs", "1"]
    run = CliRunner().invoke(main, ["sweep", *options, "--mode", "plain", "--out", str(tmp_path), "--json"])
    assert run.exit_code == 0, run.stderr
    told = json.loads(run.stdout)
    assert len(told["rows"]) == 6 and [point["theta_x"] for point in told["points"]] == [0.0, 0.2, 0.1]
    needed = {"cell", "n_hidden", "n_layers", "theta_x", "theta_h", "beta", "mode", "fold", "error", "op_reduction"}
    assert needed | {"op_reduction_without_dx", "occupancy_x", "occupancy_h"} <= set(told["rows"][0])
    with (tmp_path / "models.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [float(line["error"]) for line in lines] == pytest.approx([row["error"] for row in told["rows"]], abs=1e-6)
    assert (tmp_path / "sweep.csv").read_text().count("\n") == 4
    assert Path(told["picture"]).read_bytes().startswith(b"\x89PNG")
    again = CliRunner().invoke(main, ["sweep", *options, "--mode", "plain", "--out", str(tmp_path)])
    assert "LSTM 4" in again.stdout and "plain" in again.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--folds", "4-0"], "holds no number"),
        (["--folds", "a"], "is not a list of numbers"),
        (["--theta-x", "0.1"], "--theta-x is paired with every --theta-h"),
        (["--dask", "tcp://127.0.0.1:9"], "no Dask scheduler answers"),
    ],
)
def test_bad_options_are_refused(
    options: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deltatrain.shards.DASK_TIMEOUT_S", 1)
    run = CliRunner().invoke(main, ["sweep", "--out", str(tmp_path), *options])
    assert run.exit_code == 2 and message in run.stderr


def test_all_modes_are_drawn() -> None:
    from deltatrain.report.sweep import _MODES

    assert set(_MODES) == set(MODES)


def test_a_table_of_models_is_read_back(tmp_path: Path) -> None:
    rows = [point_row("plain", 0.0, 0, [1, 2]), point_row("finetune+beta", 0.25, 1, [], beta=1e-3)]
    write_csv(tmp_path / "models.csv", rows)
    assert read_csv(tmp_path / "models.csv") == rows


def test_the_documentation_says_what_its_table_of_models_holds() -> None:
    tool = runpy.run_path(str(ROOT / "tools" / "sweep_docs.py"))
    text = (ROOT / "docs" / "SWEEP.md").read_text(encoding="utf-8")
    lines = tool["tables"](tool["shown"](pooled(read_csv(tool["CSV"]))))
    assert len(lines) > 20
    missing = [line for line in lines if line and line not in text.splitlines()]
    assert not missing
