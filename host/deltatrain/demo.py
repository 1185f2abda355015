"""The main job from end to end: a pre-trained model meets a new speaker and learns the voice on the device."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Protocol

from deltatrain import datasets
from deltatrain.comparison import compare
from deltatrain.datasets import Dataset, items_named
from deltatrain.datasets.digits import HELD_OUT_VOICES
from deltatrain.errors import InputError
from deltatrain.fixed import FixedNetwork
from deltatrain.folders import make_folder
from deltatrain.model import FloatModel
from deltatrain.personal import CALIBRATION_ITEMS, KNOWN_TEST_ITEMS, personal, pretrained_on, pretraining_items
from deltatrain.pretrain import Epoch, FitConfig, fit
from deltatrain.pretrain import evaluate as evaluate_float
from deltatrain.quantize import quantize
from deltatrain.rates import Rates
from deltatrain.replay import rate_over, with_exemplars, with_replay
from deltatrain.samples import samples_of
from deltatrain.session import opened
from deltatrain.story import Story
from deltatrain.thresholds import Thresholds
from deltatrain.training import Progress, Settings, evaluate
from deltatrain_core import CoreNetwork

DEFAULT_THETA = 0.3
SHIPPED_MODEL = "digits-lstm64.safetensors"


class Reporter(Protocol):
    """Where the job says what it is doing; the command line's terminal is one."""

    def say(self, text: str) -> None: ...
    def bar(self, label: str) -> AbstractContextManager[Progress]: ...


@dataclass(frozen=True)
class DemoConfig:
    """What the user may choose; see `deltatrain demo --help`."""

    data: str = "digits"
    data_dir: Path | None = None
    holdout: str | None = None
    model: Path | None = None
    per_class: int = 5
    epochs: int = 1
    theta_x: Thresholds | None = None
    theta_h: Thresholds | None = None
    learning_rate: float | None = None
    clip: float | None = None
    beta: float = 0.0
    replay: int | None = None
    replay_rate: float | None = None
    cell: str | None = None
    n_layers: int | None = None
    n_hidden: int | None = None
    readout: str | None = None
    fit_epochs: int | None = None
    seed: int = 0
    target: str = "qemu:mps2-an386"
    out: Path = Path("build/demo")


def run(config: DemoConfig, reporter: Reporter) -> Story:
    """Do the main job; `config.out` receives the model, the sources and the firmware.

    Raises DeltatrainError for what a user can mend; a word that differs is not an error here but in the Story.
    """
    seconds: dict[str, float] = {}
    make_folder(config.out)

    @contextmanager
    def part(name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        seconds[name] = round(seconds.get(name, 0.0) + time.perf_counter() - start, 2)

    with part("data"):
        data = datasets.load(config.data, config.data_dir)
        speaker = config.holdout or (HELD_OUT_VOICES[0] if config.data == "digits" else data.speaker_names[0])
        split = personal(data, speaker, per_class=config.per_class, epochs=config.epochs, seed=config.seed)
        outputs = {"utterances": "words", "frames": "classes", "values": "values a frame"}[data.judged_by]
        reporter.say(
            f"Data set {data.name}: {len(data)} {items_named(data.judged_by)}, {len(data.class_names)} {outputs}, "
            f"{len(data.speaker_names)} speakers; {data.n_cut} longer than {data.config.max_frames} frames "
            "lost their end."
        )
    with part("pre-training"):
        float_model, pretrained_here = _float_model(config, data, speaker, reporter)
    with part("quantising"):
        calibration = pretraining_items(data, float_model, CALIBRATION_ITEMS)
        model, formats = quantize(float_model, [data.features[i] for i in calibration])
        model = with_exemplars(model, data, _replay_bytes(config), config.seed)
        settings = Settings.of(
            model,
            learning_rate=config.learning_rate,
            clip=config.clip,
            theta_x=config.theta_x,
            theta_h=config.theta_h,
            seed=config.seed,
            beta=config.beta,
            replay_rate=config.replay_rate,
        )
        model.save(config.out / "model.safetensors")
        known_items = pretraining_items(data, model, KNOWN_TEST_ITEMS)
        train, test, known = (samples_of(model, data, part) for part in (split.train, split.test, known_items))
        kept = () if model.replay is None else model.replay.names
        known_test = [sample for sample in known.items if sample.name not in kept]

    with opened(config.target, model, config.out, reporter.say) as session:
        device = session.device
        settings.apply(device)
        with part("evaluating"), reporter.bar(f"errors of {speaker} before") as progress:
            before = evaluate(device, test.items, model.n_outputs, progress)
        host, oracle = CoreNetwork(session.model), FixedNetwork(session.model)
        settings.apply(host)
        known_before = evaluate(host, known_test, model.n_outputs).error
        with part("training and comparing"), reporter.bar("training on the device") as progress:
            comparison = compare(
                {"device": device, "host C": host, "integer reference": oracle},
                model,
                with_replay(model, train.items, settings),
                settings,
                progress=progress,
            )
        with part("evaluating"), reporter.bar(f"errors of {speaker} after") as progress:
            after = evaluate(device, test.items, model.n_outputs, progress)
        known_after = evaluate(host, known_test, model.n_outputs).error
        size = session.size()
    if comparison.float_model is None:
        raise InputError("the comparison ran without its float reference")
    tested = data.select(split.test)
    return Story(
        data=data.name,
        speaker=speaker,
        target=config.target,
        board=session.board_title,
        model=model,
        formats=formats,
        settings=settings,
        per_class=config.per_class,
        epochs=config.epochs,
        replay_budget=config.replay,
        before=before,
        after=after,
        known_before=known_before,
        known_after=known_after,
        float_after=evaluate_float(
            comparison.float_model, tested.features, tested.labels, targets=tested.targets
        ).error,
        comparison=comparison,
        instructions=tuple(
            step.result.instructions for step in comparison.steps if step.result.instructions is not None
        ),
        size=size,
        n_cut=data.n_cut,
        n_saturated=train.saturated + test.saturated,
        rates=Rates.of(model, [step.result for step in comparison.steps], train, test),
        seconds=seconds,
        pretrained_here=pretrained_here,
    )


def shipped_model() -> FloatModel:
    """The model that comes with the package, pre-trained on the known voices of `digits`."""
    with resources.as_file(resources.files("deltatrain") / "models" / SHIPPED_MODEL) as path:
        return FloatModel.load(path)


def _replay_bytes(config: DemoConfig) -> int | None:
    """What the user says; else the default (None) where replay is asked for, or pays: over several passes."""
    if config.replay is not None:
        return config.replay
    return 0 if rate_over(config.epochs, config.replay_rate) == 0 else None


def _float_model(config: DemoConfig, data: Dataset, speaker: str, reporter: Reporter) -> tuple[FloatModel, bool]:
    """The model that meets the speaker: the user's, the shipped one where it fits, else one pre-trained now."""
    given = {theta for part in (config.theta_x, config.theta_h) if part is not None for theta in _values(part)}
    if config.model is not None:
        model = FloatModel.load(config.model)
        if speaker in (pretrained_on(model) or ()):
            raise InputError(f"{config.model} was pre-trained on {speaker}; choose a speaker it has not heard")
        if config.readout not in (None, model.readout):
            raise InputError(f"{config.model} has the readout {model.readout}; leave out --readout {config.readout}")
        return model, False
    wants_default = (
        config.cell in (None, FitConfig.cell)
        and config.n_layers in (None, FitConfig.n_layers)
        and config.n_hidden is None
        and config.fit_epochs is None
        and config.readout in (None, "last")
        and given <= {DEFAULT_THETA}
    )
    if config.data == "digits" and speaker in HELD_OUT_VOICES and wants_default:
        reporter.say("Taking the shipped model, pre-trained on the other voices.")
        return shipped_model(), False
    settings = FitConfig(seed=config.seed)
    settings = replace(
        settings,
        cell=config.cell or settings.cell,
        n_layers=config.n_layers or settings.n_layers,
        n_hidden=config.n_hidden or settings.n_hidden,
        epochs=config.fit_epochs or settings.epochs,
        theta_x=DEFAULT_THETA if config.theta_x is None else config.theta_x,
        theta_h=DEFAULT_THETA if config.theta_h is None else config.theta_h,
        readout=config.readout,
    )
    others = data.select([name != speaker and name not in HELD_OUT_VOICES for name in data.speakers])
    reporter.say(
        f"Pre-training on the {len(others.speaker_names)} other speakers ({len(others)} {items_named(data.judged_by)})."
    )
    with reporter.bar("pre-training") as progress:
        fitted = fit(others, settings, progress=epochs_shown(progress, settings.epochs))
    return fitted.model, True


def _values(theta: Thresholds) -> tuple[float, ...]:
    return theta if isinstance(theta, tuple) else (theta,)


def epochs_shown(progress: Progress, epochs: int) -> Callable[[Epoch], None]:
    """A callback for `fit` that moves a progress bar."""

    def show(epoch: Epoch) -> None:
        beside = {"loss": epoch.loss, "error": epoch.error, "occupancy": epoch.occupancy}
        progress(epoch.epoch, epochs, beside)

    return show
