"""Items of data sets as the device takes them: all at once, or each when it is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from deltatrain.datasets import Dataset
from deltatrain.datasets.lazy import Lazy
from deltatrain.errors import InputError
from deltatrain.quant_model import QuantModel
from deltatrain.quantize import quantize_features, quantize_targets
from deltatrain.training import Sample


@dataclass(frozen=True)
class Samples:
    """Samples ready for the device, and how many feature values the input format had to clamp."""

    items: tuple[Sample, ...]
    saturated: int

    @property
    def values(self) -> int:
        """Feature values of all samples."""
        return sum(sample.frames.size for sample in self.items)


def samples_of(model: QuantModel, dataset: Dataset, chosen: Sequence[int] | NDArray[np.int64]) -> Samples:
    """Items of a data set in the model's input format, in the order given."""
    check_classes(model, dataset)
    items = tuple(sample_of(model, dataset, int(number)) for number in chosen)
    return Samples(items, sum(sample.saturated for sample in items))


def check_classes(model: QuantModel, dataset: Dataset) -> None:
    """InputError unless a data set has the model's classes."""
    if dataset.class_names != model.class_names:
        raise InputError(
            f"data set {dataset.name} has the classes {', '.join(dataset.class_names)}; "
            f"the model knows {', '.join(model.class_names)}"
        )


def sample_of(model: QuantModel, dataset: Dataset, number: int) -> Sample:
    """An item of a data set in the model's input format."""
    item = dataset[number]
    quantized = quantize_features(model, item.features)
    return Sample(
        quantized.frames,
        item.label,
        f"{dataset.class_names[item.label]}_{item.speaker}_{item.index}",
        quantize_targets(model, item.label, item.targets, len(quantized.frames)),
        dataset.judged_by,
        saturated=quantized.saturated,
    )


def streamed(model: QuantModel, dataset: Dataset, chosen: NDArray[np.int64]) -> Sequence[Sample]:
    """The same samples as `samples_of`, each made when it is asked for."""
    check_classes(model, dataset)
    return Lazy(partial(sample_of, model, dataset), chosen)
