"""Where firmware runs: boards as data, the emulators that stand for them, and how users name both."""

from deltatrain.targets.background import BackgroundEmulator, running, start_background, stop_background
from deltatrain.targets.board import Board, EmulatorSpec, Store, Target, boards, find_board, parse_target
from deltatrain.targets.emulator import Emulator

__all__ = [
    "BackgroundEmulator",
    "Board",
    "Emulator",
    "EmulatorSpec",
    "Store",
    "Target",
    "boards",
    "find_board",
    "parse_target",
    "running",
    "start_background",
    "stop_background",
]
