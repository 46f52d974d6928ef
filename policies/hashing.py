"""Hashes the names of features into the places of a vector, the same everywhere.

One way for all who need it: learners, and the reward model of evaluation.
"""

from __future__ import annotations

import math
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from policies.model import Features, FloatArray

__all__ = ["Hasher", "hashed"]

_NAMES_MAX = 65_536
_LAYOUTS_MAX = 1 << 20
"""How many numbers the layouts that are remembered hold together: 8 MB."""
_DENSE_MAX = 4_096

_Places = tuple[tuple[int, float], ...]


class _Layout(NamedTuple):
    """Where the values under some names go.

    Attributes:
        sources: Which value each share is of.
        places: Where each share goes.
        shares: How large it is.
        matrix: All three as one matrix, shape (dim, n_names), where it is small.
    """

    sources: NDArray[np.intp]
    places: NDArray[np.intp]
    shares: FloatArray
    matrix: FloatArray | None


class Hasher:
    """Adds up features in the places that follow from their names.

    A feature is shared by two places, with a sign in each and of length 1 in all.
    With one place each, of 32, one pair of names in 32 would have the same one, and
    never be told apart; with two, and signs, it is one pair in about 1,000. Values
    that meet in a place add up; the signs make such meetings cancel on average.

    What follows from names is remembered for a while: callers use the same names
    again and again. Names come from callers, so that what is remembered is bounded.

    Args:
        dim: The number of places, at least 1.

    Examples:
        >>> vector = Hasher(8).vector((("segment=free", 1.0), ("constant", 4.0)))
        >>> vector.round(3)
        array([ 0.707,  0.   ,  2.828,  0.   ,  2.828, -0.707,  0.   ,  0.   ])

    References:
        K. Weinberger, A. Dasgupta, J. Langford, A. Smola and J. Attenberg. Feature
        hashing for large scale multitask learning. ICML 2009,
        https://arxiv.org/abs/0902.2206. There a feature has one place.
    """

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self._places_of: dict[str, _Places] = {}
        self._layout_of: dict[tuple[str, ...], _Layout] = {}
        self._held = 0

    def vector(self, features: Features) -> FloatArray:
        """Return the features' values, added up by place, shape (dim,).

        Args:
            features: Names with finite numbers, in any order.
        """
        names, values = zip(*features, strict=True) if features else ((), ())
        return self.spread(names, np.array(values, np.float64))

    def spread(self, names: tuple[str, ...], values: FloatArray) -> FloatArray:
        """Return values under names, added up by place, shape (dim,).

        Args:
            names: Any number of them.
            values: A finite number for each, shape (n_names,).
        """
        layout = self._layout_of.get(names) or self._new_layout(names)
        vector: FloatArray
        if layout.matrix is not None:
            vector = layout.matrix.dot(values)
        else:
            weights = values.take(layout.sources) * layout.shares
            vector = np.bincount(layout.places, weights, self.dim).astype(np.float64)
        return vector

    def spread_many(self, names: tuple[str, ...], values: FloatArray) -> FloatArray:
        """Return many vectors of the same names, shape (n, dim).

        Args:
            names: Any number of them.
            values: Finite numbers, shape (n, n_names).
        """
        layout = self._layout_of.get(names) or self._new_layout(names)
        vectors: FloatArray
        if layout.matrix is not None:
            vectors = values.dot(layout.matrix.T)
        else:
            vectors = np.array([self.spread(names, row) for row in values])
        return vectors

    def _new_layout(self, names: tuple[str, ...]) -> _Layout:
        entries = [
            (source, place, share)
            for source, name in enumerate(names)
            for place, share in self._places_of.get(name) or self._new_places(name)
        ]
        small = self.dim * len(names) <= _DENSE_MAX
        layout = _Layout(
            sources=np.array([source for source, _, _ in entries], np.intp),
            places=np.array([place for _, place, _ in entries], np.intp),
            shares=np.array([share for _, _, share in entries], np.float64),
            matrix=np.zeros((self.dim, len(names))) if small else None,
        )
        if layout.matrix is not None:
            np.add.at(layout.matrix, (layout.places, layout.sources), layout.shares)
        self._held += 4 * len(names) + (self.dim * len(names) if small else 0)
        if self._held > _LAYOUTS_MAX:
            self._layout_of.clear()
            self._held = 0
        self._layout_of[names] = layout
        return layout

    def _new_places(self, name: str) -> _Places:
        if len(self._places_of) >= _NAMES_MAX:
            self._places_of.clear()
        self._places_of[name] = places = _places(name, self.dim)
        return places


def hashed(features: Features, dim: int) -> FloatArray:
    """Return features as a vector of fixed length, whatever their names.

    As `Hasher.vector`, for those who have but one vector to make.

    Args:
        features: Names with finite numbers, in any order.
        dim: The length of the vector, at least 1.

    Examples:
        >>> hashed((("age", 0.5),), 4).round(3)
        array([-0.354,  0.   ,  0.   ,  0.354])
    """
    return Hasher(dim).vector(features)


def _places(name: str, dim: int) -> _Places:
    """Return the two places of a feature, and its share in each."""
    digest = blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    bits = int.from_bytes(digest, "big")
    signs = 1.0 - 2.0 * (bits & 1), 1.0 - 2.0 * (bits >> 1 & 1)
    first = (bits >> 32) % dim
    if dim == 1:
        return ((first, signs[0]),)
    second = (first + 1 + (bits >> 2 & 0x3FFFFFFF) % (dim - 1)) % dim
    return (first, signs[0] * math.sqrt(0.5)), (second, signs[1] * math.sqrt(0.5))
