"""What tests of caps and pauses share: pasts by the clock on the wall, and gates."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

from policies.gates.base import Facts, Gate, Ruling, Situation
from policies.model import (
    NO_CONDITIONS,
    NO_CONTEXT,
    NO_HISTORY,
    Action,
    Conditions,
    Context,
    EventKind,
    History,
    Opportunity,
    Preferences,
    Reservation,
    Subject,
    Tally,
    Track,
)
from policies.rules import Expression, Rule
from policies.specs import CatalogueSpec, CreativeSpec, OfferSpec, PlacementSpec

MINUTE = 60_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR

_Made = TypeVar("_Made", bound=Gate)


def at(clock: str, zone: str = "UTC", *, second: bool = False) -> int:
    """Return when a clock first shows a time, like `2026-03-29 01:30`.

    Args:
        second: Whether it is the second time, after the clock was put back.
    """
    local = dt.datetime.fromisoformat(clock)
    local = local.replace(tzinfo=ZoneInfo(zone), fold=int(second))
    return round(local.timestamp() * 1_000)


def action(
    offer: str = "tea", creative: str = "default", placement: str = "home"
) -> Action:
    return Action(1, offer, creative, placement, ())


TEA = action()


def subject(name: str = "tea", *categories: str, weight: float = 0.2) -> Subject:
    """Return a subject by its name: `offer`, `offer/creative/placement` or between."""
    offer, creative, placement = [*name.split("/"), "", ""][:3]
    return Subject(
        offer, creative or "default", placement or "home", categories, weight
    )


def track(about: Subject | str, *times: int, kind: EventKind = "shown") -> Track:
    """Return what happened around a subject."""
    if isinstance(about, str):
        about = subject(about)
    return Track(about, {kind: Tally(tuple(sorted(times)))})


def held(until_ms: int, about: Subject | str = "tea") -> Reservation:
    """Return what was decided and may still be shown."""
    if isinstance(about, str):
        about = subject(about)
    return Reservation(until_ms, "earlier", about)


def past(
    *tracks: Track, reserved: Iterable[Reservation] = (), zone: str = "", **known: Any
) -> History:
    """Return what is known of a user, who lives in a time zone."""
    preferences = known.pop("preferences", Preferences(zone=zone))
    return History(
        tracks=tracks, reservations=tuple(reserved), preferences=preferences, **known
    )


def ask(
    at_ms: int,
    history: History = NO_HISTORY,
    account: History = NO_HISTORY,
    conditions: Conditions = NO_CONDITIONS,
    *,
    context: Context = NO_CONTEXT,
    session: str = "",
    user: str = "ada",
    zone: str = "UTC",
) -> Situation:
    """Return what gates see where a user asks; `zone` is the catalogue's."""
    opportunity = Opportunity(
        "d", at_ms, user, ("home",), session_id=session, context=context
    )
    return Situation(opportunity, history, account, conditions, zone=zone)


def gates(
    kind: type[_Made],
    catalogue: CatalogueSpec | None = None,
    *,
    offer: OfferSpec | None = None,
    placement: PlacementSpec | None = None,
    creative: CreativeSpec | None = None,
    placement_id: str = "home",
) -> list[_Made]:
    """Make all gates of a kind that a catalogue asks for."""
    rules: dict[str, Rule] = {}
    facts = Facts(
        catalogue=catalogue or CatalogueSpec(),
        rule=lambda source: rules.setdefault(source, Rule(source, {})),
        expression=lambda source: Expression(source, {}),
        offer_id="tea",
        offer=offer or OfferSpec(),
        placement_id=placement_id,
        placement=placement or PlacementSpec(),
        creative_id="default",
        creative=creative or CreativeSpec(),
    )
    return list(kind.of(facts))


def rule_out(
    made: Iterable[Gate], situation: Situation, about: Action = TEA
) -> Ruling | None:
    """Return the ruling of the first gate that rejects; none where all let through."""
    for gate in made:
        ruling = gate.reject(about, situation)
        if ruling is not None:
            assert all(gate.because(about, situation))
            return ruling
    return None
