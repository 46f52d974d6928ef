"""Linear upper confidence bounds, one ridge regression per action."""

from __future__ import annotations

import math
from collections.abc import Sequence
from hashlib import blake2b
from typing import Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from policies.learners.base import Beliefs
from policies.learners.bounds import FEATURE_MAX, bounded
from policies.learners.sealing import seal, unseal
from policies.model import Action, Features, FloatArray

__all__ = ["LinUCB", "LinUCBSettings"]

REWARD_MAX = 1e9
"""Rewards beyond this, either way, are learned as this."""

_NAMES_MAX = 65_536
_UNKNOWN = 0

_Places = tuple[tuple[int, float], ...]


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

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        if not 1 <= self.dim <= 256:
            raise ValueError(f"dim must be from 1 to 256, not {self.dim}")
        if not 0.0 <= self.alpha <= 1e3:
            raise ValueError(f"alpha must be from 0 to 1000, not {self.alpha}")
        if not 1e-3 <= self.ridge <= 1e6:
            raise ValueError(f"ridge must be from 0.001 to 1000000, not {self.ridge}")


class _State(msgspec.Struct, array_like=True):
    """What is saved: per action learned from, in that order, the name and the rows."""

    names: list[str]
    theta: bytes
    A_inv: bytes


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
        dim = settings.dim
        # A⁻¹ is symmetric, and kept as the rows of its upper triangle in one line.
        # xᵀA⁻¹x is then the inner product of that line with the products of pairs
        # from x: one matrix-vector product for all actions, on half the memory.
        self._left, self._right = np.triu_indices(dim)
        self._twice = np.where(self._left == self._right, 1.0, 2.0)
        self._square = np.zeros((dim, dim), dtype=np.intp)
        self._square[self._left, self._right] = np.arange(self._left.size)
        self._square = np.maximum(self._square, self._square.T)

        # Row 0 is the prior: that of every action not learned from.
        self._row_of: dict[str, int] = {}
        self._theta: FloatArray = np.zeros((1, dim))
        self._A_inv: FloatArray = self._prior()[np.newaxis]
        self._places_of: dict[str, _Places] = {}

    @classmethod
    def load(cls, settings: LinUCBSettings, blob: bytes) -> Self:
        """Return a learner that has learned what the one that saved the blob had.

        Raises:
            ValueError: If the blob is damaged, or `dim` or `ridge` were others.
        """
        learner = cls(settings)
        state = msgspec.msgpack.decode(unseal(learner._kind, blob), type=_State)
        learner._row_of = {name: row for row, name in enumerate(state.names, 1)}
        learner._theta = _with_rows(learner._theta, state.theta)
        learner._A_inv = _with_rows(learner._A_inv, state.A_inv)
        return learner

    def save(self) -> bytes:
        """Return all it has learned: the same bytes for the same learning."""
        rows = slice(1, len(self._row_of) + 1)
        state = _State(
            names=list(self._row_of),
            theta=self._theta[rows].astype("<f8").tobytes(),
            A_inv=self._A_inv[rows].astype("<f8").tobytes(),
        )
        return seal(self._kind, msgspec.msgpack.encode(state))

    def score(self, context: Features, actions: Sequence[Action]) -> FloatArray:
        """Return the upper confidence bound of each action's reward.

        Args:
            context: What is known of user and moment; beyond ±1,000 it is clipped.
            actions: At least one.

        Returns:
            The bounds, shape (n_actions,), in units of reward.
        """
        mean, deviation = self.believe(context, actions)
        bounds: FloatArray = mean + self.settings.alpha * deviation
        return bounds

    def believe(self, context: Features, actions: Sequence[Action]) -> Beliefs:
        """Return the estimate of each action's reward, and its standard deviation.

        Args:
            context: What is known of user and moment; beyond ±1,000 it is clipped.
            actions: At least one.
        """
        x = self._vector(context)
        row_of = self._row_of
        rows = np.array([row_of.get(action.name, _UNKNOWN) for action in actions])
        if len(row_of) < 2 * len(actions):
            # To score them all costs less than to copy those that are asked for.
            mean, deviation = self._beliefs(slice(len(row_of) + 1), x)
            return Beliefs(mean.take(rows), deviation.take(rows))
        return self._beliefs(rows, x)

    def _beliefs(self, rows: slice | NDArray[np.intp], x: FloatArray) -> Beliefs:
        pairs = x.take(self._left) * x.take(self._right) * self._twice
        # Rounding may leave a tiny negative; never a NaN.
        variance = np.maximum(_products(self._A_inv[rows], pairs), 0.0)
        return Beliefs(_products(self._theta[rows], x), np.sqrt(variance))

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
        if not math.isfinite(reward):
            raise ValueError(f"reward must be finite, not {reward}")
        x = self._vector(context)
        row = self._row_of.get(action.name) or self._new_row(action.name)
        theta = self._theta[row]
        u = _products(self._A_inv[row].take(self._square), x)
        # At least 1 but for rounding, because A⁻¹ is positive definite.
        scale = max(1.0 + float(x @ u), 1.0)
        error = bounded(reward, REWARD_MAX) - float(x @ theta)
        theta += u * (error / scale)
        self._A_inv[row] -= u.take(self._left) * u.take(self._right) / scale

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
        if not math.isfinite(reward):
            raise ValueError(f"reward must be finite, not {reward}")
        x = self._vector(context)
        row = self._row_of.get(action.name) or self._new_row(action.name)
        by = bounded(reward, REWARD_MAX) - bounded(before, REWARD_MAX)
        self._theta[row] += _products(self._A_inv[row].take(self._square), x) * by

    @property
    def _kind(self) -> str:
        """What must not change between saving and loading."""
        return f"linucb dim={self.settings.dim} ridge={float(self.settings.ridge)!r}"

    def _prior(self) -> FloatArray:
        """Return the upper triangle of A⁻¹ before any reward."""
        return np.where(self._left == self._right, 1.0 / self.settings.ridge, 0.0)

    def _vector(self, context: Features) -> FloatArray:
        """Return the context's features, added up by place, shape (dim,)."""
        vector = [0.0] * self.settings.dim
        for name, value in context:
            places = self._places_of.get(name) or self._new_places(name)
            amount = bounded(value, FEATURE_MAX)
            for place, share in places:
                vector[place] += share * amount
        return np.array(vector)

    def _new_places(self, name: str) -> _Places:
        """Hash a name, the same on every machine, and remember it for a while.

        Names come from callers: without a limit they would fill the memory.
        """
        if len(self._places_of) >= _NAMES_MAX:
            self._places_of.clear()
        self._places_of[name] = places = _places(name, self.settings.dim)
        return places

    def _new_row(self, name: str) -> int:
        """Give an action a regression of its own, starting from the prior."""
        row = len(self._row_of) + 1
        if row == len(self._theta):
            # Doubling, so that n actions cost O(n), not O(n²), in copies.
            self._theta = np.concatenate([self._theta, np.zeros_like(self._theta)])
            self._A_inv = np.concatenate([self._A_inv, np.empty_like(self._A_inv)])
        self._A_inv[row] = self._A_inv[_UNKNOWN]
        self._row_of[name] = row
        return row


def _products(rows: FloatArray, x: FloatArray) -> FloatArray:
    """Return the inner product of each row and x.

    As `rows @ x`, but by numpy itself. BLAS is faster on an idle machine, by 10 µs for
    50 rows; on a busy one its threads wait for each other, for milliseconds. And its
    last bits depend on how many threads and how many rows there are.
    """
    products: FloatArray = np.einsum("ij,j->i", rows, x)
    return products


def _places(name: str, dim: int) -> _Places:
    """Return the two places of a feature, and its share in each, of length 1 in all.

    With one place each, of 32, one pair of names in 32 would have the same one, and
    never be told apart; with two, and a sign in each, it is one pair in about 1,000.
    """
    digest = blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    bits = int.from_bytes(digest, "big")
    signs = 1.0 - 2.0 * (bits & 1), 1.0 - 2.0 * (bits >> 1 & 1)
    first = (bits >> 32) % dim
    if dim == 1:
        return ((first, signs[0]),)
    second = (first + 1 + (bits >> 2 & 0x3FFFFFFF) % (dim - 1)) % dim
    return (first, signs[0] * math.sqrt(0.5)), (second, signs[1] * math.sqrt(0.5))


def _with_rows(prior: FloatArray, saved: bytes) -> FloatArray:
    """Return the prior's row followed by the saved ones."""
    rows = np.frombuffer(saved, dtype="<f8").reshape(-1, prior.shape[1])
    return np.concatenate([prior, rows]).astype(np.float64)
