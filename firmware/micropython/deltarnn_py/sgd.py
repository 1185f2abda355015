"""The step of SGD on one parameter, with one stochastic rounding. NUMERICS.md, "Stochastic rounding".

The random bits are a function of (seed, step, tensor, index), not of a stream, so that the order of parameters does not
matter and a resumed run goes on alike.
"""

from .arithmetic import saturate

_MASK = 0xFFFFFFFF


def mix(x: int) -> int:
    """A bijection of 32 bits with good avalanche (C. Wellons' lowbias32, public domain)."""
    x ^= x >> 16
    x = (x * 0x7FEB352D) & _MASK
    x ^= x >> 15
    x = (x * 0x846CA68B) & _MASK
    return x ^ (x >> 16)


def random_key(seed: int, step: int, tensor: int) -> int:
    """Of all random bits of a tensor at a step."""
    key = mix(seed)
    key = mix((key + step) & _MASK)
    return mix((key + tensor) & _MASK)


def random_pair(key: int, pair: int) -> int:
    """32 bits: of elements 2 pair (the low half) and 2 pair + 1."""
    return mix((key + pair * 0x9E3779B9) & _MASK)


class Stepper:
    """One training step: its size, and where its random bits come from."""

    def __init__(self, size: tuple[int, int], seed: int, step: int, counts: dict[str, int]) -> None:
        self._m, self._e = size
        self._seed, self._step, self._counts = seed, step, counts

    def begin(self, tensor: int, limit: int) -> None:
        """Turn to a tensor, by its number in the random function; `limit` is the end of its range."""
        self._key, self._limit = random_key(self._seed, self._step, tensor), limit

    def stepped(self, value: int, gradient: int, exponent: int, index: int) -> int:
        """value - eta gradient 2^exponent, where 2^exponent takes the gradient to the value's unit."""
        product, shift = gradient * self._m, -(self._e + exponent)
        if shift <= 0:
            quotient = product << -shift
        else:
            pair = random_pair(self._key, index >> 1)
            bits = pair >> 16 if index & 1 else pair & 0xFFFF
            if shift > 62:
                product, shift = product >> (shift - 62), 62
            addend = bits << (shift - 16) if shift >= 16 else bits >> (16 - shift)
            quotient = (product + addend) >> shift
        return saturate(value - quotient, self._limit, self._counts, "saturated_w")
