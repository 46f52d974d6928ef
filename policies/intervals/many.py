"""Many questions asked of the same data: which answers are more than luck.

Of many tests some come out small by luck alone. `select` picks those of which, on
average, no more than a given share is luck (Benjamini and Hochberg), and says at which
confidence the intervals of what was picked are to be made, so that no more than that
share of them misses (Benjamini and Yekutieli). Both hold where tests are independent,
or go along with each other.

`above` tests whether two things go together, and `apart` says how far two estimates
of different users are from each other.

References:
    Y. Benjamini and Y. Hochberg. Controlling the false discovery rate: a practical and
    powerful approach to multiple testing. JRSS B 57, 1995.

    Y. Benjamini and D. Yekutieli. False discovery rate-adjusted multiple confidence
    intervals for selected parameters. JASA 100, 2005.

    R. G. Newcombe. Interval estimation for the difference between independent
    proportions: comparison of eleven methods. Statistics in Medicine 17, 1998.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from policies.intervals.base import Estimate, Interval

__all__ = ["Selection", "above", "apart", "select"]

_NEGLIGIBLE = 1e-17


class Selection(NamedTuple):
    """Which of many tests are more than luck.

    Attributes:
        adjusted: By test, the smallest rate at which it would be selected, 0 to 1.
        selected: By test, whether it is.
        confidence: At which the intervals of those selected are to be made.
    """

    adjusted: tuple[float, ...]
    selected: tuple[bool, ...]
    confidence: float


def select(p_values: Sequence[float], rate: float) -> Selection:
    """Select the tests that are more than luck.

    Args:
        p_values: One per test, each in [0, 1].
        rate: Which share of those selected may be luck, in (0, 1).

    Raises:
        ValueError: If a number is out of its range.

    Examples:
        >>> found = select([0.001, 0.03, 0.8], rate=0.05)
        >>> found.selected, round(found.confidence, 4)
        ((True, True, False), 0.9667)
        >>> [round(p, 3) for p in found.adjusted]
        [0.003, 0.045, 0.8]
    """
    if not 0 < rate < 1:
        raise ValueError(f"rate must be in (0, 1), not {rate}")
    for p in p_values:
        if not 0 <= p <= 1:
            raise ValueError(f"a p-value must be in [0, 1], not {p}")
    count = len(p_values)
    adjusted = [1.0] * count
    least = 1.0
    order = sorted(range(count), key=p_values.__getitem__)
    for rank in range(count, 0, -1):
        at = order[rank - 1]
        least = min(least, p_values[at] * count / rank)
        adjusted[at] = least
    selected = tuple([p <= rate for p in adjusted])
    share = sum(selected) / count if any(selected) else 1.0
    return Selection(tuple(adjusted), selected, 1.0 - rate * share)


def above(both: int, one: int, other: int, n: int) -> float:
    """Return how likely at least so many have both by chance: Fisher's exact test.

    Args:
        both: How many have both.
        one: How many have the one, of n.
        other: How many have the other, of n.
        n: How many there are.

    Raises:
        ValueError: If so many cannot have both.

    Examples:
        >>> round(above(both=4, one=4, other=4, n=8), 4)
        0.0143
        >>> above(both=0, one=4, other=4, n=8)
        1.0
    """
    least, most = max(0, one + other - n), min(one, other)
    if not least <= both <= most or max(one, other) > n:
        raise ValueError(
            f"of {n}, {one} and {other} have one of two; both are from {least} to"
            f" {most}, not {both}"
        )
    if both == least:
        return 1.0
    mean = one * other / n
    if both <= mean:
        # What is below is a shorter sum, and nothing is lost by the difference.
        return min(1.0, max(0.0, 1.0 - _tail(both - 1, one, other, n, step=-1)))
    return min(1.0, _tail(both, one, other, n, step=1))


def apart(one: Estimate, other: Estimate) -> tuple[float, Interval]:
    """Return how far an estimate is above another one of different users.

    The interval holds as often as those of the two, from which it is made: each end
    takes of each estimate the side that matters (Newcombe).

    Args:
        one: The one.
        other: The other, of other users, at the same confidence.

    Examples:
        >>> from policies.intervals.estimating import rate_of
        >>> value, (low, high) = apart(rate_of(56, 70), rate_of(48, 80))
        >>> round(value, 4), round(low, 4), round(high, 4)
        (0.2, 0.0524, 0.3339)
    """
    value = one.value - other.value
    below = math.hypot(one.value - one.low, other.high - other.value)
    over = math.hypot(one.high - one.value, other.value - other.low)
    return value, (value - below, value + over)


def _tail(first: int, one: int, other: int, n: int, *, step: int) -> float:
    """Add up the chances of so many and all that are further out."""
    least, most = max(0, one + other - n), min(one, other)
    chance = math.exp(
        _choose(one, first) + _choose(n - one, other - first) - _choose(n, other)
    )
    total, k = 0.0, first
    while least <= k <= most and chance > _NEGLIGIBLE * total:
        total += chance
        if step > 0:
            chance *= (one - k) * (other - k) / ((k + 1) * (n - one - other + k + 1))
        else:
            chance *= k * (n - one - other + k) / ((one - k + 1) * (other - k + 1))
        k += step
    return total


def _choose(n: int, k: int) -> float:
    """Return the logarithm of the number of ways to choose k of n."""
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
