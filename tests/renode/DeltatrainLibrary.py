"""Keywords of training.robot: a firmware, a port, and the comparison of device and host."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import deltatrain
from deltatrain.targets import Renode, parse_target

FLOAT_MODEL = Path(deltatrain.__file__).parent / "models" / "digits-lstm64.safetensors"
SPEAKER = "en+f4"


class DeltatrainLibrary:
    """One model for the suite; one firmware a target."""

    ROBOT_LIBRARY_SCOPE = "SUITE"

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="deltatrain-"))
        self._model = self._folder / "model.safetensors"

    def build_firmware(self, target: str) -> tuple[str, str]:
        """Paths of the firmware for a target, and of the script by which Renode runs it."""
        board = parse_target(target).board
        assert board is not None and isinstance(board.run, Renode), f"{target} is no board in Renode"
        if not self._model.exists():
            self._call("quantize", "--model", FLOAT_MODEL, "--out", self._model)
        built = self._call("export", "--model", self._model, "--target", target, "--out", self._folder / board.name)
        return built["elf"], str(board.run.script)

    def free_port(self) -> int:
        """A TCP port that nobody listens at."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            return int(listener.getsockname()[1])

    def should_train_as_the_host_does(self, port: int) -> None:
        """Train an utterance of each class over the port; every word must be the host's after every step."""
        url = f"socket://127.0.0.1:{port}"
        outcome = self._call(
            *("compare", "--model", self._model, "--holdout", SPEAKER, "--per-class", 1, "--target", url)
        )
        if outcome["words_different"] != 0 or outcome["steps"] != 10:
            raise AssertionError(f"device and host differ: {outcome}")

    def _call(self, *words: object) -> Any:
        """The result of a command of deltatrain."""
        beside = Path(sys.executable).with_name("deltatrain")
        program = str(beside) if beside.exists() else shutil.which("deltatrain")
        assert program is not None, "there is no deltatrain in this Python environment; pip install deltatrain"
        done = subprocess.run([program, *map(str, words), "--json"], capture_output=True, text=True)
        if done.returncode != 0:
            raise AssertionError(f"deltatrain {words[0]} ended with status {done.returncode}: {done.stderr[-2000:]}")
        return json.loads(done.stdout)
