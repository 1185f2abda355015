"""What a training step costs on a target: networks and inputs built so that a given fraction of entries is inactive."""

from __future__ import annotations

import json
import socket
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection
from numpy.typing import NDArray

from deltatrain.errors import DeviceError, InputError
from deltatrain.features import FeatureConfig
from deltatrain.link import Device
from deltatrain.link.results import DeviceResult
from deltatrain.model import N_ACCUMULATORS, N_GATES
from deltatrain.quant_model import QuantLayer, QuantModel
from deltatrain.scale import Scale
from deltatrain.targets import Board, Emulator
from deltatrain_codegen import export
from deltatrain_core import CoreNetwork, StepResult

# Of a training step, in the order of dt_phase.h; those that are no phase of the core's come first.
PHASES = (
    "other",
    "encode",
    "forward product",
    "activations",
    "readout",
    "cell gradient",
    "backward product",
    "gradient product",
    "update",
)
SPARSITIES = (0.0, 0.5, 0.8, 0.9)
SEED, LABEL, N_OUTPUTS = 1, 1, 10
X_FRAC_BITS, W_FRAC_BITS, C_FRAC_BITS = 11, 13, 12
THETA_MAX = 2**14
# Biases by accumulator, in the device's order.
CANDIDATE = {"lstm": 2, "gru": 0, "rnn": 0}
REST = {"lstm": {0: 1.0, 1: -1.0, 2: 1.5, 3: 1.0}, "gru": {0: 1.5, 2: -1.0}, "rnn": {0: 1.0}}
TIMEOUT_S = 60.0
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Case:
    """A network and one sample: x [steps, n_in], with the thresholds that give about the sparsity asked for."""

    model: QuantModel
    frames: NDArray[np.int16]
    theta_x: int
    theta_h: int
    outcome: StepResult

    @property
    def sparsity(self) -> float:
        """Fraction of the entries of v that were inactive; h before the first frame, which is 0, is not counted."""
        layer = self.model.layers[0]
        entries = len(self.frames) * layer.n_in + (len(self.frames) - 1) * layer.n_hidden
        return 1 - (self.outcome.active_x + self.outcome.active_h) / entries


@dataclass(frozen=True)
class Row:
    """The cost of one training step; see `deltatrain bench --help` for the figures."""

    engine: str
    cell: str
    n_in: int
    n_hidden: int
    steps: int
    sparsity: float
    columns: int
    n_columns: int
    instructions: int
    macs: int
    instructions_per_mac: float
    phases: dict[str, int]
    hooks: int
    ram_bytes: int
    ram: dict[str, int]
    stack_high_water: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def bench_model(cell: str, n_in: int, n_hidden: int, steps: int) -> QuantModel:
    """A network of random weights whose units rest at h = ±0.5 or so and move as their inputs do."""
    rng = np.random.default_rng(SEED)
    bias = rng.normal(0, 0.2, (N_ACCUMULATORS[cell], n_hidden))
    # The candidate far from 0 and a short memory: every h leaves 0 at once, and then follows the inputs.
    for accumulator, value in REST[cell].items():
        bias[accumulator] += value
    bias[CANDIDATE[cell]] *= rng.choice([-1.0, 1.0], n_hidden)
    weight = rng.normal(0, 0.12, (n_in + n_hidden, N_GATES[cell] * n_hidden))
    layer = QuantLayer(
        cell=cell,
        n_in=n_in,
        n_hidden=n_hidden,
        x_frac_bits=X_FRAC_BITS,
        wx_frac_bits=W_FRAC_BITS,
        wh_frac_bits=W_FRAC_BITS,
        c_frac_bits=C_FRAC_BITS,
        theta_x=0,
        theta_h=0,
        weight=np.rint(weight * 2**W_FRAC_BITS).clip(-32767, 32767).astype(np.int16),
        bias=np.rint(bias.reshape(-1) * 2**24).astype(np.int32),
    )
    return QuantModel(
        layers=(layer,),
        readout_frac_bits=W_FRAC_BITS,
        readout_weight=rng.normal(0, 2000, (N_OUTPUTS, n_hidden)).clip(-32767, 32767).astype(np.int16),
        readout_bias=np.zeros(N_OUTPUTS, np.int32),
        max_steps=steps,
        learning_rate=Scale.from_float(0.16, "learning rate"),
        clip=Scale.from_float(2.0, "clip"),
        class_names=tuple(str(k) for k in range(N_OUTPUTS)),
        features=FeatureConfig(),
    )


def bench_frames(n_in: int, steps: int, sparsity: float) -> NDArray[np.int16]:
    """Inputs that all change in the first frame, and later in as many places as the sparsity leaves."""
    rng = np.random.default_rng(SEED)
    n_active = min(max(round((1 - sparsity) * steps * n_in), n_in), steps * n_in)
    places = rng.permutation((steps - 1) * n_in)[: n_active - n_in]
    active = np.ones(steps * n_in, bool)
    active[n_in:] = False
    active[n_in + places] = True
    # The sign turns with every change, so that each change is a large one.
    turns = np.cumsum(active.reshape(steps, n_in), axis=0) + rng.integers(2, size=n_in)
    size = rng.integers(1000, 3000, (steps, n_in))
    held = np.zeros((steps, n_in), np.int16)
    last = np.zeros(n_in, np.int64)
    for t in range(steps):
        last = np.where(active.reshape(steps, n_in)[t], np.where(turns[t] % 2, size[t], -size[t]), last)
        held[t] = last
    return held


def find_case(cell: str, n_in: int, n_hidden: int, steps: int, sparsity: float) -> Case:
    """The case whose sparsity comes nearest to the one asked for: θh by bisection.

    Raises
    ------
    InputError
        If it stays further away than a hundredth, or a column is never active.
    """
    if not 0 <= sparsity < 1:
        raise InputError(f"the sparsity is {sparsity}; give a fraction from 0 to below 1, such as 0.9")
    if steps < 2:
        raise InputError(f"the sample has {steps} frames; a delta of h takes 2 or more")
    model = bench_model(cell, n_in, n_hidden, steps)
    frames = bench_frames(n_in, steps, sparsity)
    trials: dict[int, Case] = {}

    def at(theta_h: int) -> Case:
        if theta_h not in trials:
            trials[theta_h] = Case(model, frames, 1, theta_h, _train(model, frames, theta_h))
        return trials[theta_h]

    low, high = 0, THETA_MAX
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if at(middle).sparsity < sparsity else (low, middle)
    for theta_h in range(max(low - 20, 0), low + 20):  # sparsity grows with θh on the whole, not everywhere
        at(theta_h)
    n_columns = n_in + n_hidden
    found = min(
        trials.values(),
        key=lambda case: (case.outcome.columns_updated < n_columns, abs(case.sparsity - sparsity), case.theta_h),
    )
    if abs(found.sparsity - sparsity) > 0.01 or found.outcome.columns_updated < n_columns:
        raise InputError(
            f"no sample of {steps} frames has a sparsity of {sparsity} (nearest: {found.sparsity:.3f}, "
            f"{found.outcome.columns_updated} of {n_columns} columns active); ask for less, or for more frames"
        )
    return found


def _train(model: QuantModel, frames: NDArray[np.int16], theta_h: int) -> StepResult:
    network = CoreNetwork(model)
    _configure(network, model, theta_h)
    network.begin()
    network.push(frames, want_hidden=False)
    return network.train(LABEL)


def _configure(network: CoreNetwork | Device, model: QuantModel, theta_h: int) -> None:
    network.configure(learning_rate=model.learning_rate, clip=model.clip, theta_x=[1], theta_h=[theta_h], seed=SEED)


def bench(
    board: Board,
    cell: str,
    n_in: int,
    n_hidden: int,
    steps: int,
    sparsities: Sequence[float] = SPARSITIES,
    tell: Progress = lambda _: None,
) -> list[Row]:
    """Train one step at each sparsity on an emulated board, with the trainer's firmware and with one that has hooks.

    Raises
    ------
    InputError
        If a sparsity cannot be had, or the board's counter does not tell instructions.
    DeviceError
        If device and host disagree on the outcome.
    """
    if board.ticks_per_instruction is None:
        raise InputError(f"the counter of {board.target} does not tell instructions; name an emulated board")
    cases = [find_case(cell, n_in, n_hidden, steps, sparsity) for sparsity in sparsities]
    with tempfile.TemporaryDirectory(prefix="deltatrain-") as folder:
        tell(f"building the trainer for {board.target}")
        plain = export(cases[0].model, board, Path(folder) / "plain")
        tell("building it with hooks between the phases")
        hooked = export(cases[0].model, board, Path(folder) / "phases", phases=True)
        tell("training")
        with Emulator.start(board, plain.elf) as emulator, Device.open(emulator.port, timeout=TIMEOUT_S) as device:
            totals = [_on_device(device, case) for case in cases]
            stack = device.statistics().stack_high_water
        monitor = Path(folder) / "monitor"
        arguments = ("-qmp", f"unix:{monitor},server=on,wait=off")
        split = []
        ratio = board.ticks_per_instruction
        with (
            Emulator.start(board, hooked.elf, arguments) as emulator,
            Device.open(emulator.port, timeout=TIMEOUT_S) as device,
        ):
            for case in cases:
                before = _phase_ticks(monitor, hooked.elf)
                result = _on_device(device, case)
                ticks = _phase_ticks(monitor, hooked.elf) - before
                split.append((result, ticks * ratio[1] // ratio[0]))
    rows = []
    for case, total, (with_hooks, phases) in zip(cases, totals, split, strict=True):
        instructions = total.instructions or 0
        macs = total.macs_forward + total.macs_backward + total.macs_gradient
        rows.append(
            Row(
                "fixed",
                cell,
                n_in,
                n_hidden,
                steps,
                round(case.sparsity, 4),
                total.columns_updated,
                n_in + n_hidden,
                instructions,
                macs,
                round(instructions / macs, 3),
                {name: int(count) for name, count in zip(PHASES[1:], phases[1:], strict=True)},
                (with_hooks.instructions or 0) - instructions,
                plain.ram_bytes,
                plain.ram,
                stack,
            )
        )
    return rows


def _on_device(device: Device, case: Case) -> DeviceResult:
    device.reset_weights()
    _configure(device, case.model, case.theta_h)
    device.begin()
    device.push(case.frames, want_hidden=False)
    result = device.train(LABEL)
    for name in StepResult.__dataclass_fields__:
        if getattr(result, name) != getattr(case.outcome, name):
            raise DeviceError(
                f"the device's {name} is {getattr(result, name)}, the host's {getattr(case.outcome, name)}: "
                "they were built from different sources; run `make setup`"
            )
    return result


def _phase_ticks(monitor: Path, elf: Path) -> NDArray[np.int64]:
    """The firmware's counters, read from its memory through QEMU's monitor."""
    with elf.open("rb") as file:
        table = ELFFile(file).get_section_by_name(".symtab")
        assert isinstance(table, SymbolTableSection)
        (address,) = (s["st_value"] for s in table.iter_symbols() if s.name == "dt_phase_ticks")
    command = {"command-line": f"xp /{len(PHASES)}wx {address:#x}"}
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(TIMEOUT_S)
        line.connect(str(monitor))
        with line.makefile("rw") as file_of_line:
            file_of_line.readline()
            for request in (
                {"execute": "qmp_capabilities"},
                {"execute": "human-monitor-command", "arguments": command},
            ):
                file_of_line.write(json.dumps(request) + "\n")
                file_of_line.flush()
                answer = json.loads(file_of_line.readline())
                while "event" in answer:
                    answer = json.loads(file_of_line.readline())
    words = [word for text in answer["return"].splitlines() for word in text.partition(":")[2].split()]
    return np.array([int(word, 16) for word in words], np.int64)
