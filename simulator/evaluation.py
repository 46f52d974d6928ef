"""What other policies would have earned, from a log of decisions.

Of each decision that has a reward, the log holds which actions were eligible and how
likely each was to be chosen. A target policy is asked for its own distribution over
the same actions; `policies.estimators` weigh the rewards with the ratio, and
`policies.intervals` say how far that can be trusted.

The actions are those that were left after the gates. What a target policy would have
done to the histories of users, and so to later gates, is not part of the answer: the
values are of one decision in the situations that the logging policy led to.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import msgspec
import numpy as np

from policies.diagnostics import Calibration, DiagnosticsSettings, Segment
from policies.estimators import ESTIMATORS, Rows, Terms, named
from policies.estimators.tuning import tune_by_slope
from policies.intervals import Estimate, Kind, Sums, estimate_sums
from policies.model import Split
from policies.overlap import Verdict, worse
from simulator.candidates import Policies
from simulator.judging import DEFAULT_ESTIMATORS, FOLDS, Judged, Question, judge
from simulator.logs import AnyLog, Watcher
from simulator.surveying import REWARD
from simulator.tallying import MEAN, Cell, Whole, window_of
from simulator.targets import Column, Target

__all__ = [
    "POLICIES",
    "TRAINED",
    "Diagnostics",
    "Evaluation",
    "LogSummary",
    "Quantile",
    "Subject",
    "Support",
    "Value",
    "evaluate",
    "evaluation_of",
    "worst_of",
]

POLICIES = ("logged", "uniform", "latest", "greedy")
"""What is evaluated where nothing is asked for."""

_DAY_MS = 86_400_000
_SETTINGS = DiagnosticsSettings()
_UNBIASED = {
    *("ips", "snips", "dr", "sndr", "mrdr", "cressie_read", "mle"),
    *("multi_ips", "rejection"),
}
_HEADLINES = ("dr", "sndr", "snips", "ips")
TRAINED = "it has learned, or may have, from the rewards that it is judged by"
"""Why to doubt a policy that is judged by itself: no interval allows for that."""

_NEVER = "the log never did what this policy does"


class Value(msgspec.Struct, frozen=True, kw_only=True):
    """What one estimator says of one policy.

    Attributes:
        policy: The name under which it was asked for.
        objective: What is earned: `reward` or another outcome.
        by: What the log was cut by; empty for the whole of it.
        group: Which part of it this is about; empty for the whole.
        estimator: `mean` of what was observed, or an estimator.
        value: What is earned per decision, in the unit of the objective; none where the
            log cannot tell.
        low: The lower end of the interval; none where nothing bounds it, or the log
            cannot tell.
        high: Its upper end; none likewise.
        confidence: How often such an interval holds the true value.
        standard_error: The standard deviation of `value`; none without one.
        n: The number of decisions.
        ess: How many decisions of its own the policy would have needed to say as much.
        events: The number of decisions with a weight and a reward other than 0.
        weight_max: The largest weight that an eligible action could have had, by the
            logged probabilities.
        untried: The share of the policy's choices to which the log gave no chance.
        verdict: `usable`; `weak`: the interval holds, and no winner is to be named by
            it; `unusable`: the log cannot tell.
        rows_needed: How many decisions like these would make it usable; none where it
            is, or where more of them would not do.
        doubts: Why it is not usable.
    """

    policy: str
    objective: str
    by: str
    group: str
    estimator: str
    value: float | None
    low: float | None
    high: float | None
    confidence: float
    standard_error: float | None
    n: int
    ess: float
    events: int
    weight_max: float | None
    untried: float
    verdict: Verdict
    rows_needed: int | None
    doubts: tuple[str, ...]

    @property
    def reliable(self) -> bool:
        """Whether nothing speaks against deciding on these numbers."""
        return self.verdict == "usable"


class Quantile(msgspec.Struct, frozen=True, kw_only=True):
    """Which reward a share of the decisions of a policy does not exceed.

    Attributes:
        policy: The name under which it was asked for.
        objective: What is earned.
        quantile: The share, above 0, below 1.
        value: The reward; none where the log cannot tell.
        low: The lower end of the interval; none likewise.
        high: Its upper end; none likewise.
        confidence: How often such an interval holds the true quantile.
        verdict: As of the policy's value by this objective.
    """

    policy: str
    objective: str
    quantile: float
    value: float | None
    low: float | None
    high: float | None
    confidence: float
    verdict: Verdict


class Support(msgspec.Struct, frozen=True, kw_only=True):
    """What a log holds about a policy in a segment, or on a day.

    Attributes:
        n: The number of decisions.
        ess: How many decisions of its own the policy would have needed to say as much.
        weight_mean: The mean weight, which is 1 where all is as it should be.
        reward_mean: The mean of the first objective, as logged.
        untried: The share of the policy's choices to which the log gave no chance.
    """

    n: int
    ess: float
    weight_mean: float
    reward_mean: float
    untried: float


class Diagnostics(msgspec.Struct, frozen=True, kw_only=True):
    """How well a log covers a policy: of the weights, target over logging propensity.

    Attributes:
        verdict: The worst of all that was found.
        doubts: Why that is not `usable`.
        notes: What to know besides.
        figures: What it was judged by, by name: `ess`, `ess_share`, `largest_weight`,
            `largest_share` and `top_1_percent_share` of all weight, `mean_weight` and
            its error, `untried`, and how likely chance makes what was seen of
            propensities, the reward model, weights and rewards by day.
        weight_bins: The lower edges of bins of weights, ascending.
        weight_counts: How many weights are in each bin.
        segments: By segment, what the log holds about it.
        days: By day (UTC), likewise.
        propensities: Of the logged probabilities, in bins: how many there are, what
            they sum to, and how many were chosen; none where only that of what was
            chosen is known.
        model: Of what the reward model expected of actions taken: likewise, and what
            they earned; none without a model.
    """

    verdict: Verdict
    doubts: tuple[str, ...]
    notes: tuple[str, ...]
    figures: dict[str, float]
    weight_bins: tuple[float, ...]
    weight_counts: tuple[int, ...]
    segments: dict[str, Support]
    days: dict[str, Support]
    propensities: Calibration | None
    model: Calibration | None


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """A policy that was asked about.

    Attributes:
        name: The name under which it was asked for.
        about: What it is, in words.
        cross_fitted: Whether it has learned from this log, and was judged by users from
            whom it has not.
        trained_on_log: Whether it has learned from the rewards that it is judged by, or
            may have, so that its values are too good, and its verdict `weak` at best.
        verdict: Whether the log can tell what it would have earned.
        estimator: By which estimator that is said.
        diagnostics: Of its weights.
        actions: How often it would choose each action, as a share of the decisions;
            empty where that is not known.
    """

    name: str
    about: str
    cross_fitted: bool
    trained_on_log: bool
    verdict: Verdict
    estimator: str
    diagnostics: Diagnostics
    actions: dict[str, float]


class LogSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What is in a log.

    Attributes:
        path: Where it is.
        format: What it is, such as `server` or `parquet`.
        decisions: How many decisions were looked at.
        rewarded: How many of them have a reward: those that are judged by.
        users: How many users or accounts these are of; an estimate above 65,536.
        first_ms: When the first of them was made, Unix ms; none where nothing says.
        last_ms: When the last of them was made; none likewise.
        loggers: By the policy that made it, how many of them there are.
        chosen: By action, how many of them are for it.
    """

    path: str
    format: str
    decisions: int
    rewarded: int
    users: int
    first_ms: int | None
    last_ms: int | None
    loggers: dict[str, int]
    chosen: dict[str, int]


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """What policies would have earned on the decisions of a log.

    Attributes:
        format: The version of these fields.
        log: What is in the log.
        question: What was asked.
        verdict: The worst of the verdicts of the policies.
        policies: The policies, in the order in which they were asked about.
        values: One per policy, objective, part of the log and estimator.
        quantiles: One per policy, objective and quantile.
        notes: What to know before reading the values.
    """

    format: str = "opportune.evaluation.v2"
    log: LogSummary
    question: Question
    verdict: Verdict
    policies: tuple[Subject, ...]
    values: tuple[Value, ...]
    quantiles: tuple[Quantile, ...]
    notes: tuple[str, ...]

    def of(self, policy: str, estimator: str = "", objective: str = "") -> Value:
        """Return the value of a policy on the whole log.

        Args:
            policy: Its name.
            estimator: Which one; that of the policy's verdict without it.
            objective: What is earned; the first that was asked for without it.

        Raises:
            KeyError: If there is none.
        """
        subject = next((each for each in self.policies if each.name == policy), None)
        estimator = estimator or (subject.estimator if subject else "")
        objective = objective or self.question.objectives[0]
        wanted = (policy, estimator, objective, "")
        for value in self.values:
            if (value.policy, value.estimator, value.objective, value.by) == wanted:
                return value
        raise KeyError(f"there is no {estimator} of {policy} for {objective}")


def evaluate(
    log: AnyLog,
    policies: Policies = POLICIES,
    *,
    estimators: Sequence[str] = DEFAULT_ESTIMATORS,
    objectives: Sequence[str] = (REWARD,),
    by: Sequence[str] = (),
    quantiles: Sequence[float] = (),
    confidence: float = 0.95,
    interval: str = "default",
    split: Split | None = None,
    train_until: str | float | None = None,
    folds: int = FOLDS,
    dask: str | None = None,
    watcher: Watcher | None = None,
) -> Evaluation:
    """Estimate what policies would have earned on the decisions of a log.

    Args:
        log: A path, a URL, or anything else that `simulator.logs.open_log` opens.
        policies: What to evaluate, each one of `simulator.candidates.CHOICES`, or
            `NAME=` and that. As a mapping, by its name each of these, or a function
            that gets a part of the log (`Feedback`) and returns the probability of
            each entry of its `actions`.
        estimators: As of `Question`; likewise the arguments up to `folds`.
        objectives: What is earned.
        by: What to cut the log by.
        quantiles: Which quantiles to tell.
        confidence: How often an interval is to hold the true value.
        interval: Which kind of interval.
        split: Which part of the users to judge by.
        train_until: Up to when policies learn from the log.
        folds: Into how many parts users fall for policies that learn from the log.
        dask: The address of a Dask scheduler; in this process without it.
        watcher: Is told how far it is.

    Raises:
        LogError: If the log cannot be read, or no decision has a reward.
        TargetError: If there is no such policy.
        QuestionError: If something is asked that cannot be.
        ClusterError: If the cluster cannot be used.
    """
    question = Question(
        estimators=tuple(estimators),
        objectives=tuple(objectives),
        by=tuple(by),  # type: ignore[arg-type]
        quantiles=tuple(quantiles),
        confidence=confidence,
        interval=interval,
        split=split,
        train_until=train_until,
        folds=folds,
    )
    return evaluation_of(judge(log, policies, question, dask=dask, watcher=watcher))


def evaluation_of(judged: Judged) -> Evaluation:
    """Say what sums mean."""
    estimating = _Estimating(judged)
    values = tuple(estimating.values())
    subjects = tuple(
        estimating.subject(at, target, values)
        for at, target in enumerate(judged.targets)
    )
    verdict: Verdict = "usable"
    for subject in subjects:
        verdict = worse(verdict, subject.verdict)
    for objective in judged.question.objectives:
        told = [
            value.verdict != "unusable"
            for value in values
            if value.objective == objective and not value.by
        ]
        if told and not any(told):
            verdict = "unusable"
    return Evaluation(
        log=summary_of(judged),
        question=judged.question,
        verdict=verdict,
        policies=subjects,
        values=values,
        quantiles=tuple(estimating.quantiles(values)),
        notes=(*judged.notes, *estimating.left_out()),
    )


def summary_of(judged: Judged) -> LogSummary:
    """Say what is in a log."""
    found = judged.survey
    first, last = found.times_ms
    return LogSummary(
        path=str(judged.source.path),
        format=judged.source.format,
        decisions=found.decisions,
        rewarded=found.rewarded,
        users=found.users.count,
        first_ms=int(first) if math.isfinite(first) else None,
        last_ms=int(last) if math.isfinite(last) else None,
        loggers=dict(found.loggers.most_common()),
        chosen=dict(found.chosen.most_common()),
    )


class _Estimating:
    """Makes values of sums."""

    def __init__(self, judged: Judged) -> None:
        self._judged = judged
        self._question = judged.question
        self._plan = judged.plan
        self._tally = judged.tally
        self._diagnoses = {
            cell: found.diagnose() for cell, found in judged.tally.diagnostics.items()
        }

    # --- Values -------------------------------------------------------------------

    def values(self) -> Iterator[Value]:
        """Yield all that was asked for, the whole log first."""
        sums = self._tally.sums
        order = sorted(
            sums, key=lambda cell: (cell.target, self._rank(cell), cell.by, cell.group)
        )
        for cell in sorted(order, key=lambda cell: bool(cell.by)):
            for name in self._names(cell):
                yield self._value(cell, name)

    def _rank(self, cell: Cell) -> int:
        return self._question.objectives.index(cell.objective)

    def _names(self, cell: Cell) -> Iterator[str]:
        sums = self._tally.sums[cell]
        if MEAN in sums.names:
            yield MEAN
            return
        whole = not cell.by and cell in self._tally.whole
        found = [
            name
            for name in self._question.estimators
            if name in sums.names or (whole and self._has(cell, name))
        ]
        yield from found or ["snips"]

    def left_out(self) -> Iterator[str]:
        """Yield by what a policy was asked to be judged, and is not, and why."""
        objective = self._question.objectives[0]
        for at, target in enumerate(self._judged.targets):
            cell = Cell(at, objective)
            names = list(self._names(cell))
            missing = [
                name
                for name in self._question.estimators
                if name not in names and not self._is_told(name)
            ]
            if names == [MEAN] or not missing:
                continue
            needs = "needs" if len(missing) == 1 else "need"
            what = "what the log does not have"
            if isinstance(target, Column):
                what = (
                    "the probability of every eligible action, and a column has only"
                    " that of the chosen one"
                )
            yield (
                f"{', '.join(missing)} {needs} {what}: {target.name} is judged by"
                f" {', '.join(names)}"
            )

    def _is_told(self, name: str) -> bool:
        """Say whether it is known already that nobody is judged by an estimator."""
        needs = ESTIMATORS[name.partition("@")[0]].needs
        modelled = any(need.endswith("_values") for need in needs)
        return modelled and self._plan.model is None

    def _has(self, cell: Cell, name: str) -> bool:
        """Say whether an estimator that looks at all rows has what it needs."""
        rows = self._tally.whole[cell].rows
        needs = ESTIMATORS[name.partition("@")[0]].needs
        return all(getattr(rows, need) is not None for need in needs)

    def _value(self, cell: Cell, name: str) -> Value:
        sums = self._within(cell)
        untried = self._untried(cell)
        if not sums.overlap.total:
            return self._nothing(cell, name, sums, untried)
        estimate = self._estimate(cell, name, sums)
        verdict, doubts = self._verdict(cell, estimate, untried)
        told = verdict != "unusable"
        return Value(
            policy=self._judged.targets[cell.target].name,
            objective=cell.objective,
            by=cell.by,
            group=cell.group,
            estimator=name,
            value=_finite(estimate.value) if told else None,
            low=_finite(estimate.low) if told else None,
            high=_finite(estimate.high) if told else None,
            confidence=estimate.confidence,
            standard_error=_finite(estimate.standard_error) if told else None,
            n=estimate.n,
            ess=estimate.ess,
            events=estimate.events,
            weight_max=_finite(estimate.weight_max),
            untried=untried,
            verdict=verdict,
            rows_needed=estimate.rows_needed,
            doubts=doubts,
        )

    def _within(self, cell: Cell) -> Sums:
        """Return sums whose worst row is one of the whole log's.

        What a part of the log was read with depends on how it was cut.
        """
        sums = self._tally.sums[cell]
        if not cell.by:
            return sums
        whole = self._tally.sums[cell._replace(by="", group="")]
        return msgspec.structs.replace(
            sums, reward_range=whole.reward_range, weight_max=whole.weight_max
        )

    def _estimate(self, cell: Cell, name: str, sums: Sums) -> Estimate:
        question = self._question
        kind: Kind = question.interval  # type: ignore[assignment]
        if name not in sums.names:
            sums = _summed(name, self._tally.whole[cell], sums)
        reference = None
        if name != MEAN and name not in _UNBIASED:
            reference = "dr" if "dr" in sums.names else "snips"
        return estimate_sums(
            sums,
            name,
            worst=worst_of(name, sums),
            reference=reference,
            reference_worst=None if reference is None else worst_of(reference, sums),
            confidence=question.confidence,
            kind=kind,
        )

    def _verdict(
        self, cell: Cell, estimate: Estimate, untried: float
    ) -> tuple[Verdict, tuple[str, ...]]:
        verdict = estimate.verdict
        doubts = [*self._judged.doubts, *estimate.doubts]
        if self._judged.doubts:
            verdict = worse(verdict, "weak")
        if untried > _SETTINGS.untried_max:
            doubts.append(f"the log never tries {untried:.1%} of what it would do")
            hopeless = untried > _SETTINGS.untried_refused
            verdict = worse(verdict, "unusable" if hopeless else "weak")
        if self._judged.targets[cell.target].trained:
            doubts.append(TRAINED)
            verdict = worse(verdict, "weak")
        diagnosis = self._diagnoses[Cell(cell.target, cell.objective)]
        if not cell.by:
            doubts += diagnosis.doubts
            verdict = worse(verdict, diagnosis.verdict)
        elif diagnosis.verdict == "unusable" and estimate.verdict != "unusable":
            # What is wrong with the whole log is wrong with each part of it.
            verdict = worse(verdict, "weak")
            doubts.append("of the whole log it is unusable")
        said = [_worded(doubt, cell.objective) for doubt in doubts]
        return verdict, tuple(dict.fromkeys(said))

    def _untried(self, cell: Cell) -> float:
        sums, n = self._tally.untried[cell._replace(objective="")]
        return float(sums / n)

    def _nothing(self, cell: Cell, name: str, sums: Sums, untried: float) -> Value:
        """Say that a log holds nothing about a policy."""
        return Value(
            policy=self._judged.targets[cell.target].name,
            objective=cell.objective,
            by=cell.by,
            group=cell.group,
            estimator=name,
            value=None,
            low=None,
            high=None,
            confidence=self._question.confidence,
            standard_error=None,
            n=sums.n,
            ess=0.0,
            events=0,
            weight_max=None,
            untried=untried,
            verdict="unusable",
            rows_needed=None,
            doubts=(_NEVER,),
        )

    # --- Policies -----------------------------------------------------------------

    def subject(self, at: int, target: Target, values: Sequence[Value]) -> Subject:
        """Say what a policy is, and whether the log can tell of it."""
        found = _judged_by(values, target.name, self._question.objectives[0])
        return Subject(
            name=target.name,
            about=target.about,
            cross_fitted=target.crossed,
            trained_on_log=target.trained,
            verdict=found.verdict,
            estimator=found.estimator,
            diagnostics=self._diagnostics(at),
            actions={
                action: share / self._tally.rows
                for (place, action), share in sorted(self._tally.actions.items())
                if place == at
            },
        )

    def _diagnostics(self, at: int) -> Diagnostics:
        cell = Cell(at, self._question.objectives[0])
        found = self._tally.diagnostics[cell]
        diagnosis = self._diagnoses[cell]
        return Diagnostics(
            verdict=diagnosis.verdict,
            doubts=diagnosis.doubts,
            notes=diagnosis.notes,
            figures=diagnosis.figures,
            weight_bins=found.overlap.edges,
            weight_counts=found.overlap.counts,
            segments={
                name or "(none)": _support(segment)
                for name, segment in sorted(found.segments.items())
            },
            days={
                window_of(day * _DAY_MS, "day"): _support(of_day)
                for day, of_day in sorted(found.days.items())
            },
            propensities=found.propensities,
            model=found.model,
        )

    # --- Quantiles ----------------------------------------------------------------

    def quantiles(self, values: Sequence[Value]) -> Iterator[Quantile]:
        """Yield the quantiles that were asked for."""
        for cell, sums in sorted(self._tally.steps.items()):
            name = self._judged.targets[cell.target].name
            found = _judged_by(values, name, cell.objective)
            for quantile in self._question.quantiles:
                yield self._quantile(cell, sums, quantile, found)

    def _quantile(
        self, cell: Cell, sums: Sums, quantile: float, subject: Value
    ) -> Quantile:
        """Read a quantile, and its interval, off the shares up to each step.

        References:
            R. S. Woodruff. Confidence intervals for medians and other position
            measures. JASA 47, 1952.
        """
        edges = self._plan.steps[cell.objective]
        found: dict[str, float | None] = {"value": None, "low": None, "high": None}
        if subject.verdict != "unusable" and sums.overlap.total:
            question = self._question
            kind: Kind = question.interval  # type: ignore[assignment]
            for name, end in (("value", "value"), ("low", "high"), ("high", "low")):
                first, last = 0, len(edges) - 1
                while first < last:
                    middle = (first + last) // 2
                    share = estimate_sums(
                        sums, str(middle), confidence=question.confidence, kind=kind
                    )
                    if getattr(share, end) >= quantile - 1e-12:
                        last = middle
                    else:
                        first = middle + 1
                found[name] = float(edges[first])
        return Quantile(
            policy=subject.policy,
            objective=cell.objective,
            quantile=quantile,
            confidence=self._question.confidence,
            verdict=subject.verdict,
            **found,
        )


def worst_of(name: str, sums: Sums) -> Terms | None:
    """Return what an estimator makes of the worst rows that there could be."""
    if name == MEAN:
        return Terms(added=np.array(sums.reward_range))
    return _terms(name, sums.worst_rows())


def _terms(name: str, rows: Rows) -> Terms | None:
    kind, _, parameter = name.partition("@")
    if ESTIMATORS[kind].whole:
        return None
    estimator = named(kind if parameter == "auto" else name)
    try:
        return estimator(rows)
    except ValueError:
        # It needs columns that a row which was made up cannot have.
        return None


def _summed(name: str, whole: Whole, sums: Sums) -> Sums:
    """Sum up an estimator that looks at all rows at once."""
    kept = whole.sorted
    kind, _, parameter = name.partition("@")
    if parameter == "auto":
        terms = tune_by_slope(kind, kept.rows).terms
    else:
        terms = named(name)(kept.rows)
    rows = kept.rows
    alone = Sums.of(
        {name: terms},
        kept.keys,
        weights=rows.weights,
        rewards=rows.rewards,
        weight_max=kept.weight_max,
    )
    return msgspec.structs.replace(
        sums,
        terms={**sums.terms, **alone.terms},
        names=(*sums.names, name),
    )


def _support(found: Segment) -> Support:
    return Support(
        n=int(found.n),
        ess=found.ess,
        weight_mean=found.mean_weight,
        reward_mean=found.mean_reward,
        untried=found.untried / found.n if found.n else 0.0,
    )


def _judged_by(values: Sequence[Value], policy: str, objective: str) -> Value:
    """Return the value that says what a policy is by an objective."""
    mine = [
        value
        for value in values
        if (value.policy, value.objective, value.by) == (policy, objective, "")
    ]
    return min(mine, key=lambda value: _headline(value.estimator))


def _worded(doubt: str, objective: str) -> str:
    """Say of dismissals what is said of earnings elsewhere.

    Examples:
        >>> _worded("0 decisions earned anything, and 10 are needed", "dismissed")
        'none was dismissed, and 10 are needed'
    """
    if objective != "dismissed":
        return doubt
    if doubt.startswith("0 decisions"):
        doubt = doubt.replace("0 decisions earned anything", "none was dismissed")
    doubt = doubt.replace("decisions earned anything", "were dismissed")
    return doubt.replace("decision earned anything", "was dismissed")


def _headline(estimator: str) -> int:
    if estimator == MEAN:
        return -1
    known = estimator in _HEADLINES
    return _HEADLINES.index(estimator) if known else len(_HEADLINES)


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None
