"""Numbers that look random and are hashes: of keys, or of a seed and a place.

Nothing is drawn from a generator that somebody shares, so that the same seed gives the
same numbers everywhere, in any order.

References:
    S. Vigna. The splitmix64 generator, https://prng.di.unimi.it/splitmix64.c.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from policies.model import FloatArray

__all__ = ["below", "mixed", "normals", "stream"]

_GOLDEN = 0x9E3779B97F4A7C15
_FACTORS = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))
_HALF = np.uint64(32)


def mixed(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return a hash of each number, spread evenly over all of 64 bits."""
    found = np.array(numbers, dtype=np.uint64)
    found += np.uint64(_GOLDEN)
    for shift, factor in _FACTORS:
        found ^= found >> np.uint64(shift)
        found *= np.uint64(factor)
    found ^= found >> np.uint64(31)
    return found


def below(hashes: NDArray[np.uint64], n: int) -> NDArray[np.intp]:
    """Return a number from 0 to n − 1 of each hash; n is at most 2³².

    The high half of a hash times n, over 2³², is spread evenly over them.
    """
    found = hashes >> _HALF
    found *= np.uint64(n)
    found >>= _HALF
    return found.astype(np.intp)


def stream(seed: int, start: int, size: int) -> NDArray[np.uint64]:
    """Return a part of the endless row of hashes of a seed.

    Args:
        seed: Any integer.
        start: Where to begin, 0 or more.
        size: How many.
    """
    base = mixed(np.array([seed % 2**64], dtype=np.uint64))
    places = np.arange(start, start + size, dtype=np.uint64)
    places *= np.uint64(_GOLDEN)
    places += base
    return mixed(places)


def normals(seed: int, shape: tuple[int, int]) -> FloatArray:
    """Return numbers from a standard normal distribution (Box and Muller).

    Args:
        seed: Any integer.
        shape: Their shape.
    """
    size = shape[0] * shape[1]
    uniform = (stream(seed, 0, 2 * size) >> np.uint64(11)).astype(float)
    uniform += 0.5
    uniform /= 2.0**53
    length = np.sqrt(-2.0 * np.log(uniform[:size]))
    found: FloatArray = (length * np.cos(2.0 * np.pi * uniform[size:])).reshape(shape)
    return found
