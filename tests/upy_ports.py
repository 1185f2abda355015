"""MicroPython's own ports, built from a source tree outside the project, and what drives them.

QEMU stands for boards; the unix port has no raw REPL and gets one.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from deltatrain.micropython import RawRepl
from deltatrain.micropython.line import BufferedLine
from deltatrain.micropython.raw_repl import LINE_S

ROOT = Path(__file__).resolve().parents[1]
MICROPYTHON = ROOT / "firmware" / "micropython"
BUILD = ROOT / "build" / "micropython"
HEAP_BYTES = 143360  # the QEMU port's own
# Instructions take 2^6 ns of the emulated time: 15.625 in a microsecond.
ICOUNT_SHIFT = 6


@dataclass(frozen=True)
class Port:
    """A port of MicroPython, and the module's architecture there.

    `options` are those of its `make`; `machine` is QEMU's, empty of the unix port.
    """

    name: str
    folder: str
    architecture: str
    options: tuple[str, ...]
    machine: str = ""
    program: str = "firmware.elf"


UNIX_OPTIONS = ("MICROPY_PY_BTREE=0", "MICROPY_PY_SSL=0", "MICROPY_SSL_MBEDTLS=0", "MICROPY_PY_FFI=0")
UNIX = Port("unix", "unix", "x64", UNIX_OPTIONS, program="micropython")
UNIX_WITHIN = Port(
    "unix-user-module", "unix", "x64", (*UNIX_OPTIONS, f"USER_C_MODULES={MICROPYTHON}"), program="micropython"
)
AN385 = Port("AN385", "qemu", "armv7m", ("BOARD=MPS2_AN385",), "mps2-an385")
AN386 = Port(
    "AN386",
    "qemu",
    "armv7emsp",
    ("BOARD=MPS2_AN386", f"BOARD_DIR={MICROPYTHON / 'boards' / 'MPS2_AN386'}"),
    "mps2-an386",
)
ARCHITECTURES = {
    "x64": "x86_64-linux-gnu-gcc",
    "armv6m": "arm-none-eabi-gcc",
    "armv7m": "arm-none-eabi-gcc",
    "armv7emsp": "arm-none-eabi-gcc",
    "armv7emdp": "arm-none-eabi-gcc",
    "rv32imc": "riscv64-unknown-elf-gcc",
    "xtensawin": "xtensa-esp32-elf-gcc",
}


def make(folder: Path, *arguments: str) -> None:
    """Run make; RuntimeError with what it said where it fails."""
    done = subprocess.run(
        ["make", "-j2", "-C", str(folder), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"make -C {folder} {' '.join(arguments)} failed:\n{done.stdout[-4000:]}")


def build_port(mpy_dir: Path, port: Port) -> Path:
    """The port's program, built into a folder of ours."""
    folder = BUILD / "ports" / port.name
    make(mpy_dir / "ports" / port.folder, f"BUILD={folder}", "FROZEN_MANIFEST=", *port.options)
    return folder / port.program


def build_modules(mpy_dir: Path, python: str) -> dict[str, Path]:
    """The module for each architecture that there is a compiler for."""
    built = {}
    for architecture, compiler in ARCHITECTURES.items():
        if shutil.which(compiler) is not None:
            make(MICROPYTHON, f"ARCH={architecture}", f"MPY_DIR={mpy_dir}", f"PYTHON={python}")
            built[architecture] = BUILD / architecture / "deltarnn.mpy"
    return built


@contextmanager
def emulated(port: Port, program: Path, extra: Sequence[str] = ()) -> Iterator[RawRepl]:
    """The port's board under QEMU, for as long as the block."""
    with socket.create_server(("127.0.0.1", 0), backlog=1) as listener:
        command = ["qemu-system-arm", "-M", port.machine, "-semihosting", "-display", "none", "-monitor", "none"]
        command += ["-chardev", f"socket,id=line,fd={listener.fileno()},server=on,wait=off,nodelay=on"]
        command += ["-serial", "chardev:line", "-kernel", str(program), *extra]
        number = listener.getsockname()[1]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[listener.fileno()])
    try:
        time.sleep(1)  # until it polls its line
        with RawRepl(f"socket://127.0.0.1:{number}") as repl:
            yield repl
    finally:
        process.kill()
        process.wait()


# A raw REPL in Python: takes code up to its end mark, runs it, and answers as MicroPython's does.
SERVER = r"""
import sys, io
names = {"__name__": "__main__"}
while True:
    code, line = "", sys.stdin.readline()
    if not line:
        break
    while line != "\x04\n":
        code += line
        line = sys.stdin.readline()
    error = ""
    try:
        exec(code, names)
    except (Exception, KeyboardInterrupt) as caught:
        text = io.StringIO()
        sys.print_exception(caught, text)
        error = text.getvalue()
    sys.stdout.write("\x04" + error + "\x04")
"""


class _Pipes:
    """The two pipes to a process, as a serial port."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None and process.stdout is not None
        self._in, self._out = process.stdin, process.stdout

    def fileno(self) -> int:
        return self._out.fileno()

    def write(self, data: bytes) -> None:
        self._in.write(data)
        self._in.flush()

    def close(self) -> None:
        self._in.close()
        self._out.close()


class _UnixTransport:
    """What `RawRepl` asks of mpremote's transport, for a process that runs SERVER."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.serial = BufferedLine(_Pipes(process), LINE_S)

    def exec_raw_no_follow(self, code: str) -> None:
        self.serial.write(code.encode() + b"\n\x04\n")

    def exit_raw_repl(self) -> None:
        pass


@contextmanager
def unix(program: Path, folder: Path, *arguments: str) -> Iterator[RawRepl]:
    """The unix port in a folder, whose `lib` it imports from, for as long as the block."""
    (folder / "server.py").write_text(SERVER, encoding="utf-8")
    process = subprocess.Popen(
        [str(program), *arguments, "server.py"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=folder,
        env=os.environ | {"MICROPYPATH": "lib"},
    )
    try:
        with RawRepl(f"unix:{process.pid}", _UnixTransport(process)) as repl:
            yield repl
    finally:
        process.kill()
        process.wait()
