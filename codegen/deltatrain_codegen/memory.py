"""RAM of the firmware by purpose, before anything is built; which plan of memory takes less; what makes a model fit."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, replace

import numpy as np

import deltatrain_core
from deltatrain.errors import BuildError, InputError, ModelError
from deltatrain.memory import BUDGET_ONE, Memory, budget_of
from deltatrain.quant_model import QuantModel
from deltatrain.targets import Board
from deltatrain_codegen.plan import arena_plan

# What the firmware takes beside arena, stack and the link's two payloads, bytes: the rest of the link with the server's
# state, and all else. No smaller than what a build then measures, as tests check.
LINK_STATE_BYTES = 832
OTHER_BYTES = 128

# What may be made smaller, by the names of `resized`, in words, and by which option of `fit`; inputs are the data's.
DIMENSIONS = {"max_steps": "steps in a sample", "n_hidden": "hidden units", "n_in": "inputs"}
OPTIONS = {"max_steps": "--max-frames", "n_hidden": "--hidden"}
# Changes that are offered: each alone, and the first two by the same part.
CHANGES = (("max_steps",), ("n_hidden",), ("n_in",), ("max_steps", "n_hidden"))
N_WAYS = 3
PLANS = ("auto", "history", "checkpoints")
# Event budgets that are offered: of this many parts. What is given up is a worst case that hardly comes, for thresholds
# leave most entries inactive; so it counts by this part of what a size would.
BUDGET_PARTS = 100
BUDGET_COST = 0.1


@dataclass(frozen=True)
class WayOut:
    """What fits: sizes by the names of `resized`, or a plan of memory; `kept` is the part that remains, 0 to 1."""

    sizes: dict[str, int]
    kept: float
    memory: Memory | None = None

    @property
    def cost(self) -> float:
        """How much is given up: what is offered first costs least."""
        return (1 - self.kept) * (1.0 if self.memory is None else BUDGET_COST)

    def __str__(self) -> str:
        if self.memory is not None and self.memory.event_budget:
            return f"room for {self.kept:.0%} of all events (--event-budget {self.kept:g}), samples with more refused"
        if self.memory is not None:
            return f"{self.memory}, which takes more time (--plan checkpoints)"
        options = [f"{OPTIONS[name]} {size}" for name, size in self.sizes.items() if name in OPTIONS]
        return (
            "at most "
            + " and ".join(f"{size} {DIMENSIONS[name]}" for name, size in self.sizes.items())
            + (f" (fit {' '.join(options)})" if options else "")
        )


def firmware_ram(board: Board) -> dict[str, int]:
    """Bytes of RAM by purpose that the firmware takes at most on a board, the arena aside."""
    return {
        "stack": board.stack_bytes,
        "link": 2 * board.max_payload + LINK_STATE_BYTES,
        "other": OTHER_BYTES,
    }


def plan_memory(model: QuantModel, plan: str = "auto", event_budget: float | None = None) -> QuantModel:
    """The model with the plan of memory that takes the least RAM to train.

    Parameters
    ----------
    plan : {"auto", "history", "checkpoints"}
        Which kinds may be chosen; of two that take the same, `auto` takes the whole history, which takes less time.
    event_budget : float, optional
        Part of all events for which the history has room; None for all.

    Raises
    ------
    InputError
        If there is no such plan, or no such part.
    ModelError
        If the C core does not support the model.
    """
    if plan not in PLANS:
        raise InputError(f"the plan {plan!r} is unknown; it must be one of {', '.join(PLANS)}")
    budget = budget_of(event_budget)
    memories = [Memory("history", 0, budget)] if plan != "checkpoints" else []
    if plan != "history":
        # Of segments as many as each other only the shortest are of interest.
        steps = {-(-model.max_steps // n) for n in range(1, model.max_steps + 1)}
        memories += [Memory("checkpoints", n, budget) for n in sorted(steps, reverse=True)]
    sizes = deltatrain_core.arena_sizes(model, memories)
    supported = [(size, place) for place, size in enumerate(sizes) if size]
    planned = replace(model, memory=memories[min(supported)[1] if supported else 0])
    if not supported:
        arena_plan(planned)  # says why
    return planned


def for_inference(model: QuantModel) -> QuantModel:
    """The model with memory to run it, not to train it."""
    return replace(model, memory=Memory("inference"))


def ram_needed(model: QuantModel, board: Board) -> dict[str, int]:
    """Bytes of RAM by purpose that the firmware will take at most: the arena's exactly, and `firmware_ram`.

    ModelError if the C core does not support the model.
    """
    return arena_plan(model).by_purpose() | firmware_ram(board)


def check_fits(model: QuantModel, board: Board) -> dict[str, int]:
    """Return `ram_needed`, or refuse a model that needs more RAM, or for its constants more flash, than a board has.

    Parameters
    ----------
    model : QuantModel
    board : Board

    Raises
    ------
    BuildError
        If it does not fit; of RAM the message holds the need by purpose and up to three changes that would make it
        fit, the least first, each computed with the same planner.
    ModelError
        If the C core does not support the model.
    """
    needed = ram_needed(model, board)
    total, ram_bytes = sum(needed.values()), board.ram_bytes
    if total <= ram_bytes:
        if (least := sum(constants(model).values())) > board.flash_bytes:
            raise BuildError(flash_refusal(least, model, board))
        return needed
    purposes = ", ".join(f"{name} {size:,}" for name, size in needed.items())
    ways = ways_out(model, board)
    advice = (
        "What would make it fit: " + "; or ".join(map(str, ways))
        if ways
        else "No smaller size of this network fits; choose a board with more RAM (`deltatrain boards`)"
    )
    raise BuildError(
        f"the model needs {total:,} bytes of RAM, {board.name} has {ram_bytes:,}: "
        f"{total - ram_bytes:,} too many ({purposes}). {advice}."
    )


def constants(model: QuantModel) -> dict[str, int]:
    """Bytes of flash by purpose, the code aside."""
    return {"weights": sum(tensor.nbytes for tensor in model.tensors().values()), "exemplars": model.replay_bytes}


def flash_refusal(needed: int, model: QuantModel, board: Board) -> str:
    """Why a model does not fit a board's flash, and what would make it fit."""
    purposes = " and ".join(f"{size:,} for the {name}" for name, size in constants(model).items() if size)
    advice = "choose fewer hidden units or another board"
    if model.replay is not None:
        advice = f"give `quantize` fewer bytes for exemplars by --replay, {advice}"
    return (
        f"the firmware needs {needed:,} bytes of flash, {board.name} has {board.flash_bytes:,}: "
        f"{purposes} lie there; {advice}"
    )


def ways_out(model: QuantModel, board: Board) -> list[WayOut]:
    """Changes that make the model fit a board's RAM, at most three, the cheapest first."""
    now = {
        "max_steps": model.max_steps,
        "n_hidden": max(layer.n_hidden for layer in model.layers),
        "n_in": model.n_in,
    }
    ways = _plans_that_fit(model, board)
    for names in CHANGES:
        # Of several dimensions the largest sets the grain, so that none of a lone one's sizes is passed over.
        grain = max(now[name] for name in names)
        sizes = [{name: now[name] * part // grain for name in names} for part in range(grain)]
        fitting = bisect_left(sizes, True, key=lambda trial: not _fits(model, trial, board)) - 1
        if fitting > 0 and all(sizes[fitting].values()):
            ways.append(WayOut(sizes[fitting], fitting / grain))
    return sorted(ways, key=lambda way: way.cost)[:N_WAYS]


def _plans_that_fit(model: QuantModel, board: Board) -> list[WayOut]:
    """Checkpoints in place of the whole history, and the largest event budget: what of them makes the model fit."""
    ways: list[WayOut] = []
    memory = model.memory
    if memory.kind == "history":
        checkpoints = plan_memory(model, "checkpoints", memory.event_budget / BUDGET_ONE or None)
        if _fits(checkpoints, {}, board):
            ways.append(WayOut({}, 1.0, checkpoints.memory))
    if memory.kind != "inference":
        budgets = [replace(memory, event_budget=budget_of(part / BUDGET_PARTS)) for part in range(1, BUDGET_PARTS)]
        budgets = [budget for budget in budgets if budget.event_budget < (memory.event_budget or BUDGET_ONE)]
        fitting = bisect_left(budgets, True, key=lambda trial: not _fits(replace(model, memory=trial), {}, board))
        if fitting > 0:
            ways.append(WayOut({}, fitting / BUDGET_PARTS, budgets[fitting - 1]))
    return ways


def resized(
    model: QuantModel, n_in: int | None = None, n_hidden: int | None = None, max_steps: int | None = None
) -> QuantModel:
    """A model of other dimensions, its tensors all zero: for asking what it would cost."""
    width = n_in or model.n_in
    layers = []
    for layer in model.layers:
        hidden = n_hidden or layer.n_hidden
        n_gates, n_biases = (size // layer.n_hidden for size in (layer.weight.shape[1], layer.bias.size))
        layers.append(
            replace(
                layer,
                n_in=width,
                n_hidden=hidden,
                weight=np.zeros((width + hidden, n_gates * hidden), np.int16),
                bias=np.zeros(n_biases * hidden, np.int32),
            )
        )
        width = hidden
    return replace(
        model,
        layers=tuple(layers),
        readout_weight=np.zeros((model.n_outputs, width), np.int16),
        max_steps=max_steps or model.max_steps,
    )


def _fits(model: QuantModel, sizes: dict[str, int], board: Board) -> bool:
    """Whether the model fits with these sizes; none of something does, so that the search has an end."""
    if not all(sizes.values()):
        return True
    try:
        trial = resized(model, **sizes) if sizes else model
        if sizes and model.memory.kind == "checkpoints":  # segments of another length
            trial = plan_memory(trial, "checkpoints", model.memory.event_budget / BUDGET_ONE or None)
        return sum(ram_needed(trial, board).values()) <= board.ram_bytes
    except ModelError:
        return False
