"""deltarnn in pure Python: inference and training of delta RNNs, GRUs and LSTMs in integers.

Word for word what the C core computes, written to be read. It needs integers of any length and nothing else, and runs
under MicroPython and CPython. Begin to read at `network`; deltarnn.pyi is the interface, NUMERICS.md the mathematics.
"""

from .image import Image
from .network import Network

__all__ = ("Network", "arena_size", "version")

version = "0.1.0"


def arena_size(model) -> int:
    """Bytes of arena: none are needed. Raises what `Network` does."""
    Image(model).blob.close()
    return 0
