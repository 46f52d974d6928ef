"""Mostly the best action, and now and then any."""

from __future__ import annotations

from typing import ClassVar

import msgspec
import numpy as np

from policies.explorations.base import greedy
from policies.model import FloatArray

__all__ = ["EpsilonGreedy"]


class EpsilonGreedy(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    tag_field="kind",
    tag="epsilon_greedy",
):
    """Mostly the best action, and now and then any.

    Examples:
        >>> import numpy as np
        >>> EpsilonGreedy(epsilon=0.1).distribution(np.array([0.2, 0.7]), learned=0)
        array([0.05, 0.95])
    """

    floor: ClassVar[float] = 0.0

    epsilon: float = 0.1
    """The probability that is shared equally by all actions: 0 to 1."""

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        if not 0.0 <= self.epsilon <= 1.0:
            raise ValueError(f"epsilon must be from 0 to 1, not {self.epsilon}")

    def distribution(self, scores: FloatArray, *, learned: int) -> FloatArray:
        """Return the probability of each action; the best share what is left.

        Args:
            scores: What each action is expected to earn, finite, shape (n_actions,).
            learned: Not used.

        Returns:
            Probabilities that sum to 1, shape (n_actions,).
        """
        del learned
        probabilities = greedy(scores)
        probabilities *= 1.0 - self.epsilon
        probabilities += self.epsilon / scores.size
        return probabilities

    def distributions(self, scores: FloatArray) -> FloatArray:
        """Return `distribution` of many scores at once.

        Args:
            scores: Finite, shape (n_actions, n).

        Returns:
            Each column a distribution, shape (n_actions, n).
        """
        best = scores == np.maximum.reduce(scores)
        part = self.epsilon / len(scores)
        shares = (1.0 - self.epsilon) / np.add.reduce(best)
        probabilities: FloatArray = np.where(best, shares + part, part)
        return probabilities

    def least(self, n_actions: int, *, learned: int) -> float:
        """Return what any of so many actions is given, whatever its score."""
        del learned
        return self.epsilon / n_actions
