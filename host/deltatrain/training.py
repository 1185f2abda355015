"""Evaluating and training on labelled samples: on a device, in the C core, or in the integer reference.

Everything here is the same for all of them, so that what differs can only be the computation itself.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, overload

import numpy as np
from numpy.typing import NDArray

from deltatrain.errors import InputError, SampleRefused
from deltatrain.model import N_GATES
from deltatrain.quant_model import QuantModel
from deltatrain.quantize import H_FRAC_BITS, quantize_threshold
from deltatrain.scale import Scale
from deltatrain.thresholds import Thresholds, per_layer

LOSS_ONE = 2**16
NO_PREDICTION = -1  # of a sample that was refused
DEFAULT_REPLAY_RATE = 0.5
MAX_REPLAY_RATE = 16
ZERO = Scale(0, 0)

Progress = Callable[[int, int, dict[str, Any]], None]
"""Called with (items done, items in all, what to show beside the bar: the most important first)."""


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
    @property
    def n_targets(self) -> int: ...
    @property
    def n_wrong(self) -> int: ...


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
    def push(
        self, frames: NDArray[np.int16], want_hidden: Literal[True] = True, targets: NDArray[np.int32] | None = None
    ) -> NDArray[np.int16]: ...
    @overload
    def push(
        self, frames: NDArray[np.int16], want_hidden: Literal[False], targets: NDArray[np.int32] | None = None
    ) -> None: ...
    def infer(self) -> Any: ...
    def train(self, label: int) -> Any: ...
    def learn(self) -> Any: ...
    def replay(self) -> Any: ...
    def tensor(self, name: str) -> NDArray[Any]: ...
    def set_tensor(self, name: str, values: NDArray[Any]) -> None: ...
    def reset_weights(self) -> None: ...


@dataclass(frozen=True)
class Sample:
    """One utterance as the device takes it.

    Attributes
    ----------
    frames : ndarray, shape (T, n_in), int16, in the input format
    label : int
        Class of the utterance; 0 where the data have targets of their own.
    name : str
    targets : ndarray, int32, or None
        For a readout at every frame: classes (T,), NO_CLASS for none; or values (T, K), Q16.
    judged_by : {"utterances", "frames", "values"}
        What an error is counted by: the label at the last frame, or the data's own targets of frames.
    replayed : bool
        Whether the engine takes it from the model's exemplars: then it is the one whose turn it is at that step.
    saturated : int
        Feature values that the input format clamped.
    """

    frames: NDArray[np.int16]
    label: int
    name: str
    targets: NDArray[np.int32] | None = None
    judged_by: str = "utterances"
    replayed: bool = False
    saturated: int = 0

    def error(self, result: Result) -> float:
        """0 or 1, the fraction of wrong frames, or the mean squared error: what `pooled_error` takes."""
        if self.judged_by == "utterances":
            return float(result.predicted != self.label)
        if self.judged_by == "frames":
            return result.n_wrong / max(result.n_targets, 1)
        return result.loss / LOSS_ONE

    def train(self, engine: Engine) -> Any:
        """Let an engine that was given the frames and targets end the sample by a training step."""
        return engine.train(self.label) if self.targets is None else engine.learn()

    def train_whole(self, engine: Engine) -> Any:
        """Let an engine take the sample and train on it; its hidden states stay there."""
        if self.replayed:
            return engine.replay()
        engine.begin()
        engine.push(self.frames, want_hidden=False, targets=self.targets)
        return self.train(engine)


def pooled_error(judged_by: str, errors: Sequence[float]) -> float:
    """The error over samples: a fraction; of values the root of the mean square, in their standard deviations."""
    mean = float(np.mean(errors))
    return mean**0.5 if judged_by == "values" else mean


@dataclass(frozen=True)
class Settings:
    """What training on the device is told at run time, in the device's own formats; a threshold for each layer.

    `replay_rate` is how many of the model's exemplars are trained for each new sample; see `replay.with_replay`.
    """

    learning_rate: Scale
    clip: Scale
    theta_x: tuple[int, ...]
    theta_h: tuple[int, ...]
    seed: int
    beta: Scale = ZERO
    replay_rate: float = 0.0

    @staticmethod
    def of(
        model: QuantModel,
        *,
        learning_rate: float | None = None,
        clip: float | None = None,
        theta_x: Thresholds | None = None,
        theta_h: Thresholds | None = None,
        seed: int = 0,
        beta: float = 0.0,
        replay_rate: float | None = None,
    ) -> Settings:
        """The model's defaults, with what the user says instead; InputError when a value is out of range.

        Thresholds are one for all layers or one for each, and go to the format of each one's inputs. `beta` weighs the
        regulariser β Σ|Δh|.
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
            theta_x=(
                tuple(layer.theta_x for layer in model.layers)
                if theta_x is None
                else _thresholds(theta_x, [layer.x_frac_bits for layer in model.layers], "theta_x")
            ),
            theta_h=(
                tuple(layer.theta_h for layer in model.layers)
                if theta_h is None
                else _thresholds(theta_h, [H_FRAC_BITS] * len(model.layers), "theta_h")
            ),
            seed=seed,
            beta=Scale.from_float(beta, "beta"),
            replay_rate=_replay_rate(model, replay_rate),
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


def _thresholds(theta: Thresholds, frac_bits: Sequence[int], name: str) -> tuple[int, ...]:
    """One for each layer, in its format."""
    values = per_layer(theta, len(frac_bits), name)
    return tuple(quantize_threshold(value, bits, name) for value, bits in zip(values, frac_bits, strict=True))


def check_replay_rate(rate: float) -> float:
    """The rate, or InputError when it is out of range."""
    if not 0 <= rate <= MAX_REPLAY_RATE:
        raise InputError(f"the replay rate is {rate}; it must lie between 0 and {MAX_REPLAY_RATE}")
    return rate


def _replay_rate(model: QuantModel, rate: float | None) -> float:
    """The user's or the default; InputError when it asks for exemplars that the model does not keep."""
    if rate is None:
        return 0.0 if model.replay is None else DEFAULT_REPLAY_RATE
    if check_replay_rate(rate) and model.replay is None:
        raise InputError(
            f"the replay rate is {rate}, but the model keeps no exemplars; give `quantize` bytes for them by --replay"
        )
    return rate


@dataclass(frozen=True)
class Evaluation:
    """Predictions for labelled samples, or how well targets of frames were met.

    Attributes
    ----------
    labels, predictions : tuple of int
        Class of each sample, and the largest output at its last frame.
    n_classes : int
    judged_by : {"utterances", "frames", "values"}
        What `error` is counted by.
    refused : int
        Samples that the engine refused, for their events exceeded its model's budget: not recognised, their prediction
        is NO_PREDICTION, and without part in the errors of frames and values.
    frame_error : float or None
        Fraction of wrong frames, of a readout of classes at every frame.
    mean_squared_error : float or None
        Over frames and outputs, of a regression, in the units that it was trained in.
    """

    labels: tuple[int, ...]
    predictions: tuple[int, ...]
    n_classes: int
    judged_by: str = "utterances"
    refused: int = 0
    frame_error: float | None = None
    mean_squared_error: float | None = None

    @property
    def error(self) -> float:
        """Fraction of samples not recognised, or of wrong frames, or the normalised root mean squared error."""
        if self.judged_by == "frames" and self.frame_error is not None:
            return self.frame_error
        if self.judged_by == "values" and self.mean_squared_error is not None:
            return pooled_error("values", [self.mean_squared_error])
        wrong = sum(a != b for a, b in zip(self.labels, self.predictions, strict=True))
        return wrong / len(self.labels)

    def to_dict(self) -> dict[str, float]:
        """`error`, and the others where the readout has them: JSON-ready."""
        others = {"frame_error": self.frame_error, "mean_squared_error": self.mean_squared_error}
        return {"error": self.error} | {name: value for name, value in others.items() if value is not None}

    def confusion(self) -> NDArray[np.int64]:
        """(n_classes, n_classes): row is the true class, column the predicted one."""
        matrix = np.zeros((self.n_classes, self.n_classes), np.int64)
        for label, prediction in zip(self.labels, self.predictions, strict=True):
            if prediction != NO_PREDICTION:
                matrix[label, prediction] += 1
        return matrix


def evaluate(engine: Engine, samples: Sequence[Sample], n_classes: int, progress: Progress | None = None) -> Evaluation:
    """Judge each sample; the weights stay as they are."""
    if not samples:
        raise InputError("there are no samples to evaluate on; choose another speaker or fewer for training")
    judged_by, target_axes = "utterances", 0
    labels, predictions, n_targets, n_wrong, losses = [], [], [], [], []
    error_sum = weight_sum = 0.0
    for done, sample in enumerate(samples, 1):
        judged_by, target_axes = sample.judged_by, 0 if sample.targets is None else sample.targets.ndim
        labels.append(sample.label)
        engine.begin()
        try:
            engine.push(sample.frames, want_hidden=False, targets=sample.targets)
        except SampleRefused:
            predictions.append(NO_PREDICTION)
            continue
        result = engine.infer()
        predictions.append(int(result.predicted))
        n_targets.append(int(result.n_targets))
        n_wrong.append(int(result.n_wrong))
        losses.append(result.loss / LOSS_ONE)
        weight = 1 if judged_by == "utterances" else n_targets[-1]
        error_sum, weight_sum = error_sum + weight * sample.error(result), weight_sum + weight
        if progress is not None and weight_sum:
            progress(done, len(samples), {"error": pooled_error(judged_by, [error_sum / weight_sum])})
    refused = predictions.count(NO_PREDICTION)
    if refused == len(samples):
        raise InputError(
            f"every sample was refused ({refused}), for its events exceed the model's budget; "
            "export with a larger --event-budget"
        )
    return Evaluation(
        tuple(labels),
        tuple(predictions),
        n_classes,
        judged_by,
        refused=refused,
        frame_error=sum(n_wrong) / sum(n_targets) if target_axes == 1 else None,
        mean_squared_error=float(np.average(losses, weights=n_targets)) if target_axes == 2 else None,
    )


@dataclass(frozen=True)
class Step:
    """One training step: which sample, and what the trainer reported."""

    sample: Sample
    result: Any

    @property
    def loss(self) -> float:
        """Before the update: cross-entropy in nats, or mean squared error."""
        return float(self.result.loss / LOSS_ONE)

    @property
    def error(self) -> float:
        """Before the update; see `Sample.error`."""
        return self.sample.error(self.result)

    @property
    def correct(self) -> bool:
        """Whether the sample was recognised before the update, or every one of its frames."""
        return self.error == 0


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
    judged_by: str = "utterances"
    _recent: deque[tuple[float, float]] = field(init=False)

    def __post_init__(self) -> None:
        self._recent = deque(maxlen=self.window)

    def add(self, step: Step) -> dict[str, Any]:
        """Take a step in, unless it replays what is no news; what to show beside the bar."""
        if not step.sample.replayed:
            self.judged_by = step.sample.judged_by
            self.put(step.loss, step.error)
        return self.shown()

    def put(self, loss: float, error: float) -> None:
        """Take loss and error of a new sample in."""
        self._recent.append((loss, error))

    def shown(self) -> dict[str, Any]:
        """Mean loss and error over the last samples; nothing before the first."""
        if not self._recent:
            return {}
        losses, errors = zip(*self._recent, strict=True)
        return {"loss": float(np.mean(losses)), "error": pooled_error(self.judged_by, errors)}


Taken = Callable[[Sample, int], Sample]
"""A sample as an engine takes it that has trained this many steps: which exemplar comes when depends on the step."""


@dataclass(frozen=True)
class Trained:
    """What a pass left: its steps, and the samples that were refused, for their events exceeded the model's budget."""

    steps: tuple[Step, ...]
    refused: tuple[Sample, ...]

    def __iter__(self) -> Iterator[Step]:
        return iter(self.steps)

    def __len__(self) -> int:
        return len(self.steps)


def train(
    engine: Engine, samples: Sequence[Sample], progress: Progress | None = None, taken: Taken | None = None
) -> Trained:
    """One pass of batch-1 SGD over the samples, in their order; exemplars among them come from the engine's store.

    A sample that the engine refuses takes no step; `taken` tells which exemplars then come instead of those among the
    samples.
    """
    steps: list[Step] = []
    refused: list[Sample] = []
    running = Running()
    for done, planned in enumerate(samples, 1):
        sample = planned if taken is None else taken(planned, len(steps))
        try:
            steps.append(Step(sample, sample.train_whole(engine)))
        except SampleRefused:
            refused.append(sample)
        else:
            running.add(steps[-1])
        if progress is not None:
            progress(done, len(samples), running.shown() | ({"refused": len(refused)} if refused else {}))
    return Trained(tuple(steps), tuple(refused))
