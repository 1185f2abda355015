"""Data sets by name: embedded synthetic speech, known public sets in a data folder, or a user's own folder.

A new set is one file with a `load(data_dir, config)` function and one line in `_LOADERS`; where recordings are many,
its features are `Lazy`.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from deltatrain.datasets import digits, folder, fsdd, gscd, har, sequences
from deltatrain.datasets.base import Dataset, Loader, Utterance, check_labels, items_named
from deltatrain.datasets.splits import N_FOLDS, fold_split, index_split, personal_split, pretrain_split
from deltatrain.errors import DataError
from deltatrain.features import FeatureConfig

__all__ = [
    "DATA_DIR_VARIABLE",
    "N_FOLDS",
    "Dataset",
    "Utterance",
    "check_labels",
    "fold_split",
    "index_split",
    "items_named",
    "known_names",
    "load",
    "personal_split",
    "pretrain_split",
    "stream",
]

DATA_DIR_VARIABLE = "DELTATRAIN_DATA"

_LOADERS: Mapping[str, Loader] = {
    "digits": digits.load,
    "fsdd": fsdd.load,
    "gscd": gscd.load,
    "har": har.load,
}

# A folder in each public set, by which it is known whatever it is called.
_MARKS: Mapping[str, str] = {"fsdd": "recordings", "gscd": gscd.NOISE_FOLDER, "har": "RawData"}

# How features are extracted where no model says it.
_CONFIGS: Mapping[str, FeatureConfig] = {"gscd": gscd.CONFIG}


def known_names() -> tuple[str, ...]:
    """Return the names of the data sets that `load` knows besides folders."""
    return tuple(sorted(_LOADERS))


def load(
    name: str, data_dir: str | Path | None = None, config: FeatureConfig | None = None, max_frames: int | None = None
) -> Dataset:
    """Return a data set as `stream` does, with all of its items read and held."""
    return stream(name, data_dir, config, max_frames).loaded()


def stream(
    name: str, data_dir: str | Path | None = None, config: FeatureConfig | None = None, max_frames: int | None = None
) -> Dataset:
    """Return a data set by its name, or a folder of recordings or of sequences with targets of their own.

    Of files, the names and headers are read; what is in them when it is asked for, one item at a time.

    Parameters
    ----------
    name : str
        One of `known_names`, or the path of a folder laid out as `DIR/<class>/<speaker>_<anything>.wav`, or as
        `DIR/<speaker>_<anything>.npz` (see `sequences`).
    data_dir : path, optional
        The folder that holds the public data sets; by default the environment variable `DELTATRAIN_DATA`.
    config : FeatureConfig, optional
        How to extract features; its standardisation, if any, is left out.
    max_frames : int, optional
        In place of that of `config`, or of the data set's own.

    Returns
    -------
    Dataset
        Raw log-mel features, or sequences as they are, each cut to `config.max_frames` frames.

    Raises
    ------
    DataError
        If there is no such data set, it is absent from the data folder, or one of its files cannot be used.
    """
    settings = (config or _CONFIGS.get(name, FeatureConfig())).raw()
    if max_frames is not None:
        settings = replace(settings, max_frames=max_frames)
    if (loader := _LOADERS.get(name)) is not None:
        place = data_dir or os.environ.get(DATA_DIR_VARIABLE) or None
        return loader(None if place is None else Path(place).expanduser(), settings)
    path = Path(name).expanduser()
    if name and path.is_dir():
        if sequences.is_one(path):
            return sequences.load(path, config, max_frames)
        try:
            return folder.load(path, settings)
        except DataError as error:
            raise DataError(f"{error}{_known_set(path)}") from error
    raise DataError(
        f"there is no data set {name!r}; give one of {', '.join(known_names())}, "
        "or a folder laid out as DIR/<class>/<speaker>_<anything>.wav or as DIR/<speaker>_<anything>.npz"
    )


def _known_set(folder: Path) -> str:
    """How to name the public data set that a folder is, or that lies in it; empty where there is none."""
    place = folder.resolve()
    for name, mark in _MARKS.items():
        if place.name == name or (place / mark).is_dir():
            where, renamed = place.parent, "" if place.name == name else f", the folder renamed to {name}"
        elif (place / name / mark).is_dir():
            where, renamed = place, ""
        else:
            continue
        return f"; for the data set {name} give --data {name} --data-dir {shlex.quote(str(where))}{renamed}"
    return ""
