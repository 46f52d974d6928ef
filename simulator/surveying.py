"""A first look at a log: what is in it, and what a reward model is made from.

Everything is a sum, a largest or a smallest, or a sample by a hash of the rows, so
that parts are put together in any order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from policies.model import Features, FloatArray
from policies.reward_model import Moments
from simulator.batches import Batch, BatchError, mixed
from simulator.feedback import Feedback

__all__ = [
    "LISTED",
    "REWARD",
    "REWARD_MAX",
    "SETTLING",
    "Sample",
    "Survey",
    "column_of",
    "contexts_of",
    "demand_sound",
    "moments_of",
    "quiet_of",
    "survey",
    "unsound",
]

REWARD = "reward"
"""The name of the objective that is the reward."""

MODEL_NUMBERS_MAX = 50_000_000
"""Up to how many numbers a reward model is made from: 400 MB."""

LISTED = "`check-log` lists all such rows"
"""What to do about rows that are refused."""

_SLACK = 1e-4
"""By how much probabilities may be off: many logs have 32 bits."""

REWARD_MAX = 1e60
"""Beyond this, products of sums of squares are no numbers any more."""
_SHOWN = "shown"
SETTLING = frozenset({"accepted", "dismissed", "opted_out", "refunded", "churned"})
"""What says more of an offer than that it was seen."""

_SAMPLE_MAX = 65_536
_USER_SALT = 0x5EED_0003
_ROW_SALT = 0x5EED_0004


class Sample:
    """The rows, or the users, with the smallest hashes: the same in every order.

    Args:
        hashes: A hash each, shape (n,).
        columns: What is kept of each, shape (n_columns, n).
        distinct: Whether equal hashes are the same thing, which is kept once.
    """

    def __init__(
        self, hashes: NDArray[np.uint64], columns: FloatArray, *, distinct: bool
    ) -> None:
        if distinct:
            hashes, first = np.unique(hashes, return_index=True)
            columns = columns[:, first]
        else:
            order = np.argsort(hashes, kind="stable")
            hashes, columns = hashes[order], columns[:, order]
        self.hashes = hashes[:_SAMPLE_MAX]
        self.columns = columns[:, :_SAMPLE_MAX]
        self._distinct = distinct

    def __add__(self, other: Sample) -> Sample:
        return Sample(
            np.concatenate([self.hashes, other.hashes]),
            np.concatenate([self.columns, other.columns], axis=1),
            distinct=self._distinct,
        )

    @property
    def count(self) -> int:
        """How many there are in all: exact where the sample holds all of them.

        References:
            Z. Bar-Yossef, T. S. Jayram, R. Kumar, D. Sivakumar and L. Trevisan.
            Counting distinct elements in a data stream. RANDOM 2002.
        """
        kept = len(self.hashes)
        if kept < _SAMPLE_MAX:
            return kept
        return round((kept - 1) / (float(self.hashes[-1]) / 2.0**64))


class Survey(NamedTuple):
    """What a log, or a part of it, holds.

    Attributes:
        decisions: How many decisions there are.
        rewarded: How many have a reward: those that are judged by.
        counted: How many decisions these stand for.
        silent: How many decisions are for no offer, and how many of these have a
            reward.
        told: Of the offers that were shown how many have a reward, and how many of
            these an outcome that settles them; then the same of those without a reward.
            All 0 where the log does not say what was shown.
        times_ms: The first and the last time, of those that have one.
        ranges: By objective, the smallest and the largest seen.
        loggers: By policy, how many rewarded decisions it logged.
        chosen: By action, how many rewarded decisions are for it.
        offers: The offers that were eligible in some of them.
        users: A sample of users.
        rows: A sample of rewarded decisions: the time, then each objective.
        moments: What the reward model is made from; none where that is too much.
    """

    decisions: int
    rewarded: int
    counted: float
    silent: tuple[int, int]
    told: tuple[int, int, int, int]
    times_ms: tuple[float, float]
    ranges: Mapping[str, tuple[float, float]]
    loggers: Counter[str]
    chosen: Counter[str]
    offers: frozenset[str]
    users: Sample
    rows: Sample
    moments: Moments | None

    def __add__(self, other: Survey) -> Survey:  # type: ignore[override]
        return Survey(
            self.decisions + other.decisions,
            self.rewarded + other.rewarded,
            self.counted + other.counted,
            (self.silent[0] + other.silent[0], self.silent[1] + other.silent[1]),
            _each(self.told, other.told),
            _wider(self.times_ms, other.times_ms),
            {
                name: _wider(span, other.ranges[name])
                for name, span in self.ranges.items()
            },
            self.loggers + other.loggers,
            self.chosen + other.chosen,
            self.offers | other.offers,
            self.users + other.users,
            self.rows + other.rows,
            _together(self.moments, other.moments),
        )


def survey(batch: Batch, objectives: Sequence[str], *, folds: int, dim: int) -> Survey:
    """Look at a part of a log.

    Args:
        batch: The part, rows without a reward too.
        objectives: What is judged by.
        folds: Into how many folds the users fall.
        dim: The number of places of the reward model; 0 for none.
    """
    whole = batch.feedback
    silent = np.array([action.index == 0 for action in whole.vocabulary], dtype=bool)
    mute = silent[whole.chosen] if len(whole.chosen) else np.zeros(len(whole), bool)
    known = whole.rewarded
    part = whole.take(known)
    kept = Batch(part)
    columns = [column_of(part, name) for name in objectives]
    times = part.times_ms.astype(float) if len(part.times_ms) else np.zeros(len(part))
    places = part.positions if len(part.positions) else np.arange(len(part))
    place = mixed(places.astype(np.uint64), _ROW_SALT)
    return Survey(
        decisions=len(whole),
        rewarded=len(part),
        counted=float(part.counts.sum()) if len(part.counts) else float(len(part)),
        silent=(int(mute.sum()), int((mute & known).sum())),
        told=_told(whole, known & ~mute, ~known & ~mute),
        times_ms=_span(times[times > 0]),
        ranges={
            name: _span(column)
            for name, column in zip(objectives, columns, strict=True)
        },
        loggers=_counted(part.loggers, part.policies),
        chosen=_counted(part.chosen, [action.name for action in part.vocabulary]),
        offers=frozenset(
            part.vocabulary[at].offer_id
            for at in np.unique(part.actions).tolist()
            if part.vocabulary[at].index
        ),
        users=Sample(
            mixed(part.keys, _USER_SALT), np.empty((0, len(part))), distinct=True
        ),
        rows=Sample(
            mixed(part.keys ^ place, _ROW_SALT),
            np.array([times, *columns]),
            distinct=False,
        ),
        moments=moments_of(kept, columns, folds, dim) if dim else None,
    )


def _told(
    part: Feedback, known: NDArray[np.bool_], pending: NDArray[np.bool_]
) -> tuple[int, int, int, int]:
    if _SHOWN not in part.objectives:
        return 0, 0, 0, 0
    shown = part.objectives[_SHOWN] > 0.0
    settled = np.zeros(len(part), dtype=bool)
    for name in SETTLING & part.objectives.keys():
        settled |= part.objectives[name] > 0.0
    first, second = shown & known, shown & pending
    return (
        int(first.sum()),
        int((first & settled).sum()),
        int(second.sum()),
        int((second & settled).sum()),
    )


def _each(
    one: tuple[int, int, int, int], other: tuple[int, int, int, int]
) -> tuple[int, int, int, int]:
    a, b, c, d = (mine + theirs for mine, theirs in zip(one, other, strict=True))
    return a, b, c, d


def demand_sound(part: Feedback) -> None:
    """Refuse a part with rows that nothing could be estimated from.

    Raises:
        BatchError: If there is one; the message says which, and what would be right.
    """
    for _, problem in unsound(part):
        raise BatchError(f"{problem}; {LISTED}")


def unsound(part: Feedback) -> Iterator[tuple[int, str]]:
    """Yield the rows that nothing could be estimated from, and what is wrong.

    Each comes with its place in the part, and once for each thing that is wrong.
    """
    p, earned = part.propensities, part.rewards
    said = f"-{REWARD_MAX:g} to {REWARD_MAX:g}"
    yield from _wrong(part, "reward", said, earned, np.abs(earned) > REWARD_MAX)
    wrong = ~((p > 0.0) & (p <= 1.0 + _SLACK)) & part.rewarded
    yield from _wrong(part, "propensity", "above 0, at most 1", p, wrong)
    each = part.probabilities
    if not len(each) or len(part.offsets) != len(part) + 1:
        return
    sizes = np.diff(part.offsets)
    rows = np.repeat(np.arange(len(part)), sizes)
    outside = (each < 0.0) | (each > 1.0 + _SLACK)
    worst = np.zeros(len(part))
    worst[rows[outside]] = each[outside]
    wrong = np.bincount(rows, outside, len(part)) > 0
    yield from _wrong(part, "each of the probabilities", "0 to 1", worst, wrong)
    sums: FloatArray = np.bincount(rows, each, len(part)).astype(float)
    off = (np.abs(sums - 1.0) > _SLACK) & (sizes > 0) & part.rewarded & ~wrong
    yield from _wrong(part, "the sum of the probabilities", "1", sums, off)


def _wrong(
    part: Feedback,
    column: str,
    wanted: str,
    values: FloatArray,
    wrong: NDArray[np.bool_],
) -> Iterator[tuple[int, str]]:
    for row in np.flatnonzero(wrong).tolist():
        place = part.positions[row] if len(part.positions) else row + 1
        yield row, f"row {place}: {column} must be {wanted}, not {values[row]:g}"


def column_of(part: Feedback, objective: str) -> FloatArray:
    """Return what rows earned by an objective, shape (n,).

    Raises:
        BatchError: If the log knows of no such objective.
    """
    if objective == REWARD:
        return part.rewards
    if objective not in part.objectives:
        there = ", ".join([REWARD, *sorted(part.objectives)])
        raise BatchError(f"the log has no objective {objective!r}; it has {there}")
    return part.objectives[objective]


def quiet_of(part: Feedback, objective: str) -> NDArray[np.bool_] | None:
    """Return of which rows nothing came, whatever they cost, shape (n,).

    To show an offer costs attention: that is known before anything comes of it, and
    says nothing of what it earns. None where the log does not say what was shown.
    """
    if objective != REWARD or _SHOWN not in part.objectives:
        return None
    quiet: NDArray[np.bool_] = part.rewards <= 0.0
    for name in SETTLING & part.objectives.keys():
        quiet &= part.objectives[name] == 0.0
    return quiet


def contexts_of(part: Feedback) -> Sequence[Features]:
    """Return what was known of each row; nothing where the log does not say."""
    return part.contexts if len(part.contexts) else [()] * len(part)


def moments_of(
    batch: Batch,
    columns: Sequence[FloatArray],
    folds: int,
    dim: int,
    weights: FloatArray | None = None,
) -> Moments:
    """Return what a reward model of a part of a log is made from.

    Args:
        batch: The part, of which every row has a reward.
        columns: What rows earned, by objective, each shape (n,).
        folds: Into how many folds the users fall.
        dim: The number of places that features are hashed to.
        weights: How much each row counts, shape (n,); all the same without it.
    """
    part = batch.feedback
    moments = Moments(folds=folds, dim=dim)
    moments.add(
        contexts_of(part),
        [action.name for action in part.vocabulary],
        part.chosen.astype(np.int64),
        np.nan_to_num(np.array(columns).T),
        fold=batch.folds(folds),
        weights=weights,
    )
    return moments


def _together(a: Moments | None, b: Moments | None) -> Moments | None:
    if a is None or b is None:
        return None
    both = a + b
    return both if both.size <= MODEL_NUMBERS_MAX else None


def _counted(codes: NDArray[np.int32], names: Sequence[str]) -> Counter[str]:
    counter: Counter[str] = Counter()
    for code, count in enumerate(np.bincount(codes, minlength=len(names)).tolist()):
        if count:
            counter[names[code]] += count
    return counter


def _span(column: FloatArray) -> tuple[float, float]:
    known = column[~np.isnan(column)]
    return (float(known.min()), float(known.max())) if len(known) else (np.inf, -np.inf)


def _wider(a: tuple[float, float], b: tuple[float, float]) -> tuple[float, float]:
    return min(a[0], b[0]), max(a[1], b[1])
