"""Pre-training on the host: Adam on mini-batches, vectorised over the batch, with the thresholds in place."""

from deltatrain.pretrain.augment import KNOWN_SPEAKERS, SPEECH, Augmentation
from deltatrain.pretrain.config import FitConfig
from deltatrain.pretrain.evaluation import Evaluation, evaluate
from deltatrain.pretrain.fit import Epoch, Fitted, fit, initial_parameters

__all__ = [
    "KNOWN_SPEAKERS",
    "SPEECH",
    "Augmentation",
    "Epoch",
    "Evaluation",
    "FitConfig",
    "Fitted",
    "evaluate",
    "fit",
    "initial_parameters",
]
