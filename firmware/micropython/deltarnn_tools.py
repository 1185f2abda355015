"""Small things that programs with either module want."""


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
