"""The threshold finder: its search against a made-up data set of errors, and the command."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from test_sweep import VOICES, point_row

from deltatrain import datasets
from deltatrain.cli import main
from deltatrain.datasets import fold_split
from deltatrain.errors import InputError
from deltatrain.model import FloatModel
from deltatrain.points import Point, pooled
from deltatrain.pretrain import evaluate
from deltatrain.tune import GRID, HALVINGS, RATIOS, Pair, Target, Tuned, search

DENSE = pooled([point_row("plain", 0.0, 0, [])])[0]


def made_up(theta_x: float, theta_h: float) -> Point:
    """Error and saving rise with both thresholds; θx = 2 θh saves the most at an error."""
    error = 0.01 + 0.1 * theta_h**2 + 0.01 * theta_x**2
    return replace(
        DENSE,
        mode="finetune",
        theta_x=theta_x,
        theta_h=theta_h,
        error=error,
        op_reduction=1 + 20 * theta_h + 5 * theta_x,
    )


def found(target: Target) -> tuple[Tuned, list[list[Pair]]]:
    rounds: list[list[Pair]] = []

    def attempt(pairs: Sequence[Pair]) -> list[Point]:
        rounds.append(list(pairs))
        return [made_up(*pair) for pair in pairs]

    return search(target, attempt, replace(DENSE, error=0.01, op_reduction=1.02)), rounds


def test_the_most_is_saved_at_an_error() -> None:
    tuned, rounds = found(Target(error=0.015))
    assert tuned.reached and tuned.best.error <= 0.015
    # By ratio r: θh² (0.1 + 0.01 r²) = 0.005, the saving 1 + θh (20 + 5 r): r = 2 wins with θh = 0.189.
    assert tuned.best.theta_x == pytest.approx(2 * tuned.best.theta_h, abs=1e-3)
    assert 0 <= np.sqrt(0.005 / 0.14) - tuned.best.theta_h <= 0.1 / 2**HALVINGS
    assert [len(pairs) for pairs in rounds] == [len(RATIOS) * len(GRID)] + [len(RATIOS)] * HALVINGS
    assert len(tuned.tried) == 1 + sum(map(len, rounds))


def test_the_error_is_least_at_a_saving() -> None:
    tuned, _ = found(Target(ops=7.0))
    assert tuned.reached and tuned.best.op_reduction >= 7.0
    # θh (20 + 5 r) = 6: the error θh² (0.1 + 0.01 r²) is least for r = 2, θh = 0.2, which is on the grid.
    assert (tuned.best.theta_x, tuned.best.theta_h) == (0.4, 0.2)
    tuned, _ = found(Target(ops=8.0))
    assert tuned.best.theta_x == pytest.approx(2 * tuned.best.theta_h, abs=1e-3)
    assert 0 <= tuned.best.theta_h - 7 / 30 <= 0.1 / 2**HALVINGS


def test_out_of_reach_gives_the_nearest() -> None:
    tuned, rounds = found(Target(error=0.005))
    assert not tuned.reached and tuned.best.is_dense
    tuned, rounds = found(Target(ops=100))
    assert not tuned.reached and (tuned.best.theta_x, tuned.best.theta_h) == (0.9, 0.45)
    assert len(rounds) == 1  # there is nothing to bisect


def test_all_within_reach_takes_the_best_of_the_grid() -> None:
    tuned, rounds = found(Target(error=0.5))
    assert tuned.reached and (tuned.best.theta_x, tuned.best.theta_h) == (0.9, 0.45)
    assert len(rounds) == 1


def test_one_unlucky_model_does_not_end_the_search() -> None:
    def attempt(pairs: Sequence[Pair]) -> list[Point]:
        return [replace(made_up(*pair), error=0.5 if pair[1] == 0.1 else made_up(*pair).error) for pair in pairs]

    tuned = search(Target(error=0.015), attempt, DENSE)
    assert tuned.best.theta_h > 0.15


@pytest.mark.parametrize(("error", "ops"), [(None, None), (0.1, 3.0), (1.0, None), (-0.1, None), (None, 0.5)])
def test_targets_that_mean_nothing_are_refused(error: float | None, ops: float | None) -> None:
    with pytest.raises(InputError, match=r"give exactly one|fraction|at least 1"):
        Target(error, ops)


OPTIONS = (
    "--data",
    "digits",
    "--cell",
    "gru",
    "--hidden",
    "4",
    "--epochs",
    "1",
    "--finetune-epochs",
    "1",
    "--jobs",
    "1",
)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two voices, a fold, and where results are kept."""
    digits = datasets.load("digits")
    others = [name for name in digits.speaker_names if name not in VOICES]
    kept = tmp_path_factory.mktemp("tune")
    return [*OPTIONS, "--folds", "1", "--kept", str(kept), *(word for name in others for word in ("--holdout", name))]


def test_the_command_finds_thresholds_and_writes_their_model(small: list[str], tmp_path: Path) -> None:
    out = tmp_path / "tuned.safetensors"
    run = CliRunner().invoke(main, ["tune", *small, "--target-ops", "3.5", "--out", str(out), "--json"])
    assert run.exit_code == 0, run.stderr
    told = json.loads(run.stdout)
    assert told["reached"] and told["op_reduction"] >= 3.5 and told["model"] == str(out)
    assert {"theta_x", "theta_h", "error", "op_reduction"} <= set(told["tried"][0])
    model = FloatModel.load(out)
    assert (model.layers[0].theta_x, model.layers[0].theta_h) == (told["theta_x"], told["theta_h"])
    digits = datasets.load("digits")
    known = digits.select([speaker in VOICES for speaker in digits.speakers])
    test = known.select(fold_split(known, 1)[1])
    result = evaluate(model, test.features, test.labels)
    assert (result.error, result.op_reduction) == pytest.approx((told["error"], told["op_reduction"]))
    assert model.provenance["error"] == told["error"] and "en-029+boris" in str(model.provenance["held_out"])


def test_a_target_out_of_reach_ends_with_status_1_and_the_nearest(small: list[str], tmp_path: Path) -> None:
    out = tmp_path / "none.safetensors"
    run = CliRunner().invoke(main, ["tune", *small, "--target-ops", "1000", "--out", str(out), "--json"])
    assert run.exit_code == 1 and not out.exists()
    told = json.loads(run.stdout)
    assert not told["reached"] and told["model"] is None
    assert told["op_reduction"] == max(point["op_reduction"] for point in told["tried"])
    assert "1000 times fewer operations is out of reach" in run.stderr


def test_a_speaker_who_is_not_there_is_said_so(small: list[str]) -> None:
    run = CliRunner().invoke(main, ["tune", *small, "--target-ops", "2", "--holdout", "nobody"])
    assert run.exit_code == 2 and "'nobody' is not in data set digits" in run.stderr
