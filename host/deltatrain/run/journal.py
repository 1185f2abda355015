"""What the log of a run tells: how far it came, which samples were refused, what was evaluated and saved."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from deltatrain.order import turn_after
from deltatrain.run.log import read_events
from deltatrain.totals import Totals
from deltatrain.training import Running


def digest(tensors: Mapping[str, NDArray[Any]]) -> str:
    """SHA-256, hexadecimal, of weights by name."""
    sha = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        sha.update(name.encode() + b"\0" + tensor.astype(tensor.dtype.newbyteorder("<")).tobytes())
    return sha.hexdigest()


class Journal:
    """Takes in the events of a log, read or just written; its size does not grow with the steps.

    Attributes
    ----------
    first_step, step : int
        The device's step counter at the start, and after the last step that the log knows.
    refused : list of int
        Turns that took no step, ascending.
    totals : Totals
        Over the steps, each counted once also where a device lost some and trained them again.
    digests : dict of int to str
        Weights that were read back, by step.
    before : float or None
        The error before the first step.
    running : Running
        Loss and error of the last samples.
    """

    def __init__(self, first_step: int, judged_by: str = "utterances") -> None:
        self.first_step = self.step = first_step
        self.refused: list[int] = []
        self.totals = Totals()
        self.digests: dict[int, str] = {}
        self.before: float | None = None
        self.running = Running(judged_by=judged_by)
        self.ended = False
        self._counted = first_step

    @staticmethod
    def read(path: Path, first_step: int, judged_by: str = "utterances") -> Journal:
        """Of a log's file."""
        journal = Journal(first_step, judged_by)
        for event in read_events(path):
            journal.add(event)
        return journal

    def add(self, event: Mapping[str, Any]) -> None:
        """Take an event in."""
        kind = event["event"]
        if kind == "step":
            self.step = event["step"]
            if self.step > self._counted:
                self._counted = self.step
                if event.get("loss") is not None:
                    self.totals.add(event)
                    if not event["replayed"]:
                        self.running.put(event["loss"], event["error"])
        elif kind == "refused":
            if not self.refused or self.refused[-1] < event["turn"]:
                self.refused.append(event["turn"])
        elif kind == "pull":
            self.digests[event["step"]] = event["digest"]
        elif kind == "evaluation" and event["step"] == self.first_step:
            self.before = event["error"]
        elif kind == "resume":
            self.go_to(event["step"])
        elif kind == "end":
            self.ended = True

    def go_to(self, step: int) -> int:
        """Stand at a step, forgetting what came later; the turn that follows."""
        self.step, self.ended = step, False
        turn = turn_after(step - self.first_step, self.refused)
        self.refused = [skipped for skipped in self.refused if skipped < turn]
        return turn

    @property
    def turn(self) -> int:
        """The turn that comes next."""
        return turn_after(self.step - self.first_step, self.refused)
