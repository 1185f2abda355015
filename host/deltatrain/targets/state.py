"""Where deltatrain keeps what other runs of it must know: emulators in the background, ports in use."""

from __future__ import annotations

import os
from pathlib import Path

from deltatrain.errors import DeviceError


def state_dir() -> Path:
    """The folder of what is known about running emulators and open lines; made when missing.

    Below XDG_RUNTIME_DIR; where there is no such folder, or none to write to, below XDG_CACHE_HOME or ~/.cache.
    """
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if not (runtime and _usable(Path(runtime))):
        runtime = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    folder = Path(runtime) / "deltatrain"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise DeviceError(
            f"cannot make {folder} ({error.strerror}), which keeps track of emulators and ports; "
            "set XDG_RUNTIME_DIR to a folder that you may write to"
        ) from error
    return folder


def _usable(folder: Path) -> bool:
    """Whether files can be made there: many shells inherit the name of a folder that only a log-in makes."""
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)
