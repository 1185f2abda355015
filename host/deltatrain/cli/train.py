"""`train`: stream samples to a device for as long as it takes, and go on where it was stopped."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from deltatrain import __version__, datasets
from deltatrain.cli.job import Job, counted, make_job, settings_of
from deltatrain.cli.options import data_options, json_option, target_option, training_options
from deltatrain.cli.terminal import EXIT_INTERRUPTED, Terminal, percent
from deltatrain.datasets import Dataset
from deltatrain.errors import DeltatrainError, InputError
from deltatrain.folders import make_folder
from deltatrain.link import Device
from deltatrain.memory import BUDGET_ONE
from deltatrain.order import Order
from deltatrain.quant_model import QuantModel
from deltatrain.rates import Rates
from deltatrain.replay import rate_over
from deltatrain.report.run_figure import run_figure
from deltatrain.run import Journal, Log, LongRun, Pace, Plan, RunFolder, Stop, Stopped, Stream
from deltatrain.session import opened
from deltatrain.trained import pull, put_weights
from deltatrain.training import Settings, count_operations

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
        order = Order(job.first, options["seed"])
        n_new = steps or epochs * len(order)
        if plan is None:
            passes = -(-n_new // len(order))
            settings = settings_of(quantized, rate_over(passes, options["replay_rate"]), options)
        else:
            settings = settings_of(quantized, plan.replay_rate, options)
            n_new = n_new if {"steps", "epochs"} & given else plan.samples
        with opened(target, quantized, None, terminal.say) as session, Log(*_logs(folder, log)) as lines:
            device = session.device
            pace.check(device)
            stream = Stream(session.model, job.dataset, order, settings)
            again = f"deltatrain train --run {run_dir} --resume" + (f" --target {target}" if target else "")
            command = _Command(terminal, device, folder, stream, job, n_new, again if run_dir else None)
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


@dataclass
class _Command:
    """What `train` does once it knows what to do."""

    terminal: Terminal
    device: Device
    folder: RunFolder
    stream: Stream
    job: Job
    n_new: int
    again: str | None  # the command that goes on with the run, where it has a folder

    def carry_out(
        self,
        plan: Plan,
        journal: Journal,
        lines: Log,
        pace: Pace,
        model: Path,
        rollback: str,
        picture: Path | None,
        resume: bool,
    ) -> None:
        """Begin or go on, train, save and judge; the command's result."""
        with Stop() as stop:
            run = LongRun(self.device, self.folder, lines, journal, self.stream, self.job.test, pace, self.n_new, stop)
            try:
                if resume:
                    self.terminal.say(str(run.recover()))
                else:
                    self._start(run, plan, model)
                error = self._train(run, pace)
            except Stopped:
                self._save(run, pace)
                run.event("stopped", step=run.journal.step)
                self._draw(picture)
                self._tell(run, None, False, stopped=True)
                raise click.exceptions.Exit(EXIT_INTERRUPTED) from None
            except DeltatrainError as failure:
                run.event("interrupted", reason=str(failure), step=run.journal.step)
                if self.again is not None:
                    self.terminal.say(f"The run is kept; go on with it: {self.again}")
                raise
        before = run.journal.before
        worse = error is not None and before is not None and error > before
        rolled_back = worse and _wants_rollback(self.terminal, rollback, before or 0.0, error or 0.0)
        if rolled_back:
            put_weights(self.device, QuantModel.load(self.folder.before))
            if pace.commit:
                self.device.commit()
        run.event("end", step=run.journal.step, error=error, rolled_back=rolled_back)
        self._draw(picture)
        self._tell(run, error, rolled_back, stopped=False)

    def _start(self, run: LongRun, plan: Plan, model: Path) -> None:
        """Write the run's folder and its log's first lines."""
        self.stream.settings.apply(self.device, plan.first_step)
        self.folder.start(plan, model, pull(self.device, self.stream.model))
        settings = self.stream.settings
        run.event(
            "start",
            version=__version__,
            step=plan.first_step,
            board=self.device.info.board,
            boot_id=self.device.info.boot_id,
            store=self.device.info.store,
            model=plan.model_hash,
            data=plan.data,
            data_identity=plan.data_identity,
            samples=self.n_new,
            settings=_settings_shown(settings),
            options=dict(plan.options),
        )
        run.pull()

    def _train(self, run: LongRun, pace: Pace) -> float | None:
        """Train to the end; the error on the test samples, where there are some."""
        if len(self.job.test) and run.journal.before is None and run.journal.step == run.journal.first_step:
            with self.terminal.bar("errors before") as progress:
                run.bearing(lambda: run.evaluate(progress))
        return run.bearing(lambda: self._train_and_judge(run, pace))

    def _train_and_judge(self, run: LongRun, pace: Pace) -> float | None:
        with self.terminal.bar("training on the device") as progress:
            run.train(progress)
        self._save(run, pace)
        if not run.journal.totals.steps:
            raise InputError(
                f"every sample was refused ({len(run.journal.refused)}), for its events exceed the firmware's budget; "
                "export with a larger --event-budget"
            )
        if not len(self.job.test):
            return None
        with self.terminal.bar("errors after") as progress:
            return run.evaluate(progress).error

    def _save(self, run: LongRun, pace: Pace) -> None:
        run.commit() if pace.commit else run.pull()

    def _draw(self, picture: Path | None) -> None:
        if picture is not None:
            run_figure(self.folder.log, picture)

    def _tell(self, run: LongRun, error: float | None, rolled_back: bool, *, stopped: bool) -> None:
        """The command's result."""
        journal, model = run.journal, self.stream.model
        totals, turns = journal.totals, self.stream.turns
        steps = journal.step - journal.first_step
        new = turns.new_before(journal.turn) - sum(turns.new_at(turn) is not None for turn in journal.refused)
        operations = count_operations(model, [totals])
        values = {
            "steps": new,
            "replay_steps": steps - new,
            "refused": len(journal.refused),
            "error_before": journal.before,
            "error_after": journal.before if rolled_back else error,
            "error_trained": error,
            "op_reduction": operations.reduction,
            "rolled_back": rolled_back,
            "rates": Rates.of(model, [totals], totals, n_steps=totals.steps).to_dict(),
            "loss": totals.loss,
            "cut": self.job.dataset.n_cut,
            "step": journal.step,
            "stopped": stopped,
            "run": None if self.again is None else str(self.folder.path),
        }
        trained = counted(new, steps - new, len(journal.refused))
        if stopped:
            go_on = f"go on with it: {self.again}" if self.again else "with --run DIR it could be gone on with"
            text = f"stopped after {trained}, at step {journal.step} of the device; {go_on}"
        else:
            errors = "" if error is None else f"error {percent(journal.before or 0.0)} → {percent(error)} on "
            tested = "" if error is None else f"{len(self.job.test)} other utterances after "
            text = f"{errors}{tested}{trained}, with {operations.reduction:.1f} times fewer operations than dense" + (
                "; the old weights are back" if rolled_back else ""
            )
        self.terminal.result(values, lambda console: console.print(text, markup=False, soft_wrap=True))


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
        make_folder(run_dir)
    yield folder


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


def _check_budget(plan: Plan, device: Device) -> None:
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


def _settings_shown(settings: Settings) -> dict[str, Any]:
    """Settings as numbers, for the log."""
    return {
        "learning_rate": float(settings.learning_rate),
        "clip": float(settings.clip),
        "beta": float(settings.beta),
        "theta_x": list(settings.theta_x),
        "theta_h": list(settings.theta_h),
        "seed": settings.seed,
        "replay_rate": settings.replay_rate,
    }


def _wants_rollback(terminal: Terminal, rollback: str, before: float, after: float) -> bool:
    if rollback != "ask":
        return rollback == "always"
    return terminal.confirm(f"The error grew from {percent(before)} to {percent(after)}. Put the old weights back?")
