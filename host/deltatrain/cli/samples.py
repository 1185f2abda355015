"""`samples`: a person's recordings as files, for a board that trains without a host."""

from __future__ import annotations

import json
from pathlib import Path

import click

from deltatrain import datasets, sample_file
from deltatrain.cli.options import (
    data_options,
    epochs_option,
    holdout_option,
    json_option,
    model_option,
    per_class_option,
    seed_option,
)
from deltatrain.cli.terminal import Terminal
from deltatrain.errors import InputError
from deltatrain.folders import make_folder
from deltatrain.personal import personal
from deltatrain.quant_model import QuantModel
from deltatrain.samples import samples_of


@click.command()
@model_option
@data_options()
@holdout_option
@per_class_option
@epochs_option
@seed_option
@click.option(
    "--raw",
    metavar="UNIT",
    type=click.FloatRange(min=0, min_open=True),
    help="Write readings in units of UNIT, as a sensor gives them, and input.json, which makes inputs of them.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("build"),
    show_default=True,
    help="Folder for train.drnx and test.drnx.",
)
@json_option
def samples(
    terminal: Terminal,
    model: Path,
    data: str,
    data_dir: Path | None,
    holdout: str | None,
    per_class: int,
    epochs: int,
    seed: int,
    raw: float | None,
    out: Path,
) -> None:
    """Write the samples that `train` would train and test on, as files that a board reads.

    The same model, data, speaker and seed give the same samples in the same order.
    """
    quantized = QuantModel.load(model)
    if quantized.readout != "last":
        raise InputError(f"{model} takes targets at every frame; files of samples have one class each")
    dataset = datasets.load(data, data_dir, quantized.features)
    split = personal(dataset, holdout, per_class=per_class, epochs=epochs, seed=seed)
    scaling = None if raw is None else sample_file.input_scaling(quantized, raw)
    make_folder(out)
    counts = {}
    for name, items in (("train", split.train), ("test", split.test)):
        chosen = samples_of(quantized, dataset, items)
        frames = [
            sample.frames if raw is None else sample_file.readings(dataset.features[item][: quantized.max_steps], raw)
            for sample, item in zip(chosen.items, items, strict=True)
        ]
        labelled = list(zip(frames, (sample.label for sample in chosen.items), strict=True))
        (out / f"{name}.drnx").write_bytes(sample_file.encode(quantized.n_in, labelled))
        counts[name] = len(labelled)
    if scaling is not None:
        (out / "input.json").write_text(json.dumps(scaling) + "\n", encoding="utf-8")
    terminal.result(
        {"out": str(out), **counts},
        lambda console: console.print(
            f"{out}: train.drnx with {counts['train']} samples of {split.speaker}, test.drnx with {counts['test']}"
        ),
    )
