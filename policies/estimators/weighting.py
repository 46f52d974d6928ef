"""Estimators that weigh what was observed by how likely the target made it."""

from __future__ import annotations

from policies.estimators.base import Rows, Terms

__all__ = ["ips", "snips"]


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
