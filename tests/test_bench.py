"""`deltatrain bench`: sparsity as asked for, phases that add up, and a guard over the instructions of fixed cases.

python tests/test_bench.py     records the guard's counts anew, in tests/instructions.json
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from deltatrain.bench import PHASES, bench, find_case
from deltatrain.cli import main
from deltatrain.errors import InputError
from deltatrain.targets import find_board

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
    (row,) = values["rows"]
    assert (values["target"], row["engine"], row["cell"]) == ("qemu:mps2-an386", "fixed", "lstm")
    assert (row["n_in"], row["n_hidden"], row["steps"]) == (4, 8, 10)
    assert tuple(row["phases"]) == PHASES[1:] and all(count > 0 for count in row["phases"].values())
    with_hooks = row["instructions"] + row["hooks"]
    assert 0.5 * with_hooks < sum(row["phases"].values()) < with_hooks
    assert row["ram_bytes"] == sum(row["ram"].values()) > row["stack_high_water"] > 200


if __name__ == "__main__":
    RECORDED.write_text(json.dumps(measured(), indent=2) + "\n")
