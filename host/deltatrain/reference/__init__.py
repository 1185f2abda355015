"""Delta RNN, GRU and LSTM in float64, written as the equations stand: what everything else is measured by.

One sequence at a time, arrays as PyTorch lays them out, gate order i, f, g, o (LSTM) and r, z, n (GRU).
Nothing here is fast. Source of the method: Chen, Gao, Wang, Cheng, Zhou, Liu, Delbruck, *Exploiting Symmetric
Temporally Sparse BPTT for Efficient RNN Training*, AAAI 2024, arXiv 2312.09391.
"""

from deltatrain.reference.layers import (
    CELLS,
    DeltaGRU,
    DeltaLayer,
    DeltaLSTM,
    DeltaRNN,
    LayerGradients,
    LayerTrace,
)
from deltatrain.reference.network import (
    READOUT_KINDS,
    LossAndGradients,
    Network,
    NetworkTrace,
    Readout,
    frames_loss,
    regression_loss,
    softmax_cross_entropy,
)
from deltatrain.reference.operations import OperationCount, count_operations
from deltatrain.reference.parameters import Array, Parameters
from deltatrain.reference.sgd import DEFAULT_CLIP, DEFAULT_LEARNING_RATE, SgdStep, SgdTrainer

__all__ = [
    "CELLS",
    "DEFAULT_CLIP",
    "DEFAULT_LEARNING_RATE",
    "READOUT_KINDS",
    "Array",
    "DeltaGRU",
    "DeltaLSTM",
    "DeltaLayer",
    "DeltaRNN",
    "LayerGradients",
    "LayerTrace",
    "LossAndGradients",
    "Network",
    "NetworkTrace",
    "OperationCount",
    "Parameters",
    "Readout",
    "SgdStep",
    "SgdTrainer",
    "count_operations",
    "frames_loss",
    "regression_loss",
    "softmax_cross_entropy",
]
