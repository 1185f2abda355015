"""What a device says of itself and of a sample, as frozen descriptions."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deltatrain.link import protocol
from deltatrain.memory import Memory
from deltatrain.scale import Scale
from deltatrain_core import StepResult

_NOT_NUMBERS = frozenset({"board", "hash", "cell", "readout", "memory", "fresh", "fault", "store", "counter"})
_FAULTS = {
    "none": "no fault is known: its power was cut, or it was reset",
    "stack": "its stack overflowed",
    "watchdog": "its watchdog ended a command that took too long",
    "other": "an unexpected interrupt",
}


@dataclass(frozen=True)
class Hello:
    """Who answered: `dt_hello_reply_t`.

    Attributes
    ----------
    board : str
        The target's name, e.g. `mps2-an386`.
    hash : bytes
        SHA-256 of the quantised model in the firmware.
    readout : {"last", "frames", "regression"}
    memory : Memory
        How much of a sample's history the firmware holds at once.
    step : int
        Training steps that the device has done.
    fresh : bool
        Whether this is the first session since the device started.
    boot_id : int
        Names this run of the device: another one tells that it restarted.
    locks : int
        What this session may not do, enum dt_locks; 0: nothing is locked.
    store : {"none", "empty", "loaded"}
        The device's non-volatile store.
    commits, committed_step : int
        Number of the last commit, and the training steps that it holds.
    fault : str
        Why the device restarted before this run: `none`, `hard`, `stack`, ...
    fault_address : int
        Program counter at that fault; 0 when unknown.
    counter_hz : int
        Ticks per second of the device's counter.
    counter : {"timer", "cycles"}
        What it counts.
    """

    version: int
    abi_version: int
    board: str
    hash: bytes
    cell: str
    readout: str
    memory: Memory
    n_layers: int
    n_in: int
    n_hidden: int
    n_outputs: int
    max_steps: int
    max_payload: int
    arena_bytes: int
    counter_hz: int
    counter: str
    step: int
    fresh: bool
    boot_id: int
    fault: str
    fault_address: int
    locks: int
    store: str
    commits: int
    committed_step: int

    @staticmethod
    def of(raw: Any) -> Hello:
        """From `dt_hello_reply_t`."""
        told: dict[str, Any] = {
            field.name: int(getattr(raw, field.name)) for field in fields(Hello) if field.name not in _NOT_NUMBERS
        }
        return Hello(
            **told,
            board=protocol.bytes_of(raw.board).rstrip(b"\0").decode("ascii", "replace"),
            hash=protocol.bytes_of(raw.hash),
            cell=protocol.CELLS.get(raw.cell, f"cell {raw.cell}"),
            readout=protocol.READOUTS.get(raw.readout, f"readout {raw.readout}"),
            memory=Memory(
                protocol.MEMORIES.get(raw.memory, f"plan {raw.memory}"), int(raw.segment_steps), int(raw.event_budget)
            ),
            fresh=raw.boot_id == raw.nonce,
            fault=protocol.FAULTS.get(raw.fault, f"fault {raw.fault}"),
            counter=protocol.COUNTERS.get(raw.counter, f"counter {raw.counter}"),
            store=protocol.STORES.get(raw.store, f"store {raw.store}"),
        )

    @property
    def fault_words(self) -> str:
        """Why the device restarted, for people."""
        where = f" at 0x{self.fault_address:08x}" if self.fault_address else ""
        return _FAULTS.get(self.fault, f"{self.fault} fault") + where

    def impossible(self) -> str | None:
        """What no device of ours would say of itself, as anything may answer at a port; None when all can be."""
        bounds = {
            "n_layers": protocol.constant("DRNN_MAX_LAYERS"),
            "n_in": protocol.constant("DRNN_MAX_WIDTH"),
            "n_hidden": protocol.constant("DRNN_MAX_WIDTH"),
            "n_outputs": protocol.constant("DRNN_MAX_OUTPUTS"),
            "max_steps": protocol.constant("DRNN_MAX_STEPS"),
        }
        for name, largest in bounds.items():
            if not 1 <= getattr(self, name) <= largest:
                return f"{name} is {getattr(self, name)}, which must lie between 1 and {largest}"
        target = {"frames": 2, "regression": 4 * self.n_outputs}.get(self.readout, 0)
        least = max(
            protocol.size_of("dt_statistics_t"),
            protocol.size_of("dt_frames_t") + target + 2 * self.n_in,
            protocol.size_of("dt_frames_reply_t") + 2 * self.n_hidden,
            protocol.size_of("dt_outcome_t") + 4 * self.n_outputs,
        )
        return None if self.max_payload >= least else f"max_payload is {self.max_payload}, its model needs {least}"


@dataclass(frozen=True)
class Config:
    """What may change at run time: `drnn_config_t`; thresholds of each layer, integers in the format of x and of h."""

    learning_rate: Scale
    clip: Scale
    beta: Scale
    theta_x: tuple[int, ...]
    theta_h: tuple[int, ...]
    seed: int
    step: int


@dataclass(frozen=True)
class Committed:
    """What a commit did: `dt_commit_reply_t`, by the same names; see dt_protocol.h."""

    commits: int
    step: int
    slot_erases: int
    bytes: int


@dataclass(frozen=True)
class DeviceResult(StepResult):
    """The outcome of one sample on the device: `dt_outcome_t`.

    Attributes
    ----------
    logits : ndarray, shape (n_outputs,), int32, Q16
    ticks_forward, ticks_call : int
        Ticks of the device's counter spent on the frames of this sample, and in training or inference.
    instructions_forward, instructions_call : int or None
        The same as executed instructions, where the target's ticks tell them.
    """

    logits: NDArray[np.int32]
    ticks_forward: int
    ticks_call: int
    instructions_forward: int | None
    instructions_call: int | None

    @property
    def ticks(self) -> tuple[int, int]:
        """Of the two calls."""
        return self.ticks_forward, self.ticks_call

    @property
    def instructions(self) -> int | None:
        """Executed instructions of the whole sample."""
        if self.instructions_forward is None or self.instructions_call is None:
            return None
        return self.instructions_forward + self.instructions_call


@dataclass(frozen=True)
class Statistics:
    """Totals since the device started: `dt_statistics_t`, by the same names; RAM in bytes."""

    frames: int
    active_x: int
    active_h: int
    macs_forward: int
    macs_backward: int
    macs_gradient: int
    macs_recomputed: int
    samples_refused: int
    ticks_forward: int
    ticks_train: int
    ticks_infer: int
    samples_trained: int
    samples_inferred: int
    clipped: int
    saturated_h: int
    saturated_c: int
    saturated_grad: int
    saturated_w: int
    underflow_dm: int
    requests: int
    damaged: int
    oversize: int
    repeated: int
    ram_arena: int
    ram_link: int
    ram_stack: int
    ram_other: int
    arena_used: int
    stack_high_water: int

    @property
    def ram_bytes(self) -> int:
        """The firmware's whole RAM."""
        return self.ram_arena + self.ram_link + self.ram_stack + self.ram_other
