"""The study of float64 against fixed point: its fast trainer is the reference, and it tells what it should."""

from __future__ import annotations

import numpy as np
import pytest

from deltatrain.errors import InputError
from deltatrain.features import FeatureConfig
from deltatrain.model import FloatModel, LayerWeights
from deltatrain.parity.float_lstm import FloatLstm
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
