"""What stored exemplars buy: errors of new and old speakers against their bytes, over speakers, seeds and orders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deltatrain import datasets
from deltatrain.datasets import Dataset, index_split, pretrain_split
from deltatrain.datasets.digits import HELD_OUT_VOICES, TEST_INDICES
from deltatrain.datasets.fsdd import OFFICIAL_TEST_INDICES
from deltatrain.exemplars import ENTRY_BYTES, VALUE_SHIFT, coarse, decode, encode
from deltatrain.fixed.rounding import draw
from deltatrain.model import FloatModel
from deltatrain.personal import CALIBRATION_ITEMS, personal, spread
from deltatrain.pretrain import FitConfig, fit
from deltatrain.quantize import quantize
from deltatrain.replay import balanced_order, due
from deltatrain.samples import samples_of
from deltatrain.shards import Outcome, Row, Shard, run_shards
from deltatrain.training import Progress, Sample, Settings, evaluate
from deltatrain_core import CoreNetwork

IntArray = NDArray[np.int64]

KIB = 1024
# Every value in 16 bits, every value in 8, and in 8 those alone that reached the threshold: what the device keeps.
FORMATS = ("int16", "int8", "events")
VALIDATION_FRACTION = 0.1


@dataclass(frozen=True)
class ReplayStudy:
    """What is tried.

    Attributes
    ----------
    budgets : tuple of int
        Of the store, KiB.
    rates : tuple of float
        Exemplars trained after each new utterance; the formats that the device has not are tried at `format_rate`.
    passes : tuple of int
        Over the new speaker's utterances.
    per_class : int
        New utterances of each class.
    """

    data: str = "fsdd"
    data_dir: Path | None = None
    budgets: tuple[int, ...] = (4, 8, 16, 32, 64)
    rates: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0)
    passes: tuple[int, ...] = (1, 4)
    format_rate: float = 1.0
    per_class: int = 5
    fit_epochs: int = FitConfig.epochs


@dataclass(frozen=True)
class Meeting:
    """One speaker met once by one pre-trained model; `order` draws utterances, exemplars and all that is random."""

    speaker: str
    seed: int
    order: int


def split(data: Dataset, speaker: str) -> tuple[IntArray, IntArray]:
    """Recordings of the old speakers: those that pre-train a model (and may be kept), and those that test it."""
    if data.name == "digits":
        return index_split(data, TEST_INDICES, {speaker, *HELD_OUT_VOICES})
    if data.name == "fsdd":
        return index_split(data, OFFICIAL_TEST_INDICES, {speaker})
    return pretrain_split(data, {speaker}, VALIDATION_FRACTION, 0)


def pretrained(study: ReplayStudy, data: Dataset, meeting: Meeting) -> Shard:
    """The part of the study that pre-trains the model of a meeting; all held-out voices of digits meet the same one."""
    who = "known" if data.name == "digits" and meeting.speaker in HELD_OUT_VOICES else meeting.speaker
    known, _ = split(data, meeting.speaker)
    config = FitConfig(seed=meeting.seed, epochs=study.fit_epochs)
    settings = {"data": study.data, "items": len(known), "fit": asdict(config)}
    return Shard(f"model-{who}-{meeting.seed}", settings, pretrain, (data, known, config))


def pretrain(data: Dataset, items: IntArray, config: FitConfig) -> Outcome:
    """A model of some recordings of a data set."""
    model = fit(data.select(items), config).model
    return Outcome({"error": model.provenance["error"]}, model)


def coded(sample: Sample, form: str, theta_x: int) -> tuple[Sample, int]:
    """A sample as decoded from a format, and its bytes there."""
    if form == "int16":
        return sample, 2 * sample.frames.size + ENTRY_BYTES
    if form == "int8":
        frames = (coarse(sample.frames) << VALUE_SHIFT).astype(np.int16)
        return replace(sample, frames=frames), sample.frames.size + ENTRY_BYTES
    events = encode(sample.frames, theta_x)
    n_steps, n_in = sample.frames.shape
    frames = decode(np.frombuffer(events, np.uint8), n_steps, n_in)
    return replace(sample, frames=frames), len(events) + ENTRY_BYTES


def stored(samples: Sequence[Sample], form: str, n_bytes: int, theta_x: int) -> tuple[list[Sample], int]:
    """As many samples, in their order, as a budget holds in a format: as decoded, and the bytes that they take."""
    kept: list[Sample] = []
    used = 0
    for sample in samples:
        decoded, size = coded(sample, form, theta_x)
        if used + size > n_bytes:
            break
        used += size
        kept.append(decoded)
    return kept, used


def meet(meeting: Meeting, study: ReplayStudy, data: Dataset, float_model: FloatModel) -> list[Row]:
    """A row for each number of passes without replay, 0 among them, and for each budget, format and rate with it."""
    known, known_test = split(data, meeting.speaker)
    model, _ = quantize(float_model, [data.features[i] for i in spread(known, CALIBRATION_ITEMS)])
    seed = 1000 * meeting.seed + meeting.order
    core, settings = CoreNetwork(model), Settings.of(model, seed=seed)
    old_test = samples_of(model, data, known_test).items
    candidates = samples_of(model, data, balanced_order(data, known, seed)).items
    stores = {
        (form, budget): stored(candidates, form, budget * KIB, model.layers[0].theta_x)
        for form in FORMATS
        for budget in study.budgets
    }
    tried = [("none", 0, 0.0)] + [
        (form, budget, rate)
        for form in FORMATS
        for budget in study.budgets
        for rate in (study.rates if form == FORMATS[-1] else (study.format_rate,))
    ]
    rows: list[Row] = []
    for passes in (0, *study.passes):
        items = personal(data, meeting.speaker, per_class=study.per_class, epochs=max(passes, 1), seed=seed)
        new = samples_of(model, data, items.train).items if passes else ()
        new_test = samples_of(model, data, items.test).items
        for form, budget, rate in tried if passes else tried[:1]:
            exemplars, used = stores.get((form, budget), ([], 0))
            train_with_replay(core, settings, new, exemplars, rate)
            rows.append(
                {
                    "speaker": meeting.speaker,
                    "seed": meeting.seed,
                    "order": meeting.order,
                    "passes": passes,
                    "format": form,
                    "budget_kib": budget,
                    "rate": rate,
                    "exemplars": len(exemplars),
                    "bytes": used,
                    "error": evaluate(core, new_test, model.n_outputs).error,
                    "known_error": evaluate(core, old_test, model.n_outputs).error,
                }
            )
    return rows


def train_with_replay(
    core: CoreNetwork, settings: Settings, new: Sequence[Sample], exemplars: Sequence[Sample], rate: float
) -> None:
    """From the model's weights: each new sample, then exemplars as they are due."""
    core.reset_weights()
    settings.apply(core)
    step = 0
    for done, sample in enumerate(new, 1):
        turn = [sample]
        for _ in range(due(done, rate) if exemplars else 0):
            turn.append(exemplars[draw(settings.seed, step + len(turn), len(exemplars))])
        for one in turn:
            one.train_whole(core)
        step += len(turn)


def meeting_part(meeting: Meeting, study: ReplayStudy, data: Dataset, model: FloatModel) -> Outcome:
    """`meet` as a part of a study."""
    return Outcome({"rows": meet(meeting, study, data, model)})


def run_study(
    study: ReplayStudy,
    speakers: Sequence[str],
    seeds: int,
    orders: int,
    folder: Path,
    *,
    jobs: int = 1,
    progress: Progress | None = None,
) -> list[Row]:
    """The rows of every speaker met by `seeds` models in `orders` orders each; finished parts are kept in `folder`."""
    data = datasets.load(study.data, study.data_dir)
    meetings = [Meeting(name, seed, order) for order in range(orders) for seed in range(seeds) for name in speakers]
    fits = {part.name: part for part in (pretrained(study, data, meeting) for meeting in meetings)}
    run_shards(list(fits.values()), folder, jobs=jobs, shared=(data,), progress=progress)
    parts = []
    for meeting in meetings:
        model = FloatModel.load(pretrained(study, data, meeting).model_path(folder))
        settings = {"study": {**asdict(study), "data_dir": None}, "meeting": asdict(meeting)}
        name = f"{meeting.speaker}-{meeting.seed}-{meeting.order}"
        parts.append(Shard(name, settings, meeting_part, (meeting, study, data, model)))
    outcomes = run_shards(parts, folder, jobs=jobs, shared=(data,), progress=progress)
    return [row for outcome in outcomes for row in outcome["rows"]]
