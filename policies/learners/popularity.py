"""What each action has earned on average, whoever it was for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import msgspec
import numpy as np

from policies.learners.base import Beliefs
from policies.learners.bounds import usable
from policies.learners.sealing import seal, unseal
from policies.model import Action, Features, FloatArray

__all__ = ["Popularity", "PopularitySettings"]


class PopularitySettings(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    tag_field="kind",
    tag="popularity",
):
    """How what is popular is learned: the mean reward of each action."""

    mean: float = 0.0
    """What an action is believed to earn before it was tried: -1e9 to 1e9."""

    weight: float = 1.0
    """How many rewards that belief is worth: 0.001 to 1,000,000."""

    deviation: float = 0.5
    """How far rewards are believed to be from their mean: 1e-6 to 1e9.

    A standard deviation, learned for each action from its rewards; this is where it
    begins. Rewards of 0 or 1 have one of 0.5 at most.
    """

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        if not -1e9 <= self.mean <= 1e9:
            raise ValueError(f"mean must be from -1e9 to 1e9, not {self.mean}")
        if not 1e-3 <= self.weight <= 1e6:
            raise ValueError(f"weight must be from 0.001 to 1000000, not {self.weight}")
        if not 1e-6 <= self.deviation <= 1e9:
            raise ValueError(
                f"deviation must be from 1e-6 to 1e9, not {self.deviation}"
            )


class _Tally(msgspec.Struct, array_like=True):
    """What was learned of an action.

    Attributes:
        count: How many rewards.
        total: Their sum.
        squares: The sum of their squares.
    """

    count: int = 0
    total: float = 0.0
    squares: float = 0.0


class Popularity:
    """Expects of each action what it has earned on average, in any context.

    The prior is normal and inverse gamma: `weight` rewards of `mean` that were
    `deviation` apart. With rewards of 0 or 1 the score is that of a Beta prior, with
    weight · mean successes in `weight` trials. The deviation is the scale of the
    Student distribution that is the posterior of an action's mean reward.

    `correct` ends in the model that would have learned the right reward at once, but
    for rounding.

    Examples:
        >>> tea, jam = (Action(i, n, "c", "p", ()) for i, n in [(1, "tea"), (2, "jam")])
        >>> learner = Popularity(PopularitySettings(mean=0.5, weight=2.0))
        >>> for reward in (1.0, 1.0):
        ...     learner.learn((), tea, reward=reward, propensity=0.5)
        >>> learner.score((), [tea, jam])
        array([0.75, 0.5 ])
    """

    def __init__(self, settings: PopularitySettings) -> None:
        self.settings = settings
        self._tallies: dict[str, _Tally] = {}

    @classmethod
    def load(cls, settings: PopularitySettings, blob: bytes) -> Self:
        """Return a learner that has learned what the one that saved the blob had.

        Raises:
            ValueError: If the blob is damaged, or of another learner.
        """
        learner = cls(settings)
        payload = unseal(_KIND, blob)
        learner._tallies = msgspec.msgpack.decode(payload, type=dict[str, _Tally])
        return learner

    def save(self) -> bytes:
        """Return all it has learned: the same bytes for the same learning."""
        return seal(_KIND, msgspec.msgpack.encode(self._tallies))

    def score(self, context: Features, actions: Sequence[Action]) -> FloatArray:
        """Return what each action is expected to earn, shape (n_actions,).

        Args:
            context: Not used.
            actions: At least one.
        """
        return self.believe(context, actions).mean

    def believe(self, context: Features, actions: Sequence[Action]) -> Beliefs:
        """Return what each action is expected to earn, and how sure that is.

        Args:
            context: Not used.
            actions: At least one.
        """
        del context
        found = [self._tally(action) for action in actions]
        count = np.array([tally.count for tally in found], np.float64)
        total = np.array([tally.total for tally in found])
        squares = np.array([tally.squares for tally in found])
        settings = self.settings
        weight = settings.weight + count
        mean = (settings.weight * settings.mean + total) / weight
        # Of the prior's rewards and those learned, the squares around their mean.
        spread = squares + settings.weight * settings.mean**2 - weight * mean**2
        believed = settings.weight * settings.deviation**2
        variance = (believed + np.maximum(spread, 0.0)) / weight
        return Beliefs(mean, np.sqrt(variance / weight))

    def learn(
        self, context: Features, action: Action, *, reward: float, propensity: float
    ) -> None:
        """Learn that the action, once chosen, earned this reward.

        Args:
            context: Not used.
            action: The chosen action.
            reward: What it earned, finite; beyond ±1e9 it is learned as that.
            propensity: Not used.

        Raises:
            ValueError: If `reward` is not finite.
        """
        del context, propensity
        reward = usable(reward)
        tally = self._tallies.get(action.name)
        if tally is None:
            tally = self._tallies[action.name] = self._begun(action)
        tally.count += 1
        tally.total += reward
        tally.squares += reward * reward

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

        Raises:
            ValueError: If a reward is not finite.
        """
        del context, propensity
        reward, before = usable(reward), usable(before)
        tally = self._tallies.setdefault(action.name, _Tally())
        tally.total += reward - before
        tally.squares += reward * reward - before * before

    def _tally(self, action: Action) -> _Tally:
        """Return what was learned of an action, or else of what it is like."""
        for name in (action.name, *action.like):
            tally = self._tallies.get(name)
            if tally is not None:
                return tally
        return _NOTHING

    def _begun(self, action: Action) -> _Tally:
        """Return what an action begins with: that of what it is like, by its doubt.

        As many rewards as leave 1 / (weight + count) that part of the way back to the
        prior, such that what is expected, and how far rewards are from it, stay.
        """
        other = self._tally(action)
        if not other.count:
            return _Tally()
        prior = self.settings.weight
        unsure = 1.0 / (prior + other.count)
        unsure += action.doubt * (1.0 / prior - unsure)
        count = round(1.0 / unsure - prior)
        believed = prior * self.settings.mean
        mean = (believed + other.total) / (prior + other.count)
        squares = other.squares + believed * self.settings.mean
        spread = squares / (prior + other.count) - mean * mean
        weight = prior + count
        return _Tally(
            count,
            mean * weight - believed,
            (spread + mean * mean) * weight - believed * self.settings.mean,
        )


_KIND = "popularity"
_NOTHING = _Tally()
