"""Every board trains every cell, word by word as the host does; and tells its faults as well as its processor can."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from cores import train_on
from equality import random_model, random_settings

from deltatrain.targets import Board, boards

N_STEPS = 4
NETWORKS = {"LSTM": ("lstm",), "GRU": ("gru",), "RNN": ("rnn",), "GRU, LSTM": ("gru", "lstm")}


def need(board: Board) -> Board:
    """The board; skips where its compiler or emulator is absent."""
    for program in board.needs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed; `make setup` installs it")
    return board


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("board", boards(), ids=lambda board: board.name)
def test_every_board_trains_every_cell_as_the_host_does(board: Board, network: str) -> None:
    """A model small enough for every board; all words after each step, against the C core here and the integers."""
    rng = np.random.default_rng(6)
    model = random_model(rng, 5, 8, 4, 10, spread=1.0, cells=NETWORKS[network])
    assert train_on(need(board), model, random_settings(rng, model), rng, N_STEPS) > 1000
