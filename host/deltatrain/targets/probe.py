"""A board's own memory, written through its debug probe by pyOCD."""

from __future__ import annotations

import subprocess
from pathlib import Path

from deltatrain.errors import DeviceError
from deltatrain.targets.process import find_program
from deltatrain.targets.run import Probe

WRITE_TIMEOUT_S = 300
# pyOCD's words, and what to do about them.
ADVICE = {
    "No connected debug probe": "no debug probe was found: connect that of the {title} by USB; `pyocd list` shows what "
    "is found, and on Linux a user needs pyOCD's udev rules to see it (https://pyocd.io/docs/installing)",
    "not recognized": "pyOCD has no description of the chip {chip} yet; fetch it: pyocd pack install {chip}",
}


def write_firmware(run: Probe, elf: Path, uid: str | None = None) -> None:
    """Write a firmware to a board, and restart it.

    Parameters
    ----------
    uid : str, optional
        Of the probe, or how it begins, where several are connected.

    Raises
    ------
    DeviceError
        If pyOCD is not installed, finds no probe, or fails: in its own words, with what to do, and with the line that
        has OpenOCD do the same.
    """
    try:
        program = find_program(run)
    except DeviceError as error:
        raise DeviceError(f"{error}. {openocd_words(run, elf)}") from error
    which = [] if uid is None else ["--uid", uid]
    command = [program, "flash", "--no-wait", *which, "--target", run.chip, "--format", "elf", str(elf)]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,  # it would ask which of several probes to take
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=WRITE_TIMEOUT_S,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DeviceError(f"{program} did not run to its end: {error}") from error
    if done.returncode == 0:
        return
    said = " ".join(done.stdout.split()) or f"status {done.returncode}, and no words"
    advice = next((text for sign, text in ADVICE.items() if sign in said), "pyOCD failed: {said}")
    words = advice.format(title=run.title, chip=run.chip, said=said)
    raise DeviceError(f"{words}. {openocd_words(run, elf)}")


def openocd_words(run: Probe, elf: Path) -> str:
    """How OpenOCD does the same, for those who prefer it."""
    return f'OpenOCD does the same: openocd -f {run.openocd} -c "program {elf} verify reset exit"'
