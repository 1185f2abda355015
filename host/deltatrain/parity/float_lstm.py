"""Batch-1 SGD in float64 at the speed that a study needs: `SgdTrainer` for one LSTM layer, compiled from C."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from cffi import FFI
from numpy.typing import NDArray

from deltatrain.errors import InputError
from deltatrain.model import FloatModel

Array = NDArray[np.float64]

SOURCE = resources.files("deltatrain.parity") / "float_lstm.c"
# Sums may be taken in any order where a pragma says so; no other freedom, and no FMA but where the machine has it.
FLAGS = ("-std=c11", "-O3", "-march=native", "-fopenmp-simd", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC")


@lru_cache(maxsize=1)
def _library() -> tuple[Any, Any]:
    """Compile and load, once a process."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise InputError("the float64 side of the study is compiled where it runs and there is no cc; install gcc")
    text = SOURCE.read_text(encoding="utf-8")
    ffi = FFI()
    ffi.cdef(
        text[text.index("typedef") : text.index("} float_lstm_t;")]
        + "} float_lstm_t;\n"
        + "int32_t float_lstm_forward(const float_lstm_t *net, const double *x, int32_t steps);\n"
        + "double float_lstm_train(const float_lstm_t *net, const double *x, int32_t steps, int32_t label, "
        + "double learning_rate, double clip);"
    )
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "float_lstm.so"
        command = [compiler, *FLAGS, "-x", "c", "-", "-x", "none", "-lm", "-o", str(library)]
        built = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
        if built.returncode:
            raise InputError(f"{compiler} could not compile {SOURCE.name}:\n{built.stderr}")
        return ffi, ffi.dlopen(str(library))


class FloatLstm:
    """A float model with one LSTM layer, trained in place; equal to `SgdTrainer` but for the order of sums.

    Parameters
    ----------
    model : FloatModel
        One LSTM layer, readout at the last step; InputError otherwise.
    max_steps : int
        Longest sample.
    """

    def __init__(self, model: FloatModel, max_steps: int) -> None:
        if [layer.cell for layer in model.layers] != ["lstm"] or model.readout != "last":
            raise InputError("the compiled float64 trainer takes one LSTM layer with a readout at the last step alone")
        self._ffi, self._lib = _library()
        layer = model.layers[0]
        n, h, rows = layer.n_in + layer.n_hidden, layer.n_hidden, 4 * layer.n_hidden
        self._start, self._max_steps = model, max_steps
        self._arrays: dict[str, Array] = {
            "weight": np.ascontiguousarray(np.concatenate([layer.weight_ih, layer.weight_hh], axis=1).T),
            "bias": layer.bias.copy(),
            "readout_weight": model.readout_weight.copy(),
            "readout_bias": model.readout_bias.copy(),
            "delta": np.zeros((max_steps, n)),
            "gates": np.zeros((max_steps, rows)),
            "cell": np.zeros((max_steps + 1, h)),
            "tanh_cell": np.zeros((max_steps, h)),
            "m": np.zeros(rows),
            "v_hat": np.zeros(n),
            **{name: np.zeros(h) for name in ("hidden", "d_hidden", "d_h_hat", "d_cell")},
            "sums": np.zeros(rows),
            "logits": np.zeros(model.n_outputs),
        }
        self._net = self._ffi.new("float_lstm_t *")
        self._net.n_in, self._net.n_hidden, self._net.n_classes = layer.n_in, h, model.n_outputs
        self._net.theta_x, self._net.theta_h = layer.theta_x, layer.theta_h
        for name, array in self._arrays.items():
            setattr(self._net, name, self._ffi.from_buffer("double[]", array))

    def predict(self, x: Array) -> int:
        """The class of a sample x (T, n_in), C-contiguous float64."""
        return int(self._lib.float_lstm_forward(self._net, self._pointer(x), len(x)))

    def train(self, x: Array, label: int, learning_rate: float, clip: float) -> float:
        """One step of SGD; the loss before it."""
        return float(self._lib.float_lstm_train(self._net, self._pointer(x), len(x), label, learning_rate, clip))

    def model(self) -> FloatModel:
        """The model as it is now."""
        weight = self._arrays["weight"].T
        n_in = self._start.n_in
        tensors = {
            "layer0.weight_ih": weight[:, :n_in].copy(),
            "layer0.weight_hh": weight[:, n_in:].copy(),
            "layer0.bias": self._arrays["bias"].copy(),
            "readout.weight": self._arrays["readout_weight"].copy(),
            "readout.bias": self._arrays["readout_bias"].copy(),
        }
        return self._start.with_tensors(tensors)

    def _pointer(self, x: Array) -> Any:
        if x.ndim != 2 or x.shape[1] != self._start.n_in or not 1 <= len(x) <= self._max_steps or x.dtype != np.float64:
            raise InputError(
                f"a sample is {x.dtype}{list(x.shape)}; it must be float64[1 to {self._max_steps}, {self._start.n_in}]"
            )
        return self._ffi.from_buffer("double[]", x)
