"""The C core and the float32 network, compiled for this very computer where the bench runs."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from cffi import FFI
from numpy.typing import NDArray

import deltatrain_core
import deltatrain_firmware
from deltatrain.errors import BuildError, InputError
from deltatrain.link import protocol
from deltatrain.model import FloatModel
from deltatrain_codegen.baseline import flat_parameters

Float32 = NDArray[np.float32]

N_PROCESSES = 2
HERE = Path(__file__).resolve().parent
COMMON = ("-std=c11", "-D_POSIX_C_SOURCE=199309L", "-O3", "-march=native", "-Wall", "-Wextra")
FLOAT_FLAGS = (*COMMON, "-Wconversion", "-ffast-math")
CORE_HEADERS = ("drnn_types.h", "drnn_api.h")


def compile_library(
    name: str, sources: Sequence[Path], includes: Sequence[Path], flags: Sequence[str], cdef: str
) -> Any:
    """Compile C with this computer's compiler and load it; what cffi makes of it, with `ffi` beside.

    Raises
    ------
    BuildError
        If there is no compiler, or it refuses.
    """
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise BuildError("there is no C compiler on this computer; install it: sudo apt-get install gcc")
    ffi = FFI()
    ffi.cdef(cdef)
    with tempfile.TemporaryDirectory(prefix="deltatrain-") as folder:
        library = Path(folder) / f"{name}.so"
        options = [*flags, "-fPIC", *(f"-I{include}" for include in (*includes, HERE))]
        objects = [Path(folder) / f"{source.stem}.o" for source in sources]
        commands = [
            [compiler, *options, "-c", str(source), "-o", str(target)]
            for source, target in zip(sources, objects, strict=True)
        ]
        with ThreadPoolExecutor(N_PROCESSES) as pool:
            list(pool.map(_run, commands))
        # Linked without the flags: -ffast-math would change the arithmetic of this whole process.
        _run([compiler, "-shared", *map(str, objects), "-o", str(library)])
        return ffi, ffi.dlopen(str(library))


def _run(command: Sequence[str]) -> None:
    built = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if built.returncode:
        raise BuildError(f"{command[0]} refused ({' '.join(command)}):\n{built.stderr.strip()}")


@cache
def float_library(flags: tuple[str, ...] = FLOAT_FLAGS) -> Any:
    """The float32 network: (ffi, lib)."""
    folder = deltatrain_firmware.baseline()
    timing = (
        "double time_float(float_net_t *net, const float *initial, const float *x, int32_t steps, int32_t label, "
        "float rate, float clip, int32_t repetitions);"
    )
    return compile_library(
        "float_naive",
        [folder / "float_naive.c", HERE / "time_float.c"],
        [folder],
        flags,
        protocol.declarations(folder / "float_naive.h") + timing,
    )


@cache
def core_library() -> Any:
    """The C core: (ffi, lib), whose `drnn_t` is that of deltatrain_core."""
    include = deltatrain_core.include_dir()
    timing = (
        "double time_fixed(drnn_t *net, const int16_t *x, int32_t steps, int32_t n_in, int32_t label, "
        "int32_t repetitions, drnn_result_t *result);"
    )
    return compile_library(
        "core",
        [*deltatrain_core.sources(), HERE / "time_fixed.c"],
        [include],
        COMMON,
        "".join(protocol.declarations(include / name) for name in CORE_HEADERS) + timing,
    )


class FloatNaive:
    """The float32 network on this computer, trained in place.

    Parameters
    ----------
    model : FloatModel
        With a readout at the last step; its thresholds are not looked at. InputError for another readout.
    flags : tuple of str
        Of the compiler.
    """

    def __init__(self, model: FloatModel, flags: tuple[str, ...] = FLOAT_FLAGS) -> None:
        if model.readout != "last":
            raise InputError(
                f"the float32 network has a class at the last frame; this model's readout is {model.readout}"
            )
        self._ffi, self._lib = float_library(flags)
        self._net = self._ffi.new("float_net_t *")
        self._net.n_layers, self._net.n_outputs = len(model.layers), model.n_outputs
        self._net.max_steps, self._n_in = model.max_steps, model.n_in
        for place, layer in zip(self._net.layers, model.layers, strict=False):
            place.cell = self._ffi.typeof("enum float_cell").relements[f"FLOAT_{layer.cell.upper()}"]
            place.n_in, place.n_hidden = layer.n_in, layer.n_hidden
        self._memory = np.zeros(self._lib.float_naive_place(self._net, self._ffi.NULL), np.float32)
        self._lib.float_naive_place(self._net, self._ffi.from_buffer("float[]", self._memory))
        self._initial = flat_parameters(model)
        self.parameters[:] = self._initial

    @property
    def parameters(self) -> Float32:
        """All of them as they are now, in the order of float_naive.h; a view."""
        return self._memory[: self._net.n_parameters]

    @property
    def n_bytes(self) -> int:
        """Memory that it takes, its inputs aside."""
        return self._memory.nbytes

    def train(self, x: Float32, label: int, rate: float, clip: float) -> float:
        """One step of SGD on x (steps, n_in); the loss before it."""
        return float(self._lib.float_naive_train(self._net, self._pointer(x), len(x), label, rate, clip))

    def time(self, x: Float32, label: int, rate: float, clip: float, repetitions: int) -> float:
        """Seconds of processor time of a step, the mean over repetitions, each from the model's own parameters."""
        initial = self._ffi.from_buffer("float[]", self._initial)
        x_pointer = self._pointer(x)
        total = self._lib.time_float(self._net, initial, x_pointer, len(x), label, rate, clip, repetitions)
        return float(total) / repetitions

    def _pointer(self, x: Float32) -> Any:
        if x.shape[1:] != (self._n_in,) or not 1 <= len(x) <= self._net.max_steps or x.dtype != np.float32:
            raise InputError(
                f"a sample is {x.dtype}{list(x.shape)}; it must be float32[1 to {self._net.max_steps}, {self._n_in}]"
            )
        return self._ffi.from_buffer("float[]", np.ascontiguousarray(x))
