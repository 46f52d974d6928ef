"""From probabilities and predictions to rows, a part of the log at a time.

Rows that fit into the processor's cache are weighed several times as fast as a million
at once, and need no memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np

from policies.estimators.base import IntArray, Rows, Sums, Terms
from policies.model import FloatArray

__all__ = ["PART", "parts_of", "rows_of", "sums_of", "target_values"]

PART = 16_384
"""How many rows are weighed at once."""


def rows_of(
    rewards: FloatArray,
    propensities: FloatArray,
    targets: FloatArray,
    *,
    logged_values: FloatArray | None = None,
    target_values: FloatArray | None = None,
) -> Rows:
    """Return rows whose weights are target over logging propensity.

    Args:
        rewards: What each decision earned, shape (n,).
        propensities: The logging policy's probability of the action taken, shape (n,),
            each in (0, 1].
        targets: The target policy's, shape (n,), each in [0, 1].
        logged_values: As of `Rows`.
        target_values: As of `Rows`.

    Raises:
        ValueError: If the shapes differ, or a propensity is not in (0, 1]; the message
            names the first such row.

    Examples:
        >>> rows_of(np.ones(1), np.array([0.25]), np.array([0.5])).weights
        array([2.])
    """
    shapes = {
        np.shape(part)
        for part in (rewards, propensities, targets, logged_values, target_values)
        if part is not None
    }
    if len(shapes) != 1 or len(next(iter(shapes))) != 1:
        raise ValueError(f"each must be (n,), with the same n, not {sorted(shapes)}")
    bad = ~((propensities > 0) & (propensities <= 1))
    if bad.any():
        row = int(np.argmax(bad))
        raise ValueError(
            f"propensities must be in (0, 1]: row {row} is {propensities[row]}"
        )
    return Rows(
        rewards=np.asarray(rewards, dtype=float),
        weights=targets / propensities,
        targets=np.asarray(targets, dtype=float),
        logged_values=logged_values,
        target_values=target_values,
    )


def target_values(
    targets: FloatArray, predictions: FloatArray, offsets: IntArray | None = None
) -> FloatArray:
    """Return what a reward model expects of the target policy in each row.

    Args:
        targets: The target's probability of each eligible action: shape (n, n_actions),
            or those of all rows one after the other.
        predictions: What the model expects of each, of the same shape.
        offsets: Where the actions of each row begin, shape (n + 1,); none where each
            row has all of them.

    Returns:
        Σ target·prediction of each row, shape (n,).

    Examples:
        >>> values = np.array([1.0, 3.0, 5.0])
        >>> target_values(np.array([0.5, 0.5, 1.0]), values, np.array([0, 2, 3]))
        array([2., 5.])
    """
    if offsets is not None:
        rows = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
        sums = np.bincount(rows, targets * predictions, len(offsets) - 1)
        return sums.astype(float)
    return np.asarray(np.einsum("na,na->n", targets, predictions))


def parts_of(
    rewards: FloatArray,
    propensities: FloatArray,
    logged_targets: FloatArray,
    *,
    chosen: IntArray,
    targets: FloatArray,
    predictions: FloatArray,
    part: int = PART,
) -> Iterator[Rows]:
    """Yield the rows of a log in parts, with the values of a reward model.

    Args:
        rewards: What each decision earned, shape (n,).
        propensities: The logging policy's probability of the action taken, shape (n,).
        logged_targets: The target policy's, shape (n,).
        chosen: The action taken, shape (n,), from 0.
        targets: The target policy's probability of each action, shape (n, n_actions).
        predictions: What the model expects of each, shape (n, n_actions).
        part: How many rows at once.
    """
    firsts = np.arange(min(part, len(rewards))) * predictions.shape[1]
    for start in range(0, len(rewards), part):
        here = slice(start, start + part)
        values = predictions[here]
        yield rows_of(
            rewards[here],
            propensities[here],
            logged_targets[here],
            logged_values=values.ravel().take(firsts[: len(values)] + chosen[here]),
            target_values=target_values(targets[here], values),
        )


def sums_of(
    estimators: Mapping[str, Callable[[Rows], Terms]], parts: Iterable[Rows]
) -> dict[str, Sums]:
    """Return what several estimators make of a log that is read in parts.

    Args:
        estimators: By any names; none that looks at the whole log before it weighs.
        parts: The rows.

    Returns:
        By the same names; `value` of each is its estimate.

    Examples:
        >>> from policies.estimators import ESTIMATORS
        >>> part = Rows(rewards=np.array([1.0, 0.0]), weights=np.array([1.5, 0.5]))
        >>> sums_of({"ips": ESTIMATORS["ips"]}, [part, part])["ips"].value
        0.75
    """
    totals = {name: Sums(n=0) for name in estimators}
    for rows in parts:
        for name, estimator in estimators.items():
            totals[name] += estimator(rows).sums
    return totals
