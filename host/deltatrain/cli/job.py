"""What `train`, `evaluate` and `compare` work on: a model, the samples that train it, and those that test it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deltatrain.cli.options import thetas
from deltatrain.cli.terminal import Terminal
from deltatrain.datasets import Dataset
from deltatrain.personal import everybody, first_pass, pretrained_on
from deltatrain.quant_model import QuantModel
from deltatrain.samples import streamed
from deltatrain.training import Sample, Settings


@dataclass(frozen=True)
class Job:
    """A model, a data set, and which items train (in the order of the first pass) and test."""

    model: QuantModel
    dataset: Dataset
    first: NDArray[np.int64]
    test_items: NDArray[np.int64]

    @property
    def test(self) -> Sequence[Sample]:
        """The samples that test, each made when it is asked for."""
        return streamed(self.model, self.dataset, self.test_items)


def make_job(
    terminal: Terminal,
    model: QuantModel,
    dataset: Dataset,
    *,
    train_on: str,
    holdout: str | None,
    per_class: int,
    test_fraction: float,
    seed: int,
    purpose: str = "train on",
) -> Job:
    """Divide a data set; `purpose` is told where --holdout is missing."""
    if train_on == "all":
        return Job(model, dataset, *everybody(dataset, holdout, test_fraction, seed))
    if holdout in (pretrained_on(model) or ()):
        terminal.say(f"Note: the model was pre-trained on {holdout}, who is no new speaker to it.")
    return Job(model, dataset, *first_pass(dataset, holdout, per_class=per_class, seed=seed, purpose=purpose))


def settings_of(model: QuantModel, replay_rate: float | None, options: dict[str, Any]) -> Settings:
    """What training is told, from the command line's options."""
    theta_x, theta_h = thetas(options["theta"], options["theta_x"], options["theta_h"])
    return Settings.of(
        model,
        learning_rate=options["learning_rate"],
        clip=options["clip"],
        theta_x=theta_x,
        theta_h=theta_h,
        seed=options["seed"],
        beta=options["beta"],
        replay_rate=replay_rate,
    )


def counted(new: int, replayed: int, refused: int) -> str:
    """`50 steps`, `50 steps and 50 on stored exemplars`, and `(2 samples refused, ...)` where some were."""
    text = f"{new} steps" + (f" and {replayed} on stored exemplars" if replayed else "")
    return text + (f" ({refused} samples refused, for their events exceed the firmware's budget)" if refused else "")
