"""Exemplars that a model keeps, so that what it knew is not forgotten. NUMERICS.md, "Replay"."""

from array import array

from .image import FRAMES, LAST, Image
from .sgd import random_key, random_pair

_DRAW = 0xFFFFFFFF  # in the random function, in the place of a tensor's number
_VALUE_SHIFT = 7
_TARGET_ONE = 1 << 16


def draw(n_exemplars: int, seed: int, step: int) -> int:
    """Number of the exemplar whose turn it is: each as likely as any other."""
    if not n_exemplars:
        raise ValueError("the model keeps no exemplars")
    return random_pair(random_key(seed, step, _DRAW), 0) * n_exemplars >> 32


def exemplar(image: Image, number: int) -> "tuple[list[array[int]], int]":
    """An exemplar's frames [n_in] and its class."""
    events_at, n_bytes, start_at, steps_at, label_at = image.replay_at
    start = image.blob.array("I", start_at + 4 * number, 1)[0]
    n_steps = image.blob.array("H", steps_at + 2 * number, 1)[0]
    label = image.blob.bytes(label_at + number, 1)[0]
    if start > n_bytes or not 1 <= n_steps <= image.max_steps or label >= image.n_outputs:
        raise ValueError("exemplar %d does not fit the model" % number)
    n_in = image.layers[0].n_in
    longest = n_steps * (n_in + (n_in + 7) // 8)
    events = image.blob.bytes(events_at + start, min(longest, n_bytes - start))
    return _decode(events, n_steps, n_in), label


def _decode(events: bytes, n_steps: int, n_in: int) -> "list[array[int]]":
    """Each frame is a mask of the inputs that changed, then their new values in 8 bits; the others stay, at first 0."""
    frames, x, at = [], array("h", bytes(2 * n_in)), 0
    for _ in range(n_steps):
        value_at = at + (n_in + 7) // 8
        for j in range(n_in):
            if events[at + (j >> 3)] >> (j & 7) & 1:
                if value_at >= len(events) or events[value_at] == 0x80:
                    raise ValueError("the exemplar is cut off, or has values that no input has")
                x[j] = ((events[value_at] ^ 0x80) - 0x80) << _VALUE_SHIFT
                value_at += 1
        frames.append(x[:])
        at = value_at
    return frames


def targets(image: Image, n_steps: int, label: int) -> "list[int | list[int] | None]":
    """What an exemplar's frames are trained on: nothing of their own, its class, or 1 at the output of its class."""
    if image.readout == LAST:
        return [None] * n_steps
    if image.readout == FRAMES:
        return [label] * n_steps
    return [[_TARGET_ONE if k == label else 0 for k in range(image.n_outputs)]] * n_steps
