"""Choose learning rate and clip of personalisation without looking at any speaker that a result is about.

    python tools/tune_personal.py

Leave-one-voice-out among the **known** voices of the embedded data set: for each of them a model is pre-trained on the
other known voices, then personalised to that voice with every learning rate and clip of the grid (float, batch 1, one
pass). Neither the held-out voices of `digits` nor any recorded speaker enters. DESIGN.md has the table, and the choice.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys

import joblib
import numpy as np
import numpy.typing as npt

from deltatrain.datasets import Dataset, load, personal_split
from deltatrain.datasets.digits import KNOWN_VOICES
from deltatrain.features import standardise
from deltatrain.model import FloatModel
from deltatrain.pretrain import FitConfig, evaluate, fit
from deltatrain.reference import SgdTrainer

# Step lengths lr·C, each with a clip that acts seldom, often and nearly always.
GRID = [(length / clip, clip) for length in (0.08, 0.16, 0.32, 0.48, 0.64) for clip in (2.0, 1.0, 0.5)]
PER_CLASS = 5


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Errors on one voice's other utterances: before, and after one pass with each point of the grid."""

    before: float
    after: npt.NDArray[np.float64]


def personalise(model: FloatModel, data: Dataset, items: npt.NDArray[np.int64], rate: float, clip: float) -> FloatModel:
    """The model after one pass of batch-1 SGD over the items."""
    network = model.network()
    trainer = SgdTrainer(network, rate, clip)
    for item in items:
        trainer.step(standardise(data.features[item], model.features), int(data.labels[item]))
    return model.with_network(network)


def leave_out(data: Dataset, voice: str, seed: int) -> Outcome:
    """Pre-train without a voice, then meet it with every point of the grid."""
    model = fit(data.select([name != voice for name in data.speakers]), FitConfig(seed=seed)).model
    train, test = personal_split(data, voice, PER_CLASS, seed)
    tested = data.select(test)

    def error(judged: FloatModel) -> float:
        return evaluate(judged, tested.features, tested.labels).error

    after = [error(personalise(model, data, train, rate, clip)) for rate, clip in GRID]
    return Outcome(error(model), np.array(after))


def table(outcomes: list[Outcome]) -> str:
    """A row for each point: mean error after, its ratio to before, and the standard error of that ratio."""
    before = np.array([outcome.before for outcome in outcomes])
    after = np.array([outcome.after for outcome in outcomes])
    lines = [
        f"{len(outcomes)} personalisations, mean error before {before.mean():.4f}",
        f"{'lr·C':>6} {'lr':>6} {'C':>4} {'after':>7} {'ratio':>6} {'± s.e.':>7}",
    ]
    for (rate, clip), errors in zip(GRID, after.T, strict=True):
        deviation = np.std(errors - before * errors.mean() / before.mean(), ddof=1)
        spread = deviation / np.sqrt(len(before)) / before.mean()
        ratio = errors.mean() / before.mean()
        lines.append(f"{rate * clip:6.2f} {rate:6.2f} {clip:4.1f} {errors.mean():7.4f} {ratio:6.3f} {spread:7.3f}")
    return "\n".join(lines)


def main() -> None:
    """Run the choice and print its table."""
    parser = argparse.ArgumentParser(description="Choose learning rate and clip on the known voices of `digits`.")
    parser.add_argument("--seeds", type=int, default=2, help="seeds 0 to N - 1")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    given = parser.parse_args()
    data = load("digits")
    known = data.select([name in KNOWN_VOICES for name in data.speakers])
    tasks = [joblib.delayed(leave_out)(known, voice, seed) for seed in range(given.seeds) for voice in KNOWN_VOICES]
    outcomes: list[Outcome] = []
    for outcome in joblib.Parallel(given.jobs, return_as="generator")(tasks):
        outcomes.append(outcome)
        print(f"\r{len(outcomes)}/{len(tasks)} voices", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    print(table(outcomes))


if __name__ == "__main__":
    main()
