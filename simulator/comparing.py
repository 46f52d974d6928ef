"""Which of several policies is better, on the same log, and whether to deploy one.

Policies that are judged by the same decisions share the log's noise, so that their
difference is known far better than either value: `policies.comparison`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import msgspec

from policies.comparison import Comparison as Paired
from policies.comparison import GateSettings, gate
from policies.comparison import compare as compare_sums
from policies.estimators import Terms
from policies.intervals import Estimate, Sums
from policies.model import Split
from policies.overlap import Verdict, worse
from simulator.candidates import Policies, candidates
from simulator.evaluation import Evaluation, evaluation_of, worst_of
from simulator.judging import (
    DEFAULT_ESTIMATORS,
    FOLDS,
    Judged,
    Question,
    QuestionError,
    judge,
)
from simulator.logs import AnyLog, Watcher
from simulator.surveying import REWARD
from simulator.tallying import Cell

__all__ = ["Comparison", "Difference", "Gate", "compare"]

DISMISSED = "dismissed"
"""The objective whose rise a gate looks at."""

Lead = Literal["better", "worse", "open"]


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """What one policy earns above another, on the same decisions.

    Attributes:
        policy: The one.
        over: The other.
        objective: What is earned.
        estimator: By which estimator.
        value: How much more, a decision; none where the log cannot tell.
        low: The lower end of an interval that holds for all candidates at once; none
            where nothing bounds it, or the log cannot tell.
        high: Its upper end; none likewise.
        confidence: How often all of these intervals hold.
        standard_error: The standard deviation of `value`; none without one.
        n: The number of decisions.
        lead: `better` or `worse` where that is certain enough, else `open`.
        verdict: Whether the log can tell; the worse of both policies.
        rows_to_tell: How many decisions like these would tell, if the difference is
            what it seems; none where it is told, or there is none.
        doubts: Why the verdict is not `usable`.
    """

    policy: str
    over: str
    objective: str
    estimator: str
    value: float | None
    low: float | None
    high: float | None
    confidence: float
    standard_error: float | None
    n: int
    lead: Lead
    verdict: Verdict
    rows_to_tell: int | None
    doubts: tuple[str, ...]


class Gate(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a policy may be deployed in the place of another.

    Attributes:
        promote: The policy that is to be deployed.
        over: The one in whose place.
        verdict: `deploy`; `keep` what is there, as the other is not good enough with
            its confidence; `cannot tell`, as the log does not say.
        reasons: Why, a sentence each.
        settings: What it must fulfil.
    """

    promote: str
    over: str
    verdict: Literal["deploy", "keep", "cannot tell"]
    reasons: tuple[str, ...]
    settings: GateSettings


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """How policies compare on the decisions of a log.

    Attributes:
        format: The version of these fields.
        over: What all others are compared with.
        winner: The best of all; none where the log cannot tell.
        better: All that are certain to be better than `over`.
        daily: Whether intervals hold however often they are looked at.
        differences: One per objective and other policy.
        gate: Whether to deploy; none where nobody asked.
        evaluation: What each earns by itself.
    """

    format: str = "opportune.comparison.v1"
    over: str
    winner: str | None
    better: tuple[str, ...]
    daily: bool
    differences: tuple[Difference, ...]
    gate: Gate | None
    evaluation: Evaluation


def compare(
    log: AnyLog,
    policies: Policies,
    *,
    over: str | None = None,
    daily: bool = False,
    promote: str | None = None,
    gate_settings: GateSettings | None = None,
    estimators: Sequence[str] = DEFAULT_ESTIMATORS,
    objectives: Sequence[str] = (REWARD,),
    confidence: float = 0.95,
    split: Split | None = None,
    train_until: str | float | None = None,
    folds: int = FOLDS,
    dask: str | None = None,
    watcher: Watcher | None = None,
) -> Comparison:
    """Estimate what policies earn above one of them, on the decisions of a log.

    Args:
        log: As of `evaluate`.
        policies: Two or more; as of `evaluate`.
        over: What all others are compared with; the first of them without it.
        daily: Whether intervals are to hold however often they are looked at, as in a
            job that runs every day on a log that grows.
        promote: A policy for which to say whether it may take the place of `over`.
        gate_settings: What it must fulfil for that.
        estimators: As of `evaluate`; each policy is compared by the one that it is
            judged by.
        objectives: What is earned. The first decides who is better.
        confidence: How often all intervals at once are to hold.
        split: As of `evaluate`; likewise the arguments up to `watcher`.
        train_until: As of `evaluate`.
        folds: As of `evaluate`.
        dask: As of `evaluate`.
        watcher: As of `evaluate`.

    Raises:
        LogError: If the log cannot be read, or no decision has a reward.
        TargetError: If there is no such policy.
        QuestionError: If something is asked that cannot be.
        ClusterError: If the cluster cannot be used.
    """
    settings = gate_settings or GateSettings(confidence=confidence)
    wanted = list(dict.fromkeys(objectives))
    if settings.dismissals_rise_max is not None and DISMISSED not in wanted:
        wanted.append(DISMISSED)
    question = Question(
        estimators=tuple(estimators),
        objectives=tuple(wanted),
        confidence=confidence,
        split=split,
        train_until=train_until,
        folds=folds,
    )
    names = [candidate.name for candidate in candidates(policies)]
    if len(names) < 2:
        raise QuestionError("name at least two policies to compare")
    base = _known(over or names[0], names)
    if promote is not None and _known(promote, names) == base:
        raise QuestionError(f"{promote} cannot take its own place")
    judged = judge(log, policies, question, dask=dask, watcher=watcher)
    return _Comparing(judged, base, daily=daily).run(promote, settings)


class _Comparing:
    """A comparison under way."""

    def __init__(self, judged: Judged, over: str, *, daily: bool) -> None:
        self._judged = judged
        self._daily = daily
        self._by: dict[str, str] = {}
        self._evaluation = evaluation_of(judged)
        self._over = over

    def run(self, promote: str | None, settings: GateSettings) -> Comparison:
        confidence = self._judged.question.confidence
        objectives = self._judged.question.objectives
        found = {
            objective: self._compared(objective, self._over, confidence)
            for objective in objectives
        }
        first = found[objectives[0]]
        better = tuple(one.candidate for one in first if one.lead == "better")
        return Comparison(
            over=self._over,
            winner=self._winner(first),
            better=better,
            daily=self._daily,
            differences=tuple(
                self._difference(objective, one)
                for objective, ones in found.items()
                for one in ones
            ),
            gate=None if promote is None else self._gate(promote, settings),
            evaluation=self._evaluation,
        )

    # --- Differences --------------------------------------------------------------

    def _compared(
        self, objective: str, over: str, confidence: float, *, rare: bool = False
    ) -> list[Paired]:
        """Compare all policies with one, by what each is judged by."""
        sums: dict[str, Sums] = {}
        worst: dict[str, Terms] = {}
        for place, subject in enumerate(self._evaluation.policies):
            mine = self._judged.tally.sums[Cell(place, objective)]
            if rare:
                # That it never came in this log does not say that it cannot.
                low, high = mine.reward_range
                mine = msgspec.structs.replace(
                    mine, reward_range=(min(low, 0.0), max(high, 1.0))
                )
            if not mine.overlap.total:
                raise QuestionError(
                    f"there is nothing to compare {subject.name} by: the log never did"
                    " what it does"
                )
            name = subject.estimator
            if name not in mine.names:
                name = "dr" if "dr" in mine.names else "snips"
            sums[subject.name], self._by[subject.name] = mine, name
            extreme = worst_of(name, mine)
            if extreme is not None:
                worst[subject.name] = extreme
        found = compare_sums(
            sums,
            self._by,
            base=over,
            worst=worst,
            confidence=confidence,
            always_valid=self._daily,
            rare=rare,
        )
        return [self._doubted(one) for one in found]

    def _doubted(self, one: Paired) -> Paired:
        """Add what speaks against either policy beside its weights."""
        verdict: Verdict = one.difference.verdict
        doubts = list(one.difference.doubts)
        for subject in self._evaluation.policies:
            if subject.name not in (one.candidate, one.base):
                continue
            verdict = worse(verdict, subject.verdict)
            value = self._evaluation.of(subject.name)
            doubts += [f"{subject.name}: {doubt}" for doubt in value.doubts]
        difference = msgspec.structs.replace(
            one.difference, verdict=verdict, doubts=tuple(dict.fromkeys(doubts))
        )
        lead = one.lead if verdict == "usable" else "open"
        return msgspec.structs.replace(one, difference=difference, lead=lead)

    def _difference(self, objective: str, one: Paired) -> Difference:
        found = one.difference
        told = found.verdict != "unusable"
        return Difference(
            policy=one.candidate,
            over=one.base,
            objective=objective,
            estimator=self._by[one.candidate],
            value=_finite(found.value) if told else None,
            low=_finite(found.low) if told else None,
            high=_finite(found.high) if told else None,
            confidence=found.confidence,
            standard_error=_finite(found.standard_error) if told else None,
            n=found.n,
            lead=one.lead,
            verdict=found.verdict,
            rows_to_tell=one.rows_to_tell if told else found.rows_needed,
            doubts=found.doubts,
        )

    # --- Who is better ------------------------------------------------------------

    def _winner(self, first: Sequence[Paired]) -> str | None:
        """Return the best of all; none where it is open.

        A candidate that is better than the base must be better than the other
        candidates, too. Which one leads was chosen by the same data, so that this is
        asked for with a confidence that holds for any choice.
        """
        if all(one.lead == "worse" for one in first):
            return self._over
        better = [one for one in first if one.lead == "better"]
        if not better:
            return None
        leader = max(better, key=lambda one: one.difference.value).candidate
        rest = [one for one in first if one.candidate != leader]
        if all(one.lead == "worse" for one in rest):
            return leader
        question = self._judged.question
        confidence = 1.0 - (1.0 - question.confidence) / len(first)
        others = self._compared(question.objectives[0], leader, confidence)
        beaten = all(one.lead == "worse" for one in others)
        return leader if beaten else None

    def _gate(self, promote: str, settings: GateSettings) -> Gate:
        objective = self._judged.question.objectives[0]
        gain = self._one(objective, promote, settings.confidence)
        dismissals: Estimate | None = None
        if settings.dismissals_rise_max is not None:
            dismissals = self._one(DISMISSED, promote, settings.confidence)
        verdict, reasons = gate(gain, dismissals, settings=settings)
        return Gate(
            promote=promote,
            over=self._over,
            verdict=verdict,
            reasons=reasons,
            settings=settings,
        )

    def _one(self, objective: str, promote: str, confidence: float) -> Estimate:
        """Return a difference as a gate is to see it.

        What is weak by its overlap holds, and may suffice; what a policy has learned
        from the same rewards does not, and never does.
        """
        found = self._compared(
            objective, self._over, confidence, rare=objective == DISMISSED
        )
        one = next(one.difference for one in found if one.candidate == promote)
        for subject in self._evaluation.policies:
            if subject.trained_on_log and subject.name in (promote, self._over):
                return msgspec.structs.replace(one, verdict="unusable")
        return one


def _known(name: str, names: Sequence[str]) -> str:
    if name not in names:
        there = ", ".join(names)
        raise QuestionError(f"{name!r} is none of the policies compared: {there}")
    return name


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None
