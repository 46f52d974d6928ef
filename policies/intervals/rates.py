"""Intervals of plain rates: successes among so many.

`wilson` holds on average over rates, `clopper_pearson` for each of them, and is the
wider for it.

References:
    E. B. Wilson. Probable inference, the law of succession, and statistical inference.
    JASA 22, 1927.

    C. J. Clopper and E. S. Pearson. The use of confidence or fiducial limits
    illustrated in the case of the binomial. Biometrika 26, 1934.
"""

from __future__ import annotations

import math

from policies.intervals.base import Interval
from policies.intervals.special import beta_quantile, normal_quantile

__all__ = ["clopper_pearson", "wilson"]


def wilson(successes: float, n: float, confidence: float) -> Interval:
    """Return Wilson's interval.

    Args:
        successes: From 0 to n.
        n: Above 0.
        confidence: In (0, 1).
    """
    z = normal_quantile(confidence)
    rate = successes / n
    middle = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    # What rounding leaves at the ends is nothing.
    low = 0.0 if successes == 0 else max(middle - half, 0.0)
    return low, 1.0 if successes == n else min(middle + half, 1.0)


def clopper_pearson(successes: float, n: float, confidence: float) -> Interval:
    """Return Clopper and Pearson's interval.

    Weighted successes may be given too, as their sum over the largest weight, with n
    over the largest weight, as Vowpal Wabbit's estimators do: it is then no more than
    an approximation, and none where the sum comes near n.

    Args:
        successes: From 0 to n.
        n: Above 0.
        confidence: In (0, 1).

    Examples:
        >>> low, high = clopper_pearson(0, 100, 0.95)
        >>> low, round(high, 4)
        (0.0, 0.0362)
    """
    normal_quantile(confidence)
    tail = (1 - confidence) / 2
    low = beta_quantile(tail, successes, n - successes + 1) if successes > 0 else 0.0
    high = (
        beta_quantile(1 - tail, successes + 1, n - successes) if successes < n else 1.0
    )
    return low, high
