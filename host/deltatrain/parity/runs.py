"""The same training twice: float64 on exact features, and fixed point in the C core; the same order, rate and clip."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deltatrain.datasets import Dataset, fold_split
from deltatrain.features import fit_standardisation, standardise
from deltatrain.model import FloatModel, LayerWeights
from deltatrain.parity.float_lstm import FloatLstm
from deltatrain.personal import CALIBRATION_ITEMS, personal, spread
from deltatrain.pretrain import FitConfig, initial_parameters
from deltatrain.quant_model import QuantModel
from deltatrain.quantize import quantize
from deltatrain.rates import Rates
from deltatrain.samples import samples_of
from deltatrain.training import Engine, Settings, count_operations, evaluate
from deltatrain.training import train as train_engine
from deltatrain_core import CoreNetwork

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class ScratchConfig:
    """SGD from random weights. The rate falls geometrically from the first epoch to the last; both sides have the same.

    Attributes
    ----------
    epochs, last : int
        Passes over the training recordings, and over how many of the last ones the error is averaged.
    learning_rate, final_rate, clip, theta : float
    n_hidden : int
    """

    epochs: int = 20
    last: int = 5
    learning_rate: float = 0.32
    final_rate: float = 0.032
    clip: float = 2.0
    theta: float = 0.3
    n_hidden: int = 64

    def rate(self, epoch: int) -> float:
        """The learning rate of an epoch, from 0."""
        share = epoch / max(self.epochs - 1, 1)
        return float(self.learning_rate * (self.final_rate / self.learning_rate) ** share)


@dataclass(frozen=True)
class PersonalConfig:
    """A pre-trained model meets a speaker: one pass over a few utterances of each class, again and again.

    Attributes
    ----------
    orders : int
        Draws of the utterances and their order; a single run is chaotic, their mean is not.
    per_class : int
    learning_rate, clip : float
    """

    orders: int = 16
    per_class: int = 5
    learning_rate: float = 0.16
    clip: float = 2.0


def _as_it_is(model: QuantModel) -> QuantModel:
    return model


@dataclass(frozen=True)
class Fixed:
    """The fixed-point side: by default the C core, as `quantize` would have it.

    Attributes
    ----------
    engine : callable
        Makes the trainer of a quantised model.
    adapt : callable
        Changes the formats that `quantize` chose; nothing by default.
    """

    engine: Callable[[QuantModel], Engine] = CoreNetwork
    adapt: Callable[[QuantModel], QuantModel] = _as_it_is


def initial_model(data: Dataset, train: IntArray, config: ScratchConfig, seed: int) -> FloatModel:
    """Random weights, and the standardisation of the training recordings."""
    features = fit_standardisation(data.config, [data.features[item] for item in train])
    n_in = data.features[0].shape[1]
    fit = FitConfig(n_hidden=config.n_hidden, seed=seed)
    random = initial_parameters(fit, n_in, len(data.class_names), np.random.default_rng(seed)).by_name
    tensors = {name: tensor.astype(np.float64) for name, tensor in random.items()}
    layer = LayerWeights(
        cell="lstm",
        theta_x=config.theta,
        theta_h=config.theta,
        weight_ih=tensors["layer0.weight_ih"],
        weight_hh=tensors["layer0.weight_hh"],
        bias=tensors["layer0.bias"],
    )
    return FloatModel(
        layers=(layer,),
        readout_weight=tensors["readout.weight"],
        readout_bias=tensors["readout.bias"],
        class_names=data.class_names,
        features=features,
        max_steps=max(len(item) for item in data.features),
    )


def quantised(model: FloatModel, data: Dataset, items: IntArray, fixed: Fixed) -> QuantModel:
    """As `deltatrain quantize` does it: formats from a few of the pre-training recordings."""
    calibration = [data.features[item] for item in spread(items, CALIBRATION_ITEMS)]
    return fixed.adapt(quantize(model, calibration)[0])


def scratch(data: Dataset, fold: int, config: ScratchConfig, fixed: Fixed, with_float: bool = True) -> dict[str, Any]:
    """Train on all recordings but a fold's, from random weights; errors on the fold's after each epoch.

    Returns
    -------
    dict
        `fixed` and `float`: errors by epoch; `rates`: a `Rates` by epoch; `op_reduction`.
    """
    train, test = fold_split(data, fold)
    model = initial_model(data, train, config, fold)
    integers = quantised(model, data, train, fixed)
    samples = samples_of(integers, data, np.arange(len(data)))
    tested = [samples.items[item] for item in test]
    engine = fixed.engine(integers)
    exact = _Exact(model, data) if with_float else None
    rng = np.random.default_rng([fold, 2])
    of_fixed: list[float] = []
    of_float: list[float] = []
    rates: list[dict[str, float]] = []
    executed = dense = 0
    for epoch in range(config.epochs):
        order, rate = rng.permutation(train), config.rate(epoch)
        settings = Settings.of(integers, learning_rate=rate, clip=config.clip, seed=fold)
        settings.apply(engine, step=epoch * len(train))
        results = [step.result for step in train_engine(engine, [samples.items[item] for item in order])]
        of_fixed.append(evaluate(engine, tested, len(data.class_names)).error)
        rates.append(Rates.of(integers, results, samples).to_dict())
        operations = count_operations(integers, results)
        executed, dense = executed + operations.executed, dense + operations.dense
        if exact is not None:
            exact.train(order, rate, config.clip)
            of_float.append(exact.error(test))
    return {"fixed": of_fixed, "float": of_float, "rates": rates, "op_reduction": dense / executed}


def personalise(
    data: Dataset,
    model: FloatModel,
    speaker: str,
    seed: int,
    config: PersonalConfig,
    fixed: Fixed,
    with_float: bool = True,
) -> dict[str, Any]:
    """Let a pre-trained model meet a speaker, `config.orders` times; errors on the utterances not trained on.

    Returns
    -------
    dict
        `fixed` and `float`: errors after, by order; `fixed_before`: likewise; `rates`, over all orders.
    """
    others = np.flatnonzero([name != speaker for name in data.speakers]).astype(np.int64)
    integers = quantised(model, data, others, fixed)
    own = np.flatnonzero([name == speaker for name in data.speakers]).astype(np.int64)
    samples = samples_of(integers, data, own)
    sample_of = dict(zip(own.tolist(), samples.items, strict=True))
    engine = fixed.engine(integers)
    of_fixed: list[float] = []
    of_float: list[float] = []
    results: list[Any] = []
    for order in range(config.orders):
        draw = seed * config.orders + order
        split = personal(data, speaker, per_class=config.per_class, epochs=1, seed=draw)
        engine.reset_weights()
        Settings.of(integers, learning_rate=config.learning_rate, clip=config.clip, seed=draw).apply(engine)
        results += [step.result for step in train_engine(engine, [sample_of[item] for item in split.train.tolist()])]
        tested = [sample_of[item] for item in split.test.tolist()]
        of_fixed.append(evaluate(engine, tested, len(data.class_names)).error)
        if with_float:
            exact = _Exact(model, data, own)
            exact.train(split.train, config.learning_rate, config.clip)
            of_float.append(exact.error(split.test))
    engine.reset_weights()
    before = evaluate(engine, samples.items, len(data.class_names)).error
    rates = Rates.of(integers, results, samples).to_dict()
    return {"fixed": of_fixed, "float": of_float, "fixed_before": before, "rates": rates}


class _Exact:
    """The float64 side: exact features, exact thresholds, the weights before they were quantised."""

    def __init__(self, model: FloatModel, data: Dataset, items: IntArray | None = None) -> None:
        chosen = range(len(data)) if items is None else items.tolist()
        self._x = {item: np.ascontiguousarray(standardise(data.features[item], model.features)) for item in chosen}
        self._labels = data.labels
        self._network = FloatLstm(model, model.max_steps)

    def train(self, order: IntArray, learning_rate: float, clip: float) -> None:
        for item in order.tolist():
            self._network.train(self._x[item], int(self._labels[item]), learning_rate, clip)

    def error(self, items: IntArray) -> float:
        wrong = [self._network.predict(self._x[item]) != self._labels[item] for item in items.tolist()]
        return float(np.mean(wrong))
