"""What a lock adds to a firmware: one file with the device's key, and one definition."""

from __future__ import annotations

import os
from pathlib import Path

import deltatrain
from deltatrain.key import Lock
from deltatrain.link import protocol
from deltatrain.quant_model import QuantModel
from deltatrain_codegen import c_text
from deltatrain_codegen.generate import template

KEY_SOURCE = "dt_key.c"
_LOCKS = protocol.enumerators("dt_locks")


def write_key(lock: Lock | None, model: QuantModel, folder: Path) -> list[Path]:
    """Write the device's key into a folder, readable by its owner alone; its source, or none without a lock.

    One that lies there from before goes away. OSError where that cannot be.
    """
    path = folder / KEY_SOURCE
    path.unlink(missing_ok=True)
    if lock is None:
        return []
    key = lock.key.of_device(model.hash())
    text = template(f"{KEY_SOURCE}.j2").render(
        version=deltatrain.__version__,
        model_hash=model.hash().hex(),
        key_lines=c_text.comma_lines((f"0x{byte:02x}" for byte in key), width=16 * len("0x00, ")),
    )
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
        file.write(text)
    return [path]


def lock_flags(lock: Lock | None) -> list[str]:
    """What builds a lock in; without one there is no trace of it in the firmware."""
    if lock is None:
        return []
    locked = _LOCKS["DT_LOCK_TRAINING"] | (_LOCKS["DT_LOCK_INFERENCE"] if lock.inference else 0)
    return [f"-DDT_LOCK={locked}u"]
