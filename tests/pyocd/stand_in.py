"""What stands in for pyOCD and a board: `flash` ends the QEMU that ran before and has it run the firmware, on one port.

The port stands in STAND_IN_PORT, and in STAND_IN_PID a file for the emulator's process.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from deltatrain.targets import Qemu, find_board
from deltatrain.targets.process import HOST, qemu_arguments, started_at


def main(arguments: list[str]) -> None:
    """The command line of `pyocd flash`, as far as we use it."""
    if arguments[:-1] != ["flash", "--no-wait", "--target", "stm32f407vg", "--format", "elf"]:
        sys.exit(f"unknown arguments {arguments}")
    end(Path(os.environ["STAND_IN_PID"]))
    board = find_board("stm32f4")
    assert board is not None and isinstance(board.run, Qemu)
    with socket.create_server((HOST, int(os.environ["STAND_IN_PORT"])), backlog=1) as listener:
        command = [board.run.emulator, *qemu_arguments(board.run, Path(arguments[-1]), listener.fileno())]
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[listener.fileno()],
            start_new_session=True,
        )
    Path(os.environ["STAND_IN_PID"]).write_text(str(process.pid))


def end(file: Path) -> None:
    """End the process whose number a file holds, where there is one."""
    if not file.exists():
        return
    pid = int(file.read_text())
    file.unlink()
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    while started_at(pid) is not None:
        time.sleep(0.01)


if __name__ == "__main__":
    main(sys.argv[1:])
