"""What every question asks of a part of a log: where the chosen action is, and folds.

Folds follow from the keys alone, so that they are the same whichever way a log is cut
into parts.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from policies.errors import OpportuneError
from policies.model import FloatArray
from simulator.feedback import Feedback

__all__ = ["Batch", "BatchError", "mixed"]

_ROW_SALT = 0x5EED_0001
_FOLD_SALT = 0x5EED_0002


class BatchError(OpportuneError):
    """A part of a log contradicts itself; the message says where."""


class Batch:
    """A part of a log with what follows from it.

    Args:
        feedback: The part.

    Attributes:
        feedback: As given.
    """

    def __init__(self, feedback: Feedback) -> None:
        self.feedback = feedback

    def __len__(self) -> int:
        return len(self.feedback)

    @cached_property
    def sizes(self) -> NDArray[np.int64]:
        """How many actions were eligible, shape (n,)."""
        return np.diff(self.feedback.offsets)

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        """The row of each eligible action, shape (offsets[n],)."""
        return np.repeat(np.arange(len(self)), self.sizes)

    @cached_property
    def complete(self) -> bool:
        """Whether every row says what was eligible."""
        return bool(len(self.feedback.offsets)) and bool((self.sizes > 0).all())

    def demand_actions(self) -> None:
        """Refuse a part that does not say what was eligible.

        Raises:
            BatchError: If a row does not.
        """
        part = self.feedback
        if len(self) and not self.complete:
            row = int(np.argmin(self.sizes)) if len(part.offsets) else 0
            place = part.positions[row] if len(part.positions) else row + 1
            raise BatchError(
                f"row {place}: the log does not say which actions were eligible; give"
                " it a column with them, or ask only about policies of which it has"
                " the probabilities: logged, column:NAME"
            )

    @cached_property
    def at(self) -> NDArray[np.int64]:
        """Where among the eligible actions the chosen one is, shape (n,).

        Raises:
            BatchError: If a row's chosen action is not among them, or the row does
                not say which they are.
        """
        self.demand_actions()
        part = self.feedback
        found = np.flatnonzero(part.actions == part.chosen[self.rows])
        rows, first = np.unique(self.rows[found], return_index=True)
        if len(rows) < len(self):
            missing = np.setdiff1d(np.arange(len(self)), rows)[0]
            raise BatchError(
                f"row {part.positions[missing]}: what was chosen is not among the"
                " eligible actions"
            )
        at: NDArray[np.int64] = found[first]
        return at

    @cached_property
    def draws(self) -> FloatArray:
        """A uniform number for each row, which says nothing of it, shape (n,)."""
        part = self.feedback
        rows = part.positions if len(part.positions) else np.arange(len(part))
        places = mixed(rows.astype(np.uint64), _ROW_SALT)
        hashes = mixed(part.keys ^ places, _ROW_SALT)
        return hashes.astype(np.float64) / 2.0**64

    def folds(self, count: int) -> NDArray[np.int64]:
        """Return the fold of each row, shape (n,), each from 0 to count - 1."""
        spread = mixed(self.feedback.keys, _FOLD_SALT) % np.uint64(count)
        return spread.astype(np.int64)

    def totals(self, values: FloatArray) -> FloatArray:
        """Return the sums of what eligible actions have, by row, shape (n,)."""
        if not len(self):
            return np.zeros(0)
        if not self.complete:
            counted = np.bincount(self.rows, values, len(self))
            return counted.astype(float)
        sums: FloatArray = np.add.reduceat(values, self.feedback.offsets[:-1])
        return sums


def mixed(keys: NDArray[np.uint64], salt: int) -> NDArray[np.uint64]:
    """Return other hashes of hashes, which say nothing of each other.

    Examples:
        >>> first, second = mixed(np.array([1, 2], dtype=np.uint64), 7)
        >>> bool(first != second)
        True

    References:
        G. L. Steele, D. Lea and C. H. Flood. Fast splittable pseudorandom number
        generators. OOPSLA 2014: the finaliser of SplitMix.
    """
    z = keys + np.uint64(salt * 0x9E3779B97F4A7C15 % 2**64)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
