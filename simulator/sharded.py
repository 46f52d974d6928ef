"""Sums by a number and by the shard of whom a row is of, of which most are 0."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from policies.intervals import SHARDS, shards_of
from policies.model import FloatArray

__all__ = ["Sharded"]

_PENDING_MIN = 65_536


class Sharded:
    """Such sums, of several columns, added to a part at a time.

    What is kept grows with what is not 0, however many numbers there are.

    Args:
        columns: How many columns.

    Examples:
        >>> sums = Sharded(1)
        >>> keys = np.array([7, 7, 9], dtype=np.uint64)
        >>> sums.add(np.array([0, 0, 1]), keys, [np.array([1.0, 2.0, 5.0])])
        >>> sums.of(0).sum(), sums.of(1).sum(), sums.of(2).sum()
        (np.float64(3.0), np.float64(5.0), np.float64(0.0))
    """

    def __init__(self, columns: int) -> None:
        self._places = np.empty(0, dtype=np.int64)
        self._sums = np.empty((columns, 0))
        self._pending: list[tuple[NDArray[np.int64], FloatArray]] = []
        self._waiting = 0

    def add(
        self,
        numbers: NDArray[np.intp],
        keys: NDArray[np.uint64],
        columns: Sequence[FloatArray],
    ) -> None:
        """Add rows.

        Args:
            numbers: The number of each, 0 or more, shape (n,).
            keys: Whom each is of, shape (n,).
            columns: What is added up, each shape (n,).
        """
        places = numbers.astype(np.int64) * SHARDS + shards_of(keys)
        self._pending.append((places, np.array(columns)))
        self._waiting += len(places)
        if self._waiting > max(_PENDING_MIN, len(self._places)):
            self._settle()

    def of(self, number: int) -> FloatArray:
        """Return the sums of a number, shape (columns, shards)."""
        self._settle()
        first, last = np.searchsorted(
            self._places, [number * SHARDS, (number + 1) * SHARDS]
        )
        found = np.zeros((len(self._sums), SHARDS))
        found[:, self._places[first:last] - number * SHARDS] = self._sums[:, first:last]
        return found

    def _settle(self) -> None:
        if not self._pending:
            return
        places = np.concatenate([self._places, *[at for at, _ in self._pending]])
        values = np.concatenate([self._sums, *[v for _, v in self._pending]], axis=1)
        self._places, whose = np.unique(places, return_inverse=True)
        self._sums = np.array(
            [np.bincount(whose, row, len(self._places)) for row in values]
        )
        self._pending, self._waiting = [], 0
