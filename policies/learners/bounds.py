"""What learners do with numbers that are too large to compute with."""

from __future__ import annotations

import math

__all__ = ["FEATURE_MAX", "REWARD_MAX", "bounded", "usable"]

FEATURE_MAX = 1_000.0
"""The largest feature learners see. `policies.features` makes none above 710."""

REWARD_MAX = 1e9
"""Rewards beyond this, either way, are learned as this by most learners."""


def bounded(value: float, limit: float) -> float:
    """Return the value nearest to `value` in [-limit, limit].

    What is not a number says nothing, and becomes 0, so that one caller's mistake
    cannot destroy what was learned from everybody else.

    Examples:
        >>> bounded(0.5, 1.0), bounded(-1e300, 1.0), bounded(float("nan"), 1.0)
        (0.5, -1.0, 0.0)
    """
    if -limit <= value <= limit:
        return value
    return 0.0 if math.isnan(value) else math.copysign(limit, value)


def usable(reward: float) -> float:
    """Return a reward, or ±1e9 where it is beyond that.

    Raises:
        ValueError: If it is not finite.
    """
    if not math.isfinite(reward):
        raise ValueError(f"reward must be finite, not {reward}")
    return bounded(reward, REWARD_MAX)
