"""A policy: a learner and an exploration, built from settings in this one place."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from operator import attrgetter
from typing import Any

import msgspec
import numpy as np

from policies.exploration import EpsilonGreedy, Exploration, Softmax, SquareCB
from policies.learners.base import Learner
from policies.learners.blend import Blend, BlendSettings
from policies.learners.linucb import LinUCB, LinUCBSettings
from policies.learners.priority import Priority, PrioritySettings
from policies.learners.vw import VowpalWabbit, VowpalWabbitSettings
from policies.model import Action, Features, FloatArray

__all__ = [
    "BlendSettings",
    "EpsilonGreedy",
    "LearnerSettings",
    "LinUCBSettings",
    "Policy",
    "PolicySettings",
    "PrioritySettings",
    "Softmax",
    "SquareCB",
    "VowpalWabbitSettings",
]

LearnerSettings = (
    BlendSettings | LinUCBSettings | VowpalWabbitSettings | PrioritySettings
)
"""Every learner; `kind` says in a file of settings which one is meant."""

_priority_of = attrgetter("priority")


class PolicySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What decides: how rewards are modelled, and how much is tried.

    Examples:
        >>> file = b'{"learner": {"kind": "linucb", "dim": 16}}'
        >>> settings = msgspec.json.decode(file, type=PolicySettings)
        >>> settings.learner.dim, settings.exploration.epsilon
        (16, 0.01)
        >>> settings.version == PolicySettings(LinUCBSettings(dim=16)).version
        True
    """

    learner: LearnerSettings = BlendSettings()
    """The model of reward."""

    exploration: Exploration = EpsilonGreedy(epsilon=0.01)
    """What makes a distribution of its scores."""

    salt: str = "opportune"
    """What draws are mixed with: 1 to 64 bytes in UTF-8.

    Two policies with the same salt draw alike where they agree.
    """

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        if not 1 <= len(self.salt.encode()) <= 64:
            raise ValueError(f"salt must be from 1 to 64 bytes, not {self.salt!r}")

    def to_json(self) -> str:
        """Return the settings as JSON, from which they can be read again."""
        return _canonical(self, PolicySettings).decode()

    @property
    def version(self) -> str:
        """A digest of all settings, 12 hex digits: a policy's name in the log."""
        return _digest(self, PolicySettings)

    @property
    def learner_version(self) -> str:
        """A digest of the learner's settings, 12 hex digits.

        A snapshot is of use to policies with the same one, whatever else differs.
        """
        return _digest(self.learner, LearnerSettings)


class Policy:
    """Turns a context and the actions that are eligible into a distribution.

    Args:
        settings: What decides.
        snapshot: What the learner has learned; none before anything was.
        model: How far in which training stream that is, as `epoch.position`.
        learned: How many resolutions that is, 0 or more.
        previous: The policy that this one replaces; what it has parsed is used again
            where it can be.

    Raises:
        ValueError: If `snapshot` is damaged, or of a learner with other settings.

    Attributes:
        settings: As given.
        version: The version of the settings.
        salt: What its draws are mixed with.
        model: As given.
        learned: As given, and one more for each call of `learn`.
        learner: What has learned, and scores.

    Examples:
        >>> from policies.model import Action
        >>> tea, jam = (Action(i, n, "c", "p", ()) for i, n in [(1, "tea"), (2, "jam")])
        >>> policy = Policy(PolicySettings())
        >>> policy.distribution((("constant", 1.0),), [tea, jam])
        array([0.5, 0.5])
        >>> policy.learn((("constant", 1.0),), tea, reward=1.0, propensity=0.5)
        >>> policy.distribution((("constant", 1.0),), [tea, jam])
        array([0.995, 0.005])
    """

    def __init__(
        self,
        settings: PolicySettings,
        snapshot: bytes | None = None,
        *,
        model: str = "0.0",
        learned: int = 0,
        previous: Policy | None = None,
    ) -> None:
        if learned < 0:
            raise ValueError(f"learned must be 0 or more, not {learned}")
        self.settings = settings
        self.version = settings.version
        self.salt = settings.salt
        self.model = model
        self.learned = learned
        self.learner: Learner = _learner(
            settings.learner, snapshot, previous.learner if previous else None
        )

    def score(self, context: Features, actions: Sequence[Action]) -> FloatArray:
        """Return what each action is expected to earn, or an optimistic bound of it.

        Args:
            context: What is known of user and moment.
            actions: At least one.

        Returns:
            One finite number per action, in units of reward, shape (n_actions,).

        Raises:
            ValueError: If a score is not finite.
        """
        scores = self.learner.score(context, actions)
        if not np.isfinite(scores).all():
            raise ValueError(f"scores must be finite, not {scores}")
        return scores

    def distribution(self, context: Features, actions: Sequence[Action]) -> FloatArray:
        """Return the probability with which each action is to be chosen.

        Of those that score best alike, the higher priority goes first.

        Args:
            context: What is known of user and moment.
            actions: The eligible actions, at least one.

        Returns:
            Probabilities that sum to 1, shape (n_actions,).

        Raises:
            ValueError: If a score is not finite.
        """
        scores = _untied(self.score(context, actions), actions)
        return self.settings.exploration.distribution(scores, learned=self.learned)

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
        self.learner.learn(context, action, reward=reward, propensity=propensity)
        self.learned += 1

    def save(self) -> bytes:
        """Return all that was learned: the same bytes for the same learning."""
        return self.learner.save()


def _untied(scores: FloatArray, actions: Sequence[Action]) -> FloatArray:
    """Let the best of equal scores be those of the highest priority, by a hair."""
    if not any(map(_priority_of, actions)):
        return scores
    best = scores.max()
    tied: list[int] = np.flatnonzero(scores == best).tolist()
    highest = max(actions[at].priority for at in tied)
    behind = [at for at in tied if actions[at].priority < highest]
    if behind:
        scores = scores.copy()
        scores[behind] = np.nextafter(best, -np.inf)
    return scores


def _learner(
    settings: LearnerSettings, snapshot: bytes | None, previous: Learner | None
) -> Learner:
    if isinstance(settings, VowpalWabbitSettings):
        shared = previous if isinstance(previous, VowpalWabbit) else None
        return VowpalWabbit(settings, snapshot=snapshot, previous=shared)
    if snapshot is None:
        if isinstance(settings, PrioritySettings):
            return Priority(settings)
        if isinstance(settings, BlendSettings):
            return Blend(settings)
        return LinUCB(settings)
    if isinstance(settings, PrioritySettings):
        return Priority.load(settings, snapshot)
    if isinstance(settings, BlendSettings):
        return Blend.load(settings, snapshot)
    return LinUCB.load(settings, snapshot)


def _digest(settings: msgspec.Struct, kind: Any) -> str:
    """Return 12 hex digits of a hash of the settings."""
    return blake2b(_canonical(settings, kind), digest_size=6).hexdigest()


def _canonical(settings: msgspec.Struct, kind: Any) -> bytes:
    """Write settings as JSON, equal ones alike.

    Read back once, so that 1 and 1.0 are the same where a number is meant.
    """
    read = msgspec.json.decode(msgspec.json.encode(settings), type=kind)
    return msgspec.json.encode(read, order="sorted")
