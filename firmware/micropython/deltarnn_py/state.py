"""Trained tensors and settings as a file. docs/MODEL_FILE.md says what each byte is."""

import struct

from . import blob
from .image import MAX_LAYERS
from .layer import Layer
from .readout import Readout
from .settings import Settings

MAGIC, VERSION = 1397641796, 1
_HASH_AT, _HASH_BYTES = 16, 32
_CONFIG, _CONFIG_AT, _HEAD_BYTES = "<HhHhHh6hII", 48, 80
_ALIGN = 8  # of each tensor


def write(file, model_hash: bytes, settings: Settings, owners: "list[Layer | Readout]") -> None:
    """Write what `read` reads; `file` is a file object or a name."""
    absent = (0,) * (MAX_LAYERS - len(settings.theta_x))
    scales = settings.learning_rate + settings.clip + settings.beta
    thetas = settings.theta_x + absent + settings.theta_h + absent
    config = struct.pack(_CONFIG, *(scales + thetas + (settings.seed, settings.step)))
    parts: list = [model_hash, config]
    for owner in owners:
        for tensor, item_bytes in (owner.weight, 2), (owner.bias, 4):
            size = item_bytes * len(tensor)
            parts += [tensor, bytes(_padded(size) - size)]
    if isinstance(file, str):
        with open(file, "wb") as opened:
            blob.write(opened, MAGIC, VERSION, parts)
    else:
        blob.write(file, MAGIC, VERSION, parts)


def read(file, model_hash: bytes, settings: Settings, owners: "list[Layer | Readout]") -> None:
    """Overwrite settings and tensors by a file's; ValueError, and nothing has changed, where it does not fit."""
    source = blob.Blob(file, MAGIC, VERSION, "file of weights")
    try:
        n_bytes = _HEAD_BYTES
        for owner in owners:
            n_bytes += _padded(2 * len(owner.weight)) + _padded(4 * len(owner.bias))
        if source.bytes(_HASH_AT, _HASH_BYTES) != model_hash or source.n_bytes != n_bytes:
            raise ValueError("these are weights of another model")
        config, n_layers = source.unpack(_CONFIG, _CONFIG_AT), len(settings.theta_x)
        settings.change(
            learning_rate=config[:2],
            clip=config[2:4],
            beta=config[4:6],
            theta_x=config[6 : 6 + n_layers],
            theta_h=config[9 : 9 + n_layers],
            seed=config[12],
            step=config[13],
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
