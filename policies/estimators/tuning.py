"""Choosing from the log itself: a parameter of an estimator, or an estimator.

All of it weighs bias against variance, and the bias is what cannot be seen: it is
bounded, or told from an estimate that has none. With little data the choice is itself
noisy, and the interval of what was chosen knows nothing of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import NormalDist
from typing import TypeVar

import msgspec
import numpy as np

from policies.estimators.base import Rows, Terms, column
from policies.estimators.named import ESTIMATORS, Estimator

__all__ = [
    "Choice",
    "choose_estimator",
    "choose_terms",
    "mse_bound",
    "tune_by_mse",
    "tune_by_slope",
]

_Key = TypeVar("_Key", float, str)
_SLOPE = math.sqrt(6.0) - 1.0


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """What was chosen, and the numbers it was chosen by.

    Attributes:
        value: The parameter, or the name of the estimator.
        terms: What the estimator makes of the rows with it.
        scores: By candidate: half the width of an interval for `tune_by_slope`, a bound
            of the mean squared error for `tune_by_mse`, an estimate of it for
            `choose_estimator`.
    """

    value: float | str
    terms: Terms
    scores: dict[float | str, float]


def tune_by_slope(
    estimator: str,
    rows: Rows,
    candidates: Sequence[float] | None = None,
    *,
    delta: float = 0.1,
) -> Choice:
    """Choose a parameter by SLOPE++: the calmest whose interval fits all noisier ones.

    Candidates are taken from the widest interval to the narrowest, as long as each
    estimate is within its own half width plus (√6 − 1) times that of every one before.

    Args:
        estimator: Its name.
        rows: The rows.
        candidates: What to choose from; those that the estimator has without.
        delta: How often one side of an interval may fail, in (0, 1).

    Raises:
        ValueError: If there is no such estimator, it has no parameter, or there is no
            candidate.

    References:
        Y. Su, P. Srinath and A. Krishnamurthy. Adaptive estimator selection for
        off-policy evaluation. ICML 2020, https://arxiv.org/abs/2002.07729 (SLOPE).

        G. Tucker and J. Lee. Improved estimator selection for off-policy evaluation.
        Workshop on reinforcement learning theory at ICML 2021 (without an order of the
        candidates that is given).
    """
    kind, values = _kind(estimator, candidates)
    quantile = NormalDist().inv_cdf(1.0 - delta)
    made = {value: kind.at(value)(rows) for value in values}
    halves: dict[float | str, float] = {
        value: quantile * math.sqrt(_variance(terms)) for value, terms in made.items()
    }
    order = sorted(values, key=lambda value: -halves[value])
    chosen = order[0]
    for place, value in enumerate(order[1:], start=1):
        near = all(
            abs(made[value].value - made[before].value)
            <= halves[value] + _SLOPE * halves[before]
            for before in order[:place]
        )
        if not near:
            break
        chosen = value
    return Choice(value=chosen, terms=made[chosen], scores=halves)


def tune_by_mse(
    estimator: str,
    rows: Rows,
    candidates: Sequence[float] | None = None,
    *,
    delta: float = 0.1,
) -> Choice:
    """Choose the parameter with the least bound of the mean squared error.

    Args:
        estimator: Its name.
        rows: The rows.
        candidates: As for `tune_by_slope`; of equal bounds the first is chosen.
        delta: How often the bound of the bias may fail, in (0, 1).

    Raises:
        ValueError: As for `tune_by_slope`, and if the estimator changes more than
            weights.
    """
    _, values = _kind(estimator, candidates)
    scores: dict[float | str, float] = {
        value: mse_bound(estimator, rows, value, delta=delta) for value in values
    }
    chosen = min(values, key=lambda value: scores[value])
    terms = ESTIMATORS[estimator].at(chosen)(rows)
    return Choice(value=chosen, terms=terms, scores=scores)


def mse_bound(estimator: str, rows: Rows, value: float, *, delta: float = 0.1) -> float:
    """Return variance plus the square of a bound of the bias, that holds 1 − δ.

    The bias is |mean of (w − ŵ)·(r − q)|, ŵ being the changed weights, and Bernstein's
    inequality bounds by how much the mean may miss.

    Raises:
        ValueError: As for `tune_by_mse`.

    References:
        Y. Su, M. Dimakopoulou, A. Krishnamurthy and M. Dudík. Doubly robust off-policy
        evaluation with shrinkage. ICML 2020, section 5,
        https://arxiv.org/abs/1907.09623.
    """
    kind, _ = _kind(estimator, [value])
    tunable = kind.tunable
    if tunable is None or tunable.weights is None:
        raise ValueError(f"{estimator} changes more than weights")
    errors = rows.rewards
    if "logged_values" in kind.needs:
        errors = errors - column(rows, "logged_values")
    weights = rows.weights
    changed = weights - tunable.weights(weights, value)
    n = len(weights)
    miss = math.log(2.0 / delta)
    bias = (
        abs(float((changed * errors).mean()))
        + math.sqrt(2.0 * float((weights * weights).mean()) * miss / n)
        + 2.0 * float(weights.max()) * miss / (3.0 * n)
    )
    return _variance(kind.at(value)(rows), lost=0) + bias * bias


def choose_estimator(
    rows: Rows,
    candidates: Mapping[str, Callable[[Rows], Terms]],
    *,
    unbiased: str | None = None,
) -> Choice:
    """Choose the estimator with the least estimated mean squared error.

    The error of each is its variance plus the square of its bias. The bias is its
    distance from one that has none, on the same rows, so that what moves both is no
    noise. The square of a noisy distance is too large by the variance of that
    distance, which is taken off again:

        max(0, (V − V₀)² − Var(V − V₀)) + Var(V)

    It is a simple rule: no other policies are tried, as policy-adaptive selection does,
    and it needs an unbiased candidate that is not hopeless.

    Args:
        rows: The rows.
        candidates: Estimators by name.
        unbiased: The name of the one that has no bias; `dr` if it is among them, else
            `ips`.

    Raises:
        ValueError: If the unbiased one is not among the candidates.
    """
    if unbiased is None:
        unbiased = "dr" if "dr" in candidates else "ips"
    if unbiased not in candidates:
        raise ValueError(f"{unbiased!r} must be one of {', '.join(candidates)}")
    made = {name: estimator(rows) for name, estimator in candidates.items()}
    return choose_terms(made, unbiased)


def choose_terms(made: Mapping[_Key, Terms], unbiased: _Key) -> Choice:
    """Choose as `choose_estimator` does, among terms of the same rows.

    Args:
        made: Terms by the value of a parameter, or by name.
        unbiased: The one of these that has no bias.
    """
    truth = made[unbiased]
    centre = truth.influence
    scores: dict[float | str, float] = {}
    for name, terms in made.items():
        influence = terms.influence
        noise = float(((influence - centre) ** 2).mean()) / len(centre)
        bias = max(0.0, (terms.value - truth.value) ** 2 - noise)
        scores[name] = bias + float((influence**2).mean()) / len(centre)
    chosen = min(made, key=lambda name: scores[name])
    return Choice(value=chosen, terms=made[chosen], scores=scores)


def _kind(
    estimator: str, candidates: Sequence[float] | None
) -> tuple[Estimator, tuple[float, ...]]:
    if estimator not in ESTIMATORS:
        raise ValueError(f"there is no estimator {estimator!r}")
    kind = ESTIMATORS[estimator]
    if kind.tunable is None:
        raise ValueError(f"{estimator} has no parameter to choose")
    values = kind.tunable.candidates if candidates is None else tuple(candidates)
    if not values:
        raise ValueError("there must be a candidate")
    return kind, values


def _variance(terms: Terms, *, lost: int = 1) -> float:
    """Return the variance of the estimate, with so many degrees of freedom lost."""
    influence = terms.influence
    return float(np.mean(influence * influence)) / max(len(influence) - lost, 1)
