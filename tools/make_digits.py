"""Synthesise the embedded data set `digits`: ten spoken words by many voices of espeak-ng.

    python tools/make_digits.py

needs espeak-ng (the shipped file was made with the version that `SYNTHESISER` in `deltatrain.datasets.digits`
names; another one may speak differently). The same version gives the same bytes: every choice is drawn from a
seed, and each rendering has its own, so that adding a voice changes no other.

Each rendering: a word at its own speed and pitch, resampled to 8 kHz, silence trimmed at both ends, at its
own loudness, over its own faint noise; then the features of `deltatrain.features`, quantised and packed.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import subprocess
import sys
import wave
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.signal import resample_poly

from deltatrain.datasets import digits
from deltatrain.features import FeatureConfig, log_mel

SEED = 20_500

SPEED_WPM = (120, 230)
PITCH = (20, 80)  # espeak-ng's scale 0 to 99, 50 is the voice's own pitch
PEAK = (0.05, 0.7)
NOISE_BELOW_PEAK_DB = (30.0, 50.0)

TRIM_BELOW_PEAK_DB = 35.0
TRIM_FRAME_S = 0.010


def synthesise(voice: str, word: str, speed: int, pitch: int, sample_rate: int) -> NDArray[np.float64]:
    """Return a word as espeak-ng speaks it, resampled.

    Parameters
    ----------
    voice : str
        Voice of espeak-ng, language + variant, such as "en-us+m3".
    word : str
    speed : int
        Words per minute.
    pitch : int
        0 to 99.
    sample_rate : int
        Hz.

    Returns
    -------
    ndarray, shape (n_samples,), float64, in [-1, 1] or a little beyond
    """
    command = ["espeak-ng", "-v", voice, "-s", str(speed), "-p", str(pitch), "--stdout", word]
    done = subprocess.run(command, check=True, capture_output=True)
    # espeak-ng cannot seek in a pipe, so its header announces no true length: read what is there.
    with wave.open(io.BytesIO(done.stdout), "rb") as file:
        assert file.getnchannels() == 1 and file.getsampwidth() == 2
        rate = file.getframerate()
        audio = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2") / 32768.0
    divisor = np.gcd(rate, sample_rate)
    return np.asarray(resample_poly(audio, sample_rate // divisor, rate // divisor), dtype=np.float64)


def trim(audio: NDArray[np.float64], sample_rate: int) -> NDArray[np.float64]:
    """Return audio without the silence at both ends, but for one frame of margin at each.

    A frame of 10 ms is silent where its energy is `TRIM_BELOW_PEAK_DB` under that of the loudest frame.
    """
    size = round(TRIM_FRAME_S * sample_rate)
    energy = (audio[: len(audio) // size * size].reshape(-1, size) ** 2).sum(axis=1)
    loud = np.flatnonzero(energy > energy.max() * 10 ** (-TRIM_BELOW_PEAK_DB / 10))
    return audio[max(0, loud[0] - 1) * size : (loud[-1] + 2) * size]


def render(voice: str, word: str, index: int, sample_rate: int) -> NDArray[np.float64]:
    """Return rendering number `index` of a word by a voice, shape (n_samples,), in [-1, 1], quantised as int16."""
    seed = np.random.SeedSequence([SEED, index, *voice.encode(), 0, *word.encode()])
    rng = np.random.Generator(np.random.PCG64(seed))
    speed = int(rng.integers(SPEED_WPM[0], SPEED_WPM[1], endpoint=True))
    pitch = int(rng.integers(PITCH[0], PITCH[1], endpoint=True))
    peak = np.exp(rng.uniform(np.log(PEAK[0]), np.log(PEAK[1])))
    noise = peak * 10 ** (-rng.uniform(*NOISE_BELOW_PEAK_DB) / 20)
    speech = trim(synthesise(voice, word, speed, pitch, sample_rate), sample_rate)
    audio = speech * (peak / np.abs(speech).max()) + noise * rng.standard_normal(len(speech))
    samples = np.clip(np.rint(audio * 32768), -32768, 32767)
    return np.asarray(samples / 32768.0, dtype=np.float64)


def same_as_plain(voice: str) -> bool:
    """Return whether the variant of a voice has no effect: espeak-ng passes over unknown ones in silence."""
    plain = voice.partition("+")[0]
    word, rate = digits.CLASS_NAMES[0], digits.CONFIG.sample_rate
    return plain != voice and np.array_equal(
        synthesise(voice, word, 175, 50, rate), synthesise(plain, word, 175, 50, rate)
    )


def build(voices: tuple[str, ...], n_renderings: int, config: FeatureConfig) -> digits.Renderings:
    """Return the features of every rendering of every word by every voice, uncut, in the order of `digits`."""
    keys = [(v, w, i) for v in voices for w in digits.CLASS_NAMES for i in range(n_renderings)]

    def one(key: tuple[str, str, int]) -> NDArray[np.float64]:
        return log_mel(render(*key, config.sample_rate), config)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return tuple(pool.map(one, keys))


def main() -> None:
    """Write the file named on the command line."""
    parser = argparse.ArgumentParser(description="Synthesise the data set `digits` with espeak-ng.")
    parser.add_argument(
        "output", type=Path, nargs="?", default=digits.FILE, help="the .npz file to write (default: the package's)"
    )
    output: Path = parser.parse_args().output
    try:
        said = subprocess.run(["espeak-ng", "--version"], check=True, capture_output=True, text=True).stdout
    except FileNotFoundError:
        sys.exit("espeak-ng is not installed; on Debian: apt install espeak-ng")
    found = re.search(r"\d+(\.\d+)+", said)
    version = f"espeak-ng {found[0]}" if found else said.strip()
    if version != digits.SYNTHESISER:
        print(f"note: {version} here, {digits.SYNTHESISER} made the shipped file", file=sys.stderr)
    if same := [voice for voice in digits.VOICES if same_as_plain(voice)]:
        sys.exit(f"these voices sound as if they had no variant; is its name right? {', '.join(same)}")
    renderings = build(digits.VOICES, digits.N_RENDERINGS, digits.CONFIG)
    output.write_bytes(digits.pack(renderings))
    frames = sum(len(item) for item in renderings)
    print(f"{output}: {len(renderings)} renderings, {frames} frames, {output.stat().st_size} bytes ({version})")


if __name__ == "__main__":
    main()
