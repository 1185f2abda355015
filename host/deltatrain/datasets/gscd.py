"""Google Speech Commands: one word a recording, 16 kHz, recordings in `DIR/gscd/<word>`.

Files are named `{speaker}_nohash_{number}.wav`, speaker in hexadecimal; in the folders of unknown words and of silence
that the test set has, also `{word}_{speaker}_nohash_{number}.wav.wav` and `{number}.wav`. The latter have no speaker:
the folder's name stands for one. `_background_noise_` holds no words and is passed over.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from deltatrain.datasets.base import Dataset, found_folder
from deltatrain.datasets.wav import Recording, extract
from deltatrain.errors import DataError
from deltatrain.features import FeatureConfig

# Recordings last one second: 98 windows of 25 ms every 10 ms.
CONFIG = FeatureConfig(sample_rate=16000, n_fft=512, f_max=7600.0, max_frames=98)

NOISE_FOLDER = "_background_noise_"
_FILE_NAME = re.compile(r"(?:.+_)?(?P<speaker>[0-9a-f]+)_nohash_\d+(?:\.wav)+|\d+\.wav", re.IGNORECASE)
_SOURCE = (
    "Google Speech Commands (CC BY 4.0) is at http://download.tensorflow.org/data/speech_commands_v0.02.tar.gz: unpack "
    "it as DIR/gscd, then name DIR by --data-dir or by the environment variable DELTATRAIN_DATA"
)


def load(data_dir: Path | None, config: FeatureConfig) -> Dataset:
    """Return every recording, ordered by word and file name; the words are the folders, in alphabetical order.

    Parameters
    ----------
    data_dir : Path or None
        The folder that holds `gscd`.
    config : FeatureConfig

    Raises
    ------
    DataError
        If the set is absent (says where to get it), or a file is misnamed or cannot be used.
    """
    folder = found_folder("gscd", data_dir, _SOURCE)
    words = sorted(p for p in folder.iterdir() if p.is_dir() and p.name != NOISE_FOLDER and not p.name.startswith("."))
    if len(words) < 2:
        raise DataError(f"data set gscd was not found: {folder} has {len(words)} folders of words; {_SOURCE}")
    recordings = [recording for label, path in enumerate(words) for recording in _recordings(path, label)]
    return extract("gscd", recordings, tuple(path.name for path in words), config)


def _recordings(folder: Path, label: int) -> list[Recording]:
    seen: Counter[str] = Counter()
    recordings = []
    for path in sorted(p for p in folder.iterdir() if p.suffix.lower() == ".wav"):
        match = _FILE_NAME.fullmatch(path.name)
        if match is None:
            raise DataError(
                f"{path} is not named as a recording of gscd, {{speaker}}_nohash_{{number}}.wav; rename it or move it "
                "away"
            )
        speaker = match["speaker"] or folder.name
        recordings.append(Recording(path, label, speaker, seen[speaker]))
        seen[speaker] += 1
    return recordings
