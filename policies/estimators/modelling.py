"""Estimators that lean on a model of the rewards.

The model gives each row two numbers: what it expects of the action taken, q, and what
it expects of the target policy, v, the sum over the eligible actions of target
probability times value. It must not know the reward of the row that it predicts, else
estimates are biased towards what happened to be drawn: `policies.reward_model` cross
fits it.
"""

from __future__ import annotations

import math

import numpy as np

from policies.estimators.base import Rows, Terms, column
from policies.estimators.weighting import clipped, subgaussian, switched
from policies.model import FloatArray

__all__ = [
    "clipped_dr",
    "dm",
    "dr",
    "dros",
    "mrdr",
    "mrdr_weights",
    "shrunk",
    "sndr",
    "subgaussian_dr",
    "switch_dr",
]


def dm(rows: Rows) -> Terms:
    """The direct method: the mean of v.

    As good as the model, and silent about how good that is.

    References:
        A. Beygelzimer and J. Langford. The offset tree for learning with partial
        labels. KDD 2009, https://arxiv.org/abs/0812.4044.
    """
    return Terms(added=column(rows, "target_values"))


def dr(rows: Rows) -> Terms:
    """Doubly robust: the mean of v + w·(r − q).

    Unbiased where either the propensities or the model are right.

    References:
        M. Dudík, J. Langford and L. Li. Doubly robust policy evaluation and learning.
        ICML 2011, https://arxiv.org/abs/1103.4601.
    """
    return _dr(rows, rows.weights)


def sndr(rows: Rows) -> Terms:
    """Self-normalised doubly robust: the mean of v, plus Σ w·(r − q) / Σ w.

    DR whose correction never exceeds the errors seen.

    References:
        N. Kallus and M. Uehara. Intrinsically efficient, stable, and bounded off-policy
        evaluation for reinforcement learning. NeurIPS 2019.
    """
    return Terms(
        added=column(rows, "target_values"),
        over=rows.weights * (rows.rewards - column(rows, "logged_values")),
        under=rows.weights,
    )


def clipped_dr(rows: Rows, limit: float = 10.0) -> Terms:
    """DR with no weight above a limit: the mean of v + min(w, λ)·(r − q).

    Args:
        rows: The rows, with values of a model.
        limit: λ, 0 or more: 0 is DM, infinite is DR.

    References:
        Y. Su, M. Dimakopoulou, A. Krishnamurthy and M. Dudík. Doubly robust off-policy
        evaluation with shrinkage. ICML 2020 (the pessimistic shrinkage),
        https://arxiv.org/abs/1907.09623.
    """
    return _dr(rows, clipped(rows.weights, limit))


def switch_dr(rows: Rows, limit: float = 10.0) -> Terms:
    """DR that leaves large weights to the model: the mean of v + 1[w ≤ λ]·w·(r − q).

    Args:
        rows: The rows, with values of a model.
        limit: λ, 0 or more: 0 is DM, infinite is DR.

    References:
        Y.-X. Wang, A. Agarwal and M. Dudík. Optimal and adaptive off-policy evaluation
        in contextual bandits. ICML 2017, https://arxiv.org/abs/1612.01205.
    """
    return _dr(rows, switched(rows.weights, limit))


def dros(rows: Rows, limit: float = 100.0) -> Terms:
    """DR with optimistic shrinkage: the mean of v + λ·w / (w² + λ)·(r − q).

    Args:
        rows: The rows, with values of a model.
        limit: λ, 0 or more: 0 is DM, infinite is DR. No weight is above √λ / 2.

    References:
        Y. Su, M. Dimakopoulou, A. Krishnamurthy and M. Dudík. Doubly robust off-policy
        evaluation with shrinkage. ICML 2020, https://arxiv.org/abs/1907.09623.
    """
    return _dr(rows, shrunk(rows.weights, limit))


def subgaussian_dr(rows: Rows, shrinkage: float = 0.05) -> Terms:
    """Subgaussian DR: the mean of v + w / (1 − λ + λ·w)·(r − q).

    Args:
        rows: The rows, with values of a model.
        shrinkage: λ, from 0, which is DR, to 1.

    References:
        A. M. Metelli, A. Russo and M. Restelli. Subgaussian and differentiable
        importance sampling for off-policy evaluation and learning. NeurIPS 2021.
    """
    return _dr(rows, subgaussian(rows.weights, shrinkage))


def mrdr(rows: Rows) -> Terms:
    """More robust DR: the mean of v + w·(r − q), of a model that was fitted for it.

    Args:
        rows: The rows, with values of a model that was fitted with `mrdr_weights`.

    References:
        M. Farajtabar, Y. Chow and M. Ghavamzadeh. More robust doubly robust off-policy
        evaluation. ICML 2018, https://arxiv.org/abs/1802.03493.
    """
    return _dr(rows, rows.weights)


def shrunk(weights: FloatArray, limit: float) -> FloatArray:
    """Return λ·w / (w² + λ).

    Raises:
        ValueError: If λ is below 0 or not a number.
    """
    if not limit >= 0:
        raise ValueError(f"limit must be 0 or more, not {limit}")
    if limit == 0 or math.isinf(limit):
        return weights if limit else np.zeros_like(weights)
    return limit * weights / (weights * weights + limit)


def mrdr_weights(targets: FloatArray, propensities: FloatArray) -> FloatArray:
    """Return how much each row counts when a reward model is fitted for DR.

    A model for `mrdr` makes the variance of DR small, not its own error. Given a
    context that variance is E[w²·(r − q)²] less the square of the mean error: for a
    target that always takes one action exactly a squared error in which each row counts
    w²·(1 − p). For others this is the part that does not mix actions.

    They are for `weights` of `policies.reward_model.cross_fit`.

    Args:
        targets: The target policy's probability of the action taken, shape (n,).
        propensities: The logging policy's, shape (n,), each in (0, 1].

    Returns:
        w²·(1 − p), shape (n,).

    Examples:
        >>> mrdr_weights(np.array([1.0, 0.0]), np.array([0.5, 0.5]))
        array([2., 0.])
    """
    return (targets / propensities) ** 2 * (1.0 - propensities)


def _dr(rows: Rows, weights: FloatArray) -> Terms:
    errors = rows.rewards - column(rows, "logged_values")
    errors *= weights
    errors += column(rows, "target_values")
    return Terms(added=errors)
