"""`study personal`: the main job for many speakers and seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.console import Console

from deltatrain.cli.options import (
    beta_option,
    cell_option,
    clip_option,
    data_options,
    epochs_option,
    hidden_option,
    json_option,
    layers_option,
    learning_rate_option,
    per_class_option,
    readout_option,
    theta_options,
    thetas,
)
from deltatrain.cli.terminal import Terminal, percent, print_table
from deltatrain.demo import DemoConfig
from deltatrain.errors import CheckFailed
from deltatrain.study import personal_study, speakers_of, summaries
from deltatrain.thresholds import Thresholds


@click.command()
@data_options()
@click.option("--holdout", "holdouts", metavar="SPEAKER", multiple=True, help="Only this speaker; several times.")
@click.option("--seeds", type=click.IntRange(min=1), default=3, show_default=True, help="Seeds 0, 1, … of each.")
@per_class_option
@epochs_option
@theta_options
@learning_rate_option
@clip_option
@beta_option
@cell_option
@layers_option
@hidden_option
@readout_option
@click.option("--jobs", type=click.IntRange(min=1), default=2, show_default=True, help="Runs beside each other.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("build/study"),
    show_default=True,
    help="Folder that keeps each run.",
)
@json_option
def personal(
    terminal: Terminal,
    data: str,
    holdouts: tuple[str, ...],
    seeds: int,
    theta: Thresholds | None,
    theta_x: Thresholds | None,
    theta_h: Thresholds | None,
    jobs: int,
    out: Path,
    **options: Any,  # each by the name of its field in DemoConfig
) -> None:
    """The main job for each held-out speaker and seed: errors before and after, op reduction, equality.

    Each run is `deltatrain demo` with that --holdout and --seed: built, emulated, every word compared.
    """
    theta_x, theta_h = thetas(theta, theta_x, theta_h)
    config = DemoConfig(data=data, theta_x=theta_x, theta_h=theta_h, out=out / Path(data).name, **options)
    speakers = holdouts or speakers_of(config)
    terminal.say(f"{len(speakers)} speakers, {seeds} seeds; each finished run is kept in {config.out}.")
    with terminal.bar("runs") as progress:
        rows = personal_study(config, speakers, range(seeds), jobs, progress)
    by_speaker = summaries(rows)

    def show(console: Console) -> None:
        lines = [
            (
                row.speaker,
                str(row.runs),
                percent(row.error_before),
                percent(row.error_after),
                f"{row.ratio:.2f}",
                percent(row.error_after_float),
                f"{row.op_reduction:.2f}",
                f"{row.words_compared:,}",
                str(row.words_different),
            )
            for row in by_speaker
        ]
        columns = ("speaker", "runs", "before", "after", "ratio", "float", "op reduction", "words", "different")
        print_table(console, columns, lines)

    values = {"rows": rows, "summary": [{**vars(row), "ratio": row.ratio} for row in by_speaker]}
    terminal.result(values, show)
    if by_speaker[-1].words_different:
        raise CheckFailed(f"{by_speaker[-1].words_different} words differ")
