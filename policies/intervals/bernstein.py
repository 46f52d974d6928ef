"""Empirical Bernstein bounds: they hold for any n, and are wide for it.

References:
    A. Maurer and M. Pontil. Empirical Bernstein bounds and sample variance
    penalization. COLT 2009, https://arxiv.org/abs/0907.3740.
"""

from __future__ import annotations

import math

from policies.intervals.base import Interval

__all__ = ["bernstein"]


def bernstein(
    value: float, variance: float, n: int, span: float, confidence: float
) -> Interval:
    """Return the interval of a mean of independent numbers in a known range.

    Args:
        value: The mean seen.
        variance: The variance seen, with a divisor of n − 1.
        n: How many there are, at least 1.
        span: The largest possible less the smallest.
        confidence: How often it is to hold the true mean, in (0, 1).

    Examples:
        >>> low, high = bernstein(0.5, 0.25, 10_000, 1.0, 0.95)
        >>> round(high - low, 4)
        0.0316
    """
    if n < 2:
        return -math.inf, math.inf
    log = math.log(2 / ((1 - confidence) / 2))
    half = math.sqrt(2 * variance * log / n) + 7 * span * log / (3 * (n - 1))
    return value - half, value + half
