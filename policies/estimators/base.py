"""What every estimator is made from, and what it makes."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from policies.model import FloatArray

__all__ = ["IntArray", "Rows", "Sums", "Terms", "column"]

IntArray = NDArray[np.integer]


class Rows(msgspec.Struct, frozen=True, kw_only=True):
    """Logged decisions about one target policy, as columns.

    The first two are all that most estimators need; which of the others one needs is
    in `policies.estimators.ESTIMATORS`.

    Attributes:
        rewards: What each decision earned, shape (n,), any unit.
        weights: Target over logging propensity of the action taken, shape (n,), each
            0 or more.
        logged_values: What a reward model expects of the action taken, shape (n,), in
            the unit of the rewards; none where there is no model.
        target_values: What it expects of the target policy: over the eligible actions,
            the sum of target probability times value, shape (n,); none likewise.
        targets: The target policy's probability of the action taken, shape (n,).
        cluster_weights: Target over logging propensity of the kind of the action
            taken, shape (n,); `policies.estimators.embedding` makes them.
        balanced_weights: Weights that were learned instead of divided, shape (n,);
            `policies.estimators.balancing` makes them.
        draws: A uniform number for each decision, shape (n,), each in [0, 1), from
            nothing that was known when it was made.
        loggers: Which policy logged it, shape (n,), from 0.
    """

    rewards: FloatArray
    weights: FloatArray
    logged_values: FloatArray | None = None
    target_values: FloatArray | None = None
    targets: FloatArray | None = None
    cluster_weights: FloatArray | None = None
    balanced_weights: FloatArray | None = None
    draws: FloatArray | None = None
    loggers: IntArray | None = None

    def __len__(self) -> int:
        """Return the number of decisions."""
        return len(self.rewards)

    def take(self, places: IntArray | slice) -> Rows:
        """Return some of the rows.

        Examples:
            >>> rows = Rows(rewards=np.array([1.0, 2.0]), weights=np.ones(2))
            >>> rows.take(slice(1)).rewards
            array([1.])
        """
        columns: dict[str, Any] = {
            name: value if value is None else value[places]
            for name in self.__struct_fields__
            for value in (getattr(self, name),)
        }
        return Rows(**columns)


class Sums(msgspec.Struct, frozen=True, kw_only=True):
    """The sums of terms: parts of a log are put together by adding.

    Attributes:
        n: The number of rows.
        added: The sum of what is added.
        over: The sum above the line.
        under: The sum below it; none where there is no ratio.

    Examples:
        >>> (Sums(n=1, added=3.0) + Sums(n=1, added=1.0)).value
        2.0
    """

    n: int
    added: float = 0.0
    over: float = 0.0
    under: float | None = None

    def __add__(self, other: Sums) -> Sums:
        under = None
        if self.under is not None or other.under is not None:
            under = (self.under or 0.0) + (other.under or 0.0)
        return Sums(
            n=self.n + other.n,
            added=self.added + other.added,
            over=self.over + other.over,
            under=under,
        )

    @property
    def value(self) -> float:
        """The estimate, in the unit of the rewards; not a number where none exists."""
        if self.n == 0:
            return float("nan")
        value = self.added / self.n
        if self.under is None:
            return value
        return value + self.over / self.under if self.under else float("nan")


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """An estimate in parts, one of each a row, that are summed before anything else.

    The value is the mean of `added` plus the ratio of the sums of `over` and `under`.

    Attributes:
        added: Shape (n,), in the unit of the rewards; none where nothing is added.
        over: Shape (n,), in the unit of the rewards; none where there is no ratio.
        under: Shape (n,), without a unit; there where `over` is.
    """

    added: FloatArray | None = None
    over: FloatArray | None = None
    under: FloatArray | None = None

    @property
    def value(self) -> float:
        """The estimate, in the unit of the rewards; not a number where `under` is 0."""
        return self.sums.value

    @property
    def sums(self) -> Sums:
        """What it adds up to."""
        column = self.added if self.added is not None else self.over
        return Sums(
            n=0 if column is None else len(column),
            added=0.0 if self.added is None else float(self.added.sum()),
            over=0.0 if self.over is None else float(self.over.sum()),
            under=None if self.under is None else float(self.under.sum()),
        )

    @property
    def influence(self) -> FloatArray:
        """How far each row moves the estimate, times n, shape (n,); 0 on average.

        Of a ratio it is the linear part. The variance of the estimate is about that of
        these over n.
        """
        total = np.zeros(self.sums.n)
        if self.added is not None:
            total += self.added - self.added.mean()
        if self.over is not None and self.under is not None:
            ratio = self.over.sum() / self.under.sum()
            total += (self.over - ratio * self.under) / self.under.mean()
        return total


def column(rows: Rows, name: str) -> NDArray[Any]:
    """Return a column that an estimator cannot do without.

    Raises:
        ValueError: If the rows do not have it; the message names it.
    """
    value: NDArray[Any] | None = getattr(rows, name)
    if value is None:
        raise ValueError(f"this estimator needs {name}, and the rows have none")
    return value
