"""Small things that programs with either module want."""

import json
import struct
from array import array


def scale(numerator: int, denominator: int = 1) -> tuple[int, int]:
    """A real number >= 0, as a fraction of integers, as the (m, e) that `configure` takes: scale(8, 100) is 0.08."""
    if numerator < 0 or denominator <= 0:
        raise ValueError("%d / %d is not a number of 0 or above" % (numerator, denominator))
    if numerator == 0:
        return 0, 0
    e = 0
    while numerator < 32768 * denominator:
        numerator, e = numerator * 2, e - 1
    while numerator >= 65536 * denominator:
        denominator, e = denominator * 2, e + 1
    m = (2 * numerator + denominator) // (2 * denominator)  # to nearest
    return (m >> 1, e + 1) if m >> 16 else (m, e)


def samples(name: str):
    """Of a file that `deltatrain samples` wrote each sample's frames, array('h') of T n_in, and its class."""
    with open(name, "rb") as file:
        head = file.read(8)
        if head[:4] != b"DRNX" or len(head) < 8:
            raise ValueError("%s is no file of samples" % name)
        n_in = struct.unpack("<H", head[4:6])[0]
        while True:
            head = file.read(4)
            if not head:
                return
            n_frames, label = struct.unpack("<HH", head + b"\0" * (4 - len(head)))
            data = file.read(2 * n_frames * n_in)
            if len(head) < 4 or len(data) < 2 * n_frames * n_in:
                raise ValueError("%s is cut off" % name)
            yield array("h", data), label


class Inputs:
    """From a sensor's readings to a model's inputs, in integers, by input.json of `deltatrain samples --raw`."""

    def __init__(self, name: str) -> None:
        with open(name) as file:
            values = json.load(file)
        self._scaling = list(zip(values["offset"], values["factor"]))

    def frame(self, reading) -> "array[int]":
        """A frame of n_in int16 from as many numbers."""
        frame = array("h")
        for value, (offset, factor) in zip(reading, self._scaling):
            x = ((value - offset) * factor + 32768) >> 16
            frame.append(max(-16383, min(16383, x)))
        return frame
