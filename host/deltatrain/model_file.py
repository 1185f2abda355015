"""The file of a model, float or quantised: `.safetensors` with one JSON description under the key `deltatrain`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from deltatrain.errors import ModelError

METADATA_KEY = "deltatrain"

# What kinds of model there are, and the command that makes each.
FLOAT, QUANTISED = "float", "quantised"
MADE_BY = {FLOAT: "deltatrain fit", QUANTISED: "deltatrain quantize"}


def write(path: Path, kind: str, description: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> None:
    """Write a model; equal models give equal bytes. ModelError when the file cannot be written."""
    # safetensors writes an array's memory as it lies, so it must lie in C order.
    ordered = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    text = json.dumps({"kind": kind, **description}, sort_keys=True, allow_nan=False)
    try:
        path.write_bytes(save(ordered, metadata={METADATA_KEY: text}))
    except OSError as error:
        raise ModelError(f"cannot write the model to {path} ({error.strerror}); name another file") from error


def read(path: Path, kind: str) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Description and tensors of a model file.

    Raises
    ------
    ModelError
        When the file is absent, truncated, foreign, or holds another kind of model.
    """
    try:
        with safe_open(str(path), framework="numpy") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except FileNotFoundError as error:
        raise ModelError(f"there is no model file {path}; make one with `{MADE_BY[kind]}`") from error
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is not a whole .safetensors file ({error}); make it anew") from error
    try:
        description = json.loads(metadata[METADATA_KEY])
    except (KeyError, ValueError) as error:
        raise ModelError(f"{path} holds no deltatrain model: its description is missing or broken") from error
    found = description.get("kind") if isinstance(description, dict) else None
    if found != kind:
        raise ModelError(f"{path} is a {found or 'foreign'} model, not a {kind} one; `{MADE_BY[kind]}` makes those")
    return description, tensors
