"""Audio to log-mel features: the one extractor that every audio data set and every model goes through.

The thresholds θ of a delta network are measured in units of these features, so a model stores the
`FeatureConfig` it was trained with and evaluation never uses another one.

Power scale
-----------
Audio is int16 / 32768, so it lies in [-1, 1). The power of an FFT bin is |X_k|² of the Hann-windowed frame,
not divided by the length of the frame; a band is the sum of its bins weighted by a triangle of peak 1. With
200-sample windows a full-scale sine in the middle of a band gives about ln(2500) = 7.8. The floor
ln(1e-6) = -13.8 is the power of white noise of 2.4 steps of int16 (lowest band, -83 dB of full scale) to 1.0
(highest, widest band): rounding noise and digital silence stay at the floor, quiet recordings well above it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deltatrain.errors import InputError

FloatArray = NDArray[np.float64]

# A band whose spread is below this (in nats) is constant; dividing by it would only amplify rounding.
_CONSTANT_BAND_STD = 1e-6


@dataclass(frozen=True)
class FeatureConfig:
    """Everything that decides what a feature value means.

    Attributes
    ----------
    sample_rate : int
        Samples per second of the audio, Hz.
    window_s, hop_s : float
        Length of the Hann window and distance between windows, seconds.
    n_fft : int
        Points of the FFT; windows are zero-padded to it.
    n_bands : int
        Triangular mel bands, equally wide on the mel scale between `f_min` and `f_max`.
    f_min, f_max : float
        Lower edge of the first and upper edge of the last band, Hz.
    log_floor : float
        Added to the power before the natural logarithm.
    max_frames : int
        Data sets keep the first `max_frames` frames of a recording and count those that were longer.
    mean, std : tuple of float, length 0 or n_bands
        Standardisation of each band, nats; empty until `fit_standardisation` has seen pre-training data.
    """

    sample_rate: int = 8000
    window_s: float = 0.025
    hop_s: float = 0.010
    n_fft: int = 256
    n_bands: int = 16
    f_min: float = 80.0
    f_max: float = 3800.0
    log_floor: float = 1e-6
    max_frames: int = 64
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for name in ("sample_rate", "n_fft", "n_bands", "max_frames"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise InputError(f"feature setting {name} is {value!r}; it must be an integer of at least 1")
        for name in ("window_s", "hop_s", "f_min", "f_max", "log_floor"):
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
                raise InputError(f"feature setting {name} is {value!r}; it must be a finite number, not negative")
        if self.log_floor == 0:
            raise InputError("feature setting log_floor is 0; digital silence would become minus infinity")
        if not 1 <= self.window_samples <= self.n_fft:
            raise InputError(
                f"a window of {self.window_s} s at {self.sample_rate} Hz has {self.window_samples} samples; "
                f"it must have between 1 and n_fft = {self.n_fft}"
            )
        if self.hop_samples < 1:
            raise InputError(f"a hop of {self.hop_s} s at {self.sample_rate} Hz is less than one sample")
        if not self.f_min < self.f_max <= self.sample_rate / 2:
            raise InputError(
                f"mel bands from {self.f_min} to {self.f_max} Hz; they must rise and end at or below "
                f"half the sample rate, {self.sample_rate / 2} Hz"
            )
        for name in ("mean", "std"):
            values = getattr(self, name)
            if len(values) not in (0, self.n_bands) or not all(math.isfinite(v) for v in values):
                raise InputError(
                    f"feature setting {name} has {len(values)} values; it must be empty or hold "
                    f"{self.n_bands} finite numbers, one for each band"
                )
        if len(self.mean) != len(self.std) or any(s <= 0 for s in self.std):
            raise InputError("feature settings mean and std must come together, and every std must be above 0")

    @property
    def window_samples(self) -> int:
        """Samples in one window."""
        return round(self.window_s * self.sample_rate)

    @property
    def hop_samples(self) -> int:
        """Samples from the start of one window to the start of the next."""
        return round(self.hop_s * self.sample_rate)

    @property
    def is_standardised(self) -> bool:
        """Whether `mean` and `std` are known."""
        return bool(self.mean)

    def raw(self) -> FeatureConfig:
        """Return the same extraction without a standardisation."""
        return dataclasses.replace(self, mean=(), std=())

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as JSON-ready values."""
        return {
            field.name: list(value) if isinstance(value := getattr(self, field.name), tuple) else value
            for field in dataclasses.fields(self)
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> FeatureConfig:
        """Build the settings from what `to_dict` returned.

        Raises
        ------
        InputError
            If a setting is missing, unknown or out of range: a default in its place would change what the
            features mean without a word.
        """
        names = {field.name for field in dataclasses.fields(cls)}
        if wrong := sorted(names ^ set(values)):
            raise InputError(f"feature settings do not fit this version of deltatrain; they differ in {wrong}")
        try:
            return cls(**{**values, "mean": tuple(values["mean"]), "std": tuple(values["std"])})
        except TypeError as error:
            raise InputError(f"feature settings cannot be read: {error}") from error


@lru_cache(maxsize=8)
def _window(config: FeatureConfig) -> FloatArray:
    """Return the periodic Hann window, shape (window_samples,)."""
    n = config.window_samples
    return np.asarray(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n) / n), dtype=np.float64)


@lru_cache(maxsize=8)
def mel_filterbank(config: FeatureConfig) -> FloatArray:
    """Return the triangular mel bands.

    Parameters
    ----------
    config : FeatureConfig

    Returns
    -------
    ndarray, shape (n_fft // 2 + 1, n_bands), float64
        Weight of each FFT bin in each band, 0 to 1. Mel scale 2595 log10(1 + f / 700), O'Shaughnessy (1987).

    Raises
    ------
    InputError
        If a band is so narrow that it holds no FFT bin.
    """

    def mel(hertz: float) -> float:
        return 2595 * math.log10(1 + hertz / 700)

    edges_mel = np.linspace(mel(config.f_min), mel(config.f_max), config.n_bands + 2)
    edges = 700 * (10 ** (edges_mel / 2595) - 1)
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    bins = np.arange(config.n_fft // 2 + 1)[:, None] * (config.sample_rate / config.n_fft)
    weights = np.maximum(0, np.minimum((bins - low) / (centre - low), (high - bins) / (high - centre)))
    empty = np.flatnonzero(weights.sum(axis=0) == 0)
    if empty.size:
        raise InputError(
            f"mel band {empty[0]} ({low[empty[0]]:.0f} to {high[empty[0]]:.0f} Hz) holds no FFT bin; "
            f"use fewer than {config.n_bands} bands or more than {config.n_fft} FFT points"
        )
    weights.flags.writeable = False
    return np.asarray(weights, dtype=np.float64)


def log_mel(audio: ArrayLike, config: FeatureConfig) -> FloatArray:
    """Return the log-mel features of a recording, not standardised and not cut.

    Parameters
    ----------
    audio : array_like, shape (n_samples,), float
        Mono samples in [-1, 1] (int16 / 32768) at `config.sample_rate`.
    config : FeatureConfig

    Returns
    -------
    ndarray, shape (T, n_bands), float64, nats
        T = 1 + (n_samples - window_samples) // hop_samples; samples after the last whole window are left out.

    Raises
    ------
    InputError
        If the audio is empty, shorter than one window, not one-dimensional, not finite, or beyond [-1, 1].
    """
    samples = np.asarray(audio, dtype=np.float64)
    if samples.ndim != 1:
        raise InputError(f"audio has shape {samples.shape}; give one channel, shape (n_samples,)")
    if samples.size == 0:
        raise InputError("audio is empty; there is nothing to extract features from")
    if not np.isfinite(samples).all():
        where = int(np.flatnonzero(~np.isfinite(samples))[0])
        raise InputError(f"audio holds {samples[where]} at sample {where}; every sample must be a finite number")
    peak = float(np.abs(samples).max())
    if peak > 1:
        raise InputError(f"audio reaches {peak:g}; scale it to [-1, 1] (divide int16 samples by 32768)")
    count_frames(samples.size, config)
    frames = np.lib.stride_tricks.sliding_window_view(samples, config.window_samples)[:: config.hop_samples]
    spectrum = np.fft.rfft(frames * _window(config), n=config.n_fft, axis=1)
    power = spectrum.real**2 + spectrum.imag**2
    return np.asarray(np.log(power @ mel_filterbank(config) + config.log_floor), dtype=np.float64)


def count_frames(n_samples: int, config: FeatureConfig) -> int:
    """Frames of a recording, T of `log_mel`; InputError where it is shorter than one window."""
    window = config.window_samples
    if n_samples < window:
        # Padding would invent a frame that is mostly silence; such a recording holds no word.
        raise InputError(
            f"audio has {n_samples} samples, less than one window of {window} "
            f"({1000 * config.window_s:g} ms at {config.sample_rate} Hz); leave this recording out"
        )
    return 1 + (n_samples - window) // config.hop_samples


def fit_standardisation(config: FeatureConfig, features: Iterable[NDArray[np.floating[Any]]]) -> FeatureConfig:
    """Return `config` with the mean and standard deviation of each band over all frames.

    Parameters
    ----------
    config : FeatureConfig
    features : iterable of ndarray, shape (T, n_bands), float, nats
        Raw log-mel features of the **pre-training** recordings alone; validation, test and personal data
        must stay out.

    Raises
    ------
    InputError
        If there is no frame, or a feature is not finite or of another width.
    """
    checked = [_checked(config, item) for item in features]
    if not checked:
        raise InputError("no recordings to take the standardisation from; pre-training data are empty")
    frames = np.concatenate(checked)
    std = frames.std(axis=0)
    std[std < _CONSTANT_BAND_STD] = 1.0
    return dataclasses.replace(config, mean=tuple(map(float, frames.mean(axis=0))), std=tuple(map(float, std)))


def standardise(features: NDArray[np.floating[Any]], config: FeatureConfig) -> FloatArray:
    """Return features with the mean and spread of each band in the pre-training data taken out.

    Parameters
    ----------
    features : ndarray, shape (T, n_bands), float, nats
        Raw log-mel features.
    config : FeatureConfig
        With `mean` and `std`, as stored in a model.

    Returns
    -------
    ndarray, shape (T, n_bands), float64, standard deviations

    Raises
    ------
    InputError
        If `config` has no standardisation, or a feature is not finite or of another width.
    """
    if not config.is_standardised:
        raise InputError("features cannot be standardised: mean and std are not known; call fit_standardisation")
    mean, std = np.array(config.mean), np.array(config.std)
    return np.asarray((_checked(config, features) - mean) / std, dtype=np.float64)


def _checked(config: FeatureConfig, features: NDArray[np.floating[Any]]) -> FloatArray:
    """Return features as float64 after checking shape (T >= 1, n_bands) and finiteness."""
    values = np.asarray(features, dtype=np.float64)
    if values.ndim != 2 or values.shape[0] == 0 or values.shape[1] != config.n_bands:
        raise InputError(f"features have shape {values.shape}; expected (T, {config.n_bands}) with at least one frame")
    if not np.isfinite(values).all():
        step, band = (int(i) for i in np.argwhere(~np.isfinite(values))[0])
        raise InputError(f"features hold {values[step, band]} at frame {step}, band {band}; they must be finite")
    return values
