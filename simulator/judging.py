"""From a log and the names of policies to sums: what `evaluate` and `compare` share.

A log is read at most four times, a part of it in memory at once: to find the day up to
which policies learn, to see what is in it, to train policies, and to ask them.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import msgspec
import numpy as np

from policies.errors import OpportuneError
from policies.estimators import ESTIMATORS, Estimator, mrdr_weights, named
from policies.intervals import KINDS
from policies.intervals.many import above
from policies.model import FloatArray, Split
from policies.reward_model import Moments, RewardModel
from simulator.balancing import Balancing, Sampled, sampled
from simulator.batches import Batch
from simulator.candidates import Candidate, Policies, Training, candidates, targets
from simulator.feedback import Feedback
from simulator.logs import AnyLog, Log, LogError, Source, Watcher, open_log
from simulator.memory import Parts
from simulator.partition import Runner, runner_of
from simulator.surveying import (
    LISTED,
    REWARD,
    Survey,
    column_of,
    moments_of,
    survey,
    unsound,
)
from simulator.tallying import UNSEEN, By, Plan, Tally, tally
from simulator.targets import Target
from simulator.workspaces import Workspaces

__all__ = [
    "DEFAULT_ESTIMATORS",
    "FOLDS",
    "INTERVALS",
    "Judged",
    "Question",
    "QuestionError",
    "judge",
    "opened",
]

DEFAULT_ESTIMATORS = ("ips", "snips", "dr")
"""What is estimated by where nothing is asked for."""

FOLDS = 5
"""Into how many parts users fall where nothing is asked for."""

_IN_ORDER = "sequence"

INTERVALS = tuple(kind for kind in KINDS if kind != _IN_ORDER)
"""Which kinds of interval there are for what parts of a log add up to."""

_MODEL_FOLDS = 5
_MODEL_DIM = 64
_STEPS_MAX = 200
_LEFT_OUT_MAX = 0.05
_PENDING_MAX = 0.05
_EXPECTED_MIN = 5.0
_APART_MIN = 0.05
_CHANCE_MIN = 0.001
_AUTO = "@auto"
_GROUPS = ("segment", "day", "week", "logger")


class QuestionError(OpportuneError):
    """Something is asked that cannot be; the message says what can."""


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of a log, beside the policies.

    Attributes:
        estimators: By which estimators, of `policies.estimators.ESTIMATORS`: by name,
            with its parameter as in `dros@50`, or with the one that the log suggests as
            in `dros@auto`.
        objectives: What is earned: `reward`, or other outcomes that the log has.
        by: What to cut the log by: `segment`, `day`, `week`, `logger`.
        quantiles: Which quantiles of what is earned to tell, each above 0, below 1.
        confidence: How often an interval is to hold the true value, above 0, below 1.
        interval: Which kind of interval, of `INTERVALS`.
        split: Which part of the users to judge by; by all of them without it.
        train_until: Policies that learn from the log learn what was decided before, and
            are judged by what was decided after: a date, a date and time (UTC), or a
            share of the decisions, above 0, below 1.
        folds: Into how many parts the users fall for policies that learn from the log,
            2 to 20: each part is judged by what was learned from the others. 0: they
            are judged by all that they have learned.
    """

    estimators: tuple[str, ...] = DEFAULT_ESTIMATORS
    objectives: tuple[str, ...] = (REWARD,)
    by: tuple[By, ...] = ()
    quantiles: tuple[float, ...] = ()
    confidence: float = 0.95
    interval: str = "default"
    split: Split | None = None
    train_until: str | float | None = None
    folds: int = FOLDS

    def __post_init__(self) -> None:
        """Refuse what cannot be asked."""
        for name in self.estimators:
            _check_estimator(name)
        _among("by", self.by, _GROUPS)
        if self.interval == _IN_ORDER:
            raise QuestionError(
                "interval sequence needs all decisions in their order, and a log is"
                " read in parts that add up: always_valid holds as often as it is"
                " looked at, too"
            )
        _among("interval", (self.interval,), INTERVALS)
        if not self.estimators or not self.objectives:
            raise QuestionError("name at least one estimator and one objective")
        if not 0.0 < self.confidence < 1.0:
            raise QuestionError(
                f"confidence must be above 0, below 1, not {self.confidence}"
            )
        for quantile in self.quantiles:
            if not 0.0 < quantile < 1.0:
                raise QuestionError(
                    f"a quantile must be above 0, below 1, not {quantile}"
                )
        if self.folds != 0 and not 2 <= self.folds <= 20:
            raise QuestionError(f"folds must be 0 or 2 to 20, not {self.folds}")


class Judged(NamedTuple):
    """What a log adds up to.

    Attributes:
        source: The log.
        question: What was asked.
        survey: What is in it.
        targets: The policies.
        plan: What was summed up.
        tally: The sums.
        notes: What to know before reading values.
        doubts: Why to doubt all values; empty where nothing speaks against them.
    """

    source: Source
    question: Question
    survey: Survey
    targets: Sequence[Target]
    plan: Plan
    tally: Tally
    notes: tuple[str, ...]
    doubts: tuple[str, ...]


def judge(
    log: AnyLog,
    policies: Policies,
    question: Question,
    *,
    dask: str | None = None,
    watcher: Watcher | None = None,
) -> Judged:
    """Ask policies about a log, and sum up.

    Args:
        log: What `simulator.logs.open_log` opens, or a part that somebody has made.
        policies: What to ask, as for `simulator.evaluate`.
        question: What to ask.
        dask: The address of a Dask scheduler; in this process without it.
        watcher: Is told how far it is.

    Raises:
        OpportuneError: If the log, a policy or the cluster cannot be used.
    """
    wanted = candidates(policies)
    with opened(log) as source, runner_of(dask) as runner:
        judging = _Judging(source, question, runner, watcher or (lambda *_: None))
        return judging.run(wanted)


@contextmanager
def opened(log: AnyLog) -> Iterator[Source]:
    """Open a log, and close it, unless somebody else has opened it.

    Args:
        log: What `simulator.logs.open_log` opens, or a part that somebody has made.

    Raises:
        LogError: If it cannot be opened.
    """
    if isinstance(log, Feedback):
        yield Parts([log])
        return
    source = open_log(log.path if isinstance(log, Log) else log)
    try:
        yield source
    finally:
        if source is not log:
            source.close()


class _Judging:
    """One log under judgement."""

    def __init__(
        self, source: Source, question: Question, runner: Runner, watcher: Watcher
    ) -> None:
        self._source = source
        self._question = question
        self._runner = runner
        self._watcher = watcher
        self._until_ms: float | None = None
        self._columns: frozenset[str] | None = None

    def run(self, wanted: Sequence[Candidate]) -> Judged:
        question = self._question
        self._columns = _columns(wanted, question)
        self._until_ms = self._cut()
        found = self._survey()
        training = Training(
            folds=question.folds, until_ms=self._until_ms, split=question.split
        )
        asked = targets(
            wanted,
            self._source,
            self._teaching,
            training=training,
            watcher=self._watcher,
            offers=found.offers,
        )
        self._check_models(asked)
        notes, doubts = _notes(found)
        plan = self._plan(found, asked)
        modelled = [name for name in question.estimators if _needs_model(name)]
        if plan.model is None and modelled:
            left_out = ", ".join(modelled)
            note = (
                f"{left_out}: left out, as the log has more actions than its reward"
                " model holds in memory"
            )
            notes = (*notes, note)
        summed = self._runner.fold(
            self._read("asking", rewarded=True), partial(_tallied, plan=plan)
        )
        if summed is None:
            raise self._nothing()
        unread, unsure = _left_out(self._source, found.decisions)
        notes, doubts = (*notes, *unread), (*doubts, *unsure)
        return Judged(self._source, question, found, asked, plan, summed, notes, doubts)

    def _check_models(self, asked: Sequence[Target]) -> None:
        """Refuse models of others that know nothing of what is in the log."""
        models = [target for target in asked if isinstance(target, Workspaces)]
        if not models:
            return
        parts = self._read("looking at models", rewarded=True)
        part = next((part for part in parts if len(part)), None)
        if part is not None:
            for model in models:
                model.refuse_ignorance(Batch(part))

    # --- Reading ------------------------------------------------------------------

    def _read(
        self, doing: str, *, rewarded: bool, all_times: bool = False
    ) -> Iterator[Feedback]:
        """Yield the decisions that are judged by."""
        split = self._question.split
        for part in self._watched(doing):
            keep = part.rewarded if rewarded else np.ones(len(part), dtype=bool)
            if split is not None:
                if len(part) and not len(part.splits):
                    raise LogError(
                        self._source.path,
                        f"nothing says whom its decisions are for, so that the split"
                        f" {split} cannot be told apart; a log has splits where"
                        " [policy.split] in the server's settings makes them, and"
                        " Parquet and CSV keep them",
                    )
                keep &= np.array(part.splits, dtype=object) == split
            if self._until_ms is not None and not all_times:
                keep &= part.times_ms >= self._until_ms
            yield part if keep.all() else part.take(keep)

    def _teaching(self) -> Iterator[Feedback]:
        """Yield the decisions that policies learn from."""
        for part in self._watched("training"):
            keep = part.rewarded
            if len(part.splits):
                keep &= np.array(part.splits, dtype=object) == "train"
            if self._until_ms is not None:
                keep &= part.times_ms < self._until_ms
            yield part.take(keep)

    def _watched(self, doing: str) -> Iterator[Feedback]:
        rows = self._source.rows
        done = 0
        for part in self._source.parts(columns=self._columns):
            yield self._sound(part)
            done += len(part)
            if rows:
                self._watcher(doing, done, rows)

    def _sound(self, part: Feedback) -> Feedback:
        """Leave out rows that nothing follows from, or refuse the log for the first.

        Raises:
            LogError: If there is one, and the log was not opened with `skip_bad`.
        """
        source = self._source
        keep = np.ones(len(part), dtype=bool)
        for row, problem in unsound(part):
            if not getattr(source, "skip_bad", False):
                raise LogError(source.path, f"{problem}; {LISTED}")
            if keep[row]:
                source.left_out.add("bad", f"{source.path}: {problem}")
            keep[row] = False
        return part if keep.all() else part.take(keep)

    # --- Planning -----------------------------------------------------------------

    def _cut(self) -> float | None:
        """Return the time up to which policies learn, if it was asked for."""
        until = self._question.train_until
        if until is None:
            return None
        share = _share(until)
        if share is None:
            return _time_ms(str(until))
        rows = self._runner.fold(
            self._read("looking at times", rewarded=True, all_times=True),
            partial(_surveyed, objectives=(REWARD,), folds=2, dim=0),
        )
        if rows is None or not rows.rewarded:
            raise self._nothing()
        times = rows.rows.columns[0]
        if not (times > 0).all():
            raise QuestionError(
                "a share to train on needs the times of decisions, which the log lacks"
            )
        return float(np.quantile(times, share))

    def _survey(self) -> Survey:
        question = self._question
        modelled = any(_needs_model(name) for name in question.estimators)
        found = self._runner.fold(
            self._read("reading", rewarded=False),
            partial(
                _surveyed,
                objectives=question.objectives,
                folds=_MODEL_FOLDS,
                dim=_MODEL_DIM if modelled else 0,
            ),
        )
        if found is None or not found.rewarded:
            raise self._nothing(empty=found is None or not found.decisions)
        if {"day", "week"} & set(question.by) and not np.isfinite(found.times_ms[0]):
            raise QuestionError("the log has no times to cut it by day or week")
        return found

    def _plan(self, found: Survey, asked: Sequence[Target]) -> Plan:
        question = self._question
        model = None
        if found.moments is not None:
            model = found.moments.solve(names=[*sorted(found.chosen), UNSEEN])
        names = dict.fromkeys([*question.estimators, "snips"])
        if model is not None:
            names |= {"dr": None}
        robust: Sequence[RewardModel] = ()
        if "mrdr" in names and model is not None:
            robust = self._robust(asked, model)
        balancing: Sequence[Balancing] = ()
        if any("balanced_weights" in _kind(name).needs for name in names):
            balancing = self._balancing(asked, [*sorted(found.chosen), UNSEEN])
        return Plan(
            targets=asked,
            objectives=question.objectives,
            estimators={name: named(name) for name in names if not _is_whole(name)},
            whole=any(_is_whole(name) for name in names),
            needs={name: _kind(name).needs for name in names},
            kinds=any("cluster_weights" in _kind(name).needs for name in names),
            model=model,
            robust=robust,
            balancing=balancing,
            folds=_MODEL_FOLDS,
            ranges=found.ranges,
            by=question.by,
            steps=_steps(found, question),
            count_mean=found.counted / found.rewarded,
        )

    def _robust(
        self, asked: Sequence[Target], model: RewardModel
    ) -> Sequence[RewardModel]:
        """Fit a reward model for each target, by what makes its estimate noisy."""
        found = self._runner.fold(
            self._read("fitting", rewarded=True),
            partial(_weighed, targets=asked, objective=self._question.objectives[0]),
        )
        if found is None:
            raise self._nothing()
        return [moments.solve(names=model.names) for moments in found.each]

    def _balancing(
        self, asked: Sequence[Target], names: Sequence[str]
    ) -> Sequence[Balancing]:
        """Learn what tells the decisions of each target from those of the log."""
        found = self._runner.fold(
            self._read("balancing", rewarded=True),
            partial(_sampled, targets=asked, names=names),
        )
        if found is None:
            raise self._nothing()
        return found.solve()

    def _nothing(self, *, empty: bool = False) -> LogError:
        path, split = self._source.path, self._question.split
        if split is not None:
            return LogError(
                path,
                f"no decision for users of the split {split} has a reward;"
                " [policy.split] in the server's settings says who they are",
            )
        if self._until_ms is not None:
            return LogError(path, "nothing was decided after train_until")
        if empty:
            return LogError(path, "there are no decisions")
        problem = "no decision has a reward yet"
        if self._source.format == "server":
            problem += (
                ": rewards come from ReportOutcome, some of them only when [rewards]"
                " wait is over"
            )
        return LogError(path, problem)


def _surveyed(
    part: Feedback, *, objectives: Sequence[str], folds: int, dim: int
) -> Survey:
    return survey(Batch(part), objectives, folds=folds, dim=dim)


def _tallied(part: Feedback, *, plan: Plan) -> Tally:
    return tally(Batch(part), plan)


def _sampled(
    part: Feedback, *, targets: Sequence[Target], names: Sequence[str]
) -> Sampled:
    return sampled(Batch(part), targets, names)


def _columns(wanted: Sequence[Candidate], question: Question) -> frozenset[str] | None:
    """Return the columns of a log that suffice; none where all are needed."""
    plain = (
        not (question.by or question.quantiles or question.train_until)
        and question.split is None
        and question.objectives == (REWARD,)
    )
    needs = {need for name in question.estimators for need in _kind(name).needs}
    if plain and needs <= {"targets"} and all(each.column for each in wanted):
        return frozenset({"keys", *(f"target:{each.column}" for each in wanted)})
    return None


class _Each(NamedTuple):
    """What reward models of several targets are made from."""

    each: Sequence[Moments]

    def __add__(self, other: _Each) -> _Each:  # type: ignore[override]
        return _Each([a + b for a, b in zip(self.each, other.each, strict=True)])


def _weighed(part: Feedback, *, targets: Sequence[Target], objective: str) -> _Each:
    batch = Batch(part)
    column = [column_of(part, objective)]
    return _Each(
        [
            moments_of(
                batch,
                column,
                _MODEL_FOLDS,
                _MODEL_DIM,
                mrdr_weights(target.answer(batch).taken, part.propensities),
            )
            for target in targets
        ]
    )


def _kind(name: str) -> Estimator:
    return ESTIMATORS[name.partition("@")[0]]


def _is_whole(name: str) -> bool:
    return _kind(name).whole or name.endswith(_AUTO)


def _needs_model(name: str) -> bool:
    return any(need.endswith("_values") for need in _kind(name).needs)


def _check_estimator(name: str) -> None:
    """Refuse an estimator that there is not, or that has nothing to choose."""
    try:
        if name.endswith(_AUTO):
            tuned = named(name.removesuffix(_AUTO))
            if not isinstance(tuned, Estimator) or tuned.tunable is None:
                raise QuestionError(f"{name!r}: there is nothing to choose")
        else:
            named(name)
    except ValueError as error:
        raise QuestionError(str(error)) from None


def _steps(found: Survey, question: Question) -> Mapping[str, FloatArray]:
    """Return where to count for quantiles: all rewards seen, or enough of them."""
    if not question.quantiles:
        return {}
    steps = {}
    for place, objective in enumerate(question.objectives, start=1):
        seen = found.rows.columns[place]
        seen = np.append(seen[~np.isnan(seen)], found.ranges[objective])
        edges = np.unique(seen)
        if len(edges) > _STEPS_MAX:
            shares = np.linspace(0.0, 1.0, _STEPS_MAX // 2)
            # Among all rewards, and among different ones, where most are the same.
            edges = np.unique(
                np.concatenate(
                    [
                        np.quantile(column, shares, method="nearest")
                        for column in (seen, edges)
                    ]
                )
            )
        steps[objective] = edges
    return steps


def _notes(found: Survey) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Say what is missing, and whether it matters."""
    notes: list[str] = []
    doubts: list[str] = []
    decisions, n = found.decisions, found.rewarded
    silent, silent_n = found.silent
    offers, offers_n = decisions - silent, n - silent_n
    if n < decisions:
        notes.append(
            f"{decisions - n:,} of {decisions:,} decisions have no reward and are"
            f" left out; {silent_n:,} of {silent:,} for no offer have one, and"
            f" {offers_n:,} of {offers:,} for an offer"
        )
    if _depends((silent_n, silent), (offers_n, offers)):
        doubts.append(
            "whether a decision has a reward depends on what was chosen (see"
            " [rewards] silence_confirms_itself)"
        )
    if early := _early(found.told):
        doubts.append(early)
    users = found.users.count
    if users < n:
        notes.append(
            f"{n:,} decisions are of {users:,} users or accounts; intervals take users"
            " as independent, not decisions"
        )
    if len(found.loggers) > 1:
        notes.append(
            f"{len(found.loggers)} policies made the log; each decision is weighed by"
            " the one that made it"
        )
    return tuple(notes), tuple(doubts)


def _early(told: tuple[int, int, int, int]) -> str:
    """Say whether good news has come before no news; nothing where it has not.

    Where an outcome settles a decision at once and silence does so only when it has
    been waited for, the last decisions have a reward if anything came of them.
    """
    known, settled, pending, settled_pending = told
    share = pending / max(known + pending, 1)
    expected = pending * settled / max(known, 1)
    if share <= _PENDING_MAX or expected < _EXPECTED_MIN:
        return ""
    if settled_pending > expected / 2:
        return ""
    return (
        f"{share:.0%} of the offers that were shown have no reward yet, and those that"
        " something came of have one at once (see [rewards] wait and settle)"
    )


def _depends(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Say whether two shares, each of so many, differ by much and not by chance.

    By Fisher's exact test, either side of it.

    Examples:
        >>> _depends((13, 14), (387, 394)), _depends((7, 14), (387, 394))
        (False, True)
    """
    (a, n), (b, m) = one, other
    if not n or not m or abs(a / n - b / m) <= _APART_MIN:
        return False
    more, less = (above(x, of, a + b, n + m) for x, of in (one, other))
    return 2.0 * min(more, less) < _CHANCE_MIN


def _left_out(
    source: Source, decisions: int
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Say what of a log was not looked at, and whether it matters."""
    reasons = source.left_out.reasons
    notes = tuple(
        f"{count:,} {'row was' if count == 1 else 'rows were'} left out: {reason}"
        for reason, count in sorted(reasons.items())
    )
    bad = reasons["bad"]
    if bad <= _LEFT_OUT_MAX * (bad + decisions):
        return notes, ()
    return notes, (f"{bad / (bad + decisions):.0%} of the log cannot be read",)


def _share(until: str | float) -> float | None:
    try:
        share = float(until)
    except ValueError:
        return None
    if not 0.0 < share < 1.0:
        raise QuestionError(
            f"a share to train on must be above 0, below 1, not {until}"
        )
    return share


def _time_ms(text: str) -> float:
    try:
        time = dt.datetime.fromisoformat(text)
    except ValueError:
        raise QuestionError(
            "train_until must be a date such as 2026-11-01, a date and time, or a"
            f" share of the decisions such as 0.7, not {text!r}"
        ) from None
    if time.tzinfo is None:
        time = time.replace(tzinfo=dt.UTC)
    return time.timestamp() * 1000.0


def _among(what: str, given: Sequence[str], known: Sequence[str]) -> None:
    for each in given:
        if each not in known:
            raise QuestionError(f"there is no {what} {each!r}: {', '.join(known)}")
