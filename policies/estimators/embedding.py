"""Estimators for many actions, that weigh kinds of actions instead of each.

With a thousand actions the log hardly ever holds what the target would do; an action of
the same kind it holds often. The kinds are categories of offers, clusters, or anything
that says most of what an action earns.
"""

from __future__ import annotations

import numpy as np

from policies.estimators.base import IntArray, Rows, Terms, column
from policies.model import FloatArray

__all__ = ["cluster_weights", "marginal_weights", "mips", "offcem"]


def mips(rows: Rows) -> Terms:
    """Marginalised inverse propensity scores: the mean of w(e)·r.

    w(e) is target over logging probability of the kind e of the action taken. Unbiased
    where actions of a kind earn the same.

    References:
        Y. Saito and T. Joachims. Off-policy evaluation for large action spaces via
        embeddings. ICML 2022, https://arxiv.org/abs/2202.06317.
    """
    return Terms(added=column(rows, "cluster_weights") * rows.rewards)


def offcem(rows: Rows) -> Terms:
    """Conjunct effects: the mean of v + w(e)·(r − q).

    Kinds are weighed, and a model tells the actions of a kind apart. Unbiased where the
    model has the differences within each kind right.

    References:
        Y. Saito, Q. Ren and T. Joachims. Off-policy evaluation for large action spaces
        via conjunct effect modeling. ICML 2023, https://arxiv.org/abs/2305.08062.
    """
    errors = rows.rewards - column(rows, "logged_values")
    weighted = column(rows, "cluster_weights") * errors
    return Terms(added=column(rows, "target_values") + weighted)


def cluster_weights(
    targets: FloatArray,
    probabilities: FloatArray,
    kinds: IntArray,
    offsets: IntArray,
    chosen: IntArray,
) -> FloatArray:
    """Return target over logging probability of the kind of each action taken.

    The eligible actions of row i are `[offsets[i]:offsets[i + 1]]` of the first three.

    Args:
        targets: The target's probability of each eligible action, shape (m,).
        probabilities: The logging policy's, shape (m,).
        kinds: The kind of each, shape (m,).
        offsets: Where the actions of each row begin, shape (n + 1,).
        chosen: The kind of the action taken, shape (n,).

    Returns:
        Shape (n,); not finite where the log gives the kind no chance.

    Examples:
        >>> cluster_weights(
        ...     np.array([0.5, 0.5, 0.0]),
        ...     np.array([0.2, 0.3, 0.5]),
        ...     np.array([0, 0, 1]),
        ...     np.array([0, 3]),
        ...     np.array([0]),
        ... )
        array([2.])
    """
    same = kinds == np.repeat(chosen, np.diff(offsets))
    starts = offsets[:-1]
    return np.asarray(
        np.add.reduceat(np.where(same, targets, 0.0), starts)
        / np.add.reduceat(np.where(same, probabilities, 0.0), starts)
    )


def marginal_weights(
    targets: FloatArray,
    probabilities: FloatArray,
    embedding: FloatArray,
    observed: IntArray,
) -> FloatArray:
    """Return target over logging probability of each embedding that was observed.

    Args:
        targets: The target's probability of each action, shape (n, n_actions).
        probabilities: The logging policy's, shape (n, n_actions).
        embedding: How likely each action shows itself as each embedding, shape
            (n_actions, n_embeddings), each row summing to 1.
        observed: As which the action taken showed itself, shape (n,).

    Returns:
        Shape (n,).
    """
    rows = np.arange(len(observed))
    shown = embedding[:, observed].T
    return np.asarray(
        np.einsum("na,na->n", targets, shown)[rows]
        / np.einsum("na,na->n", probabilities, shown)[rows]
    )
