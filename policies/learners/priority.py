"""No learning at all: the order that the catalogue gives."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Self

import msgspec
import numpy as np

from policies.learners.base import Beliefs
from policies.learners.sealing import seal, unseal
from policies.model import NO_OFFER, Action, Features, FloatArray

__all__ = ["Priority", "PrioritySettings"]

_KIND = "priority"
_SILENCE = -1e9
"""Below the priority of every offer."""


class PrioritySettings(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    tag_field="kind",
    tag=_KIND,
):
    """How the order of the catalogue is followed; there is nothing to set."""


class Priority:
    """Scores each action by its offer's priority, and silence below them all.

    Examples:
        >>> tea = Action(1, "tea", "c", "home", (), priority=7)
        >>> jam = Action(2, "jam", "c", "home", (), priority=-1)
        >>> Priority(PrioritySettings()).score((), [tea, jam])
        array([ 7., -1.])
    """

    def __init__(self, settings: PrioritySettings) -> None:
        del settings

    @classmethod
    def load(cls, settings: PrioritySettings, blob: bytes) -> Self:
        """Read what `save` has returned.

        Raises:
            ValueError: If it is damaged, or of another learner.
        """
        unseal(_KIND, blob)
        return cls(settings)

    def score(self, context: Features, actions: Sequence[Action]) -> FloatArray:
        """See `Learner.score`; the numbers are priorities, not rewards."""
        del context
        scores = [
            _SILENCE if action.index == NO_OFFER else float(action.priority)
            for action in actions
        ]
        return np.array(scores)

    def believe(self, context: Features, actions: Sequence[Action]) -> Beliefs:
        """See `Learner.believe`; of rewards nothing is thought."""
        scores = self.score(context, actions)
        return Beliefs(scores, np.zeros_like(scores))

    def correct(
        self,
        context: Features,
        action: Action,
        *,
        reward: float,
        before: float,
        propensity: float,
    ) -> None:
        """Learn nothing.

        Raises:
            ValueError: If the reward is not finite.
        """
        del before
        self.learn(context, action, reward=reward, propensity=propensity)

    def learn(
        self, context: Features, action: Action, *, reward: float, propensity: float
    ) -> None:
        """Learn nothing.

        Raises:
            ValueError: If the reward is not finite.
        """
        del context, action, propensity
        if not math.isfinite(reward):
            raise ValueError(f"reward must be finite, not {reward}")

    def save(self) -> bytes:
        """See `Learner.save`."""
        return seal(_KIND, b"")
