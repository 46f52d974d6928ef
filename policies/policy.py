"""A policy: a learner and an exploration, built from settings in this one place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import blake2b
from operator import attrgetter
from typing import Any, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from policies.explorations import (
    UCB,
    EpsilonGreedy,
    Exploration,
    First,
    InverseGap,
    Softmax,
    SquareCB,
    Thompson,
)
from policies.learners.base import Beliefs, Learner
from policies.learners.blend import Blend, BlendSettings
from policies.learners.kernel import Kernel, KernelSettings
from policies.learners.linear import Linear, LinearSettings
from policies.learners.linucb import BoundsAhead, LinUCB, LinUCBSettings
from policies.learners.logistic import Logistic, LogisticSettings
from policies.learners.popularity import Popularity, PopularitySettings
from policies.learners.priority import Priority, PrioritySettings
from policies.learners.sealing import is_sealed, seal, unseal
from policies.learners.vw import VowpalWabbit, VowpalWabbitSettings
from policies.learners.vw_explorers import VowpalWabbitExploration
from policies.model import (
    NO_OFFER,
    NO_TRAFFIC,
    Action,
    Features,
    FloatArray,
    ScoreTerms,
)
from policies.objective import ObjectiveSettings
from policies.splits import SplitSettings
from policies.traffic import Chances, TrafficSettings, bounded, floored

__all__ = [
    "UCB",
    "Ahead",
    "BlendSettings",
    "Chances",
    "EpsilonGreedy",
    "Exploration",
    "First",
    "InverseGap",
    "KernelSettings",
    "LearnerSettings",
    "LinUCBSettings",
    "LinearSettings",
    "LogisticSettings",
    "Policy",
    "PolicySettings",
    "PopularitySettings",
    "PrioritySettings",
    "Softmax",
    "SquareCB",
    "Thompson",
    "TrafficSettings",
    "VowpalWabbitExploration",
    "VowpalWabbitSettings",
]

LearnerSettings = (
    BlendSettings
    | LinUCBSettings
    | LinearSettings
    | LogisticSettings
    | KernelSettings
    | VowpalWabbitSettings
    | PopularitySettings
    | PrioritySettings
)
"""Every learner; `kind` says in a file of settings which one is meant."""

_KINDS: dict[type[LearnerSettings], Any] = {
    BlendSettings: Blend,
    KernelSettings: Kernel,
    LinearSettings: Linear,
    LinUCBSettings: LinUCB,
    LogisticSettings: Logistic,
    PopularitySettings: Popularity,
    PrioritySettings: Priority,
}
"""The learner of each settings, but for Vowpal Wabbit."""

_priority_of = attrgetter("priority")
_KIND = "policy"
_LATER = ("traffic", "split", "objective")
"""Tables that came later: at their defaults they are no part of a version."""
_LATER_KEYS = {"linucb": {"noise": 0.0}}
"""The same of keys of learners, by kind."""


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

    exploration: Exploration | VowpalWabbitExploration = EpsilonGreedy(epsilon=0.01)
    """What makes a distribution of its scores."""

    salt: str = "opportune"
    """What draws are mixed with: 1 to 64 bytes in UTF-8.

    Two policies with the same salt draw alike where they agree.
    """

    traffic: TrafficSettings = TrafficSettings()
    """Bounds of the distribution that exploration makes."""

    split: SplitSettings = SplitSettings()
    """Which users are kept from the learner."""

    objective: ObjectiveSettings = ObjectiveSettings()
    """What actions are ranked by, beside what the learner expects of them."""

    @property
    def floor(self) -> float:
        """The share of decisions that all eligible actions have in equal parts."""
        floor = self.traffic.floor
        return self.exploration.floor if floor is None else floor

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        if not 1 <= len(self.salt.encode()) <= 64:
            raise ValueError(f"salt must be from 1 to 64 bytes, not {self.salt!r}")
        explorer = getattr(self.learner, "explorer", None)
        if isinstance(self.exploration, VowpalWabbitExploration):
            if explorer is None:
                raise ValueError(
                    "exploration of kind vw_explorer needs a learner of kind vw with an"
                    " explorer"
                )
            if not self.objective.off:
                raise ValueError(
                    "exploration of kind vw ranks by what was learned; an objective"
                    " needs another kind"
                )
        elif explorer is not None and self.exploration != EpsilonGreedy(epsilon=0.0):
            raise ValueError(
                "a learner with an explorer needs exploration of kind vw_explorer, or"
                " epsilon_greedy with an epsilon of 0 for what it thinks is best"
            )

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
        outcomes: By offer, how many of its rewards were learned; under an empty name,
            those of silence.
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
        >>> policy.chances((("constant", 1.0),), [tea, jam]).floor, policy.outcomes
        (0.005, {'tea': 1})
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
        self.outcomes: dict[str, int] = {}
        if snapshot is not None and is_sealed(_KIND, snapshot):
            saved = msgspec.msgpack.decode(unseal(_KIND, snapshot), type=_Saved)
            self.outcomes, snapshot = saved.outcomes, saved.learner
        self.learner: Learner = _learner(
            settings.learner, snapshot, previous.learner if previous else None
        )

    def score(self, context: Features, actions: Sequence[Action]) -> FloatArray:
        """Return what actions are ranked by: what they earn, as far as is known.

        Args:
            context: What is known of user and moment.
            actions: At least one.

        Returns:
            What each is expected to earn or an optimistic bound of it, weighed by the
            objective; finite, shape (n_actions,).

        Raises:
            ValueError: If a score is not finite.
        """
        scores = self.learner.score(context, actions)
        if not np.isfinite(scores).all():
            raise ValueError(f"scores must be finite, not {scores}")
        self._settle(actions, scores)
        return self.settings.objective.weigh(scores, context, actions)

    def _settle(self, actions: Sequence[Action], *beliefs: FloatArray) -> None:
        """Believe of a silence that nothing was learned of that it earns nothing.

        That is what it earns by default, and where callers confirm none it would else
        be tried for ever, as something that might turn out to be the best.
        """
        if self.outcomes.get("") or isinstance(self.learner, Priority):
            return
        for at, action in enumerate(actions):
            if action.index == NO_OFFER:
                for belief in beliefs:
                    belief[at] = 0.0
                return

    def believe(self, context: Features, actions: Sequence[Action]) -> Beliefs:
        """Return what each action is expected to be worth, and how sure that is.

        Args:
            context: What is known of user and moment.
            actions: At least one.

        Raises:
            ValueError: If a belief is not finite, or a deviation is below 0.
        """
        beliefs = self.learner.believe(context, actions)
        mean, deviation = beliefs
        if not (np.isfinite(mean).all() and np.isfinite(deviation).all()):
            raise ValueError(f"beliefs must be finite, not {beliefs}")
        if deviation.min() < 0.0:
            raise ValueError(f"deviations must be 0 or more, not {deviation}")
        self._settle(actions, mean, deviation)
        objective = self.settings.objective
        return Beliefs(
            objective.weigh(mean, context, actions),
            objective.spread(mean, deviation, context, actions),
        )

    def terms(self, context: Features, action: Action) -> ScoreTerms | None:
        """Return what the score of an action is made of, where more counts than that.

        Args:
            context: What is known of user and moment.
            action: The action.
        """
        if self.settings.objective.off:
            return None
        scores = self.learner.score(context, [action])
        self._settle([action], scores)
        (expected,) = scores.tolist()
        return self.settings.objective.terms(expected, context, action)

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
        return self.chances(context, actions).probabilities

    def chances(self, context: Features, actions: Sequence[Action]) -> Chances:
        """Return the same with the least probability that each action was sure of.

        Args:
            context: What is known of user and moment.
            actions: The eligible actions, at least one.

        Raises:
            ValueError: If a score is not finite.
        """
        explored = Chances(
            self._explored(context, actions),
            self.settings.exploration.least(len(actions), learned=self.learned),
        )
        settings = self.settings
        return bounded(
            explored, actions, settings.traffic, settings.floor, self.outcomes
        )

    def _explored(self, context: Features, actions: Sequence[Action]) -> FloatArray:
        """Return the distribution before it is bounded."""
        exploration = self.settings.exploration
        if isinstance(exploration, VowpalWabbitExploration):
            return cast("VowpalWabbit", self.learner).distribution(context, actions)
        if isinstance(exploration, Thompson):
            mean, deviation = self.believe(context, actions)
            certain = exploration.scale * deviation == 0.0
            return exploration.distribution(
                _untied(mean, actions, among=certain), deviation
            )
        if isinstance(exploration, UCB):
            scores = exploration.bounds(*self.believe(context, actions))
        else:
            scores = self.score(context, actions)
        return exploration.distribution(_untied(scores, actions), learned=self.learned)

    def ahead(
        self, contexts: Sequence[Features], actions: Sequence[Action]
    ) -> Ahead | None:
        """Return the distributions at contexts that are still to come.

        They cost far less together than one by one, and are kept right while the
        policy learns from them, one after the other, by what is returned.

        Args:
            contexts: At least one.
            actions: What is eligible at each of them, at least one.

        Returns:
            None where the policy is to be asked one by one: with another learner than
            `linucb` or another exploration than `epsilon_greedy`, with an objective,
            bounds, priorities, or actions that begin as others like them.
        """
        settings, learner = self.settings, self.learner
        exploration = settings.exploration
        plain = settings.objective.off and settings.traffic.unbounded
        if not (
            plain
            and isinstance(learner, LinUCB)
            and isinstance(exploration, EpsilonGreedy)
        ):
            return None
        for action in actions:
            own = action.traffic is not NO_TRAFFIC or action.like
            if own or action.priority:
                return None

        silent = any(action.index == NO_OFFER for action in actions)
        floor = settings.floor

        def explore(scores: FloatArray) -> FloatArray:
            if silent:
                scores = scores.copy()
                self._settle(actions, scores)
            explored = exploration.distributions(scores)
            return floored(Chances(explored.T, 0.0), floor).probabilities

        def count(place: int) -> None:
            self._count(actions[place])

        return Ahead(learner.ahead(contexts, actions), explore, count)

    @property
    def learns_among(self) -> bool:
        """Whether it learns from what was eligible too, not from the chosen alone."""
        return isinstance(self.learner, VowpalWabbit) and self.learner.learns_among

    def baseline(self, actions: Sequence[Action]) -> Chances:
        """Return the distribution for users for whom nothing learned counts.

        Args:
            actions: The eligible actions, at least one.

        Returns:
            Those of the highest priority share the decisions; nothing is sure of more.
        """
        priorities = np.array([action.priority for action in actions])
        best: FloatArray = np.where(priorities == priorities.max(), 1.0, 0.0)
        best /= best.sum()
        return Chances(best, 0.0)

    def learn(
        self,
        context: Features,
        action: Action,
        *,
        reward: float,
        propensity: float,
        among: Sequence[Action] = (),
    ) -> None:
        """Learn that the action, once chosen, earned this reward.

        Args:
            context: What was known when it was chosen.
            action: The chosen action.
            reward: What it earned, finite.
            propensity: The probability in (0, 1] with which it was chosen.
            among: What it was chosen from, itself included; needed only where
                `learns_among` holds.
        """
        learner = self.learner
        if isinstance(learner, VowpalWabbit):
            learner.learn(
                context, action, reward=reward, propensity=propensity, among=among
            )
        else:
            learner.learn(context, action, reward=reward, propensity=propensity)
        self._count(action)

    def _count(self, action: Action) -> None:
        """Count a reward that was learned."""
        self.learned += 1
        self.outcomes[action.offer_id] = self.outcomes.get(action.offer_id, 0) + 1

    def correct(
        self,
        context: Features,
        action: Action,
        *,
        reward: float,
        before: float,
        propensity: float,
        among: Sequence[Action] = (),
    ) -> None:
        """Learn that what was learned before turned out to be another reward.

        Args:
            context: What was known when the action was chosen.
            action: The chosen action.
            reward: What it earned after all, finite.
            before: What was learned that it earned.
            propensity: The probability in (0, 1] with which it was chosen.
            among: What it was chosen from, as for `learn`.
        """
        learner = self.learner
        if isinstance(learner, VowpalWabbit):
            learner.correct(
                context,
                action,
                reward=reward,
                before=before,
                propensity=propensity,
                among=among,
            )
        else:
            learner.correct(
                context, action, reward=reward, before=before, propensity=propensity
            )

    def save(self) -> bytes:
        """Return all that was learned: the same bytes for the same learning."""
        saved = _Saved(dict(sorted(self.outcomes.items())), self.learner.save())
        return seal(_KIND, msgspec.msgpack.encode(saved))


class Ahead:
    """Distributions of a policy at contexts that are still to come.

    Args:
        bounds: The scores of its learner there.
        explore: Makes distributions of scores.
        count: Is told of which action, by its place, something was learned.
    """

    def __init__(
        self,
        bounds: BoundsAhead,
        explore: Callable[[FloatArray], FloatArray],
        count: Callable[[int], None],
    ) -> None:
        self._bounds = bounds
        self._explore = explore
        self._count = count

    def distributions(self, first: int) -> FloatArray:
        """Return what `Policy.distribution` does, but for rounding, as far as is known.

        Args:
            first: The first context that is asked about; never before one learned at.

        Returns:
            A row for that context and for some of those that follow, shape (n,
            n_actions).

        Raises:
            ValueError: If a score is not finite.
        """
        return self._explore(self._bounds.scores(first))

    def learn(self, place: int, at: int, reward: float) -> None:
        """Learn as `Policy.learn` does; what comes before is not asked about again.

        Args:
            place: Which of the actions was chosen.
            at: In which context.
            reward: What it earned, finite.

        Raises:
            ValueError: If `reward` or a score is not finite.
        """
        self._bounds.learn(place, at, reward)
        self._count(place)


class _Saved(msgspec.Struct, array_like=True):
    """What is saved: how many rewards of each offer were learned, and the learner."""

    outcomes: dict[str, int]
    learner: bytes


def _untied(
    scores: FloatArray,
    actions: Sequence[Action],
    *,
    among: NDArray[np.bool_] | None = None,
) -> FloatArray:
    """Let the best of equal scores be those of the highest priority, by a hair.

    Args:
        scores: Shape (n_actions,).
        actions: Whose scores they are.
        among: Which of them are certain, if not all are: those that are behind are
            then never the best, for beside others a hair may be lost in rounding.
    """
    if not any(map(_priority_of, actions)):
        return scores
    compared = scores if among is None else scores[among]
    if not compared.size:
        return scores
    best = compared.max()
    is_best = scores == best if among is None else (scores == best) & among
    tied: list[int] = np.flatnonzero(is_best).tolist()
    highest = max(actions[at].priority for at in tied)
    behind = [at for at in tied if actions[at].priority < highest]
    if behind:
        scores = scores.copy()
        never = -np.finfo(np.float64).max
        scores[behind] = np.nextafter(best, -np.inf) if among is None else never
    return scores


def _learner(
    settings: LearnerSettings, snapshot: bytes | None, previous: Learner | None
) -> Learner:
    if isinstance(settings, VowpalWabbitSettings):
        shared = previous if isinstance(previous, VowpalWabbit) else None
        return VowpalWabbit(settings, snapshot=snapshot, previous=shared)
    if isinstance(settings, BlendSettings) and snapshot is not None:
        known = previous if isinstance(previous, Blend) else None
        return Blend.load(settings, snapshot, known)
    kind = _KINDS[type(settings)]
    made: Learner = (
        kind(settings) if snapshot is None else kind.load(settings, snapshot)
    )
    return made


def _digest(settings: msgspec.Struct, kind: Any) -> str:
    """Return 12 hex digits of a hash of the settings."""
    return blake2b(_canonical(settings, kind), digest_size=6).hexdigest()


def _canonical(settings: msgspec.Struct, kind: Any) -> bytes:
    """Write settings as JSON, equal ones alike.

    Read back once, so that 1 and 1.0 are the same where a number is meant.
    """
    read = msgspec.json.decode(msgspec.json.encode(settings), type=kind)
    written = msgspec.to_builtins(read)
    for table in _LATER:
        value = getattr(read, table, None)
        if value is not None and value == type(value)():
            del written[table]
    learner = written.get("learner", written)
    for key, usual in _LATER_KEYS.get(learner.get("kind"), {}).items():
        if learner[key] == usual:
            del learner[key]
    return msgspec.json.encode(written, order="sorted")
