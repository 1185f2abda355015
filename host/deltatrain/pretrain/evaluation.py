"""Error, predictions and operation count of a model over many sequences, in batches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from deltatrain.datasets import check_labels
from deltatrain.errors import InputError
from deltatrain.features import standardise
from deltatrain.model import FloatModel
from deltatrain.pretrain.losses import Targets
from deltatrain.pretrain.network import BatchResult, FlatTensors, Shape, run
from deltatrain.pretrain.packing import pack
from deltatrain.readouts import TargetScale, frame_targets
from deltatrain.reference import OperationCount

BATCH = 256


@dataclass(frozen=True)
class Evaluation:
    """How a model does on a set of sequences.

    Attributes
    ----------
    error : float
        Share of wrong predictions, 0 to 1; of data with targets of their own, share of wrong frames, or the root of the
        mean squared error in their standard deviations.
    loss : float
        Mean over the sequences.
    predictions : ndarray of int, shape (N,)
        The largest output at each last frame.
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


@dataclass
class ErrorCount:
    """Errors over batches, by what the data are judged by: `utterances`, `frames` or `values`."""

    judged_by: str
    count: int = 0
    total: float = 0.0

    def add(self, result: BatchResult, labels: npt.NDArray[np.integer]) -> None:
        """Take a batch in; `labels` of its utterances."""
        if self.judged_by == "utterances":
            self.count += len(labels)
            self.total += int((result.logits.argmax(axis=1) != labels).sum())
        else:
            self.count += result.judged.n_targets
            self.total += result.judged.n_wrong if self.judged_by == "frames" else result.judged.squares

    @property
    def error(self) -> float:
        """Share of errors, or the root of the mean square."""
        mean = self.total / self.count
        return math.sqrt(mean) if self.judged_by == "values" else mean


def targets_of(
    readout: str,
    scale: TargetScale,
    labels: npt.NDArray[np.integer],
    own: Sequence[npt.NDArray[Any]] | None,
    lengths: Sequence[int],
    n_outputs: int,
) -> Targets:
    """Targets of a batch's sequences, as `run` takes them; see `readouts.frame_targets`."""
    targets = []
    for index, (label, length) in enumerate(zip(labels, lengths, strict=True)):
        one = frame_targets(readout, int(label), None if own is None else own[index], length, n_outputs)
        if one is None:
            return labels
        targets.append(one if one.ndim == 1 else scale.apply(one))
    return targets


def evaluate(
    model: FloatModel,
    features: Sequence[npt.NDArray[np.floating]],
    labels: npt.ArrayLike,
    dtype: npt.DTypeLike = np.float32,
    targets: Sequence[npt.NDArray[Any]] | None = None,
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
    targets : sequence of ndarray, optional
        Of data that have their own: classes (T,) or values (T, K), T as in `features`; the labels do not count then.

    Raises
    ------
    InputError
        If there is nothing to evaluate, labels are too few or many, or a label or feature is out of range.
    """
    if not features:
        raise InputError("there is nothing to evaluate; give at least one sequence")
    known = np.asarray(labels)
    if known.shape != (len(features),):
        raise InputError(f"there are {len(features)} sequences and labels of shape {known.shape}; give one label each")
    check_labels(known, model.class_names)
    judged_by = "utterances" if targets is None else "frames" if model.readout == "frames" else "values"
    errors = ErrorCount(judged_by)
    ready = [standardise(item, model.features) for item in features]
    shape, params = Shape.of(model), FlatTensors(Shape.of(model), dtype, model.tensors())
    logits = np.empty((len(ready), model.n_outputs), dtype)
    loss, operations = 0.0, OperationCount()
    # Sequences of like length together run fullest.
    order = np.argsort([len(item) for item in ready], kind="stable")
    for start in range(0, len(order), BATCH):
        chosen = order[start : start + BATCH]
        rows, packing = pack([ready[i] for i in chosen], dtype)
        own = None if targets is None else [targets[i] for i in chosen]
        lengths = [len(ready[i]) for i in chosen]
        wanted = targets_of(model.readout, model.target_scale, known[chosen], own, lengths, model.n_outputs)
        result = run(shape, params, rows, packing, wanted)
        errors.add(result, known[chosen])
        logits[chosen] = result.logits
        loss += result.loss * len(chosen)
        operations += result.operations
    predictions = logits.argmax(axis=1).astype(np.int64)
    return Evaluation(
        error=errors.error,
        loss=loss / len(ready),
        predictions=predictions,
        logits=logits,
        operations=operations,
    )
