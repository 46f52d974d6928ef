"""What is ranked by: p^a · c · v · l, of which each term can be switched on.

    p   what the learner expects, with the exponent a
    c   how much the offer is for this moment, by the catalogue
    v   what it is worth when it is accepted: its price or its margin
    l   a lever, by which people favour an offer or hold it back within bounds

A loss stays what it is: where p is 0 or less, the score is p. Silence has no terms
but its own p, with the exponent.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Literal

import msgspec
import numpy as np

from policies.model import NO_OFFER, Action, Features, FloatArray, ScoreTerms

__all__ = ["ObjectiveSettings"]

_MOMENT = "moment="


class ObjectiveSettings(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, dict=True
):
    """What actions are ranked by, beside what the learner expects of them.

    The learner's rewards must then be about the acceptance alone, such as 1 for
    accepted: where `[rewards]` counts margins already, they would count twice.

    Examples:
        >>> from policies.model import Merits
        >>> tea = Action(1, "tea", "c", "p", (), merits=Merits(price=500, lever=1.5))
        >>> objective = ObjectiveSettings(value="price", levers=True)
        >>> objective.weigh(np.array([0.1]), (), [tea])
        array([0.75])
    """

    exponent: float = 1.0
    """The power of what the learner expects: 0 to 4; below 1, chances count less
    against the other terms, above 1 more."""

    context: bool = False
    """Whether the offers' `moment_weights` count."""

    value: Literal["none", "price", "margin"] = "none"
    """What an offer is worth when it is accepted.

    One that has no margin counts 1, and so does by `price` what has no price, or is
    free: at 0 it would never be chosen, however much it pleases.
    """

    value_unit: float = 100.0
    """How many minor units of the catalogue's currency count 1, above 0 to 1e12."""

    levers: bool = False
    """Whether the offers' `lever` counts."""

    lever_max: float = 2.0
    """The most that a lever may do, 1 to 10: from its inverse to itself."""

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        if not 0.0 <= self.exponent <= 4.0:
            raise ValueError(f"exponent must be from 0 to 4, not {self.exponent}")
        if not 0.0 < self.value_unit <= 1e12:
            raise ValueError(
                f"value_unit must be above 0 to 1e12, not {self.value_unit}"
            )
        if not 1.0 <= self.lever_max <= 10.0:
            raise ValueError(f"lever_max must be from 1 to 10, not {self.lever_max}")

    @cached_property
    def off(self) -> bool:
        """Whether actions are ranked by what the learner expects alone."""
        return not (
            self.exponent != 1.0 or self.context or self.levers or self.value != "none"
        )

    def weigh(
        self, expected: FloatArray, context: Features, actions: Sequence[Action]
    ) -> FloatArray:
        """Return what actions are ranked by.

        Args:
            expected: What the learner expects of each, finite, shape (n_actions,).
            context: What is known of user and moment.
            actions: The actions.

        Returns:
            Finite numbers in the order of actions, shape (n_actions,).
        """
        if self.off:
            return expected
        moment = _moment_of(context)
        factors = np.array([self._factor(action, moment) for action in actions])
        return self._score(expected, factors)

    def spread(
        self,
        expected: FloatArray,
        deviation: FloatArray,
        context: Features,
        actions: Sequence[Action],
    ) -> FloatArray:
        """Return how sure what `weigh` returns is, given how sure the learner is.

        It is half the way that the score goes from a deviation below what is expected
        to one above.
        """
        if self.off:
            return deviation
        above = self.weigh(expected + deviation, context, actions)
        return (above - self.weigh(expected - deviation, context, actions)) / 2.0

    def terms(
        self, expected: float, context: Features, action: Action
    ) -> ScoreTerms | None:
        """Return what the score of an action is made of; none where nothing is on."""
        if self.off:
            return None
        return ScoreTerms(expected, *self._terms(action, _moment_of(context)))

    def _score(self, expected: FloatArray, factors: FloatArray) -> FloatArray:
        gains = np.maximum(expected, 0.0) ** self.exponent * factors
        scores: FloatArray = np.where(expected > 0.0, gains, expected)
        return scores

    def _factor(self, action: Action, moment: str) -> float:
        context, value, lever = self._terms(action, moment)
        return context * value * lever

    def _terms(self, action: Action, moment: str) -> tuple[float, float, float]:
        """Return c, v and l; each is 1 where it is off."""
        if action.index == NO_OFFER:
            return 1.0, 1.0, 1.0
        merits = action.merits
        weight = dict(merits.moments).get(moment, 1.0) if self.context else 1.0
        minor = (merits.price or None) if self.value == "price" else merits.margin
        counts = self.value != "none" and minor is not None
        value = minor / self.value_unit if counts and minor is not None else 1.0
        bound = self.lever_max if self.levers else 1.0
        return weight, value, min(max(merits.lever, 1.0 / bound), bound)


def _moment_of(context: Features) -> str:
    for name, _ in context:
        if name.startswith(_MOMENT):
            return name.removeprefix(_MOMENT)
    return ""
