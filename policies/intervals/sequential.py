"""Intervals that hold at all times at once, however often they are looked at.

`mixture` says by how many standard errors an interval has to be wider to hold at every
n from some first look on: Robbins's normal mixture, with the variance taken from what
was seen. It needs sums only. `gamma_exponential` holds from the first row on, whatever
the rewards and weights are, reads the rows in their order, and is several times as
wide.

References:
    I. Waudby-Smith, D. Arbour, R. Sinha, E. H. Kennedy and A. Ramdas. Time-uniform
    central limit theory and asymptotic confidence sequences. The Annals of Statistics
    52, 2024, https://arxiv.org/abs/2103.06476.

    S. R. Howard, A. Ramdas, J. McAuliffe and J. Sekhon. Time-uniform, nonparametric,
    nonasymptotic confidence sequences. The Annals of Statistics 49, 2021,
    https://arxiv.org/abs/1810.08240.
"""

from __future__ import annotations

import math

import numpy as np

from policies.intervals.base import Interval
from policies.intervals.special import halve, log_lower_gamma
from policies.model import FloatArray

__all__ = ["TIGHT_AT", "gamma_exponential", "mixture"]

TIGHT_AT = 10_000
"""The number of rows at which an always-valid interval is as narrow as it can be."""

_PRIOR = 1.0  # What the mixture starts from, in rows.


def mixture(n: float, confidence: float, tight_at: float = TIGHT_AT) -> float:
    """Return how many standard errors hold at every n at once.

    Args:
        n: The number of rows so far, at least 1.
        confidence: How often all intervals are to hold the true value, in (0, 1).
        tight_at: The n to be narrowest at; to be chosen before any look.

    Examples:
        >>> round(mixture(10_000, 0.95), 2)  # 1.96 at a single look.
        3.04
    """
    alpha = 1 - confidence
    log = -2 * math.log(alpha)
    scale = (log + math.log(log + 1)) / tight_at
    grown = n * scale + 1
    return math.sqrt(2 * grown / (n * scale) * math.log(math.sqrt(grown) / alpha))


def gamma_exponential(
    weights: FloatArray,
    rewards: FloatArray,
    confidence: float,
    reward_range: tuple[float, float] = (0.0, 1.0),
) -> Interval:
    """Return the interval at the last of some rows, which holds at each of them.

    Weights need no largest possible: a lower bound on what rewards add is all that is
    used, of the rewards for the lower end, of what they lack for the upper.

    Args:
        weights: In the order of time, shape (n,), each 0 or more.
        rewards: Likewise, each in `reward_range`.
        confidence: How often all intervals are to hold the true value, in (0, 1).
        reward_range: The smallest and the largest reward possible, not equal.

    Examples:
        >>> coin = np.tile([0.4, 1.6], 50), np.tile([1.0, 0.0], 50)
        >>> low, high = gamma_exponential(*coin, 0.95)
        >>> round(low, 4), round(high, 4)
        (0.1038, 0.5091)
    """
    low, high = reward_range
    alpha = (1 - confidence) / 2
    gained = weights * (rewards - low) / (high - low)
    lacked = weights * (high - rewards) / (high - low)
    span = high - low
    return (
        low + span * _lower(gained, alpha),
        low + span * (1 - _lower(lacked, alpha)),
    )


def _lower(earned: FloatArray, alpha: float) -> float:
    """Return a lower bound of the mean of numbers of 0 or more, of at most 1."""
    t, total = len(earned), float(earned.sum())
    # What each was predicted to be, from those before.
    before = np.concatenate([[0.0], np.cumsum(earned)[:-1]])
    predicted = (before + 0.5) / np.arange(1, t + 1)
    variance = float(((earned - predicted) ** 2).sum())
    enough = -math.log(alpha)

    def lacking(mean: float) -> float:
        return enough - _log_wealth(total - t * mean, variance)

    highest = min(1.0, total / t)
    if lacking(0.0) >= 0:
        return 0.0
    return halve(lacking, 0.0, highest)


def _log_wealth(gain: float, variance: float) -> float:
    """Return what a mixture of bets against a mean has won, as a logarithm."""
    rate = variance + _PRIOR
    reached = gain + rate
    return (
        gain
        + variance
        + _PRIOR * math.log(_PRIOR)
        - rate * math.log(reached)
        + log_lower_gamma(rate, reached)
        - log_lower_gamma(_PRIOR, _PRIOR)
    )
