"""Rewards that either come or do not: a Bayesian logistic regression per action."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Self

import msgspec
import numpy as np

from policies.hashing import Hasher
from policies.learners.base import Beliefs
from policies.learners.bounds import usable
from policies.learners.ridge import Ridges, RidgeState
from policies.learners.scaling import ScalingState
from policies.learners.sealing import seal, unseal
from policies.learners.vectors import Vectors
from policies.model import Action, Features, FloatArray

__all__ = ["Logistic", "LogisticSettings"]

_NODES = np.linspace(-5.0, 5.0, 81)
_WEIGHTS = np.exp(-0.5 * _NODES**2) / np.exp(-0.5 * _NODES**2).sum()
_STEEPEST = 24.0
"""A steeper rise of the chance between two nodes is as good as this one."""
_STEPS_MAX = 100


class LogisticSettings(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    tag_field="kind",
    tag="logistic",
):
    """How the chances of rewards are learned."""

    dim: int = 32
    """Into how many places the names of features are hashed: 1 to 256.

    More than there are features, so that they can be told apart; time and memory grow
    with its square: an action takes 4 KB at 32, 263 KB at 256.
    """

    ridge: float = 1.0
    """The strength of the prior that all weights are 0: 0.001 to 1,000,000.

    The standard deviation of a weight is believed to be 1/√ridge: an odds ratio of e
    for a feature of 1 is one deviation at 1.
    """

    low: float = 0.0
    """The reward that is none: -1e9 to 1e9, below `high`. What is below it counts as
    it.
    """

    high: float = 1.0
    """The reward that is all: -1e9 to 1e9. What is above it counts as it, and what is
    between the two is taken for its share.
    """

    prior: float = 0.5
    """How far from `low` to `high` what an action earns is believed to be before it
    was tried: 0.0001 to 0.9999.
    """

    standardize: bool = False
    """Whether numbers are turned into deviations from their mean so far.

    Of use where the catalogue gives no `range` and numbers differ in size by much.
    """

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        if not 1 <= self.dim <= 256:
            raise ValueError(f"dim must be from 1 to 256, not {self.dim}")
        if not 1e-3 <= self.ridge <= 1e6:
            raise ValueError(f"ridge must be from 0.001 to 1000000, not {self.ridge}")
        if not -1e9 <= self.low <= 1e9:
            raise ValueError(f"low must be from -1e9 to 1e9, not {self.low}")
        if not self.low < self.high <= 1e9:
            raise ValueError(
                f"high must be above low, {self.low}, to 1e9, not {self.high}"
            )
        if not 1e-4 <= self.prior <= 0.9999:
            raise ValueError(f"prior must be from 0.0001 to 0.9999, not {self.prior}")


class _State(msgspec.Struct, array_like=True):
    ridges: RidgeState
    scaling: ScalingState | None


class Logistic:
    """Expects of each action a chance that depends on the context by its log odds.

    Each action, by its name, has a regression of its own on the features of the
    context, hashed into `dim` places. What is known of its weights is a normal
    distribution: each reward moves its mean to the most likely weights given the
    distribution before and the reward, and narrows it by the curvature there
    (Laplace's approximation, reward by reward). The score is the mean of the chance
    over that distribution, in units of reward, and the deviation of beliefs is the
    chance's own; both by quadrature, to within 0.02 of the range of rewards.

    Propensities are ignored, as by all regressions here.

    `correct` takes one Newton step to where the weights would have been. It is not
    exact: where one reward in fifty of an action is corrected, scores end within 0.02
    of the range of rewards from those had the truth been known at once; where one in
    ten turns from all to nothing, within 0.1. A rebuild from the log is exact. With
    `standardize` it corrects the context as it looks by now.

    Examples:
        >>> from policies.model import Action
        >>> tea, jam = (Action(i, n, "c", "p", ()) for i, n in [(1, "tea"), (2, "jam")])
        >>> learner = Logistic(LogisticSettings(prior=0.2))
        >>> context = (("constant", 1.0),)
        >>> for row in range(100):
        ...     learner.learn(context, tea, reward=float(row % 4 == 0), propensity=0.5)
        >>> learner.score(context, [tea, jam]).round(2)
        array([0.25, 0.24])

    References:
        O. Chapelle and L. Li. An empirical evaluation of Thompson sampling. NIPS 2011.
        Their logistic regression, but with the whole covariance, and a reward at a
        time.
    """

    def __init__(self, settings: LogisticSettings) -> None:
        self.settings = settings
        self._vectors = Vectors(Hasher(settings.dim), standardize=settings.standardize)
        self._odds = _Odds(settings.dim, settings.ridge, settings.prior)

    @classmethod
    def load(cls, settings: LogisticSettings, blob: bytes) -> Self:
        """Return a learner that has learned what the one that saved the blob had.

        Raises:
            ValueError: If the blob is damaged, or the settings that shape what is
                learned were others.
        """
        learner = cls(settings)
        payload = unseal(learner._kind, blob)
        state = msgspec.msgpack.decode(payload, type=_State)
        learner._odds.load(state.ridges)
        learner._vectors.load(state.scaling)
        return learner

    def save(self) -> bytes:
        """Return all it has learned: the same bytes for the same learning."""
        state = _State(self._odds.save(), self._vectors.save())
        return seal(self._kind, msgspec.msgpack.encode(state))

    def score(self, context: Features, actions: Sequence[Action]) -> FloatArray:
        """Return what each action is expected to earn.

        Args:
            context: What is known of user and moment; beyond ±1,000 it is clipped.
            actions: At least one.

        Returns:
            From `low` to `high`, shape (n_actions,), in units of reward.
        """
        return self.believe(context, actions).mean

    def believe(self, context: Features, actions: Sequence[Action]) -> Beliefs:
        """Return what each action is expected to earn, and how sure that is.

        Args:
            context: What is known of user and moment; beyond ±1,000 it is clipped.
            actions: At least one.
        """
        low, span = self.settings.low, self.settings.high - self.settings.low
        odds, variance = self._odds.moments(actions, self._vectors.of(context))
        deviation = np.sqrt(variance)
        gentler = np.minimum(_STEEPEST / np.maximum(deviation, _STEEPEST), 1.0)
        middle = (odds + self._odds.offset) * gentler
        slope = deviation * gentler
        chances = _chance(middle[:, np.newaxis] + slope[:, np.newaxis] * _NODES)
        mean = np.vecdot(chances, _WEIGHTS)
        away = chances - mean[:, np.newaxis]
        return Beliefs(
            low + span * mean, span * np.sqrt(np.vecdot(away * away, _WEIGHTS))
        )

    def learn(
        self, context: Features, action: Action, *, reward: float, propensity: float
    ) -> None:
        """Learn that the action, once chosen, earned this reward.

        Args:
            context: What was known when it was chosen.
            action: The chosen action.
            reward: What it earned, finite.
            propensity: Ignored, as the class says.

        Raises:
            ValueError: If `reward` is not finite.
        """
        del propensity
        share = self._share(reward)
        if action.like:
            self._odds.adopt(action)
        self._odds.learn_share(action.name, self._vectors.learn(context), share)

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
        del propensity
        by = self._share(reward) - self._share(before)
        self._odds.correct(action.name, self._vectors.of(context), by)

    def _share(self, reward: float) -> float:
        low, high = self.settings.low, self.settings.high
        return (min(max(usable(reward), low), high) - low) / (high - low)

    @property
    def _kind(self) -> str:
        """What must not change between saving and loading."""
        s = self.settings
        return (
            f"logistic dim={s.dim} ridge={float(s.ridge)!r} low={float(s.low)!r}"
            f" high={float(s.high)!r} prior={float(s.prior)!r}"
            f" standardize={s.standardize}"
        )


class _Odds(Ridges):
    """Logistic regressions: A is the curvature at the most likely weights θ."""

    def __init__(self, dim: int, ridge: float, prior: float) -> None:
        super().__init__(dim, ridge)
        self.offset = math.log(prior / (1.0 - prior))

    def learn_share(self, name: str, x: FloatArray, share: float) -> None:
        """Learn that a name earned a share, from 0 to 1, at x."""
        row = self._row_of[name] or self._new_row(name)
        moved = self._times(self._lines[row], x)
        u = moved[:-1]
        spread = max(float(x.dot(u)), 0.0)
        log_odds = _most_likely(float(moved[-1]) + self.offset, spread, share)
        chance = _chance_of(log_odds)
        self._move(row, u * (share - chance))
        curvature = chance * (1.0 - chance)
        u *= math.sqrt(curvature / (1.0 + curvature * spread))
        self._A_inv[row] -= self._pairs(u)


def _most_likely(before: float, spread: float, share: float) -> float:
    """Return the most likely log odds m, where they were normal and a share came.

    It is the root of m − before = spread · (share − chance(m)), which only grows with
    m: by Newton's steps, and by halves where those lead out of what is left.
    """
    low, high = before + spread * (share - 1.0), before + spread * share
    m = min(max(before, low), high)
    for _ in range(_STEPS_MAX):
        chance = _chance_of(m)
        excess = m - before - spread * (share - chance)
        if excess > 0.0:
            high = m
        else:
            low = m
        step = m - excess / (1.0 + spread * chance * (1.0 - chance))
        following = step if low <= step <= high else (low + high) / 2.0
        if abs(following - m) <= 1e-12 * (1.0 + abs(m)):
            return following
        m = following
    return m


def _chance_of(log_odds: float) -> float:
    """Return the chance of log odds."""
    return 0.5 + 0.5 * math.tanh(0.5 * log_odds)


def _chance(log_odds: FloatArray) -> FloatArray:
    """Return the chances of log odds."""
    chances: FloatArray = 0.5 + 0.5 * np.tanh(0.5 * log_odds)
    return chances
