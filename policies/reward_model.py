"""A reward model for doubly robust estimates, that never predicts what it has seen.

One ridge regression per action, on hashed features of the context. It need not be
good: `policies.estimators.dr` is right without it, and calmer with it. It must not
know the reward of the row that it predicts, else the estimate is biased towards
what happened to be drawn: hence cross-fitting.

References:
    V. Chernozhukov et al. Double/debiased machine learning for treatment and
    structural parameters. The Econometrics Journal 21, 2018,
    https://arxiv.org/abs/1608.00060.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from policies.hashing import Hasher
from policies.model import Features, FloatArray

__all__ = ["Moments", "RewardModel", "cross_fit", "design", "fold_of"]

IntArray = NDArray[np.int64]


def cross_fit(
    contexts: Sequence[Features],
    actions: IntArray,
    rewards: FloatArray,
    keys: Sequence[str],
    *,
    n_actions: int,
    weights: FloatArray | None = None,
    dim: int = 64,
    folds: int = 5,
    ridge: float = 1.0,
) -> FloatArray:
    """Predict what each action would have earned in each context.

    Rows are split into folds by their key; the model that predicts a fold has
    learned from the others. Of an action it has hardly seen it predicts the mean
    reward of all actions.

    Args:
        contexts: What was known at each decision, n of them.
        actions: The action taken, shape (n,), each from 0 to n_actions - 1.
        rewards: What it earned, shape (n,), any unit.
        keys: What must not be split, n of them: the user where users come back, so
            that nobody's other decisions give theirs away; else the decision id.
        n_actions: The number of actions, at least 1.
        weights: How much each row counts in learning, shape (n,), each 0 or more;
            all the same without it.
        dim: The number of places that feature names are hashed to, at least 1.
        folds: The number of folds, at least 2.
        ridge: The strength of the prior that all actions earn the same everywhere,
            above 0, in units of one observation.

    Returns:
        The predictions, shape (n, n_actions), in the unit of `rewards`.

    Raises:
        ValueError: If an argument has another shape or is out of its range.

    Examples:
        >>> import numpy as np
        >>> contexts = [(("night", 1.0),), (("day", 1.0),)] * 500
        >>> values = cross_fit(
        ...     contexts,
        ...     actions=np.zeros(1000, dtype=int),
        ...     rewards=np.array([3.0, 1.0] * 500),
        ...     keys=[f"decision-{row}" for row in range(1000)],
        ...     n_actions=1,
        ... )
        >>> values[:2, 0].round(1)
        array([3., 1.])
    """
    n = len(contexts)
    actions = np.asarray(actions)
    rewards = np.asarray(rewards, dtype=float)
    weights = np.ones(n) if weights is None else np.asarray(weights, dtype=float)
    _check(n, actions, rewards, keys, weights)
    if n_actions < 1 or (n and not 0 <= actions.min() <= actions.max() < n_actions):
        raise ValueError(f"actions must be from 0 to n_actions - 1 = {n_actions - 1}")
    if dim < 1:
        raise ValueError(f"dim must be at least 1, not {dim}")
    if folds < 2:
        raise ValueError(f"folds must be at least 2, not {folds}")
    if not ridge > 0:
        raise ValueError(f"ridge must be above 0, not {ridge}")

    fold = np.fromiter((fold_of(key, folds) for key in keys), dtype=int, count=n)
    moments = Moments(folds=folds, dim=dim)
    names = [str(action) for action in range(n_actions)]
    moments.add(
        contexts,
        names,
        actions,
        rewards[:, None],
        fold=fold,
        weights=weights,
    )
    return moments.solve(ridge, names).predict(contexts, fold)


class Moments:
    """What a reward model is made from: sums over the rows of each action and fold.

    Parts of a log are put together with `+`, whichever actions each has seen. Several
    rewards of the same rows share what depends on contexts alone.

    Args:
        folds: The number of folds, at least 2.
        dim: The number of places that feature names are hashed to, at least 1.

    Attributes:
        folds: As given.
        dim: As given.

    Examples:
        >>> import numpy as np
        >>> moments = Moments(folds=2, dim=4)
        >>> moments.add(
        ...     [(("night", 1.0),)] * 4,
        ...     ["tea"],
        ...     np.zeros(4, dtype=int),
        ...     np.array([[2.0]] * 4),
        ...     fold=np.array([0, 0, 1, 1]),
        ... )
        >>> model = (moments + moments).solve()
        >>> model.predict([(("night", 1.0),)], np.array([0])).round(3)
        array([[2.]])
    """

    def __init__(self, *, folds: int, dim: int) -> None:
        self.folds = folds
        self.dim = dim
        self._hasher = Hasher(dim)
        self._A: dict[str, FloatArray] = {}
        self._b: dict[str, FloatArray] = {}

    @property
    def size(self) -> int:
        """How many numbers it holds."""
        return sum(A.size for A in self._A.values())

    def add(
        self,
        contexts: Sequence[Features],
        names: Sequence[str],
        actions: IntArray,
        rewards: FloatArray,
        *,
        fold: IntArray,
        weights: FloatArray | None = None,
    ) -> None:
        """Add rows.

        Args:
            contexts: What was known at each decision, n of them.
            names: The names of actions, under which parts are put together.
            actions: The action taken, shape (n,), places in `names`.
            rewards: What it earned, shape (n, n_rewards), any units.
            fold: The fold of each row, shape (n,), each from 0 to folds - 1.
            weights: How much each row counts, shape (n,), each 0 or more; all the
                same without it.
        """
        if not len(contexts):
            return
        X = design(contexts, self._hasher)
        weighted = X if weights is None else X * weights[:, None]
        cell = actions * self.folds + fold
        order = np.argsort(cell, kind="stable")
        present, starts = np.unique(cell[order], return_index=True)
        for at, rows in zip(present, np.split(order, starts[1:]), strict=True):
            action, k = divmod(int(at), self.folds)
            A, b = self._of(names[action], rewards.shape[1])
            A[k] += weighted[rows].T @ X[rows]
            b[k] += weighted[rows].T @ rewards[rows]

    def _of(self, name: str, n_rewards: int) -> tuple[FloatArray, FloatArray]:
        d = self.dim + 1
        if name not in self._A:
            self._A[name] = np.zeros((self.folds, d, d))
            self._b[name] = np.zeros((self.folds, d, n_rewards))
        return self._A[name], self._b[name]

    def __add__(self, other: Moments) -> Moments:
        merged = Moments(folds=self.folds, dim=self.dim)
        for mine, theirs, sums in (
            (self._A, other._A, merged._A),
            (self._b, other._b, merged._b),
        ):
            for name in mine | theirs:
                found = [each[name] for each in (mine, theirs) if name in each]
                sums[name] = np.sum(found, axis=0)
        return merged

    def solve(self, ridge: float = 1.0, names: Sequence[str] = ()) -> RewardModel:
        """Return the models of all folds, each learned from the others.

        Args:
            ridge: The strength of the prior that all actions earn the same everywhere,
                above 0, in units of one observation.
            names: Which actions to predict, in this order; all that were added, in the
                order of their names, without it.
        """
        names = list(names) or sorted(self._A)
        n_rewards = next((b.shape[2] for b in self._b.values()), 1)
        d = self.dim + 1
        zero = np.zeros((self.folds, d, d)), np.zeros((self.folds, d, n_rewards))
        A = np.array([self._A.get(name, zero[0]) for name in names])
        b = np.array([self._b.get(name, zero[1]) for name in names])
        # What a fold's model learns from is everything less the fold itself.
        A, b = A.sum(axis=1, keepdims=True) - A, b.sum(axis=1, keepdims=True) - b
        # The first feature is constant: its moments are the weights and the rewards.
        weight = A[:, :, 0, 0].sum(axis=0)
        sums = b[:, :, 0].sum(axis=0)
        mean = np.divide(
            sums, weight[:, None], out=np.zeros_like(sums), where=weight[:, None] > 0
        )
        excess = b - A[..., 0][..., None] * mean[None, :, None, :]
        theta = np.linalg.solve(A + ridge * np.eye(d), excess)
        return RewardModel(names=names, mean=mean, theta=theta)


class RewardModel:
    """Predicts what actions earn, a row never by a model that has seen its fold.

    Attributes:
        names: The actions, in the order of the predictions.
    """

    def __init__(
        self, *, names: Sequence[str], mean: FloatArray, theta: FloatArray
    ) -> None:
        self.names = names
        self._mean = mean
        self._theta = theta
        self._hasher = Hasher(theta.shape[2] - 1)

    def predict(
        self, contexts: Sequence[Features], fold: IntArray, reward: int = 0
    ) -> FloatArray:
        """Return what each action is expected to earn, shape (n, n_actions).

        Args:
            contexts: What was known at each decision, n of them.
            fold: The fold of each row, shape (n,).
            reward: Which of the rewards it was learned from.
        """
        X = design(contexts, self._hasher)
        predictions = np.empty((len(contexts), len(self.names)))
        for k in range(len(self._mean)):
            rows = fold == k
            theta = self._theta[:, k, :, reward]
            predictions[rows] = self._mean[k, reward] + X[rows] @ theta.T
        return predictions


def fold_of(key: str, folds: int) -> int:
    """Return which of `folds` folds a key belongs to, on every machine the same.

    Examples:
        >>> fold_of("user-1", 5) == fold_of("user-1", 5)
        True
    """
    # Its own hash: a fold must say nothing of what was drawn for the decision.
    digest = hashlib.blake2b(key.encode(), digest_size=8, person=b"fold").digest()
    return int.from_bytes(digest, "little") % folds


def design(contexts: Sequence[Features], hasher: Hasher) -> FloatArray:
    """Return a constant and the hashed features of each context.

    Args:
        contexts: What was known at each decision, n of them.
        hasher: Hashes features to its `dim` places.

    Returns:
        Shape (n, dim + 1).
    """
    places: dict[Features, int] = {}
    rows = [places.setdefault(features, len(places)) for features in contexts]
    X = np.ones((len(places), hasher.dim + 1))
    for row, features in enumerate(places):
        X[row, 1:] = hasher.vector(features)
    return X if len(places) == len(rows) else X[rows]


def _check(
    n: int,
    actions: IntArray,
    rewards: FloatArray,
    keys: Sequence[str],
    weights: FloatArray,
) -> None:
    shapes = (actions.shape, rewards.shape, (len(keys),), weights.shape)
    if set(shapes) != {(n,)}:
        raise ValueError(
            f"there are {n} contexts, but actions, rewards, keys and weights are"
            f" {', '.join(map(str, shapes))}"
        )
    if not np.isfinite(rewards).all():
        row = int(np.argmin(np.isfinite(rewards)))
        raise ValueError(f"rewards must be finite: row {row} is {rewards[row]}")
    if not (np.isfinite(weights) & (weights >= 0)).all():
        row = int(np.argmin(np.isfinite(weights) & (weights >= 0)))
        raise ValueError(f"weights must be 0 or more: row {row} is {weights[row]}")
