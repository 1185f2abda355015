"""What stands in for Renode where that is not installed: it takes the same commands, and has QEMU run the STM32F4.

So everything on this side of Renode's monitor is tested: arguments, variables, start, line, end. What a script does
inside of Renode is not.
"""

from __future__ import annotations

import os
import re
import select
import sys
import time
from pathlib import Path

from deltatrain.targets import Qemu, find_board

FLAGS = {"--disable-xwt", "--console", "--plain", "--hide-log"}


class Monitor:
    """Renode's monitor, as far as we use it: variables, and `include`, which runs the firmware."""

    def __init__(self) -> None:
        self.variables: dict[str, str] = {}

    def qemu(self, command: str) -> list[str]:
        """Do a command; what QEMU must be called with once a script was included, nothing before."""
        assignment = re.fullmatch(r"\$(\w+)=(.+)", command)
        if assignment is not None:
            self.variables[assignment[1]] = assignment[2]
            return []
        script = Path(re.fullmatch(r"include @(.+)", command)[1].replace("\\ ", " "))  # type: ignore[index]
        defaults = dict(re.findall(r"^\$(\w+)\?=(.+)$", script.read_text(encoding="utf-8"), re.MULTILINE))
        values = defaults | self.variables
        board = find_board("stm32f4")
        assert board is not None and isinstance(board.run, Qemu)
        socket = f"socket,id=line,host=127.0.0.1,port={values['port']},server=on,wait=off,nodelay=on"
        return [
            *(board.run.emulator, "-M", board.run.machine, *board.run.args),
            *("-kernel", values["elf"].removeprefix("@").replace("\\ ", " ")),
            *("-display", "none", "-monitor", "none", "-chardev", socket),
            *("-serial", "null") * board.run.serial,
            *("-serial", "chardev:line"),
        ]


def main(arguments: list[str]) -> None:
    """Renode's command line, as far as we use it."""
    at = arguments.index("-e")
    if set(arguments[:at]) != FLAGS:
        sys.exit(f"unknown arguments {arguments}")
    if select.select([0], [], [], 0.2)[0]:
        sys.exit("the input ended: Renode's console would read its end again and again")
    monitor = Monitor()
    try:
        commands = [monitor.qemu(command) for command in re.split(r"; ", arguments[at + 1])]
    except OSError as error:
        print(f"There was an error executing command: {error}", flush=True)
        time.sleep(600)  # as Renode, which stays
        raise
    os.execvp(commands[-1][0], commands[-1])


if __name__ == "__main__":
    main(sys.argv[1:])
