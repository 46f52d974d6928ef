"""Keeps rewards within limits: fixed ones, and those of what was learned before."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterable

from policies.rewards import RewardSettings

__all__ = ["REMEMBERED", "Clipping"]

REMEMBERED = 1_000
"""Of how many rewards the quantile is taken: the last ones."""

_ENOUGH = 100


class Clipping:
    """Clips one reward after the other.

    What a reward is clipped to follows from the rewards before it, as they were earned
    and not as they were clipped: limits that followed from clipped ones could only
    shrink.

    Args:
        settings: The limits.
        before: The rewards before, in order, of which the last `REMEMBERED` count.

    Examples:
        >>> clipping = Clipping(RewardSettings(clip_max=5.0), [])
        >>> clipping.clip(7.0), clipping.clip(-7.0)
        (5.0, -7.0)
        >>> clipping = Clipping(RewardSettings(clip_quantile=0.9), range(101))
        >>> clipping.clip(1e6), clipping.clip(-1e6), clipping.clip(50.0)
        (90.0, 10.0, 50.0)
    """

    def __init__(self, settings: RewardSettings, before: Iterable[float]) -> None:
        self._least = -math.inf if settings.clip_min is None else settings.clip_min
        self._most = math.inf if settings.clip_max is None else settings.clip_max
        self._quantile = settings.clip_quantile
        self._recent: deque[float] = deque(map(float, before), REMEMBERED)
        self._sorted = sorted(self._recent)

    @property
    def follows(self) -> bool:
        """Whether limits follow from the rewards before."""
        return self._quantile is not None

    def clip(self, earned: float) -> float:
        """Return the reward that is learned."""
        low, high = self._limits()
        within = min(max(earned, low), high)
        return min(max(within, self._least), self._most)

    def remember(self, earned: float) -> None:
        """Let a reward count towards the limits of those after it."""
        if self._quantile is None:
            return
        if len(self._recent) == REMEMBERED:
            del self._sorted[bisect_left(self._sorted, self._recent[0])]
        self._recent.append(earned)
        insort(self._sorted, earned)

    def _limits(self) -> tuple[float, float]:
        if self._quantile is None or len(self._sorted) < _ENOUGH:
            return -math.inf, math.inf
        last = len(self._sorted) - 1
        # The nearest ranks, counted from either end alike.
        rank = math.ceil(self._quantile * last - 1e-9)
        return self._sorted[last - rank], self._sorted[rank]
