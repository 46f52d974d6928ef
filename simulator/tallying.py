"""The second look at a log: what targets would have earned, as sums that add up.

A part of the log becomes a `Tally`: for each target, objective and slice of the log
the sums of every estimator. Parts are put together with `+`, in one process or in many.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from policies.diagnostics import Calibration, Diagnostics
from policies.estimators import Rows, Terms
from policies.estimators.embedding import cluster_weights
from policies.intervals import Sums
from policies.model import FloatArray
from policies.reward_model import RewardModel
from simulator.balancing import Balancing
from simulator.batches import Batch, BatchError
from simulator.feedback import Feedback
from simulator.surveying import column_of, contexts_of, quiet_of
from simulator.targets import Answer, Logged, Target

__all__ = ["ALL", "MEAN", "UNSEEN", "By", "Cell", "Plan", "Tally", "tally", "window_of"]

By = Literal["segment", "day", "week", "logger"]
"""What a log can be cut by."""

_ROBUST = "mrdr"

UNSEEN = ""
"""The name under which a reward model has the actions that it has never seen."""

MEAN = "mean"
"""What the estimate of a policy is called that was observed."""

_ROUNDING = 1e-9
_DAY_MS = 86_400_000
_EPOCH = dt.date(1970, 1, 1)
_WEEKDAY = 3  # 1970 began on a Thursday, the third day after a Monday.


K = TypeVar("K")
T = TypeVar("T")


class Cell(NamedTuple):
    """What sums are of.

    Attributes:
        target: Which target, by its place.
        objective: What is earned.
        by: What the log was cut by; empty for the whole of it.
        group: Which part of it; empty for the whole.
    """

    target: int
    objective: str
    by: str = ""
    group: str = ""


ALL = ("", "")
"""The whole of a log, where a cell's `by` and `group` are."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to sum up.

    Attributes:
        targets: Whom to ask.
        objectives: What is earned.
        estimators: By name, those of which parts add up.
        whole: Whether others look at all rows at once.
        needs: By name, which columns they need beside rewards and weights.
        kinds: Whether some weigh kinds of actions, which are their offers.
        model: The reward model; none without one.
        robust: By target, a reward model for `mrdr`; empty where nobody asked.
        balancing: By target, what gives balanced weights; empty likewise.
        folds: Into how many folds the users fall, by which the model was learned.
        ranges: By objective, the smallest and the largest of the log.
        by: What to cut the log by, beside the whole of it.
        steps: By objective, where to count for quantiles, ascending; none for none.
        count_mean: How many decisions a row stands for on average.
    """

    targets: Sequence[Target]
    objectives: Sequence[str]
    estimators: Mapping[str, Callable[[Rows], Terms]]
    whole: bool = False
    needs: Mapping[str, Sequence[str]]
    kinds: bool = False
    model: RewardModel | None
    robust: Sequence[RewardModel] = ()
    balancing: Sequence[Balancing] = ()
    folds: int
    ranges: Mapping[str, tuple[float, float]]
    by: Sequence[By] = ()
    steps: Mapping[str, FloatArray] = {}
    count_mean: float = 1.0


class Expected(NamedTuple):
    """What a reward model expects of a part of a log.

    Attributes:
        taken: Of the logged action, shape (n,).
        eligible: Of each eligible action, shape (offsets[n],).
    """

    taken: FloatArray
    eligible: FloatArray


class Whole(NamedTuple):
    """Rows that are kept as they are, because an estimator looks at all of them.

    Attributes:
        rows: The rows.
        keys: Whose each is, shape (n,).
        weight_max: The largest weight that any could have had; none unknown.
    """

    rows: Rows
    keys: NDArray[np.uint64]
    weight_max: float | None

    def __add__(self, other: Whole) -> Whole:  # type: ignore[override]
        columns: dict[str, Any] = {
            name: None if one is None or two is None else np.concatenate([one, two])
            for name in self.rows.__struct_fields__
            for one, two in [(getattr(self.rows, name), getattr(other.rows, name))]
        }
        heaviest = None
        if self.weight_max is not None and other.weight_max is not None:
            heaviest = max(self.weight_max, other.weight_max)
        return Whole(Rows(**columns), np.concatenate([self.keys, other.keys]), heaviest)

    @property
    def sorted(self) -> Whole:
        """The same in an order that does not depend on the log's."""
        draws = self.rows.draws
        order = np.lexsort((self.keys if draws is None else draws, self.keys))
        return Whole(self.rows.take(order), self.keys[order], self.weight_max)


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    """What a log, or a part of it, adds up to.

    Attributes:
        rows: How many decisions were judged by.
        sums: By cell, the sums of every estimator.
        untried: By target and group, how much it would choose of what had no chance,
            summed, and of how many decisions.
        steps: By target and objective, the sums for the shares up to each step.
        actions: By target and action, how much it would choose of it, summed.
        diagnostics: By target and objective, what may be wrong with the log for it.
        whole: By target and objective, the rows themselves, with their keys, for
            estimators that look at all of them at once.
    """

    rows: int
    sums: dict[Cell, Sums]
    untried: dict[Cell, FloatArray]
    steps: dict[Cell, Sums]
    actions: dict[tuple[int, str], float]
    diagnostics: dict[Cell, Diagnostics]
    whole: dict[Cell, Whole]

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            rows=self.rows + other.rows,
            sums=_added(self.sums, other.sums),
            untried=_added(self.untried, other.untried),
            steps=_added(self.steps, other.steps),
            actions={
                key: self.actions.get(key, 0.0) + other.actions.get(key, 0.0)
                for key in self.actions | other.actions
            },
            diagnostics=_added(self.diagnostics, other.diagnostics),
            whole=_added(self.whole, other.whole),
        )


def tally(batch: Batch, plan: Plan) -> Tally:
    """Sum up a part of a log.

    Args:
        batch: The part, of which every row has a reward.
        plan: What to sum up.
    """
    part = batch.feedback
    predictions = [
        _predict(batch, plan, reward) for reward in range(len(plan.objectives))
    ]
    groups = list(_groups(part, plan.by))
    chances = _chances(batch)
    found = Tally(
        rows=len(part),
        sums={},
        untried={},
        steps={},
        actions={},
        diagnostics={},
        whole={},
    )
    for at, target in enumerate(plan.targets):
        answer = target.answer(batch)
        asked = _Asked(batch, plan, target, answer)
        for by, group, rows in [(*ALL, np.arange(len(part))), *groups]:
            cell = Cell(at, "", by, group)
            found.untried[cell] = np.array([asked.untried[rows].sum(), len(rows)])
        found.actions.update(_choices(at, batch, answer))
        for objective, expected in zip(plan.objectives, predictions, strict=True):
            cell = Cell(at, objective)
            asked.sum_up(cell, expected, groups, found)
            if len(part):
                diagnostics = asked.diagnosed(objective, expected, chances)
                found.diagnostics[cell] = diagnostics
    return found


class _Asked:
    """A target on a part of a log: its weights, and how large they could be."""

    def __init__(
        self, batch: Batch, plan: Plan, target: Target, answer: Answer
    ) -> None:
        part = batch.feedback
        self._batch, self._plan, self._answer = batch, plan, answer
        self._balanced: FloatArray | None = None
        self._observed = isinstance(target, Logged)
        self._counts = part.counts / plan.count_mean if len(part.counts) else None
        self.untried = np.zeros(len(part))
        self._weight_max: float | None = None
        count_max = (
            1.0 if self._counts is None else float(self._counts.max(initial=0.0))
        )
        if self._observed:
            self._weights = np.ones(len(part))
            self._weight_max = count_max
            return
        self._weights = answer.taken / part.propensities
        if plan.balancing:
            at = plan.targets.index(target)
            self._balanced = plan.balancing[at].weights(batch)
        if answer.eligible is None or np.isnan(part.probabilities).any():
            return
        logged = part.probabilities
        tried = logged > 0.0
        self.untried = np.maximum(
            1.0 - self._batch.totals(answer.eligible * tried), 0.0
        )
        self.untried[self.untried < _ROUNDING] = 0.0
        ratios = answer.eligible[tried] / logged[tried]
        heaviest = max(ratios.max(initial=0.0), self._weights.max(initial=0.0))
        self._weight_max = float(heaviest) * count_max

    def sum_up(
        self,
        cell: Cell,
        expected: Expected | None,
        groups: Sequence[tuple[str, str, NDArray[np.intp]]],
        found: Tally,
    ) -> None:
        """Add the sums of an objective, whole and by group."""
        rewards = column_of(self._batch.feedback, cell.objective)
        known = ~np.isnan(rewards)
        rows = self._rows(rewards, expected)
        terms = self._terms(rows, cell.target)
        keys = self._batch.feedback.keys
        quiet = quiet_of(self._batch.feedback, cell.objective)
        for by, group, within in [(*ALL, np.arange(len(rewards))), *groups]:
            at = within[known[within]]
            if not len(at):
                continue
            found.sums[cell._replace(by=by, group=group)] = Sums.of(
                {name: _taken(each, at) for name, each in terms.items()},
                keys[at],
                weights=rows.weights[at],
                rewards=rewards[at],
                logged_values=_some(rows.logged_values, at),
                target_values=_some(rows.target_values, at),
                weight_max=self._weight_max,
                quiet=None if quiet is None else quiet[at],
            )
        if self._plan.whole and not self._observed:
            at = np.flatnonzero(known)
            found.whole[cell] = Whole(rows.take(at), keys[at], self._weight_max)
        steps = self._plan.steps.get(cell.objective)
        if steps is not None and known.any():
            found.steps[cell] = self._stepped(rewards, steps, np.flatnonzero(known))

    def diagnosed(
        self,
        objective: str,
        expected: Expected | None,
        chances: Calibration | None,
    ) -> Diagnostics:
        """Look at what else may be wrong with the log for the target."""
        part = self._batch.feedback
        rewards = np.nan_to_num(column_of(part, objective))
        model = None
        if expected is not None:
            span = self._plan.ranges[objective]
            model = Calibration.of_rewards(expected.taken, rewards, span)
        heaviest = self._weight_max
        if heaviest is None:
            heaviest = 2.0 * float(self._weights.max())
        return Diagnostics.of(
            self._weights,
            rewards,
            weight_max=heaviest,
            segments=part.segments if len(part.segments) else None,
            times_ms=part.times_ms if len(part.times_ms) else None,
            untried=self.untried,
            propensities=chances,
            model=model,
            quiet=quiet_of(part, objective),
        )

    def _rows(self, rewards: FloatArray, expected: Expected | None) -> Rows:
        part = self._batch.feedback
        weights, scale = self._weights, self._counts
        values = logged = None
        if expected is not None and self._answer.eligible is not None:
            values = self._batch.totals(self._answer.eligible * expected.eligible)
            logged = expected.taken
        if scale is not None:
            weights = weights * scale
            values = None if values is None else values * scale
        return Rows(
            rewards=rewards,
            weights=weights,
            logged_values=logged,
            target_values=values,
            targets=self._answer.taken,
            cluster_weights=self._kinds(),
            balanced_weights=(
                self._balanced
                if scale is None or self._balanced is None
                else self._balanced * scale
            ),
            draws=self._batch.draws,
            loggers=part.loggers.astype(np.intp) if len(part.loggers) else None,
        )

    def _terms(self, rows: Rows, target: int) -> dict[str, Terms]:
        if self._observed:
            return {MEAN: Terms(added=rows.weights * rows.rewards)}
        plan = self._plan
        return {
            name: estimator(self._robust(rows, target) if name == _ROBUST else rows)
            for name, estimator in plan.estimators.items()
            if all(getattr(rows, need) is not None for need in plan.needs[name])
        }

    def _robust(self, rows: Rows, target: int) -> Rows:
        """Return the rows with values of a model that was made for the target."""
        expected = _predicted(self._batch, self._plan, self._plan.robust[target], 0)
        if self._answer.eligible is None:
            return rows
        values = self._batch.totals(self._answer.eligible * expected.eligible)
        return msgspec.structs.replace(
            rows,
            logged_values=expected.taken,
            target_values=values if self._counts is None else values * self._counts,
        )

    def _kinds(self) -> FloatArray | None:
        """Weigh offers instead of actions."""
        part, eligible = self._batch.feedback, self._answer.eligible
        if not self._plan.kinds or eligible is None:
            return None
        names = {action.offer_id for action in part.vocabulary}
        codes = {name: code for code, name in enumerate(sorted(names))}
        kinds = np.array([codes[action.offer_id] for action in part.vocabulary])
        with np.errstate(divide="ignore", invalid="ignore"):
            weights = cluster_weights(
                eligible,
                part.probabilities,
                kinds[part.actions],
                part.offsets,
                kinds[part.chosen],
            )
        wrong = ~np.isfinite(weights)
        if wrong.any():
            row = int(np.argmax(wrong))
            raise BatchError(
                f"row {part.positions[row]}: mips and offcem need the probability of"
                " every eligible action of the offer that was chosen, and not all 0"
            )
        return weights

    def _stepped(
        self, rewards: FloatArray, steps: FloatArray, at: NDArray[np.intp]
    ) -> Sums:
        """Sum up which share of the rewards is up to each step."""
        weights = self._weights[at]
        if self._counts is not None:
            weights = weights * self._counts[at]
        terms = {
            str(step): Terms(over=weights * (rewards[at] <= edge), under=weights)
            for step, edge in enumerate(steps.tolist())
        }
        return Sums.of(
            terms,
            self._batch.feedback.keys[at],
            weights=weights,
            rewards=np.ones(len(at)),
            weight_max=self._weight_max,
            reward_range=(0.0, 1.0),
        )


def window_of(time_ms: int, by: By) -> str:
    """Return the day or the week that a time is in, by its first day.

    Examples:
        >>> window_of(0, "day"), window_of(0, "week")
        ('1970-01-01', '1969-12-29')
    """
    day = time_ms // _DAY_MS
    if by == "week":
        day -= (day + _WEEKDAY) % 7
    return (_EPOCH + dt.timedelta(days=int(day))).isoformat()


def _groups(
    part: Feedback, by: Sequence[By]
) -> Iterator[tuple[str, str, NDArray[np.intp]]]:
    """Yield what the part is cut by, the name of each group, and its rows."""
    for each in by:
        names, codes = _codes(part, each)
        for code, name in enumerate(names):
            yield each, name, np.flatnonzero(codes == code)


def _codes(part: Feedback, by: By) -> tuple[list[str], NDArray[np.intp]]:
    match by:
        case "segment":
            segments = part.segments if len(part.segments) else [""] * len(part)
            found, codes = np.unique(
                np.array(segments, dtype=object), return_inverse=True
            )
            return [str(name) or "(none)" for name in found], codes
        case "logger":
            found, codes = np.unique(part.loggers, return_inverse=True)
            return [part.policies[code] or "(none)" for code in found], codes
    days = part.times_ms // _DAY_MS
    if by == "week":
        days = days - (days + _WEEKDAY) % 7
    found, codes = np.unique(days, return_inverse=True)
    return [window_of(int(day) * _DAY_MS, "day") for day in found], codes


def _predict(batch: Batch, plan: Plan, reward: int) -> Expected | None:
    """Return what actions are expected to earn; nothing without a model."""
    if plan.model is None:
        return None
    return _predicted(batch, plan, plan.model, reward)


def _predicted(batch: Batch, plan: Plan, model: RewardModel, reward: int) -> Expected:
    part = batch.feedback
    values = model.predict(contexts_of(part), batch.folds(plan.folds), reward)
    places = {name: place for place, name in enumerate(model.names)}
    place_of = np.array(
        [places.get(action.name, places[UNSEEN]) for action in part.vocabulary]
    )
    return Expected(
        values[np.arange(len(part)), place_of[part.chosen]],
        values[batch.rows, place_of[part.actions]],
    )


def _chances(batch: Batch) -> Calibration | None:
    """Compare logged probabilities with what was chosen, where all are known."""
    probabilities = batch.feedback.probabilities
    if not batch.complete or np.isnan(probabilities).any():
        return None
    chosen = np.zeros(len(probabilities), dtype=bool)
    chosen[batch.at] = True
    return Calibration.of_chances(probabilities, chosen)


def _choices(
    at: int, batch: Batch, answer: Answer
) -> Iterator[tuple[tuple[int, str], float]]:
    """Yield how much of each action a target would choose."""
    part = batch.feedback
    if answer.eligible is None or np.isnan(answer.eligible).any():
        return
    shares = np.bincount(
        part.actions, answer.eligible, minlength=len(part.vocabulary)
    ).tolist()
    sums: dict[str, float] = {}
    for action, share in zip(part.vocabulary, shares, strict=True):
        sums[action.name] = sums.get(action.name, 0.0) + share
    for name, share in sums.items():
        yield (at, name), share


def _taken(terms: Terms, at: NDArray[np.intp]) -> Terms:
    return Terms(
        added=None if terms.added is None else terms.added[at],
        over=None if terms.over is None else terms.over[at],
        under=None if terms.under is None else terms.under[at],
    )


def _some(column: FloatArray | None, at: NDArray[np.intp]) -> FloatArray | None:
    return None if column is None else column[at]


def _added(one: dict[K, T], two: dict[K, T]) -> dict[K, T]:
    both: dict[K, Any] = dict(one)
    for key, sums in two.items():
        both[key] = both[key] + sums if key in both else sums
    return both
