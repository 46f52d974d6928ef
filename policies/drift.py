"""Signs that the world or the policy is not what it was.

**Collapse.** A policy that tries nothing but one action any more, though that action is
not known to be better, has stopped to learn. The entropy of what is chosen, as a share
of what it could be, says how much is still tried.

**Drift.** The population stability index compares how the values of a feature are
spread now with how they were: Σ (p − q)·ln(p / q) over buckets. Credit scoring, where
it is from, calls more than 0.2 (or 0.25) a shift to be looked at.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from policies.entropy import selection_entropy
from policies.intervals import mean_of
from policies.model import FeatureValue

__all__ = ["PSI_MAX", "collapsed", "entropy_of", "psi", "stability"]

PSI_MAX = 0.2
"""The index above which a feature has drifted."""

_BUCKETS = 10
_CATEGORIES_MAX = 50
_EMPTY = 1e-4
_WINNER_MIN = 30


def entropy_of(chosen: Mapping[str, int], eligible: int) -> float:
    """Return how evenly actions are chosen: 0 for one alone, 1 for all alike.

    Args:
        chosen: How often each action was chosen.
        eligible: How many different actions could be chosen, at least as many.

    Examples:
        >>> entropy_of({"tea": 5, "jam": 5}, eligible=2)
        1.0
        >>> entropy_of({"tea": 9}, eligible=3)
        0.0
    """
    if eligible < 2 or not any(chosen.values()):
        return 1.0
    never = [0] * (eligible - len(chosen))
    return selection_entropy([*chosen.values(), *never])


def collapsed(
    chosen: Mapping[str, int],
    eligible: int,
    rewards: Mapping[str, Sequence[float]],
    *,
    entropy_min: float,
) -> bool:
    """Say whether hardly anything is tried, and not because one action is better.

    Args:
        chosen: How often each action was chosen.
        eligible: How many different actions could be chosen.
        rewards: What each action has earned, a decision.
        entropy_min: The entropy below which hardly anything is tried.
    """
    if eligible < 2 or not chosen:
        return False
    if entropy_of(chosen, eligible) >= entropy_min:
        return False
    return not _is_winner(max(chosen, key=lambda name: chosen[name]), rewards)


def _is_winner(name: str, rewards: Mapping[str, Sequence[float]]) -> bool:
    """Say whether an action has certainly earned more than the others have."""
    own = np.array(rewards.get(name, ()), dtype=float)
    others = np.array(
        [
            reward
            for other, earned in rewards.items()
            if other != name
            for reward in earned
        ],
        dtype=float,
    )
    if len(own) < _WINNER_MIN or len(others) < _WINNER_MIN:
        return False
    return mean_of(own).low > mean_of(others).high


def psi(expected: Sequence[float], actual: Sequence[float]) -> float:
    """Return the population stability index of two distributions over buckets.

    Args:
        expected: How many were in each bucket.
        actual: How many are now.

    Examples:
        >>> psi([50, 50], [50, 50])
        0.0
        >>> round(psi([50, 50], [80, 20]), 2)
        0.42
    """
    was = np.maximum(np.array(expected, dtype=float) / max(sum(expected), 1), _EMPTY)
    now = np.maximum(np.array(actual, dtype=float) / max(sum(actual), 1), _EMPTY)
    return float(((now - was) * np.log(now / was)).sum())


def stability(before: Iterable[FeatureValue], now: Iterable[FeatureValue]) -> float:
    """Return the stability index of a feature's values, numbers or categories.

    Numbers are put into buckets that held about a tenth of those before each; of
    categories, the 50 that were most frequent before each have their own, and the
    others share one.
    """
    old, new = list(before), list(now)
    if not old or not new:
        return 0.0
    numbers = all(
        isinstance(value, (int, float)) and not isinstance(value, bool)
        for value in (*old, *new)
    )
    return _of_numbers(old, new) if numbers else _of_categories(old, new)


def _of_numbers(old: Sequence[FeatureValue], new: Sequence[FeatureValue]) -> float:
    was, now = np.array(old, dtype=float), np.array(new, dtype=float)
    edges = np.unique(np.quantile(was, np.linspace(0, 1, _BUCKETS + 1)[1:-1]))
    return psi(
        np.bincount(np.searchsorted(edges, was), minlength=len(edges) + 1).tolist(),
        np.bincount(np.searchsorted(edges, now), minlength=len(edges) + 1).tolist(),
    )


def _of_categories(old: Sequence[FeatureValue], new: Sequence[FeatureValue]) -> float:
    was, now = Counter(map(str, old)), Counter(map(str, new))
    named = [name for name, _ in was.most_common(_CATEGORIES_MAX)]
    return psi(
        [*(was[name] for name in named), len(old) - sum(was[name] for name in named)],
        [*(now[name] for name in named), len(new) - sum(now[name] for name in named)],
    )
