"""What is asked, what is answered, and what catalogues say of it at a glance."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from typing import NamedTuple

from policies.model import Context
from policies.specs import CatalogueSpec
from tests.reference.past import Who

__all__ = [
    "BYPASSED",
    "UNTIMED",
    "Act",
    "Asked",
    "Moment",
    "No",
    "Rules",
    "actions_of",
    "counts_decisions",
    "day_of",
    "limit_of",
    "needs_of",
]

BYPASSED = frozenset(
    [
        "attention",
        "category_cap",
        "creative_cap",
        "fatigue",
        "offer_cap",
        "placement_cap",
        "session_limit",
        "spacing",
    ]
)
"""The gates that do not hold back what is critical."""

UNTIMED = frozenset(
    [
        "applicable",
        "budget",
        "eligible",
        "inventory",
        "limit",
        "once_per_cycle",
        "parameters",
        "suitable",
        "value_discovered",
    ]
)
"""The gates that may let an action through later without having said when."""


class Act(NamedTuple):
    """An offer as it is worded, in a placement."""

    offer_id: str
    creative_id: str
    placement_id: str


class No(NamedTuple):
    """A rule says no."""

    gate: str
    reason: str


class Asked(NamedTuple):
    """What a request asks.

    Attributes:
        earlier: What the same call has chosen already: offers and placements.
        most: How many offers it wants at the most.
    """

    who: Who
    at_ms: int
    placements: tuple[str, ...]
    offers: tuple[str, ...] = ()
    session_id: str = ""
    context: Context = Context()
    earlier: tuple[tuple[str, str], ...] = ()
    most: int = 1


class Moment(NamedTuple):
    """What rules of catalogues can look at."""

    at_ms: int
    context: Context
    role: str
    owned: frozenset[str]
    states: frozenset[str]
    engagement: str
    value_discovered: bool


class Rules(NamedTuple):
    """What a catalogue's rules and parameters mean, by their source.

    Attributes:
        holds: Of each rule whether it holds.
        known: Of each parameter whether there is such a value.
    """

    holds: Mapping[str, Callable[[Moment], bool]]
    known: Mapping[str, Callable[[Moment], bool]]


def actions_of(spec: CatalogueSpec) -> list[Act]:
    """Return all that a catalogue could ever show."""
    return [
        Act(offer_id, creative_id, placement_id)
        for offer_id, offer in spec.offers.items()
        for creative_id in offer.creatives or ("default",)
        for placement_id in offer.placements
    ]


def needs_of(spec: CatalogueSpec, offer_id: str, at_ms: int) -> dict[str, int]:
    """Return how much of which inventories and budgets an offer takes."""
    offer = spec.offers[offer_id]
    needs: dict[str, int] = {}
    if offer.inventory is not None:
        needs[f"inventory:{offer_id}"] = 1
    if offer.budget and offer.discount:
        needs[f"budget:{offer.budget}"] = offer.discount
        if spec.budgets[offer.budget].per_day is not None:
            today = day_of(at_ms)
            needs[f"budget:{offer.budget}:{today}"] = offer.discount
    return needs


def limit_of(spec: CatalogueSpec, supply: str) -> int:
    """Return how much there is of an inventory or a budget."""
    kind, name, *day = supply.split(":")
    if kind == "inventory":
        return spec.offers[name].inventory or 0
    budget = spec.budgets[name]
    return (budget.per_day or 0) if day else budget.amount


def counts_decisions(spec: CatalogueSpec) -> bool:
    """Say whether any cap of a catalogue counts what was decided."""
    caps = list(spec.caps)
    for placement in spec.placements.values():
        caps += placement.caps
    for category in spec.categories.values():
        caps += category.caps
    for offer in spec.offers.values():
        caps += offer.caps
        for creative in offer.creatives.values():
            caps += creative.caps
    return any(cap.counts == "decided" for cap in caps)


def day_of(at_ms: int) -> dt.date:
    """Return the day (UTC) of a time."""
    return dt.datetime.fromtimestamp(at_ms // 1_000, dt.UTC).date()
