"""Where deltatrain keeps what other runs of it must know: emulators in the background, ports in use."""

from __future__ import annotations

import os
from pathlib import Path

from deltatrain.errors import DeviceError


def state_dir() -> Path:
    """The folder of what is known about running emulators; made when missing."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    folder = Path(runtime or cache) / "deltatrain"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise DeviceError(
            f"cannot make {folder} ({error.strerror}), which keeps track of emulators and ports; "
            "set XDG_RUNTIME_DIR to a folder that you may write to"
        ) from error
    return folder
