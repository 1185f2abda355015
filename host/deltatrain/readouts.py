"""Targets of the three readouts: one class an utterance, a class a frame, or values a frame; and the units of values.

A data set of labelled utterances serves all three: `frames` says the label at every frame, `regression` is 1 for the
label's output and 0 for the others. A set with targets of its own (`Dataset.targets`) serves the readout they are for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deltatrain.errors import InputError

Array = NDArray[np.float64]

NO_CLASS = -1
"""Class of a frame without a target."""

_CONSTANT_STD = 1e-9  # an output that spreads less is constant: dividing by it would only amplify rounding


@dataclass(frozen=True)
class TargetScale:
    """Units in which a regression is trained: (value − mean) / std of each output; empty where values stay."""

    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    @staticmethod
    def fit(targets: Sequence[NDArray[Any]]) -> TargetScale:
        """Mean and standard deviation of each output over all frames of sequences (T, K); 1 where it is constant."""
        frames = np.concatenate([np.asarray(item, np.float64) for item in targets])
        std = frames.std(axis=0)
        std[std < _CONSTANT_STD * (1 + np.abs(frames.mean(axis=0)))] = 1.0
        return TargetScale(tuple(frames.mean(axis=0).tolist()), tuple(std.tolist()))

    def apply(self, values: NDArray[Any]) -> Array:
        """Values (T, K) in these units."""
        scaled: Array = np.asarray(values, np.float64)
        if self.mean:
            scaled = (scaled - np.array(self.mean, np.float64)) / np.array(self.std, np.float64)
        return scaled

    def to_dict(self) -> dict[str, list[float]]:
        """JSON-ready."""
        return {"mean": list(self.mean), "std": list(self.std)}

    @staticmethod
    def from_dict(values: Mapping[str, Any] | None) -> TargetScale:
        """The inverse of `to_dict`; ValueError where that cannot be. None, of older files, is not scaled."""
        if values is None:
            return NOT_SCALED
        scale = TargetScale(*(tuple(float(v) for v in values[key]) for key in ("mean", "std")))
        if len(scale.mean) != len(scale.std) or not np.isfinite(scale.mean).all() or not all(s > 0 for s in scale.std):
            raise ValueError(f"target scale {scale}")
        return scale


NOT_SCALED = TargetScale()


def one_hot(labels: NDArray[Any], n_outputs: int) -> Array:
    """Values (T, K) of classes (T,): 1 for each one's own output, 0 for the others."""
    return np.asarray(np.asarray(labels)[:, None] == np.arange(n_outputs), np.float64)


def frame_targets(
    readout: str, label: int, own: NDArray[Any] | None, n_frames: int, n_outputs: int
) -> NDArray[Any] | None:
    """What the outputs at an item's frames should be.

    Parameters
    ----------
    readout : {"last", "frames", "regression"}
    label : int
        Of the utterance, where it has no targets of its own.
    own : ndarray, shape (T,) int or (T, K) float, or None
        Targets of a data set that has them; the first `n_frames` are taken.

    Returns
    -------
    None for the readout at the last frame, classes (n_frames,) int64, or values (n_frames, n_outputs) float64

    Raises
    ------
    InputError
        If targets of its own are not for this readout.
    """
    if own is None:
        if readout == "last":
            return None
        labels = np.full(n_frames, label, np.int64)
        return labels if readout == "frames" else one_hot(labels, n_outputs)
    kind = "frames" if own.ndim == 1 else "regression"
    if kind != readout:
        what = "classes" if own.ndim == 1 else "values"
        raise InputError(
            f"these data have {what} as targets of their frames, which the readout `{readout}` does not take; "
            f"use a model with `{kind}`"
        )
    return own[:n_frames]
