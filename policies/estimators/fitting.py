"""A reward model on numbers, that bends: what is near earns much the same.

Beside `policies.reward_model`, which is linear in features by name. For learning
policies the model is not only subtracted, it is learned from, and has to be good.
"""

from __future__ import annotations

from hashlib import shake_128

import numpy as np

from policies.estimators.base import IntArray
from policies.model import FloatArray

__all__ = ["cross_fit_smooth"]

_AMPLITUDE = 0.5
"""How much a wave counts beside a number of standard deviation 1."""


def cross_fit_smooth(
    X: FloatArray,
    chosen: IntArray,
    rewards: FloatArray,
    folds: IntArray,
    *,
    n_actions: int,
    waves: int = 400,
    length: float = 1.0,
    ridge: float = 1.0,
    seed: int = 0,
) -> FloatArray:
    """Predict what each action would have earned, by ridge regressions on waves.

    Numbers are centred and scaled; waves are cosines of random directions of them,
    which together are a Gaussian kernel of the width √d · `length`. Each action has a
    regression of its own, and the model that predicts a fold has learned from the
    others.

    Args:
        X: Numbers about each decision, shape (n, d).
        chosen: The action taken, shape (n,), each from 0 to n_actions - 1.
        rewards: What it earned, shape (n,), any unit.
        folds: The fold of each row, shape (n,), from 0; what must not be split, such as
            the decisions of a user, has the same. `policies.reward_model.fold_of`
            makes them.
        n_actions: The number of actions, at least 1.
        waves: How many; time grows with the square.
        length: The width, above 0, in standard deviations of a typical distance.
        ridge: The strength of the prior that an action earns its mean everywhere,
            above 0, in units of one observation.
        seed: Which directions.

    Returns:
        The predictions, within the range of the rewards that were learned, shape
        (n, n_actions); of an action that was never taken the mean reward of all.

    Raises:
        ValueError: If an argument has another shape or is out of its range.

    References:
        A. Rahimi and B. Recht. Random features for large-scale kernel machines.
        NIPS 2007.

    Examples:
        >>> X = np.linspace(-1, 1, 400)[:, None]
        >>> values = cross_fit_smooth(
        ...     X,
        ...     np.zeros(400, dtype=int),
        ...     X[:, 0] ** 2,
        ...     np.arange(400) % 2,
        ...     n_actions=1,
        ...     waves=50,
        ...     ridge=0.01,
        ... )
        >>> values[[0, 100, 200], 0].round(1).tolist()
        [1.0, 0.2, 0.0]
    """
    n = len(X)
    if X.ndim != 2 or {np.shape(part) for part in (chosen, rewards, folds)} != {(n,)}:
        raise ValueError(
            f"X must be (n, d) and chosen, rewards and folds (n,), not {X.shape},"
            f" {np.shape(chosen)}, {np.shape(rewards)} and {np.shape(folds)}"
        )
    if n == 0 or not 0 <= chosen.min() <= chosen.max() < n_actions:
        raise ValueError(f"chosen must be from 0 to n_actions - 1 = {n_actions - 1}")
    if waves < 1:
        raise ValueError(f"waves must be at least 1, not {waves}")
    if not (length > 0 and ridge > 0):
        raise ValueError(f"length and ridge must be above 0, not {length} and {ridge}")
    F = _features(X, waves, length, seed)
    predictions = np.empty((n, n_actions))
    for fold in np.unique(folds):
        here = folds == fold
        others = rewards[~here] if (~here).any() else np.zeros(1)
        for action in range(n_actions):
            rows = ~here & (chosen == action)
            mean, theta = _ridge(F[rows], rewards[rows], ridge, usual=others.mean())
            predictions[here, action] = mean + F[here] @ theta
        predictions[here] = predictions[here].clip(others.min(), others.max())
    return predictions


def _ridge(
    F: FloatArray, rewards: FloatArray, ridge: float, *, usual: float
) -> tuple[float, FloatArray]:
    """Return a mean and weights; the usual mean where there is no row."""
    mean = float(rewards.mean()) if len(rewards) else float(usual)
    A = F.T @ F + ridge * np.eye(F.shape[1])
    return mean, np.asarray(np.linalg.solve(A, F.T @ (rewards - mean)))


def _features(X: FloatArray, waves: int, length: float, seed: int) -> FloatArray:
    """Return a constant, the scaled numbers and the waves, (n, 1 + d + waves)."""
    deviations = X.std(axis=0)
    kept = deviations > 0
    Z = (X[:, kept] - X[:, kept].mean(axis=0)) / deviations[kept]
    d = max(Z.shape[1], 1)
    uniform = _uniform(seed, 2 * waves * d + waves)
    # Box and Muller's way from uniform numbers to normal ones.
    radius = np.sqrt(-2.0 * np.log1p(-uniform[: waves * d]))
    angle = 2.0 * np.pi * uniform[waves * d : 2 * waves * d]
    directions = (radius * np.cos(angle)).reshape(d, waves)[: Z.shape[1]]
    shifts = 2.0 * np.pi * uniform[2 * waves * d :]
    bent = np.cos(Z @ directions / (length * np.sqrt(d)) + shifts)
    return np.concatenate([np.ones((len(X), 1)), Z, _AMPLITUDE * bent], axis=1)


def _uniform(seed: int, n: int) -> FloatArray:
    words = np.frombuffer(shake_128(b"waves.%d" % seed).digest(8 * n), dtype="<u8")
    return np.asarray((words >> np.uint64(11)) * 2.0**-53)
