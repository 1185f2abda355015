"""`plot`: a picture of a run from its log, at any time."""

from __future__ import annotations

from pathlib import Path

import click

from deltatrain.cli.options import json_option
from deltatrain.cli.terminal import Terminal
from deltatrain.folders import make_folder


@click.command()
@click.option(
    "--log",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="JSON lines of `train`: --log's, or log.jsonl in a run's folder. The run may still go on.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("run.png"),
    show_default=True,
    help="Where to write the picture.",
)
@json_option
def plot(terminal: Terminal, log: Path, out: Path) -> None:
    """Draw a run: error, loss and sparsity over the steps, and the errors on the test samples."""
    from deltatrain.report.run_figure import run_figure  # here, because matplotlib takes long to load

    make_folder(out.parent)
    steps = run_figure(log, out)
    terminal.result(
        {"picture": str(out), "steps": steps}, lambda console: console.print(f"{out}: {steps} steps", markup=False)
    )
