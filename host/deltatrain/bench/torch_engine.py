"""PyTorch's training step on the same case, where PyTorch is installed; never needed."""

from __future__ import annotations

import importlib
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deltatrain.errors import InputError
from deltatrain.model import FloatModel, LayerWeights

Float32 = NDArray[np.float32]

MODULES = {"lstm": "LSTM", "gru": "GRU", "rnn": "RNN"}
# Small, so that thousands of steps on one sample stay finite; what a step costs does not depend on it.
RATE = 1e-4


def load() -> Any | None:
    """The package, held to one thread; None where there is none."""
    try:
        torch: Any = importlib.import_module("torch")
    except ImportError:
        return None
    torch.set_num_threads(1)
    return torch


class TorchNetwork:
    """nn.LSTM, nn.GRU or nn.RNN with a linear readout of the last frame, cross-entropy and SGD; batch 1, float32.

    InputError where PyTorch is not installed.
    """

    def __init__(self, model: FloatModel) -> None:
        torch = load()
        if torch is None:
            raise InputError("PyTorch is not installed here; pip install torch, or leave out --engine pytorch")
        self._torch = torch
        first = model.layers[0]
        self._cells = getattr(torch.nn, MODULES[first.cell])(first.n_in, first.n_hidden, len(model.layers))
        self._readout = torch.nn.Linear(first.n_hidden, model.n_outputs)
        with torch.no_grad():
            for number, layer in enumerate(model.layers):
                for name, values in _named(layer).items():
                    getattr(self._cells, f"{name}_l{number}").copy_(_tensor(torch, values))
            self._readout.weight.copy_(_tensor(torch, model.readout_weight))
            self._readout.bias.copy_(_tensor(torch, model.readout_bias))
        parameters = [*self._cells.parameters(), *self._readout.parameters()]
        self._optimizer = torch.optim.SGD(parameters, lr=RATE)

    def train(self, x: Any, label: Any) -> Any:
        """One step on tensors x (steps, 1, n_in) and label (1,); the loss before it, a tensor."""
        self._optimizer.zero_grad()
        h, _ = self._cells(x)
        loss = self._torch.nn.functional.cross_entropy(self._readout(h[-1]), label)
        loss.backward()
        self._optimizer.step()
        return loss.detach()

    def tensors(self, x: Float32, label: int) -> tuple[Any, Any]:
        """A sample as `train` takes it."""
        return _tensor(self._torch, x[:, None, :]), self._torch.tensor([label])

    def time(self, x: Any, label: Any, repetitions: int) -> float:
        """Seconds of processor time of a step, the mean over repetitions."""
        start = time.process_time()
        for _ in range(repetitions):
            self.train(x, label)
        return (time.process_time() - start) / repetitions


def _named(layer: LayerWeights) -> dict[str, NDArray[np.float64]]:
    bias_ih, bias_hh = layer.torch_biases()
    return {"weight_ih": layer.weight_ih, "weight_hh": layer.weight_hh, "bias_ih": bias_ih, "bias_hh": bias_hh}


def _tensor(torch: Any, values: NDArray[Any]) -> Any:
    """A copy in float32; through lists, for PyTorch may have been built for another numpy."""
    return torch.tensor(values.tolist(), dtype=torch.float32)
