"""What the main job leaves behind: all that its report shows, and all that `--json` prints."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deltatrain.comparison import Comparison
from deltatrain.quant_model import QuantModel
from deltatrain.quantize import H_FRAC_BITS, TensorFormat
from deltatrain.rates import Rates
from deltatrain.training import Evaluation, Operations, Settings, count_operations


@dataclass(frozen=True)
class FirmwareSize:
    """Sizes of the firmware in bytes, from its ELF file; `ram` by purpose adds up to `ram_bytes`."""

    flash_bytes: int
    ram_bytes: int
    ram: dict[str, int]
    arena_bytes: int


@dataclass(frozen=True)
class Story:
    """A model meets a new speaker: before, training on the device, after, and the proof of equality.

    Attributes
    ----------
    data, speaker : str
        Data set, and the speaker that pre-training never saw.
    target : str
        As the user named it, e.g. `qemu:mps2-an386`; `board` is its title.
    model : QuantModel
        As exported, before training on the device.
    formats : tuple of TensorFormat
        The table of formats.
    settings : Settings
        Learning rate, clip, thresholds and seed of the training.
    per_class, epochs : int
        Training utterances of each class, and passes over them.
    before, after : Evaluation
        Of the speaker's other utterances, on the device.
    known_before, known_after : float
        Error on speakers of the pre-training data, whose utterances were not trained on: what was forgotten.
    float_after : float
        Error after the same training in float64, on the same test utterances.
    comparison : Comparison
        Every training step, device against host.
    instructions : tuple of int
        Executed instructions of each training step (forward, backward, update); empty where the target has no
        instruction counter.
    size : FirmwareSize
    n_cut, n_saturated : int
        Utterances longer than the firmware's maximum, and feature values that the input format clamped.
    rates : Rates
        Saturations and underflows of the training steps, and of the features, as fractions.
    seconds : dict of str to float
        Wall time by part of the job.
    pretrained_here : bool
        Whether the model was pre-trained in this run, rather than taken from a file.
    replay_budget : int or None
        Bytes of flash that exemplars were allowed; None for the default.
    """

    data: str
    speaker: str
    target: str
    board: str
    model: QuantModel
    formats: tuple[TensorFormat, ...]
    settings: Settings
    per_class: int
    epochs: int
    before: Evaluation
    after: Evaluation
    known_before: float
    known_after: float
    float_after: float
    comparison: Comparison
    instructions: tuple[int, ...]
    size: FirmwareSize
    n_cut: int
    n_saturated: int
    rates: Rates
    seconds: dict[str, float]
    pretrained_here: bool
    replay_budget: int | None = None

    @property
    def operations(self) -> Operations:
        """Dense and executed MACs of the training steps."""
        return count_operations(self.model, [step.result for step in self.comparison.steps])

    @property
    def thetas(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Each layer's θx and θh in real units: standardised features for the first layer's x, else h."""
        pairs = zip(self.settings.theta_x, self.model.layers, strict=True)
        return (
            tuple(theta / 2**layer.x_frac_bits for theta, layer in pairs),
            tuple(theta / 2**H_FRAC_BITS for theta in self.settings.theta_h),
        )

    @property
    def of_utterances(self) -> bool:
        """Whether an error is an utterance not recognised, rather than of targets that the data have themselves."""
        return self.after.judged_by == "utterances"

    def to_dict(self, report: Path | None) -> dict[str, Any]:
        """What `deltatrain demo --json` prints."""
        comparison = self.comparison
        first = comparison.first_difference
        return {
            "data": self.data,
            "speaker": self.speaker,
            "target": self.target,
            "error_before": self.before.error,
            "error_after": self.after.error,
            "error_after_float": self.float_after,
            "known_error_before": self.known_before,
            "known_error_after": self.known_after,
            "test_samples": len(self.after.labels),
            "train_steps": len(comparison.new_steps),
            "replay_steps": len(comparison.steps) - len(comparison.new_steps),
            "replay_bytes": self.model.replay_bytes,
            "replay_rate": self.settings.replay_rate,
            "op_reduction": self.operations.reduction,
            "words_compared": comparison.words_compared,
            "words_different": comparison.words_different,
            "first_difference": None if first is None else first.to_dict(),
            "float_error": comparison.float_error,
            "instructions_per_step": (sum(self.instructions) / len(self.instructions) if self.instructions else None),
            "flash_bytes": self.size.flash_bytes,
            "ram_bytes": self.size.ram_bytes,
            "ram": self.size.ram,
            "cut": self.n_cut,
            "saturated_features": self.n_saturated,
            "rates": self.rates.to_dict(),
            "readout": self.model.readout,
            "frame_error_before": self.before.frame_error,
            "frame_error_after": self.after.frame_error,
            "mean_squared_error_before": self.before.mean_squared_error,
            "mean_squared_error_after": self.after.mean_squared_error,
            "theta_x": self.thetas[0][0],
            "theta_h": self.thetas[1][0],
            "theta_x_of_layers": list(self.thetas[0]),
            "theta_h_of_layers": list(self.thetas[1]),
            "learning_rate": float(self.settings.learning_rate),
            "clip": float(self.settings.clip),
            "beta": float(self.settings.beta),
            "seed": self.settings.seed,
            "seconds": self.seconds,
            "report": None if report is None else str(report),
        }
