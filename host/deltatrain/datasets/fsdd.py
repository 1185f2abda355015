"""Free Spoken Digit Dataset: real speakers, 8 kHz, recordings in `DIR/fsdd/recordings`.

Files are named `{digit}_{speaker}_{index}.wav`.
"""

from __future__ import annotations

import re
from pathlib import Path

from deltatrain.datasets.base import Dataset, found_folder
from deltatrain.datasets.wav import Recording, extract
from deltatrain.errors import DataError
from deltatrain.features import FeatureConfig

CLASS_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

# The data set's own convention: recordings 0 to 4 of each speaker and digit are its test set.
OFFICIAL_TEST_INDICES = range(5)

_FILE_NAME = re.compile(r"(\d+)_(.+)_(\d+)\.wav", re.IGNORECASE)
_SOURCE = (
    "the Free Spoken Digit Dataset (CC BY-SA 4.0) is at "
    "https://github.com/Jakobovski/free-spoken-digit-dataset: clone it "
    "as DIR/fsdd, then name DIR by --data-dir or by the environment variable DELTATRAIN_DATA"
)


def load(data_dir: Path | None, config: FeatureConfig) -> Dataset:
    """Return every recording, ordered by digit, speaker and number.

    Parameters
    ----------
    data_dir : Path or None
        The folder that holds `fsdd`.
    config : FeatureConfig

    Raises
    ------
    DataError
        If the set is absent (says where to get it), or a file is misnamed or cannot be used.
    """
    if data_dir is not None and not (data_dir / "fsdd" / "recordings").is_dir() and (data_dir / "recordings").is_dir():
        raise DataError(
            f"data set fsdd was not found: there is no folder {data_dir / 'fsdd' / 'recordings'}, but "
            f"{data_dir / 'recordings'} is there; name the folder that holds `fsdd`, not `fsdd` itself"
        )
    folder = found_folder("fsdd", data_dir, _SOURCE, "recordings")
    recordings = [_parse(path) for path in folder.iterdir() if path.suffix.lower() == ".wav"]
    if not recordings:
        raise DataError(f"data set fsdd was not found: {folder} holds no wav file; {_SOURCE}")
    recordings.sort(key=lambda r: (r.label, r.speaker, r.index))
    return extract("fsdd", recordings, CLASS_NAMES, config)


def _parse(path: Path) -> Recording:
    match = _FILE_NAME.fullmatch(path.name)
    if match is None or int(match[1]) >= len(CLASS_NAMES):
        raise DataError(
            f"{path} is not named as a recording of fsdd, {{digit 0 to 9}}_{{speaker}}_{{number}}.wav; "
            "rename it or move it away"
        )
    return Recording(path, label=int(match[1]), speaker=match[2], index=int(match[3]))
