"""Standardises numbers by what was usual for them so far."""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from policies.model import FloatArray

__all__ = ["Scaling", "ScalingState"]

_NAMES_MAX = 65_536
_LAYOUTS_MAX = 4_096
_SCALED_MAX = 10.0
_UNKNOWN = 0


class ScalingState(msgspec.Struct, array_like=True):
    """What is saved: the names, in the order first learned, and their moments."""

    names: list[str]
    moments: bytes


class Scaling:
    """Turns numbers into standard deviations from their mean, name by name.

    Mean and deviation are those of the values learned so far under the name, the one
    being learned among them. A value that was never anything else, such as the 1 of a
    category, is left as it is, and so is one under a name that was never learned.
    Beyond ±10 deviations a value is clipped.

    At most 65,536 names are followed; further ones are left as they are.

    Examples:
        >>> scaling = Scaling()
        >>> for age in (20.0, 40.0):
        ...     scaling.learn(("constant", "age"), np.array([1.0, age]))
        >>> scaling.scaled(("constant", "age", "new"), np.array([1.0, 50.0, 7.0]))
        array([1., 2., 7.])

    References:
        B. P. Welford. Note on a method for calculating corrected sums of squares and
        products. Technometrics 4 (3), 1962.
    """

    def __init__(self) -> None:
        self._row_of: dict[str, int] = {}
        # Count, mean, and the sum of squared distances from it. Row 0 is that of
        # all names not followed: it stays at nothing learned.
        self._moments: FloatArray = np.zeros((1, 3))
        self._rows_of: dict[tuple[str, ...], NDArray[np.intp]] = {}

    @classmethod
    def load(cls, state: ScalingState) -> Scaling:
        """Return what goes on from a saved state."""
        scaling = cls()
        scaling._row_of = {name: row for row, name in enumerate(state.names, 1)}
        saved = np.frombuffer(state.moments, dtype="<f8").reshape(-1, 3)
        scaling._moments = np.concatenate([scaling._moments, saved])
        return scaling

    def save(self) -> ScalingState:
        """Return all it has learned."""
        known = self._moments[1 : len(self._row_of) + 1]
        return ScalingState(list(self._row_of), known.astype("<f8").tobytes())

    def learn(self, names: tuple[str, ...], values: FloatArray) -> None:
        """Learn that these values were seen; a name that is there twice counts once.

        Args:
            names: Any number of them.
            values: A finite number for each, shape (n_names,).
        """
        for name in names:
            if name not in self._row_of:
                self._follow(name)
        rows = self._rows(names)
        moments = self._moments[rows]
        count, mean, squares = moments.T
        count += 1.0
        away = values - mean
        mean += away / count
        squares += away * (values - mean)
        self._moments[rows] = moments
        self._moments[_UNKNOWN] = 0.0

    def scaled(self, names: tuple[str, ...], values: FloatArray) -> FloatArray:
        """Return the values in standard deviations from the mean, shape (n_names,)."""
        count, mean, squares = self._moments[self._rows(names)].T
        varied = squares > 1e-12 * count * np.maximum(mean * mean, 1e-12)
        deviation = np.sqrt(np.where(varied, squares, 1.0) / np.maximum(count, 1.0))
        usual = (values - mean) / deviation
        clipped = np.minimum(np.maximum(usual, -_SCALED_MAX), _SCALED_MAX)
        return np.where(varied, clipped, values)

    def _follow(self, name: str) -> None:
        if len(self._row_of) >= _NAMES_MAX:
            return
        self._row_of[name] = row = len(self._row_of) + 1
        if row == len(self._moments):
            more = np.zeros_like(self._moments)
            self._moments = np.concatenate([self._moments, more])
        self._rows_of.clear()

    def _rows(self, names: tuple[str, ...]) -> NDArray[np.intp]:
        rows = self._rows_of.get(names)
        if rows is None:
            if len(self._rows_of) >= _LAYOUTS_MAX:
                self._rows_of.clear()
            rows = np.array([self._row_of.get(n, _UNKNOWN) for n in names], np.intp)
            self._rows_of[names] = rows
        return rows
