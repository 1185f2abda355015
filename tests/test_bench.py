"""`deltatrain bench`: sparsity as asked for, phases that add up, and a guard over the instructions of fixed cases.

python tests/test_bench.py     records the guard's counts anew, in tests/instructions.json
"""

from __future__ import annotations

import io
import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from deltatrain.bench import FLOAT, PHASES, BoardRow, Case, HostRow, bench, bench_model, find_case
from deltatrain.bench.rows import description
from deltatrain.cli import main
from deltatrain.cli.bench import show_rows
from deltatrain.errors import InputError
from deltatrain.targets import find_board
from deltatrain_codegen import export
from deltatrain_codegen.memory import constants

RECORDED = Path(__file__).with_name("instructions.json")
BOARD = "mps2-an386"
CELLS = ("lstm", "gru", "rnn")
SPARSITIES = (0.0, 0.9)
LARGEST_GROWTH = 0.02


def measured() -> dict[str, int]:
    """Instructions of a training step: 16 inputs, 64 hidden units, 50 frames."""
    board = find_board(BOARD)
    assert board is not None
    for program in board.needs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed; `make setup` installs it")
    counts: dict[str, int] = {}
    for cell in CELLS:
        rows = bench(board, cell, 16, 64, 50, SPARSITIES)
        counts |= {f"{cell} {asked}": row.instructions for asked, row in zip(SPARSITIES, rows, strict=True)}
    return counts


@pytest.mark.parametrize(
    ("name", "cell"), [*((BOARD, cell) for cell in CELLS), ("stm32f4", "lstm"), ("nrf52840", "lstm")]
)
def test_the_code_fits_24_kib_of_flash(name: str, cell: str, tmp_path: Path) -> None:
    """On a Cortex-M4, trainer, server, link, drivers and tables, without the model's data; the LSTM takes most."""
    board = find_board(name)
    if board is None or shutil.which(board.compiler) is None:
        pytest.skip("the board's compiler is not installed; `make setup` installs it")
    model = bench_model(cell, 16, 64, 50)
    built = export(model, board, tmp_path)
    assert built.flash_bytes - sum(constants(model).values()) <= 24 * 1024


def test_a_training_step_takes_no_more_instructions_than_recorded() -> None:
    recorded = json.loads(RECORDED.read_text())
    counts = measured()
    assert counts.keys() == recorded.keys()
    grown = {
        name: (recorded[name], count) for name, count in counts.items() if count > recorded[name] * (1 + LARGEST_GROWTH)
    }
    assert not grown, (
        f"more instructions than recorded (recorded, now): {grown}; where that is meant, "
        "`python tests/test_bench.py` records them anew"
    )


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.9])
def test_a_case_has_the_sparsity_asked_for_and_every_column_active(cell: str, sparsity: float) -> None:
    case = find_case(cell, 16, 64, 50, sparsity)
    assert abs(case.sparsity - sparsity) <= 0.01
    assert case.outcome.columns_updated == 80
    assert np.abs(case.frames).max() > 1000


def test_a_sparsity_that_leaves_columns_out_is_refused() -> None:
    with pytest.raises(InputError, match="ask for less, or for more frames"):
        find_case("lstm", 4, 8, 5, 0.99)


def test_the_command_tells_phases_that_add_up() -> None:
    board = find_board(BOARD)
    if board is None or any(shutil.which(program) is None for program in board.needs):
        pytest.skip("the board's compiler or emulator is not installed; `make setup` installs it")
    arguments = ["bench", "--json", "--cell", "lstm", "--n-in", "4", "--n-hidden", "8", "--steps", "10"]
    outcome = CliRunner().invoke(main, [*arguments, "--sparsity", "0.5"])
    assert outcome.exit_code == 0, outcome.output
    values = json.loads(outcome.stdout)
    row, of_float = values["rows"]
    assert (values["target"], row["engine"], row["cell"]) == ("qemu:mps2-an386", "fixed", "lstm")
    assert (row["n_in"], row["n_hidden"], row["layers"], row["steps"]) == (4, 8, 1, 10)
    assert tuple(row["phases"]) == PHASES[1:] and all(count > 0 for count in row["phases"].values())
    with_hooks = row["instructions"] + row["hooks"]
    assert 0.5 * with_hooks < sum(row["phases"].values()) < with_hooks
    assert row["ram_bytes"] == sum(row["ram"].values()) > row["stack_high_water"] > 200
    assert (of_float["engine"], of_float["macs"]) == ("float-naive", 10 * 32 * (2 * 4 + 3 * 8))
    assert row["speedup"] == {"float-naive": round(of_float["instructions"] / row["instructions"], 3)}
    assert of_float["ram_bytes"] == sum(of_float["ram"].values())


# The float32 network is no straw man: naive float32 code takes 17.5 and 12.9 million instructions there.
LARGEST_FLOAT = {"lstm": 18_000_000, "gru": 13_500_000}


@pytest.mark.parametrize("cell", LARGEST_FLOAT)
def test_the_float32_network_is_decent(cell: str) -> None:
    board = find_board(BOARD)
    if board is None or any(shutil.which(program) is None for program in board.needs):
        pytest.skip("the board's compiler or emulator is not installed; `make setup` installs it")
    (row,) = bench(board, cell, 16, 64, 50, [0.0], engines=[FLOAT])
    assert row.instructions <= LARGEST_FLOAT[cell]


def run_bench(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["bench", *arguments])


SMALL = ("--n-in", "3", "--n-hidden", "6", "--steps", "8", "--sparsity", "0")


def test_the_host_is_a_target_with_engines_in_turn() -> None:
    outcome = run_bench("--json", "--target", "host", *SMALL, "--engine", "fixed", "--engine", "float-naive")
    assert outcome.exit_code == 0, outcome.output
    values = json.loads(outcome.stdout)
    assert values["target"] == "host"
    rows = values["rows"]
    assert [(row["cell"], row["engine"]) for row in rows] == [
        (cell, engine) for cell in ("lstm", "gru") for engine in ("fixed", "float-naive")
    ]
    assert all(row["microseconds"] > 0 and "instructions" not in row for row in rows)
    assert rows[0]["speedup"].keys() == {"float-naive"}


def test_pytorch_is_timed_where_it_is_and_otherwise_left_out_with_a_word() -> None:
    here = find_spec("torch") is not None
    case = ("--target", "host", *SMALL, "--cell", "lstm")
    outcome = run_bench("--json", *case)
    assert outcome.exit_code == 0, outcome.output
    engines = [row["engine"] for row in json.loads(outcome.stdout)["rows"]]
    assert engines == ["fixed", "float-naive", *["pytorch"] * here]
    assert here or "without pytorch" in outcome.stderr
    asked = run_bench(*case, "--engine", "pytorch")
    assert asked.exit_code == (0 if here else 2)
    assert here or "pip install torch" in asked.stderr


def test_pytorch_is_for_the_host_alone() -> None:
    outcome = run_bench("--engine", "pytorch")
    assert outcome.exit_code == 2
    assert "give --target host" in outcome.stderr


def test_every_combination_is_measured_and_what_is_done_is_kept_when_interrupted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The third network is where Ctrl-C comes."""
    measured: list[list[Case]] = []

    def measure(_: object, cases: list[Case], *__: object, **___: object) -> list[HostRow]:
        if len(measured) == 2:
            raise KeyboardInterrupt
        measured.append(cases)
        return [HostRow(**description(case, "fixed"), microseconds=1.0, rounds=1) for case in cases]

    monkeypatch.setattr("deltatrain.cli.bench.bench_board", measure)
    shapes = ("--cell", "gru", "--n-in", "4", "--n-hidden", "6", "--n-hidden", "7", "--layers", "1", "--layers", "3")
    outcome = run_bench("--json", *shapes, "--steps", "9", "--sparsity", "0", "--sparsity", "0.5")
    assert outcome.exit_code == 130
    rows = json.loads(outcome.stdout)["rows"]
    assert [(row["layers"], row["n_hidden"], round(row["sparsity"], 1)) for row in rows] == [
        (1, 6, 0.0),
        (1, 6, 0.5),
        (1, 7, 0.0),
        (1, 7, 0.5),
    ]


@pytest.mark.parametrize("width", [60, 80, 120])
def test_tables_cut_no_figure(width: int) -> None:
    """The phases as rows; tables wider than the console come in parts."""
    rows = [
        BoardRow(
            **description(find_case("rnn", 3, 6, 8, 0.0), engine) | {"layers": layers, "sparsity": sparsity},
            unit="instructions",
            cost=17_512_345 + layers,
            clock_hz=None,
            columns=9,
            n_columns=9,
            phases={} if engine == FLOAT else {name: 1_255_340 + n for n, name in enumerate(PHASES[1:])},
            hooks=0,
            ram_bytes=123_456,
            ram={},
            stack_high_water=1000,
        )
        for layers in (1, 2)
        for sparsity in (0.0, 0.5, 0.8, 0.9)
        for engine in ("fixed", FLOAT)
    ]
    output = io.StringIO()
    show_rows(Console(file=output, width=width), rows)
    lines = output.getvalue().splitlines()
    assert "…" not in output.getvalue() and max(map(len, lines)) <= width
    words = output.getvalue().split()
    assert [words.count(f"17,512,{345 + layers}") for layers in (1, 2)] == [8, 8]
    assert all(words.count(f"1,255,{340 + n}") == 8 for n in range(len(PHASES) - 1))
    assert lines[0].startswith("3 inputs, 6 hidden units, 8 frames") and "1 layers" not in output.getvalue()


def test_a_stack_has_the_sparsity_asked_for_over_all_layers() -> None:
    case = find_case("gru", 8, 16, 40, 0.8, 3)
    assert case.n_columns == 8 + 16 + 4 * 16 == case.outcome.columns_updated
    assert abs(case.sparsity - 0.8) <= 0.01


if __name__ == "__main__":
    RECORDED.write_text(json.dumps(measured(), indent=2) + "\n")
