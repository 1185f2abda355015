"""Settings of pre-training, all in one place."""

from __future__ import annotations

import math
from dataclasses import dataclass

from deltatrain.errors import InputError
from deltatrain.model import N_GATES
from deltatrain.pretrain.augment import SPEECH, Augmentation
from deltatrain.reference import READOUT_KINDS
from deltatrain.thresholds import Thresholds, per_layer


@dataclass(frozen=True)
class FitConfig:
    """How a model is pre-trained.

    Attributes
    ----------
    cell : {"rnn", "gru", "lstm"}
    n_hidden : int
        Units of each layer.
    n_layers : int
    theta_x, theta_h : float or tuple of float
        Thresholds, in force from the first epoch, for all layers or each; in units of standardised features and of h.
    beta : float
        Weight of Σ|Δh| in the loss of a sequence.
    epochs, batch_size : int
    learning_rate : float
        Of Adam at its highest: it rises over the first epoch's steps and then falls as a cosine to zero.
    clip_norm : float
        Limit of the gradient's global norm.
    weight_decay : float
        Decoupled, on weights and not on biases.
    augmentation : Augmentation
        By default `SPEECH`. Data that are no spectra of sound, or have targets of their own for each frame, are not
        varied.
    readout : {"last", "frames", "regression"} or None
        Where the readout reads, and its loss; None for what the data's own targets are for, else "last".
    seed : int
        Of initial parameters, order and augmentation: the same seed gives the same model.
    """

    cell: str = "lstm"
    n_hidden: int = 64
    n_layers: int = 1
    theta_x: Thresholds = 0.3
    theta_h: Thresholds = 0.3
    beta: float = 0.0
    epochs: int = 25
    batch_size: int = 32
    learning_rate: float = 3e-3
    clip_norm: float = 1.0
    weight_decay: float = 0.0
    augmentation: Augmentation = SPEECH
    seed: int = 0
    readout: str | None = None

    def __post_init__(self) -> None:
        if self.cell not in N_GATES:
            raise InputError(f"cell {self.cell!r} is unknown; choose one of {', '.join(N_GATES)}")
        for name in ("n_hidden", "n_layers", "epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.readout not in (None, *READOUT_KINDS):
            raise InputError(f"readout {self.readout!r} is unknown; choose one of {', '.join(READOUT_KINDS)}")
        for name in ("theta_x", "theta_h"):
            for value in per_layer(getattr(self, name), self.n_layers, name):
                if not (math.isfinite(value) and value >= 0):
                    raise InputError(f"{name} is {value}; it must be a finite number of at least 0")
        for name in ("beta", "weight_decay"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise InputError(f"{name} is {getattr(self, name)}; it must be a finite number of at least 0")
        for name in ("learning_rate", "clip_norm"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise InputError(f"{name} is {getattr(self, name)}; it must be a finite number above 0")
        if self.seed < 0:
            raise InputError(f"seed is {self.seed}; it must be at least 0")
