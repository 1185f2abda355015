"""Where a device stands in a run: what it holds is compared word by word with what the run knows or computes anew."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deltatrain.devices import AnyDevice, store_of
from deltatrain.errors import DeviceError, ModelError, SampleRefused
from deltatrain.memory import Memory
from deltatrain.order import turn_after
from deltatrain.quant_model import QuantModel
from deltatrain.run.folder import RunFolder
from deltatrain.run.journal import Journal, digest
from deltatrain.run.stream import Stream
from deltatrain.trained import put_weights, state_of, weights_of
from deltatrain_core import CoreNetwork

Tensors = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Position:
    """Where training goes on.

    Attributes
    ----------
    step : int
        The device's step counter.
    source : {"device", "computed", "store", "folder"}
        Why: its weights are those last read back; those that the host computes from there; those of an earlier step;
        or they were its model's own, and got those of the run's folder.
    lost : int
        Steps that the run had gone further before.
    """

    step: int
    source: str
    lost: int

    def __str__(self) -> str:
        how = {
            "device": "the device holds what was last read back",
            "computed": "the device holds what the host computes from the weights last read back",
            "store": "the device is back at an earlier step",
            "folder": "the device had lost its weights and got those of the run's folder",
        }[self.source]
        again = f", {self.lost} steps are trained again" if self.lost else ""
        return f"Going on from step {self.step}: {how}{again}."


def find_position(device: AnyDevice, folder: RunFolder, journal: Journal, stream: Stream) -> Position:
    """Find where a device stands, give it the folder's weights where it has none of the run's, and configure it.

    Raises
    ------
    DeviceError
        Where the device holds other weights, which are not overwritten.
    """
    saved = QuantModel.load(folder.weights)
    state = state_of(saved)
    if state is None:
        raise ModelError(f"{folder.weights} has no state of training; copy the whole folder of the run again")
    step = device.config().step
    weights = weights_of(device, stream.model)
    source = _source(device, folder, journal, stream, saved, state.config.step, step, weights)
    if source == "folder":
        put_weights(device, saved)
        step = state.config.step
    stream.settings.apply(device, step)
    return Position(step, source, max(0, journal.step - step))


def _source(
    device: AnyDevice,
    folder: RunFolder,
    journal: Journal,
    stream: Stream,
    saved: QuantModel,
    saved_step: int,
    step: int,
    weights: Tensors,
) -> str:
    now = digest(weights)
    if step == saved_step and now == digest(saved.tensors()):
        return "device"
    # One step more than the log knows: the host ended between the step and its line.
    if saved_step < step <= journal.step + 1:
        computed = _computed(saved, saved_step, step, journal, stream, device.info.memory)
        if all(np.array_equal(computed[name], tensor) for name, tensor in weights.items()):
            return "computed"
    lost_all = step <= journal.first_step or store_of(device) != "loaded"
    if step < saved_step and journal.digests.get(step) == now and not lost_all:
        return "store"
    if now in (digest(stream.model.tensors()), journal.digests.get(journal.first_step)):
        return "folder"
    raise DeviceError(
        f"the device is at step {step} and holds weights that are not of this run, which came to step {journal.step}; "
        "they are not overwritten. If they are worth nothing, put the run's weights there by "
        f"`deltatrain push --model {folder.weights}`; else name the right device by --target"
    )


def _computed(
    saved: QuantModel, saved_step: int, step: int, journal: Journal, stream: Stream, memory: Memory
) -> dict[str, NDArray[Any]]:
    """The weights that the run has at a step, by the C core on this computer."""
    core = CoreNetwork(replace(stream.model, memory=memory))
    put_weights(core, saved)
    stream.settings.apply(core, saved_step)
    turn, at = turn_after(saved_step - journal.first_step, journal.refused), saved_step
    while at < step:
        try:
            stream.sample(turn, at).train_whole(core)
            at += 1
        except SampleRefused:
            pass
        turn += 1
    return weights_of(core, stream.model)
