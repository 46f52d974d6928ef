"""The bootstrap over clusters: draw as many as there are, with replacement, again.

All estimators of a log are drawn at once, ratios with their denominators, so that a
thousand draws of a million rows in 2,000 shards take a tenth of a second. To each bound
the worst row that could have been logged is drawn along: a bootstrap knows of no row
that is not there.

References:
    B. Efron and R. J. Tibshirani. An introduction to the bootstrap. Chapman and Hall,
    1993.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from policies.intervals.base import Clusters, Interval, Worst
from policies.intervals.mixing import below, stream
from policies.model import FloatArray

__all__ = ["RESAMPLES", "bootstrap", "draws"]

RESAMPLES = 1_000
"""How often to draw."""

_CELLS_MAX = 500_000
"""Counts that are held at once: 4 MB, which stay near the processor."""


def bootstrap(
    clusters: Sequence[Clusters],
    worst: Sequence[Worst],
    confidence: float,
    *,
    seed: int,
    resamples: int = RESAMPLES,
) -> list[Interval]:
    """Return the percentile interval of each of several estimators of the same rows.

    Args:
        clusters: The sums of the terms of each, over the same clusters.
        worst: The rows that the bounds of each are computed with.
        confidence: How often an interval is to hold the true value, in (0, 1).
        seed: Of the draws, 0 or more.
        resamples: How often to draw.
    """
    table = np.column_stack([column for one in clusters for column in _columns(one)])
    table = table[clusters[0].n > 0]
    values: list[list[FloatArray]] = [[] for _ in range(2 * len(clusters))]
    for counts in draws(len(table) + 1, resamples, seed):
        sums, extra = counts[:, :-1] @ table, counts[:, -1:]
        for place, (one, rows) in enumerate(zip(clusters, worst, strict=True)):
            mine = sums[:, 4 * place : 4 * place + 4]
            for end, row in enumerate(rows):
                drawn = mine + extra * np.array([1.0, row.added, row.over, row.under])
                values[2 * place + end].append(_values(drawn, one))
    tail = (1 - confidence) / 2
    return [
        (
            _quantile(np.concatenate(values[2 * place]), tail, "lower"),
            _quantile(np.concatenate(values[2 * place + 1]), 1 - tail, "higher"),
        )
        for place in range(len(clusters))
    ]


def draws(n: int, resamples: int, seed: int) -> Iterator[FloatArray]:
    """Draw n of n with replacement, again and again.

    Yields:
        How often each was drawn, in parts of shape (some of the draws, n).
    """
    size = max(1, _CELLS_MAX // n)
    for first in range(0, resamples, size):
        some = min(size, resamples - first)
        hashes = stream(seed, first * n, some * n)
        drawn = below(hashes, n).reshape(some, n)
        drawn += np.arange(some)[:, np.newaxis] * n
        counts = np.bincount(drawn.ravel(), minlength=some * n)
        yield counts.reshape(some, n).astype(float)


def _columns(clusters: Clusters) -> list[FloatArray]:
    none = np.zeros_like(clusters.n)
    return [
        clusters.n,
        none if clusters.added is None else clusters.added,
        none if clusters.over is None else clusters.over,
        none if clusters.under is None else clusters.under,
    ]


def _values(drawn: FloatArray, clusters: Clusters) -> FloatArray:
    n, added, over, under = drawn.T
    values: FloatArray = added / n
    if clusters.under is None:
        return values
    # Where nothing was drawn that counts, a draw says nothing.
    with np.errstate(divide="ignore", invalid="ignore"):
        values += np.where(under > 0, over / under, np.nan)
    return values


def _quantile(values: FloatArray, share: float, method: str) -> float:
    found = values[~np.isnan(values)]
    if not len(found):
        return float("nan")
    return float(np.quantile(found, share, method=method))  # type: ignore[call-overload]
