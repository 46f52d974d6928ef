"""What a learner is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from policies.model import Action, Features, FloatArray

__all__ = ["Learner"]


class Learner(Protocol):
    """A model of reward that can say what it has learned as bytes.

    A learner is a fold: the same `learn` calls in the same order end in the same
    bytes, whether or not it was saved and loaded in between. It never draws, and
    `score` leaves no trace in it.
    """

    def score(self, context: Features, actions: Sequence[Action]) -> FloatArray:
        """Return what each action is expected to earn, or an optimistic bound of it.

        Args:
            context: What is known of user and moment.
            actions: At least one.

        Returns:
            One finite number per action, in units of reward, shape (n_actions,).
        """
        ...

    def learn(
        self, context: Features, action: Action, *, reward: float, propensity: float
    ) -> None:
        """Learn that the action, once chosen, earned this reward.

        Args:
            context: What was known when it was chosen.
            action: The chosen action.
            reward: What it earned, finite.
            propensity: The probability in (0, 1] with which it was chosen.
        """
        ...

    def save(self) -> bytes:
        """Return all it has learned."""
        ...
