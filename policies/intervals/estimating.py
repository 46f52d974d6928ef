"""From terms to an estimate: which interval, with which verdict.

**The default** is Student's interval with the worst row (`policies.intervals.student`),
the narrowest of those that hold wherever they were tried
(`docs/explanation/intervals.md`). Of an estimator that is biased by design (a direct
model, clipped weights) no interval around its value can hold what is true: its interval
is that of an estimator without bias of the same rows, the reference, stretched to hold
the value.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from policies.estimators import Terms
from policies.intervals.base import Clusters, Estimate, Interval, Worst, columns
from policies.intervals.bernstein import bernstein
from policies.intervals.bootstrap import bootstrap
from policies.intervals.likelihood import Moments, cressie_read
from policies.intervals.rates import clopper_pearson, wilson
from policies.intervals.sequential import gamma_exponential, mixture
from policies.intervals.special import normal_quantile
from policies.intervals.student import spread, standard_error, student
from policies.intervals.sums import (
    Sums,
    largest_weight,
    rewards_within,
    rows_of,
    usual_worst,
)
from policies.model import FloatArray
from policies.overlap import Assessment, Overlap, OverlapSettings, assess, worse

__all__ = ["KINDS", "Kind", "estimate", "estimate_sums", "mean_of", "rate_of"]

Kind = Literal[
    "default",
    "student",
    "bootstrap",
    "likelihood",
    "bernstein",
    "always_valid",
    "sequence",
]

KINDS: tuple[Kind, ...] = get_args(Kind)
"""What an interval may be asked for as."""


class _Subject(NamedTuple):
    """What there is to make an interval of."""

    clusters: Clusters
    worst: Worst
    overlap: Overlap
    moments: Moments
    weight_max: float
    reward_range: tuple[float, float]
    reward_range_known: bool
    rows: tuple[FloatArray, FloatArray] | None = None


def estimate(
    terms: Terms,
    keys: NDArray[np.uint64] | None = None,
    *,
    weights: FloatArray,
    rewards: FloatArray,
    weight_max: float | None = None,
    reward_range: tuple[float, float] | None = None,
    worst: Terms | None = None,
    reference: Terms | None = None,
    reference_worst: Terms | None = None,
    confidence: float = 0.95,
    kind: Kind = "default",
    seed: int = 0,
    settings: OverlapSettings | None = None,
) -> Estimate:
    """Estimate what a policy earns from the terms of rows in memory.

    Args:
        terms: What an estimator made of the rows.
        keys: Whom each row is of, shape (n,), uint64: rows of one user count as one
            cluster. Each row is by itself without them.
        weights: Target over logging propensity of the action taken, shape (n,), each 0
            or more.
        rewards: What each earned, shape (n,), any unit.
        weight_max: The largest weight that any decision could have had: the largest of
            target propensity over floor of exploration. Without it twice the largest
            seen, which is a guess, and a bad one where the target likes what the log
            has hardly tried.
        reward_range: The smallest and the largest reward possible. Without it those
            seen: right for rewards of 0 and 1, a guess for amounts of money.
        worst: What the estimator makes of `worst_rows`. Without it that of weights and
            rewards alone, which is right for estimators without a model.
        reference: For an estimator that is biased by design: what one without bias made
            of the same rows.
        reference_worst: What that one makes of `worst_rows`.
        confidence: How often the interval is to hold the true value, in (0, 1). Each
            end by itself holds with (1 + confidence) / 2: 0.9 gives bounds of 95 %.
        kind: One of `KINDS`.
        seed: Of a bootstrap's draws.
        settings: What a log must have for a verdict.

    Raises:
        ValueError: If the shapes differ, there is no row, a number is not finite, a
            weight is negative or above `weight_max`, a reward outside of
            `reward_range`, or nothing is under a ratio; the message names the first
            such row.

    Examples:
        >>> import numpy as np
        >>> from policies.estimators import Rows, snips
        >>> rewards, weights = np.array([1.0, 0.0]), np.array([2.0, 2.0])
        >>> terms = snips(Rows(rewards=rewards, weights=weights))
        >>> estimate(terms, weights=weights, rewards=rewards).value
        0.5
    """
    if keys is not None:
        parts = {"it": terms} if reference is None else {"it": terms, "by": reference}
        sums = Sums.of(
            parts,
            keys,
            weights=weights,
            rewards=rewards,
            weight_max=weight_max,
            reward_range=reward_range,
        )
        rows = (np.asarray(weights, float), np.asarray(rewards, float))
        return estimate_sums(
            sums,
            "it",
            worst=worst,
            reference=None if reference is None else "by",
            reference_worst=reference_worst,
            confidence=confidence,
            kind=kind,
            seed=seed,
            settings=settings,
            rows=rows,
        )
    given = columns(rewards=rewards, weights=weights)
    rewards, weights = given["rewards"], given["weights"]
    w_max = largest_weight(weights, weight_max)
    r_range = rewards_within(rewards, reward_range)

    def subject(terms: Terms, worst: Terms | None) -> _Subject:
        parts = {
            name: column
            for name in ("added", "over", "under")
            if (column := getattr(terms, name)) is not None
        }
        columns(rewards=rewards, **parts)
        clusters = Clusters(
            np.ones_like(rewards), terms.added, terms.over, terms.under, weights
        )
        return _Subject(
            clusters,
            usual_worst(clusters, w_max, r_range)
            if worst is None
            else rows_of(worst, w_max),
            Overlap.of(weights, rewards),
            Moments.of(weights, rewards),
            w_max,
            r_range,
            reward_range is not None,
            (weights, rewards),
        )

    return _estimate(
        subject(terms, worst),
        None if reference is None else subject(reference, reference_worst),
        settings,
        confidence=confidence,
        kind=kind,
        seed=seed,
    )


def estimate_sums(
    sums: Sums,
    name: str,
    *,
    worst: Terms | None = None,
    reference: str | None = None,
    reference_worst: Terms | None = None,
    confidence: float = 0.95,
    kind: Kind = "default",
    seed: int = 0,
    settings: OverlapSettings | None = None,
    rows: tuple[FloatArray, FloatArray] | None = None,
) -> Estimate:
    """Estimate what a policy earns from the sums of a log of any size.

    Args:
        sums: The sums of all parts of the log.
        name: Which estimator of them.
        worst: What it makes of `sums.worst_rows()`; as of `estimate`.
        reference: For an estimator that is biased by design: the name of one without
            bias.
        reference_worst: What that one makes of `sums.worst_rows()`.
        confidence: As of `estimate`; likewise `kind`, `seed` and `settings`.
        kind: Not `sequence`, which needs the rows in their order.
        seed: Of a bootstrap's draws.
        settings: What a log must have for a verdict.
        rows: Weights and rewards in the order of time, for `sequence`.

    Raises:
        ValueError: If nothing is under a ratio.
        KeyError: If there is no such estimator.
    """

    def subject(name: str, worst: Terms | None) -> _Subject:
        clusters = sums.clusters(name)
        return _Subject(
            clusters,
            usual_worst(clusters, sums.weight_max, sums.reward_range)
            if worst is None
            else rows_of(worst, sums.weight_max),
            sums.overlap,
            sums.moments,
            sums.weight_max,
            sums.reward_range,
            sums.reward_range_known,
            rows,
        )

    return _estimate(
        subject(name, worst),
        None if reference is None else subject(reference, reference_worst),
        settings,
        confidence=confidence,
        kind=kind,
        seed=seed,
    )


def _estimate(
    subject: _Subject,
    reference: _Subject | None,
    settings: OverlapSettings | None,
    *,
    confidence: float,
    kind: Kind,
    seed: int,
) -> Estimate:
    normal_quantile(confidence)
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, not {kind}")
    value = subject.clusters.value
    if math.isnan(value):
        raise ValueError("weights must not all be 0")
    about = subject if reference is None else reference
    low, high = _INTERVALS[kind](about, confidence, seed)
    if about.clusters.under is not None or subject.reward_range_known:
        # No policy earns more than the best reward; that a value does is noise.
        low = max(low, subject.reward_range[0])
        high = min(high, subject.reward_range[1])
    found = _assess(subject, settings)
    if reference is not None and not low <= value <= high:
        found = _off(found)
    return Estimate(
        value=value,
        low=min(low, value),
        high=max(high, value),
        confidence=confidence,
        standard_error=standard_error(subject.clusters),
        n=subject.overlap.n,
        ess=subject.overlap.ess,
        events=subject.overlap.events,
        weight_max=subject.weight_max,
        verdict=found.verdict,
        doubts=found.doubts,
        rows_needed=found.rows_needed,
        kind=kind,
    )


def _assess(subject: _Subject, settings: OverlapSettings | None) -> Assessment:
    clusters = subject.clusters
    of_weights = Clusters(clusters.n, clusters.weights, None, None, None)
    return assess(
        subject.overlap,
        weight_max=subject.weight_max,
        settings=settings,
        mean_error=standard_error(of_weights),
        users=clusters.occupied,
    )


def _off(found: Assessment) -> Assessment:
    """Return the assessment of an estimate that its reference leaves out."""
    doubt = "it is biased here: its reference says something else for certain"
    return Assessment(worse(found.verdict, "weak"), (*found.doubts, doubt), None)


def _student(subject: _Subject, confidence: float, seed: int) -> Interval:
    del seed
    return student(subject.clusters, subject.worst, confidence)


def _bootstrap(subject: _Subject, confidence: float, seed: int) -> Interval:
    found = bootstrap([subject.clusters], [subject.worst], confidence, seed=seed)
    return found[0]


def _likelihood(subject: _Subject, confidence: float, seed: int) -> Interval:
    del seed
    return cressie_read(
        subject.moments,
        confidence,
        weight_max=max(subject.weight_max, 1.0),
        reward_range=subject.reward_range,
    )


def _bernstein(subject: _Subject, confidence: float, seed: int) -> Interval:
    """Bound the mean of weights times rewards, whichever the estimator is."""
    del seed
    sums = subject.moments
    value = sums.wr / sums.n
    variance = max(sums.wwrr - sums.n * value * value, 0.0) / max(sums.n - 1, 1)
    low, high = (subject.weight_max * reward for reward in subject.reward_range)
    span = max(high, 0.0) - min(low, 0.0)
    return bernstein(value, variance, int(sums.n), span, confidence)


def _always_valid(subject: _Subject, confidence: float, seed: int) -> Interval:
    del seed
    if subject.clusters.occupied < 2:
        return -math.inf, math.inf
    width = mixture(float(subject.clusters.n.sum()), confidence)
    return spread(subject.clusters, subject.worst, width)


def _sequence(subject: _Subject, confidence: float, seed: int) -> Interval:
    del seed
    if subject.rows is None:
        raise ValueError("a sequence needs the rows in their order, and not sums")
    low, high = subject.reward_range
    if low == high:
        return low, high
    return gamma_exponential(*subject.rows, confidence, subject.reward_range)


_INTERVALS: dict[Kind, Callable[[_Subject, float, int], Interval]] = {
    "default": _student,
    "student": _student,
    "bootstrap": _bootstrap,
    "likelihood": _likelihood,
    "bernstein": _bernstein,
    "always_valid": _always_valid,
    "sequence": _sequence,
}


def mean_of(
    values: FloatArray,
    keys: NDArray[np.uint64] | None = None,
    *,
    confidence: float = 0.95,
) -> Estimate:
    """Return the mean of amounts that were observed directly, with an interval.

    Student's interval with one more row for each bound, the smallest and the largest
    of the amounts seen: what few customers spend makes means that miss low.

    Args:
        values: One amount per decision or customer, shape (n,), any unit.
        keys: Whom each is of, as of `estimate`.
        confidence: How often the interval is to hold the true mean, in (0, 1).

    Returns:
        The mean, in the unit of `values`.

    Raises:
        ValueError: If there is no row, or an amount is not finite.

    Examples:
        >>> import numpy as np
        >>> mean_of(np.array([0.0, 30.0])).value
        15.0
    """
    values = columns(values=values)["values"]
    low, high = float(values.min()), float(values.max())
    return estimate(
        Terms(added=values),
        keys,
        weights=np.ones_like(values),
        rewards=values,
        weight_max=1.0,
        worst=Terms(added=np.array([low, high])),
        confidence=confidence,
    )


def rate_of(
    successes: int,
    n: int,
    *,
    confidence: float = 0.95,
    kind: Literal["wilson", "clopper_pearson"] = "wilson",
) -> Estimate:
    """Return a rate that was observed directly, with an interval.

    Args:
        successes: How many of them were successes, from 0 to n.
        n: How many there were, at least 1.
        confidence: How often the interval is to hold the true rate, in (0, 1).
        kind: `wilson`, which holds on average over rates, or `clopper_pearson`, which
            holds for each and is wider.

    Returns:
        The rate, a share of 1. It is never doubted: the interval holds for any n.

    Raises:
        ValueError: If an argument is out of its range.

    Examples:
        >>> rate = rate_of(0, 100)
        >>> rate.value, rate.low, round(rate.high, 3)
        (0.0, 0.0, 0.037)
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, not {n}")
    if not 0 <= successes <= n:
        raise ValueError(f"successes must be from 0 to {n}, not {successes}")
    bounds = wilson if kind == "wilson" else clopper_pearson
    low, high = bounds(successes, n, confidence)
    rate = successes / n
    return Estimate(
        value=rate,
        low=low,
        high=high,
        confidence=confidence,
        standard_error=math.sqrt(rate * (1 - rate) / n),
        n=n,
        ess=float(n),
        events=successes,
        weight_max=1.0,
        kind=kind,
    )
