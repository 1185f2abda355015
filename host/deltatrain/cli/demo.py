"""`deltatrain demo`: the main job."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.console import Console

from deltatrain.cli.judged import errors
from deltatrain.cli.options import (
    DEFAULT_TARGET,
    beta_option,
    cell_option,
    clip_option,
    data_options,
    epochs_option,
    hidden_option,
    holdout_option,
    json_option,
    layers_option,
    learning_rate_option,
    per_class_option,
    readout_option,
    replay_option,
    replay_rate_option,
    seed_option,
    theta_options,
    thetas,
)
from deltatrain.cli.terminal import Terminal
from deltatrain.datasets import items_named
from deltatrain.demo import DemoConfig, run
from deltatrain.errors import CheckFailed
from deltatrain.story import Story
from deltatrain.thresholds import Thresholds


@click.command()
@data_options()
@holdout_option
@per_class_option
@epochs_option
@theta_options
@learning_rate_option
@clip_option
@beta_option
@replay_option
@replay_rate_option
@seed_option
@click.option(
    "--model",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Float model to start from; default: the shipped one for digits, else pre-trained now on the others.",
)
@cell_option
@layers_option
@hidden_option
@readout_option
@click.option("--fit-epochs", type=click.IntRange(min=1), help="Epochs, when pre-training.")
@click.option("--target", default=DEFAULT_TARGET, show_default=True, help="The board to emulate.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("build/demo"),
    show_default=True,
    help="Folder for model, sources, firmware and report.",
)
@click.option("--open", "open_report", is_flag=True, help="Show the report in the browser.")
@json_option
def demo(
    terminal: Terminal,
    theta: Thresholds | None,
    theta_x: Thresholds | None,
    theta_h: Thresholds | None,
    open_report: bool,
    **options: Any,  # each by the name of its field in DemoConfig
) -> None:
    """A keyword model meets a new voice and learns it on the device.

    Pre-trained model → integers → C → firmware → emulator → errors before → training on the device, one utterance at
    a time → errors after; every word that the device computed is compared with two host references.

    \b
    Examples:
        deltatrain demo
        deltatrain demo --data fsdd --data-dir DIR --holdout theo --epochs 5
    """
    theta_x, theta_h = thetas(theta, theta_x, theta_h)
    config = DemoConfig(theta_x=theta_x, theta_h=theta_h, **options)
    from deltatrain import report  # here, because matplotlib takes longer to load than --help should

    story = run(config, terminal)
    path = report.write(story, config.out / "report.html")
    terminal.result(story.to_dict(path), lambda console: _show(console, story, path))
    if open_report:
        click.launch(str(path))
    if story.comparison.words_different:
        raise CheckFailed(
            f"{story.comparison.words_different} words differ; the first: {story.comparison.first_difference}"
        )


def _show(console: Console, story: Story, path: Path) -> None:
    comparison, judged_by = story.comparison, story.after.judged_by
    changed = errors(judged_by, story.before.error, story.after.error)
    console.print(
        f"\n[bold]{story.speaker}[/bold]: error [bold]{changed}[/bold] "
        f"on {len(story.after.labels)} other {items_named(judged_by)}, "
        f"after {len(comparison.new_steps)} training steps on {story.board}"
    )
    console.print(f"  float64 reference, same order, same clip: {errors(judged_by, story.float_after)}")
    if replayed := len(comparison.steps) - len(comparison.new_steps):
        exemplars = 0 if story.model.replay is None else len(story.model.replay)
        console.print(f"  between them {replayed} steps on {exemplars} stored exemplars of speakers known before")
    console.print(f"  speakers known before: {errors(judged_by, story.known_before, story.known_after)}")
    console.print(f"  operations: {story.operations.reduction:.1f} times fewer than dense")
    if story.instructions:
        mean = sum(story.instructions) / len(story.instructions)
        console.print(f"  instructions per training step: {mean / 1e6:.2f} million")
    console.print(f"  firmware: {story.size.flash_bytes:,} bytes of flash, {story.size.ram_bytes:,} bytes of RAM")
    verdict = "[green]all equal[/green]" if not comparison.words_different else "[red]NOT equal[/red]"
    console.print(
        f"  words compared: {comparison.words_compared:,}, different: {comparison.words_different:,} — {verdict}"
    )
    console.print(f"  report: {path}")
