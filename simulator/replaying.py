"""Makes every decision of a log again, and compares.

What a server decided is a function of what it logged: the opportunity, the history,
the catalogue, the policy's settings and the training stream up to the position that
the decision names. If a decision comes out otherwise, the log was changed, or the
code or the machine computes differently.

Workers take up a new model one after the other, so that decisions are not logged in
the order of their models. They are made again in that order, one learner and one
stream after the other: the model only ever moves forward, and one is in memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from policies.engine import decide, past_of
from policies.model import PROBABILITY_UNITS, Decision
from policies.policy import Policy
from policies.records import decode_decision
from simulator.folding import Folding
from simulator.logs import Key, Log, LogError, Record, Watcher
from simulator.logs.building import uncollected

__all__ = ["DIFFERENT_MAX", "Different", "FieldDifference", "Replay", "replay"]

DIFFERENT_MAX = 20
"""How many decisions that differ are told field by field."""

_FIELDS = (
    # Inputs first: what follows from them differs because of them.
    "catalogue",
    "policy",
    "model",
    "actions",
    "probabilities",
    "floor",
    "chosen",
    "valid_until_ms",
    "opportunity",
    "history",
    "account",
    "conditions",
    "split",
    "terms",
)
_WATCH_EVERY = 500


class FieldDifference(msgspec.Struct, frozen=True):
    """A field of a decision, as it was logged and as it came out again."""

    field: str
    logged: Any
    again: Any


class Different(msgspec.Struct, frozen=True):
    """A decision that did not come out as it was logged.

    Attributes:
        position: Where in the log it is.
        decision_id: Its id.
        reason: Under which reason it is counted.
        detail: Why it could not be made again; empty where it could.
        fields: What differs; empty where it could not be made again.
    """

    position: int
    decision_id: str
    reason: str
    detail: str = ""
    fields: tuple[FieldDifference, ...] = ()


class Replay(msgspec.Struct, frozen=True, kw_only=True):
    """What came out of making the decisions of a log again.

    Attributes:
        format: The version of these fields.
        log: The path of the log.
        decisions: How many there are.
        identical: How many came out the same, in every field.
        close: How many came out the same but for probabilities that differ by no
            more than the tolerance.
        differing: How many did not.
        reasons: How many of these for which reason: the first field that differs, or
            `unreadable`, `missing` (the log lacks what it was made from) or `failed`.
        first: The first of them, in the order of their models.
        models: How many different models decided.
        policies: How many different policies did.
        catalogues: From how many different catalogues.
    """

    format: str = "opportune.replay.v1"
    log: str
    decisions: int
    identical: int
    close: int
    differing: int
    reasons: dict[str, int]
    first: tuple[Different, ...]
    models: int
    policies: int
    catalogues: int


class _Model(NamedTuple):
    """What a decision was made by, in the order in which models are folded."""

    learner: str
    epoch: int
    position: int
    policy: str


class _Run(NamedTuple):
    """Decisions next to each other in the log that were made by the same model."""

    model: _Model
    first: int
    last: int


class _NotAgainError(Exception):
    """A decision cannot be made again."""

    def __init__(self, reason: str, detail: str) -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(detail)


def replay(
    log: Log, *, tolerance: float = 0.0, watcher: Watcher | None = None
) -> Replay:
    """Make every decision of a log again.

    Args:
        log: The log.
        tolerance: By how much a probability may differ, from 0; for a log from
            another machine, whose arithmetic may differ in the last digits.
        watcher: Is told how far it is.
    """
    with uncollected():
        return _Replaying(log, tolerance, watcher or (lambda *_: None)).run()


class _Replaying:
    """One replay under way."""

    def __init__(self, log: Log, tolerance: float, watcher: Watcher) -> None:
        self._log = log
        self._tolerance = round(tolerance * PROBABILITY_UNITS)
        self._watcher = watcher
        self._model_of = lru_cache(maxsize=1_024)(self._model)
        self._done = self._identical = self._close = 0
        self._reasons: Counter[str] = Counter()
        self._first: list[Different] = []
        self._catalogues: set[str] = set()

    def run(self) -> Replay:
        """Make every decision again."""
        log = self._log
        models: set[_Model] = set()
        folding: Folding | None = None
        for model, first, last in sorted(self._runs()):
            models.add(model)
            settings = log.policy(model.policy)
            if folding is None or folding.stream != model[:2]:
                folding = Folding(log, settings, model.epoch)
            problem = ""
            try:
                folding.advance(model.position)
            except LogError as error:
                problem = error.problem
            policy = folding.policy(settings)
            for record in log.records(first, last):
                if problem:
                    self._differ(record, "missing", problem)
                else:
                    self._compare(record, policy)
                self._watch("deciding", self._done)
        return Replay(
            log=str(log.path),
            decisions=self._done,
            identical=self._identical,
            close=self._close,
            differing=self._reasons.total(),
            reasons=dict(self._reasons.most_common()),
            first=tuple(self._first),
            models=len({model[:3] for model in models}),
            policies=len({model.policy for model in models}),
            catalogues=len(self._catalogues),
        )

    def _runs(self) -> Iterator[_Run]:
        """Read only by what decisions were made, and keep only where that changes."""
        decode = msgspec.json.Decoder(Key).decode
        run: _Run | None = None
        for record in self._log.records():
            position = record.position
            model = None
            try:
                key = decode(record.record)
                model = self._model_of(key.policy, key.model)
            except msgspec.DecodeError as error:
                self._differ(record, "unreadable", str(error))
            except _NotAgainError as error:
                self._differ(record, error.reason, error.detail)
            if run is not None and model == run.model:
                run = run._replace(last=position)
            else:
                if run is not None:
                    yield run
                run = None if model is None else _Run(model, position, position)
            self._watch("reading", position - self._log.first + 1)
        if run is not None:
            yield run

    def _model(self, policy: str, model: str) -> _Model:
        epoch, _, position = model.partition(".")
        if not (epoch.isdecimal() and position.isdecimal()):
            wrong = f"model must be epoch.position, not {model!r}"
            raise _NotAgainError("unreadable", wrong)
        try:
            learner = self._log.policy(policy).learner_version
        except LogError as error:
            raise _NotAgainError("missing", error.problem) from None
        return _Model(learner, int(epoch), int(position), policy)

    def _compare(self, record: Record, policy: Policy) -> None:
        """Make one decision again, and count what came out."""
        try:
            logged, again = self._again(record, policy)
        except _NotAgainError as error:
            self._differ(record, error.reason, error.detail)
            return
        if again == logged:
            self._done += 1
            self._identical += 1
        elif self._tolerance and _close(logged, again, self._tolerance):
            self._done += 1
            self._close += 1
        else:
            fields = tuple(_differences(logged, again))
            self._differ(record, fields[0].field, fields=fields)

    def _again(self, record: Record, policy: Policy) -> tuple[Decision, Decision]:
        """Return a decision as it was logged, and made again."""
        try:
            logged = decode_decision(record.record)
        except msgspec.DecodeError as error:
            raise _NotAgainError("unreadable", str(error)) from None
        if logged.opportunity.decision_id != record.decision_id:
            other = f"it is stored as another decision, {record.decision_id}"
            raise _NotAgainError("unreadable", other)
        try:
            catalogue = self._log.catalogue(logged.catalogue)
        except LogError as error:
            raise _NotAgainError("missing", error.problem) from None
        self._catalogues.add(logged.catalogue)
        try:
            verdict = decide(
                logged.opportunity,
                catalogue=catalogue,
                past=past_of(logged),
                policy=policy,
                told=False,
            )
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            failure = f"{type(error).__name__}: {error}"
            raise _NotAgainError("failed", failure) from error
        again = verdict.decision
        if again.split == "holdout" and logged.split == "train":
            # Earlier versions did not say who was held out.
            again = msgspec.structs.replace(again, split="train")
        if not logged.floor:
            # Earlier versions logged none.
            again = msgspec.structs.replace(again, floor=0)
        return logged, again

    def _differ(
        self,
        record: Record,
        reason: str,
        detail: str = "",
        fields: tuple[FieldDifference, ...] = (),
    ) -> None:
        self._done += 1
        self._reasons[reason] += 1
        if len(self._first) < DIFFERENT_MAX:
            self._first.append(
                Different(record.position, record.decision_id, reason, detail, fields)
            )

    def _watch(self, doing: str, done: int) -> None:
        total = self._log.last - self._log.first + 1
        if done % _WATCH_EVERY == 0 or done >= total:
            self._watcher(doing, done, total)


def _close(logged: Decision, again: Decision, tolerance: int) -> bool:
    """Say whether nothing differs but probabilities, by few billionths."""
    probabilities, floor = again.probabilities, again.floor
    if len(logged.probabilities) != len(probabilities):
        return False
    alike = msgspec.structs.replace(
        logged, probabilities=probabilities, floor=floor, terms=again.terms
    )
    if alike != again or (logged.terms is None) != (again.terms is None):
        return False
    if abs(logged.floor - floor) > tolerance:
        return False
    pairs = zip(logged.probabilities, probabilities, strict=True)
    return all(abs(a - b) <= tolerance for a, b in pairs)


def _differences(logged: Decision, again: Decision) -> Iterator[FieldDifference]:
    for field in _FIELDS:
        was, now = getattr(logged, field), getattr(again, field)
        if was != now:
            yield FieldDifference(
                field, msgspec.to_builtins(was), msgspec.to_builtins(now)
            )
