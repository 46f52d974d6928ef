"""Whether a log can tell what another policy would have earned: one verdict.

A log says much about policies that do what it often did, and nothing of what was never
tried. How much shows in the weights, target over logging propensity of the action
taken: they are 1 on average, and the more they differ, the fewer of the rows decide.

    usable     decide by the numbers
    weak       the intervals hold; name no winner by them
    unusable   tell no number; `rows_needed` says how many rows would do

All that is kept of a log is sums, so that parts of it add up.

References:
    L. Kish. Survey sampling. Wiley, 1965.

    A. B. Owen. Monte Carlo theory, methods and examples, chapter 9. 2013,
    https://artowen.su.domains/mc/.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from policies.model import FloatArray

__all__ = [
    "Assessment",
    "Overlap",
    "OverlapSettings",
    "Verdict",
    "assess",
    "worse",
]

Verdict = Literal["usable", "weak", "unusable"]

_RANKS: dict[Verdict, int] = {"usable": 0, "weak": 1, "unusable": 2}

_PER_OCTAVE = 8
_OCTAVES = 64
_BINS = 2 * _OCTAVES * _PER_OCTAVE
_TOP = 0.01
_AMOUNTS_MAX = 64
_GLANCE = 4_096


class OverlapSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a log must have for a verdict.

    Attributes:
        ess_min: The effective sample size below which a log is unusable, 2 or more:
            means of fewer rows are not normal, whatever they are means of.
        events_min: The number of rewarded decisions below which it is, 0 or more: with
            10, a rate is known to within about a third. Where most decisions earn the
            same, as those that cost attention and nothing came of, the decisions that
            earned something else are counted.
        users_min: The number of users, or of hash shards that have one, below which it
            is, 2 or more: how much users differ is not known of fewer.
        weight_z_max: How many standard errors the mean weight may be away from 1, above
            0; beyond, propensities are wrong, or the log lacks what the policy does.
        ess_share_min: The effective sample size over the number of rows below which it
            is weak, 0 to 1.
        weight_share_max: The largest weight over the sum of all above which it is weak,
            above 0 to 1.
    """

    ess_min: float = 100.0
    events_min: int = 10
    users_min: int = 30
    weight_z_max: float = 4.0
    ess_share_min: float = 0.05
    weight_share_max: float = 0.01

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        if not self.ess_min >= 2:
            raise ValueError(f"ess_min must be 2 or more, not {self.ess_min}")
        if self.events_min < 0:
            raise ValueError(f"events_min must be 0 or more, not {self.events_min}")
        if self.users_min < 2:
            raise ValueError(f"users_min must be 2 or more, not {self.users_min}")
        if not self.weight_z_max > 0:
            raise ValueError(f"weight_z_max must be above 0, not {self.weight_z_max}")
        if not 0 <= self.ess_share_min <= 1:
            raise ValueError(f"ess_share_min must be 0 to 1, not {self.ess_share_min}")
        if not 0 < self.weight_share_max <= 1:
            raise ValueError(
                f"weight_share_max must be above 0, to 1, not {self.weight_share_max}"
            )


class Assessment(NamedTuple):
    """A verdict, and why.

    Attributes:
        doubts: Why a log is not usable, the gravest first; empty where it is.
        rows_needed: How many rows like these would make it usable; none where it is, or
            where more rows like these would not.
    """

    verdict: Verdict
    doubts: tuple[str, ...]
    rows_needed: int | None


class Overlap(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of the weights of a log; parts of it add up.

    Attributes:
        n: The number of rows.
        total: The sum of the weights.
        squares: The sum of their squares.
        largest: The largest seen.
        events: The number of rows with a weight and a reward other than 0.
        counts: How many weights are in each of the bins, eight an octave, as a list
            that lacks the empty ones at both ends; `first` is the bin it begins with.
        masses: The sum of those weights, likewise.
        amounts: What the rows with a weight earned, ascending, each with how many did;
            none where that is more than 64 different amounts, or not known.
    """

    n: int
    total: float
    squares: float
    largest: float
    events: int
    first: int = 0
    counts: tuple[int, ...] = ()
    masses: tuple[float, ...] = ()
    amounts: tuple[tuple[float, int], ...] | None = None

    @classmethod
    def of(
        cls,
        weights: FloatArray,
        rewards: FloatArray | None = None,
        quiet: NDArray[np.bool_] | None = None,
    ) -> Overlap:
        """Return the sums of some rows.

        Args:
            weights: Target over logging propensity of the action taken, shape (n,),
                each 0 or more.
            rewards: What each earned, shape (n,); every row with a weight counts as an
                event without it.
            quiet: Of which rows nothing came, whatever they cost, shape (n,): they
                count as if they had earned 0.
        """
        above = weights > 0
        if rewards is not None and quiet is not None:
            rewards = np.where(quiet, 0.0, rewards)
        events = above if rewards is None else above & (rewards != 0)
        first, counts, masses = _histogram(weights)
        return cls(
            n=len(weights),
            total=float(weights.sum()),
            squares=float(weights @ weights),
            largest=float(weights.max(initial=0.0)),
            events=int(np.count_nonzero(events)),
            first=first,
            counts=counts,
            masses=masses,
            amounts=None if rewards is None else _amounts(rewards[above]),
        )

    def __add__(self, other: Overlap) -> Overlap:
        """Return the sums of the rows of both."""
        parts = [part for part in (self, other) if part.counts]
        first = min((part.first for part in parts), default=0)
        last = max((part.first + len(part.counts) for part in parts), default=0)
        counts = np.zeros(last - first, dtype=np.int64)
        masses = np.zeros(last - first)
        for part in parts:
            begin = part.first - first
            counts[begin : begin + len(part.counts)] += part.counts
            masses[begin : begin + len(part.counts)] += part.masses
        return Overlap(
            n=self.n + other.n,
            total=self.total + other.total,
            squares=self.squares + other.squares,
            largest=max(self.largest, other.largest),
            events=self.events + other.events,
            first=first,
            counts=tuple(counts.tolist()),
            masses=tuple(masses.tolist()),
            amounts=_together(self.amounts, other.amounts),
        )

    @property
    def telling(self) -> int:
        """How many decisions earned something, and something else than most did.

        What is told of rare rewards rests on them: where all but three decisions earned
        1, on three, as where all but three earned 0.
        """
        if self.amounts is None or len(self.amounts) < 2:
            return self.events
        counts = [count for _, count in self.amounts]
        return min(self.events, sum(counts) - max(counts))

    @property
    def usual(self) -> float | None:
        """What most decisions earned; none where that is not known."""
        if not self.amounts:
            return None
        return max(self.amounts, key=lambda amount: amount[1])[0]

    @property
    def ess(self) -> float:
        """Kish's effective sample size (Σw)² / Σw²; 0 where every weight is 0."""
        return self.total * self.total / self.squares if self.squares > 0 else 0.0

    @property
    def ess_share(self) -> float:
        """The effective sample size over the number of rows, 0 to 1."""
        return self.ess / self.n if self.n else 0.0

    @property
    def mean(self) -> float:
        """The mean weight, which is 1 where all is as it should be."""
        return self.total / self.n if self.n else math.nan

    @property
    def mean_error(self) -> float:
        """The standard error of the mean weight, of rows that are independent."""
        variance = max(self.squares / self.n - self.mean**2, 0.0) if self.n else 0.0
        return math.sqrt(variance / self.n) if self.n else math.nan

    @property
    def largest_share(self) -> float:
        """The largest weight over the sum of all; 1 where that is 0."""
        return self.largest / self.total if self.total > 0 else 1.0

    @property
    def edges(self) -> tuple[float, ...]:
        """Where each bin of `counts` begins.

        Examples:
            >>> Overlap.of(np.array([1.0, 2.0])).edges[0]
            1.0
        """
        last = self.first + len(self.counts)
        return tuple(
            [2.0 ** (at / _PER_OCTAVE - _OCTAVES) for at in range(self.first, last)]
        )

    @property
    def top_share(self) -> float:
        """The share of all weight that the heaviest hundredth of the rows has.

        Right to a twentieth of itself: weights are counted in bins, eight an octave.
        """
        if not self.total > 0:
            return 1.0
        left, mass = _TOP * self.n, 0.0
        for count, weight in zip(
            reversed(self.counts), reversed(self.masses), strict=True
        ):
            if count >= left:
                return (mass + weight * left / count) / self.total
            left, mass = left - count, mass + weight
        return 1.0


def _histogram(weights: FloatArray) -> tuple[int, tuple[int, ...], tuple[float, ...]]:
    """Count weights above 0 in bins of a ratio; the few far out are in the last."""
    some = weights if weights.all() else weights[weights > 0]
    if not len(some):
        return 0, (), ()
    octaves = np.log2(some)
    octaves += _OCTAVES
    octaves *= _PER_OCTAVE
    bins: NDArray[np.intp] = np.clip(octaves, 0, _BINS - 1).astype(np.intp)
    first = int(bins.min())
    bins -= first
    counts, masses = np.bincount(bins), np.bincount(bins, weights=some)
    return first, tuple(counts.tolist()), tuple(masses.tolist())


def _amounts(rewards: FloatArray) -> tuple[tuple[float, int], ...] | None:
    """Count what was earned; none where it is too much to count."""
    if len(np.unique(rewards[:_GLANCE])) > _AMOUNTS_MAX:
        return None
    found: list[tuple[float, int]] = []
    while len(rewards):
        if len(found) == _AMOUNTS_MAX:
            return None
        rest = rewards[rewards != rewards[0]]
        found.append((float(rewards[0]), len(rewards) - len(rest)))
        rewards = rest
    return tuple(sorted(found))


def _together(
    one: tuple[tuple[float, int], ...] | None,
    other: tuple[tuple[float, int], ...] | None,
) -> tuple[tuple[float, int], ...] | None:
    if one is None or other is None:
        return None
    both = dict(one)
    for amount, count in other:
        both[amount] = both.get(amount, 0) + count
    return tuple(sorted(both.items())) if len(both) <= _AMOUNTS_MAX else None


def assess(
    overlap: Overlap,
    *,
    weight_max: float,
    settings: OverlapSettings | None = None,
    mean_error: float | None = None,
    users: int | None = None,
) -> Assessment:
    """Say whether a log can tell what a policy would have earned.

    Args:
        overlap: Its weights.
        weight_max: The largest weight that any decision could have had: a mean weight
            below 1 may only lack it.
        settings: What it must have.
        mean_error: The standard error of the mean weight; that of independent rows
            without it.
        users: How many users there are, or shards that have one; not looked at without
            it.

    Examples:
        >>> import numpy as np
        >>> lopsided = Overlap.of(np.append(np.full(9_900, 0.1), np.full(100, 90.1)))
        >>> assess(lopsided, weight_max=90.1).verdict
        'weak'
        >>> few = Overlap.of(np.append(np.full(990, 0.1), np.full(10, 90.1)))
        >>> assessment = assess(few, weight_max=90.1)
        >>> assessment.verdict, assessment.doubts[0]
        ('unusable', 'the log is worth 12 decisions of this policy, and 100 are needed')
    """
    settings = settings or OverlapSettings()
    error = overlap.mean_error if mean_error is None else mean_error
    doubts: list[str] = []
    needed: list[float] = []
    ess, n = overlap.ess, overlap.n
    if ess < settings.ess_min:
        doubts.append(
            f"the log is worth {ess:.0f} decisions of this policy,"
            f" and {settings.ess_min:g} are needed"
        )
        needed.append(n * settings.ess_min / ess if ess else math.inf)
    events = overlap.telling
    if events < settings.events_min:
        usual = "" if events == overlap.events else f" but {overlap.usual:g}"
        noun = "decision" if events == 1 else "decisions"
        doubts.append(
            f"{events} {noun} earned anything{usual}, and {settings.events_min} are"
            " needed"
        )
        needed.append(n * settings.events_min / events if events else math.inf)
    if users is not None and users < settings.users_min:
        doubts.append(
            f"the log is of {users} users, and {settings.users_min} are needed"
        )
        needed.append(n * settings.users_min / users if users else math.inf)
    if not _balanced(overlap, error, weight_max, settings.weight_z_max):
        doubts.append(
            f"weights are {overlap.mean:.3f} on average and not 1: the propensities are"
            " wrong, or the log never tries what this policy does"
        )
        needed.append(math.inf)
    verdict: Verdict = "unusable" if doubts else "usable"
    if not doubts:
        if overlap.ess_share < settings.ess_share_min:
            doubts.append(
                f"of {n:,} decisions the log is worth {ess:,.0f} of this policy, which"
                f" is less than {settings.ess_share_min:.0%}"
            )
            needed.append(math.inf)
        if overlap.largest_share > settings.weight_share_max:
            doubts.append(
                f"a single decision has {overlap.largest_share:.1%} of all weight"
            )
            needed.append(n * overlap.largest_share / settings.weight_share_max)
        if settings.events_min and len(overlap.amounts or ()) == 1:
            doubts.append(
                f"every decision earned {overlap.usual:g}: how often one earns anything"
                " else is not in the log"
            )
            needed.append(math.inf)
        verdict = "weak" if doubts else "usable"
    most = max(needed, default=math.inf)
    return Assessment(
        verdict, tuple(doubts), math.ceil(most) if math.isfinite(most) else None
    )


def _balanced(overlap: Overlap, error: float, weight_max: float, z_max: float) -> bool:
    """Return whether the mean weight may be 1.

    As for the upper bound of a mean: weights that are too small may lack the largest.
    """
    n, mean = overlap.n, overlap.mean
    extra = weight_max - mean
    low = mean - z_max * error
    variance = (n * n * error * error + extra * extra) / (n + 1) - (
        extra / (n + 1)
    ) ** 2
    high = mean + extra / (n + 1) + z_max * math.sqrt(max(variance, 0.0) / n)
    return low - 1e-9 <= 1 <= high + 1e-9


def worse(one: Verdict, other: Verdict) -> Verdict:
    """Return the worse of two verdicts.

    Examples:
        >>> worse("weak", "usable")
        'weak'
    """
    return max(one, other, key=_RANKS.__getitem__)
