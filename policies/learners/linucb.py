"""Linear upper confidence bounds, one ridge regression per action."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from policies.hashing import Hasher
from policies.learners.base import Beliefs
from policies.learners.bounds import usable
from policies.learners.ridge import Ridges, RidgeState
from policies.learners.sealing import seal, unseal
from policies.learners.vectors import Coming, Vectors
from policies.model import Action, Features, FloatArray

__all__ = ["BoundsAhead", "LinUCB", "LinUCBSettings"]

_LOOK = 64
"""For how many contexts scores are found ahead: each reward learned changes them."""


class LinUCBSettings(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    tag_field="kind",
    tag="linucb",
):
    """How linear upper confidence bounds are learned."""

    dim: int = 32
    """Into how many places the names of features are hashed: 1 to 256.

    More than there are features, so that they can be told apart; time and memory grow
    with its square: an action takes 4 KB at 32, 263 KB at 256.
    """

    alpha: float = 0.1
    """The width of the bound in standard deviations: 0 to 1,000; 0 is no optimism.

    Rewards are taken to have a standard deviation of 1; where theirs is far from
    that, so is the best alpha.
    """

    ridge: float = 1.0
    """The strength of the prior that all weights are 0: 0.001 to 1,000,000.

    Its unit is one observation of a feature of 1.
    """

    noise: float = 0.0
    """How far rewards are from what is expected of them, for the bound: 0 to 1,000.

    A standard deviation in those units. At 0 the bound is of the expected reward, as
    in the paper. Above, it is of the next reward: its deviation is the root of the sum
    of both squares, so that actions of which little and less is known differ by less,
    and the same alpha tries less.
    """

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        if not 1 <= self.dim <= 256:
            raise ValueError(f"dim must be from 1 to 256, not {self.dim}")
        if not 0.0 <= self.alpha <= 1e3:
            raise ValueError(f"alpha must be from 0 to 1000, not {self.alpha}")
        if not 1e-3 <= self.ridge <= 1e6:
            raise ValueError(f"ridge must be from 0.001 to 1000000, not {self.ridge}")
        if not 0.0 <= self.noise <= 1e3:
            raise ValueError(f"noise must be from 0 to 1000, not {self.noise}")


class LinUCB:
    """Scores each action by an optimistic estimate of its reward.

    Each action, by its name, has a ridge regression of its own on the features of
    the context, hashed into `dim` places. Its score is the expected reward plus
    `alpha` standard deviations of that estimate, so that what was tried little
    scores high. An action never learned from is at the prior, whatever its own
    features: within one action's regression they are constant, and say nothing.

    Propensities are ignored: given the context, which rows an action has learned
    from says nothing about their rewards, so the regression is right without
    weights, while weights would make it noisy and its bound meaningless.

    Scores are bounds, not probabilities: `policies.explorations` turn them into a
    distribution.

    Examples:
        Before any reward, all that is known is how long the context's vector is:

        >>> from policies.model import Action
        >>> tea, jam = (Action(i, n, "c", "p", ()) for i, n in [(1, "tea"), (2, "jam")])
        >>> learner = LinUCB(LinUCBSettings(alpha=1.0))
        >>> context = (("constant", 1.0),)
        >>> learner.score(context, [tea, jam])
        array([1., 1.])

        A reward moves the estimate of the action that earned it, and narrows its
        bound:

        >>> learner.learn(context, tea, reward=1.0, propensity=0.5)
        >>> learner.score(context, [tea, jam]).round(3)
        array([1.207, 1.   ])

    References:
        L. Li, W. Chu, J. Langford and R. E. Schapire. A contextual-bandit approach
        to personalized news article recommendation. WWW 2010,
        https://arxiv.org/abs/1003.0146. `score` and `learn` are algorithm 1, with
        disjoint models. Two things differ. The prior is `ridge` times the identity,
        where the paper has the identity. And A⁻¹ and θ = A⁻¹b are kept up to date
        themselves, by the Sherman-Morrison identity, instead of A and b: O(d²) and
        no inversion.
    """

    def __init__(self, settings: LinUCBSettings) -> None:
        self.settings = settings
        self._vectors = Vectors(Hasher(settings.dim))
        self._ridges = Ridges(settings.dim, settings.ridge)
        self._alpha = np.array(settings.alpha)

    @classmethod
    def load(cls, settings: LinUCBSettings, blob: bytes) -> Self:
        """Return a learner that has learned what the one that saved the blob had.

        Raises:
            ValueError: If the blob is damaged, or `dim` or `ridge` were others.
        """
        learner = cls(settings)
        payload = unseal(learner._kind, blob)
        learner._ridges.load(msgspec.msgpack.decode(payload, type=RidgeState))
        return learner

    def save(self) -> bytes:
        """Return all it has learned: the same bytes for the same learning."""
        return seal(self._kind, msgspec.msgpack.encode(self._ridges.save()))

    def score(self, context: Features, actions: Sequence[Action]) -> FloatArray:
        """Return the upper confidence bound of each action's reward.

        Args:
            context: What is known of user and moment; beyond ±1,000 it is clipped.
            actions: At least one.

        Returns:
            The bounds, shape (n_actions,), in units of reward.
        """
        x = self._vectors.of(context)
        if not self.settings.noise:
            return self._ridges.bounds(actions, x, self._alpha)
        mean, variance = self._ridges.moments(actions, x)
        variance += self.settings.noise**2
        bounds: FloatArray = np.sqrt(variance, out=variance)
        bounds *= self._alpha
        bounds += mean
        return bounds

    def ahead(
        self, contexts: Sequence[Features], actions: Sequence[Action]
    ) -> BoundsAhead:
        """Return the scores of contexts that are still to come.

        Args:
            contexts: At least one.
            actions: What is eligible at each of them, at least one, none like others.
        """
        coming = self._vectors.many(contexts)
        return BoundsAhead(self.settings, self._ridges, coming, actions)

    def believe(self, context: Features, actions: Sequence[Action]) -> Beliefs:
        """Return the estimate of each action's reward, and its standard deviation.

        Args:
            context: What is known of user and moment; beyond ±1,000 it is clipped.
            actions: At least one.
        """
        mean, variance = self._ridges.moments(actions, self._vectors.of(context))
        return Beliefs(mean, np.sqrt(variance, out=variance))

    def learn(
        self, context: Features, action: Action, *, reward: float, propensity: float
    ) -> None:
        """Learn that the action, once chosen, earned this reward.

        Args:
            context: What was known when it was chosen.
            action: The chosen action.
            reward: What it earned, finite; beyond ±1e9 it is learned as that.
            propensity: Ignored, as the class says.

        Raises:
            ValueError: If `reward` is not finite.
        """
        del propensity
        reward = usable(reward)
        x = self._vectors.of(context)
        if action.like:
            self._ridges.adopt(action)
        self._ridges.learn(action.name, x, reward)

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

        It ends in the model that would have learned the right one at once, but for
        rounding: A does not depend on rewards, and b is a sum over them.
        """
        del propensity
        by = usable(reward) - usable(before)
        self._ridges.correct(action.name, self._vectors.of(context), by)

    @property
    def _kind(self) -> str:
        """What must not change between saving and loading."""
        return f"linucb dim={self.settings.dim} ridge={float(self.settings.ridge)!r}"


class BoundsAhead:
    """The scores of contexts that are still to come, while the learner learns.

    They are found for a few contexts at a time: what is learned on the way changes
    those that follow, of one action.

    Args:
        settings: Those of the learner.
        ridges: Its regressions.
        contexts: The contexts' vectors.
        actions: What is eligible at each of them; none stands in for another.
    """

    def __init__(
        self,
        settings: LinUCBSettings,
        ridges: Ridges,
        contexts: Coming,
        actions: Sequence[Action],
    ) -> None:
        self._settings = settings
        self._ridges = ridges
        self._X, self._one = contexts
        self._room = ridges.pairs_of(self._X[:_LOOK])
        self._pairs = self._room
        self._actions = tuple(actions)
        self._places_of: dict[str, list[int]] = {}
        for place, action in enumerate(actions):
            self._places_of.setdefault(action.name, []).append(place)
        self._begin = self._end = 0
        self._scores: FloatArray = np.empty((len(actions), 0))

    def scores(self, first: int) -> FloatArray:
        """Return what `LinUCB.score` does, but for rounding, for contexts to come.

        Args:
            first: The first context that is asked about; never before one learned at.

        Returns:
            Those of one context or more, from that one on, shape (n_actions, n); not
            to be changed.

        Raises:
            ValueError: If a score is not finite.
        """
        if not self._begin <= first < self._end:
            rows = self._ridges.rows_of(self._actions)
            self._begin, self._end = first, min(first + _LOOK, len(self._X))
            room = self._room[: self._end - first]
            self._pairs = self._ridges.pairs_of(self._X[first : self._end], room)
            # Actions that nothing was learned of have the prior in common.
            known, which = np.unique(rows, return_inverse=True)
            self._scores = self._found(known, first).take(which, axis=0)
        return self._scores[:, first - self._begin :]

    def learn(self, place: int, at: int, reward: float) -> None:
        """Learn as `LinUCB.learn` does, and go on from the next context.

        Args:
            place: Which of the actions was chosen.
            at: In which context.
            reward: What it earned, finite; beyond ±1e9 it is learned as that.

        Raises:
            ValueError: If `reward` or a score is not finite.
        """
        name = self._actions[place].name
        self._ridges.learn(name, self._one(at), usable(reward))
        after = at + 1
        if self._begin <= after < self._end:
            found = self._found(self._ridges.row_of(name), after)
            for same in self._places_of[name]:
                self._scores[same, after - self._begin :] = found

    def _found(self, rows: int | NDArray[np.intp], first: int) -> FloatArray:
        """Return the scores by regressions, for contexts from `first` on."""
        bounds, variance = self._ridges.many_moments(
            rows, self._X[first : self._end], self._pairs[first - self._begin :]
        )
        if self._settings.noise:
            variance += self._settings.noise**2
        np.sqrt(variance, variance)
        variance *= self._settings.alpha
        bounds += variance
        if not np.logical_and.reduce(np.isfinite(bounds), axis=None):
            raise ValueError("scores must be finite")
        return bounds
