"""What `train` does once it knows what to do: begin or go on, save, judge, tell."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from deltatrain import __version__
from deltatrain.cli.group import EXIT_INTERRUPTED
from deltatrain.cli.job import Job, counted
from deltatrain.cli.judged import errors
from deltatrain.cli.terminal import Terminal
from deltatrain.datasets import items_named
from deltatrain.devices import AnyDevice, boot_id_of, commit, store_of
from deltatrain.errors import DeltatrainError, InputError
from deltatrain.quant_model import QuantModel
from deltatrain.rates import Rates
from deltatrain.run import Journal, Log, LongRun, Pace, Plan, RunFolder, Stop, Stopped, Stream
from deltatrain.trained import pull, put_weights
from deltatrain.training import Settings, count_operations


@dataclass
class TrainingRun:
    """What `train` does once it knows what to do."""

    terminal: Terminal
    device: AnyDevice
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
        rolled_back = worse and self._wants_rollback(rollback, before or 0.0, error or 0.0)
        if rolled_back:
            put_weights(self.device, QuantModel.load(self.folder.before))
            if pace.commit:
                commit(self.device)
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
            boot_id=boot_id_of(self.device),
            store=store_of(self.device),
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
        if run.finished:
            done = self.stream.turns.new_before(run.journal.turn)
            self.terminal.say(
                f"Nothing is left to train: {done} new samples had their turn, and {self.n_new} are asked for; "
                "a larger --steps goes on."
            )
        else:
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
            from deltatrain.report.run_figure import run_figure  # here, because matplotlib takes long to load

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
            judged_by = self.job.dataset.judged_by
            judged = "" if error is None else f"error {errors(judged_by, journal.before or 0.0, error)} on "
            tested = "" if error is None else f"{len(self.job.test)} other {items_named(judged_by)} after "
            text = f"{judged}{tested}{trained}, with {operations.reduction:.1f} times fewer operations than dense" + (
                "; the old weights are back" if rolled_back else ""
            )
        self.terminal.result(values, lambda console: console.print(text, markup=False, soft_wrap=True))

    def _wants_rollback(self, rollback: str, before: float, after: float) -> bool:
        if rollback != "ask":
            return rollback == "always"
        grown = errors(self.job.dataset.judged_by, before, after)
        return self.terminal.confirm(f"The error grew: {grown}. Put the old weights back?")


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
