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

__all__ = ["cross_fit", "fold_of"]

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

    X = _design(contexts, dim)
    fold = np.fromiter((fold_of(key, folds) for key in keys), dtype=int, count=n)
    A, b = _moments(X, actions, rewards, weights, fold, shape=(folds, n_actions))
    # What a fold's model learns from is everything less the fold itself.
    A, b = A.sum(axis=0) - A, b.sum(axis=0) - b
    predictions = np.empty((n, n_actions))
    for k in range(folds):
        # The first feature is constant: its moments are the weights and the rewards.
        weight = A[k, :, 0, 0].sum()
        mean = b[k, :, 0].sum() / weight if weight > 0 else 0.0
        theta = np.linalg.solve(
            A[k] + ridge * np.eye(dim + 1), (b[k] - mean * A[k, :, 0])[..., None]
        )[..., 0]
        rows = fold == k
        predictions[rows] = mean + X[rows] @ theta.T
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


def _design(contexts: Sequence[Features], dim: int) -> FloatArray:
    """Return a constant and the hashed features of each context, (n, dim + 1)."""
    X = np.ones((len(contexts), dim + 1))
    hasher = Hasher(dim)
    for row, features in enumerate(contexts):
        X[row, 1:] = hasher.vector(features)
    return X


def _moments(
    X: FloatArray,
    actions: IntArray,
    rewards: FloatArray,
    weights: FloatArray,
    fold: IntArray,
    *,
    shape: tuple[int, int],
) -> tuple[FloatArray, FloatArray]:
    """Sum w·x·xᵀ and w·r·x over the rows of each fold and action."""
    d = X.shape[1]
    A, b = np.zeros((*shape, d, d)), np.zeros((*shape, d))
    cell = fold * shape[1] + actions
    order = np.argsort(cell, kind="stable")
    ends = np.cumsum(np.bincount(cell, minlength=shape[0] * shape[1]))
    for index, rows in enumerate(np.split(order, ends[:-1])):
        place = divmod(index, shape[1])
        weighted = X[rows] * weights[rows, None]
        A[place] = weighted.T @ X[rows]
        b[place] = weighted.T @ rewards[rows]
    return A, b


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
