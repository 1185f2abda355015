"""Commits as they lie in a board's non-volatile memory: `dt_slot.h`, docs/POWER_LOSS.md."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deltatrain.link import protocol
from deltatrain.quant_model import QuantModel
from deltatrain.targets import Store
from deltatrain_core.network import TENSOR_IDS

HEAD, CONFIG = "dt_slot_t", "drnn_config_t"
N_SLOTS = protocol.constant("DT_SLOTS")
ALIGN = protocol.constant("DT_SLOT_ALIGN")
N_MARKS = protocol.constant("DT_SLOT_MARKS")
MASK = protocol.constant("DT_SLOT_MARK_MASK")
MAGIC = protocol.constant("DT_SLOT_MAGIC")
WORD_BYTES = 4


@dataclass(frozen=True)
class Commit:
    """What a whole slot holds.

    Attributes
    ----------
    number, erases : int
        Of the commit, and of its slot so far.
    step, seed : int
        Of the configuration.
    tensors : dict of str to ndarray, flat, int16 or int32
        By the names of `QuantModel.tensors`.
    """

    number: int
    erases: int
    step: int
    seed: int
    tensors: dict[str, NDArray[Any]]


def slot_bytes(model: QuantModel) -> int:
    """Bytes that a commit of a model takes."""
    return _marks_at(model) + N_MARKS * ALIGN


def read_slots(image: bytes, store: Store, model: QuantModel) -> tuple[Commit | None, ...]:
    """Both slots of a memory, given from its `Store.origin` on; None for one that is no whole commit of the model."""
    starts = range(0, N_SLOTS * store.slot_bytes, store.slot_bytes)
    return tuple(_read(image[start : start + slot_bytes(model)], model) for start in starts)


def _read(slot: bytes, model: QuantModel) -> Commit | None:
    head, end = protocol.unpack(HEAD, slot), _marks_at(model)
    marks = [int.from_bytes(slot[end + i * ALIGN :][:WORD_BYTES], "little") for i in range(N_MARKS)]
    front = slot[: protocol.layout_of(HEAD)[3][1]]
    if head.magic != MAGIC or head.check != zlib.crc32(front) or protocol.bytes_of(head.hash) != model.hash():
        return None
    if zlib.crc32(slot[:end]) & MASK not in marks:
        return None
    at = protocol.size_of(HEAD)
    tensors: dict[str, NDArray[Any]] = {}
    for name, tensor in _in_order(model):
        tensors[name] = np.frombuffer(slot, tensor.dtype.newbyteorder("<"), tensor.size, at).astype(tensor.dtype)
        at += _aligned(tensor.nbytes)
    return Commit(int(head.number), int(head.erases), int(head.config.step), int(head.config.seed), tensors)


def _in_order(model: QuantModel) -> list[tuple[str, NDArray[Any]]]:
    """The trained tensors in the order of their ids."""
    return sorted(model.tensors().items(), key=lambda item: TENSOR_IDS[item[0]])


def _marks_at(model: QuantModel) -> int:
    return protocol.size_of(HEAD) + sum(_aligned(tensor.nbytes) for tensor in model.tensors().values())


def _aligned(n: int) -> int:
    return -(-n // ALIGN) * ALIGN
