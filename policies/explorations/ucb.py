"""The action that would be the best if all were as good as they may well be."""

from __future__ import annotations

from typing import ClassVar

import msgspec
import numpy as np

from policies.explorations.base import SAFE_FLOOR, greedy
from policies.model import FloatArray

__all__ = ["UCB"]

_LARGEST = 1e300


class UCB(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    tag_field="kind",
    tag="ucb",
):
    """The action with the highest upper confidence bound of its reward.

    The bound is made of what the learner believes, its mean and its standard deviation;
    a width that the learner itself may have is not used. Under a learner that does not
    know how sure it is this is greedy.

    Examples:
        >>> ucb = UCB(alpha=2.0)
        >>> bounds = ucb.bounds(np.array([0.5, 0.4]), np.array([0.0, 0.1]))
        >>> bounds.round(1), ucb.distribution(bounds, learned=0)
        (array([0.5, 0.6]), array([0., 1.]))

    References:
        L. Li, W. Chu, J. Langford and R. E. Schapire. A contextual-bandit approach to
        personalized news article recommendation. WWW 2010,
        https://arxiv.org/abs/1003.0146.
    """

    floor: ClassVar[float] = SAFE_FLOOR

    alpha: float = 1.0
    """The width of the bound in standard deviations: 0 to 1,000; 0 is no optimism."""

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        if not 0.0 <= self.alpha <= 1e3:
            raise ValueError(f"alpha must be from 0 to 1000, not {self.alpha}")

    def bounds(self, mean: FloatArray, deviation: FloatArray) -> FloatArray:
        """Return the bound of each action's reward, finite, shape (n_actions,).

        Args:
            mean: What each action is expected to earn, finite, shape (n_actions,).
            deviation: How sure that is, finite, 0 or more, shape (n_actions,).
        """
        with np.errstate(over="ignore"):
            return np.clip(mean + self.alpha * deviation, -_LARGEST, _LARGEST)

    def distribution(self, scores: FloatArray, *, learned: int) -> FloatArray:
        """Return the probability of each action; those with the best bound share it.

        Args:
            scores: The bounds, shape (n_actions,).
            learned: Not used.

        Returns:
            Probabilities that sum to 1, shape (n_actions,).
        """
        del learned
        return greedy(scores)

    def least(self, n_actions: int, *, learned: int) -> float:
        """Return 0: what is not the best has no chance."""
        del n_actions, learned
        return 0.0
