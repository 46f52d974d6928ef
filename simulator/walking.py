"""What a policy that goes on learning would have earned, from a log of decisions.

Such a policy is another one after each decision. It begins with nothing learned and is
walked through the log; `policies.estimators.learning` says in which rows it learns, and
what that is worth. What is told is what a run of `updates` decisions earns on average,
from its first decision on, not what the log as a whole would have earned.

The rows are in memory while it is walked: about 12 bytes for each eligible action and
each feature of the context, and twice as much where a reward model is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple, overload

import msgspec
import numpy as np

from policies.estimators.learning import (
    Learned,
    Step,
    completed,
    dr_ns,
    explore_eval,
    rejection,
    replay,
)
from policies.model import Action, Features, FloatArray
from policies.overlap import Verdict, worse
from policies.policy import Ahead, Policy, PolicySettings
from simulator.batches import Batch
from simulator.candidates import candidates
from simulator.feedback import Feedback, joined
from simulator.judging import QuestionError, opened
from simulator.logs import AnyLog, LogError, Source, Watcher
from simulator.surveying import contexts_of, moments_of
from simulator.targets import TargetError

__all__ = ["DEFAULT_EVALUATORS", "EVALUATORS", "Run", "Walk", "walk"]

DEFAULT_EVALUATORS = ("completed",)
"""What is evaluated by where nothing is asked for."""

_MODEL_FOLDS = 5
_MODEL_DIM = 64
_BLOCK = 512
_SHORT = 8
_UPDATES_LEAST = 30
_OBSERVED_LEAST = 0.4
_ALIKE = 1e-6


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """What one evaluator says of one policy.

    Attributes:
        policy: The name under which it was asked for.
        evaluator: By which evaluator.
        value: Reward per decision of a run of `updates` decisions; none where the log
            cannot tell.
        low: The lower end of an interval for what such runs earn on average; none
            likewise.
        high: Its upper end; none likewise.
        run_low: The lower end of one for what a single such run earns; none likewise.
        run_high: Its upper end; none likewise.
        confidence: How often each interval is to hold.
        n: How many decisions it was walked through.
        updates: How many decisions long the run is.
        observed: Of these, what the log had a reward for; a reward model filled in the
            others.
        violations: How many rows should have been kept with a probability above 1.
        verdict: `usable`, `weak` or `unusable`.
        doubts: Why it is not usable.
    """

    policy: str
    evaluator: str
    value: float | None
    low: float | None
    high: float | None
    run_low: float | None
    run_high: float | None
    confidence: float
    n: int
    updates: float
    observed: float
    violations: int
    verdict: Verdict
    doubts: tuple[str, ...]


class Walk(msgspec.Struct, frozen=True, kw_only=True):
    """What policies that learn would have earned.

    Attributes:
        format: The version of these fields.
        log: The path of the log.
        decisions: How many decisions they were walked through: those with a reward,
            of users whom the server let its learner learn from.
        verdict: The worst of the verdicts.
        runs: One for each policy and evaluator.
    """

    format: str = "opportune.walk.v1"
    log: str
    decisions: int
    verdict: Verdict
    runs: tuple[Run, ...]


class _Asked(NamedTuple):
    """What is asked of evaluators beside the policy.

    Attributes:
        steps: The log.
        seed: Of their draws.
        confidence: How often intervals are to hold.
        rate: For `completed`, how many choices to keep; its own without.
        in_order: For `completed`, whether to keep the order of the log.
    """

    steps: _Steps
    seed: int
    confidence: float
    rate: float | None
    in_order: bool


_Make = Callable[[], "_Walker"]


def _completed(make: _Make, asked: _Asked) -> Learned:
    rate = asked.rate
    if rate is None:
        rate = min(1.0, 2.0 * asked.steps.least)
    return completed(
        make,
        asked.steps,
        rate=rate,
        in_order=asked.in_order,
        seed=asked.seed,
        confidence=asked.confidence,
    )


EVALUATORS: dict[str, Callable[[_Make, _Asked], Learned]] = {
    "completed": _completed,
    "rejection": lambda make, asked: rejection(
        make(),
        asked.steps,
        multiplier=asked.steps.least,
        seed=asked.seed,
        confidence=asked.confidence,
    ),
    "dr_ns": lambda make, asked: dr_ns(
        make(), asked.steps, seed=asked.seed, confidence=asked.confidence
    ),
    "explore_eval": lambda make, asked: explore_eval(
        make(), asked.steps, seed=asked.seed, confidence=asked.confidence
    ),
    "replay": lambda make, asked: replay(
        make(), asked.steps, seed=asked.seed, confidence=asked.confidence
    ),
}
"""What values a policy that learns, by name; see `policies.estimators.learning`."""

_MODELLED = frozenset(["completed", "dr_ns"])


def walk(
    log: AnyLog,
    policies: Sequence[str],
    *,
    evaluators: Sequence[str] = DEFAULT_EVALUATORS,
    confidence: float = 0.95,
    rate: float | None = None,
    in_order: bool = False,
    seed: int = 0,
    watcher: Watcher | None = None,
) -> Walk:
    """Say what policies that learn would have earned, had they decided from the start.

    Args:
        log: A path, a URL, a part, or anything else that `open_log` opens.
        policies: Paths of settings files with `[policy]`, or `NAME=` and that.
        evaluators: By which of `EVALUATORS`.
        confidence: How often intervals are to hold, above 0.5, below 1.
        rate: For `completed`, which share of a policy's choices to keep, above 0, at
            most 1: runs are that share of the log long. Without it, twice the smallest
            propensity.
        in_order: For `completed`, whether to keep the order of the log, where what
            pleases changes.
        seed: Of what is drawn.
        watcher: Is told how far it is.

    Raises:
        LogError: If the log cannot be read, or no decision has a reward.
        TargetError: If there is no such policy, or it does not learn.
        QuestionError: If something is asked that cannot be, or the log lacks it.
    """
    _check(evaluators, confidence, rate)
    learners: dict[str, PolicySettings] = {}
    for candidate in candidates(policies):
        if candidate.settings is None:
            raise TargetError(
                f"{candidate.what} does not go on learning: name the path of a settings"
                " file with [policy]"
            )
        learners[candidate.name] = candidate.settings
    watch = watcher or (lambda *_: None)
    with opened(log) as source:
        whole = _read(source, watch)
        path = str(source.path)
    steps = _Steps(whole, modelled=not _MODELLED.isdisjoint(evaluators))
    if "completed" in evaluators and np.isnan(whole.probabilities).any():
        raise QuestionError(
            "completed needs the probability of each eligible action, and the log has"
            " only that of what was chosen"
        )
    asked = _Asked(steps, seed, confidence, rate, in_order)
    runs: list[Run] = []
    total = len(learners) * len(evaluators)
    for policy, settings in learners.items():
        for evaluator in evaluators:
            learned = EVALUATORS[evaluator](partial(_Walker, settings, steps), asked)
            runs.append(_run(policy, evaluator, learned, steps))
            watch("walking", len(runs), total)
    verdict: Verdict = "usable"
    for run in runs:
        verdict = worse(verdict, run.verdict)
    return Walk(log=path, decisions=len(steps), verdict=verdict, runs=tuple(runs))


def _check(evaluators: Sequence[str], confidence: float, rate: float | None) -> None:
    for name in evaluators:
        if name not in EVALUATORS:
            there = ", ".join(EVALUATORS)
            raise QuestionError(f"there is no evaluator {name!r}: {there}")
    if not evaluators:
        raise QuestionError("name at least one evaluator")
    if not 0.5 < confidence < 1.0:
        raise QuestionError(f"confidence must be above 0.5, below 1, not {confidence}")
    if rate is not None and not 0.0 < rate <= 1.0:
        raise QuestionError(f"rate must be above 0, at most 1, not {rate}")


def _read(source: Source, watcher: Watcher) -> Feedback:
    """Read the decisions that teach."""
    parts: list[Feedback] = []
    done = 0
    for part in source.parts():
        done += len(part)
        keep = part.rewarded & (part.propensities > 0.0)
        if len(part.splits):
            keep &= np.array(part.splits, dtype=object) == "train"
        if len(part.counts) and (part.counts != 1.0).any():
            raise QuestionError(
                "the log has rows that stand for several decisions: a policy that"
                " learns is walked through decisions one by one"
            )
        if keep.any():
            parts.append(part if keep.all() else part.take(keep))
        if source.rows:
            watcher("reading", done, source.rows)
    if not parts:
        raise LogError(source.path, "no decision has a reward yet")
    return joined(parts)


def _run(policy: str, evaluator: str, learned: Learned, steps: _Steps) -> Run:
    verdict: Verdict = "usable"
    doubts: list[str] = []
    if evaluator != "completed":
        verdict = "weak"
        doubts.append(
            "its interval does not know how else the learner might have turned out;"
            " that of completed does"
        )
    elif learned.observed < _OBSERVED_LEAST * learned.updates:
        verdict = "weak"
        share = 1.0 - learned.observed / max(learned.updates, 1.0)
        doubts.append(f"a reward model has filled in {share:.0%} of what was learned")
    if evaluator == "replay" and not steps.uniform:
        verdict = "weak"
        doubts.append("the log did not choose uniformly, for which replay is not made")
    told: dict[str, float | None] = {
        name: getattr(learned, name)
        for name in ("value", "low", "high", "run_low", "run_high")
    }
    if learned.updates < _UPDATES_LEAST:
        verdict, told = "unusable", dict.fromkeys(told)
        doubts.append(
            f"the log did only {learned.updates:,.0f} times what the policy would have"
            f" done; {_UPDATES_LEAST} are the least to tell anything by"
        )
    return Run(
        policy=policy,
        evaluator=evaluator,
        **told,
        confidence=learned.confidence,
        n=len(steps),
        updates=learned.updates,
        observed=learned.observed,
        violations=learned.violations,
        verdict=verdict,
        doubts=tuple(doubts),
    )


class _Steps(Sequence[Step]):
    """A log as evaluators walk it; what a step calls its context is its row.

    Args:
        log: Decisions that have a reward.
        modelled: Whether steps have values of a cross-fitted reward model.

    Attributes:
        contexts: What was known at each decision.
        least: The smallest propensity.
    """

    def __init__(self, log: Feedback, *, modelled: bool) -> None:
        batch = Batch(log)
        self.log = log
        self.contexts = contexts_of(log)
        self.least: float = float(log.propensities.min())
        self._sizes = batch.sizes
        self._ends: list[int] = log.offsets.tolist()
        self._chosen: list[int] = (batch.at - log.offsets[:-1]).tolist()
        self._rewards: list[float] = log.rewards.tolist()
        self._probabilities = log.probabilities
        if np.isnan(log.probabilities).any():
            self._probabilities = log.probabilities.copy()
            self._probabilities[batch.at] = log.propensities
        self._values = _expected(batch) if modelled else None

    def __len__(self) -> int:
        return len(self._rewards)

    @overload
    def __getitem__(self, row: int) -> Step: ...
    @overload
    def __getitem__(self, row: slice) -> Sequence[Step]: ...
    def __getitem__(self, row: int | slice) -> Step | Sequence[Step]:
        """Return the step of a row."""
        if isinstance(row, slice):
            return [self[at] for at in range(*row.indices(len(self)))]
        if not 0 <= row < len(self):
            raise IndexError(row)
        span = slice(self._ends[row], self._ends[row + 1])
        return Step(
            context=row,
            actions=None,
            chosen=self._chosen[row],
            reward=self._rewards[row],
            probabilities=self._probabilities[span],
            values=None if self._values is None else self._values[span],
        )

    def __iter__(self) -> Iterator[Step]:
        chances, values = self._probabilities, self._values
        begin = 0
        rows = zip(self._chosen, self._rewards, self._ends[1:], strict=True)
        for row, (chosen, reward, end) in enumerate(rows):
            yield Step(
                context=row,
                actions=None,
                chosen=chosen,
                reward=reward,
                probabilities=chances[begin:end],
                values=None if values is None else values[begin:end],
            )
            begin = end

    def actions(self, row: int) -> list[Action]:
        """Return what was eligible."""
        vocabulary = self.log.vocabulary
        span = slice(self._ends[row], self._ends[row + 1])
        return [vocabulary[at] for at in self.log.actions[span].tolist()]

    def alike(self, row: int, most: int) -> int:
        """Return in how many rows, from one on, the same was eligible.

        Args:
            row: The first of them.
            most: How many to look at.
        """
        begin, size = self._ends[row], int(self._sizes[row])
        differs = self._sizes[row : row + most] != size
        n = int(differs.argmax()) if differs.any() else len(differs)
        actions = self.log.actions[begin : begin + n * size].reshape(n, size)
        others = (actions != actions[0]).any(axis=1)
        return int(others.argmax()) if others.any() else n

    @property
    def uniform(self) -> bool:
        """Whether the log chose uniformly everywhere."""
        shares = self.log.propensities * self._sizes
        return bool((np.abs(shares - 1.0) < _ALIKE).all())


def _expected(batch: Batch) -> FloatArray:
    """Return what each eligible action is expected to earn, shape (offsets[n],)."""
    log = batch.feedback
    moments = moments_of(batch, [log.rewards], _MODEL_FOLDS, _MODEL_DIM)
    model = moments.solve(names=[action.name for action in log.vocabulary])
    values = model.predict(contexts_of(log), batch.folds(_MODEL_FOLDS))
    expected: FloatArray = values[batch.rows, log.actions]
    return expected


class _Walker:
    """A policy that learns, as evaluators ask it: a context is the row of a step.

    Where it can be asked about many contexts at once, it is asked ahead, as long as
    rows come one after the other with the same actions.
    """

    def __init__(self, settings: PolicySettings, steps: _Steps) -> None:
        self._policy = Policy(settings)
        self._steps = steps
        self._next = 0
        self._alone = False
        self._ahead: Ahead | None = None
        self._first = self._end = 0
        self._told: FloatArray = np.empty((0, 0))
        self._from = self._until = 0

    def distribution(self, row: int, actions: Any) -> FloatArray:
        """Return the probability of each action that was eligible in a row."""
        del actions
        if not self._from <= row < self._until:
            sequential = row == self._next
            if self._alone or not sequential or not self._look(row):
                return self._ask(row)
        self._next = row + 1
        told: FloatArray = self._told[row - self._from]
        return told

    def _ask(self, row: int) -> FloatArray:
        self._ahead = None
        self._from = self._until = 0
        self._next = row + 1
        return self._policy.distribution(self._context(row), self._steps.actions(row))

    def _look(self, row: int) -> bool:
        """Look ahead from a row on; say whether that can be done."""
        if self._ahead is None or not self._first <= row < self._end:
            steps = self._steps
            if steps.alike(row, _SHORT) < _SHORT:
                return False
            count = steps.alike(row, _BLOCK)
            contexts = steps.contexts[row : row + count]
            self._ahead = self._policy.ahead(contexts, steps.actions(row))
            if self._ahead is None:
                self._alone = True
                return False
            self._first, self._end = row, row + count
        self._told = self._ahead.distributions(row - self._first)
        self._from, self._until = row, row + len(self._told)
        return True

    def _context(self, row: int) -> Features:
        return self._steps.contexts[row]

    def learn(
        self,
        row: int,
        actions: Any,
        chosen: int,
        *,
        reward: float,
        probability: float,
        weight: float,
    ) -> None:
        """Learn what was earned; no evaluator here lets a reward count twice."""
        del actions, weight
        told = self._from <= row < self._until
        # What was told of later rows is so no more.
        self._from = self._until = 0
        if self._ahead is not None and told:
            self._ahead.learn(chosen, row - self._first, reward)
            return
        self._ahead = None
        steps, policy = self._steps, self._policy
        among = steps.actions(row)
        policy.learn(
            self._context(row),
            among[chosen],
            reward=reward,
            propensity=probability,
            among=among if policy.learns_among else (),
        )
