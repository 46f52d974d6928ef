"""Estimators that keep the decisions which the target would have made too.

What is kept is as if the target had decided. For policies that learn meanwhile there is
`policies.estimators.learning`.
"""

from __future__ import annotations

from policies.estimators.base import Rows, Terms, column

__all__ = ["rejection", "replay"]


def replay(rows: Rows) -> Terms:
    """The mean reward where the target agrees with the log: Σ π(a)·r / Σ π(a).

    Right only where the log chose uniformly: it does not use propensities. Where the
    target draws, this is the mean over all its draws.

    References:
        L. Li, W. Chu, J. Langford and X. Wang. Unbiased offline evaluation of
        contextual-bandit-based news article recommendation algorithms. WSDM 2011,
        https://arxiv.org/abs/1003.5956.
    """
    targets = column(rows, "targets")
    return Terms(over=targets * rows.rewards, under=targets)


def rejection(rows: Rows, weight_max: float | None = None) -> Terms:
    """Rejection sampling: the mean of r where a row is accepted, with chance w / w_max.

    What is accepted is a sample of the target's own decisions, to be used by whatever
    needs one. As an estimate it is SNIPS with the noise of the draws added.

    Args:
        rows: The rows, with `draws`.
        weight_max: The largest weight that any row could have had; the largest seen
            without it, and then parts of a log do not add up.

    Raises:
        ValueError: If a weight is above it.

    References:
        M. Dudík, D. Erhan, J. Langford and L. Li. Sample-efficient nonstationary policy
        evaluation for contextual bandits. UAI 2012, https://arxiv.org/abs/1210.4862.
    """
    largest = float(rows.weights.max())
    if weight_max is None:
        weight_max = largest
    elif largest > weight_max * (1 + 1e-9):
        raise ValueError(f"weights must be at most {weight_max}: one is {largest}")
    accepted = (column(rows, "draws") * weight_max < rows.weights).astype(float)
    return Terms(over=accepted * rows.rewards, under=accepted)
