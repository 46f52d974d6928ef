"""Weights that are learned by telling what was logged from what the target would do."""

from __future__ import annotations

import numpy as np

from policies.estimators.base import Rows, Terms, column
from policies.model import FloatArray

__all__ = ["balanced_ips", "balanced_weights", "balancing_model"]

_ENOUGH = 1e-10


def balanced_ips(rows: Rows) -> Terms:
    """IPS with balanced weights: the mean of b·r.

    Of use where propensities were not logged, or are not to be trusted.

    References:
        A. Sondhi, D. Arbour and D. Dimmery. Balanced off-policy evaluation in general
        action spaces. AISTATS 2020, https://arxiv.org/abs/1906.03694.
    """
    return Terms(added=column(rows, "balanced_weights") * rows.rewards)


def balanced_weights(
    logged: FloatArray, target: FloatArray, masses: FloatArray, *, ridge: float = 1.0
) -> FloatArray:
    """Return the odds that a classifier gives to a row being the target's.

    A logistic regression tells the decisions of the log from those of the target: each
    context once with what was chosen, and once with each action, which counts by the
    target's probability. If it is right, the odds are the weights; and whatever it can
    express is balanced by them, right or not.

    Args:
        logged: Features of context and action of each decision, a constant among them,
            shape (n, d).
        target: The same of each decision that the target could have made, shape (m, d).
        masses: The target's probability of each of them, shape (m,).
        ridge: The strength of the prior that all weights are 1, above 0, in units of
            one decision.

    Returns:
        Shape (n,), each above 0.

    Raises:
        ValueError: If the shapes do not fit, or the ridge is not above 0.

    Examples:
        >>> logged = np.array([[1.0, 0.0]] * 50 + [[1.0, 1.0]] * 50)
        >>> target = np.array([[1.0, 0.0], [1.0, 1.0]] * 100)
        >>> masses = np.array([0.2, 0.8] * 100)
        >>> balanced_weights(logged, target, masses, ridge=1e-6)[[0, 99]].round(3)
        array([0.4, 1.6])
    """
    theta = balancing_model(logged, target, masses, ridge=ridge)
    odds = np.exp(logged @ theta)
    return np.asarray(odds * len(logged) / masses.sum())


def balancing_model(
    logged: FloatArray, target: FloatArray, masses: FloatArray, *, ridge: float = 1.0
) -> FloatArray:
    """Return by what features a decision is rather the target's than the log's.

    Args:
        logged: As for `balanced_weights`, and so are the others.
        target: As there.
        masses: As there.
        ridge: As there.

    Returns:
        What each feature adds to the log-odds, shape (d,).

    Raises:
        ValueError: As there.

    Examples:
        >>> alike = np.ones((10, 1))
        >>> balancing_model(alike, alike, np.ones(10))
        array([0.])
    """
    if logged.ndim != 2 or target.shape != (len(masses), logged.shape[1]):
        raise ValueError(
            f"logged must be (n, d), target (m, d) and masses (m,), not"
            f" {logged.shape}, {target.shape} and {masses.shape}"
        )
    if not ridge > 0:
        raise ValueError(f"ridge must be above 0, not {ridge}")
    X = np.concatenate([logged, target])
    labels = np.concatenate([np.zeros(len(logged)), np.ones(len(target))])
    counts = np.concatenate([np.ones(len(logged)), masses])
    return _logistic(X, labels, counts, ridge)


def _logistic(
    X: FloatArray, labels: FloatArray, counts: FloatArray, ridge: float
) -> FloatArray:
    """Return the weights of a logistic regression: Newton's, halved if need be."""
    theta = np.zeros(X.shape[1])
    loss = _loss(X, labels, counts, ridge, theta)
    while True:
        chance = 0.5 * (1.0 + np.tanh(0.5 * (X @ theta)))
        gradient = X.T @ (counts * (chance - labels)) + ridge * theta
        curved = counts * chance * (1.0 - chance)
        hessian = (X * curved[:, None]).T @ X + ridge * np.eye(len(theta))
        step = np.linalg.solve(hessian, gradient)
        while (after := _loss(X, labels, counts, ridge, theta - step)) > loss:
            step /= 2.0
        theta -= step
        if loss - after <= _ENOUGH * (1.0 + loss):
            return theta
        loss = after


def _loss(
    X: FloatArray,
    labels: FloatArray,
    counts: FloatArray,
    ridge: float,
    theta: FloatArray,
) -> float:
    line = X @ theta
    return float(
        counts @ (np.logaddexp(0.0, line) - labels * line) + ridge / 2 * theta @ theta
    )
