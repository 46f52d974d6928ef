"""Any action at first, and from then on the best."""

from __future__ import annotations

from typing import ClassVar

import msgspec
import numpy as np

from policies.explorations.base import SAFE_FLOOR, greedy
from policies.model import FloatArray

__all__ = ["First"]


class First(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    tag_field="kind",
    tag="first",
):
    """Any action until enough was learned, and from then on the best.

    Examples:
        >>> first, scores = First(rewards=100), np.array([0.2, 0.7])
        >>> first.distribution(scores, learned=99)
        array([0.5, 0.5])
        >>> first.distribution(scores, learned=100)
        array([0., 1.])
    """

    floor: ClassVar[float] = SAFE_FLOOR

    rewards: int = 1_000
    """How many rewards are learned before the best is chosen: 0 to 1e12."""

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        if not 0 <= self.rewards <= 10**12:
            raise ValueError(f"rewards must be from 0 to 1e12, not {self.rewards}")

    def distribution(self, scores: FloatArray, *, learned: int) -> FloatArray:
        """Return the probability of each action; the best ones share it.

        Args:
            scores: What each action is expected to earn, finite, shape (n_actions,).
            learned: How many rewards the model has learned, 0 or more.

        Returns:
            Probabilities that sum to 1, shape (n_actions,).
        """
        if learned < self.rewards:
            return np.full(scores.size, 1.0 / scores.size)
        return greedy(scores)

    def least(self, n_actions: int, *, learned: int) -> float:
        """Return what any of so many actions is given, whatever its score."""
        return 1.0 / n_actions if learned < self.rewards else 0.0
