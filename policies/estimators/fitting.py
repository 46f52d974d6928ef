"""A reward model on numbers, that bends: what is near earns much the same.

Beside `policies.reward_model`, which is linear in features by name. For learning
policies the model is not only subtracted, it is learned from, and has to be good.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import shake_128
from itertools import combinations_with_replacement

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
    weights: FloatArray | None = None,
) -> FloatArray:
    """Predict what each action would have earned, by ridge regressions on waves.

    Numbers are centred and scaled; waves are cosines of random directions of them,
    which together are a Gaussian kernel of the width √d · `length`. Each action has a
    regression of its own, and the model that predicts a fold has learned from the
    others.

    A ridge regression shrinks what it has seen little of, and leaves the range of the
    rewards. The rising step function that fits rewards best by prediction mends both;
    for each fold it is fitted to what models predict that have seen neither that fold
    nor the one they predict, so that no prediction knows a reward of its own fold.

    Args:
        X: Numbers about each decision, shape (n, d).
        chosen: The action taken, shape (n,), each from 0 to n_actions - 1.
        rewards: What it earned, shape (n,), any unit.
        folds: The fold of each row, shape (n,), at least three; what must not be split,
            such as the decisions of a user, has the same. `fold_of` of
            `policies.reward_model` makes them.
        n_actions: The number of actions, at least 1.
        waves: How many; time grows with the square.
        length: The width, above 0, in standard deviations of a typical distance.
        ridge: The strength of the prior that an action earns its mean everywhere,
            above 0, in units of one observation.
        seed: Which directions.
        weights: How much each row counts for the step function, shape (n,), each above
            0, such as one over its propensity; all the same without.

    Returns:
        The predictions, within the range of the rewards, shape (n, n_actions); of an
        action that was never taken about the mean reward of all.

    Raises:
        ValueError: If an argument has another shape or is out of its range.

    References:
        A. Rahimi and B. Recht. Random features for large-scale kernel machines.
        NIPS 2007.

        R. E. Barlow, D. J. Bartholomew, J. M. Bremner and H. D. Brunk. Statistical
        inference under order restrictions. Wiley, 1972 (isotonic regression).

    Examples:
        >>> X = np.linspace(-1, 1, 400)[:, None]
        >>> values = cross_fit_smooth(
        ...     X,
        ...     np.zeros(400, dtype=int),
        ...     X[:, 0] ** 2,
        ...     np.arange(400) % 4,
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
    names, fold = np.unique(folds, return_inverse=True)
    if len(names) < 3:
        raise ValueError(f"there must be at least 3 folds, not {len(names)}")
    F = _features(X, waves, length, seed)
    weights = np.ones(n) if weights is None else weights
    raw = np.empty((n, n_actions))
    told = np.zeros((len(names), n))
    marks = np.eye(len(names))[fold]
    sums = rewards @ marks, marks.sum(axis=0)
    for action in range(n_actions):
        rows = chosen == action
        fitted = _Fitted(F[rows], rewards[rows], fold[rows], sums=sums, ridge=ridge)
        for one, other in combinations_with_replacement(range(len(names)), 2):
            model = fitted.without(one, other)
            if one == other:
                raw[fold == one, action] = model(F[fold == one])
                continue
            for kept, predicted in ((one, other), (other, one)):
                taken = rows & (fold == predicted)
                told[kept, taken] = model(F[taken])
    for number, known in enumerate(told):
        here = fold == number
        steps = _rising(known[~here], rewards[~here], weights[~here])
        raw[here] = np.interp(raw[here], *steps)
    return raw


class _Fitted:
    """Ridge regressions of one action, each without one or two of the folds.

    Args:
        F: Features of the rows in which it was taken, shape (m, n_features).
        rewards: What it earned, shape (m,).
        fold: Their folds, shape (m,).
        sums: The rewards and the number of all rows, by fold.
        ridge: The strength of the prior.
    """

    def __init__(
        self,
        F: FloatArray,
        rewards: FloatArray,
        fold: IntArray,
        *,
        sums: tuple[FloatArray, FloatArray],
        ridge: float,
    ) -> None:
        numbers = range(len(sums[0]))
        parts = [F[fold == number] for number in numbers]
        earned = [rewards[fold == number] for number in numbers]
        self._A = np.array([part.T @ part for part in parts])
        self._b = np.array([p.T @ r for p, r in zip(parts, earned, strict=True)])
        self._sums = sums
        self._ridge = ridge

    def without(self, one: int, other: int) -> Callable[[FloatArray], FloatArray]:
        """Return what predicts from features, without having seen these folds."""
        kept = [at for at in range(len(self._A)) if at not in {one, other}]
        A, b = self._A[kept].sum(axis=0), self._b[kept].sum(axis=0)
        # The first feature is constant: its moments are counts and sums of rewards.
        if A[0, 0] > 0:
            mean = b[0] / A[0, 0]
        else:
            count = self._sums[1][kept].sum()
            mean = self._sums[0][kept].sum() / count if count else 0.0
        target = b - mean * A[0]
        theta = np.linalg.solve(A + self._ridge * np.eye(len(A)), target)
        return lambda F: np.asarray(mean + F @ theta)


def _rising(
    x: FloatArray, y: FloatArray, weights: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return the rising function nearest to y, as places and values, one a step."""
    order = np.argsort(x, kind="stable")
    steps: list[tuple[float, float, float]] = []  # Weight, and the means of x and y.
    for row in order:
        weight, place, value = float(weights[row]), float(x[row]), float(y[row])
        while steps and steps[-1][2] >= value:
            more, before, lower = steps.pop()
            total = weight + more
            place = (weight * place + more * before) / total
            value = (weight * value + more * lower) / total
            weight = total
        steps.append((weight, place, value))
    _, places, values = np.array(steps).T
    return places, values


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
