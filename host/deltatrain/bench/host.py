"""What a training step costs on this computer, in time: the C core, the float32 network, and PyTorch, in turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from statistics import median

import numpy as np

from deltatrain.bench.baseline import check_loss, float_model
from deltatrain.bench.cases import LABEL, Case, configure
from deltatrain.bench.native import FloatNaive, core_library
from deltatrain.bench.rows import FIXED, FLOAT, TORCH, HostRow, description
from deltatrain.bench.torch_engine import TorchNetwork
from deltatrain.errors import CheckFailed
from deltatrain_core import CoreNetwork, StepResult

ROUNDS = 15
ROUND_S = 0.02

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Timed:
    """An engine with its case: `time` takes a number of repetitions and tells the seconds of one."""

    engine: str
    time: Callable[[int], float]


def bench_host(
    cases: Sequence[Case],
    engines: Sequence[str],
    rounds: int = ROUNDS,
    round_s: float = ROUND_S,
) -> list[HostRow]:
    """Time a training step of each case by each engine, one thread: rows by case, and within it by engine.

    Processor time, and engines take turns, so that whatever else the computer does falls on all of them; a ratio is
    the median of the rounds' ratios.

    Parameters
    ----------
    rounds, round_s : int, float
        Turns of each engine, and about how many seconds one lasts.

    Raises
    ------
    BuildError
        If this computer has no C compiler.
    InputError
        If PyTorch is asked for and not installed.
    CheckFailed
        If an engine's outcome is not what it should be.
    """
    rows: list[HostRow] = []
    for case in cases:
        timed = [Timed(engine, _PREPARE[engine](case)) for engine in engines]
        repetitions = [_repetitions(one, round_s) for one in timed]
        seconds = np.array(
            [[one.time(count) for one, count in zip(timed, repetitions, strict=True)] for _ in range(rounds)]
        )
        for place, engine in enumerate(engines):
            others = {} if engine != FIXED else _ratios(seconds, engines)
            microseconds = round(1e6 * median(seconds[:, place]), 3)
            rows.append(HostRow(**description(case, engine), microseconds=microseconds, rounds=rounds, speedup=others))
    return rows


def _ratios(seconds: np.ndarray[tuple[int, int], np.dtype[np.float64]], engines: Sequence[str]) -> dict[str, float]:
    fixed = seconds[:, list(engines).index(FIXED)]
    return {
        engine: round(float(np.median(seconds[:, place] / fixed)), 3)
        for place, engine in enumerate(engines)
        if engine != FIXED
    }


def _repetitions(timed: Timed, round_s: float) -> int:
    timed.time(1)  # what is touched for the first time is no measure
    return max(1, round(round_s / timed.time(3)))


def _fixed(case: Case) -> Callable[[int], float]:
    ffi, lib = core_library()
    network = CoreNetwork(case.model)
    configure(network, case.model, case.theta_h)
    net, result = ffi.cast("drnn_t *", network.address), ffi.new("drnn_result_t *")
    frames = np.ascontiguousarray(case.frames)

    def time(repetitions: int) -> float:
        assert network.arena_bytes  # keeps it alive
        x = ffi.from_buffer("int16_t[]", frames)
        return float(lib.time_fixed(net, x, case.steps, case.model.n_in, LABEL, repetitions, result)) / repetitions

    time(1)
    for name in (field.name for field in fields(StepResult)):
        told, expected = int(getattr(result, name)), getattr(case.outcome, name)
        if told != expected:
            raise CheckFailed(
                f"the core compiled for this very computer tells {name} = {told}, the one installed {expected}; "
                "run `make setup`"
            )
    return time


def _float(case: Case) -> Callable[[int], float]:
    model = float_model(case)
    network, x = FloatNaive(model), case.inputs
    rate, clip = float(case.model.learning_rate), float(case.model.clip)
    check_loss(case, model.network(), network.train(x, LABEL, rate, clip))
    return lambda repetitions: network.time(x, LABEL, rate, clip, repetitions)


def _torch(case: Case) -> Callable[[int], float]:
    model = float_model(case)
    network = TorchNetwork(model)
    x, label = network.tensors(case.inputs, LABEL)
    check_loss(case, model.network(), float(network.train(x, label)))
    return lambda repetitions: network.time(x, label, repetitions)


_PREPARE = {FIXED: _fixed, FLOAT: _float, TORCH: _torch}
