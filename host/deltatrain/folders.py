"""Folders that results are written to."""

from __future__ import annotations

from pathlib import Path

from deltatrain.errors import InputError


def make_folder(folder: Path) -> None:
    """Make a folder for results, where it is missing; InputError when that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {folder} ({error.strerror}); name another one") from error
