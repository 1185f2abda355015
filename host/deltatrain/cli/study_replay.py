"""`study replay`: what stored exemplars of old speakers buy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.console import Console

from deltatrain.cli.options import data_options, json_option, per_class_option
from deltatrain.cli.terminal import Terminal, percent, print_table
from deltatrain.demo import DemoConfig
from deltatrain.replay_choice import NO_REPLAY, Way, choices, choices_without, pooled, write_csv
from deltatrain.replay_study import ReplayStudy, run_study
from deltatrain.study import speakers_of
from deltatrain.training import check_replay_rate

DEFAULTS = ReplayStudy()


@click.command()
@data_options("fsdd")
@click.option("--holdout", "holdouts", metavar="SPEAKER", multiple=True, help="Only this speaker; several times.")
@click.option("--seeds", type=click.IntRange(min=1), default=2, show_default=True, help="Models pre-trained for each.")
@click.option("--orders", type=click.IntRange(min=1), default=4, show_default=True, help="Meetings with each model.")
@click.option(
    "--budget", "budgets", type=click.IntRange(min=1), multiple=True, help="Flash for exemplars, KiB; several times."
)
@click.option("--replay-rate", "rates", type=float, multiple=True, help="Exemplars a new utterance; several times.")
@click.option("--passes", type=click.IntRange(min=1), multiple=True, help="Over the new utterances; several times.")
@per_class_option
@click.option("--fit-epochs", type=click.IntRange(min=1), default=DEFAULTS.fit_epochs, show_default=True)
@click.option("--jobs", type=click.IntRange(min=1), default=2, show_default=True, help="Meetings beside each other.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("build/study-replay"),
    show_default=True,
    help="Folder that keeps each part, and receives replay.csv and replay.png.",
)
@json_option
def replay(
    terminal: Terminal,
    data: str,
    data_dir: Path | None,
    holdouts: tuple[str, ...],
    seeds: int,
    orders: int,
    budgets: tuple[int, ...],
    rates: tuple[float, ...],
    passes: tuple[int, ...],
    per_class: int,
    fit_epochs: int,
    jobs: int,
    out: Path,
) -> None:
    """What stored exemplars of old speakers buy: errors of new and old speakers against their bytes.

    Each speaker in turn is kept from pre-training and then met, without replay and with each budget, format and rate;
    in the C core on this computer, whose every word is the device's. Old speakers are tested on recordings that
    neither pre-trained the model nor are kept.
    """
    from deltatrain.report.replay_figure import replay_figure  # here, because matplotlib takes long to load

    for rate in rates:
        check_replay_rate(rate)
    settings = ReplayStudy(
        data=data,
        data_dir=data_dir,
        budgets=tuple(sorted(set(budgets))) or DEFAULTS.budgets,
        rates=tuple(sorted(set(rates))) or DEFAULTS.rates,
        passes=tuple(sorted(set(passes))) or DEFAULTS.passes,
        per_class=per_class,
        fit_epochs=fit_epochs,
    )
    speakers = holdouts or speakers_of(DemoConfig(data=data, data_dir=data_dir))
    folder = out / Path(data).name
    terminal.say(f"{len(speakers)} speakers, {seeds} models each, {orders} meetings each, kept in {folder}.")
    with terminal.bar("models and meetings") as progress:
        rows = run_study(settings, speakers, seeds, orders, folder, jobs=jobs, progress=progress)
    cells = pooled(rows)
    table_path = write_csv(rows, folder / "replay.csv")
    figure_path = replay_figure(cells, folder / "replay.png")
    chosen, without = choices(rows), choices_without(rows)

    def show(console: Console) -> None:
        lines = [
            (
                str(cell.passes),
                cell.way.format,
                str(cell.way.budget_kib),
                f"{cell.way.rate:g}",
                f"{cell.exemplars:.0f}",
                percent(cell.error),
                percent(cell.known_error),
                f"± {100 * cell.known_error_se:.1f}",
            )
            for cell in cells
        ]
        columns = ("passes", "format", "KiB", "rate", "exemplars", "new speaker", "old speakers", "s.e.")
        print_table(console, columns, lines, keys=4)
        for count, way in chosen.items():
            told = f"{way.format}, {way.budget_kib} KiB, {way.rate:g} a new utterance"
            console.print(f"for {count} pass{'es' if count > 1 else ''}: {'no replay' if way == NO_REPLAY else told}")
        console.print(f"{table_path}, {figure_path}")

    values = {
        "rows": rows,
        "summary": [cell.to_dict() for cell in cells],
        "chosen": _as_dicts(chosen),
        "chosen_without": {name: _as_dicts(ways) for name, ways in without.items()},
        "csv": str(table_path),
        "figure": str(figure_path),
    }
    terminal.result(values, show)


def _as_dicts(ways: dict[int, Way]) -> dict[int, dict[str, Any]]:
    return {passes: dict(vars(way)) for passes, way in ways.items()}
