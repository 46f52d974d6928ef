"""What a learner is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from policies.model import Action, Features, FloatArray

__all__ = ["Beliefs", "Learner"]


class Beliefs(NamedTuple):
    """What is thought of the rewards of actions, each by itself.

    Attributes:
        mean: What each is expected to earn, finite, shape (n_actions,).
        deviation: The standard deviation of that estimate, 0 or more, shape
            (n_actions,); 0 where a learner does not know how sure it is.
    """

    mean: FloatArray
    deviation: FloatArray


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

    def believe(self, context: Features, actions: Sequence[Action]) -> Beliefs:
        """Return what each action is expected to earn, and how sure that is.

        Args:
            context: What is known of user and moment.
            actions: At least one.
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

    def correct(
        self,
        context: Features,
        action: Action,
        *,
        reward: float,
        before: float,
        propensity: float,
    ) -> None:
        """Learn that what was learned before turned out to be another reward.

        Args:
            context: What was known when the action was chosen.
            action: The chosen action.
            reward: What it earned after all, finite.
            before: What was learned that it earned.
            propensity: The probability in (0, 1] with which it was chosen.
        """
        ...

    def save(self) -> bytes:
        """Return all it has learned."""
        ...
