"""What another policy would have earned, estimated from logged decisions.

A log holds, for each decision, what it earned and how likely the logging policy was
to choose what it chose. Weighting each reward by how much more often the target
policy would have made the same choice gives the target's value:

    ips     mean of w·r: unbiased, and noisy
    snips   Σ w·r / Σ w: nearly unbiased, and bounded by the rewards seen
    dr      mean of v + w·(r − q): unbiased, and calm where a reward model is good

`mean_interval` and `mean_of` are the same for what was observed directly.

**The intervals.** Where offers are rarely accepted and some weights are large, the
usual intervals are too short, always on the same side: the rows that matter most
are the ones that were not drawn, and neither a normal approximation nor a bootstrap
can know of rows that are not there. What is known is how bad such a row could be:
its weight is at most that of an action logged at the floor of exploration, and its
reward lies in a known range. So each bound is computed as if one more decision had
been logged, the worst one possible for that bound: for the upper bound the largest
weight with the largest reward, for the lower bound the same with the smallest. This
is how intervals from empirical likelihood with a known largest weight treat the
mass that was not observed. Rows add up, and the one that was made up counts as
1/(n + 1) of them, so that it matters where few rows decide and nowhere else. With
it the ordinary studentised interval covers: `benchmarks/coverage.py` measures it.

No interval mends a log that holds next to nothing about the target. `Estimate` then
says so in `doubts`, and its numbers are not to be decided on.

References:
    D. G. Horvitz and D. J. Thompson. A generalization of sampling without
    replacement from a finite universe. JASA 47, 1952.

    A. Swaminathan and T. Joachims. The self-normalized estimator for counterfactual
    learning. NeurIPS 2015.

    M. Dudík, J. Langford and L. Li. Doubly robust policy evaluation and learning.
    ICML 2011, https://arxiv.org/abs/1103.4601.

    N. Karampatziakis, J. Langford and P. Mineiro. Empirical likelihood for
    contextual bandits. NeurIPS 2020, https://arxiv.org/abs/1906.03323.

    E. C. Fieller. Some problems in interval estimation. JRSS B 16, 1954.

    E. B. Wilson. Probable inference, the law of succession, and statistical
    inference. JASA 22, 1927.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import msgspec
import numpy as np
from numpy.typing import NDArray

from policies.model import FloatArray

__all__ = [
    "ESS_MIN",
    "EVENTS_MIN",
    "Estimate",
    "difference",
    "dr",
    "importance_weights",
    "ips",
    "mean_interval",
    "mean_of",
    "snips",
]

ESS_MIN = 100
"""The effective sample size below which an estimate is doubted."""

EVENTS_MIN = 10
"""The count of rewarded decisions below which an estimate is doubted."""

WEIGHT_Z_MAX = 4.0
"""How many standard errors the mean weight may be away from 1."""

WEIGHT_MARGIN = 2.0
"""The largest possible weight over the largest seen, where only that is known."""


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """What a policy earns per decision, and how far that can be trusted.

    Attributes:
        value: The estimate, in the unit of the rewards.
        low: The lower end of the interval.
        high: Its upper end.
        confidence: How often such an interval holds the true value.
        standard_error: The standard deviation of `value`, as far as the rows seen
            can tell; `low` and `high` know better.
        n: The number of decisions.
        ess: The effective sample size (Σw)² / Σw², from 1 to n: how many decisions
            of its own the target policy would have needed to say as much.
        events: The number of decisions with a weight and a reward other than 0.
        weight_max: The largest weight that was held possible.
        doubts: Why not to decide on these numbers; empty where nothing speaks
            against it.
    """

    value: float
    low: float
    high: float
    confidence: float
    standard_error: float
    n: int
    ess: float
    events: int
    weight_max: float
    doubts: tuple[str, ...] = ()

    @property
    def reliable(self) -> bool:
        """Whether nothing speaks against deciding on these numbers."""
        return not self.doubts


def importance_weights(target: FloatArray, logging: FloatArray) -> FloatArray:
    """Return how much more often the target policy makes each logged choice.

    Args:
        target: The target policy's probability of the action taken, shape (n,),
            each in [0, 1].
        logging: The logging policy's, its propensity, shape (n,), each in (0, 1].

    Returns:
        target / logging, shape (n,).

    Raises:
        ValueError: If the shapes differ, or a probability is out of its range; the
            message names the first such row.

    Examples:
        >>> import numpy as np
        >>> importance_weights(np.array([0.9, 0.0]), np.array([0.3, 0.5]))
        array([3., 0.])
    """
    rows = _rows(target=target, logging=logging)
    _refuse((rows["target"] < 0) | (rows["target"] > 1), target, "target", "in [0, 1]")
    bad = (rows["logging"] <= 0) | (rows["logging"] > 1)
    _refuse(bad, logging, "logging", "in (0, 1]")
    return rows["target"] / rows["logging"]


def ips(
    rewards: FloatArray,
    weights: FloatArray,
    *,
    weight_max: float | None = None,
    reward_range: tuple[float, float] | None = None,
    confidence: float = 0.95,
) -> Estimate:
    """Estimate the value of the target policy by inverse propensity scores.

    The mean of w·r: unbiased where the logging policy may choose all that the
    target may. It does not use that weights are 1 on average, so `snips` is nearly
    always the better number.

    Args:
        rewards: What each decision earned, shape (n,), any unit.
        weights: Target over logging propensity of the action taken, shape (n,),
            each 0 or more; `importance_weights` makes them.
        weight_max: The largest weight that any decision could have had: the largest
            of target propensity over floor of exploration. Without it twice the
            largest seen, which is a guess, and a bad one where the target likes
            what the log has hardly tried.
        reward_range: The smallest and the largest reward possible. Without it those
            seen: right for rewards of 0 and 1, a guess for amounts of money.
        confidence: How often the interval is to hold the true value, in (0, 1).

    Returns:
        The mean reward per decision of the target policy, in the unit of `rewards`.

    Raises:
        ValueError: If the shapes differ, there is no row, a number is not finite, a
            weight is negative or above `weight_max`, or a reward outside of
            `reward_range`; the message names the first such row.

    Examples:
        >>> import numpy as np
        >>> ips(np.array([1.0, 0.0]), np.array([1.5, 0.5])).value
        0.75
    """
    rows = _rows(rewards=rewards, weights=weights)
    rewards, weights = rows["rewards"], rows["weights"]
    w_max = _weight_max(weights, weight_max)
    low, high = _range(rewards, reward_range)
    return _estimate_of_mean(
        weights * rewards,
        # A row may also have had no weight at all, and added 0.
        worst=min(w_max * low, 0.0),
        best=max(w_max * high, 0.0),
        rewards=rewards,
        weights=weights,
        weight_max=w_max,
        reward_range=reward_range,
        confidence=confidence,
    )


def snips(
    rewards: FloatArray,
    weights: FloatArray,
    *,
    weight_max: float | None = None,
    reward_range: tuple[float, float] | None = None,
    confidence: float = 0.95,
) -> Estimate:
    """Estimate the value of the target policy, self-normalised.

    Σ w·r / Σ w: biased by O(1/n), and bounded by the rewards seen, where `ips` is
    neither. Its interval is Fieller's for a ratio of two means, so that what makes
    numerator and denominator large together does not widen it: rewards that are all
    the same leave no doubt.

    Args:
        rewards: What each decision earned, shape (n,), any unit.
        weights: Target over logging propensity of the action taken, shape (n,),
            each 0 or more, not all 0.
        weight_max: As for `ips`.
        reward_range: As for `ips`.
        confidence: As for `ips`.

    Returns:
        The mean reward per decision of the target policy, in the unit of `rewards`.

    Raises:
        ValueError: As for `ips`, and if every weight is 0.

    Examples:
        >>> import numpy as np
        >>> snips(np.array([1.0, 0.0]), np.array([2.0, 2.0])).value
        0.5
    """
    rows = _rows(rewards=rewards, weights=weights)
    rewards, weights = rows["rewards"], rows["weights"]
    w_max = _weight_max(weights, weight_max)
    r_low, r_high = _range(rewards, reward_range)
    if not weights.any():
        raise ValueError("weights must not all be 0")
    # Measured from a reward that was seen, so that equal ones are exactly 0.
    origin = float(rewards.min())
    value = origin + float((weights * (rewards - origin)).sum() / weights.sum())
    value = min(value, float(rewards.max()))  # Rounding may have put it a hair above.
    # Centred, the interval is where the ratio of the mean of w·(r − value) to that
    # of w may lie: around 0, and free of cancellation.
    sums = _ratio_sums(rewards - value, weights)
    t = _t_quantile(confidence, len(rewards))
    low, _ = _fieller(_with_row(sums, r_low - value, w_max), t)
    _, high = _fieller(_with_row(sums, r_high - value, w_max), t)
    return Estimate(
        value=value,
        low=max(min(value + low, value), r_low),
        high=min(max(value + high, value), r_high),
        confidence=confidence,
        standard_error=math.sqrt(sums.wwrr) / sums.w,
        n=len(rewards),
        ess=_ess(weights),
        events=_events(rewards, weights),
        weight_max=w_max,
        doubts=_doubts(rewards, weights, w_max),
    )


def dr(
    rewards: FloatArray,
    weights: FloatArray,
    logged_values: FloatArray,
    target_values: FloatArray,
    *,
    weight_max: float | None = None,
    reward_range: tuple[float, float] | None = None,
    confidence: float = 0.95,
) -> Estimate:
    """Estimate the value of the target policy, doubly robust.

    The mean of v + w·(r − q), where q is what a reward model expects of the action
    taken and v what it expects of the target policy's choice. Right where either the
    propensities or the model are; the better the model, the less the weights matter.
    The model must not have seen the row that it predicts:
    `policies.reward_model.cross_fit`.

    Args:
        rewards: What each decision earned, shape (n,), any unit.
        weights: Target over logging propensity of the action taken, shape (n,),
            each 0 or more.
        logged_values: The model's value q of the action taken, shape (n,).
        target_values: The model's value v of the target policy: over the actions,
            the sum of target probability times value, shape (n,).
        weight_max: As for `ips`.
        reward_range: As for `ips`. Without it the largest error possible of the
            model is the largest seen.
        confidence: As for `ips`.

    Returns:
        The mean reward per decision of the target policy, in the unit of `rewards`.

    Raises:
        ValueError: As for `ips`.

    Examples:
        A model that is right leaves the weights nothing to do:

        >>> import numpy as np
        >>> rewards, weights = np.array([1.0, 0.0]), np.array([8.0, 0.0])
        >>> q, v = np.array([1.0, 0.0]), np.array([0.5, 0.5])
        >>> dr(rewards, weights, q, v).value
        0.5
    """
    rows = _rows(
        rewards=rewards,
        weights=weights,
        logged_values=logged_values,
        target_values=target_values,
    )
    rewards, weights = rows["rewards"], rows["weights"]
    q, v = rows["logged_values"], rows["target_values"]
    w_max = _weight_max(weights, weight_max)
    residuals = rewards - q
    if reward_range is None:
        low, high = float(residuals.min()), float(residuals.max())
    else:
        r_low, r_high = _range(rewards, reward_range)
        low, high = r_low - float(q.max()), r_high - float(q.min())
    v_mean = float(v.mean())
    return _estimate_of_mean(
        v + weights * residuals,
        worst=v_mean + min(w_max * low, 0.0),
        best=v_mean + max(w_max * high, 0.0),
        rewards=rewards,
        weights=weights,
        weight_max=w_max,
        reward_range=reward_range,
        confidence=confidence,
    )


def difference(
    rewards: FloatArray,
    weights: FloatArray,
    base: FloatArray,
    *,
    weight_max: float | None = None,
    confidence: float = 0.95,
) -> Estimate:
    """Estimate what a target policy earns above another, on the same decisions.

    The mean of (w − b)·(r − m): each decision counts once, for what differs between the
    two, so that what moves both is no noise. Both weights are 1 on average, so that
    taking the mean reward m off moves the estimate by no more than O(1/n), and takes
    the noise of the weights themselves away.

    Args:
        rewards: What each decision earned, shape (n,), any unit.
        weights: Target over logging propensity of the action taken, shape (n,),
            each 0 or more.
        base: The same of the other policy, shape (n,).
        weight_max: The largest weight that any decision could have had, of either.
            Without it twice the largest seen.
        confidence: As for `ips`.

    Returns:
        The difference, a decision. `ess`, `events` and `doubts` are of the target.

    Raises:
        ValueError: As for `ips`.

    Examples:
        >>> import numpy as np
        >>> rewards = np.array([1.0, 0.0, 1.0, 0.0])
        >>> weights = np.array([2.0, 0.0, 2.0, 0.0])
        >>> difference(rewards, weights, np.ones(4)).value
        0.5
    """
    rows = _rows(rewards=rewards, weights=weights, base=base)
    rewards, weights, base = rows["rewards"], rows["weights"], rows["base"]
    _refuse(base < 0, base, "base", "0 or more")
    w_max = _weight_max(np.maximum(weights, base), weight_max)
    centred = rewards - rewards.mean()
    low, high = float(centred.min()), float(centred.max())
    return _estimate_of_mean(
        (weights - base) * centred,
        # The worst row is one that only one of the two would have chosen.
        worst=min(w_max * low, -w_max * high),
        best=max(w_max * high, -w_max * low),
        rewards=rewards,
        weights=weights,
        weight_max=w_max,
        reward_range=None,
        confidence=confidence,
    )


def mean_interval(successes: int, n: int, *, confidence: float = 0.95) -> Estimate:
    """Return a rate that was observed directly, with Wilson's interval.

    Args:
        successes: How many of them were successes, from 0 to n.
        n: How many there were, at least 1.
        confidence: How often the interval is to hold the true rate, in (0, 1).

    Returns:
        The rate, a share of 1. It is never doubted: the interval holds for any n.

    Raises:
        ValueError: If an argument is out of its range.

    Examples:
        >>> rate = mean_interval(0, 100)
        >>> rate.value, rate.low, round(rate.high, 3)
        (0.0, 0.0, 0.037)
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, not {n}")
    if not 0 <= successes <= n:
        raise ValueError(f"successes must be from 0 to {n}, not {successes}")
    z = _normal_quantile(confidence)
    rate = successes / n
    middle = (successes + z * z / 2) / (n + z * z)
    half = z * math.sqrt(n * rate * (1 - rate) + z * z / 4) / (n + z * z)
    return Estimate(
        value=rate,
        low=max(middle - half, 0.0) if successes else 0.0,
        high=min(middle + half, 1.0) if successes < n else 1.0,
        confidence=confidence,
        standard_error=math.sqrt(rate * (1 - rate) / n),
        n=n,
        ess=float(n),
        events=successes,
        weight_max=1.0,
    )


def mean_of(values: FloatArray, *, confidence: float = 0.95) -> Estimate:
    """Return the mean of amounts that were observed directly, with an interval.

    Student's interval with one more row for each bound, the smallest and the largest
    of the amounts seen: what few customers spend makes means that miss low.

    Args:
        values: One amount per decision or customer, shape (n,), any unit.
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
    values = _rows(values=values)["values"]
    return _estimate_of_mean(
        values,
        worst=float(values.min()),
        best=float(values.max()),
        rewards=values,
        weights=np.ones_like(values),
        weight_max=1.0,
        reward_range=None,
        confidence=confidence,
    )


def _estimate_of_mean(
    terms: FloatArray,
    *,
    worst: float,
    best: float,
    rewards: FloatArray,
    weights: FloatArray,
    weight_max: float,
    reward_range: tuple[float, float] | None,
    confidence: float,
) -> Estimate:
    """Estimate the mean of independent terms that lie between `worst` and `best`."""
    n = len(terms)
    t = _t_quantile(confidence, n)
    value = float(terms.mean())
    squares = float(((terms - value) ** 2).sum())
    low = value + _bound(squares, n, worst - value, -t)
    high = value + _bound(squares, n, best - value, t)
    if reward_range is not None:
        # A value outside of the range is a sign of noise, and stays to be seen.
        low = min(max(low, reward_range[0]), value)
        high = max(min(high, reward_range[1]), value)
    return Estimate(
        value=value,
        low=min(low, value),  # As in `snips`.
        high=max(high, value),
        confidence=confidence,
        standard_error=math.sqrt(squares / max(n - 1, 1) / n),
        n=n,
        ess=_ess(weights),
        events=_events(rewards, weights),
        weight_max=weight_max,
        doubts=_doubts(rewards, weights, weight_max),
    )


def _bound(squares: float, n: int, extra: float, t: float) -> float:
    """Bound the mean of n centred terms and one more.

    Args:
        squares: The sum of the squares of the centred terms.
        n: Their number.
        extra: The one more, from the same centre.
        t: The quantile, negative for a lower bound.
    """
    mean = extra / (n + 1)
    variance = (squares + extra * extra) / (n + 1) - mean * mean
    return mean + t * math.sqrt(variance / n)


class _RatioSums(msgspec.Struct, frozen=True):
    """What Fieller's interval needs of the rows: their number and five sums."""

    n: int
    w: float
    wr: float
    ww: float
    wwr: float
    wwrr: float


def _ratio_sums(rewards: FloatArray, weights: FloatArray) -> _RatioSums:
    wr = weights * rewards
    return _RatioSums(
        n=len(rewards),
        w=float(weights.sum()),
        wr=float(wr.sum()),
        ww=float((weights * weights).sum()),
        wwr=float((weights * wr).sum()),
        wwrr=float((wr * wr).sum()),
    )


def _with_row(sums: _RatioSums, reward: float, weight: float) -> _RatioSums:
    """Return the sums with one more row."""
    wr = weight * reward
    return _RatioSums(
        n=sums.n + 1,
        w=sums.w + weight,
        wr=sums.wr + wr,
        ww=sums.ww + weight * weight,
        wwr=sums.wwr + weight * wr,
        wwrr=sums.wwrr + wr * wr,
    )


def _fieller(sums: _RatioSums, t: float) -> tuple[float, float]:
    """Return all ratios V for which the mean of w·(r − V) could be 0.

    These are the V with (A − V·B)² ≤ t²·Var(A − V·B), A and B being the means of w·r
    and of w: a quadratic in V. Where B itself could be 0, any V is possible.
    """
    n, a, b = sums.n, sums.wr / sums.n, sums.w / sums.n
    scale = t * t / max(n - 1, 1)
    # Coefficients of V², −2V and 1.
    c2 = b * b - scale * (sums.ww / n - b * b)
    c1 = a * b - scale * (sums.wwr / n - a * b)
    c0 = a * a - scale * (sums.wwrr / n - a * a)
    if c2 <= 0:
        return -math.inf, math.inf
    half = math.sqrt(max(c1 * c1 - c2 * c0, 0.0))
    return (c1 - half) / c2, (c1 + half) / c2


def _normal_quantile(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be in (0, 1), not {confidence}")
    return NormalDist().inv_cdf((1 + confidence) / 2)


def _t_quantile(confidence: float, df: int) -> float:
    """Return the two-sided quantile of Student's distribution.

    Its expansion in 1/df around the normal one, right to 0.1 % from 5 degrees of
    freedom on; below it is too small, but there everything is in doubt.
    """
    z = _normal_quantile(confidence)
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return math.fsum(term / df**power for power, term in enumerate(terms))


def _ess(weights: FloatArray) -> float:
    """Return Kish's effective sample size; 0 where every weight is 0."""
    total = float(weights.sum())
    return total * total / float((weights * weights).sum()) if total > 0 else 0.0


def _events(rewards: FloatArray, weights: FloatArray) -> int:
    return int(np.count_nonzero((rewards != 0) & (weights > 0)))


def _doubts(
    rewards: FloatArray, weights: FloatArray, weight_max: float
) -> tuple[str, ...]:
    doubts = []
    ess, events = _ess(weights), _events(rewards, weights)
    if ess < ESS_MIN:
        doubts.append(
            f"the log is worth {ess:.0f} decisions of this policy,"
            f" and {ESS_MIN} are needed"
        )
    if events < EVENTS_MIN:
        doubts.append(
            f"{events} decisions earned anything, and {EVENTS_MIN} are needed"
        )
    n = len(weights)
    mean = float(weights.mean())
    squares = float(((weights - mean) ** 2).sum())
    bound = _bound(squares, n, weight_max - mean, WEIGHT_Z_MAX)
    # As for the upper bound of a mean: weights too small may lack the largest one.
    if (
        not mean - WEIGHT_Z_MAX * math.sqrt(squares) / n - 1e-9
        <= 1
        <= mean + bound + 1e-9
    ):
        doubts.append(
            f"weights are {mean:.3f} on average and not 1: the propensities are wrong,"
            " or the log never tries what this policy does"
        )
    return tuple(doubts)


def _rows(**columns: FloatArray) -> dict[str, FloatArray]:
    """Return the columns as floats; refuse what is not (n,) and finite."""
    rows = {name: np.asarray(column, dtype=float) for name, column in columns.items()}
    shapes = {name: column.shape for name, column in rows.items()}
    first = next(iter(shapes.values()))
    if len(first) != 1 or first[0] < 1 or set(shapes.values()) != {first}:
        told = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ValueError(
            f"each must be (n,), with the same n of at least 1, not {told}"
        )
    for name, column in rows.items():
        _refuse(~np.isfinite(column), column, name, "finite")
    if "weights" in rows:
        _refuse(rows["weights"] < 0, rows["weights"], "weights", "0 or more")
    return rows


def _refuse(
    bad: NDArray[np.bool_],
    column: FloatArray,
    name: str,
    should: str,
) -> None:
    if bad.any():
        row = int(np.argmax(bad))
        raise ValueError(f"{name} must be {should}: row {row} is {column[row]}")


def _weight_max(weights: FloatArray, weight_max: float | None) -> float:
    if weight_max is None:
        return WEIGHT_MARGIN * float(weights.max())
    # A ratio of two roundings may be a little above the ratio.
    above = ~(weights <= weight_max * (1 + 1e-9))
    _refuse(above, weights, "weights", f"at most {weight_max}, the largest possible")
    return weight_max


def _range(
    rewards: FloatArray, reward_range: tuple[float, float] | None
) -> tuple[float, float]:
    if reward_range is None:
        return float(rewards.min()), float(rewards.max())
    low, high = reward_range
    outside = ~((rewards >= low) & (rewards <= high))
    _refuse(outside, rewards, "rewards", f"in [{low}, {high}], the range given")
    return low, high
