"""`sweep`: thresholds × error × operations."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from deltatrain import datasets
from deltatrain.cli.options import (
    AUGMENTATIONS,
    augmentation_option,
    dask_option,
    data_options,
    folds_option,
    json_option,
)
from deltatrain.cli.terminal import Terminal, table
from deltatrain.errors import InputError
from deltatrain.folders import make_folder
from deltatrain.points import Point, pooled, write_csv, write_points_csv
from deltatrain.sweep import MODES, SweepConfig, run_sweep

DEFAULTS = SweepConfig()


@click.command()
@data_options()
@click.option("--cell", "cells", type=click.Choice(["rnn", "gru", "lstm"]), multiple=True, default=DEFAULTS.cells,
              show_default=True, help="May be given several times, as all that follows up to --beta.")  # fmt: skip
@click.option("--hidden", "hidden", type=click.IntRange(1, 1024), multiple=True, default=DEFAULTS.hidden,
              show_default=True, help="Hidden units of a layer.")  # fmt: skip
@click.option("--layers", "layers", type=click.IntRange(1, 3), multiple=True, default=DEFAULTS.layers,
              show_default=True)  # fmt: skip
@click.option("--theta", "equal", type=float, multiple=True,
              help="θx = θh.  [0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5 unless θx and θh are given]")  # fmt: skip
@click.option("--theta-x", "theta_x", type=float, multiple=True, help="θx: paired with every --theta-h.")
@click.option("--theta-h", "theta_h", type=float, multiple=True, help="θh: paired with every --theta-x.")
@click.option("--mode", "modes", type=click.Choice(MODES), multiple=True, default=MODES, show_default=True,
              help="From scratch or fine-tuned from the dense model, each without and with β.")  # fmt: skip
@click.option("--beta", "betas", type=float, multiple=True, default=DEFAULTS.betas, show_default=True,
              help="Weight of Σ|Δh| in the modes with β.")  # fmt: skip
@folds_option("0-4")
@click.option("--seeds", type=click.IntRange(min=1), default=DEFAULTS.seeds, show_default=True,
              help="Seeds 0, 1, … of each fold.")  # fmt: skip
@click.option("--epochs", type=click.IntRange(min=1), default=DEFAULTS.epochs, show_default=True, help="From scratch.")
@click.option("--finetune-epochs", type=click.IntRange(min=1), default=DEFAULTS.finetune_epochs, show_default=True,
              help="From the dense model.")  # fmt: skip
@click.option("--batch-size", type=click.IntRange(min=1), default=DEFAULTS.batch_size, show_default=True)
@click.option("--adam-rate", type=float, default=DEFAULTS.learning_rate, show_default=True, help="Adam's step size.")
@click.option("--finetune-rate", type=float, default=DEFAULTS.finetune_rate, show_default=True,
              help="Adam's step size in fine-tuning.")  # fmt: skip
@augmentation_option
@click.option("--jobs", type=click.IntRange(min=-1), default=-1, show_default=True,
              help="Models beside each other; -1: one a core.")  # fmt: skip
@dask_option
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=Path("build/sweep"), show_default=True,
              help="Folder that keeps each model's result, and receives the tables and the picture.")  # fmt: skip
@json_option
def sweep(
    terminal: Terminal,
    data: str,
    data_dir: Path | None,
    equal: tuple[float, ...],
    theta_x: tuple[float, ...],
    theta_h: tuple[float, ...],
    augmentation: str,
    adam_rate: float,
    jobs: int,
    dask: str | None,
    out: Path,
    **options: object,
) -> None:
    """Train models over thresholds, on several folds of the data, and set error against operations saved.

    \b
    deltatrain sweep --data fsdd --data-dir DIR
    deltatrain sweep --data fsdd --data-dir DIR --cell lstm --hidden 110 --theta 0 --theta 0.2 --theta 0.3

    Every model is trained on nine tenths of the data and tested on the rest; folds and seeds are pooled. The dense
    models are trained once and shared: the others are compared with them, and fine-tuned from them. Each finished
    model is kept in --out, so the same command goes on where it was stopped.

    Written there: models.csv (a line a model), sweep.csv (a line a setting, pooled) and sweep.png. Confidence
    intervals are of 95 %: of an error by Wilson, of a ratio of errors by a bootstrap over the test recordings.
    """
    from deltatrain.report.sweep import sweep_picture  # here, because matplotlib takes long to load

    config = SweepConfig(
        thetas=_pairs(equal, theta_x, theta_h),
        learning_rate=adam_rate,
        augmentation=AUGMENTATIONS[augmentation],
        **options,  # type: ignore[arg-type]  # each by the name of its field
    )
    make_folder(out)
    dataset = datasets.load(data, data_dir)
    terminal.say(f"Each finished model is kept in {out}.")
    with terminal.bar("models") as progress:
        rows = run_sweep(dataset, config, out, jobs=jobs, dask=dask, progress=progress)
    points = pooled(rows)
    write_csv(out / "models.csv", rows)
    write_points_csv(out / "sweep.csv", points)
    picture = sweep_picture(points, out / "sweep.png")

    def show(console: Console) -> None:
        for one in points_tables(points):
            console.print(one)
        console.print("Errors in %; ops ÷: dense over executed MACs of training; no dx: without the first layer's dx.")
        console.print(f"{out / 'models.csv'}, {out / 'sweep.csv'}, {picture}")

    terminal.result({"rows": rows, "points": [vars(point) for point in points], "picture": str(picture)}, show)


def _pairs(
    equal: tuple[float, ...], theta_x: tuple[float, ...], theta_h: tuple[float, ...]
) -> tuple[tuple[float, float], ...]:
    """Thresholds θx, θh from the three options."""
    if bool(theta_x) != bool(theta_h):
        given, missing = ("--theta-x", "--theta-h") if theta_x else ("--theta-h", "--theta-x")
        raise InputError(f"{given} is paired with every {missing}; give {missing} too, or --theta for both")
    pairs = [(theta, theta) for theta in equal] + [(x, h) for x in theta_x for h in theta_h]
    return tuple(dict.fromkeys(pairs)) or DEFAULTS.thetas


def points_tables(points: list[Point]) -> list[Table]:
    """What a sweep found, for people: a table for each network."""
    columns = ("", "β", "θx", "θh", "error", "95 %", "ops ÷", "no dx", "÷ dense", "95 %")
    return [
        table(columns, [_line(point) for point in points if point.network == network], title=f"\n{network}")
        for network in dict.fromkeys(point.network for point in points)
    ]


def _line(point: Point) -> tuple[str, ...]:
    return (
        point.mode.removesuffix("+beta"),
        f"{point.beta:g}" if point.beta else "",
        f"{point.theta_x:g}",
        f"{point.theta_h:g}",
        f"{100 * point.error:.2f}",
        f"{100 * point.error_low:.1f}–{100 * point.error_high:.1f}",
        f"{point.op_reduction:.2f}",
        f"{point.op_reduction_without_dx:.2f}",
        "" if point.ratio is None else f"{point.ratio:.2f}",
        "" if point.ratio_low is None else f"{point.ratio_low:.2f}–{_or_infinity(point.ratio_high)}",
    )


def _or_infinity(value: float | None) -> str:
    return "∞" if value is None else f"{value:.2f}"
