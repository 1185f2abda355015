"""`fit`, `quantize` and `export`: from data to firmware."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from deltatrain import datasets, image
from deltatrain.cli.judged import errors
from deltatrain.cli.options import (
    DEFAULT_TARGET,
    clip_option,
    data_options,
    json_option,
    learning_rate_option,
    model_option,
    readout_option,
    replay_option,
    seed_option,
    theta_options,
    thetas,
)
from deltatrain.cli.terminal import Terminal, table
from deltatrain.datasets import Dataset, index_split, items_named, pretrain_split
from deltatrain.datasets.digits import HELD_OUT_VOICES, TEST_INDICES
from deltatrain.datasets.sequences import MAX_FRAMES
from deltatrain.demo import DEFAULT_THETA, epochs_shown
from deltatrain.errors import InputError
from deltatrain.features import FeatureConfig
from deltatrain.folders import make_folder
from deltatrain.key import Key, Lock
from deltatrain.model import FloatModel
from deltatrain.personal import CALIBRATION_ITEMS, pretraining_items
from deltatrain.pretrain import FitConfig
from deltatrain.pretrain import fit as pretrain
from deltatrain.quant_model import QuantModel
from deltatrain.quantize import quantize as quantize_model
from deltatrain.reference import DEFAULT_CLIP, DEFAULT_LEARNING_RATE
from deltatrain.replay import with_exemplars
from deltatrain.session import board_of
from deltatrain.slots import slot_bytes
from deltatrain.targets import Board
from deltatrain.thresholds import Thresholds
from deltatrain_codegen import arena_bytes, export_library, for_inference, plan_memory, ram_needed
from deltatrain_codegen import export as build_firmware
from deltatrain_codegen.memory import PLANS

VALIDATION_FRACTION = 0.1
DEFAULTS = FitConfig()


@click.command()
@data_options()
@click.option(
    "--holdout",
    "holdouts",
    metavar="SPEAKER",
    multiple=True,
    help="Leave this speaker out; may be given several times. Default for digits: its held-out voices.",
)
@click.option("--cell", type=click.Choice(["rnn", "gru", "lstm"]), default=DEFAULTS.cell, show_default=True)
@click.option("--hidden", "n_hidden", type=click.IntRange(1, 1024), default=DEFAULTS.n_hidden, show_default=True)
@click.option("--layers", "n_layers", type=click.IntRange(1, 3), default=DEFAULTS.n_layers, show_default=True)
@click.option("--epochs", type=click.IntRange(min=1), default=DEFAULTS.epochs, show_default=True)
@click.option("--batch-size", type=click.IntRange(min=1), default=DEFAULTS.batch_size, show_default=True)
@click.option("--adam-rate", type=float, default=DEFAULTS.learning_rate, show_default=True, help="Adam's step size.")
@click.option("--clip-norm", type=float, default=DEFAULTS.clip_norm, show_default=True, help="Of a batch's gradient.")
@click.option("--beta", type=float, default=DEFAULTS.beta, show_default=True, help="Weight of Σ|Δh|: buys sparsity.")
@readout_option
@theta_options
@seed_option
@click.option(
    "--max-frames",
    type=click.IntRange(1, MAX_FRAMES),
    metavar="N",
    help="Keep the first N frames of each recording, and train on the device with up to so many; fewer take less RAM.  "
    f"[default: the data set's, {FeatureConfig().max_frames} of speech]",
)
@click.option("--warm-start", type=click.Path(path_type=Path, dir_okay=False), help="Float model to go on from.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("model.safetensors"),
    show_default=True,
    help="Where to write the model.",
)
@json_option
def fit(
    terminal: Terminal,
    data: str,
    data_dir: Path | None,
    holdouts: tuple[str, ...],
    cell: str,
    n_hidden: int,
    n_layers: int,
    epochs: int,
    batch_size: int,
    adam_rate: float,
    clip_norm: float,
    beta: float,
    readout: str | None,
    theta: Thresholds | None,
    theta_x: Thresholds | None,
    theta_h: Thresholds | None,
    seed: int,
    max_frames: int | None,
    warm_start: Path | None,
    out: Path,
) -> None:
    """Pre-train a model on this computer: Adam on mini-batches, thresholds in place from the first epoch.

    The error is the fraction of utterances not recognised, by the largest output at the last frame. Of data with
    targets of their own it is the fraction of wrong frames, or of values the root of the mean squared error in units of
    each one's standard deviation over the training data: 1 is as good as always saying the mean.
    """
    theta_x, theta_h = thetas(theta, theta_x, theta_h)
    dataset = datasets.load(data, data_dir, max_frames=max_frames)
    make_folder(out.parent)  # now rather than after the training
    training, validation = _split(dataset, holdouts, seed)
    config = FitConfig(
        cell=cell,
        n_hidden=n_hidden,
        n_layers=n_layers,
        theta_x=DEFAULT_THETA if theta_x is None else theta_x,
        theta_h=DEFAULT_THETA if theta_h is None else theta_h,
        beta=beta,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=adam_rate,
        clip_norm=clip_norm,
        seed=seed,
        readout=readout,
    )
    terminal.say(
        f"Pre-training on {len(training)} {items_named(dataset.judged_by)} of {len(training.speaker_names)} speakers, "
        f"validating on {len(validation)}; {dataset.n_cut} of {len(dataset)} were longer than "
        f"{dataset.config.max_frames} frames and lost their end" + (" (--max-frames)." if dataset.n_cut else ".")
    )
    if dataset.name == "digits" and not holdouts:
        terminal.say(f"Left out for later: {', '.join(HELD_OUT_VOICES)}.")
    start = None if warm_start is None else FloatModel.load(warm_start)
    command = f"deltatrain fit --data {data} --cell {cell} --hidden {n_hidden} --epochs {epochs} --seed {seed}"
    command += f" --readout {readout}" if readout else ""
    command += f" --max-frames {max_frames}" if max_frames else ""
    with terminal.bar("pre-training") as progress:
        fitted = pretrain(
            training,
            config,
            validation=validation,
            warm_start=start,
            provenance={"held_out": sorted(holdouts), "command": command},
            progress=epochs_shown(progress, epochs),
        )
    fitted.model.save(out)
    provenance, last = fitted.model.provenance, fitted.history[-1]
    values = {
        "model": str(out),
        "error": provenance["error"],
        "op_reduction": provenance["op_reduction"],
        "params": fitted.model.n_parameters,
        "occupancy": last.occupancy,
        "loss": last.loss,
        "readout": fitted.model.readout,
    }
    terminal.result(
        values,
        lambda console: console.print(
            f"{out}: {fitted.model.n_parameters:,} parameters, "
            f"error {errors(dataset.judged_by, last.validation_error or 0.0)} "
            f"on {items_named(dataset.judged_by)} it has not seen, "
            f"{values['op_reduction']:.1f} times fewer operations than dense"
        ),
    )


def _split(dataset: Dataset, holdouts: tuple[str, ...], seed: int) -> tuple[Dataset, Dataset]:
    """Training and validation data, without the held-out speakers."""
    if dataset.name == "digits":
        chosen = index_split(dataset, TEST_INDICES, holdouts or HELD_OUT_VOICES)
    else:
        chosen = pretrain_split(dataset, holdouts, VALIDATION_FRACTION, seed)
    training, validation = (dataset.select(items) for items in chosen)
    return training, validation


@click.command()
@model_option
@data_options()
@learning_rate_option
@clip_option
@replay_option
@seed_option
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where to write the quantised model; default: MODEL-int16.safetensors.",
)
@json_option
def quantize(
    terminal: Terminal,
    model: Path,
    data: str,
    data_dir: Path | None,
    learning_rate: float | None,
    clip: float | None,
    replay: int | None,
    seed: int,
    out: Path | None,
) -> None:
    """Turn a float model into int16, with Q-formats chosen on its own pre-training data.

    --learning-rate and --clip become the defaults of training on the device. Recordings of the speakers that the model
    knows go with it as exemplars, as many as --replay has room for, balanced over words and speakers.
    """
    float_model = FloatModel.load(model)
    target = out or model.with_name(f"{model.stem}-int16.safetensors")
    if target.resolve() == model.resolve():
        raise InputError(f"--out {target} would overwrite the float model; name another file")
    dataset = datasets.stream(data, data_dir, float_model.features)
    chosen = pretraining_items(dataset, float_model, CALIBRATION_ITEMS)
    quantized, formats = quantize_model(
        float_model,
        [dataset.features[i] for i in chosen],
        DEFAULT_LEARNING_RATE if learning_rate is None else learning_rate,
        DEFAULT_CLIP if clip is None else clip,
    )
    quantized = with_exemplars(quantized, dataset, replay, seed)
    kept = () if quantized.replay is None else quantized.replay.names
    quantized.save(target)
    values = {
        "model": str(target),
        "formats": [vars(row) for row in formats],
        "hash": quantized.hash().hex(),
        "calibration_items": len(chosen),
        "replay": list(kept),
        "replay_bytes": quantized.replay_bytes,
    }

    def show(console: Console) -> None:
        rows = [
            (
                row.name,
                row.q_format,
                f"{row.largest:.3f}",
                f"{row.limit:.3f}",
                f"{row.rms_error:.1e}" if row.rms_error else "–",
                str(row.saturated),
            )
            for row in formats
        ]
        console.print(table(("tensor", "format", "largest", "limit", "rms error", "saturated"), rows))
        console.print(f"{target}, calibrated on {len(chosen)} {items_named(dataset.judged_by)}")
        if kept:
            console.print(f"{len(kept)} exemplars for replay take {quantized.replay_bytes:,} bytes of flash")

    terminal.result(values, show)


@click.command()
@model_option
@click.option("--target", default=DEFAULT_TARGET, show_default=True, help="Board to build for: see `boards`.")
@click.option("--library", is_flag=True, help="C sources only, with an example program, for a program of your own.")
@click.option("--image", "as_image", is_flag=True, help="The model alone, as one file that a device reads: model.drnn.")
@click.option(
    "--plan",
    type=click.Choice(PLANS),
    default="auto",
    show_default=True,
    help="How much of a sample's history is held: all of it, or a segment, which is computed again from checkpoints on "
    "the way back and takes more time; auto is the one that takes less RAM. The words are the same.",
)
@click.option(
    "--event-budget",
    metavar="FRACTION",
    type=float,
    help="Give the history room for this part of all possible events, in (0, 1]. A sample with more is refused and "
    "counted, never cut.  [default: room for all]",
)
@click.option(
    "--key",
    "key_file",
    metavar="FILE",
    help="Lock the firmware: only who gives this key may then read or change weights and configuration, or train.",
)
@click.option(
    "--new-key",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Make a key, keep it in this new file, and lock the firmware by it.",
)
@click.option(
    "--lock-inference/--open-inference",
    default=False,
    show_default=True,
    help="Whether recognising samples takes the key too.",
)
@click.option("--inference", is_flag=True, help="Memory to run the model, not to train it.")
@click.option(
    "--ram-bytes",
    metavar="N",
    type=click.IntRange(min=1),
    help="Use only the first N bytes of the board's RAM.  [default: all]",
)
@click.option(
    "--store/--no-store",
    default=False,
    show_default=True,
    help="Let the device keep what it learned in its non-volatile memory, over a loss of power.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("build"),
    show_default=True,
    help="Folder for sources and firmware.",
)
@json_option
def export(
    terminal: Terminal,
    model: Path,
    target: str,
    library: bool,
    as_image: bool,
    plan: str,
    event_budget: float | None,
    key_file: str | None,
    new_key: Path | None,
    lock_inference: bool,
    inference: bool,
    ram_bytes: int | None,
    store: bool,
    out: Path,
) -> None:
    """Generate C from a quantised model and build the firmware that trains it.

    What RAM it will take is printed by purpose before anything is built, for training and for inference alone. A model
    that does not fit is refused, with the changes that would make it fit.

    A key locks the device (docs/LOCK.md): give it again, by --key, to the commands that train, compare, pull or push.
    """
    if store and (library or as_image):
        raise InputError("a store belongs to firmware; leave out --store, or --library and --image")
    if library and as_image:
        raise InputError("--library and --image are two ways to write a model; call export once for each")
    quantized = QuantModel.load(model)
    training = plan_memory(quantized, plan, event_budget)
    quantized = for_inference(quantized) if inference else training
    if (library or as_image) and (key_file or new_key or lock_inference):
        raise InputError(
            "a key belongs to firmware: a library and a file have no serial line to lock; "
            "leave --key, --new-key and --lock-inference away"
        )
    if library:
        made = export_library(quantized, out)
        terminal.result(
            {
                "library": str(out),
                "files": [str(path) for path in made.files],
                "arena_bytes": made.arena_bytes,
                "memory": quantized.memory.to_dict(),
            },
            lambda console: console.print(
                f"{len(made.files)} files in {out} ({quantized.memory}: {made.arena_bytes:,} bytes of arena); "
                "README.txt there says how to build them"
            ),
        )
        return
    if as_image:
        _export_image(terminal, quantized, out / "model.drnn")
        return
    board = _with_ram(board_of(target), ram_bytes)
    needed = {"training": ram_needed(training, board), "inference": ram_needed(for_inference(training), board)}
    terminal.say(f"Plan of memory: {quantized.memory}.")
    terminal.show(_ram_table(needed))
    lock = _lock(key_file, new_key, lock_inference)
    built = build_firmware(quantized, board, out, terminal.say, store=store, lock=lock)
    quantized.save(out / "model.safetensors")
    locked = [] if lock is None else ["training", *(["inference"] if lock.inference else [])]
    values = {
        "elf": str(built.elf),
        "flash_bytes": built.flash_bytes,
        "ram_bytes": built.ram_bytes,
        "ram": built.ram,
        "ram_needed": needed,
        "memory": quantized.memory.to_dict(),
        "arena_bytes": built.arena_bytes,
        "replay_bytes": quantized.replay_bytes,
        "commit_bytes": slot_bytes(quantized) if store else 0,
        "locked": locked,
    }

    def show(console: Console) -> None:
        console.print(f"{built.elf}: {built.flash_bytes:,} bytes of flash, {built.ram_bytes:,} bytes of RAM")
        if quantized.replay is not None:
            console.print(f"of the flash {quantized.replay_bytes:,} bytes hold {len(quantized.replay)} exemplars")
        if store:
            console.print(f"each of two slots takes {slot_bytes(quantized):,} bytes of non-volatile memory")
        if locked:
            console.print(f"locked: {' and '.join(locked)}; whoever has {built.elf} or the flash has its key")

    terminal.result(values, show)


def _lock(key_file: str | None, new_key: Path | None, inference: bool) -> Lock | None:
    """The lock that the options ask for; a new key is in its file when this returns."""
    if key_file is not None and new_key is not None:
        raise InputError("--key takes a key that exists and --new-key makes one; give one of the two")
    if new_key is not None:
        key = Key.new()
        key.save(new_key)
        return Lock(key, inference)
    if key_file is not None:
        return Lock(Key.given(key_file), inference)
    if inference:
        raise InputError("--lock-inference takes a key; give one by --key, or make one by --new-key")
    return None


def _export_image(terminal: Terminal, model: QuantModel, path: Path) -> None:
    data, arena = image.encode(model), arena_bytes(model)
    make_folder(path.parent)
    path.write_bytes(data)
    values = {"image": str(path), "image_bytes": len(data), "arena_bytes": arena, "memory": model.memory.to_dict()}
    terminal.result(
        values,
        lambda console: console.print(
            f"{path}: {len(data):,} bytes, with their CRC ({model.memory}: {arena:,} bytes of arena)"
        ),
    )


def _with_ram(board: Board, ram_bytes: int | None) -> Board:
    """The board as if it had less RAM; InputError where it has not even that."""
    if ram_bytes is None:
        return board
    if ram_bytes > board.ram_bytes:
        raise InputError(f"--ram-bytes {ram_bytes}: {board.name} has {board.ram_bytes} bytes of RAM")
    return replace(board, ram_bytes=ram_bytes)


def _ram_table(needed: dict[str, dict[str, int]]) -> Table:
    """RAM by purpose, a column for each use."""
    purposes = list(dict.fromkeys(name for sizes in needed.values() for name in sizes))
    rows = [(name, *(f"{sizes[name]:,}" if name in sizes else "" for sizes in needed.values())) for name in purposes]
    totals = ("total", *(f"{sum(sizes.values()):,}" for sizes in needed.values()))
    return table(("RAM in bytes, at most", *needed), [*rows, totals])
