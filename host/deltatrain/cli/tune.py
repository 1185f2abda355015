"""`tune`: thresholds for a user's data."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console

from deltatrain import datasets
from deltatrain.cli.options import (
    AUGMENTATIONS,
    augmentation_option,
    dask_option,
    data_options,
    folds_option,
    json_option,
    seed_option,
)
from deltatrain.cli.terminal import Terminal, percent, table
from deltatrain.datasets.digits import HELD_OUT_VOICES
from deltatrain.errors import CheckFailed, InputError
from deltatrain.folders import make_folder
from deltatrain.points import Point
from deltatrain.sweep import SweepConfig
from deltatrain.tune import Target, tuned_model
from deltatrain.tune import tune as search_thresholds

DEFAULTS = SweepConfig()


@click.command()
@data_options()
@click.option("--holdout", "holdouts", metavar="SPEAKER", multiple=True,
              help="Leave this speaker out; several times. Default for digits: its held-out voices.")  # fmt: skip
@click.option("--target-error", type=float, help="As a fraction: save the most operations at no more than this error.")
@click.option("--target-ops", type=float, help="Dense over executed MACs: the least error at no less than this saving.")
@click.option("--cell", type=click.Choice(["rnn", "gru", "lstm"]), default="lstm", show_default=True)
@click.option("--hidden", "n_hidden", type=click.IntRange(1, 1024), default=64, show_default=True)
@click.option("--layers", "n_layers", type=click.IntRange(1, 3), default=1, show_default=True)
@click.option(
    "--beta", type=float, default=DEFAULTS.betas[0], show_default=True, help="Weight of Σ|Δh|: buys sparsity."
)
@folds_option("0-1")
@click.option("--epochs", type=click.IntRange(min=1), default=DEFAULTS.epochs, show_default=True, help="Dense models.")
@click.option("--finetune-epochs", type=click.IntRange(min=1), default=DEFAULTS.finetune_epochs, show_default=True,
              help="Of each pair of thresholds tried.")  # fmt: skip
@augmentation_option
@seed_option
@click.option("--jobs", type=click.IntRange(min=-1), default=-1, show_default=True,
              help="Models beside each other; -1: one a core.")  # fmt: skip
@dask_option
@click.option("--kept", type=click.Path(path_type=Path, file_okay=False), default=Path("build/tune"), show_default=True,
              help="Folder that keeps each model's result: what was tried before is not tried again.")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write the model found here.")
@json_option
def tune(
    terminal: Terminal,
    data: str,
    data_dir: Path | None,
    holdouts: tuple[str, ...],
    target_error: float | None,
    target_ops: float | None,
    cell: str,
    n_hidden: int,
    n_layers: int,
    beta: float,
    folds: tuple[int, ...],
    epochs: int,
    finetune_epochs: int,
    augmentation: str,
    seed: int,
    jobs: int,
    dask: str | None,
    kept: Path,
    out: Path | None,
) -> None:
    """Find the thresholds θx and θh for your data, for an error or for a saving.

    \b
    deltatrain tune --data DIR --target-ops 9 --out model.safetensors
    deltatrain tune --data DIR --target-error 0.02

    Dense models are trained once, one a fold; each pair of thresholds tried is a fine-tuning of them, tested on the
    recordings that the fold keeps back. First a coarse grid over θh for θx / θh = 0.5, 1 and 2, then bisection in θh.
    The error of the choice is a little optimistic, being the best of those tried; other folds (--folds) tell how much.

    Exit status 1 where the target is out of reach; the nearest setting is then shown, and no model written.
    """
    target = Target(target_error, target_ops)
    for folder in (kept, *([] if out is None else [out.parent])):
        make_folder(folder)
    dataset = datasets.load(data, data_dir)
    held_out = holdouts or (HELD_OUT_VOICES if dataset.name == "digits" else ())
    if unknown := sorted(set(held_out) - set(dataset.speakers)):
        raise InputError(f"speaker {unknown[0]!r} is not in data set {data}; it has {', '.join(dataset.speaker_names)}")
    known = dataset.select([speaker not in held_out for speaker in dataset.speakers])
    config = SweepConfig(
        cells=(cell,),
        hidden=(n_hidden,),
        layers=(n_layers,),
        betas=(beta,),
        folds=folds,
        first_seed=seed,
        epochs=epochs,
        finetune_epochs=finetune_epochs,
        augmentation=AUGMENTATIONS[augmentation],
    )
    with terminal.bar("models") as progress:
        found = search_thresholds(known, config, target, kept, jobs=jobs, dask=dask, progress=progress)
    best = found.best
    if found.reached and out is not None:
        command = f"deltatrain tune --data {data} --target-" + (
            f"ops {target_ops:g}" if target_error is None else f"error {target_error:g}"
        )
        provenance: dict[str, object] = {"held_out": sorted(held_out), "command": command}
        tuned_model(known, config, best, kept, provenance).save(out)
    values = {
        "reached": found.reached,
        "theta_x": best.theta_x,
        "theta_h": best.theta_h,
        "error": best.error,
        "op_reduction": best.op_reduction,
        "model": str(out) if found.reached and out is not None else None,
        "tried": [vars(point) for point in found.tried],
    }

    def show(console: Console) -> None:
        console.print(table(("", "θx", "θh", "error", "95 %", "op reduction", "without dx"), [
            _line(point, point is best) for point in found.tried
        ]))  # fmt: skip
        console.print(
            f"θx = {best.theta_x:g}, θh = {best.theta_h:g}: error {percent(best.error)} on {best.items} recordings, "
            f"{best.op_reduction:.1f} times fewer operations than dense" + (f"; {out}" if values["model"] else "")
        )

    terminal.result(values, show)
    if not found.reached:
        asked = f"an error of {target_error:g}" if target_ops is None else f"{target_ops:g} times fewer operations"
        raise CheckFailed(
            f"{asked} is out of reach; the nearest is an error of {best.error:.4f} with "
            f"{best.op_reduction:.1f} times fewer operations. Train longer (--epochs, --finetune-epochs), with more "
            "units (--hidden) or another --beta"
        )


def _line(point: Point, chosen: bool) -> tuple[str, ...]:
    return (
        "→" if chosen else "",
        f"{point.theta_x:g}",
        f"{point.theta_h:g}",
        percent(point.error),
        f"{100 * point.error_low:.1f}–{100 * point.error_high:.1f}",
        f"{point.op_reduction:.2f}",
        f"{point.op_reduction_without_dx:.2f}",
    )
