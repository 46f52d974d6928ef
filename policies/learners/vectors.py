"""Makes vectors of contexts, for the learners that compute with vectors."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from policies.hashing import Hasher
from policies.learners.bounds import FEATURE_MAX, bounded
from policies.learners.scaling import Scaling, ScalingState
from policies.model import Features, FeatureTable, FloatArray

__all__ = ["Coming", "Projection", "Vectors", "within"]


class Projection(Protocol):
    """What makes a vector of values under names."""

    dim: int
    """How long the vectors are."""

    def spread(self, names: tuple[str, ...], values: FloatArray) -> FloatArray:
        """Return a vector, shape (dim,).

        Args:
            names: Any number of them.
            values: A finite number for each, shape (n_names,).
        """
        ...


class Coming(NamedTuple):
    """The vectors of contexts that are still to come.

    Attributes:
        all: Those that `Vectors.of` returns but for rounding, shape (n, dim).
        one: Returns what `Vectors.of` does, to the last bit, by number.
    """

    all: FloatArray
    one: Callable[[int], FloatArray]


class Vectors:
    """Makes vectors of contexts, whose values are clipped, and maybe standardised.

    The vector of the latest context is kept: who asks for several slots, or learns
    right after having scored, asks for it again.

    Args:
        projection: What makes vectors.
        standardize: Whether values are put in deviations from what is usual.
    """

    def __init__(self, projection: Projection, *, standardize: bool = False) -> None:
        self._projection = projection
        self._scaling = Scaling() if standardize else None
        # One pair, so that two threads cannot mix up two contexts.
        self._latest: tuple[Features | None, FloatArray] = None, np.zeros(0)

    def load(self, state: ScalingState | None) -> None:
        """Go on from a saved state."""
        if state is not None:
            self._scaling = Scaling.load(state)

    def save(self) -> ScalingState | None:
        """Return what is usual; none without standardising."""
        return None if self._scaling is None else self._scaling.save()

    def of(self, context: Features) -> FloatArray:
        """Return a context's vector, shape (dim,); it is not to be changed.

        Args:
            context: What is not a number is 0, and beyond ±1,000 it is clipped.
        """
        latest, vector = self._latest
        if context is latest:
            return vector
        names, values = zip(*context, strict=False) if context else ((), ())
        numbers = within(values)
        if self._scaling is not None:
            numbers = self._scaling.scaled(names, numbers)
        vector = self._projection.spread(names, numbers)
        self._latest = context, vector
        return vector

    def many(self, contexts: Sequence[Features]) -> Coming:
        """Return the vectors of contexts."""
        projection = self._projection
        if isinstance(projection, Hasher) and self._scaling is None:
            table = contexts.table() if isinstance(contexts, FeatureTable) else None
            if table is not None:
                names, values = table.names, _all_within(table.values)
                return Coming(
                    projection.spread_many(names, values),
                    lambda at: projection.spread(names, values[at]),
                )
        found = np.array([self.of(context) for context in contexts])
        return Coming(found, found.__getitem__)

    def learn(self, context: Features) -> FloatArray:
        """Return a context's vector once its values are part of what is usual."""
        if self._scaling is not None and context:
            names, values = zip(*context, strict=True)
            self._scaling.learn(names, within(values))
            self._latest = None, np.zeros(0)
        return self.of(context)


def _all_within(values: FloatArray) -> FloatArray:
    """Return values clipped to ±1,000, what is not a number as 0, of the same shape."""
    if (np.abs(values) <= FEATURE_MAX).all():
        return values
    numbers = np.nan_to_num(values, nan=0.0, posinf=FEATURE_MAX, neginf=-FEATURE_MAX)
    return numbers.clip(-FEATURE_MAX, FEATURE_MAX)


def within(values: tuple[float, ...]) -> FloatArray:
    """Return values clipped to ±1,000, what is not a number as 0, shape (n,)."""
    # One number tells whether any is too large, infinite or not a number.
    if math.hypot(*values) <= FEATURE_MAX:
        return np.fromiter(values, np.float64, len(values))
    return np.array([bounded(value, FEATURE_MAX) for value in values])
