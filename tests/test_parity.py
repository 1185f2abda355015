"""The study of float64 against fixed point: its fast trainer is the reference, and it tells what it should."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from scipy.io import wavfile

from deltatrain.cli import main
from deltatrain.datasets import Dataset, load
from deltatrain.errors import InputError
from deltatrain.features import FeatureConfig
from deltatrain.model import FloatModel, LayerWeights
from deltatrain.parity import ParityConfig, PersonalConfig, ScratchConfig, difference, differences, study_parity
from deltatrain.parity.float_lstm import FloatLstm
from deltatrain.pretrain import FitConfig
from deltatrain.reference import SgdTrainer


def random_float_model(cell: str = "lstm") -> FloatModel:
    rng = np.random.default_rng(3)
    layer = LayerWeights(
        cell=cell,
        theta_x=0.3,
        theta_h=0.1,
        weight_ih=rng.normal(0, 0.5, (20, 3)),
        weight_hh=rng.normal(0, 0.5, (20, 5)),
        bias=rng.normal(0, 0.5, 20),
    )
    return FloatModel(
        layers=(layer,),
        readout_weight=rng.normal(0, 1, (4, 5)),
        readout_bias=rng.normal(0, 1, 4),
        class_names=("a", "b", "c", "d"),
        features=FeatureConfig(n_bands=3),
        max_steps=30,
    )


@pytest.mark.parametrize("clip", [0.5, 2.0, 1e6])
def test_compiled_trainer_is_the_reference(clip: float) -> None:
    """Losses, predictions and parameters over forty steps of samples of several lengths, clipped and not."""
    model = random_float_model()
    fast, network = FloatLstm(model, 30), model.network()
    trainer = SgdTrainer(network, 0.3, clip)
    rng = np.random.default_rng(4)
    scales = set()
    for _ in range(40):
        x = np.cumsum(rng.normal(0, 0.4, (int(rng.integers(1, 31)), 3)), axis=0)
        label = int(rng.integers(4))
        predicted = fast.predict(x)
        step = trainer.step(x, label)
        assert predicted == step.prediction
        assert fast.train(x, label, 0.3, clip) == pytest.approx(step.loss, abs=1e-9)
        scales.add(step.scale < 1)
        expected = model.with_network(network).tensors()
        for name, tensor in fast.model().tensors().items():
            np.testing.assert_allclose(tensor, expected[name], rtol=0, atol=1e-9, err_msg=name)
    assert scales == ({False} if clip == 1e6 else {True} if clip == 0.5 else {True, False})


def test_compiled_trainer_refuses_what_it_cannot() -> None:
    model = random_float_model()
    with pytest.raises(InputError, match="float64"):
        FloatLstm(model, 5).predict(np.zeros((6, 3)))
    with pytest.raises(InputError, match="float64"):
        FloatLstm(model, 5).predict(np.zeros((2, 3), np.float32))


@pytest.fixture(scope="module")
def three_voices() -> Dataset:
    data = load("digits")
    return data.select([name in data.speaker_names[:3] for name in data.speakers])


def test_both_sides_learn_alike_from_scratch_and_from_a_pretrained_model(three_voices: Dataset, tmp_path: Path) -> None:
    """A small study: both sides' losses fall, their errors agree as far as chaos lets them; stopped, it goes on."""
    config = ParityConfig(
        folds=1,
        seeds=1,
        scratch=ScratchConfig(epochs=6, last=2, n_hidden=16),
        personal=PersonalConfig(orders=2),
        fit=FitConfig(epochs=4, n_hidden=16),
    )
    rows = study_parity(three_voices, config, tmp_path)
    assert [row["part"] for row in rows] == ["scratch", *["personal"] * 3]
    run = rows[0]["runs"]
    for side in ("float", "fixed"):
        assert len(run[side]) == 6 and rows[0][side] == np.mean(run[side][-2:])
        assert rows[0][side] < min(0.5, run[side][0])  # guessing errs on 0.9
    assert run["op_reduction"] > 1 and all(rates["saturated_h"] == 0 for rates in run["rates"])
    scratch, personal = differences(rows)
    assert abs(scratch.difference) < 0.15 and abs(personal.difference) < 0.15
    assert personal.runs == 3 and personal.half_width < 1
    kept = tmp_path / "scratch-0.json"
    before = kept.stat().st_mtime_ns
    assert study_parity(three_voices, config, tmp_path) == rows
    assert kept.stat().st_mtime_ns == before


def test_difference_pools_pairs() -> None:
    """By hand: differences 0.01, 0.03; t of one degree of freedom is 12.706, their standard error 0.01."""
    pooled = difference("scratch", [0.02, 0.04], [0.03, 0.07])
    assert (pooled.error_float, pooled.error_fixed) == pytest.approx((0.03, 0.05))
    assert pooled.difference == pytest.approx(0.02) and not pooled.reached
    assert pooled.half_width == pytest.approx(0.12706, rel=1e-4)
    assert difference("scratch", [0.02], [0.02]).half_width == float("inf")


def test_command_tells_both_parts(tmp_path: Path) -> None:
    small = ("--folds", "1", "--epochs", "1", "--seeds", "1", "--orders", "1", "--fit-epochs", "1", "--hidden", "4")
    wave = np.sin(2 * np.pi * 800 * np.arange(2400) / 8000) * 8000
    rng = np.random.default_rng(1)
    for word in ("low", "high"):
        (tmp_path / "tones" / word).mkdir(parents=True)
        for speaker in ("ann", "bob"):
            for number in range(10):
                path = tmp_path / "tones" / word / f"{speaker}_{number}.wav"
                wavfile.write(path, 8000, (wave + rng.normal(0, 500, wave.size)).astype(np.int16))
    command = ["study", "parity", "--data", str(tmp_path / "tones"), "--jobs", "1", "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(main, [*command, *small, "--json"])
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert [one["part"] for one in told["summary"]] == ["scratch", "personal"]
    assert told["summary"][1]["runs"] == 2 and told["summary"][0]["half_width"] is None
    assert len(told["rates"]) == 1 and told["rates"][0]["saturated_x"] >= 0
    lines = Path(told["csv"]).read_text().splitlines()
    assert lines[0] == "part,name,float,fixed" and len(lines) == 4
    shown = CliRunner().invoke(main, [*command, *small])
    assert "personalisation" in shown.stdout and "dM rounded to 0" in shown.stdout
