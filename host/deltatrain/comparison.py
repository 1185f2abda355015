"""The proof of equality: the same samples on a device and on host references, every word after every step.

The words of a step are the hidden state of each frame (of a stored exemplar the last one's), the logits, what the
trainer reports (loss, counts, exponents), and after the update every weight and bias, read back whole.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deltatrain.errors import SampleRefused
from deltatrain.model import FloatModel
from deltatrain.quant_model import QuantModel
from deltatrain.quantize import H_FRAC_BITS, TARGET_FRAC_BITS, dequantize
from deltatrain.reference import SgdTrainer
from deltatrain.trained import put_weights, state_of
from deltatrain.training import Engine, Progress, Running, Sample, Settings, Step, Taken
from deltatrain_core import StepResult

Words = NDArray[Any]
RESULT_FIELDS = tuple(field.name for field in fields(StepResult))


@dataclass(frozen=True)
class Difference:
    """The first word that differs: where it lies, and its value on each engine."""

    step: int
    sample: str
    tensor: str
    index: tuple[int, ...]
    values: dict[str, int]

    def __str__(self) -> str:
        values = ", ".join(f"{name} {value}" for name, value in self.values.items())
        return f"step {self.step} ({self.sample}), {self.tensor}{list(self.index)}: {values}"

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self) | {"index": list(self.index)}


@dataclass(frozen=True)
class Comparison:
    """The outcome of a run side by side.

    Attributes
    ----------
    steps : tuple of Step
        As the first engine reported them; empty where `compare` was told to hand them on instead.
    words_compared, words_different : int
        Words of the first engine; one differs when any other engine has another value there.
    first_difference : Difference or None
    float_error : float or None
        Root mean square difference of the hidden states from the float64 reference that trains on the same
        samples with the same clip; 1 is full scale.
    float_weight_error : float or None
        Distance of the trained weights from the float reference's, over the distance that these moved.
    float_model : FloatModel or None
        The float reference after the run.
    refused : int
        Samples that the first engine refused, for their events exceeded the model's budget. Where one engine refuses
        and another does not, that is a word that differs.
    """

    steps: tuple[Step, ...]
    words_compared: int
    words_different: int
    first_difference: Difference | None
    float_error: float | None = None
    float_weight_error: float | None = None
    float_model: FloatModel | None = None
    refused: int = 0

    @property
    def new_steps(self) -> tuple[Step, ...]:
        """Those on new samples, not on exemplars."""
        return tuple(step for step in self.steps if not step.sample.replayed)


class _Tally:
    """Compares words and keeps the first difference."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.compared = 0
        self.different = 0
        self.first: Difference | None = None

    def add(self, step: int, sample: str, tensor: str, words: Sequence[Words], shape: tuple[int, ...]) -> None:
        self.compared += words[0].size
        first, *others = (w.ravel() for w in words)
        unequal = np.zeros(first.size, bool)
        for other in others:
            unequal |= first != other
        if not unequal.any():
            return
        self.different += int(unequal.sum())
        if self.first is None:
            flat = int(np.flatnonzero(unequal)[0])
            values = {name: int(w.ravel()[flat]) for name, w in zip(self.names, words, strict=True)}
            index = tuple(int(i) for i in np.unravel_index(flat, shape))
            self.first = Difference(step, sample, tensor, index, values)


class FloatShadow:
    """The float64 reference, training on the same samples in the same order with the same clip."""

    def __init__(self, model: QuantModel, settings: Settings) -> None:
        start = dequantize(model)
        thresholds = zip(start.layers, model.layers, settings.theta_x, settings.theta_h, strict=True)
        layers = tuple(
            replace(layer, theta_x=theta_x / 2**integers.x_frac_bits, theta_h=theta_h / 2**H_FRAC_BITS)
            for layer, integers, theta_x, theta_h in thresholds
        )
        self._start = replace(start, layers=layers)
        self._x_one = 2.0 ** model.layers[0].x_frac_bits
        self._network = self._start.network(float(settings.beta))
        self._trainer = SgdTrainer(self._network, float(settings.learning_rate), float(settings.clip))
        self._squares, self._count = 0.0, 0

    def step(self, sample: Sample, hidden: NDArray[np.int16]) -> None:
        """Train on a sample, and compare the hidden states before the update: (T, H), or the last few of them."""
        x = sample.frames / self._x_one
        _, trace = self._network.forward(x)
        self._squares += float(np.sum((trace.h[-len(hidden) :] - hidden / 2.0**H_FRAC_BITS) ** 2))
        self._count += hidden.size
        self._trainer.step(x, self._target(sample))

    def _target(self, sample: Sample) -> int | NDArray[Any]:
        """As the reference's loss takes it."""
        if sample.targets is None:
            return sample.label
        return sample.targets / 2.0**TARGET_FRAC_BITS if sample.targets.ndim == 2 else sample.targets

    @property
    def hidden_error(self) -> float:
        """Root mean square difference of the hidden states so far."""
        return float(np.sqrt(self._squares / max(self._count, 1)))

    def model(self) -> FloatModel:
        """The float model as it is now."""
        return self._start.with_network(self._network)

    def weight_error(self, trained: FloatModel) -> float:
        """‖trained − float‖ / ‖float − start‖ over all parameters."""

        def distance(a: FloatModel, b: FloatModel) -> float:
            other = b.tensors()
            return float(np.sqrt(sum(float(np.sum((t - other[n]) ** 2)) for n, t in a.tensors().items())))

        now = self.model()
        moved = distance(now, self._start)
        return distance(trained, now) / moved if moved else 0.0


def _train(engine: Engine, sample: Sample, top_hidden: str) -> tuple[NDArray[np.int16], Any] | None:
    """Hidden states (T, H) and outcome of a step on a sample; None where the engine refuses it."""
    try:
        if sample.replayed:  # its frames do not pass here, so only the last hidden state is known
            result = engine.replay()
            return engine.tensor(top_hidden).reshape(1, -1), result
        engine.begin()
        hidden = engine.push(sample.frames, targets=sample.targets)
        return hidden, sample.train(engine)
    except SampleRefused:
        return None


def compare(
    engines: Mapping[str, Engine],
    model: QuantModel,
    samples: Sequence[Sample],
    settings: Settings,
    *,
    with_float: bool = True,
    after_step: Callable[[int], None] | None = None,
    on_step: Callable[[Step], None] | None = None,
    progress: Progress | None = None,
    taken: Taken | None = None,
) -> Comparison:
    """Train all engines on the same samples from the model's weights and compare every word after every step.

    Parameters
    ----------
    engines : mapping of name to Engine
        The first is under test; the others are what it must equal.
    after_step : callable, optional
        Called with the number of the step just trained, before its weights are read: where a test corrupts
        a word.
    on_step : callable, optional
        Given each step as the first engine reported it: then none is kept, and with samples that are made when they are
        asked for, a run of any length takes the same memory.
    taken : callable, optional
        As of `training.train`: which exemplar comes in place of one among the samples where some were refused.
    """
    for engine in engines.values():
        engine.reset_weights()
        if state_of(model) is not None:  # firmware goes back to its own weights, not to those of a pulled model
            put_weights(engine, model)
        settings.apply(engine)
    shadow = FloatShadow(model, settings) if with_float else None
    tally = _Tally(list(engines))
    shapes = {name: tensor.shape for name, tensor in model.tensors().items()}
    top_hidden = f"layer{len(model.layers) - 1}.hidden"
    steps: list[Step] = []
    keep = steps.append if on_step is None else on_step
    n_trained = refused = 0
    running = Running()

    for number, planned in enumerate(samples):
        sample = planned if taken is None else taken(planned, n_trained)
        outcomes = [_train(engine, sample, top_hidden) for engine in engines.values()]
        whole = [outcome for outcome in outcomes if outcome is not None]
        if len(whole) < len(outcomes):
            refusals = [np.array([outcome is None]) for outcome in outcomes]
            tally.add(number, sample.name, "refused", refusals, (1,))
            refused += outcomes[0] is None
            if progress is not None:
                progress(
                    number + 1, len(samples), {"different": tally.different, **running.shown(), "refused": refused}
                )
            continue
        hidden, results = [states for states, _ in whole], [result for _, result in whole]
        if after_step is not None:
            after_step(number)

        tally.add(number, sample.name, "hidden", hidden, hidden[0].shape)
        logits = [engine.tensor("logits") for engine in engines.values()]
        tally.add(number, sample.name, "logits", logits, logits[0].shape)
        for name in RESULT_FIELDS:
            words = [np.array([getattr(result, name)]) for result in results]
            tally.add(number, sample.name, name, words, (1,))
        for name, shape in shapes.items():
            tally.add(number, sample.name, name, [engine.tensor(name) for engine in engines.values()], shape)

        if shadow is not None:
            shadow.step(sample, hidden[0])
        step = Step(sample, results[0])
        keep(step)
        n_trained += 1
        if progress is not None:
            progress(number + 1, len(samples), {"different": tally.different, **running.add(step)})

    outcome = Comparison(tuple(steps), tally.compared, tally.different, tally.first, refused=refused)
    if shadow is None:
        return outcome
    first = next(iter(engines.values()))
    trained = dequantize(model.with_tensors({n: first.tensor(n).reshape(s) for n, s in shapes.items()}))
    return replace(
        outcome,
        float_error=shadow.hidden_error,
        float_weight_error=shadow.weight_error(trained),
        float_model=shadow.model(),
    )
