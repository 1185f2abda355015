"""Folders that results are written to."""

from __future__ import annotations

from pathlib import Path

from deltatrain.errors import InputError


def make_folder(folder: Path) -> None:
    """Make a folder for results, and those above it, where they are missing.

    InputError when that cannot be, or when none of them exists but the root of the file system: a path of which nothing
    is there is more likely mistyped than meant.
    """
    path = folder.absolute()
    try:
        missing = [place for place in (path, *path.parents) if not place.exists()]
        if missing and missing[-1].parent == Path(path.anchor):
            raise InputError(f"there is no folder {missing[-1]}; make it, or name another one")
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {folder} ({error.strerror}); name another one") from error
