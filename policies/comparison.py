"""Which of several policies is better, on the same decisions.

Two policies that are valued on the same log share its noise, so that their difference
is known far better than either value. It is estimated row by row, or shard by shard:
what moves both is no noise. Where several candidates are compared with one base, the
largest of their chance leads is what has to be told from a real one: intervals are
made wider until all of them hold at once (by the correlation of the candidates), and
wider still where they are looked at every day.

`gate` says by such differences whether a policy may take the place of another;
`policies.promotion` asks the same of the windows that a server judges.

References:
    V. Chernozhukov, D. Chetverikov and K. Kato. Gaussian approximations and multiplier
    bootstrap for maxima of sums of high-dimensional random vectors. The Annals of
    Statistics 41, 2013.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from policies.estimators import Terms
from policies.intervals import Estimate, Sums, mean_of, shards_of
from policies.intervals.base import Clusters, Interval, Row, Worst, columns, refuse
from policies.intervals.mixing import normals
from policies.intervals.sequential import mixture
from policies.intervals.special import normal_quantile, t_quantile
from policies.intervals.student import influence, spread, standard_error
from policies.intervals.sums import (
    SHARDS,
    largest_weight,
    rewards_within,
    rows_of,
    usual_worst,
)
from policies.model import FloatArray
from policies.overlap import Assessment, Overlap, OverlapSettings, assess, worse

__all__ = [
    "Comparison",
    "Decision",
    "GateSettings",
    "compare",
    "difference",
    "forgone",
    "gate",
    "lead",
    "leader",
]

_DRAWS = 10_000

Lead = Literal["better", "worse", "open"]


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """How a candidate compares with the base.

    Attributes:
        candidate: Its name.
        base: What it is compared with.
        difference: What it earns above the base, a decision, with an interval that
            holds for all candidates at once. `ess` and `events` are the smaller ones of
            the two policies.
        candidates: How many candidates were compared at once.
        lead: `better` or `worse` where the interval leaves 0 out, else `open`; open too
            where the log is not usable for both.
        rows_to_tell: How many rows like these would leave 0 out, if the difference is
            what it seems; none where it is told, or there is none.
    """

    candidate: str
    base: str
    difference: Estimate
    candidates: int
    lead: Lead
    rows_to_tell: int | None


def difference(
    rewards: FloatArray,
    weights: FloatArray,
    base: FloatArray,
    keys: NDArray[np.uint64] | None = None,
    *,
    weight_max: float | None = None,
    reward_range: tuple[float, float] | None = None,
    confidence: float = 0.95,
) -> Estimate:
    """Estimate what a target policy earns above another, on the same decisions.

    The mean of (w − b)·(r − m): each decision counts once, for what differs between the
    two, so that what moves both is no noise. Both weights are 1 on average, so that
    what goes along with their difference is no noise either: m is the mean reward.

    Args:
        rewards: What each decision earned, shape (n,), any unit.
        weights: Target over logging propensity of the action taken, shape (n,), each 0
            or more.
        base: The same of the other policy, shape (n,).
        keys: Whom each row is of, shape (n,), uint64; each row is by itself without
            them.
        weight_max: The largest weight that any decision could have had, of either.
            Without it twice the largest seen.
        reward_range: The smallest and the largest reward possible; those seen without
            it.
        confidence: How often the interval is to hold the true difference, in (0, 1).

    Returns:
        The difference, a decision. `ess`, `events` and `doubts` are of the target.

    Raises:
        ValueError: If the shapes differ, there is no row, a number is not finite, a
            weight is negative or above `weight_max`, or a reward outside of
            `reward_range`; the message names the first such row.

    Examples:
        >>> import numpy as np
        >>> rewards = np.array([1.0, 0.0, 1.0, 0.0])
        >>> weights = np.array([2.0, 0.0, 2.0, 0.0])
        >>> difference(rewards, weights, np.ones(4)).value
        0.5
    """
    given = columns(rewards=rewards, weights=weights, base=base)
    rewards, weights, base = given["rewards"], given["weights"], given["base"]
    refuse(base < 0, base, "base", "0 or more")
    w_max = largest_weight(np.maximum(weights, base), weight_max)
    low, high = rewards_within(rewards, reward_range)
    mean = float(rewards.mean())
    apart = weights - base
    clusters = _clustered(keys, apart * (rewards - mean), apart)
    rows = [
        Worst(_row(sign, w_max, one - mean), _row(sign, w_max, other - mean))
        for sign, one, other in ((1, low, high), (-1, high, low))
    ]
    normal_quantile(confidence)
    ends = _wider(clusters, rows, t_quantile(confidence, clusters.occupied))
    overlap = Overlap.of(weights, rewards)
    found = assess(overlap, weight_max=w_max)
    value = clusters.value
    return Estimate(
        value=value,
        low=min(ends[0], value),
        high=max(ends[1], value),
        confidence=confidence,
        standard_error=standard_error(clusters),
        n=overlap.n,
        ess=overlap.ess,
        events=overlap.events,
        weight_max=w_max,
        verdict=found.verdict,
        doubts=found.doubts,
        rows_needed=found.rows_needed,
    )


def compare(
    policies: Mapping[str, Sums],
    estimator: str | Mapping[str, str],
    *,
    base: str,
    worst: Mapping[str, Terms] | None = None,
    confidence: float = 0.95,
    always_valid: bool = False,
    rare: bool = False,
    seed: int = 0,
) -> list[Comparison]:
    """Compare candidates with a base by the sums of the same log.

    Args:
        policies: By name, the sums of each; made of the same rows with the same keys.
        estimator: Which estimator of the sums, or which of each policy's.
        base: What all others are compared with.
        worst: By policy, what the estimator makes of its `worst_rows()`.
        confidence: How often all intervals at once are to hold, in (0, 1).
        always_valid: Whether they are to hold however often they are looked at, as in
            a job that runs every day.
        rare: Whether what is compared is rare and unwanted, as dismissals are, and its
            upper ends are what matters. Then that none was seen tells much, and is no
            doubt; no upper end is below what so many decisions without one leave open.
        seed: Of the draws that tell how large the largest of several leads by chance
            is.

    Returns:
        One per candidate, in the order given.

    Raises:
        ValueError: If there is no candidate, or the sums are of different rows.
        KeyError: If there is no such policy or estimator.

    Examples:
        >>> import numpy as np
        >>> from policies.estimators import Rows, snips
        >>> rewards = np.tile([1.0, 0.0], 2_000)
        >>> def sums(weights):
        ...     rows = Rows(rewards=rewards, weights=weights)
        ...     return Sums.of({"snips": snips(rows)}, weights=weights, rewards=rewards)
        >>> good, flat = np.tile([1.8, 0.2], 2_000), np.ones(4_000)
        >>> found = compare({"now": sums(flat), "new": sums(good)}, "snips", base="now")
        >>> found[0].candidate, round(found[0].difference.value, 6), found[0].lead
        ('new', 0.4, 'better')
    """
    names = [name for name in policies if name != base]
    if not names:
        raise ValueError(f"there is nothing to compare with {base}")
    by = {
        name: estimator if isinstance(estimator, str) else estimator[name]
        for name in policies
    }
    for name in names:
        if not np.array_equal(policies[name].rows, policies[base].rows):
            raise ValueError(f"the sums of {name} and {base} are not of the same rows")
    paired = [
        _paired(
            _Side.of(policies[name], by[name], (worst or {}).get(name)),
            _Side.of(policies[base], by[base], (worst or {}).get(base)),
        )
        for name in names
    ]
    widths = _widths(
        [pair.clusters for pair in paired],
        confidence,
        seed,
        always_valid=always_valid,
    )
    found: list[Comparison] = []
    for name, pair, width in zip(names, paired, widths, strict=True):
        sides = policies[name], policies[base]
        apart = _apart(pair, width, confidence, sides, rare=rare)
        untold = [
            f"{side}: {doubt}"
            for side, sums in zip((name, base), sides, strict=True)
            for doubt in _assess(sums, rare=rare).doubts
        ]
        apart = msgspec.structs.replace(apart, doubts=tuple(untold))
        found.append(
            Comparison(
                candidate=name,
                base=base,
                difference=apart,
                candidates=len(names),
                lead=lead(apart) if apart.reliable else "open",
                rows_to_tell=_rows_to_tell(apart),
            )
        )
    return found


class _Side(NamedTuple):
    """One of the two that are compared."""

    value: float
    terms: FloatArray
    weights: FloatArray
    n: FloatArray
    worst: Worst

    @classmethod
    def of(cls, sums: Sums, estimator: str, worst: Terms | None) -> _Side:
        clusters = sums.clusters(estimator)
        terms = clusters.mean
        if terms is None:
            # A ratio to anything but the weights moves as its influence does.
            terms = influence(clusters) + clusters.value * clusters.n
        rows = (
            usual_worst(clusters, sums.weight_max, sums.reward_range)
            if worst is None
            else rows_of(worst, sums.weight_max)
        )
        return cls(clusters.value, terms, sums.weights, clusters.n, rows)


class _Pair(NamedTuple):
    value: float
    clusters: Clusters
    worst: list[Worst]


def _paired(one: _Side, other: _Side) -> _Pair:
    """Return the difference of two, with the rows that only one would have chosen."""
    clusters = Clusters(
        one.n,
        one.terms - other.terms,
        None,
        None,
        one.n + one.weights - other.weights,
    )
    mine = [Row(row.added + row.over, weight=1 + row.weight) for row in one.worst]
    theirs = [
        Row(-row.added - row.over, weight=1 - row.weight)
        for row in (other.worst.high, other.worst.low)
    ]
    return _Pair(one.value - other.value, clusters, [Worst(*mine), Worst(*theirs)])


def _widths(
    pairs: Sequence[Clusters], confidence: float, seed: int, *, always_valid: bool
) -> list[float]:
    """Return by how many standard errors all intervals hold at once."""
    normal = normal_quantile(confidence)
    if always_valid:
        alone = 1 - (1 - confidence) / len(pairs)
        return [mixture(float(pair.n.sum()), alone) for pair in pairs]
    together = _largest(pairs, confidence, seed) if len(pairs) > 1 else normal
    # Few clusters know their variance less well, by as much as Student's is wider.
    return [
        together * t_quantile(confidence, max(pair.occupied, 1)) / normal
        for pair in pairs
    ]


def _largest(pairs: Sequence[Clusters], confidence: float, seed: int) -> float:
    """Return what the largest of several leads by chance stays below so often."""
    moved = np.stack([influence(pair, controlled=True) for pair in pairs])
    errors = np.sqrt((moved * moved).sum(axis=1))
    # Two policies that are one and the same lead by nothing, ever.
    moved = moved / np.where(errors > 0, errors, 1.0)[:, np.newaxis]
    values, vectors = np.linalg.eigh(moved @ moved.T)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    drawn = normals(seed, (_DRAWS, len(moved)))
    largest = np.abs(drawn @ root.T).max(axis=1)
    return max(float(np.quantile(largest, confidence)), normal_quantile(confidence))


def _apart(
    pair: _Pair,
    width: float,
    confidence: float,
    sides: tuple[Sums, Sums],
    *,
    rare: bool,
) -> Estimate:
    """Return the difference of two as an estimate; doubts are told by name."""
    low, high = _wider(pair.clusters, pair.worst, width)
    if rare:
        high = max(high, pair.value + _unseen(sides[0], width))
    assessed = [_assess(side, rare=rare) for side in sides]
    needed = [one.rows_needed for one in assessed if one.verdict != "usable"]
    return Estimate(
        value=pair.value,
        low=min(low, pair.value),
        high=max(high, pair.value),
        confidence=confidence,
        standard_error=standard_error(pair.clusters._replace(weights=None)),
        n=sides[0].n,
        ess=min(side.overlap.ess for side in sides),
        events=min(side.overlap.events for side in sides),
        weight_max=max(side.weight_max for side in sides),
        verdict=worse(assessed[0].verdict, assessed[1].verdict),
        rows_needed=None if not needed or None in needed else max(filter(None, needed)),
    )


def _unseen(sums: Sums, width: float) -> float:
    """Return how much may come of what is rare and was not seen, a decision.

    As the rule of three says it: of what comes once in m decisions, none is seen in
    λ·m of them with the chance e^-λ: here that of a tail beyond that many standard
    errors.
    """
    tail = max(math.erfc(width / math.sqrt(2.0)) / 2.0, sys.float_info.min)
    most = max(*sums.reward_range, 0.0)
    return -math.log(tail) * sums.weight_max * most / sums.n


def _assess(sums: Sums, *, rare: bool = False) -> Assessment:
    of_weights = Clusters(sums.rows, sums.weights, None, None, None)
    return assess(
        sums.overlap,
        settings=OverlapSettings(events_min=0) if rare else None,
        weight_max=sums.weight_max,
        mean_error=standard_error(of_weights),
        users=of_weights.occupied,
    )


def _rows_to_tell(difference: Estimate) -> int | None:
    value = difference.value
    if value == 0 or not difference.low <= 0 <= difference.high:
        return None
    half = value - difference.low if value > 0 else difference.high - value
    return math.ceil(difference.n * (half / value) ** 2)


def lead(difference: Estimate) -> Lead:
    """Say which of two is better, by the interval of their difference alone.

    Examples:
        >>> lead(mean_of(np.linspace(0.5, 1.5, 200)))
        'better'
    """
    if difference.low > 0:
        return "better"
    return "worse" if difference.high < 0 else "open"


def leader(comparisons: Sequence[Comparison]) -> str | None:
    """Return the best policy of all, base and candidates; none where it is open.

    A candidate has to be better than the base, and where several are, the one that
    leads most is named: the intervals hold for all of them at once. The base has to be
    better than every candidate.
    """
    better = [one for one in comparisons if one.lead == "better"]
    if better:
        return max(better, key=lambda one: one.difference.value).candidate
    if comparisons and all(one.lead == "worse" for one in comparisons):
        return comparisons[0].base
    return None


class GateSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When a policy may be deployed in the place of another.

    Attributes:
        gain_min: What it must earn above the other at least, a decision, in the unit of
            the rewards: the lower bound of the difference must be above it. With 0 it
            must be better at all.
        dismissals_rise_max: By how much dismissals a decision may rise at most, -1 to
            1: the upper bound of their difference must not be above it. None does not
            look at them.
        confidence: How often the intervals hold, above 0.5, below 1. With 0.95 a policy
            that is no better passes once in 40.
        weak: Whether a log that is weak by its overlap suffices, as its intervals hold;
            one that is unusable never does.
    """

    gain_min: float = 0.0
    dismissals_rise_max: float | None = None
    confidence: float = 0.95
    weak: bool = False

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        if not math.isfinite(self.gain_min):
            raise ValueError(f"gain_min must be a number, not {self.gain_min}")
        rise = self.dismissals_rise_max
        if rise is not None and not -1.0 <= rise <= 1.0:
            raise ValueError(f"dismissals_rise_max must be -1 to 1, not {rise}")
        if not 0.5 < self.confidence < 1.0:
            raise ValueError(
                f"confidence must be above 0.5, below 1, not {self.confidence}"
            )


class Decision(NamedTuple):
    """Whether to deploy.

    Attributes:
        verdict: `deploy`; `keep` what is there, as the other is not good enough with
            that confidence; `cannot tell`, as the log does not say.
        reasons: Why, a sentence each.
    """

    verdict: Literal["deploy", "keep", "cannot tell"]
    reasons: tuple[str, ...]


def gate(
    gain: Estimate,
    dismissals: Estimate | None = None,
    *,
    settings: GateSettings | None = None,
) -> Decision:
    """Say whether a policy may be deployed in the place of another.

    Args:
        gain: What it earns above the other, a decision: a `difference`, or that of a
            `Comparison`.
        dismissals: By how much more often it is dismissed, likewise.
        settings: What it must fulfil.

    Raises:
        ValueError: If the settings look at dismissals and none are given.

    Examples:
        >>> gate(mean_of(np.linspace(0.5, 1.5, 200))).verdict
        'deploy'
        >>> gate(mean_of(np.linspace(-1.0, 1.1, 200))).reasons
        ('it may earn 0.041 less a decision: the lower bound is not above 0',)
    """
    settings = settings or GateSettings()
    limit = settings.dismissals_rise_max
    if limit is not None and dismissals is None:
        raise ValueError("dismissals_rise_max is set, and there are no dismissals")
    looked_at = [("its rewards", gain)]
    if limit is not None and dismissals is not None:
        looked_at.append(("its dismissals", dismissals))
    untold = tuple(
        f"the log cannot tell {what}: {doubt}"
        for what, estimate in looked_at
        if estimate.verdict == "unusable"
        or (estimate.verdict == "weak" and not settings.weak)
        for doubt in estimate.doubts
    )
    if untold:
        return Decision("cannot tell", untold)
    against: list[str] = []
    if not gain.low > settings.gain_min:
        against.append(_too_little(gain, settings.gain_min))
    if limit is not None and dismissals is not None and not dismissals.high <= limit:
        against.append(
            f"dismissals may rise by {dismissals.high:.4g} a decision, and"
            f" {limit:g} is allowed"
        )
    if against:
        return Decision("keep", tuple(against))
    reasons = [f"it earns at least {gain.low:.4g} more a decision"]
    if limit is not None and dismissals is not None:
        high = dismissals.high
        bound = f"rise by at most {high:.4g}" if high > 0 else "do not rise"
        if high < 0:
            bound = f"fall by at least {-high:.4g}"
        reasons.append(f"dismissals {bound} a decision")
    return Decision("deploy", tuple(reasons))


def _too_little(gain: Estimate, least: float) -> str:
    if gain.low < 0:
        start = f"it may earn {-gain.low:.2g} less a decision"
    else:
        start = f"it may earn no more than {gain.low:.2g} above the other"
    return f"{start}: the lower bound is not above {least:g}"


def forgone(
    freely: FloatArray,
    gated: FloatArray,
    keys: NDArray[np.uint64] | None = None,
    *,
    confidence: float = 0.95,
) -> Estimate:
    """Estimate what gates cost: the value forgone in decisions where they blocked.

    What was blocked was never tried there, so that a model of the rewards is all there
    is to tell: the number is as good as the model, and its verdict is `weak` for it.
    What gates are for (users who stay) is no part of it.

    Args:
        freely: What the model expects of the policy's choice among all actions, shape
            (n,), in the unit of the rewards.
        gated: What it expects of its choice among those that were left.
        keys: Whom each decision is of, shape (n,), uint64.
        confidence: How often the interval holds what the model would say of all
            decisions, in (0, 1).

    Returns:
        The value forgone, a decision. `events` counts the decisions where any was.

    Raises:
        ValueError: If the shapes differ, there is no row, or a number is not finite.

    Examples:
        >>> found = forgone(np.full(200, 0.5), np.tile([0.5, 0.3], 100))
        >>> round(found.value, 9), found.events, found.verdict
        (0.1, 100, 'weak')
    """
    given = columns(freely=freely, gated=gated)
    found = mean_of(given["freely"] - given["gated"], keys, confidence=confidence)
    doubt = "what was blocked was not tried: this is what a model expects of it"
    return msgspec.structs.replace(
        found,
        verdict=worse(found.verdict, "weak"),
        doubts=(*found.doubts, doubt),
        rows_needed=None,
    )


def _clustered(
    keys: NDArray[np.uint64] | None, terms: FloatArray, apart: FloatArray
) -> Clusters:
    """Put rows into clusters; what the weights differ by, and 1, is 1 on average."""
    if keys is None:
        return Clusters(np.ones_like(terms), terms, None, None, 1.0 + apart)
    shards = shards_of(keys)
    n, added, differ = (
        np.bincount(shards, weights=column, minlength=SHARDS).astype(float)
        for column in (np.ones_like(terms), terms, apart)
    )
    return Clusters(n, added, None, None, n + differ)


def _row(sign: int, weight: float, reward: float) -> Row:
    return Row(added=sign * weight * reward, weight=1 + sign * weight)


def _wider(clusters: Clusters, rows: Sequence[Worst], width: float) -> Interval:
    """Return the lowest and the highest end by any of the worst rows."""
    lows, highs = zip(*(spread(clusters, worst, width) for worst in rows), strict=True)
    return min(lows), max(highs)
