"""Processes of emulators: started without races, ended for certain, never mistaken for others."""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from deltatrain.errors import DeviceError
from deltatrain.targets.board import Board

HOST = "127.0.0.1"
END_S = 3.0
READY_S = 10.0
POLL_S = 0.01
PROBE_S = 0.25
_PR_SET_PDEATHSIG = 1
# A frame that no firmware can take for a command; the one of deltatrain answers that it was damaged.
PROBE = b"\0\x01\0"


def launch(
    board: Board, elf: Path, extra: Sequence[str], stderr: IO[bytes], outlive: bool, store: Path | None = None
) -> tuple[subprocess.Popen[bytes], int]:
    """Start a board's emulator with a firmware; the process and the TCP port of its serial line.

    The port is opened here and handed over, so that no other program can take it in between.

    Parameters
    ----------
    extra : sequence of str
        Further arguments of the emulator.
    stderr : file
        Where its messages go.
    outlive : bool
        Whether it goes on when this process ends; otherwise it is killed with the thread that started it.
    store : Path, optional
        A file for the board's non-volatile memory, made where it is missing; without one, it is lost at the end.
    """
    spec = board.emulator
    if spec is None:
        raise DeviceError(f"no emulator stands for {board.name}; connect the board and name its port")
    if spec.kind != "qemu":
        raise DeviceError(f"{board.name} runs under {spec.kind}, which this version cannot start")
    program = shutil.which(spec.program)
    if program is None:
        raise DeviceError(f"there is no {spec.program}; install it: sudo apt-get install {spec.apt}")
    if not elf.is_file():
        raise DeviceError(f"there is no firmware {elf}; build it with `deltatrain export`")
    with socket.create_server((HOST, 0), backlog=1) as listener:
        port = int(listener.getsockname()[1])
        command = [
            program,
            *("-M", spec.machine, *spec.args, "-kernel", str(elf)),
            *("-display", "none", "-monitor", "none"),
            # Without nodelay an answer would wait until the host has acknowledged its first byte.
            *("-chardev", f"socket,id=line,fd={listener.fileno()},server=on,wait=off,nodelay=on"),
            *("-serial", "chardev:line"),
            *(spec.store_args(store) if store is not None else ()),
            *extra,
        ]
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                pass_fds=[listener.fileno()],
                start_new_session=True,  # Ctrl-C is for us, who then end the emulator
                preexec_fn=None if outlive else _die_with_parent(),
            )
        except OSError as error:
            raise DeviceError(f"{program} did not start: {error}") from error
    return process, port


def _die_with_parent() -> Callable[[], None] | None:
    """What a child calls first, so that the kernel kills it when its parent is gone."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl  # found here: a child may not load anything
    parent = os.getpid()

    def call() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    return call


def await_ready(alive: Callable[[], bool], port: int) -> bool:
    """Wait until the firmware behind a port answers; False when the emulator ends or nothing comes."""
    deadline = time.monotonic() + READY_S
    while alive() and time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=PROBE_S) as line:
            line.sendall(PROBE)
            while alive() and time.monotonic() < deadline:
                ready, _, _ = select.select([line], [], [], PROBE_S)
                if ready:
                    if line.recv(1):
                        return True
                    break
                line.sendall(PROBE)
        time.sleep(POLL_S)
    return False


def started_at(pid: int) -> str | None:
    """When a process started, in the system's own terms: tells it from a later one with the same number.

    None when there is no such process (one that has ended and only waits for its parent is none).
    """
    stat = Path(f"/proc/{pid}/stat")
    if Path("/proc/self/stat").exists():
        try:
            state, *rest = stat.read_text().rpartition(")")[2].split()
        except OSError:
            return None
        return None if state in "ZX" else rest[18]
    answer = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return answer.stdout.strip() or None


def end(pid: int, is_alive: Callable[[], bool]) -> None:
    """Ask a process to end, then make it."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        deadline = time.monotonic() + END_S
        while is_alive():
            if time.monotonic() >= deadline:
                break
            time.sleep(POLL_S)
        else:
            return
