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
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

from deltatrain.errors import DeviceError
from deltatrain.targets.board import Board
from deltatrain.targets.run import Qemu, Renode, Run

HOST = "127.0.0.1"
RENODE_VARIABLE = "RENODE"
END_S = 3.0
POLL_S = 0.01
PROBE_S = 0.25
_PR_SET_PDEATHSIG = 1
# A frame that no firmware can take for a command; the one of deltatrain answers that it was damaged.
PROBE = b"\0\x01\0"


def launch(
    board: Board, elf: Path, extra: Sequence[str], messages: IO[bytes], outlive: bool, store: Path | None = None
) -> tuple[subprocess.Popen[bytes], int]:
    """Start a board's emulator with a firmware; the process and the TCP port of its serial line.

    QEMU is handed the open port, so that no other program can take it in between; Renode only its number.

    Parameters
    ----------
    extra : sequence of str
        Further arguments of the emulator.
    messages : file
        Where its messages go.
    outlive : bool
        Whether it goes on when this process ends; otherwise it is killed with the thread that started it.
    store : Path, optional
        A file for the board's non-volatile memory, made where it is missing; without one, it is lost at the end.
    """
    run = board.run
    if not isinstance(run, Qemu | Renode):
        raise DeviceError(f"no emulator stands for {board.target}; connect the board and name its port")
    program = find_program(run)
    if not elf.is_file():
        raise DeviceError(f"there is no firmware {elf}; build it with `deltatrain export`")
    extra = [*(() if store is None else run.store_args(store)), *extra]
    with socket.create_server((HOST, 0), backlog=1) as listener:
        port = int(listener.getsockname()[1])
        if isinstance(run, Qemu):
            command = [program, *qemu_arguments(run, elf, listener.fileno()), *extra]
            return _start(command, messages, outlive, pass_fds=[listener.fileno()]), port
    with _endless_input() as (read_end, write_end):
        command = [program, *renode_arguments(run, elf, port), *extra]
        return _start(command, messages, outlive, stdin=read_end, stdout=messages, pass_fds=[write_end]), port


def find_program(run: Run) -> str:
    """Where the program of a way to run is; DeviceError with what to install where there is none."""
    name = run.program
    if isinstance(run, Renode):
        name = os.environ.get(RENODE_VARIABLE) or name
    # What pip installed lies beside Python, which need not be on the PATH.
    program = shutil.which(name) or shutil.which(name, path=Path(sys.executable).parent)
    if program is None:
        raise DeviceError(f"there is no {name}; install it: {run.install}")
    return program


def qemu_arguments(run: Qemu, elf: Path, listener: int) -> list[str]:
    """What QEMU is told: the machine, the firmware, and the open socket that its serial line listens at."""
    return [
        *("-M", run.machine, *run.args, "-kernel", str(elf)),
        *("-display", "none", "-monitor", "none"),
        # Without nodelay an answer would wait until the host has acknowledged its first byte.
        *("-chardev", f"socket,id=line,fd={listener},server=on,wait=off,nodelay=on"),
        *("-serial", "null") * run.serial,
        *("-serial", "chardev:line"),
    ]


def renode_arguments(run: Renode, elf: Path, port: int) -> list[str]:
    """What Renode is told: no window, its monitor on standard input and output, and the script with its variables."""
    variables = f"$elf=@{_spaces_escaped(elf.resolve())}; $port={port}"
    return [
        *("--disable-xwt", "--console", "--plain", "--hide-log"),
        *("-e", f"{variables}; include @{_spaces_escaped(run.script)}"),
    ]


def _spaces_escaped(path: Path) -> str:
    """A path as Renode's monitor reads it."""
    return str(path).replace(" ", "\\ ")


@contextlib.contextmanager
def _endless_input() -> Iterator[tuple[int, int]]:
    """A pipe for the input of a program that must neither read anything nor meet its end: it holds both ends itself."""
    ends = os.pipe()
    try:
        yield ends
    finally:
        for end_of_pipe in ends:
            os.close(end_of_pipe)


def _start(
    command: Sequence[str],
    messages: IO[bytes],
    outlive: bool,
    *,
    pass_fds: Sequence[int],
    stdin: int = subprocess.DEVNULL,
    stdout: int | IO[bytes] = subprocess.DEVNULL,
) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            command,
            stdin=stdin,
            stdout=stdout,
            stderr=messages,
            pass_fds=pass_fds,
            start_new_session=True,  # Ctrl-C is for us, who then end the emulator
            preexec_fn=None if outlive else _die_with_parent(),
        )
    except OSError as error:
        raise DeviceError(f"{command[0]} did not start: {error}") from error


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


def await_ready(alive: Callable[[], bool], port: int, within: float) -> bool:
    """Wait until the firmware behind a port answers; False when the emulator ends or nothing comes for that long."""
    deadline = time.monotonic() + within
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
