"""Trained tensors and settings as a file. docs/MODEL_FILE.md says what each byte is."""

import struct

from . import blob
from .image import MAX_LAYERS
from .layer import Layer
from .readout import Readout
from .settings import Settings

MAGIC, VERSION = 1397641796, 1
_HEAD, _HEAD_START, _HEAD_BYTES = "<32sHhHhHh6hII", 16, 80  # without what `Blob` reads
_ALIGN = 8  # of each tensor


def write(file: object, model_hash: bytes, settings: Settings, owners: "list[Layer | Readout]") -> None:
    """Write what `read` reads; `file` is a file object or a name."""
    absent = (0,) * (MAX_LAYERS - len(settings.theta_x))
    scales = settings.learning_rate + settings.clip + settings.beta
    thetas = settings.theta_x + absent + settings.theta_h + absent
    parts: "list[bytes | array[int]]" = [
        struct.pack(_HEAD, model_hash, *(scales + thetas + (settings.seed, settings.step)))
    ]
    for owner in owners:
        for tensor, item_bytes in (owner.weight, 2), (owner.bias, 4):
            size = item_bytes * len(tensor)
            parts += [tensor, bytes(_padded(size) - size)]
    if isinstance(file, str):
        with open(file, "wb") as opened:
            blob.write(opened, MAGIC, VERSION, parts)
    else:
        blob.write(file, MAGIC, VERSION, parts)


def read(file: object, model_hash: bytes, settings: Settings, owners: "list[Layer | Readout]") -> None:
    """Overwrite settings and tensors by a file's; ValueError, and nothing has changed, where it does not fit."""
    source = blob.Blob(file, MAGIC, VERSION, "file of weights")
    try:
        fields = source.unpack(_HEAD, _HEAD_START)
        n_bytes = _HEAD_BYTES
        for owner in owners:
            n_bytes += _padded(2 * len(owner.weight)) + _padded(4 * len(owner.bias))
        if fields[0] != model_hash or source.n_bytes != n_bytes:
            raise ValueError("these are weights of another model")
        n_layers = len(settings.theta_x)
        settings.change(
            learning_rate=fields[1:3],
            clip=fields[3:5],
            beta=fields[5:7],
            theta_x=fields[7 : 7 + n_layers],
            theta_h=fields[10 : 10 + n_layers],
            seed=fields[13],
            step=fields[14],
        )
        place = _HEAD_BYTES
        for owner in owners:
            owner.weight = source.array("h", place, len(owner.weight))
            place += _padded(2 * len(owner.weight))
            owner.bias = source.array("i", place, len(owner.bias))
            place += _padded(4 * len(owner.bias))
    finally:
        source.close()


def _padded(size: int) -> int:
    return -(-size // _ALIGN) * _ALIGN
