"""What is left of inventories and budgets while a world is played, in memory."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from policies.catalogue import Catalogue
from policies.history import CONFIRMING
from policies.model import NO_OFFER, Action, Decision, Opportunity, Outcome

__all__ = ["Stock"]


@dataclass(slots=True)
class _Hold:
    """What a decision keeps of a supply until its offer is accepted, or not."""

    name: str
    amount: int
    until_ms: int


class Stock:
    """The supplies of a catalogue, of which each decision holds what it may need.

    An accept charges what was held, a refund gives it back, and what nobody accepts is
    free when the decision is over: as a server's own.

    Args:
        catalogue: What can be offered.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._holds: dict[str, list[_Hold]] = {}
        self._charged: Counter[str] = Counter()
        self._lapsed: dict[str, list[_Hold]] = {}
        self._paid: dict[str, list[_Hold]] = {}

    def short(
        self, opportunity: Opportunity, actions: Sequence[Action]
    ) -> tuple[str, ...]:
        """Return what is exhausted, as `policies.model.Conditions` names it.

        Args:
            opportunity: What is asked.
            actions: What may be chosen, if there is enough.
        """
        limits: dict[str, int] = {}
        amounts: dict[str, set[int]] = {}
        day = _day(opportunity.at_ms)
        for action in self._wanted(opportunity, actions):
            for name, (limit, amount) in self._catalogue.needs([action], day).items():
                limits[name] = limit
                amounts.setdefault(name, set()).add(amount)
        found: list[str] = []
        for name, some in amounts.items():
            left = limits[name] - self._taken(name, opportunity.at_ms)
            payable = [amount for amount in some if amount <= left]
            if len(payable) < len(some):
                found.append(f"{name}>{max(payable)}" if payable else name)
        return tuple(sorted(found))

    def hold(self, decision: Decision) -> None:
        """Keep what a decision may need."""
        if decision.chosen == NO_OFFER:
            return
        asked = decision.opportunity
        action = self._catalogue.actions[decision.chosen]
        until_ms = decision.valid_until_ms + int(self._catalogue.spec.report_grace)
        needs = self._catalogue.needs([action], _day(asked.at_ms))
        if needs:
            self._holds[asked.decision_id] = [
                _Hold(name, amount, until_ms) for name, (_, amount) in needs.items()
            ]

    def settle(self, decision: Decision, outcome: Outcome) -> None:
        """Charge, give back or keep for longer, by what came of a decision."""
        name = decision.opportunity.decision_id
        match outcome.kind:
            case "accepted":
                holds = self._holds.pop(name, None) or self._lapsed.pop(name, [])
                for each in holds:
                    self._charged[each.name] += each.amount
                self._paid[name] = holds
            case "refunded":
                for each in self._paid.pop(name, ()):
                    self._charged[each.name] -= each.amount
            case "dismissed" | "opted_out" | "not_shown":
                self._holds.pop(name, None)
            case kind if kind in CONFIRMING:
                action = self._catalogue.actions[decision.chosen]
                kept = self._catalogue.offers[action.offer_id].spec.hold
                for each in self._holds.get(name, ()):
                    each.until_ms = max(each.until_ms, outcome.at_ms + int(kept))

    def _wanted(
        self, opportunity: Opportunity, actions: Sequence[Action]
    ) -> list[Action]:
        """Return the actions, and those that are left where there is not enough."""
        placements = [
            self._catalogue.placements[name]
            for name in opportunity.placements
            if name in self._catalogue.placements
        ]
        return [*actions, *(a for placement in placements for a in placement.fallback)]

    def _taken(self, name: str, at_ms: int) -> int:
        """Return how much is charged or held; what is over is put aside."""
        over = [
            key
            for key, holds in self._holds.items()
            if all(each.until_ms <= at_ms for each in holds)
        ]
        for key in over:
            self._lapsed[key] = self._holds.pop(key)
        held = sum(
            each.amount
            for holds in self._holds.values()
            for each in holds
            if each.name == name
        )
        return self._charged[name] + held


def _day(at_ms: int) -> str:
    return dt.datetime.fromtimestamp(at_ms / 1_000, dt.UTC).date().isoformat()
