"""Rewards that are no linear function: ridge regressions on random features."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import shake_128
from typing import Self

import msgspec
import numpy as np

from policies.learners.base import Beliefs
from policies.learners.bounds import usable
from policies.learners.noise import Noise, NoiseState
from policies.learners.ridge import Ridges, RidgeState, products
from policies.learners.scaling import ScalingState
from policies.learners.sealing import seal, unseal
from policies.learners.vectors import Vectors
from policies.model import Action, Features, FloatArray

__all__ = ["Kernel", "KernelSettings"]

_BIAS = 0.3
"""How large the constant is beside a context: where the features bend."""

_HELD_MAX = 1 << 20
"""How many random weights are remembered, by name and by context: 8 MB each."""


class KernelSettings(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    tag_field="kind",
    tag="kernel",
):
    """How rewards that are no linear function of the context are learned."""

    features: int = 256
    """How many random features are made of a context: 16 to 1,024.

    The more, the finer what can be told apart; time and memory grow with the square:
    an action takes 265 KB at 256.
    """

    ridge: float = 0.05
    """The strength of the prior that all weights are 0: 0.000001 to 1,000,000.

    Its unit is one observation of a typical context.
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

    seed: int = 0
    """Which random features: 0 to 1,000,000."""

    actions_max: int = 256
    """How many actions are remembered: 1 to 30,000.

    Beyond it, the action that was not learned from for the longest is forgotten. More
    offers than that, each in several creatives and placements, are for `blend`.
    """

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        if not 16 <= self.features <= 1024:
            raise ValueError(f"features must be from 16 to 1024, not {self.features}")
        if not 1e-6 <= self.ridge <= 1e6:
            raise ValueError(f"ridge must be from 1e-6 to 1000000, not {self.ridge}")
        if not 1e-6 <= self.noise <= 1e6:
            raise ValueError(f"noise must be from 1e-6 to 1000000, not {self.noise}")
        if not 1e-3 <= self.noise_weight <= 1e6:
            raise ValueError(
                f"noise_weight must be from 0.001 to 1000000, not {self.noise_weight}"
            )
        if not 0 <= self.seed <= 1_000_000:
            raise ValueError(f"seed must be from 0 to 1000000, not {self.seed}")
        if not 1 <= self.actions_max <= 30_000:
            raise ValueError(
                f"actions_max must be from 1 to 30000, not {self.actions_max}"
            )


class _State(msgspec.Struct, array_like=True):
    ridges: RidgeState
    noise: NoiseState
    scaling: ScalingState | None
    latest: list[int]
    learned: int


class Kernel:
    """Expects of each action what rewards were in similar contexts.

    A context becomes `features` numbers max(0, w·x), each with random weights w, and
    each action, by its name, has a ridge regression of its own on them. With many of
    them that is a Gaussian process whose kernel is the arc-cosine kernel of order 1:
    a function that is linear piece by piece, and finds that two features matter
    together, or that the middle of a range is best, without being told. The score is
    what is expected; beliefs say how sure that is, the noise of rewards being learned
    too.

    The weights of a feature follow from its name and `seed`, the same everywhere:
    names never meet in one place, however many there are. A context is divided by
    the root of how many features it has.

    Propensities are ignored, as by all regressions here.

    `correct` ends in the model that would have learned the right reward at once, but
    for rounding; with `standardize` it corrects the context as it looks by now, which
    is nearly the same once means and deviations have settled. Nothing is corrected of
    an action that was forgotten since, beyond `actions_max`.

    Examples:
        What pleases is that exactly one of two is there:

        >>> from policies.model import Action
        >>> tea = Action(1, "tea", "c", "p", ())
        >>> learner = Kernel(KernelSettings())
        >>> for row in range(400):
        ...     a, b = float(row & 1), float(row >> 1 & 1)
        ...     context = (("constant", 1.0), ("a", a), ("b", b))
        ...     learner.learn(context, tea, reward=float(a != b), propensity=1.0)
        >>> [
        ...     learner.score((("constant", 1.0), ("a", a), ("b", b)), [tea])
        ...     .round(1)
        ...     .item()
        ...     for a, b in [(0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0)]
        ... ]
        [0.0, 1.0, 1.0, 0.0]

    References:
        Y. Cho and L. K. Saul. Kernel methods for deep learning. NIPS 2009. The
        kernel, and that random features max(0, w·x) have it on average.
        A. Rahimi and B. Recht. Random features for large-scale kernel machines.
        NIPS 2007. That few of them do.
    """

    def __init__(self, settings: KernelSettings) -> None:
        self.settings = settings
        bent = _BentFeatures(settings.features, settings.seed)
        self._vectors = Vectors(bent, standardize=settings.standardize)
        self._ridges = Ridges(settings.features, settings.ridge)
        self._noise = Noise(settings.noise, settings.noise_weight)
        self._learned = 0
        self._latest: dict[str, int] = {}

    @classmethod
    def load(cls, settings: KernelSettings, blob: bytes) -> Self:
        """Return a learner that has learned what the one that saved the blob had.

        Raises:
            ValueError: If the blob is damaged, or the settings that shape what is
                learned were others.
        """
        learner = cls(settings)
        payload = unseal(learner._kind, blob)
        state = msgspec.msgpack.decode(payload, type=_State)
        learner._ridges.load(state.ridges)
        learner._noise.load(state.noise)
        learner._vectors.load(state.scaling)
        learner._learned = state.learned
        names = state.ridges.names
        learner._latest = dict(zip(names, state.latest, strict=True))
        return learner

    def save(self) -> bytes:
        """Return all it has learned: the same bytes for the same learning."""
        ridges = self._ridges.save()
        state = _State(
            ridges=ridges,
            noise=self._noise.save(),
            scaling=self._vectors.save(),
            latest=[self._latest[name] for name in ridges.names],
            learned=self._learned,
        )
        return seal(self._kind, msgspec.msgpack.encode(state))

    def score(self, context: Features, actions: Sequence[Action]) -> FloatArray:
        """Return what each action is expected to earn.

        Args:
            context: What is known of user and moment; beyond ±1,000 it is clipped.
            actions: At least one.

        Returns:
            Shape (n_actions,), in units of reward.
        """
        return self.believe(context, actions).mean

    def believe(self, context: Features, actions: Sequence[Action]) -> Beliefs:
        """Return what each action is expected to earn, and how sure that is.

        Args:
            context: What is known of user and moment; beyond ±1,000 it is clipped.
            actions: At least one.
        """
        mean, variance = self._ridges.moments(actions, self._vectors.of(context))
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
        self._make_room(action)
        x = self._vectors.learn(context)
        if action.like:
            self._ridges.adopt(action)
        self._noise.learn(*self._ridges.learn(action.name, x, reward))

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

        Of an action that is forgotten by now there is nothing to correct.

        Raises:
            ValueError: If a reward is not finite.
        """
        del propensity
        reward, before = usable(reward), usable(before)
        if action.name not in self._latest:
            return
        self._touch(action.name)
        x = self._vectors.of(context)
        mean, variance = self._ridges.moments([action], x)
        self._noise.correct(
            reward=reward, before=before, mean=mean.item(), variance=variance.item()
        )
        self._ridges.correct(action.name, x, reward - before)

    def _make_room(self, action: Action) -> None:
        """Let a new action have the place of the one not learned for the longest."""
        latest = self._latest
        if action.name not in latest and len(latest) >= self.settings.actions_max:
            forgotten = min(latest, key=latest.__getitem__)
            self._ridges.replace(forgotten, action)
            del latest[forgotten]
        self._touch(action.name)

    def _touch(self, name: str) -> None:
        """Remember that a name was learned of just now."""
        self._learned += 1
        self._latest[name] = self._learned

    @property
    def _kind(self) -> str:
        """What must not change between saving and loading."""
        settings = self.settings
        return (
            f"kernel features={settings.features} seed={settings.seed}"
            f" ridge={float(settings.ridge)!r} standardize={settings.standardize}"
            f" actions_max={settings.actions_max}"
        )


class _BentFeatures:
    """Turns features into numbers max(0, w·x), with random weights w.

    Args:
        dim: How many.
        seed: Which.
    """

    def __init__(self, dim: int, seed: int) -> None:
        self.dim = dim
        self._seed = seed
        self._scale = np.sqrt(2.0 / dim)
        self._bias = _BIAS * self._weights("bias:")
        self._weights_of: dict[str, FloatArray] = {}
        self._matrix_of: dict[tuple[str, ...], FloatArray] = {}
        self._held = 0

    def spread(self, names: tuple[str, ...], values: FloatArray) -> FloatArray:
        """Return the numbers that values under names make, shape (dim,)."""
        matrix = self._matrix_of.get(names)
        if matrix is None:
            matrix = self._new_matrix(names)
        bent = products(matrix, values)
        bent += self._bias
        np.maximum(bent, 0.0, out=bent)
        bent *= self._scale
        return bent

    def _new_matrix(self, names: tuple[str, ...]) -> FloatArray:
        """Return the weights of names, each divided by the root of how many."""
        columns = np.zeros((max(len(names), 1), self.dim))
        for row, name in enumerate(names):
            weights = self._weights_of.get(name)
            columns[row] = self._new_weights(name) if weights is None else weights
        self._held += len(names) * self.dim
        if self._held > _HELD_MAX:
            self._matrix_of.clear()
            self._held = 0
        matrix = np.ascontiguousarray(columns[: len(names)].T)
        matrix /= np.sqrt(max(len(names), 1))
        self._matrix_of[names] = matrix
        return matrix

    def _new_weights(self, name: str) -> FloatArray:
        if len(self._weights_of) * self.dim >= _HELD_MAX:
            self._weights_of.clear()
        self._weights_of[name] = weights = self._weights(f"name:{name}")
        return weights

    def _weights(self, text: str) -> FloatArray:
        """Return numbers with a normal distribution, that follow from a text."""
        seeded = f"{self._seed}:{text}".encode("utf-8", "surrogatepass")
        half = (self.dim + 1) // 2
        digest = shake_128(seeded).digest(16 * half)
        uniform = (np.frombuffer(digest, "<u8") + 0.5) / 2.0**64
        # Box and Muller's pairs.
        radius = np.sqrt(-2.0 * np.log(uniform[:half]))
        angle = 2.0 * np.pi * uniform[half:]
        pairs = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])
        return pairs[: self.dim]
