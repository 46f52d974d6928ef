"""Logs that several policies have made, as every log of a service that learns.

Plain IPS divides by the propensity of the policy that happened to decide. That is
unbiased, and needlessly noisy where a policy of old hardly ever did what the target
does: what the others would have done there is known too.
"""

from __future__ import annotations

import numpy as np

from policies.estimators.base import Rows, Terms, column
from policies.model import FloatArray

__all__ = ["logger_shares", "mixture_propensities", "multi_ips"]


def mixture_propensities(by_logger: FloatArray, shares: FloatArray) -> FloatArray:
    """Return how likely the log as a whole was to hold each action taken.

    Weights over these make IPS the balanced estimator of several loggers, and every
    other estimator better behaved (balanced IPS, of the paper that `multi_ips` cites).

    Args:
        by_logger: Each logging policy's probability of the action taken, whoever
            decided, shape (n, n_loggers).
        shares: The share of the rows that each has logged, shape (n_loggers,).

    Returns:
        Σ share·probability, shape (n,).

    Raises:
        ValueError: If the shapes do not fit, or the shares do not sum to 1.

    Examples:
        >>> mixture_propensities(np.array([[0.1, 0.5]]), np.array([0.75, 0.25]))
        array([0.2])
    """
    if by_logger.ndim != 2 or by_logger.shape[1:] != shares.shape:
        raise ValueError(
            f"by_logger must be (n, n_loggers) and shares (n_loggers,), not"
            f" {by_logger.shape} and {shares.shape}"
        )
    if abs(float(shares.sum()) - 1.0) > 1e-9:
        raise ValueError(f"shares must sum to 1, not {shares.sum()}")
    return np.asarray(by_logger @ shares)


def multi_ips(rows: Rows, shares: FloatArray | None = None) -> Terms:
    """Weighted IPS: each logger counts by how well it can tell, Σ λ_k · mean_k of w·r.

    The rows of a logger whose weighted rewards vary much count little. The counts are
    taken from the same rows, which biases by O(1/n).

    Args:
        rows: The rows, with `loggers`.
        shares: λ, shape (n_loggers,), summing to 1; `logger_shares` of these rows
            without, and then parts of a log do not add up.

    References:
        A. Agarwal, S. Basu, T. Schnabel and T. Joachims. Effective evaluation using
        logged bandit feedback from multiple loggers. KDD 2017,
        https://arxiv.org/abs/1703.06180.
    """
    loggers = column(rows, "loggers")
    weighted = rows.weights * rows.rewards
    if shares is None:
        shares = logger_shares(rows)
    counts = np.bincount(loggers, minlength=len(shares))
    return Terms(added=(shares / np.maximum(counts, 1))[loggers] * len(rows) * weighted)


def logger_shares(rows: Rows) -> FloatArray:
    """Return how much each logger is to count: by the inverse of its variance.

    A logger with one row, or with rewards that do not vary, has no variance to go by;
    where there is one, all count by their number of rows.

    Returns:
        λ, shape (n_loggers,), summing to 1.
    """
    loggers = column(rows, "loggers")
    weighted = rows.weights * rows.rewards
    counts = np.bincount(loggers).astype(float)
    means = np.bincount(loggers, weighted) / np.maximum(counts, 1)
    spread = np.bincount(loggers, (weighted - means[loggers]) ** 2)
    seen = counts > 0
    if (spread[seen] <= 0).any():
        return np.asarray(counts / counts.sum())
    precision = np.zeros_like(counts)
    precision[seen] = counts[seen] ** 2 / spread[seen]  # Over the variance of a mean.
    return np.asarray(precision / precision.sum())
