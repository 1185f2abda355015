"""What `bench` tells of one engine on one case."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from deltatrain.bench.cases import Case
from deltatrain.errors import InputError
from deltatrain.model import N_GATES
from deltatrain.targets.counter import CYCLES, INSTRUCTIONS, MICROSECONDS

FIXED, FLOAT, TORCH = "fixed", "float-naive", "pytorch"
BOARD_ENGINES = (FIXED, FLOAT)
HOST_ENGINES = (FIXED, FLOAT, TORCH)


@dataclass(frozen=True)
class Row:
    """One training step of one engine; see `deltatrain bench --help` for the figures.

    `speedup` holds how many times as much the other engines of the same run took, by their names.
    """

    engine: str
    cell: str
    n_in: int
    n_hidden: int
    layers: int
    steps: int
    sparsity: float
    macs: int
    speedup: dict[str, float] = field(default_factory=dict, kw_only=True)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class BoardRow(Row):
    """On a board, in the unit of its counter. `phases` and `hooks` are of the trainer alone, which has them.

    `clock_hz` is the processor's clock, where the unit is cycles.
    """

    unit: str
    cost: float
    clock_hz: int | None
    columns: int
    n_columns: int
    phases: dict[str, float]
    hooks: float
    ram_bytes: int
    ram: dict[str, int]
    stack_high_water: int

    @property
    def instructions(self) -> int:
        """The cost, of a board whose counter tells instructions; InputError of another."""
        if self.unit != INSTRUCTIONS:
            raise InputError(f"this board's counter tells {self.unit}, not instructions; name one that QEMU emulates")
        return int(self.cost)

    @property
    def cost_per_mac(self) -> float:
        return round(self.cost / self.macs, 6 if self.unit == MICROSECONDS else 3)

    def to_dict(self) -> dict[str, Any]:
        """Its figures by name; the cost stands under its unit."""
        told: dict[str, Any] = {}
        for name, value in super().to_dict().items():
            if name == "cost":
                told |= {self.unit: value, f"{self.unit}_per_mac": self.cost_per_mac}
            elif name != "unit" and (name != "clock_hz" or self.unit == CYCLES):
                told[name] = value
        return told


@dataclass(frozen=True)
class HostRow(Row):
    """On this computer: the median over rounds."""

    microseconds: float
    rounds: int


def description(case: Case, engine: str) -> dict[str, Any]:
    """The fields of Row that tell what was measured, by name."""
    outcome = case.outcome
    fixed = outcome.macs_forward + outcome.macs_backward + outcome.macs_gradient
    return {
        "engine": engine,
        "cell": case.cell,
        "n_in": case.model.n_in,
        "n_hidden": case.n_hidden,
        "layers": len(case.model.layers),
        "steps": case.steps,
        "sparsity": round(case.sparsity, 4),
        "macs": fixed if engine == FIXED else dense_macs(case),
    }


def dense_macs(case: Case) -> int:
    """MACs of the three products where nothing is skipped but the first layer's dx."""
    total = 0
    for number, layer in enumerate(case.model.layers):
        rows = N_GATES[layer.cell] * layer.n_hidden
        total += rows * (layer.n_in * (2 if number == 0 else 3) + layer.n_hidden * 3)
    return total * case.steps
