"""What a caller hands in, checked: frames, and their targets."""

from array import array

from .formats import TARGET_MAX, V_MAX
from .image import FRAMES, LAST, Image

NO_CLASS = -1
NO_VALUE = -(1 << 31)  # as a frame's first value: it has no target


def numbers(buffer, typecode: str) -> "array[int]":
    """A buffer's bytes as numbers of 16 ("h") or 32 bits ("i")."""
    raw = bytes(memoryview(buffer))
    if len(raw) % (2 if typecode == "h" else 4):
        raise ValueError("%d bytes are no whole numbers" % len(raw))
    return array(typecode, raw)


def read_frames(image: Image, buffer) -> "list[array[int]]":
    """One frame [n_in] or more."""
    n_in, values = image.layers[0].n_in, numbers(buffer, "h")
    if not values or len(values) % n_in:
        raise ValueError("%d numbers are no frames of %d" % (len(values), n_in))
    if len(values) > n_in * image.max_steps:
        raise ValueError("%d frames; the model takes %d" % (len(values) // n_in, image.max_steps))
    if max(values) > V_MAX or min(values) < -V_MAX:
        raise ValueError("a number is beyond +-%d" % V_MAX)
    return [values[k : k + n_in] for k in range(0, len(values), n_in)]


def read_class(image: Image, label: int) -> int:
    """A class of the model."""
    if not 0 <= label < image.n_outputs:
        raise ValueError("class %d; the model has 0 to %d" % (label, image.n_outputs - 1))
    return label


def read_targets(image: Image, targets, n_frames: int) -> "list[int | list[int] | None]":
    """Of each frame its class, its values [n_outputs], or None: from a sequence, a buffer, or one class."""
    if image.readout == LAST:
        raise ValueError("the model's readout takes a class at the end, no targets of frames")
    width = 1 if image.readout == FRAMES else image.n_outputs
    if isinstance(targets, int):
        targets = [targets]
    elif not isinstance(targets, (list, tuple)):
        targets = numbers(targets, "h" if image.readout == FRAMES else "i")
    if len(targets) != n_frames * width:
        raise ValueError("%d targets; %d frames take %d" % (len(targets), n_frames, n_frames * width))
    if image.readout == FRAMES:
        return [None if label == NO_CLASS else read_class(image, label) for label in targets]
    rows = [list(targets[k : k + width]) for k in range(0, len(targets), width)]
    return [None if row[0] == NO_VALUE else _checked_values(row) for row in rows]


def _checked_values(row: "list[int]") -> "list[int]":
    if max(row) > TARGET_MAX or min(row) < -TARGET_MAX:
        raise ValueError("a target is beyond +-2^30")
    return row
