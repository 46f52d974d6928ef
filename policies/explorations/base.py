"""What explorations have in common."""

from __future__ import annotations

import numpy as np

from policies.model import FloatArray

__all__ = ["SAFE_FLOOR", "greedy", "inverse_gaps"]

SAFE_FLOOR = 0.01
"""The floor under explorations that by themselves may give an action no chance."""


def greedy(scores: FloatArray) -> FloatArray:
    """Return the distribution over the best alone, which share it.

    Args:
        scores: Finite, shape (n_actions,).

    Examples:
        >>> greedy(np.array([0.5, 0.2, 0.5]))
        array([0.5, 0. , 0.5])
    """
    best = scores == scores.max()
    distribution: FloatArray = np.where(best, 1.0 / np.count_nonzero(best), 0.0)
    return distribution


def inverse_gaps(scores: FloatArray, gamma: float) -> FloatArray:
    """Return 1 / (n + γ·gap) for what trails the best of n, and the rest for that.

    Args:
        scores: Finite, shape (n_actions,). Those that are equally good share the rest.
        gamma: γ, finite, 0 or more.

    Examples:
        >>> inverse_gaps(np.array([0.0, 0.5]), gamma=16.0)
        array([0.1, 0.9])
    """
    highest = scores.max()
    with np.errstate(over="ignore"):
        # A gap that overflows stays finite, for 0 · ∞ is not a number.
        gaps = np.minimum(highest - scores, np.finfo(np.float64).max)
        distribution: FloatArray = 1.0 / (scores.size + gamma * gaps)
    best = scores == highest
    distribution[best] = 0.0
    distribution[best] = (1.0 - distribution.sum()) / np.count_nonzero(best)
    return distribution
