"""`study parity`: what fixed point costs against float64."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import click
from rich.console import Console

from deltatrain import datasets
from deltatrain.cli.options import data_options, hidden_option, json_option
from deltatrain.cli.terminal import Terminal, percent, table
from deltatrain.parity import ParityConfig, differences, rates_by_epoch, study_parity, write_csv
from deltatrain.pretrain import FitConfig

DEFAULTS = ParityConfig()
PARTS = {"scratch": "from scratch", "personal": "personalisation"}
RATES = {
    "saturated_x": "x clamped",
    "saturated_h": "h clamped",
    "saturated_c": "c clamped",
    "saturated_grad": "gradients clamped",
    "saturated_w": "weights clamped",
    "underflow_dm": "dM rounded to 0",
}


@click.command()
@data_options()
@click.option("--folds", type=click.IntRange(0, datasets.N_FOLDS), default=DEFAULTS.folds, show_default=True,
              help="Runs from scratch, each with another tenth held out; 0 leaves the part out.")  # fmt: skip
@click.option("--epochs", type=click.IntRange(min=1), default=DEFAULTS.scratch.epochs, show_default=True,
              help="Passes of a run from scratch.")  # fmt: skip
@click.option("--seeds", type=click.IntRange(min=0), default=DEFAULTS.seeds, show_default=True,
              help="Pre-trained models of each held-out speaker; 0 leaves personalisation out.")  # fmt: skip
@click.option("--orders", type=click.IntRange(min=1), default=DEFAULTS.personal.orders, show_default=True,
              help="Personalisations of each model, each with other utterances in another order.")  # fmt: skip
@click.option("--fit-epochs", type=click.IntRange(min=1), default=DEFAULTS.fit.epochs, show_default=True,
              help="Of pre-training.")  # fmt: skip
@hidden_option
@click.option("--jobs", type=click.IntRange(min=-1), default=-1, show_default=True,
              help="Runs beside each other; -1: one a core.")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=Path("build/parity"),
              show_default=True, help="Folder that keeps each run, and receives parity.csv.")  # fmt: skip
@json_option
def parity(
    terminal: Terminal,
    data: str,
    data_dir: Path | None,
    folds: int,
    epochs: int,
    seeds: int,
    orders: int,
    fit_epochs: int,
    n_hidden: int | None,
    jobs: int,
    out: Path,
) -> None:
    """The same batch-1 training in float64 and in fixed point: how much larger the error is.

    \b
    deltatrain study parity --data fsdd --data-dir DIR

    From scratch: an LSTM from random weights, all speakers, one run a fold; the error is the mean over the last epochs.
    Personalisation: each speaker in turn is kept from pre-training, then met with five utterances a class; a single run
    moves by points with the order, so each model does it many times and the mean counts.

    Float64 has exact features, thresholds and weights; fixed point is the C core, with the formats that `quantize`
    chooses. Order, learning rate and clip are the same. The interval is of 95 %, by Student's t over the paired runs.
    Each finished run is kept in --out, so the same command goes on where it was stopped.
    """
    hidden = n_hidden or DEFAULTS.scratch.n_hidden
    config = ParityConfig(
        folds=folds,
        seeds=seeds,
        scratch=replace(DEFAULTS.scratch, epochs=epochs, last=min(DEFAULTS.scratch.last, epochs), n_hidden=hidden),
        personal=replace(DEFAULTS.personal, orders=orders),
        fit=FitConfig(epochs=fit_epochs, n_hidden=hidden),
    )
    dataset = datasets.load(data, data_dir)
    terminal.say(f"Each finished run is kept in {out}.")
    with terminal.bar("runs") as progress:
        rows = study_parity(dataset, config, out, jobs=jobs, progress=progress)
    found, rates = differences(rows), rates_by_epoch(rows)
    path = write_csv(rows, out / "parity.csv")

    def show(console: Console) -> None:
        lines = [
            (
                PARTS[one.part],
                str(one.runs),
                percent(one.error_float),
                percent(one.error_fixed),
                f"{100 * one.difference:+.2f} ± {100 * one.half_width:.2f}",
                f"{100 * one.goal:.1f}",
            )
            for one in found
        ]
        console.print(table(("", "runs", "float64", "fixed point", "difference, points", "goal"), lines))
        if rates:
            shown = sorted({0, len(rates) // 4, len(rates) // 2, len(rates) - 1})
            shares = [(words, *(f"{rates[epoch][name]:.1e}" for epoch in shown)) for name, words in RATES.items()]
            console.print(table(("from scratch, epoch", *(str(epoch + 1) for epoch in shown)), shares))
        console.print(str(path))

    values = {
        "rows": rows,
        "summary": [
            {
                "part": one.part,
                "runs": one.runs,
                "error_float": one.error_float,
                "error_fixed": one.error_fixed,
                "difference": one.difference,
                "half_width": one.half_width if math.isfinite(one.half_width) else None,
                "goal": one.goal,
                "reached": one.reached,
            }
            for one in found
        ],
        "rates": rates,
        "csv": str(path),
    }
    terminal.result(values, show)
