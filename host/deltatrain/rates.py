"""How often the fixed-point trainer clamped a value or lost one, as fractions: whether the formats hold over a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Protocol

from deltatrain.model import N_ACCUMULATORS
from deltatrain.quant_model import QuantModel


class Counts(Protocol):
    """What a sample's outcome counts; see `drnn_result_t`."""

    @property
    def n_steps(self) -> int: ...
    @property
    def saturated_h(self) -> int: ...
    @property
    def saturated_c(self) -> int: ...
    @property
    def saturated_grad(self) -> int: ...
    @property
    def saturated_w(self) -> int: ...
    @property
    def underflow_dm(self) -> int: ...


class Inputs(Protocol):
    """Feature values, and how many of them the input format clamped; `Samples`."""

    @property
    def saturated(self) -> int: ...
    @property
    def values(self) -> int: ...


@dataclass(frozen=True)
class Rates:
    """Fractions of the values computed in training steps.

    Attributes
    ----------
    saturated_x : float
        Feature values that the input format clamped, of all feature values of the samples.
    saturated_h, saturated_c : float
        Of the hidden states, and of the LSTM's cell states (GRU: M_nh as kept); 0 where a cell keeps none.
    saturated_grad : float
        Saturations of carried gradients, for each entry of dM.
    saturated_w : float
        Weights and biases at the end of their range, of all parameters in every step.
    underflow_dm : float
        Entries of dM that became 0 as int16 though they were not, of all entries.
    """

    saturated_x: float
    saturated_h: float
    saturated_c: float
    saturated_grad: float
    saturated_w: float
    underflow_dm: float

    @staticmethod
    def of(model: QuantModel, results: Sequence[Counts], *samples: Inputs, n_steps: int | None = None) -> Rates:
        """Rates of training steps.

        Parameters
        ----------
        results : sequence of Counts
            Of each step, or sums over several.
        samples : Inputs
            Of them is x's rate; they may be more than were trained on.
        n_steps : int, optional
            Training steps, where results are sums.
        """
        frames = sum(result.n_steps for result in results)
        hidden = frames * sum(layer.n_hidden for layer in model.layers)
        kept = frames * sum(layer.n_hidden for layer in model.layers if layer.cell != "rnn")
        entries = frames * sum(N_ACCUMULATORS[layer.cell] * layer.n_hidden for layer in model.layers)
        parameters = (len(results) if n_steps is None else n_steps) * sum(
            tensor.size for tensor in model.tensors().values()
        )

        def rate(name: str, values: int) -> float:
            return float(sum(getattr(result, name) for result in results) / max(values, 1))

        return Rates(
            saturated_x=sum(part.saturated for part in samples) / max(sum(part.values for part in samples), 1),
            saturated_h=rate("saturated_h", hidden),
            saturated_c=rate("saturated_c", kept),
            saturated_grad=rate("saturated_grad", entries),
            saturated_w=rate("saturated_w", parameters),
            underflow_dm=rate("underflow_dm", entries),
        )

    def to_dict(self) -> dict[str, float]:
        """JSON-ready."""
        return asdict(self)
