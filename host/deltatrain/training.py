"""Evaluating and training on labelled samples: on a device, in the C core, or in the integer reference.

Everything here is the same for all of them, so that what differs can only be the computation itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, overload

import numpy as np
from numpy.typing import NDArray

from deltatrain.datasets import Dataset
from deltatrain.errors import InputError
from deltatrain.model import N_GATES
from deltatrain.quant_model import QuantModel
from deltatrain.quantize import H_FRAC_BITS, quantize_features, quantize_threshold
from deltatrain.scale import Scale

LOSS_ONE = 2**16
ZERO = Scale(0, 0)

Progress = Callable[[int, int, dict[str, Any]], None]
"""Called with (items done, items in all, what to show beside the bar)."""


class Result(Protocol):
    """What a sample's outcome tells; see `drnn_result_t`."""

    @property
    def loss(self) -> int: ...
    @property
    def predicted(self) -> int: ...
    @property
    def n_steps(self) -> int: ...
    @property
    def active_x(self) -> int: ...
    @property
    def active_h(self) -> int: ...
    @property
    def macs_forward(self) -> int: ...
    @property
    def macs_backward(self) -> int: ...
    @property
    def macs_gradient(self) -> int: ...


class Engine(Protocol):
    """Anything that runs a quantised model: `Device`, `CoreNetwork`, `FixedNetwork`."""

    def configure(
        self,
        *,
        learning_rate: Scale,
        clip: Scale,
        theta_x: Sequence[int],
        theta_h: Sequence[int],
        seed: int,
        beta: Scale | None = None,
        step: int = 0,
    ) -> None: ...
    def begin(self) -> None: ...
    @overload
    def push(self, frames: NDArray[np.int16], want_hidden: Literal[True] = True) -> NDArray[np.int16]: ...
    @overload
    def push(self, frames: NDArray[np.int16], want_hidden: Literal[False]) -> None: ...
    def infer(self) -> Any: ...
    def train(self, label: int) -> Any: ...
    def tensor(self, name: str) -> NDArray[Any]: ...
    def set_tensor(self, name: str, values: NDArray[Any]) -> None: ...
    def reset_weights(self) -> None: ...


@dataclass(frozen=True)
class Sample:
    """One utterance as the device takes it: frames (T, n_in) int16 in its input format, and the class."""

    frames: NDArray[np.int16]
    label: int
    name: str


@dataclass(frozen=True)
class Settings:
    """What training on the device is told at run time, in the device's own formats; a threshold for each layer."""

    learning_rate: Scale
    clip: Scale
    theta_x: tuple[int, ...]
    theta_h: tuple[int, ...]
    seed: int
    beta: Scale = ZERO

    @staticmethod
    def of(
        model: QuantModel,
        *,
        learning_rate: float | None = None,
        clip: float | None = None,
        theta_x: float | None = None,
        theta_h: float | None = None,
        seed: int = 0,
        beta: float = 0.0,
    ) -> Settings:
        """The model's defaults, with what the user says instead; InputError when a value is out of range.

        One threshold serves all layers, in the format of each one's inputs. `beta` weighs the regulariser β Σ|Δh|.
        """
        if not 0 <= seed < 2**32:
            raise InputError(f"the seed is {seed}; it must lie between 0 and {2**32 - 1}")
        if learning_rate is not None and not 0 <= learning_rate < 32:
            raise InputError(f"the learning rate is {learning_rate}; it must lie between 0 and 32")
        if clip is not None and not clip > 0:
            raise InputError(f"the clip is {clip}; it must be above 0")
        if not 0 <= beta < 1:
            raise InputError(f"beta is {beta}; it must be at least 0 and below 1")
        return Settings(
            learning_rate=(
                model.learning_rate if learning_rate is None else Scale.from_float(learning_rate, "learning rate")
            ),
            clip=model.clip if clip is None else Scale.from_float(clip, "clip"),
            theta_x=tuple(
                layer.theta_x if theta_x is None else quantize_threshold(theta_x, layer.x_frac_bits, "theta_x")
                for layer in model.layers
            ),
            theta_h=tuple(
                layer.theta_h if theta_h is None else quantize_threshold(theta_h, H_FRAC_BITS, "theta_h")
                for layer in model.layers
            ),
            seed=seed,
            beta=Scale.from_float(beta, "beta"),
        )

    def apply(self, engine: Engine, step: int = 0) -> None:
        """Configure an engine."""
        engine.configure(
            learning_rate=self.learning_rate,
            clip=self.clip,
            beta=self.beta,
            theta_x=self.theta_x,
            theta_h=self.theta_h,
            seed=self.seed,
            step=step,
        )


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
    if dataset.class_names != model.class_names:
        raise InputError(
            f"data set {dataset.name} has the classes {', '.join(dataset.class_names)}; "
            f"the model knows {', '.join(model.class_names)}"
        )
    items, saturated = [], 0
    for number in chosen:
        item = dataset[int(number)]
        quantized = quantize_features(model, item.features)
        saturated += quantized.saturated
        name = f"{dataset.class_names[item.label]}_{item.speaker}_{item.index}"
        items.append(Sample(quantized.frames, item.label, name))
    return Samples(tuple(items), saturated)


@dataclass(frozen=True)
class Evaluation:
    """Predictions for labelled samples."""

    labels: tuple[int, ...]
    predictions: tuple[int, ...]
    n_classes: int

    @property
    def error(self) -> float:
        """Fraction of samples that were not recognised."""
        wrong = sum(a != b for a, b in zip(self.labels, self.predictions, strict=True))
        return wrong / len(self.labels)

    def confusion(self) -> NDArray[np.int64]:
        """(n_classes, n_classes): row is the true class, column the predicted one."""
        matrix = np.zeros((self.n_classes, self.n_classes), np.int64)
        np.add.at(matrix, (list(self.labels), list(self.predictions)), 1)
        return matrix


def evaluate(engine: Engine, samples: Sequence[Sample], n_classes: int, progress: Progress | None = None) -> Evaluation:
    """Classify each sample; the weights stay as they are."""
    if not samples:
        raise InputError("there are no samples to evaluate on; choose another speaker or fewer for training")
    predictions: list[int] = []
    wrong = 0
    for done, sample in enumerate(samples, 1):
        engine.begin()
        engine.push(sample.frames, want_hidden=False)
        predictions.append(int(engine.infer().predicted))
        wrong += predictions[-1] != sample.label
        if progress is not None:
            progress(done, len(samples), {"error": wrong / done})
    return Evaluation(tuple(s.label for s in samples), tuple(predictions), n_classes)


@dataclass(frozen=True)
class Step:
    """One training step: which sample, and what the trainer reported."""

    sample: Sample
    result: Any

    @property
    def loss(self) -> float:
        """Cross-entropy before the update, nats."""
        return float(self.result.loss / LOSS_ONE)

    @property
    def correct(self) -> bool:
        """Whether the sample was recognised before the update."""
        return bool(self.result.predicted == self.sample.label)


@dataclass(frozen=True)
class Operations:
    """Multiply-accumulates of the recurrent layers in training, the first layer's dx included in both.

    The kernels count what they execute. They do not compute the first layer's dx, which nobody reads; the
    paper counts it, so it is added here for the active columns: the MACs of the forward product of x.
    """

    dense: int
    executed: int

    @property
    def reduction(self) -> float:
        """Dense over executed."""
        return self.dense / max(self.executed, 1)


def count_operations(model: QuantModel, results: Sequence[Any]) -> Operations:
    """Dense and executed MACs of training steps; see `Operations`."""
    rows = [N_GATES[layer.cell] * layer.n_hidden for layer in model.layers]
    weights = sum(r * (layer.n_in + layer.n_hidden) for r, layer in zip(rows, model.layers, strict=True))
    dense = sum(3 * weights * r.n_steps for r in results)
    executed = sum(r.macs_forward + r.macs_backward + r.macs_gradient + rows[0] * r.active_x for r in results)
    return Operations(dense, executed)


@dataclass
class Running:
    """Loss and error over the last samples of a run, for a progress bar and for the report's curves."""

    window: int = 20
    losses: list[float] = field(default_factory=list)
    wrong: list[bool] = field(default_factory=list)

    def add(self, step: Step) -> dict[str, float]:
        """Take a step in; what to show beside the bar."""
        self.losses.append(step.loss)
        self.wrong.append(not step.correct)
        recent = slice(-self.window, None)
        return {"loss": float(np.mean(self.losses[recent])), "error": float(np.mean(self.wrong[recent]))}


def train(engine: Engine, samples: Sequence[Sample], progress: Progress | None = None) -> list[Step]:
    """One pass of batch-1 SGD over the samples, in their order."""
    steps: list[Step] = []
    running = Running()
    for done, sample in enumerate(samples, 1):
        engine.begin()
        engine.push(sample.frames, want_hidden=False)
        steps.append(Step(sample, engine.train(sample.label)))
        shown = running.add(steps[-1])
        if progress is not None:
            progress(done, len(samples), shown)
    return steps
