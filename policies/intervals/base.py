"""An estimate with its interval, and the parts that every kind of interval is made of.

Rows that belong together (those of one user) are a cluster: what is known of the noise
is how clusters differ, and not how rows do. A row without a user is its own cluster. In
a log that is read in parts the clusters are hash shards of users, which add up.

**The worst row.** Where offers are rarely accepted and some weights are large, the
usual intervals are too short, always on the same side: the rows that matter most are
the ones that were not drawn, and neither a normal approximation nor a bootstrap can
know of rows that are not there. What is known is how bad such a row could be: its
weight is at most that of an action logged at the floor of exploration, and its reward
lies in a known range. So each bound is computed as if one more decision had been
logged, the worst one possible for that bound. Rows add up, and the one that was made
up counts as 1/(n + 1) of them, so that it matters where few rows decide and nowhere
else.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from policies.estimators import Rows
from policies.model import FloatArray
from policies.overlap import Verdict

__all__ = [
    "WEIGHT_MARGIN",
    "Clusters",
    "Estimate",
    "Interval",
    "Row",
    "Worst",
    "columns",
    "refuse",
    "worst_rows",
]

WEIGHT_MARGIN = 2.0
"""The largest possible weight over the largest seen, where only that is known."""

Interval = tuple[float, float]


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """What a policy earns per decision, and how far that can be trusted.

    Attributes:
        value: The estimate, in the unit of the rewards.
        low: The lower end of the interval.
        high: Its upper end.
        confidence: How often such an interval holds the true value.
        standard_error: The standard deviation of `value`, as far as the rows seen
            can tell; `low` and `high` know better.
        n: The number of decisions.
        ess: The effective sample size (Σw)² / Σw², from 1 to n: how many decisions
            of its own the target policy would have needed to say as much.
        events: The number of decisions with a weight and a reward other than 0.
        weight_max: The largest weight that was held possible.
        verdict: `usable`; `weak`: the interval holds, and no winner is to be named by
            it; `unusable`: no number is to be told.
        doubts: Why it is not usable; empty where nothing speaks against it.
        rows_needed: How many rows like these would make it usable; none where it is, or
            where more rows like these would not do.
        kind: Which kind of interval it is.
    """

    value: float
    low: float
    high: float
    confidence: float
    standard_error: float
    n: int
    ess: float
    events: int
    weight_max: float
    verdict: Verdict = "usable"
    doubts: tuple[str, ...] = ()
    rows_needed: int | None = None
    kind: str = "default"

    @property
    def reliable(self) -> bool:
        """Whether nothing speaks against deciding on these numbers."""
        return self.verdict == "usable"


class Row(NamedTuple):
    """The terms of one row; what an estimator does not have is 0."""

    added: float = 0.0
    over: float = 0.0
    under: float = 0.0
    weight: float = 0.0


class Worst(NamedTuple):
    """The rows that each bound is computed with."""

    low: Row
    high: Row


class Clusters(NamedTuple):
    """Sums of the terms of rows that belong together, each shape (k,).

    Attributes:
        n: How many rows each has, not all 0.
        added: As of `Terms`; likewise the next two.
        weights: Their weights, which are 1 on average by what they are; none where they
            are not.
    """

    n: FloatArray
    added: FloatArray | None
    over: FloatArray | None
    under: FloatArray | None
    weights: FloatArray | None

    @property
    def occupied(self) -> int:
        """How many clusters have a row."""
        return int(np.count_nonzero(self.n))

    @property
    def value(self) -> float:
        """The estimate; not a number where there is nothing under the ratio."""
        value = 0.0 if self.added is None else float(self.added.sum() / self.n.sum())
        if self.over is None or self.under is None:
            return value
        under = float(self.under.sum())
        return value + float(self.over.sum()) / under if under else float("nan")

    @property
    def mean(self) -> FloatArray | None:
        """What the value is the mean of, where weights are 1 on average.

        A ratio to the weights is a mean of what is over it, of which what goes along
        with the weights is no noise. None where the ratio is to something else.
        """
        if self.over is None or self.under is None:
            return self.added
        if self.weights is None or not np.array_equal(self.under, self.weights):
            return None
        return self.over if self.added is None else self.added + self.over

    def with_row(self, row: Row) -> Clusters:
        """Return these and one more, of a single row."""
        return Clusters(
            np.append(self.n, 1.0),
            None if self.added is None else np.append(self.added, row.added),
            None if self.over is None else np.append(self.over, row.over),
            None if self.under is None else np.append(self.under, row.under),
            None if self.weights is None else np.append(self.weights, row.weight),
        )


def worst_rows(
    rows: Rows, *, weight_max: float, reward_range: tuple[float, float]
) -> Rows:
    """Return the two rows that could have been logged and would matter most.

    An estimator makes the worst terms of them, as of any other rows. Of what a reward
    model says the extremes of the rows that there are count.

    Args:
        rows: What was logged.
        weight_max: The largest weight that any decision could have had.
        reward_range: The smallest and the largest reward possible.

    Returns:
        First the row that makes a value as low as can be, then the one that makes it
        as high.
    """
    low, high = reward_range
    q, v = rows.logged_values, rows.target_values
    two: dict[str, FloatArray | None] = {
        name: _twice(column, len(rows.rewards))
        for name in rows.__struct_fields__
        if isinstance(column := getattr(rows, name), np.ndarray)
    }
    two["rewards"] = np.array([low, high])
    two["weights"] = np.full(2, weight_max)
    if q is not None:
        two["logged_values"] = np.array([q.max(), q.min()])
    if v is not None:
        two["target_values"] = np.array([v.min(), v.max()])
    return msgspec.structs.replace(rows, **two)


def _twice(column: FloatArray, n: int) -> FloatArray:
    """Return the first row of a column twice; what is no column stays as it is."""
    return np.repeat(column[:1], 2, axis=0) if len(column) == n else column


def columns(**given: FloatArray) -> dict[str, FloatArray]:
    """Return the columns as floats; refuse what is not (n,) and finite."""
    rows = {name: np.asarray(column, dtype=float) for name, column in given.items()}
    shapes = {name: column.shape for name, column in rows.items()}
    first = next(iter(shapes.values()))
    if len(first) != 1 or first[0] < 1 or set(shapes.values()) != {first}:
        told = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ValueError(
            f"each must be (n,), with the same n of at least 1, not {told}"
        )
    for name, column in rows.items():
        refuse(~np.isfinite(column), column, name, "finite")
    if "weights" in rows:
        refuse(rows["weights"] < 0, rows["weights"], "weights", "0 or more")
    return rows


def refuse(bad: NDArray[np.bool_], column: FloatArray, name: str, should: str) -> None:
    """Refuse a column with a bad row, by the first of them."""
    if bad.any():
        row = int(np.argmax(bad))
        raise ValueError(f"{name} must be {should}: row {row} is {column[row]}")
