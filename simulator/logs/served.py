"""Reads a server's log as parts: its decisions, with what came of them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from policies.catalogue import Catalogue
from policies.features import context_features
from policies.identity import root_of
from policies.model import PROBABILITY_UNITS, Action, Outcome, OutcomeKind
from policies.records import decode_outcome
from simulator.feedback import Feedback
from simulator.logs.base import ROWS_MAX, LeftOut, LogError
from simulator.logs.building import Building, Reading, uncollected
from simulator.logs.server import Log, Record

__all__ = ["KINDS", "ServedReader"]

KINDS: tuple[OutcomeKind, ...] = (
    "shown",
    "clicked",
    "accepted",
    "dismissed",
    "snoozed",
    "opted_out",
    "refunded",
    "churned",
)
"""The outcomes that are objectives: 1 where a decision has one, else 0."""

_UNKNOWN = float("nan")


class _After(NamedTuple):
    """What came of the decisions of a chunk."""

    rewards: dict[str, float]
    outcomes: dict[str, list[Outcome]]


class ServedReader(Reading):
    """Reads the SQLite file of a server.

    Each outcome of `KINDS` is an objective, and so is `margin`: what was left of what
    was sold, in minor units of the catalogue's currency, as outcomes report it or else
    as the catalogue says; not a number where neither does.

    Args:
        path: The file.
        skip_bad: Whether decisions that cannot be read are left out and counted.

    Attributes are those of `Source`, and `log`, the log itself.
    """

    format = "server"

    def __init__(self, path: Path, *, skip_bad: bool = False) -> None:
        super().__init__(path, skip_bad=skip_bad)
        self.log = Log(path)
        self.rows = self.log.last - self.log.first + 1 if self.log.last else 0
        self._codes: dict[tuple[str, int], int] = {}
        self._rewarded = False

    def close(self) -> None:
        """Let go of the file."""
        self.log.close()

    def parts(
        self, rows_max: int = ROWS_MAX, columns: Collection[str] | None = None
    ) -> Iterator[Feedback]:
        """Yield the decisions; see `Source`."""
        del columns
        self.left_out = LeftOut()
        if not self._rewarded:
            self.log.keep_rewards()
            self._rewarded = True
        for records in self._chunks(rows_max):
            with uncollected():
                part = self._part(records)
            if len(part):
                yield part

    def _chunks(self, rows_max: int) -> Iterator[list[Record]]:
        chunk: list[Record] = []
        for record in self.log.records():
            chunk.append(record)
            if len(chunk) >= rows_max:
                yield chunk
                chunk = []
        if chunk:
            yield chunk

    def _part(self, records: list[Record]) -> Feedback:
        log = self.log
        first, last = records[0].position, records[-1].position
        outcomes: dict[str, list[Outcome]] = {}
        for decision_id, text in log.outcomes(first, last):
            try:
                outcome = decode_outcome(text)
            except msgspec.DecodeError as error:
                self._bad(f"an outcome of decision {decision_id}: {error}")
                continue
            outcomes.setdefault(decision_id, []).append(outcome)
        after = _After(dict(log.rewards(first, last)), outcomes)
        building = Building(self._names)
        building.objectives = {name: [] for name in (*KINDS, "margin")}
        for record in records:
            try:
                self._add(building, record, after)
            except LogError as error:
                self._bad(error.problem)
        return building.part()

    def _add(self, building: Building, record: Record, after: _After) -> None:
        decision = self.log.read(record.record, f"decision {record.position}")
        catalogue = self.log.catalogue(decision.catalogue)
        name = record.decision_id
        if decision.chosen not in decision.actions:
            wrong = f"decision {record.position}: chosen: is not among the actions"
            raise LogError(self.path, wrong)
        context = decision.opportunity.context
        codes = [self._code(catalogue, index) for index in decision.actions]
        building.add(
            record.position,
            reward=after.rewards.get(name, _UNKNOWN),
            chosen=self._code(catalogue, decision.chosen),
            propensity=decision.propensity,
            actions=codes,
            probabilities=[p / PROBABILITY_UNITS for p in decision.probabilities],
            context=context_features(context, catalogue.features),
            time_ms=decision.opportunity.at_ms,
            key=int(root_of(name), 16),
            logger=decision.policy,
            floor=decision.floor / PROBABILITY_UNITS,
        )
        building.segments.append(context.segment)
        building.ids.append(name)
        building.splits.append(decision.split)
        outcomes = after.outcomes.get(name, ())
        kinds = {outcome.kind for outcome in outcomes}
        for kind in KINDS:
            building.objectives[kind].append(float(kind in kinds))
        action = catalogue.actions[decision.chosen]
        margin = _margin(outcomes, action, catalogue.currency)
        building.objectives["margin"].append(margin)

    def _code(self, catalogue: Catalogue, index: int) -> int:
        key = (catalogue.version, index)
        code = self._codes.get(key)
        if code is None:
            code = self._codes[key] = self._names.action(catalogue.actions[index])
        return code


def _margin(outcomes: Collection[Outcome], action: Action, currency: str) -> float:
    """Return what was left of what was sold; not a number where nobody knows."""
    margin = 0.0
    for outcome in outcomes:
        if outcome.kind not in ("accepted", "converted", "refunded"):
            continue
        reported = outcome.margin
        if reported is not None and reported.currency == currency:
            worth = float(reported.minor)
        elif reported is None and action.merits.margin is not None:
            worth = float(action.merits.margin)
        else:
            return _UNKNOWN
        margin += -worth if outcome.kind == "refunded" else worth
    return margin
