"""Whether a board's non-volatile memory holds two commits of a model, and what flash is left for the firmware."""

from __future__ import annotations

from dataclasses import replace

from deltatrain.errors import BuildError
from deltatrain.quant_model import QuantModel
from deltatrain.slots import slot_bytes
from deltatrain.targets import Board, Store, boards


def with_store(model: QuantModel, board: Board) -> tuple[Board, Store]:
    """The board as a firmware with a store finds it, and that store: flash ends where the store begins in it.

    Raises
    ------
    BuildError
        If the board has no store, or it is too small for two commits of the model.
    """
    store = board.store
    if store is None:
        others = ", ".join(other.name for other in boards() if other.store is not None)
        raise BuildError(f"no non-volatile memory of {board.name} is known; build without --store, or for {others}")
    needed = slot_bytes(model)
    if needed > store.slot_bytes:
        raise BuildError(
            f"a commit of the model takes {needed:,} bytes, and {board.name} has room for two of "
            f"{store.slot_bytes:,}; build without --store, or choose fewer hidden units or another board"
        )
    if 0 < store.origin - board.flash_origin < board.flash_bytes:
        return replace(board, flash_bytes=store.origin - board.flash_origin), store
    return board, store
