"""Variations of training sequences that need no recording: gain, noise, speed, shift in time and in pitch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from deltatrain.errors import InputError

Sequence = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Augmentation:
    """How strongly each training sequence is varied; 0 leaves a variation out.

    Attributes
    ----------
    gain : float, nats
        One level a sequence, normally distributed with this deviation, added to every raw log-mel value.
    tilt : float, nats
        A straight line over the bands, from −tilt to tilt times a normal draw: another microphone.
    noise : float, standard deviations of the band
        Added to each value by itself.
    speed : float
        Duration is multiplied by exp(u), u uniform in ±speed, by linear interpolation between frames.
    shift : int
        Up to this many frames are dropped at the start.
    warp : float, bands
        The spectrum moves by up to this many bands up or down, by linear interpolation: another vocal tract.
    """

    gain: float = 0.0
    tilt: float = 0.0
    noise: float = 0.0
    speed: float = 0.0
    shift: int = 0
    warp: float = 0.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not (np.isfinite(value) and value >= 0):
                raise InputError(f"augmentation {name} is {value}; it must be a finite number of at least 0")

    @property
    def is_nothing(self) -> bool:
        """Whether sequences come back as they are."""
        return not any(vars(self).values())

    def apply(
        self, sequence: Sequence, std: npt.NDArray[np.float64], max_steps: int, rng: np.random.Generator
    ) -> Sequence:
        """Vary one standardised sequence.

        Parameters
        ----------
        sequence : ndarray, shape (T, n_bands)
            Standardised features.
        std : ndarray, shape (n_bands,), nats
            Of each band: a level in nats is worth 1/std standardised.
        max_steps : int
            The result is cut to this length.
        rng : Generator

        Returns
        -------
        ndarray, shape (T', n_bands), T' from 1 to max_steps
        """
        out = sequence
        if self.shift:
            out = out[min(int(rng.integers(0, self.shift + 1)), len(out) - 1) :]
        if self.speed:
            factor = float(np.exp(rng.uniform(-self.speed, self.speed)))
            steps = int(np.clip(round(len(out) * factor), 1, max_steps))
            out = _between(out, np.linspace(0, len(out) - 1, steps))
        if self.warp:
            bands = np.arange(out.shape[1]) + rng.uniform(-self.warp, self.warp)
            out = _between(out.T, np.clip(bands, 0, out.shape[1] - 1)).T
        level = np.zeros(out.shape[1])
        if self.gain:
            level += rng.normal(0, self.gain)
        if self.tilt:
            level += rng.normal(0, self.tilt) * np.linspace(-1, 1, out.shape[1])
        if self.gain or self.tilt:
            out = out + (level / std).astype(out.dtype)
        if self.noise:
            out = out + rng.normal(0, self.noise, out.shape).astype(out.dtype)
        return np.asarray(out[:max_steps], dtype=sequence.dtype)


SPEECH = Augmentation(gain=1.0, speed=0.2, warp=1.0)
"""Other levels, speaking rates and vocal tracts; chosen with `tools/tune_personal.py`."""


def _between(rows: Sequence, positions: npt.NDArray[np.float64]) -> Sequence:
    """Rows at fractional positions, by linear interpolation."""
    low = np.minimum(positions.astype(np.intp), len(rows) - 1)
    high = np.minimum(low + 1, len(rows) - 1)
    weight = (positions - low).astype(rows.dtype)[:, None]
    return np.asarray(rows[low] * (1 - weight) + rows[high] * weight)
