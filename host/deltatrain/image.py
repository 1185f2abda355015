"""A quantised model as one file, `.drnn`, which devices use where it lies; and trained weights as one, `.drns`.

The layout is that of the structs in `drnn_image.h`, the header that the C reader compiles; docs/MODEL_FILE.md has it in
words.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from deltatrain.errors import ModelError
from deltatrain.exemplars import Exemplars
from deltatrain.features import FeatureConfig
from deltatrain.link import protocol
from deltatrain.memory import Memory
from deltatrain.model import N_ACCUMULATORS, N_GATES
from deltatrain.quant_model import QuantLayer, QuantModel
from deltatrain.scale import Scale

MAGIC = protocol.constant("DRNN_IMAGE_MAGIC")
VERSION = protocol.constant("DRNN_IMAGE_VERSION")
STATE_MAGIC = protocol.constant("DRNN_STATE_MAGIC")
STATE_VERSION = protocol.constant("DRNN_STATE_VERSION")
_CRC_START = protocol.constant("DRNN_IMAGE_CRC_START")
_ALIGN = 8
_LAYER_FIELDS = ("x_frac_bits", "wx_frac_bits", "wh_frac_bits", "c_frac_bits", "n_in", "n_hidden", "theta_x", "theta_h")
_CELL_NUMBERS = {name: number for number, name in protocol.CELLS.items()}
_READOUT_NUMBERS = {name: number for number, name in protocol.READOUTS.items()}
_MEMORY_NUMBERS = {name: number for number, name in protocol.MEMORIES.items()}


class _Arrays:
    """Arrays behind a head, each at a multiple of 8, in the order in which they came."""

    def __init__(self, start: int) -> None:
        self._start = start
        self.data = bytearray(-start % _ALIGN)

    def put(self, data: bytes) -> int:
        """Append; the place of the first byte in the file."""
        place = self._start + len(self.data)
        self.data += data + bytes(-len(data) % _ALIGN)
        return place


def encode(model: QuantModel) -> bytes:
    """The bytes of a model's file; the same model gives the same."""
    n_head, n_layer = protocol.size_of("drnn_image_t"), protocol.size_of("drnn_image_layer_t")
    arrays = _Arrays(n_head + n_layer * len(model.layers))
    layers = b"".join(
        protocol.pack(
            "drnn_image_layer_t",
            cell=_CELL_NUMBERS[layer.cell],
            weight=arrays.put(_little(layer.weight)),
            bias=arrays.put(_little(layer.bias)),
            **{name: getattr(layer, name) for name in _LAYER_FIELDS},
        )
        for layer in model.layers
    )
    names = b"".join(name.encode() + b"\0" for name in model.class_names)
    fields: dict[str, Any] = {
        "magic": MAGIC,
        "version": VERSION,
        "abi_version": protocol.ABI_VERSION,
        "n_layers": len(model.layers),
        "n_outputs": model.n_outputs,
        "max_steps": model.max_steps,
        "readout": _READOUT_NUMBERS[model.readout],
        "readout_frac_bits": model.readout_frac_bits,
        "memory": _MEMORY_NUMBERS[model.memory.kind],
        "segment_steps": model.memory.segment_steps,
        "event_budget": model.memory.event_budget,
        "learning_rate": (model.learning_rate.m, model.learning_rate.e),
        "clip": (model.clip.m, model.clip.e),
        "readout_weight": arrays.put(_little(model.readout_weight)),
        "readout_bias": arrays.put(_little(model.readout_bias)),
        "names": arrays.put(names),
        "names_bytes": len(names),
        "hash": model.hash(),
    }
    if model.replay is not None:
        fields |= {
            "n_exemplars": len(model.replay),
            "replay_bytes": model.replay.events.size,
            "replay_events": arrays.put(_little(model.replay.events)),
            "replay_start": arrays.put(_little(model.replay.starts)),
            "replay_steps": arrays.put(_little(model.replay.n_steps)),
            "replay_label": arrays.put(_little(model.replay.labels)),
        }
    body = layers + bytes(arrays.data)
    return _sealed("drnn_image_t", fields, body)


def decode(data: bytes) -> QuantModel:
    """The model of a file: all that a device sees of it. Features and provenance do not stand in it.

    Raises
    ------
    ModelError
        If the file is foreign, cut off, damaged, or of another version.
    """
    head = _opened("drnn_image_t", data, MAGIC, VERSION, "model file")

    def array(dtype: DTypeLike, place: int, *shape: int) -> NDArray[Any]:
        return _array(data, dtype, place, shape)

    layers = []
    for number in range(head.n_layers):
        start = protocol.size_of("drnn_image_t") + number * protocol.size_of("drnn_image_layer_t")
        found = protocol.unpack("drnn_image_layer_t", data[start:])
        cell, width, n_hidden = protocol.CELLS[found.cell], found.n_in + found.n_hidden, found.n_hidden
        layers.append(
            QuantLayer(
                cell=cell,
                weight=array(np.int16, found.weight, width, N_GATES[cell] * n_hidden),
                bias=array(np.int32, found.bias, N_ACCUMULATORS[cell] * n_hidden),
                **{name: int(getattr(found, name)) for name in _LAYER_FIELDS},
            )
        )
    n_exemplars = head.n_exemplars
    replay = Exemplars(
        n_in=layers[0].n_in,
        events=array(np.uint8, head.replay_events, head.replay_bytes),
        starts=array(np.uint32, head.replay_start, n_exemplars),
        n_steps=array(np.uint16, head.replay_steps, n_exemplars),
        labels=array(np.uint8, head.replay_label, n_exemplars),
        names=tuple(map(str, range(n_exemplars))),
    )
    names = data[head.names : head.names + head.names_bytes].decode().split("\0")[:-1]
    return QuantModel(
        layers=tuple(layers),
        readout_frac_bits=int(head.readout_frac_bits),
        readout_weight=array(np.int16, head.readout_weight, head.n_outputs, layers[-1].n_hidden),
        readout_bias=array(np.int32, head.readout_bias, head.n_outputs),
        max_steps=int(head.max_steps),
        learning_rate=_scale(head.learning_rate),
        clip=_scale(head.clip),
        class_names=tuple(names),
        features=FeatureConfig(n_bands=layers[0].n_in, max_frames=int(head.max_steps)),
        readout=protocol.READOUTS[head.readout],
        replay=replay if n_exemplars else None,
        memory=Memory(protocol.MEMORIES[head.memory], int(head.segment_steps), int(head.event_budget)),
    )


@dataclass(frozen=True)
class State:
    """What training has made of a model: its trained tensors and the settings that go with them; a file `.drns`.

    Attributes
    ----------
    model : QuantModel
        With the trained tensors.
    theta_x, theta_h : one threshold a layer
    step : int
        Number of the next training step.
    """

    model: QuantModel
    learning_rate: Scale
    clip: Scale
    beta: Scale
    theta_x: tuple[int, ...]
    theta_h: tuple[int, ...]
    seed: int
    step: int


def encode_state(state: State, model: QuantModel) -> bytes:
    """The bytes of a file of weights that were trained from `model`."""
    arrays = _Arrays(protocol.size_of("drnn_state_t"))
    for tensor in state.model.tensors().values():
        arrays.put(_little(tensor))
    config = {
        "learning_rate": (state.learning_rate.m, state.learning_rate.e),
        "clip": (state.clip.m, state.clip.e),
        "beta": (state.beta.m, state.beta.e),
        "theta_x": list(state.theta_x),
        "theta_h": list(state.theta_h),
        "seed": state.seed,
        "step": state.step,
    }
    fields = {
        "magic": STATE_MAGIC,
        "version": STATE_VERSION,
        "abi_version": protocol.ABI_VERSION,
        "hash": model.hash(),
        "config": config,
    }
    return _sealed("drnn_state_t", fields, bytes(arrays.data))


def decode_state(data: bytes, model: QuantModel) -> State:
    """What a file of weights holds, of the model that it was trained from.

    Raises
    ------
    ModelError
        If the file is foreign, cut off, damaged, of another version, or of another model.
    """
    head = _opened("drnn_state_t", data, STATE_MAGIC, STATE_VERSION, "file of weights")
    if protocol.bytes_of(head.hash) != model.hash():
        raise ModelError("these are weights of another model; name the one that they were trained from")
    place, tensors = protocol.size_of("drnn_state_t"), {}
    for name, tensor in model.tensors().items():
        tensors[name] = _array(data, tensor.dtype, place, tensor.shape)
        place += tensor.nbytes + -tensor.nbytes % _ALIGN
    n_layers, config = len(model.layers), head.config
    return State(
        model=model.with_tensors(tensors),
        learning_rate=_scale(config.learning_rate),
        clip=_scale(config.clip),
        beta=_scale(config.beta),
        theta_x=tuple(int(config.theta_x[number]) for number in range(n_layers)),
        theta_h=tuple(int(config.theta_h[number]) for number in range(n_layers)),
        seed=int(config.seed),
        step=int(config.step),
    )


def _little(values: NDArray[Any]) -> bytes:
    return np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes()


def _array(data: bytes, dtype: DTypeLike, place: int, shape: tuple[int, ...]) -> NDArray[Any]:
    count = int(np.prod(shape))
    try:
        return np.frombuffer(data, np.dtype(dtype).newbyteorder("<"), count, place).astype(dtype).reshape(shape)
    except ValueError as error:
        raise ModelError(
            f"the file of {len(data)} bytes has no {count} numbers at byte {place}; write it anew"
        ) from error


def _scale(value: Any) -> Scale:
    return Scale(int(value.m), int(value.e))


def _sealed(struct: str, fields: dict[str, Any], body: bytes) -> bytes:
    """Head and body, with the number of bytes and the CRC that the head tells."""
    fields = fields | {"n_bytes": protocol.size_of(struct) + len(body)}
    covered = protocol.pack(struct, **fields)[_CRC_START:] + body
    return protocol.pack(struct, **fields, crc=zlib.crc32(covered)) + body


def _opened(struct: str, data: bytes, magic: int, version: int, what: str) -> Any:
    """The head of a file, which is whole."""
    if len(data) < protocol.size_of(struct):
        raise ModelError(f"{len(data)} bytes are no {what}; its head alone takes {protocol.size_of(struct)}")
    head = protocol.unpack(struct, data)
    if head.magic != magic:
        raise ModelError(f"this is no {what}: it begins with 0x{head.magic:08x}, not 0x{magic:08x}")
    if (head.version, head.abi_version) != (version, protocol.ABI_VERSION):
        raise ModelError(
            f"the {what} is of version {head.version}.{head.abi_version}, this deltatrain's are of "
            f"{version}.{protocol.ABI_VERSION}; write it anew"
        )
    if head.n_bytes != len(data) or zlib.crc32(data[_CRC_START:]) != head.crc:
        raise ModelError(f"the {what} is cut off or damaged: {len(data)} of {head.n_bytes} bytes; copy it again")
    return head
