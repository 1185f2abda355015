"""One network in the C core, on this machine: the same sources, built for the PC, as run in the firmware."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from deltatrain.errors import SampleRefused
from deltatrain_core._core import ffi, lib

if TYPE_CHECKING:
    from deltatrain.exemplars import Exemplars
    from deltatrain.memory import Memory
    from deltatrain.quant_model import QuantModel
    from deltatrain.scale import Scale

Int16 = NDArray[np.int16]
Int32 = NDArray[np.int32]

CELLS = {"rnn": lib.DRNN_RNN, "gru": lib.DRNN_GRU, "lstm": lib.DRNN_LSTM}
MEMORIES = {"history": lib.DRNN_HISTORY, "checkpoints": lib.DRNN_CHECKPOINTS, "inference": lib.DRNN_INFERENCE}
READOUTS = {"last": lib.DRNN_LAST, "frames": lib.DRNN_FRAMES, "regression": lib.DRNN_REGRESSION}
# Gates, whose weights a column holds, and accumulators, each with a bias; drnn_layer_t.
N_GATES = {"rnn": 1, "gru": 3, "lstm": 4}
N_ACCUMULATORS = {"rnn": 1, "gru": 4, "lstm": 4}
MAX_LAYERS: int = lib.DRNN_MAX_LAYERS
# A frame without a target, in arrays of them: a class below 0, or a row of these.
NO_CLASS = -1
NO_VALUE = -(2**31)

# The core's ids of tensors by name. Those that a model's file has go by their names there; the others exist only while
# running: the hidden state, the LSTM's cell state, dM of the last training step, and the logits.
LAYER_TENSOR_IDS = {
    "weight": lib.DRNN_T_WEIGHT,
    "bias": lib.DRNN_T_BIAS,
    "hidden": lib.DRNN_T_HIDDEN,
    "cell": lib.DRNN_T_CELL,
    "dm": lib.DRNN_T_DM,
}
TENSOR_IDS = {
    "readout.weight": lib.DRNN_T_READOUT_WEIGHT,
    "readout.bias": lib.DRNN_T_READOUT_BIAS,
    "logits": lib.DRNN_T_LOGITS,
} | {
    f"layer{layer}.{kind}": lib.DRNN_T_PER_LAYER * layer + number
    for layer in range(MAX_LAYERS)
    for kind, number in LAYER_TENSOR_IDS.items()
}


class CoreError(Exception):
    """The core refused a call; `code` is its `DRNN_ERR_*`."""

    def __init__(self, call: str, code: int) -> None:
        super().__init__(f"{call}: {error_text(code)}")
        self.code = code


class EventsError(CoreError, SampleRefused):
    """The core dropped a sample whose events exceed the model's budget."""


@dataclass(frozen=True)
class StepResult:
    """The outcome of one sample: the fields of `drnn_result_t`, by the same names; see drnn_types.h."""

    loss: int
    predicted: int
    n_steps: int
    active_x: int
    active_h: int
    macs_forward: int
    macs_backward: int
    macs_gradient: int
    columns_updated: int
    clipped: int
    grad_exponent: int
    dm_exponent: int
    bound_m: int
    bound_e: int
    saturated_h: int
    saturated_c: int
    saturated_grad: int
    saturated_w: int
    underflow_dm: int
    n_targets: int
    n_wrong: int
    macs_recomputed: int


def error_text(code: int) -> str:
    """What an error code of the core means."""
    return str(ffi.string(lib.drnn_error_text(code)).decode())


def _check(call: str, code: int) -> int:
    if code == lib.DRNN_ERR_EVENTS:
        raise EventsError(call, code)
    if code < 0:
        raise CoreError(call, code)
    return code


def _elements(tensor: Any) -> NDArray[Any]:
    """What a `drnn_tensor_t` describes, in place."""
    buffer = ffi.buffer(tensor.data, tensor.count * tensor.item_bytes)
    return np.frombuffer(buffer, np.int16 if tensor.item_bytes == 2 else np.int32)


class _CModel:
    """A `drnn_model_t` and everything it points to, kept alive together.

    CoreError where a number does not fit its field, or a tensor the dimensions: C cannot see how long an array is.
    """

    def __init__(self, model: QuantModel) -> None:
        self._kept: list[Any] = []
        try:
            self._fill(model)
        except (KeyError, IndexError, OverflowError) as error:
            raise CoreError("drnn_model_t", lib.DRNN_ERR_MODEL) from error

    def _fill(self, model: QuantModel) -> None:
        self.layers = ffi.new("drnn_layer_t[]", len(model.layers))
        for target, layer in zip(self.layers, model.layers, strict=True):
            target.cell = CELLS[layer.cell]
            for field in ("x_frac_bits", "wx_frac_bits", "wh_frac_bits", "c_frac_bits", "n_in", "n_hidden"):
                setattr(target, field, getattr(layer, field))
            target.theta_x, target.theta_h = layer.theta_x, layer.theta_h
            n_weights = (layer.n_in + layer.n_hidden) * N_GATES[layer.cell] * layer.n_hidden
            target.weight = self._array("int16", layer.weight, n_weights)
            target.bias = self._array("int32", layer.bias, N_ACCUMULATORS[layer.cell] * layer.n_hidden)
        self.pointer = ffi.new("drnn_model_t *")
        self.pointer.abi_version = lib.DRNN_ABI_VERSION
        self.pointer.n_layers = len(model.layers)
        self.pointer.n_outputs = model.n_outputs
        self.pointer.max_steps = model.max_steps
        self.pointer.readout = READOUTS[model.readout]
        self.pointer.readout_frac_bits = model.readout_frac_bits
        self.set_memory(model.memory)
        self.pointer.learning_rate = (model.learning_rate.m, model.learning_rate.e)
        self.pointer.clip = (model.clip.m, model.clip.e)
        self.pointer.layers = self.layers
        n_weights = model.n_outputs * model.layers[-1].n_hidden
        self.pointer.readout_weight = self._array("int16", model.readout_weight, n_weights)
        self.pointer.readout_bias = self._array("int32", model.readout_bias, model.n_outputs)
        self.pointer.replay = ffi.NULL if model.replay is None else self._replay(model.replay)
        self.pointer.hash = model.hash()

    def set_memory(self, memory: Memory) -> None:
        """Another plan of memory for the same model."""
        try:
            self.pointer.memory = MEMORIES[memory.kind]
            self.pointer.segment_steps, self.pointer.event_budget = memory.segment_steps, memory.event_budget
        except (KeyError, OverflowError) as error:
            raise CoreError("drnn_model_t", lib.DRNN_ERR_MODEL) from error

    def _replay(self, store: Exemplars) -> Any:
        count = len(store.labels)
        replay = ffi.new("drnn_replay_t *")
        replay.n_exemplars, replay.n_bytes = count, store.events.size
        replay.events = self._array("uint8", store.events, store.events.size)
        replay.start = self._array("uint32", store.starts, count)
        replay.n_steps = self._array("uint16", store.n_steps, count)
        replay.label = self._array("uint8", store.labels, count)
        self._kept.append(replay)
        return replay

    def _array(self, dtype: str, values: NDArray[Any], count: int) -> Any:
        if values.dtype != dtype or values.size != count:
            raise CoreError("drnn_model_t", lib.DRNN_ERR_MODEL)
        array = ffi.from_buffer(f"const {dtype}_t[]", np.ascontiguousarray(values))
        self._kept.append(array)
        return array


def arena_plan(model: QuantModel) -> dict[str, int]:
    """Where each region of the arena starts, in bytes, in ascending order; `total` last.

    Regions of a layer are named as in `layer0.gates`. CoreError when the core does not support the model.
    """
    c_model = _CModel(model)
    plan = ffi.new("drnn_plan_t *")
    _check("drnn_plan", lib.drnn_plan(c_model.pointer, plan))
    starts = {
        f"layer{index}.{name}": int(getattr(plan.layers[index], name))
        for index in range(len(model.layers))
        for name, _ in ffi.typeof("drnn_layer_plan_t").fields
    }
    return starts | {name: int(getattr(plan, name)) for name, _ in ffi.typeof("drnn_plan_t").fields if name != "layers"}


def arena_sizes(model: QuantModel, memories: Iterable[Memory]) -> list[int]:
    """Bytes of arena by each plan of memory; 0 where the core does not support the model by it."""
    c_model = _CModel(model)
    sizes = []
    for memory in memories:
        c_model.set_memory(memory)
        sizes.append(int(lib.drnn_arena_size(c_model.pointer)))
    return sizes


class CoreNetwork:
    """The trainer, with one method for each function of drnn.h.

    Parameters
    ----------
    model : QuantModel
        Copied: training changes the arena, never the model.
    """

    def __init__(self, model: QuantModel) -> None:
        self._model = _CModel(model)
        self._n_in, self._n_hidden = model.layers[0].n_in, model.layers[-1].n_hidden
        self._n_outputs, self._regression = model.n_outputs, model.readout == "regression"
        self._top_hidden = f"layer{len(model.layers) - 1}.hidden"
        size = lib.drnn_arena_size(self._model.pointer)
        # A numpy array of 64-bit words is aligned as the arena must be.
        self._arena_words = np.zeros((int(size) + 7) // 8, np.uint64)
        self._arena = ffi.from_buffer("char[]", self._arena_words, require_writable=True)
        self._net = ffi.new("drnn_t *")
        _check("drnn_init", lib.drnn_init(self._net, self._model.pointer, self._arena, size))
        self._result = ffi.new("drnn_result_t *")
        self.arena_bytes = int(size)

    @property
    def address(self) -> int:
        """Of its `drnn_t`, for the same C sources compiled elsewhere; valid while this object lives."""
        return int(ffi.cast("uintptr_t", self._net))

    def configure(
        self,
        *,
        learning_rate: Scale,
        clip: Scale,
        theta_x: Sequence[int],
        theta_h: Sequence[int],
        seed: int,
        beta: Scale | None = None,
        step: int = 0,
    ) -> None:
        """Set what may change at run time; `drnn_configure`. A threshold for each layer; no `beta` is 0."""
        config = ffi.new("drnn_config_t *")
        config.learning_rate = (learning_rate.m, learning_rate.e)
        config.clip = (clip.m, clip.e)
        config.beta = (0, 0) if beta is None else (beta.m, beta.e)
        config.theta_x, config.theta_h = list(theta_x), list(theta_h)
        config.seed, config.step = seed, step
        _check("drnn_configure", lib.drnn_configure(self._net, config))

    def reset_weights(self) -> None:
        """Go back to the model's weights."""
        _check("drnn_reset_weights", lib.drnn_reset_weights(self._net))

    def begin(self) -> None:
        """Start a sample."""
        _check("drnn_begin", lib.drnn_begin(self._net))

    @overload
    def push(self, frames: Int16, want_hidden: Literal[True] = True, targets: Int32 | None = None) -> Int16: ...
    @overload
    def push(self, frames: Int16, want_hidden: Literal[False], targets: Int32 | None = None) -> None: ...

    def push(self, frames: Int16, want_hidden: bool = True, targets: Int32 | None = None) -> Int16 | None:
        """Frames of the sample, with the targets of readouts at every frame.

        Parameters
        ----------
        frames : ndarray, shape (k, n_in), int16
        want_hidden : bool
        targets : ndarray, int32, optional
            Classes, shape (k,), NO_CLASS where a frame has none; or values, shape (k, n_outputs), Q16, NO_VALUE there.

        Returns
        -------
        ndarray, shape (k, n_hidden), int16, Q1.14: h_t of the last layer after each frame, if wanted
        """
        if frames.shape[1:] != (self._n_in,) or frames.dtype != np.int16:
            raise ValueError(f"frames are {frames.dtype}{list(frames.shape)}, not int16[frames, {self._n_in}]")
        shape = (len(frames), self._n_outputs) if self._regression else (len(frames),)
        if targets is not None and (targets.shape != shape or targets.dtype != np.int32):
            raise ValueError(f"targets are {targets.dtype}{list(targets.shape)}, not int32{list(shape)}")
        hidden = np.empty((len(frames), self._n_hidden), np.int16)
        for number, frame in enumerate(np.ascontiguousarray(frames)):
            _check("drnn_push", lib.drnn_push(self._net, ffi.from_buffer("int16_t[]", frame)))
            if targets is not None:
                self._target(targets[number])
            if want_hidden:
                hidden[number] = self.tensor(self._top_hidden)
        return hidden if want_hidden else None

    def _target(self, target: Any) -> None:
        """Give the frame just pushed its target, if it has one."""
        if self._regression:
            if target[0] != NO_VALUE:
                values = ffi.from_buffer("int32_t[]", np.ascontiguousarray(target))
                _check("drnn_target_values", lib.drnn_target_values(self._net, values))
        elif target >= 0:
            # What does not fit 16 bits is no class either.
            _check("drnn_target_class", lib.drnn_target_class(self._net, min(int(target), 2**16 - 1)))

    def infer(self) -> StepResult:
        """Outputs at the last frame, and the loss over the targets so far."""
        _check("drnn_infer", lib.drnn_infer(self._net, self._result))
        return self._step_result()

    def train(self, label: int) -> StepResult:
        """One step of SGD on the class of the last frame."""
        _check("drnn_train", lib.drnn_train(self._net, label, self._result))
        return self._step_result()

    def learn(self) -> StepResult:
        """One step of SGD on the targets that the frames were given."""
        _check("drnn_learn", lib.drnn_learn(self._net, self._result))
        return self._step_result()

    def replay(self) -> StepResult:
        """One step of SGD on the stored exemplar whose turn it is; see `replay_next`."""
        _check("drnn_replay", lib.drnn_replay(self._net, self._result))
        return self._step_result()

    def replay_next(self) -> int:
        """Number of the exemplar that `replay` would take now."""
        return _check("drnn_replay_next", lib.drnn_replay_next(self._net))

    @property
    def n_refused(self) -> int:
        """Samples dropped so far because their events exceeded the model's budget."""
        return int(self._net.n_refused)

    def tensor(self, name: str) -> NDArray[Any]:
        """A copy of a tensor, flat; names as in TENSOR_IDS."""
        return _elements(self._describe(name)).copy()

    def set_tensor(self, name: str, values: NDArray[Any]) -> None:
        """Overwrite a trained tensor, between samples; CoreError where the values do not fit."""
        tensor = self._describe(name)
        elements = _elements(tensor)
        fitting = np.ravel(values).astype(elements.dtype)
        if not tensor.writable or fitting.size != elements.size:
            raise CoreError("drnn_tensor", lib.DRNN_ERR_TENSOR)
        if (fitting != np.ravel(values)).any():
            raise CoreError("drnn_tensor", lib.DRNN_ERR_RANGE)
        elements[:] = fitting

    def tensors(self, names: Iterable[str]) -> dict[str, NDArray[Any]]:
        """Several tensors by name."""
        return {name: self.tensor(name) for name in names}

    def _describe(self, name: str) -> Any:
        tensor = ffi.new("drnn_tensor_t *")
        _check("drnn_tensor", lib.drnn_tensor(self._net, TENSOR_IDS[name], tensor))
        return tensor

    def _step_result(self) -> StepResult:
        return StepResult(*(int(getattr(self._result, name)) for name in StepResult.__dataclass_fields__))
