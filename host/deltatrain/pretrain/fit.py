"""The training loop of pre-training."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar, cast

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from deltatrain.datasets import Dataset
from deltatrain.errors import InputError, ModelError
from deltatrain.features import FeatureConfig, fit_standardisation, standardise
from deltatrain.model import N_GATES, FloatModel, LayerWeights
from deltatrain.pretrain.adam import Adam, clip_to_norm
from deltatrain.pretrain.augment import Augmentation
from deltatrain.pretrain.config import FitConfig
from deltatrain.pretrain.evaluation import ErrorCount, evaluate, targets_of
from deltatrain.pretrain.network import FlatTensors, Shape, run
from deltatrain.pretrain.packing import pack
from deltatrain.readouts import NOT_SCALED, TargetScale
from deltatrain.reference import OperationCount
from deltatrain.thresholds import per_layer

FloatArray = npt.NDArray[np.float64]
F = TypeVar("F", bound=Callable[..., object])


@dataclass(frozen=True)
class Epoch:
    """One pass over the training data.

    Attributes
    ----------
    epoch : int
        From 1.
    loss, error : float
        Mean over the pass, as the weights moved.
    occupancy : float
        Share of transmitted entries, weighted as the operation count is: its inverse is the op reduction.
    validation_error : float or None
        After the pass, if there are validation data.
    """

    epoch: int
    loss: float
    error: float
    occupancy: float
    validation_error: float | None


@dataclass(frozen=True)
class Fitted:
    """A pre-trained model and how it came about, one entry an epoch."""

    model: FloatModel
    history: tuple[Epoch, ...]


def initial_parameters(config: FitConfig, n_in: int, n_classes: int, rng: np.random.Generator) -> FlatTensors:
    """Weights before training: Glorot-uniform inputs, orthogonal recurrence, forget gate open (bias 1)."""
    shape = _shape(config, n_in, n_classes, "last")  # the readout's tensors are the same wherever it reads
    tensors = FlatTensors(shape, np.float64)
    h = config.n_hidden
    for index in range(config.n_layers):
        layer = tensors.layer(index)
        for gate in range(N_GATES[config.cell]):
            rows = slice(gate * h, (gate + 1) * h)
            bound = math.sqrt(6 / (layer.weight_ih.shape[1] + h))
            layer.weight_ih[rows] = rng.uniform(-bound, bound, layer.weight_ih[rows].shape)
            layer.weight_hh[rows] = np.linalg.qr(rng.normal(size=(h, h)))[0]
        if config.cell == "lstm":
            layer.bias[h : 2 * h] = 1.0
    bound = math.sqrt(6 / (h + n_classes))
    weight = tensors.by_name["readout.weight"]
    weight[...] = rng.uniform(-bound, bound, weight.shape)
    return tensors


def _with_one_blas_thread(function: F) -> F:
    """With more threads BLAS sums in another order, and the same seed would give other weights."""
    return cast(F, threadpool_limits.wrap(limits=1, user_api="blas")(function))


@_with_one_blas_thread
def fit(
    data: Dataset,
    config: FitConfig,
    *,
    validation: Dataset | None = None,
    warm_start: FloatModel | None = None,
    provenance: dict[str, object] | None = None,
    progress: Callable[[Epoch], None] | None = None,
    dtype: npt.DTypeLike = np.float32,
) -> Fitted:
    """Pre-train a model.

    Parameters
    ----------
    data : Dataset
        Training data with raw features. They alone decide the standardisation.
    config : FitConfig
    validation : Dataset, optional
        Evaluated after every epoch; nothing is decided by it.
    warm_start : FloatModel, optional
        Weights and standardisation to go on from, e.g. of a dense model of the same cell and sizes.
    provenance : dict, optional
        What the model file shall say besides what is known here: held-out speakers, command.
    progress : callable, optional
        Called after every epoch.
    dtype : dtype
        Of the computation.

    Raises
    ------
    InputError
        If the data are empty, of other classes than the validation data, or do not fit the warm start.
    ModelError
        If training diverged.
    """
    if not len(data):
        raise InputError("there is nothing to train on; the data set is empty")
    features = _features(data, warm_start)
    ready = [standardise(item, features).astype(dtype) for item in data.features]
    shape = _shape(config, ready[0].shape[1], len(data.class_names), _readout(data, config, warm_start))
    target_scale = _target_scale(data, shape.readout, warm_start)
    augmentation = config.augmentation if data.spectra and data.targets is None else Augmentation()
    rng = np.random.Generator(np.random.PCG64(config.seed))
    if warm_start is None:
        initial = initial_parameters(config, shape.n_in, shape.n_classes, rng)
    else:
        initial = FlatTensors(shape, np.float64, _checked_start(warm_start, shape))
    params, grads = FlatTensors(shape, dtype, initial.by_name), FlatTensors(shape, dtype)
    decayed = FlatTensors(shape, dtype)
    for name, tensor in decayed.by_name.items():
        tensor[...] = config.weight_decay if "weight" in name else 0.0
    adam = Adam(params.flat.size, dtype)
    std = np.asarray(features.std)
    n_batches = -(-len(ready) // config.batch_size)
    judged_by = data.judged_by
    history: list[Epoch] = []

    def model() -> FloatModel:
        tensors = {name: tensor.astype(np.float64) for name, tensor in params.by_name.items()}
        made = _model(tensors, shape, data.class_names, features, max(map(len, ready)))
        return dataclasses.replace(made, target_scale=target_scale)

    for epoch in range(config.epochs):
        loss, errors, operations = 0.0, ErrorCount(judged_by), OperationCount()
        order = rng.permutation(len(ready))
        for batch in range(n_batches):
            chosen = order[batch::n_batches]
            varied = augmentation.apply([ready[i] for i in chosen], std, features.max_frames, rng)
            rows, packing = pack(varied, dtype)
            targets = targets_of(
                shape.readout,
                target_scale,
                data.labels[chosen],
                None if data.targets is None else [data.targets[i] for i in chosen],
                [len(item) for item in varied],
                shape.n_classes,
            )
            result = run(shape, params, rows, packing, targets, beta=config.beta, grads=grads)
            if not math.isfinite(result.loss):
                raise ModelError(
                    f"training diverged in epoch {epoch + 1} (loss {result.loss}); lower the learning rate "
                    f"({config.learning_rate}) or the clip ({config.clip_norm})"
                )
            clip_to_norm(grads.flat, config.clip_norm)
            rate = config.learning_rate * schedule(epoch * n_batches + batch, n_batches, config.epochs)
            adam.step(params.flat, grads.flat, rate, decayed.flat if config.weight_decay else 0.0)
            loss += result.loss * len(chosen)
            errors.add(result, data.labels[chosen])
            operations += result.operations
        outcome = (
            None
            if validation is None
            else evaluate(model(), validation.features, validation.labels, targets=validation.targets)
        )
        history.append(
            Epoch(
                epoch=epoch + 1,
                loss=loss / len(ready),
                error=errors.error,
                occupancy=1 / operations.reduction,
                validation_error=None if outcome is None else outcome.error,
            )
        )
        if progress is not None:
            progress(history[-1])
    told: dict[str, object] = {
        "data": data.name,
        "sequences": len(ready),
        "speakers": sorted(set(data.speakers)),
        "epochs": config.epochs,
        "seed": config.seed,
        "error": history[-1].error if outcome is None else outcome.error,
        "op_reduction": 1 / history[-1].occupancy if outcome is None else outcome.op_reduction,
    }
    return Fitted(dataclasses.replace(model(), provenance=told | (provenance or {})), tuple(history))


def schedule(step: int, n_batches: int, epochs: int) -> float:
    """Share of the highest learning rate: a linear rise over at most one epoch, then a cosine to zero."""
    total = n_batches * epochs
    rise = min(n_batches, total // 10)
    if step < rise:
        return (step + 1) / (rise + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(total - rise, 1)))


def _readout(data: Dataset, config: FitConfig, warm_start: FloatModel | None) -> str:
    """What the settings say, else what the data's own targets are for."""
    if config.readout is not None:
        chosen = config.readout
    else:
        chosen = {"utterances": "last", "frames": "frames", "values": "regression"}[data.judged_by]
    if warm_start is not None and warm_start.readout != chosen:
        raise InputError(
            f"the model to start from has the readout {warm_start.readout}, this training {chosen}; give one like it"
        )
    return chosen


def _target_scale(data: Dataset, readout: str, warm_start: FloatModel | None) -> TargetScale:
    """Units of a regression on values of the data's own; classes as values of 0 and 1 are as they are."""
    if warm_start is not None:
        return warm_start.target_scale
    own = data.targets if readout == "regression" and data.judged_by == "values" else None
    return NOT_SCALED if own is None else TargetScale.fit(own)


def _shape(config: FitConfig, n_in: int, n_classes: int, readout: str) -> Shape:
    layers = config.n_layers
    return Shape(
        cells=(config.cell,) * layers,
        n_in=n_in,
        n_hidden=(config.n_hidden,) * layers,
        n_classes=n_classes,
        theta_x=per_layer(config.theta_x, layers, "theta_x"),
        theta_h=per_layer(config.theta_h, layers, "theta_h"),
        readout=readout,
    )


def _features(data: Dataset, warm_start: FloatModel | None) -> FeatureConfig:
    if warm_start is None:
        return fit_standardisation(data.config, data.features)
    if warm_start.features.raw() != data.config.raw():
        raise InputError(
            "the model to start from was made with other features than these data; extract them with its settings"
        )
    if warm_start.class_names != data.class_names:
        raise InputError(
            f"the model to start from knows the classes {', '.join(warm_start.class_names)}, "
            f"the data have {', '.join(data.class_names)}"
        )
    return warm_start.features


def _checked_start(model: FloatModel, shape: Shape) -> dict[str, FloatArray]:
    have, want = Shape.of(model), shape
    for name in ("cells", "n_in", "n_hidden", "n_classes"):
        if getattr(have, name) != getattr(want, name):
            raise InputError(
                f"the model to start from has {name} {getattr(have, name)}, the settings say {getattr(want, name)}"
            )
    return model.tensors()


def _model(
    tensors: dict[str, FloatArray],
    shape: Shape,
    class_names: tuple[str, ...],
    features: FeatureConfig,
    max_steps: int,
) -> FloatModel:
    layers = tuple(
        LayerWeights(
            cell=cell,
            theta_x=shape.theta_x[index],
            theta_h=shape.theta_h[index],
            weight_ih=tensors[f"layer{index}.weight_ih"],
            weight_hh=tensors[f"layer{index}.weight_hh"],
            bias=tensors[f"layer{index}.bias"],
        )
        for index, cell in enumerate(shape.cells)
    )
    return FloatModel(
        layers=layers,
        readout_weight=tensors["readout.weight"],
        readout_bias=tensors["readout.bias"],
        class_names=class_names,
        features=features,
        max_steps=max_steps,
        readout=shape.readout,
    )
