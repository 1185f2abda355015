"""Error, predictions and operation count of a model over many sequences, in batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from deltatrain.datasets import check_labels
from deltatrain.errors import InputError
from deltatrain.features import standardise
from deltatrain.model import FloatModel
from deltatrain.pretrain.network import FlatTensors, Shape, run
from deltatrain.pretrain.packing import pack
from deltatrain.reference import OperationCount

BATCH = 256


@dataclass(frozen=True)
class Evaluation:
    """How a model does on a set of sequences.

    Attributes
    ----------
    error : float
        Share of wrong predictions, 0 to 1.
    loss : float
        Mean cross-entropy, nats.
    predictions : ndarray of int, shape (N,)
    logits : ndarray, shape (N, n_classes)
    operations : OperationCount
        MACs that training on these sequences takes.
    """

    error: float
    loss: float
    predictions: npt.NDArray[np.int64]
    logits: npt.NDArray[np.floating]
    operations: OperationCount

    @property
    def op_reduction(self) -> float:
        """Dense over executed training MACs, the first layer's dx in both."""
        return self.operations.reduction


def evaluate(
    model: FloatModel,
    features: Sequence[npt.NDArray[np.floating]],
    labels: npt.ArrayLike,
    dtype: npt.DTypeLike = np.float32,
) -> Evaluation:
    """Run a model over sequences.

    Parameters
    ----------
    model : FloatModel
    features : sequence of ndarray, each (T, n_bands)
        Raw features; the model's own standardisation is applied.
    labels : array_like of int, shape (N,)
    dtype : dtype
        Of the computation; float64 agrees with `deltatrain.reference` to rounding.

    Raises
    ------
    InputError
        If there is nothing to evaluate, labels are too few or many, or a label or feature is out of range.
    """
    if not features:
        raise InputError("there is nothing to evaluate; give at least one sequence")
    targets = np.asarray(labels)
    if targets.shape != (len(features),):
        raise InputError(
            f"there are {len(features)} sequences and labels of shape {targets.shape}; give one label each"
        )
    check_labels(targets, model.class_names)
    ready = [standardise(item, model.features) for item in features]
    shape, params = Shape.of(model), FlatTensors(Shape.of(model), dtype, model.tensors())
    logits = np.empty((len(ready), model.n_outputs), dtype)
    loss, operations = 0.0, OperationCount()
    # Sequences of like length together run fullest.
    order = np.argsort([len(item) for item in ready], kind="stable")
    for start in range(0, len(order), BATCH):
        chosen = order[start : start + BATCH]
        rows, packing = pack([ready[i] for i in chosen], dtype)
        result = run(shape, params, rows, packing, targets[chosen])
        logits[chosen] = result.logits
        loss += result.loss * len(chosen)
        operations += result.operations
    predictions = logits.argmax(axis=1).astype(np.int64)
    return Evaluation(
        error=float((predictions != targets).mean()),
        loss=loss / len(ready),
        predictions=predictions,
        logits=logits,
        operations=operations,
    )
