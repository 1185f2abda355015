"""A user's own recordings: `DIR/<class>/<speaker>_<anything>.wav`.

Each sub-folder of DIR is a class, named by the folder; classes are numbered in alphabetical order. The
speaker is the part of the file name before the first underscore. The recordings of one speaker and class are
numbered from 0 in alphabetical order of their file names. Hidden files and files other than wav are passed
over.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from deltatrain.datasets.base import Dataset
from deltatrain.datasets.wav import Recording, extract
from deltatrain.errors import DataError
from deltatrain.features import FeatureConfig

_LAYOUT = "the layout is DIR/<class>/<speaker>_<anything>.wav"


def load(folder: Path, config: FeatureConfig) -> Dataset:
    """Return every recording of a folder, ordered by class and file name.

    Parameters
    ----------
    folder : Path
        Laid out as described above.
    config : FeatureConfig

    Raises
    ------
    DataError
        If the folder is not laid out so, or a file cannot be used.
    """
    classes = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if len(classes) < 2:
        raise DataError(
            f"{folder} needs at least 2 class folders, it has {len(classes)}; {_LAYOUT}, or, with a target at every "
            "frame, DIR/<speaker>_<anything>.npz with x and targets"
        )
    recordings = [recording for label, path in enumerate(classes) for recording in _recordings(path, label)]
    return extract(folder.name or str(folder), recordings, tuple(path.name for path in classes), config)


def _recordings(folder: Path, label: int) -> list[Recording]:
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() == ".wav" and not p.name.startswith("."))
    if not paths:
        raise DataError(f"class folder {folder} holds no wav file; fill it or move it away ({_LAYOUT})")
    seen: Counter[str] = Counter()
    recordings = []
    for path in paths:
        speaker, underscore, _ = path.stem.partition("_")
        if not (speaker and underscore):
            raise DataError(f"the name of {path} does not say who speaks; {_LAYOUT}, so put `speaker_` before it")
        recordings.append(Recording(path, label, speaker, seen[speaker]))
        seen[speaker] += 1
    return recordings
