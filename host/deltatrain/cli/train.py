"""`train`: stream samples to a device for as long as it takes, and go on where it was stopped."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from deltatrain import datasets
from deltatrain.cli.job import make_job, settings_of
from deltatrain.cli.options import data_options, json_option, key_option, target_option, training_options
from deltatrain.cli.terminal import Terminal
from deltatrain.cli.training_run import TrainingRun
from deltatrain.datasets import Dataset
from deltatrain.devices import AnyDevice
from deltatrain.errors import InputError
from deltatrain.folders import make_folder
from deltatrain.key import KEY_VARIABLE, Key
from deltatrain.memory import BUDGET_ONE
from deltatrain.order import Order
from deltatrain.quant_model import QuantModel
from deltatrain.replay import rate_over
from deltatrain.run import Journal, Log, Pace, Plan, RunFolder, Stream
from deltatrain.session import opened

DEFAULT_PULL_EVERY = 500

# Options that the words of a step depend on: they belong to a run and stay.
OF_THE_RUN = (
    *("train_on", "holdout", "per_class", "test_fraction", "seed", "learning_rate", "clip", "beta"),
    *("theta", "theta_x", "theta_h"),
)


@click.command()
@click.option(
    "--model",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Quantised model (.safetensors) that the firmware was exported from, or that was pulled from such a device; "
    "with --resume the run's own.",
)
@data_options()
@training_options
@target_option
@key_option
@click.option("--steps", type=click.IntRange(min=1), help="New samples to train on in all, in place of whole --epochs.")
@click.option(
    "--run",
    "run_dir",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the run, from which --resume goes on: settings, log, weights. It may be copied to another host.",
)
@click.option("--resume", is_flag=True, help="Go on with the run in --run; its settings hold.")
@click.option(
    "--log",
    type=click.Path(path_type=Path, dir_okay=False),
    help="JSON lines, one a step or event; appended. The run's folder has them in log.jsonl anyway.",
)
@click.option(
    "--picture",
    metavar="FILE.png",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Draw error, loss and sparsity over the steps at the end; `plot` does it at any time.",
)
@click.option("--eval-every", type=click.IntRange(min=1), metavar="N", help="Judge the test samples every N steps too.")
@click.option(
    "--commit-every",
    type=click.IntRange(min=1),
    metavar="N",
    help="Have the device write weights and step to its non-volatile store every N steps and at the end.",
)
@click.option(
    "--pull-every",
    type=click.IntRange(min=1),
    metavar="N",
    default=DEFAULT_PULL_EVERY,
    show_default=True,
    help="Read the weights back to the run's folder every N steps and at the end.",
)
@click.option(
    "--rollback",
    type=click.Choice(["ask", "always", "never"]),
    default="ask",
    show_default=True,
    help="What to do when the test samples are recognised worse than before; where nobody can be asked (--json, no "
    "terminal), ask means always.",
)
@json_option
def train(
    terminal: Terminal,
    model: Path | None,
    data: str,
    data_dir: Path | None,
    target: str | None,
    key: Key | None,
    epochs: int,
    steps: int | None,
    run_dir: Path | None,
    resume: bool,
    log: Path | None,
    picture: Path | None,
    eval_every: int | None,
    commit_every: int | None,
    pull_every: int,
    rollback: str,
    **options: Any,
) -> None:
    """Stream samples to the device and train on them, one at a time.

    Training goes on from the weights that the device has. The old ones are kept until the end: where the error on the
    test samples has grown, they can be put back.

    Ctrl-C (or SIGTERM) stops after the step under way. With --run everything is kept that it takes to go on, by
    --resume: on this device or on another one with the same firmware, which gets the weights of the run's folder. The
    end is the same, bit by bit, as that of a run which nothing stopped.
    """
    ctx = click.get_current_context()
    given = {name for name in ctx.params if ctx.get_parameter_source(name) is not ParameterSource.DEFAULT}
    pace = Pace(pull=pull_every, commit=commit_every or 0, evaluate=eval_every or 0)
    if picture is not None:
        make_folder(picture.parent)  # now rather than after the training
    with _folder(run_dir, resume) as folder:
        if resume:
            plan = folder.plan()
            _adopt(plan, options, given)
            if model is not None and QuantModel.load(model).hash().hex() != plan.model_hash:
                raise InputError(f"{model} is not the model that the run was started with; leave out --model")
            model = folder.model
            if QuantModel.load(model).hash().hex() != plan.model_hash:
                raise InputError(f"{model} is not the model that the run was started with; copy that one there")
            if "data" not in given:
                data = plan.data
            if "data_dir" not in given and plan.data_dir is not None:
                data_dir = Path(plan.data_dir)
        elif model is None:
            raise InputError("say what the firmware was exported from by --model, or go on with a run by --resume")
        else:
            plan = None
        quantized = QuantModel.load(model)
        dataset = datasets.stream(data, data_dir, quantized.features)
        if plan is not None:
            _check_same(plan, dataset, options["replay_rate"])
        division = {name: options[name] for name in ("train_on", "holdout", "per_class", "test_fraction", "seed")}
        job = make_job(terminal, quantized, dataset, **division)
        if not resume:
            make_folder(folder.path)  # not before the data are there
        order = Order(job.first, options["seed"])
        n_new = steps or epochs * len(order)
        if plan is None:
            passes = -(-n_new // len(order))
            settings = settings_of(quantized, rate_over(passes, options["replay_rate"]), options)
        else:
            settings = settings_of(quantized, plan.replay_rate, options)
            n_new = n_new if {"steps", "epochs"} & given else plan.samples
        with opened(target, quantized, None, terminal.say, key) as session, Log(*_logs(folder, log)) as lines:
            device = session.device
            pace.check(device)
            stream = Stream(session.model, job.dataset, order, settings)
            again = None if run_dir is None else go_on(run_dir, target, key)
            command = TrainingRun(terminal, device, folder, stream, job, n_new, again)
            if plan is None:
                plan = Plan(
                    model_hash=quantized.hash().hex(),
                    data=_place(data),
                    data_dir=None if data_dir is None else str(data_dir.resolve()),
                    data_identity=job.dataset.identity(),
                    first_step=device.config().step,
                    samples=n_new,
                    event_budget=device.info.memory.event_budget,
                    replay_rate=settings.replay_rate,
                    options={name: options[name] for name in OF_THE_RUN},
                )
                journal = Journal(plan.first_step, job.dataset.judged_by)
            else:
                _check_budget(plan, device)
                plan = folder.extend(plan, n_new)
                journal = Journal.read(folder.log, plan.first_step, job.dataset.judged_by)
            command.carry_out(plan, journal, lines, pace, model, rollback, picture, resume)


@contextmanager
def _folder(run_dir: Path | None, resume: bool) -> Iterator[RunFolder]:
    """The run's folder, or one that is gone at the end; InputError where it cannot be used as told."""
    if run_dir is None:
        if resume:
            raise InputError("--resume goes on with a run's folder; name it by --run")
        with tempfile.TemporaryDirectory(prefix="deltatrain-") as place:
            yield RunFolder(Path(place))
        return
    folder = RunFolder(run_dir)
    if not resume:
        folder.check_free()
    yield folder


def go_on(run_dir: Path, target: str | None, key: Key | None) -> str:
    """The command that goes on with a run; a key that came without a file is named, not shown."""
    words = ["deltatrain", "train", "--run", str(run_dir), "--resume"]
    words += [] if target is None else ["--target", target]
    words += [] if key is None or key.path is None else ["--key", str(key.path)]
    return shlex.join(words) + (f", with the key in {KEY_VARIABLE}" if key is not None and key.path is None else "")


def _logs(folder: RunFolder, log: Path | None) -> list[Path]:
    return [folder.log, *([] if log is None or log.resolve() == folder.log.resolve() else [log])]


def _adopt(plan: Plan, options: dict[str, Any], given: set[str]) -> None:
    """Take a run's options; InputError where the user gives another value."""
    for name in OF_THE_RUN:
        kept = plan.options[name]
        kept = tuple(kept) if isinstance(kept, list) else kept
        if name in given and options[name] != kept:
            option = "--" + name.replace("_", "-")
            raise InputError(
                f"the run was started with {option} {'its default' if kept is None else kept}, not {options[name]}; "
                f"leave out {option}, or start another run"
            )
        options[name] = kept


def _check_same(plan: Plan, dataset: Dataset, replay_rate: float | None) -> None:
    """InputError where data or replay are not those that the run was started with."""
    if dataset.identity() != plan.data_identity:
        raise InputError(
            f"data set {dataset.name} is not the one that the run was started with: items, their order or their "
            "lengths differ; name that one by --data and --data-dir"
        )
    if replay_rate not in (None, plan.replay_rate):
        raise InputError(f"the run was started with --replay-rate {plan.replay_rate:g}; leave it out")


def _check_budget(plan: Plan, device: AnyDevice) -> None:
    """InputError where the firmware would refuse other samples than that which the run was started on."""
    if (budget := device.info.memory.event_budget) != plan.event_budget:
        raise InputError(
            f"the run was started on firmware with {_budget(plan.event_budget)}, this one has {_budget(budget)}, and "
            "would refuse other samples; export it with the same --event-budget"
        )


def _budget(units: int) -> str:
    return f"room for {units / BUDGET_ONE:.1%} of all events" if units else "room for all events"


def _place(data: str) -> str:
    """The name of a data set, or the whole path of a folder."""
    return data if data in datasets.known_names() else str(Path(data).expanduser().resolve())
