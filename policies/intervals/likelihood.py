"""Cressie–Read empirical likelihood, with the largest and the smallest possible weight.

Of all distributions of weights and rewards that are not too unlikely given those seen,
and under which weights are 1 on average, the bounds are the smallest and the largest
value. What was not seen may hold the largest possible weight. Everything follows from
six sums, so that logs that are read in parts add up; rows count as independent.

References:
    N. Karampatziakis, J. Langford and P. Mineiro. Empirical likelihood for
    contextual bandits. NeurIPS 2020, https://arxiv.org/abs/1906.03323.
"""

from __future__ import annotations

import math

import msgspec

from policies.intervals.base import Interval
from policies.intervals.special import f_quantile
from policies.model import FloatArray

__all__ = ["Moments", "cressie_read"]

_CLOSE = 1e-9
_ROUNDING = 1e-12


class Moments(msgspec.Struct, frozen=True):
    """Sums over rows of weights w and rewards r, and of their products; they add up."""

    n: float
    w: float
    ww: float
    wr: float
    wwr: float
    wwrr: float

    @classmethod
    def of(cls, weights: FloatArray, rewards: FloatArray) -> Moments:
        """Return the sums of some rows."""
        wr = weights * rewards
        return cls(
            float(len(weights)),
            float(weights.sum()),
            float(weights @ weights),
            float(wr.sum()),
            float(weights @ wr),
            float(wr @ wr),
        )

    def __add__(self, other: Moments) -> Moments:
        """Return the sums of the rows of both."""
        mine, others = msgspec.structs.astuple(self), msgspec.structs.astuple(other)
        return Moments(*(a + b for a, b in zip(mine, others, strict=True)))


def cressie_read(
    moments: Moments,
    confidence: float,
    *,
    weight_min: float = 0.0,
    weight_max: float = math.inf,
    reward_range: tuple[float, float] = (0.0, 1.0),
) -> Interval:
    """Return the bounds that the likelihood leaves.

    Args:
        moments: The sums of the rows, at least one.
        confidence: How often the interval is to hold the true value, in (0, 1).
        weight_min: The smallest weight possible, below 1.
        weight_max: The largest possible, at least 1; endless where it is not known,
            which makes the interval wider.
        reward_range: The smallest and the largest reward possible.

    Examples:
        >>> import numpy as np
        >>> coin = Moments.of(np.tile([0.4, 1.6], 50), np.tile([1.0, 0.0], 50))
        >>> low, high = cressie_read(coin, 0.95)
        >>> round(low, 4), round(high, 4)
        (0.166, 0.3361)
    """
    weights = (weight_min, weight_max)
    lacking = moments.w < moments.n * (1 - _ROUNDING)
    misfit = _misfit(moments, weight_max if lacking else weight_min)
    likely = -(misfit + f_quantile(1 - confidence, moments.n)) / (2 * (1 + moments.n))
    low, high = reward_range
    ends = [
        sign * min((_bound(moments, w, r, sign, likely) for w in weights), default=low)
        for r, sign in ((low, 1), (high, -1))
    ]
    # Where no distribution is likely enough, nothing is known.
    found = [
        end if math.isfinite(end) else edge
        for end, edge in zip(ends, reward_range, strict=True)
    ]
    return max(low, min(high, found[0])), max(low, min(high, found[1]))


def _misfit(moments: Moments, weight: float) -> float:
    """Return how unlikely it is that weights are 1 on average, at the best."""
    n = moments.n
    if math.isinf(weight):
        return 1 + 1 / n
    mean = (weight + moments.w) / (1 + n)
    square = (weight * weight + moments.ww) / (1 + n)
    variance = square - mean * mean
    if variance <= 0:
        return 0.0 if mean == 1 else math.inf
    return (1 + n) * (mean - 1) ** 2 / variance


def _bound(
    moments: Moments, weight: float, reward: float, sign: int, likely: float
) -> float:
    """Return the lower bound with one more row; endless where there is none."""
    n = moments.n
    if math.isinf(weight):
        centre = sign * (reward + (moments.wr - moments.w * reward) / n)
        squares = reward * reward * moments.ww - 2 * reward * moments.wwr + moments.wwrr
        spread = _apart(
            (reward * moments.w - moments.wr) ** 2 / (n * (1 + n)), squares / (1 + n)
        )
        return _minus_root(centre, spread, likely + 1 / (2 * n))
    w = (weight + moments.w) / (1 + n)
    ww = (weight * weight + moments.ww) / (1 + n)
    wr = sign * (weight * reward + moments.wr) / (1 + n)
    wwr = sign * (weight * weight * reward + moments.wwr) / (1 + n)
    wwrr = ((weight * reward) ** 2 + moments.wwrr) / (1 + n)
    variance = ww - w * w
    if variance <= 0:
        return math.inf
    along = wwr - w * wr
    centre = wr + (1 - w) * along / variance
    spread = _apart(along * along / variance + wr * wr, wwrr)
    return _minus_root(centre, spread, likely + (1 - w) ** 2 / variance / 2)


def _apart(one: float, other: float) -> float:
    """Return the difference; none where it is no more than their rounding."""
    difference = one - other
    return 0.0 if abs(difference) <= _ROUNDING * abs(other) else difference


def _minus_root(centre: float, spread: float, likely: float) -> float:
    product = spread * likely
    if abs(product) <= _CLOSE * _CLOSE:
        return centre - math.sqrt(2) * _CLOSE
    if likely <= 0 and product >= 0:
        return centre - math.sqrt(2 * product)
    return math.inf
