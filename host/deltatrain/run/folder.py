"""The folder of a run: all that it takes to go on with it, on this computer or, copied, on another one.

run.json             what was chosen: settings, seed, the data set's identity, the model's hash
model.safetensors    the model that the run was started with
before.safetensors   the device's weights before the first step
weights.safetensors  those last read back, with the number of their step
log.jsonl            every step and event
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from deltatrain.errors import InputError, ModelError
from deltatrain.quant_model import QuantModel

VERSION = 1


@dataclass(frozen=True)
class Plan:
    """What a run was started with; `run.json`.

    Attributes
    ----------
    model_hash : str
        Of the model in the folder.
    data, data_dir : str, str or None
        As given; another place may be given when the run goes on.
    data_identity : str
        See `Dataset.identity`.
    first_step : int
        The device's step counter at the start.
    samples : int
        New samples to train on in all.
    event_budget : int
        Of the firmware: which samples it refuses; see `Memory`.
    replay_rate : float
        Exemplars trained for each new sample.
    options : mapping
        All else that the words of a step depend on, as given on the command line.
    """

    model_hash: str
    data: str
    data_dir: str | None
    data_identity: str
    first_step: int
    samples: int
    event_budget: int
    replay_rate: float
    options: Mapping[str, Any]
    version: int = VERSION


class RunFolder:
    """The files of a run; see above."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.log = path / "log.jsonl"
        self.model = path / "model.safetensors"
        self.before = path / "before.safetensors"
        self.weights = path / "weights.safetensors"
        self._plan = path / "run.json"

    def check_free(self) -> None:
        """InputError where it holds a run already."""
        if self._plan.exists():
            raise InputError(f"{self.path} holds a run already; go on with it by --resume, or name another folder")

    def start(self, plan: Plan, model: Path, before: QuantModel) -> None:
        """Write a new run; InputError where there is one already, or the folder cannot be written."""
        self.check_free()
        shutil.copyfile(model, self.model)
        save(before, self.before)
        save(before, self.weights)
        self._write(plan)  # last of all: a folder with this file is a whole run

    def extend(self, plan: Plan, samples: int) -> Plan:
        """The plan with another number of samples, written where it is another one."""
        if samples == plan.samples:
            return plan
        changed = replace(plan, samples=samples)
        self._write(changed)
        return changed

    def _write(self, plan: Plan) -> None:
        replace_file(self._plan, json.dumps(asdict(plan), indent=1).encode() + b"\n")

    def plan(self) -> Plan:
        """What the run was started with; InputError where there is none, or it is of another version."""
        try:
            values = json.loads(self._plan.read_text(encoding="utf-8"))
            plan = Plan(**values)
        except FileNotFoundError as error:
            raise InputError(f"{self.path} holds no run to go on with; start one without --resume") from error
        except (OSError, ValueError, TypeError) as error:
            raise InputError(f"{self._plan} does not describe a run ({error}); start a new one") from error
        if plan.version != VERSION:
            raise InputError(
                f"{self._plan} is of version {plan.version}, this program reads {VERSION}; start a new run"
            )
        return plan


def save(model: QuantModel, path: Path) -> None:
    """Write a model so that after any end the file is the old one or the new one, whole."""
    part = path.with_suffix(".part")
    model.save(part)
    try:
        part.replace(path)
    except OSError as error:
        raise ModelError(f"cannot write {path} ({error.strerror}); name another folder") from error


def replace_file(path: Path, data: bytes) -> None:
    """The same for bytes."""
    part = path.with_suffix(".part")
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise InputError(f"cannot write {path} ({error.strerror}); name another folder") from error
