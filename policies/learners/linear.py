"""Rewards that are linear in features, by ridge regressions that say how sure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, Self

import msgspec
import numpy as np

from policies.hashing import Hasher
from policies.learners.base import Beliefs
from policies.learners.bounds import usable
from policies.learners.noise import Noise, NoiseState
from policies.learners.pairing import Pairing
from policies.learners.ridge import (
    FadingRidges,
    Ridges,
    RidgeState,
    products,
)
from policies.learners.scaling import ScalingState
from policies.learners.sealing import seal, unseal
from policies.learners.vectors import Vectors
from policies.model import Action, Features, FloatArray

__all__ = ["Linear", "LinearSettings"]

_ALL = ""
"""The name under which all actions share a regression."""

_Moments = tuple[FloatArray, FloatArray]
"""What is expected of each action, and its variance where the noise has variance 1."""


class LinearSettings(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    tag_field="kind",
    tag="linear",
):
    """How linear rewards are learned, and how sure that is."""

    shape: Literal["disjoint", "shared", "hybrid"] = "disjoint"
    """What actions have in common.

    `disjoint`: nothing; each has a regression on the context. `shared`: one regression
    on products of the context's features and the action's: an action is what its
    features say, and one without features what its name says, so that a new offer
    with known features is known. `hybrid`: both added up, so that an action may differ
    from what its features say.
    """

    dim: int = 32
    """Into how many places the names of features are hashed: 1 to 256.

    More than there are features, so that they can be told apart; with `shared`, and in
    the shared part of `hybrid`, than there are products of them: 128, better 256. Time
    and memory grow with its square: a regression takes 4 KB at 32, 263 KB at 256.
    """

    ridge: float = 1.0
    """The strength of the prior that all weights are 0: 0.001 to 1,000,000.

    Its unit is one observation of a feature of 1.
    """

    forgetting: float = 1.0
    """How much each reward counts once the next is learned: 0.5 to 1; 1 is for ever.

    Where what pleases changes: with 0.999, what is remembered is worth a thousand
    rewards of an action (with `shared`, of all actions). Not with `hybrid`.
    """

    noise: float = 0.3
    """How far rewards are believed to be from what is expected: 1e-6 to 1e6.

    A standard deviation in units of reward. It is learned; this is where it begins.
    """

    noise_weight: float = 10.0
    """How many rewards that belief is worth: 0.001 to 1,000,000."""

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
        if not 0.5 <= self.forgetting <= 1.0:
            raise ValueError(f"forgetting must be from 0.5 to 1, not {self.forgetting}")
        if self.shape == "hybrid" and self.forgetting != 1.0:
            raise ValueError(
                f'forgetting must be 1 with shape "hybrid", not {self.forgetting}'
            )
        if not 1e-6 <= self.noise <= 1e6:
            raise ValueError(f"noise must be from 1e-6 to 1000000, not {self.noise}")
        if not 1e-3 <= self.noise_weight <= 1e6:
            raise ValueError(
                f"noise_weight must be from 0.001 to 1000000, not {self.noise_weight}"
            )


class _State(msgspec.Struct, array_like=True):
    parts: list[RidgeState]
    bridges: bytes
    noise: NoiseState
    scaling: ScalingState | None


class Linear:
    """Expects a reward that is linear in features, with normal noise to be learned.

    The score is what is expected. Beliefs say how sure that is, by the posterior of
    weights and noise under their conjugate prior, normal and inverse gamma: the
    deviation is the scale of the Student distribution that is the posterior of the
    expected reward. Thompson sampling and upper confidence bounds are explorations of
    these beliefs.

    The noise is taken to be the same for all actions. Propensities are ignored: given
    the context, which rows an action has learned from says nothing about their
    rewards.

    Without forgetting, `correct` ends in the model that would have learned the right
    reward at once, but for rounding. With it a correction counts like the latest
    reward, which is too much by the factor that the corrected one had faded by. With
    `standardize`, too, it is not exact: it corrects the context as it looks by now.
    A rebuild from the log is exact always.

    Examples:
        >>> from policies.model import Action
        >>> tea = Action(1, "tea", "c", "p", (("price", 0.2),))
        >>> jam = Action(2, "jam", "c", "p", (("price", 0.9),))
        >>> learner = Linear(LinearSettings(shape="shared", dim=128))
        >>> context = (("constant", 1.0),)
        >>> for _ in range(50):
        ...     learner.learn(context, tea, reward=0.8, propensity=0.5)
        ...     learner.learn(context, jam, reward=0.1, propensity=0.5)

        An offer that is new, but has a price:

        >>> new = Action(3, "new", "c", "p", (("price", 0.25),))
        >>> learner.score(context, [tea, jam, new]).round(2)
        array([0.76, 0.13, 0.71])

    References:
        L. Li, W. Chu, J. Langford and R. E. Schapire. A contextual-bandit approach
        to personalized news article recommendation. WWW 2010,
        https://arxiv.org/abs/1003.0146. Algorithm 1 is `disjoint`, algorithm 2
        `hybrid`; here with `ridge`, and noise that is learned.
    """

    def __init__(self, settings: LinearSettings) -> None:
        self.settings = settings
        self._vectors = Vectors(Hasher(settings.dim), standardize=settings.standardize)
        self._noise = Noise(settings.noise, settings.noise_weight, settings.forgetting)
        self._shape = _SHAPES[settings.shape](settings)

    @classmethod
    def load(cls, settings: LinearSettings, blob: bytes) -> Self:
        """Return a learner that has learned what the one that saved the blob had.

        Raises:
            ValueError: If the blob is damaged, or the settings that shape what is
                learned were others.
        """
        learner = cls(settings)
        payload = unseal(learner._kind, blob)
        state = msgspec.msgpack.decode(payload, type=_State)
        learner._shape.load(state.parts, state.bridges)
        learner._noise.load(state.noise)
        learner._vectors.load(state.scaling)
        return learner

    def save(self) -> bytes:
        """Return all it has learned: the same bytes for the same learning."""
        parts, bridges = self._shape.save()
        state = _State(parts, bridges, self._noise.save(), self._vectors.save())
        return seal(self._kind, msgspec.msgpack.encode(state))

    def score(self, context: Features, actions: Sequence[Action]) -> FloatArray:
        """Return what each action is expected to earn.

        Args:
            context: What is known of user and moment; beyond ±1,000 it is clipped.
            actions: At least one; their features are clipped, too.

        Returns:
            Shape (n_actions,), in units of reward.
        """
        return self.believe(context, actions).mean

    def believe(self, context: Features, actions: Sequence[Action]) -> Beliefs:
        """Return what each action is expected to earn, and how sure that is.

        Args:
            context: What is known of user and moment; beyond ±1,000 it is clipped.
            actions: At least one; their features are clipped, too.
        """
        mean, variance = self._shape.moments(self._vectors.of(context), actions)
        variance *= self._noise.variance
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
        x = self._vectors.learn(context)
        self._noise.learn(*self._shape.learn(x, action, reward))

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
        reward, before = usable(reward), usable(before)
        x = self._vectors.of(context)
        mean, variance = self._shape.moments(x, [action])
        self._noise.correct(
            reward=reward, before=before, mean=mean.item(), variance=variance.item()
        )
        self._shape.correct(x, action, reward - before)

    @property
    def _kind(self) -> str:
        """What must not change between saving and loading."""
        s = self.settings
        return (
            f"linear shape={s.shape} dim={s.dim} ridge={float(s.ridge)!r}"
            f" forgetting={float(s.forgetting)!r} standardize={s.standardize}"
        )


class _Disjoint:
    """A regression of its own for each action, by its name."""

    def __init__(self, settings: LinearSettings) -> None:
        self._ridges = _ridges(settings)

    def load(self, parts: list[RidgeState], bridges: bytes) -> None:
        del bridges
        self._ridges.load(parts[0])

    def save(self) -> tuple[list[RidgeState], bytes]:
        return [self._ridges.save()], b""

    def moments(self, x: FloatArray, actions: Sequence[Action]) -> _Moments:
        return self._ridges.moments(actions, x)

    def learn(
        self, x: FloatArray, action: Action, reward: float
    ) -> tuple[float, float]:
        if action.like:
            self._ridges.adopt(action)
        return self._ridges.learn(action.name, x, reward)

    def correct(self, x: FloatArray, action: Action, by: float) -> None:
        self._ridges.correct(action.name, x, by)


class _Shared:
    """One regression, on products of features."""

    def __init__(self, settings: LinearSettings) -> None:
        self._pairing = Pairing(settings.dim)
        self._ridges = _ridges(settings)

    def load(self, parts: list[RidgeState], bridges: bytes) -> None:
        del bridges
        self._ridges.load(parts[0])

    def save(self) -> tuple[list[RidgeState], bytes]:
        return [self._ridges.save()], b""

    def moments(self, x: FloatArray, actions: Sequence[Action]) -> _Moments:
        return _at(self._ridges, self._pairing.pairs(x, actions))

    def learn(
        self, x: FloatArray, action: Action, reward: float
    ) -> tuple[float, float]:
        return self._ridges.learn(_ALL, self._pairing.pairs(x, [action])[0], reward)

    def correct(self, x: FloatArray, action: Action, by: float) -> None:
        self._ridges.correct(_ALL, self._pairing.pairs(x, [action])[0], by)


class _Hybrid:
    """A regression of its own for each action, and one on products for all.

    In the terms of algorithm 2, with C = A⁻¹B of an action (its bridge) and
    w = z − Cᵀx: the expected reward is xᵀA⁻¹b + wᵀβ, and its variance
    xᵀA⁻¹x + wᵀA₀⁻¹w. A reward adds wwᵀ/s to A₀, w(r − xᵀA⁻¹b)/s to b₀ and A⁻¹xwᵀ/s
    to C, where s = 1 + xᵀA⁻¹x, and all on the right is from before it. So that
    nothing is inverted here either.
    """

    def __init__(self, settings: LinearSettings) -> None:
        self._pairing = Pairing(settings.dim)
        self._own = _ridges(settings)
        self._common = _ridges(settings)
        self._dim = settings.dim
        self._bridges: dict[str, FloatArray] = {}
        self._none = np.zeros((settings.dim, settings.dim))

    def load(self, parts: list[RidgeState], bridges: bytes) -> None:
        own, common = parts
        self._own.load(own)
        self._common.load(common)
        saved = np.frombuffer(bridges, "<f8").reshape(-1, self._dim, self._dim)
        self._bridges = {
            name: bridge.astype(np.float64)
            for name, bridge in zip(own.names, saved, strict=True)
        }

    def save(self) -> tuple[list[RidgeState], bytes]:
        own = self._own.save()
        bridges = (self._bridge(name).astype("<f8") for name in own.names)
        return [own, self._common.save()], b"".join(b.tobytes() for b in bridges)

    def moments(self, x: FloatArray, actions: Sequence[Action]) -> _Moments:
        mean, variance = self._own.moments(actions, x)
        further, beyond = _at(self._common, self._beyond(x, actions))
        return mean + further, variance + beyond

    def learn(
        self, x: FloatArray, action: Action, reward: float
    ) -> tuple[float, float]:
        begun_with = self._own.adopt(action) if action.like else ""
        if begun_with:
            self._bridges[action.name] = self._bridge(begun_with)
        w = self._beyond(x, [action])[0]
        u = products(self._own.at(action.name)[1], x)
        left, scale = self._own.learn(action.name, x, reward)
        root = math.sqrt(scale)
        error, common = self._common.learn(_ALL, w / root, left / root)
        self._bridges[action.name] = self._bridge(action.name) + np.multiply.outer(
            u, w / scale
        )
        return error, common

    def correct(self, x: FloatArray, action: Action, by: float) -> None:
        w = self._beyond(x, [action])[0]
        self._own.correct(action.name, x, by)
        self._common.correct(_ALL, w, by)

    def _bridge(self, name: str) -> FloatArray:
        return self._bridges.get(name, self._none)

    def _beyond(self, x: FloatArray, actions: Sequence[Action]) -> FloatArray:
        """Return what of the products an action's own regression leaves over."""
        pairs = self._pairing.pairs(x, actions)
        for row, action in enumerate(actions):
            bridge = self._bridges.get(self._own.known_as(action))
            if bridge is not None:
                pairs[row] -= products(bridge.T, x)
        return pairs


_SHAPES: dict[str, type[_Disjoint | _Shared | _Hybrid]] = {
    "disjoint": _Disjoint,
    "shared": _Shared,
    "hybrid": _Hybrid,
}


def _ridges(settings: LinearSettings) -> Ridges:
    if settings.forgetting < 1.0:
        return FadingRidges(settings.dim, settings.ridge, settings.forgetting)
    return Ridges(settings.dim, settings.ridge)


def _at(ridges: Ridges, rows: FloatArray) -> _Moments:
    """Return what the regression for all actions expects at each row."""
    theta, A_inv = ridges.at(_ALL)
    spread = np.vecdot(np.vecdot(A_inv, rows[:, np.newaxis]), rows)
    return np.vecdot(rows, theta), np.maximum(spread, 0.0, out=spread)
