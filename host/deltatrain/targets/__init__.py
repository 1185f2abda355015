"""Where firmware runs: boards as data, the emulators that stand for them, and how users name both."""

from deltatrain.targets.background import BackgroundEmulator, running, start_background, stop_background
from deltatrain.targets.board import MICROPYTHON, Board, Target, boards, find_board, parse_target
from deltatrain.targets.counter import Counter
from deltatrain.targets.emulator import Emulator
from deltatrain.targets.probe import write_firmware
from deltatrain.targets.run import Probe, Qemu, Renode
from deltatrain.targets.store import Store

__all__ = [
    "MICROPYTHON",
    "BackgroundEmulator",
    "Board",
    "Counter",
    "Emulator",
    "Probe",
    "Qemu",
    "Renode",
    "Store",
    "Target",
    "boards",
    "find_board",
    "parse_target",
    "running",
    "start_background",
    "stop_background",
    "write_firmware",
]
