"""Variations of training sequences that need no recording: gain, noise, speed, shift in time and in pitch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from deltatrain.errors import InputError

Frames = npt.NDArray[np.floating]


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
        self,
        sequences: Sequence[Frames],
        std: npt.NDArray[np.float64],
        max_steps: int,
        rng: np.random.Generator,
    ) -> list[Frames]:
        """Vary standardised sequences, each with draws of its own.

        All are interpolated as one array; what happens to a sequence is the same, bit for bit, alone or among others.

        Parameters
        ----------
        sequences : sequence of ndarray, each (T, n_bands)
            Standardised features.
        std : ndarray, shape (n_bands,), nats
            Of each band: a level in nats is worth 1/std standardised.
        max_steps : int
            Results are cut to this length.
        rng : Generator

        Returns
        -------
        list of ndarray, each (T', n_bands), T' from 1 to max_steps
        """
        if self.is_nothing:
            return [sequence[:max_steps] for sequence in sequences]
        draws = [self._draw(sequence.shape, max_steps, rng) for sequence in sequences]
        out = np.concatenate([sequence[draw.start :] for sequence, draw in zip(sequences, draws, strict=True)])
        steps = np.array([draw.steps for draw in draws])
        if self.speed:
            before = np.array([len(sequence) - draw.start for sequence, draw in zip(sequences, draws, strict=True)])
            out = _stretched(out, before, steps)
        n_bands = out.shape[1]
        if self.warp:
            bands = np.clip(np.arange(n_bands) + np.array([[draw.warp] for draw in draws]), 0, n_bands - 1)
            low = bands.astype(np.intp)
            weight = np.repeat((bands - low).astype(out.dtype), steps, axis=0)
            at = np.repeat(low, steps, axis=0) + np.arange(len(out))[:, None] * n_bands
            # At the last band the weight is 0, so it may as well be mixed with itself.
            beside = np.repeat(np.minimum(low + 1, n_bands - 1) - low, steps, axis=0)
            out = out.take(at) * (1 - weight) + out.take(at + beside) * weight
        if self.gain or self.tilt:
            level = np.array([[draw.gain] for draw in draws])
            level = level + np.array([[draw.tilt] for draw in draws]) * np.linspace(-1, 1, n_bands)
            out = out + np.repeat((level / std).astype(out.dtype), steps, axis=0)
        if self.noise:
            out = out + np.concatenate([draw.noise for draw in draws]).astype(out.dtype)
        ends = np.cumsum(steps)
        return [out[end - count : end][:max_steps] for end, count in zip(ends, steps, strict=True)]

    def _draw(self, shape: tuple[int, ...], max_steps: int, rng: np.random.Generator) -> _Draw:
        """What happens to one sequence of this shape."""
        start = min(int(rng.integers(0, self.shift + 1)), shape[0] - 1) if self.shift else 0
        steps = shape[0] - start
        if self.speed:
            steps = min(max(round(steps * float(np.exp(rng.uniform(-self.speed, self.speed)))), 1), max_steps)
        warp = rng.uniform(-self.warp, self.warp) if self.warp else 0.0
        gain = rng.normal(0, self.gain) if self.gain else 0.0
        tilt = rng.normal(0, self.tilt) if self.tilt else 0.0
        noise = rng.normal(0, self.noise, (steps, shape[1])) if self.noise else _NO_NOISE
        return _Draw(start, steps, warp, gain, tilt, noise)


@dataclass(frozen=True)
class _Draw:
    """The variation of one sequence: first frame, frames after stretching, bands, nats, nats, and (steps, n_bands)."""

    start: int
    steps: int
    warp: float
    gain: float
    tilt: float
    noise: npt.NDArray[np.float64]


_NO_NOISE = np.empty((0, 0))

SPEECH = Augmentation(gain=1.0, speed=0.2, warp=1.0)
"""Other levels, speaking rates and vocal tracts; chosen with `tools/tune_personal.py`."""

KNOWN_SPEAKERS = Augmentation(gain=0.5, speed=0.1, warp=0.5)
"""Half as strong, for models whose speakers are those they learnt from; chosen for `sweep`, see docs/SWEEP.md."""


def _stretched(rows: Frames, before: npt.NDArray[np.intp], after: npt.NDArray[np.intp]) -> Frames:
    """Concatenated sequences of `before` frames each, interpolated to `after` frames that reach from end to end."""
    last = before - 1
    step = last / np.maximum(after - 1, 1)
    ends = np.cumsum(after)
    number = np.arange(ends[-1]) - np.repeat(ends - after, after)
    position = number * np.repeat(step, after)
    position[ends[after > 1] - 1] = last[after > 1]
    low = np.minimum(position.astype(np.intp), np.repeat(last, after))
    weight = (position - low).astype(rows.dtype)[:, None]
    first = np.repeat(np.cumsum(before) - before, after)
    high = np.minimum(low + 1, np.repeat(last, after))
    return np.asarray(rows[first + low] * (1 - weight) + rows[first + high] * weight)
