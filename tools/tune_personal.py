"""Choose learning rate and clip of personalisation without looking at the speaker who will be held out.

    python tools/tune_personal.py --data fsdd --data-dir DIR

Nested: for every pair of speakers a model is pre-trained on all the others, then personalised to each of the two
with every learning rate and clip of the grid (float, batch 1, one pass). A speaker `outer` is judged by the runs on
each `inner` speaker with the model that has seen neither, so nothing of `outer` enters into the choice made for
`outer`. The table gives mean error before and after, and the ratio each outer speaker's choice is made by. Models
are kept in `--keep` (if given), so that a stopped run goes on.

    python tools/tune_personal.py --data fsdd --data-dir DIR --confirm

is for after the choice: each speaker in turn is held out, and met with the default learning rate and clip.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import sys
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import numpy.typing as npt

from deltatrain.datasets import Dataset, load, personal_split
from deltatrain.errors import DeltatrainError
from deltatrain.features import standardise
from deltatrain.model import FloatModel
from deltatrain.pretrain import Augmentation, FitConfig, evaluate, fit
from deltatrain.reference import DEFAULT_CLIP, DEFAULT_LEARNING_RATE, OperationCount, SgdTrainer

# Step lengths lr·C, each with a clip that acts seldom, often and nearly always.
GRID = [(length / clip, clip) for length in (0.16, 0.32, 0.48, 0.64) for clip in (2.0, 1.0, 0.5)]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Personalisation to `inner` with a model that saw neither `outer` nor `inner`; one entry a grid point."""

    outer: str
    inner: str
    before: float
    after: npt.NDArray[np.float64]
    reduction: npt.NDArray[np.float64]


def pretrained(data: Dataset, held_out: tuple[str, ...], config: FitConfig, keep: Path | None) -> FloatModel:
    """A model of all speakers but the held-out ones, from `keep` if it is there."""
    settings = joblib.hash((data.name, dataclasses.asdict(config)))
    path = keep and keep / f"{'-'.join(held_out)}-{settings}.safetensors"
    if path and path.exists():
        return FloatModel.load(path)
    model = fit(data.select([name not in held_out for name in data.speakers]), config).model
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        model.save(path)
    return model


def personalise(
    model: FloatModel, data: Dataset, items: npt.NDArray[np.int64], learning_rate: float, clip: float
) -> tuple[FloatModel, float]:
    """The model after one pass of batch-1 SGD over the items, and the op reduction of these steps."""
    network = model.network()
    trainer = SgdTrainer(network, learning_rate, clip)
    operations = OperationCount()
    for item in items:
        features = standardise(data.features[item], model.features)
        operations += trainer.step(features, int(data.labels[item])).operations
    return model.with_network(network), operations.reduction


def error(model: FloatModel, data: Dataset, items: npt.NDArray[np.int64]) -> float:
    """Share of the items that the model gets wrong."""
    chosen = data.select(items)
    return evaluate(model, chosen.features, chosen.labels).error


def run_pair(
    data: Dataset, pair: tuple[str, str], config: FitConfig, per_class: int, keep: Path | None
) -> list[Outcome]:
    """Both personalisations of a pair's model."""
    model = pretrained(data, pair, config, keep)
    outcomes = []
    for outer, inner in (pair, pair[::-1]):
        train, test = personal_split(data, inner, per_class, config.seed)
        runs = [personalise(model, data, train, *point) for point in GRID]
        outcomes.append(
            Outcome(
                outer=outer,
                inner=inner,
                before=error(model, data, test),
                after=np.array([error(trained, data, test) for trained, _ in runs]),
                reduction=np.array([reduction for _, reduction in runs]),
            )
        )
    return outcomes


@dataclasses.dataclass(frozen=True)
class Confirmation:
    """One held-out speaker met with the defaults."""

    speaker: str
    seed: int
    before: float
    after: float
    reduction: float


def confirm(data: Dataset, speaker: str, config: FitConfig, per_class: int, keep: Path | None) -> Confirmation:
    """Pre-train without a speaker, personalise with the defaults, test on the speaker's other recordings."""
    model = pretrained(data, (speaker,), config, keep)
    train, test = personal_split(data, speaker, per_class, config.seed)
    trained, reduction = personalise(model, data, train, DEFAULT_LEARNING_RATE, DEFAULT_CLIP)
    return Confirmation(speaker, config.seed, error(model, data, test), error(trained, data, test), reduction)


def report_confirmation(runs: list[Confirmation]) -> str:
    """A row for each speaker, mean over the seeds, and the mean of all."""
    lines = [
        f"learning rate {DEFAULT_LEARNING_RATE:g}, clip {DEFAULT_CLIP:g}",
        f"{'speaker':12} {'before':>7} {'after':>7} {'ratio':>6} {'ops':>6}   after, by seed",
    ]
    for name in [*sorted({run.speaker for run in runs}), "mean"]:
        own = [run for run in runs if name in ("mean", run.speaker)]
        before, after = (float(np.mean([getattr(run, key) for run in own])) for key in ("before", "after"))
        reduction = float(np.mean([run.reduction for run in own]))
        lines.append(
            f"{name:12} {before:7.4f} {after:7.4f} {after / before:6.3f} {reduction:6.2f}   "
            + ("" if name == "mean" else " ".join(f"{run.after:.4f}" for run in own))
        )
    return "\n".join(lines)


def report(outcomes: list[Outcome]) -> str:
    """The table: a row for each grid point, and each outer speaker's choice."""
    speakers = sorted({outcome.outer for outcome in outcomes})
    before = np.array([outcome.before for outcome in outcomes])
    after = np.array([outcome.after for outcome in outcomes])
    reduction = np.array([outcome.reduction for outcome in outcomes])
    of = {name: np.array([outcome.outer == name for outcome in outcomes]) for name in speakers}
    ratios = {name: after[of[name]].mean(axis=0) / before[of[name]].mean() for name in speakers}
    lines = [
        f"{len(outcomes)} personalisations, mean error before {before.mean():.4f}",
        f"{'lr':>6} {'clip':>5} {'after':>7} {'ratio':>6} {'ops':>6}   ratio with this speaker left out of the choice",
        f"{'':34} " + " ".join(f"{name[:9]:>9}" for name in speakers),
    ]
    for index, (rate, clip) in enumerate(GRID):
        mean = after[:, index].mean()
        lines.append(
            f"{rate:6.2f} {clip:5.1f} {mean:7.4f} {mean / before.mean():6.3f} {reduction[:, index].mean():6.2f}   "
            + " ".join(f"{ratios[name][index]:9.3f}" for name in speakers)
        )
    for name in speakers:
        best = int(ratios[name].argmin())
        rate, clip = GRID[best]
        lines.append(f"choice for {name}: lr {rate:g}, clip {clip:g} ({ratios[name][best]:.3f})")
    return "\n".join(lines)


def in_parallel(tasks: list[Any], jobs: int) -> list[Any]:
    """What the tasks return, in order, while counting on standard error."""
    results = []
    for result in joblib.Parallel(jobs, return_as="generator")(tasks):
        results.append(result)
        print(f"\r{len(results)}/{len(tasks)} models", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return results


def main() -> None:
    """Run the nested choice and print its table."""
    parser = argparse.ArgumentParser(description="Choose learning rate and clip of personalisation, nested.")
    parser.add_argument("--data", default="fsdd", help="data set with at least three speakers")
    parser.add_argument("--data-dir", type=Path, help="folder that holds the data sets")
    parser.add_argument("--seeds", type=int, default=3, help="seeds 0 to N - 1")
    parser.add_argument("--per-class", type=int, default=5, help="utterances of each class to train on")
    parser.add_argument("--epochs", type=int, default=FitConfig.epochs, help="of pre-training")
    parser.add_argument("--plain", action="store_true", help="pre-train without augmentation")
    parser.add_argument("--confirm", action="store_true", help="hold each speaker out, with the defaults")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--keep", type=Path, help="folder for the pre-trained models")
    given = parser.parse_args()
    config = FitConfig(epochs=given.epochs)
    if given.plain:
        config = dataclasses.replace(config, augmentation=Augmentation())
    try:
        data = load(given.data, given.data_dir)
    except DeltatrainError as problem:
        sys.exit(str(problem))
    seeds = [dataclasses.replace(config, seed=seed) for seed in range(given.seeds)]
    shared = (given.per_class, given.keep)
    if given.confirm:
        runs = [joblib.delayed(confirm)(data, name, seed, *shared) for name in data.speaker_names for seed in seeds]
        print(report_confirmation(in_parallel(runs, given.jobs)))
    else:
        pairs = itertools.combinations(data.speaker_names, 2)
        tasks = [joblib.delayed(run_pair)(data, pair, seed, *shared) for pair in pairs for seed in seeds]
        print(report([outcome for both in in_parallel(tasks, given.jobs) for outcome in both]))


if __name__ == "__main__":
    main()
