"""Student's interval, with the worst row that could have been logged for each bound.

Weights are 1 on average. What those seen have too much or too little of is taken off a
mean (regression on a control variate), and of the noise that the interval allows for,
as much is used up as it takes to explain it. This is the likelihood interval of
Karampatziakis et al., made of clusters instead of rows, so that rows of one user are no
more independent than they are, and for any estimator instead of one. A mean of rewards
that are all the same leaves no doubt.

A ratio to anything but the weights has Fieller's interval, so that what makes numerator
and denominator large together does not widen it.

References:
    E. C. Fieller. Some problems in interval estimation. JRSS B 16, 1954.

    N. Karampatziakis, J. Langford and P. Mineiro. Empirical likelihood for
    contextual bandits. NeurIPS 2020, https://arxiv.org/abs/1906.03323.
"""

from __future__ import annotations

import math
from typing import cast

import numpy as np

from policies.intervals.base import Clusters, Interval, Row, Worst
from policies.intervals.special import normal_quantile, t_quantile
from policies.model import FloatArray

__all__ = ["gaussian", "influence", "spread", "standard_error", "student"]

_EQUAL = 1e-12


def student(clusters: Clusters, worst: Worst, confidence: float) -> Interval:
    """Return Student's interval; endless where there are too few clusters.

    Args:
        clusters: The sums of the terms.
        worst: The rows that each bound is computed with.
        confidence: How often it is to hold the true value, in (0, 1).
    """
    return spread(clusters, worst, t_quantile(confidence, clusters.occupied))


def gaussian(clusters: Clusters, confidence: float) -> Interval:
    """Return the interval of a normal approximation, which knows of no other row.

    It is too short where few rows decide. Other tools print it.
    """
    half = normal_quantile(confidence) * standard_error(clusters)
    return clusters.value - half, clusters.value + half


def spread(clusters: Clusters, worst: Worst, width: float) -> Interval:
    """Return the interval of so many standard errors, with the worst rows."""
    if clusters.mean is None:
        low, _ = _of_ratio(clusters.with_row(worst.low), width)
        _, high = _of_ratio(clusters.with_row(worst.high), width)
        return low, high
    low, _ = _of_mean(clusters, worst.low, width)
    _, high = _of_mean(clusters, worst.high, width)
    return low, high


def standard_error(clusters: Clusters) -> float:
    """Return the standard deviation of the value, as far as the clusters can tell."""
    return _error(influence(clusters), clusters.n)


def influence(clusters: Clusters, *, controlled: bool = False) -> FloatArray:
    """Return what each cluster moves the value by, times the number of rows.

    Args:
        clusters: The sums of the terms.
        controlled: Whether to take off what the weights explain of a mean.

    Returns:
        Shape (k,), in the unit of the rewards; their sum is 0.
    """
    n = clusters.n.sum()
    if controlled and clusters.mean is not None:
        rest = _centred(clusters.mean, clusters.n)
        if clusters.weights is not None:
            centred = _centred(clusters.weights, clusters.n)
            rest = rest - _slope(rest, centred, clusters.weights) * centred
        return rest
    moved = np.zeros_like(clusters.n)
    if clusters.added is not None:
        moved = _centred(clusters.added, clusters.n)
    if clusters.over is not None and clusters.under is not None:
        under = clusters.under.sum()
        ratio = clusters.over.sum() / under if under else 0.0
        rest = clusters.over - ratio * clusters.under
        moved = moved + rest * (n / under if under else np.inf)
    return moved


def _of_mean(clusters: Clusters, row: Row, width: float) -> Interval:
    """Return the interval of a mean of terms, with one more row."""
    augmented = clusters.with_row(row)
    terms, n = cast("FloatArray", augmented.mean), augmented.n
    weights = clusters.weights
    value = float(terms.sum() / n.sum())
    rest = _centred(terms, n)
    squares = width * width
    if (
        augmented.weights is not None
        and weights is not None
        and _varied(weights, clusters.n)
    ):
        centred = _centred(augmented.weights, n)
        slope = _slope(rest, centred, augmented.weights)
        rest = rest - slope * centred
        value -= slope * float(augmented.weights.sum() / n.sum() - 1)
        misfit = _misfit(augmented.weights, n)
        squares += min(_misfit(weights, clusters.n), misfit) - misfit
    half = math.sqrt(max(squares, 0.0)) * _error(rest, n)
    return value - half, value + half


def _varied(weights: FloatArray, n: FloatArray) -> bool:
    """Return whether weights say anything: one row that was made up does not."""
    centred = _centred(weights, n)
    return float(centred @ centred) > _EQUAL * float(weights @ weights)


def _misfit(weights: FloatArray, n: FloatArray) -> float:
    """Return how many standard errors the mean weight is from 1, squared."""
    off = float(weights.sum() / n.sum()) - 1
    error = _error(_centred(weights, n), n)
    return (off / error) ** 2 if error > _EQUAL else 0.0


def _centred(column: FloatArray, n: FloatArray) -> FloatArray:
    """Return how much each cluster has above the mean, per row that it has."""
    centred: FloatArray = column - column.sum() / n.sum() * n
    return centred


def _slope(rest: FloatArray, centred: FloatArray, weights: FloatArray) -> float:
    """Return how much of the rest goes along with the centred weights."""
    squares = float(centred @ centred)
    if squares <= _EQUAL * float(weights @ weights):
        return 0.0
    return float(rest @ centred) / squares


def _of_ratio(clusters: Clusters, width: float) -> Interval:
    """Return all values V for which the numerator of V − value could be 0.

    With a the mean of what is added, A and B those over and under the ratio: the V with
    (A − (V − a)·B)² ≤ width²·Var, a quadratic in V − a. What is added varies too, and
    moves A by as much as it moves V·B.
    """
    over, under = cast("FloatArray", clusters.over), cast("FloatArray", clusters.under)
    n = clusters.n
    rows = n.sum()
    b = under.sum() / rows
    # Centred at the value, all is around 0, and free of cancellation.
    ratio = over.sum() / under.sum() if b else 0.0
    over = over - ratio * under
    added = 0.0
    if clusters.added is not None:
        added = clusters.added.sum() / rows
        over = over + (clusters.added - added * n) * b
    a = over.sum() / rows
    u, v = _centred(over, n), _centred(under, n)
    scale = width * width * _factor(n) / (rows * rows)
    # Coefficients of V², −2V and 1.
    c2 = b * b - scale * (v @ v)
    c1 = a * b - scale * (u @ v)
    c0 = a * a - scale * (u @ u)
    if not c2 > 0:
        return -math.inf, math.inf
    half = math.sqrt(max(c1 * c1 - c2 * c0, 0.0))
    centre = added + ratio
    return float(centre + (c1 - half) / c2), float(centre + (c1 + half) / c2)


def _error(moved: FloatArray, n: FloatArray) -> float:
    return math.sqrt(float(moved @ moved) * _factor(n)) / float(n.sum())


def _factor(n: FloatArray) -> float:
    """Return k/(k − 1) of k clusters, without which the variance is too small."""
    count = int(np.count_nonzero(n))
    return count / max(count - 1, 1)
