"""What may be wrong with a log, beyond its weights: one diagnosis, one verdict.

`policies.overlap` judges the weights of a policy. Here are the other questions that a
number should not be told without: whether the log tried in each segment what the policy
does there, whether propensities come true (an action with a chance of 0.2 is chosen in
a fifth of the cases), whether the reward model does, and whether any of it changed from
one day to the next. All that is kept are sums, so that parts of a log add up.

References:
    D. W. Hosmer and S. Lemeshow. Goodness of fit tests for the multiple logistic
    regression model. Communications in Statistics 9, 1980.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from policies.intervals.special import log_lower_gamma
from policies.model import FloatArray
from policies.overlap import Overlap, OverlapSettings, Verdict, assess, worse

__all__ = [
    "BINS",
    "Calibration",
    "Diagnosis",
    "Diagnostics",
    "DiagnosticsSettings",
    "Segment",
    "chi_squared_tail",
]

BINS = 20
"""In how many bins what was predicted is compared with what came."""

_DAY_MS = 86_400_000
_VARIANCE_MIN = 1e-12

T = TypeVar("T")


class DiagnosticsSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a diagnosis takes offence at.

    Attributes:
        untried_max: The share of a policy's choices to which the log gave no chance
            above which a log is weak, 0 to 1.
        untried_refused: That above which it is unusable, at least `untried_max`, to 1.
        segment_share_min: The share of the rows from which on a segment matters, 0 to
            1.
        segment_ess_min: The effective sample size of such a segment below which a log
            is weak, 0 or more.
        p_min: How likely chance must make what was seen of propensities or weights by
            day, at least, above 0 to 1; anything less is held for wrong.
        gap_max: By how much of itself a probability may be off even where it is certain
            that it is, 0 or more: logged ones are rounded.
    """

    untried_max: float = 0.001
    untried_refused: float = 0.05
    segment_share_min: float = 0.02
    segment_ess_min: float = 30.0
    p_min: float = 1e-4
    gap_max: float = 0.05

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        if not 0 <= self.untried_max <= self.untried_refused <= 1:
            raise ValueError(
                "untried_max and untried_refused must be 0 to 1, in this order, not"
                f" {self.untried_max} and {self.untried_refused}"
            )
        if not 0 <= self.segment_share_min <= 1:
            raise ValueError(
                f"segment_share_min must be 0 to 1, not {self.segment_share_min}"
            )
        if not self.segment_ess_min >= 0:
            raise ValueError(
                f"segment_ess_min must be 0 or more, not {self.segment_ess_min}"
            )
        if not 0 < self.p_min <= 1:
            raise ValueError(f"p_min must be above 0, to 1, not {self.p_min}")
        if not self.gap_max >= 0:
            raise ValueError(f"gap_max must be 0 or more, not {self.gap_max}")


class Calibration(msgspec.Struct, frozen=True):
    """What was predicted and what came, in bins of equal width; they add up.

    Attributes:
        counts: How many predictions are in each bin.
        predicted: Their sum.
        came: The sum of what came.
        variances: The sum of the variances of what came, as far as it is known.
    """

    counts: tuple[float, ...]
    predicted: tuple[float, ...]
    came: tuple[float, ...]
    variances: tuple[float, ...]

    @classmethod
    def of_chances(
        cls, probabilities: FloatArray, chosen: NDArray[np.bool_]
    ) -> Calibration:
        """Compare chances with what was chosen.

        Args:
            probabilities: Of each eligible action of each decision, in any shape.
            chosen: Whether it was the one chosen, of the same shape.
        """
        p = probabilities.ravel()
        return cls._of(p, p, chosen.ravel().astype(float), p * (1 - p))

    @classmethod
    def of_rewards(
        cls,
        expected: FloatArray,
        rewards: FloatArray,
        reward_range: tuple[float, float],
    ) -> Calibration:
        """Compare what a model expected of the actions taken with what they earned.

        Args:
            expected: Shape (n,), by a model that has not seen the row.
            rewards: Shape (n,).
            reward_range: The smallest and the largest reward possible.
        """
        low, high = reward_range
        place = (expected - low) / (high - low) if high > low else 0.0 * expected
        return cls._of(place, expected, rewards, (rewards - expected) ** 2)

    @classmethod
    def _of(
        cls,
        place: FloatArray,
        predicted: FloatArray,
        came: FloatArray,
        variances: FloatArray,
    ) -> Calibration:
        bins = np.clip((place * BINS).astype(np.intp), 0, BINS - 1)
        counts = np.bincount(bins, minlength=BINS).astype(float)
        sums = (
            np.bincount(bins, weights=column, minlength=BINS)
            for column in (predicted, came, variances)
        )
        return cls(tuple(counts.tolist()), *(tuple(one.tolist()) for one in sums))

    def __add__(self, other: Calibration) -> Calibration:
        """Return the sums of both."""
        mine, others = msgspec.structs.astuple(self), msgspec.structs.astuple(other)
        return Calibration(
            *(
                tuple(a + b for a, b in zip(one, two, strict=True))
                for one, two in zip(mine, others, strict=True)
            )
        )

    @property
    def p_value(self) -> float:
        """How likely chance makes what came, if what was predicted is right."""
        squares = [
            (came - predicted) ** 2 / variance
            for predicted, came, variance in zip(
                self.predicted, self.came, self.variances, strict=True
            )
            if variance > _VARIANCE_MIN
        ]
        return chi_squared_tail(math.fsum(squares), len(squares)) if squares else 1.0

    @property
    def gap(self) -> float:
        """The difference of what came and what was predicted, over what was.

        The mean over bins, each as often as something is expected of it.
        """
        expected = math.fsum(abs(one) for one in self.predicted)
        apart = math.fsum(
            abs(came - predicted)
            for came, predicted in zip(self.came, self.predicted, strict=True)
        )
        return apart / expected if expected else 0.0


class Segment(msgspec.Struct, frozen=True):
    """What a log tried in a segment, or on a day, of what a policy does; it adds up."""

    n: int = 0
    weight: float = 0.0
    squares: float = 0.0
    reward: float = 0.0
    reward_squares: float = 0.0
    untried: float = 0.0

    def __add__(self, other: Segment) -> Segment:
        """Return the sums of both."""
        mine, others = msgspec.structs.astuple(self), msgspec.structs.astuple(other)
        return Segment(*(a + b for a, b in zip(mine, others, strict=True)))

    @property
    def ess(self) -> float:
        """Its effective sample size."""
        return self.weight**2 / self.squares if self.squares > 0 else 0.0

    @property
    def mean_weight(self) -> float:
        """Its mean weight."""
        return self.weight / self.n if self.n else math.nan

    @property
    def mean_reward(self) -> float:
        """Its mean reward, as logged."""
        return self.reward / self.n if self.n else math.nan


class Diagnosis(NamedTuple):
    """What was found.

    Attributes:
        verdict: The worst of all.
        doubts: Why it is not usable, the gravest first.
        notes: What to know besides.
        rows_needed: How many rows like these would make it usable; none where it is, or
            where more rows like these would not.
        figures: What it was judged by, by name.
    """

    verdict: Verdict
    doubts: tuple[str, ...]
    notes: tuple[str, ...]
    rows_needed: int | None
    figures: dict[str, float]


class Diagnostics(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of a log to judge it for one policy; parts of it add up.

    Attributes:
        overlap: Of all weights.
        weight_max: The largest weight that any decision could have had.
        segments: By name.
        days: By number of days since 1970.
        propensities: Of the logging policy; none where only that of what was chosen is
            known.
        model: Of the reward model; none without one.
    """

    overlap: Overlap
    weight_max: float
    segments: dict[str, Segment]
    days: dict[int, Segment]
    propensities: Calibration | None = None
    model: Calibration | None = None

    @classmethod
    def of(
        cls,
        weights: FloatArray,
        rewards: FloatArray,
        *,
        weight_max: float,
        segments: Sequence[str] | None = None,
        times_ms: NDArray[np.int64] | None = None,
        untried: FloatArray | None = None,
        propensities: Calibration | None = None,
        model: Calibration | None = None,
        quiet: NDArray[np.bool_] | None = None,
    ) -> Diagnostics:
        """Return the sums of some rows.

        Args:
            weights: Target over logging propensity of the action taken, shape (n,).
            rewards: What each earned, shape (n,).
            weight_max: The largest weight that any decision could have had.
            segments: Of each row's user; not looked at without them.
            times_ms: When each decision was made, Unix ms, shape (n,); likewise.
            untried: What the policy would have done that the log gave no chance, as a
                share of each decision, shape (n,).
            propensities: Of the logging policy.
            model: Of the reward model.
            quiet: Of which rows nothing came, whatever they cost, shape (n,).

        Examples:
            >>> import numpy as np
            >>> rewards = np.tile([1.0, 0.0], 250)
            >>> found = Diagnostics.of(np.ones(500), rewards, weight_max=1.0)
            >>> found.diagnose().verdict
            'usable'
        """
        rest = np.zeros_like(weights) if untried is None else untried
        columns = (
            np.ones_like(weights),
            weights,
            weights * weights,
            rewards,
            rewards * rewards,
            rest,
        )
        names = np.full(len(weights), "") if segments is None else np.asarray(segments)
        days = np.zeros(len(weights), int) if times_ms is None else times_ms // _DAY_MS
        return cls(
            overlap=Overlap.of(weights, rewards, quiet),
            weight_max=weight_max,
            segments={} if len(weights) == 0 else _by(names, columns, str),
            days={}
            if times_ms is None or not len(weights)
            else _by(days, columns, int),
            propensities=propensities,
            model=model,
        )

    def __add__(self, other: Diagnostics) -> Diagnostics:
        """Return the sums of the rows of both."""
        return Diagnostics(
            overlap=self.overlap + other.overlap,
            weight_max=max(self.weight_max, other.weight_max),
            segments=_joined(self.segments, other.segments),
            days=_joined(self.days, other.days),
            propensities=_sum(self.propensities, other.propensities),
            model=_sum(self.model, other.model),
        )

    def diagnose(
        self,
        settings: DiagnosticsSettings | None = None,
        overlap: OverlapSettings | None = None,
    ) -> Diagnosis:
        """Say whether the log can tell what the policy would have earned, and why."""
        settings = settings or DiagnosticsSettings()
        found = assess(self.overlap, weight_max=self.weight_max, settings=overlap)
        verdict, doubts = found.verdict, list(found.doubts)
        rows_needed = found.rows_needed
        for worst, doubt in self._findings(settings):
            verdict = worse(verdict, worst)
            doubts.append(doubt)
            rows_needed = None
        return Diagnosis(
            verdict, tuple(doubts), self._notes(settings), rows_needed, self._figures()
        )

    @property
    def untried(self) -> float:
        """The share of the policy's choices to which the log gave no chance."""
        if not self.overlap.n:
            return 0.0
        return math.fsum(one.untried for one in self.segments.values()) / self.overlap.n

    @property
    def weights_by_day(self) -> float:
        """How likely chance makes the mean weights of the days, if all are 1.

        A day whose weights are too small may only lack the largest possible one.
        """
        groups: list[tuple[int, float, float]] = []
        for day in self.days.values():
            group = day.n, day.weight, day.squares
            if day.weight < day.n:
                most = self.weight_max
                group = day.n + 1, day.weight + most, day.squares + most * most
                if group[1] >= group[0]:
                    continue
            groups.append(group)
        return _alike(groups, 1.0)

    @property
    def rewards_by_day(self) -> float:
        """How likely chance makes the mean rewards of the days, if all are the same."""
        n = sum(day.n for day in self.days.values())
        if not n:
            return 1.0
        mean = math.fsum(day.reward for day in self.days.values()) / n
        return _alike(
            [(day.n, day.reward, day.reward_squares) for day in self.days.values()],
            mean,
        )

    def _findings(self, settings: DiagnosticsSettings) -> list[tuple[Verdict, str]]:
        found: list[tuple[Verdict, str]] = []
        if self.untried > settings.untried_max:
            refused = self.untried > settings.untried_refused
            doubt = f"the log never tries {self.untried:.1%} of what it would do"
            found.append(("unusable" if refused else "weak", doubt))
        chances = self.propensities
        if chances is not None and (
            chances.p_value < settings.p_min and chances.gap > settings.gap_max
        ):
            doubt = (
                f"logged propensities are off by {chances.gap:.0%}: what was chosen is"
                " not what they say"
            )
            found.append(("unusable", doubt))
        by_day = self.weights_by_day
        if by_day < settings.p_min:
            doubt = (
                "weights are not 1 on average on every day: propensities of some days"
                " are wrong, or actions came and went, or it is a chance of"
                f" {by_day:.1g}"
            )
            found.append(("weak", doubt))
        for name in self._unsupported(settings):
            one = self.segments[name]
            doubt = (
                f"in segment {name}, {one.n:,} decisions are worth {one.ess:.0f} of"
                " this policy"
            )
            found.append(("weak", doubt))
        return found

    def _unsupported(self, settings: DiagnosticsSettings) -> list[str]:
        """Return the segments that matter and of which the log says next to nothing."""
        if len(self.segments) < 2:
            return []
        return sorted(
            name
            for name, one in self.segments.items()
            if one.n >= settings.segment_share_min * self.overlap.n
            and one.ess < min(settings.segment_ess_min, one.n)
        )

    def _notes(self, settings: DiagnosticsSettings) -> tuple[str, ...]:
        notes: list[str] = []
        if self.model is not None and self.model.p_value < settings.p_min:
            notes.append(
                f"the reward model is off by {self.model.gap:.0%}: dm is off as much"
            )
        if self.rewards_by_day < settings.p_min:
            notes.append(
                "rewards differ by day more than chance does: the value is that of"
                " these days"
            )
        return tuple(notes)

    def _figures(self) -> dict[str, float]:
        overlap = self.overlap
        figures = {
            "rows": float(overlap.n),
            "ess": overlap.ess,
            "ess_share": overlap.ess_share,
            "largest_weight": overlap.largest,
            "largest_share": overlap.largest_share,
            "top_1_percent_share": overlap.top_share,
            "mean_weight": overlap.mean,
            "mean_weight_error": overlap.mean_error,
            "untried": self.untried,
        }
        if self.propensities is not None:
            figures["propensities_p_value"] = self.propensities.p_value
            figures["propensities_gap"] = self.propensities.gap
        if self.model is not None:
            figures["model_p_value"] = self.model.p_value
            figures["model_gap"] = self.model.gap
        if self.days:
            figures["weights_by_day_p_value"] = self.weights_by_day
            figures["rewards_by_day_p_value"] = self.rewards_by_day
        return figures


def chi_squared_tail(x: float, df: int) -> float:
    """Return how often a χ² of so many degrees of freedom exceeds x.

    Examples:
        >>> round(chi_squared_tail(3.841, 1), 3)
        0.05
    """
    if x <= 0:
        return 1.0
    log = log_lower_gamma(df / 2, x / 2) - math.lgamma(df / 2)
    return max(0.0, -math.expm1(min(log, 0.0)))


def _alike(groups: Sequence[tuple[int, float, float]], mean: float) -> float:
    """Return how likely chance makes the means of groups, if all are one number.

    Args:
        groups: Of each its number of rows, sum and sum of squares.
        mean: That number.
    """
    squares: list[float] = []
    for n, total, square in groups:
        variance = (square - total * total / n) / max(n - 1, 1) if n else 0.0
        # Too few rows have no variance to speak of, and equal ones none.
        if n >= 30 and variance > _VARIANCE_MIN:
            squares.append((total / n - mean) ** 2 / (variance / n))
    return chi_squared_tail(math.fsum(squares), len(squares)) if squares else 1.0


def _by(
    names: NDArray[np.generic], columns: Sequence[FloatArray], kind: Callable[..., T]
) -> dict[T, Segment]:
    known, places = np.unique(names, return_inverse=True)
    sums = np.stack([np.bincount(places, weights=column) for column in columns])
    return {
        kind(name): Segment(int(part[0]), *part[1:].tolist())
        for name, part in zip(known, sums.T, strict=True)
    }


def _joined(one: dict[T, Segment], other: dict[T, Segment]) -> dict[T, Segment]:
    none = Segment()
    return {
        name: one.get(name, none) + other.get(name, none)
        for name in sorted(one.keys() | other.keys(), key=str)
    }


def _sum(one: Calibration | None, other: Calibration | None) -> Calibration | None:
    if one is None or other is None:
        return one or other
    return one + other
