"""Estimators that weigh what was observed by how likely the target made it."""

from __future__ import annotations

import numpy as np

from policies.estimators.base import Rows, Terms, column
from policies.model import FloatArray

__all__ = [
    "clipped",
    "clipped_ips",
    "exponential",
    "ips",
    "snips",
    "subgaussian",
    "subgaussian_ips",
    "switch_ips",
    "switched",
]


def ips(rows: Rows) -> Terms:
    """Inverse propensity scores: the mean of w·r.

    Unbiased where the logging policy may choose all that the target may, and noisy.

    References:
        D. G. Horvitz and D. J. Thompson. A generalization of sampling without
        replacement from a finite universe. JASA 47, 1952.
    """
    return Terms(added=rows.weights * rows.rewards)


def snips(rows: Rows) -> Terms:
    """Self-normalised inverse propensity scores: Σ w·r / Σ w.

    Biased by O(1/n), and never outside of the rewards seen.

    References:
        A. Swaminathan and T. Joachims. The self-normalized estimator for counterfactual
        learning. NeurIPS 2015.
    """
    return Terms(over=rows.weights * rows.rewards, under=rows.weights)


def clipped_ips(rows: Rows, limit: float = 10.0) -> Terms:
    """IPS with no weight above a limit: the mean of min(w, λ)·r.

    Calm, and too small where the target likes what the log seldom tried.

    Args:
        rows: The rows.
        limit: λ, the largest weight, 0 or more; infinite is IPS.

    References:
        E. L. Ionides. Truncated importance sampling. Journal of Computational and
        Graphical Statistics 17, 2008.
    """
    return Terms(added=clipped(rows.weights, limit) * rows.rewards)


def switch_ips(rows: Rows, limit: float = 10.0) -> Terms:
    """IPS of the rows with weights up to a limit: the mean of 1[w ≤ λ]·w·r.

    Switch-DR with a reward model that expects nothing.

    Args:
        rows: The rows.
        limit: λ, above which a row counts as nothing, 0 or more; infinite is IPS.

    References:
        Y.-X. Wang, A. Agarwal and M. Dudík. Optimal and adaptive off-policy evaluation
        in contextual bandits. ICML 2017, https://arxiv.org/abs/1612.01205.
    """
    return Terms(added=switched(rows.weights, limit) * rows.rewards)


def subgaussian_ips(rows: Rows, shrinkage: float = 0.05) -> Terms:
    """Subgaussian IPS: the mean of w / (1 − λ + λ·w)·r.

    The weight is a power mean of w and 1; errors have the tails of a normal
    distribution.

    Args:
        rows: The rows.
        shrinkage: λ, from 0, which is IPS, to 1, which is the mean of the rewards
            where the target could have made the choice.

    References:
        A. M. Metelli, A. Russo and M. Restelli. Subgaussian and differentiable
        importance sampling for off-policy evaluation and learning. NeurIPS 2021.
    """
    return Terms(added=subgaussian(rows.weights, shrinkage) * rows.rewards)


def exponential(rows: Rows, power: float = 0.7) -> Terms:
    """Exponential smoothing: the mean of π(a) / p^α · r.

    Smooth in the propensity, where clipping has a corner.

    Args:
        rows: The rows, with `targets`.
        power: α, from 0, which is the mean of π(a)·r, to 1, which is IPS.

    References:
        I. Aouali, V.-E. Brunel, D. Rohde and A. Korba. Exponential smoothing for
        off-policy learning. ICML 2023, https://arxiv.org/abs/2305.15877.
    """
    targets = column(rows, "targets")
    _between(power, "power")
    # π / p^α, of w = π / p.
    return Terms(added=rows.weights**power * targets ** (1.0 - power) * rows.rewards)


def clipped(weights: FloatArray, limit: float) -> FloatArray:
    """Return min(w, λ).

    Raises:
        ValueError: If the limit is below 0 or not a number.
    """
    _at_least_0(limit, "limit")
    return np.minimum(weights, limit)


def switched(weights: FloatArray, limit: float) -> FloatArray:
    """Return 1[w ≤ λ]·w.

    Raises:
        ValueError: As for `clipped`.
    """
    _at_least_0(limit, "limit")
    return weights * (weights <= limit)


def subgaussian(weights: FloatArray, shrinkage: float) -> FloatArray:
    """Return w / (1 − λ + λ·w), and 0 where w is 0.

    Raises:
        ValueError: If λ is not from 0 to 1.
    """
    _between(shrinkage, "shrinkage")
    if shrinkage == 1.0:
        return (weights > 0).astype(float)
    return weights / (1.0 - shrinkage + shrinkage * weights)


def _at_least_0(value: float, name: str) -> None:
    if not value >= 0:
        raise ValueError(f"{name} must be 0 or more, not {value}")


def _between(value: float, name: str) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must be from 0 to 1, not {value}")
