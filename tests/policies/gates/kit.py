"""What tests of gates share: gates as catalogues make them, and moments to ask them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from policies.gates.base import Facts, Gate, Situation
from policies.model import (
    NO_CONTEXT,
    NO_HISTORY,
    Action,
    Context,
    EventKind,
    FeatureValue,
    History,
    Opportunity,
    Reservation,
    State,
    Subject,
    Tally,
    Track,
    Usage,
)
from policies.rules import Expression, Rule
from policies.specs import CatalogueSpec, OfferSpec, PlacementSpec

HOUR = 3_600_000
DAY = 24 * HOUR
NOW = 1_000 * DAY
FEATURES: dict[str, FeatureValue] = {"tenure_days": 1.0, "device": "tv"}
ACTION = Action(1, "offer", "default", "home", ())

_Made = TypeVar("_Made", bound=Gate)


def facts(
    offer: OfferSpec,
    catalogue: CatalogueSpec | None = None,
    placement: PlacementSpec | None = None,
) -> Facts:
    return Facts(
        catalogue=catalogue or CatalogueSpec(),
        rule=lambda source: Rule(source, FEATURES),
        expression=lambda source: Expression(source, FEATURES),
        offer_id="offer",
        offer=offer,
        placement_id="home",
        placement=placement or PlacementSpec(),
        creative_id="default",
    )


def gates(
    kind: type[_Made],
    offer: OfferSpec,
    catalogue: CatalogueSpec | None = None,
    placement: PlacementSpec | None = None,
) -> list[_Made]:
    """Make all gates of a kind that a catalogue asks for."""
    return list(kind.of(facts(offer, catalogue, placement)))


def gate(
    kind: type[_Made],
    offer: OfferSpec,
    catalogue: CatalogueSpec | None = None,
    placement: PlacementSpec | None = None,
) -> _Made:
    """Make the only gate of a kind that a catalogue asks for."""
    (made,) = gates(kind, offer, catalogue, placement)
    return made


def moment(
    context: Context = NO_CONTEXT,
    *,
    history: History = NO_HISTORY,
    account: History = NO_HISTORY,
    at_ms: int = NOW,
    earlier: Iterable[tuple[str, str]] = (),
) -> Situation:
    opportunity = Opportunity(
        "d", at_ms, "ada", ("home",), context=context, earlier=tuple(earlier)
    )
    return Situation(opportunity, history, account)


def reason(gate: Gate, situation: Situation, action: Action = ACTION) -> str:
    """Return the code of the reason; empty where the offer may be shown."""
    ruling = gate.reject(action, situation)
    return "" if ruling is None else ruling.reason


def having(*owned: str, **state: Any) -> History:
    """Return the past of a user who has products since the beginning."""
    return History(state=State(owned=dict.fromkeys(owned, 0), **state))


def using(name: str, value: float, limit: float | None = None, **usage: Any) -> Context:
    """Return the context of a user who has used something."""
    return Context(usage={name: Usage(value, limit, **usage)})


def past(
    times: Mapping[EventKind, Iterable[int]] | None = None,
    *,
    held_until_ms: int | None = None,
    offer_id: str = "offer",
) -> History:
    """Return a past with one offer: what happened when, and what may still happen."""
    subject = Subject(offer_id, "default", "home")
    tallies: dict[EventKind, Tally] = {
        kind: Tally(tuple(at)) for kind, at in (times or {}).items()
    }
    held = Reservation(held_until_ms or 0, "earlier", subject)
    return History(
        tracks=(Track(subject, tallies),) if tallies else (),
        reservations=(held,) if held_until_ms is not None else (),
    )
