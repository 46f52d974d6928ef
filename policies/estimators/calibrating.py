"""Estimators that first make the weights fit what is known of them: a mean of 1.

Empirical likelihood gives each row a probability of its own, as near to 1/n as can be
while the weights have a mean of 1; what probability is left over belongs to a row that
was not drawn, and is given the mean reward. Both estimators here do so, with another
notion of near, and both are IPS with other weights.

They look at all weights of a log before they weigh a row. Parts of a log do not add up,
unless all are weighed with the same `Calibration`.
"""

from __future__ import annotations

import math

import msgspec

from policies.estimators.base import Rows, Terms
from policies.model import FloatArray

__all__ = [
    "Calibration",
    "WeightSums",
    "cressie_read",
    "cressie_read_calibration",
    "mle",
    "mle_calibration",
]


class WeightSums(msgspec.Struct, frozen=True, kw_only=True):
    """All that a Cressie–Read calibration needs of weights: parts are added.

    Attributes:
        n: How many there are.
        w: Their sum.
        ww: The sum of their squares.
        w_min: The smallest.
        w_max: The largest.
    """

    n: int
    w: float
    ww: float
    w_min: float
    w_max: float

    @classmethod
    def of(cls, weights: FloatArray) -> WeightSums:
        """Return those of at least one weight."""
        n, total = len(weights), float(weights.sum())
        if abs(total - n) <= 1e-9 * n:  # Which side of 1 the mean is on decides.
            total = math.fsum(weights)
        return cls(
            n=n,
            w=total,
            ww=float(weights @ weights),
            w_min=float(weights.min()),
            w_max=float(weights.max()),
        )

    def __add__(self, other: WeightSums) -> WeightSums:
        return WeightSums(
            n=self.n + other.n,
            w=self.w + other.w,
            ww=self.ww + other.ww,
            w_min=min(self.w_min, other.w_min),
            w_max=max(self.w_max, other.w_max),
        )


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """How weights become calibrated ones.

    Attributes:
        kind: `linear`, w·(intercept + slope·w), or `likelihood`, w / (intercept +
            slope·w), and then `missing` is added.
        intercept: Without a unit.
        slope: Without a unit.
        missing: The probability of rows that were not drawn, in [0, 1].
    """

    kind: str
    intercept: float
    slope: float
    missing: float

    def weights(self, weights: FloatArray) -> FloatArray:
        """Return the calibrated weights, whose mean over the log is 1 or more."""
        line = self.intercept + self.slope * weights
        if self.kind == "linear":
            return weights * line + self.missing
        return weights / line + self.missing


def cressie_read(
    rows: Rows, weight_max: float = math.inf, *, calibration: Calibration | None = None
) -> Terms:
    """Empirical likelihood in closed form: the mean of (w·(a + b·w) + missing)·r.

    a and b are such that the divergence of Cressie and Read of power −2 is least.

    Args:
        rows: The rows.
        weight_max: The largest weight that any row could have had, as far as known.
        calibration: What all parts of a log are weighed with; from these rows without.

    References:
        N. Karampatziakis, J. Langford and P. Mineiro. Empirical likelihood for
        contextual bandits. NeurIPS 2020, https://arxiv.org/abs/1906.03323.
    """
    if calibration is None:
        sums = WeightSums.of(rows.weights)
        calibration = cressie_read_calibration(sums, weight_max=weight_max)
    return Terms(added=calibration.weights(rows.weights) * rows.rewards)


def mle(
    rows: Rows, weight_max: float = math.inf, *, calibration: Calibration | None = None
) -> Terms:
    """Empirical likelihood: the mean of (w / (a + b·w) + missing)·r.

    a and b are such that the likelihood is largest.

    Args:
        rows: The rows.
        weight_max: The largest weight that any row could have had, as far as known.
        calibration: What all parts of a log are weighed with; from these rows without.

    References:
        N. Karampatziakis, J. Langford and P. Mineiro. Empirical likelihood for
        contextual bandits. NeurIPS 2020, https://arxiv.org/abs/1906.03323.
    """
    if calibration is None:
        calibration = mle_calibration(rows.weights, weight_max=weight_max)
    return Terms(added=calibration.weights(rows.weights) * rows.rewards)


def cressie_read_calibration(
    sums: WeightSums, *, weight_min: float = 0.0, weight_max: float = math.inf
) -> Calibration:
    """Return the calibration of a log with these sums.

    Args:
        sums: Of all parts of the log.
        weight_min: The smallest weight possible, below 1.
        weight_max: The largest, above 1.

    Raises:
        ValueError: If the bounds do not hold 1 between them.
    """
    _check(weight_min, weight_max)
    n = sums.n
    # The row that was not drawn is one that takes the mean weight towards 1.
    fake = max(weight_max, sums.w_max) if sums.w < n else min(weight_min, sums.w_min)
    if math.isinf(fake):
        intercept, slope = 1.0 / n, 0.0
    else:
        mean = (fake + sums.w) / (1 + n)
        variance = (fake * fake + sums.ww) / (1 + n) - mean * mean
        intercept = (variance + mean * mean - mean) / variance / (1 + n)
        slope = (1 - mean) / variance / (1 + n)
    missing = max(0.0, 1.0 - (intercept * sums.w + slope * sums.ww))
    # Terms are averaged: each row's probability is multiplied by n.
    return Calibration(
        kind="linear", intercept=n * intercept, slope=n * slope, missing=missing
    )


def mle_calibration(
    weights: FloatArray, *, weight_min: float = 0.0, weight_max: float = math.inf
) -> Calibration:
    """Return the calibration of a log with these weights.

    Args:
        weights: All of them, shape (n,), each 0 or more.
        weight_min: The smallest weight possible, below 1.
        weight_max: The largest, above 1.

    Raises:
        ValueError: If the bounds do not hold 1 between them.
    """
    _check(weight_min, weight_max)
    n = len(weights)
    low, high = _dual_bounds(
        weights, min(weight_min, weights.min()), max(weight_max, weights.max())
    )
    dual = _root(weights - 1.0, n, low, high)
    # A row's probability is 1 / (n + β·(w − 1)).
    line = (n - dual) + dual * weights
    missing = max(0.0, 1.0 - float((weights / line).sum()))
    return Calibration(
        kind="likelihood",
        intercept=(n - dual) / n,
        slope=dual / n,
        missing=missing,
    )


def _dual_bounds(
    weights: FloatArray, w_min: float, w_max: float
) -> tuple[float, float]:
    """Return between which β no row's probability is below 0 or above 1."""
    n = len(weights)
    low, high = n / (1.0 - w_max), n / (1.0 - w_min)
    if (below := weights[weights < 1]).size:
        high = min(high, float(((n - 1) / (1.0 - below)).min()))
    if (above := weights[weights > 1]).size:
        low = max(low, float(((n - 1) / (1.0 - above)).max()))
    return low, high


def _root(excess: FloatArray, n: int, low: float, high: float) -> float:
    """Return where Σ (w − 1) / (n + β·(w − 1)) is 0; it falls as β grows."""

    def gradient(dual: float) -> float:
        return float((excess / (n + excess * dual)).sum())

    if gradient(low) <= 0:
        return low
    if gradient(high) >= 0:
        return high
    while low < (middle := 0.5 * (low + high)) < high:
        if gradient(middle) > 0:
            low = middle
        else:
            high = middle
    return middle


def _check(weight_min: float, weight_max: float) -> None:
    if not weight_min < 1 < weight_max:
        raise ValueError(
            f"weight_min must be below 1 and weight_max above,"
            f" not {weight_min} and {weight_max}"
        )
