"""Offers that refer to what is not there, or that nobody could ever see."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Collection, Sequence

from policies.linting.base import (
    Note,
    above,
    between,
    declared,
    id_of,
    name_of,
    once,
    under,
)
from policies.linting.caps import lint_caps
from policies.linting.honesty import lint_honesty
from policies.linting.money import lint_money
from policies.linting.settings import lint_dismissal, lint_snooze
from policies.linting.truth import lint_rules
from policies.messages import link_problem
from policies.rewards import (
    REWARD_WAIT_MAX_MS,
    REWARD_WAIT_MIN_MS,
    check_outcomes,
)
from policies.specs import (
    MOMENTS,
    CatalogueSpec,
    CreativeSpec,
    DismissalSpec,
    LimitSpec,
    OfferSpec,
    TrafficSpec,
)

__all__ = ["lint_offers"]

_PRIORITY_MAX = 1_000_000
_SHARE_MAX = 100.0
_OUTCOMES_MAX = 1_000_000_000


def lint_offers(
    note: Note, spec: CatalogueSpec, previous: CatalogueSpec | None
) -> None:
    """Check all offers."""
    archived = {
        offer_id
        for offer_id, offer in (previous.offers.items() if previous else ())
        if offer.state == "archived"
    }
    moments = MOMENTS.union(spec.moments)
    for offer_id, offer in spec.offers.items():
        here = under(note, "offers", offer_id)
        id_of(here, "an offer", offer_id)
        if offer_id in archived and offer.state != "archived":
            here("is archived for good; an offer like it has an id of its own", "state")
        _lint_references(here, offer, spec)
        _lint_moments(here, offer.moments, moments)
        _lint_dates(here, offer.start, offer.end)
        between(here, offer.priority, -_PRIORITY_MAX, _PRIORITY_MAX, "priority")
        if offer.traffic is not None:
            _lint_traffic(under(here, "traffic"), offer.traffic)
        _lint_like(here, offer_id, spec)
        if offer.limit is not None:
            _lint_limit(under(here, "limit"), offer.limit)
        _lint_suppression(here, offer, spec)
        lint_money(here, offer, spec)
        _lint_rewards(here, offer)
        _lint_merits(here, offer, moments)
        lint_honesty(here, offer)
        for creative_id, creative in offer.creatives.items():
            _lint_creative(
                under(here, "creatives", creative_id), creative_id, creative, spec
            )
        if offer.state != "archived":
            lint_rules(here, offer, spec)
            _lint_reach(here, offer, spec)


def _lint_references(note: Note, offer: OfferSpec, spec: CatalogueSpec) -> None:
    if not offer.placements:
        note("names at least one placement", "placements")
    declared(note, offer.placements, spec.placements, "placements", "placements")
    declared(note, offer.categories, spec.categories, "categories", "categories")
    declared(note, offer.grants, spec.products, "products", "grants")
    declared(note, offer.requires, spec.products, "products", "requires")
    declared(note, offer.complements, spec.products, "products", "complements")
    if offer.ladder and offer.ladder not in spec.ladders:
        note(f"there is no [ladders.{offer.ladder}]", "ladder")


def _lint_moments(note: Note, moments: Sequence[str], known: Collection[str]) -> None:
    once(note, moments, "moments")
    for moment in moments:
        if moment not in known:
            said = f"{moment} is no known moment, nor does `moments` at the top"
            note(f"{said} of the file name it", "moments")


def _lint_rewards(note: Note, offer: OfferSpec) -> None:
    try:
        check_outcomes(offer.rewards, "rewards")
    except ValueError as error:
        note(str(error), "rewards")
    wait = offer.reward_wait
    if wait is not None and not REWARD_WAIT_MIN_MS <= wait <= REWARD_WAIT_MAX_MS:
        note(f"is 1m to 90d, not {wait.text}", "reward_wait")
    default = offer.reward_default
    if default is not None and not math.isfinite(default):
        note(f"is finite, not {default}", "reward_default")


def _lint_merits(note: Note, offer: OfferSpec, known: Collection[str]) -> None:
    if not 0.1 <= offer.lever <= 10.0:
        note(f"is 0.1 to 10, not {offer.lever:g}", "lever")
    for moment, weight in offer.moment_weights.items():
        if moment not in known:
            said = f"{moment} is no known moment, nor does `moments` at the top"
            note(f"{said} of the file name it", "moment_weights")
        elif not 0.0 < weight <= 10.0:
            note(f"is above 0 to 10, not {weight:g}", "moment_weights", moment)


def _lint_dates(note: Note, start: dt.datetime | None, end: dt.datetime | None) -> None:
    zoned = True
    for key, time in (("start", start), ("end", end)):
        if time is not None and time.tzinfo is None:
            note("needs a zone, such as 2026-11-27T00:00:00Z", key)
            zoned = False
    if zoned and start is not None and end is not None and end <= start:
        note("is not after start", "end")


def _lint_traffic(note: Note, spec: TrafficSpec) -> None:
    for least, most in (("least", "most"), ("new_least", "new_most")):
        low, high = getattr(spec, least), getattr(spec, most)
        for key, share in ((least, low), (most, high)):
            if share is not None:
                between(note, share, 0, 1, key)
        if low is not None and high is not None and low > high:
            note(f"is at most {most}, {high:g}, not {low:g}", least)
    if spec.new_outcomes is not None:
        between(note, spec.new_outcomes, 0, _OUTCOMES_MAX, "new_outcomes")


def _lint_like(note: Note, offer_id: str, spec: CatalogueSpec) -> None:
    """Check that an offer is like another one, which is not like itself in the end."""
    offer = spec.offers[offer_id]
    between(note, offer.like_doubt, 0, 1, "like_doubt")
    if not offer.like:
        return
    if offer.like not in spec.offers:
        said = f"there is no [offers.{offer.like}]; archive what is offered no more"
        note(f"{said}, and leave it in the file", "like")
        return
    circle, other = [offer_id], offer.like
    while other in spec.offers and other not in circle:
        circle.append(other)
        other = spec.offers[other].like
    if other == offer_id:
        note(f"goes in a circle: {' → '.join([*circle, other])}", "like")


def _lint_limit(note: Note, spec: LimitSpec) -> None:
    name_of(note, "a usage", spec.usage, "usage")
    if not 0 < spec.to_share <= _SHARE_MAX:
        said = f"is above 0 and at most {_SHARE_MAX:g}, not {spec.to_share:g}"
        note(f"{said}; 1.0 is all that the limit allows", "to_share")
    elif not 0 <= spec.from_share <= spec.to_share:
        said = f"is 0 to to_share, {spec.to_share:g}, not {spec.from_share:g}"
        note(said, "from_share")


def _lint_suppression(note: Note, offer: OfferSpec, spec: CatalogueSpec) -> None:
    """Check how often it is shown, and for how long it stays away."""
    if offer.caps:
        lint_caps(under(note, "caps"), offer.caps, spec.engagement, of="offers")
    if offer.dismissal is not None:
        lint_dismissal(under(note, "dismissal"), offer.dismissal)
    _lint_cool_down(note, offer)
    if offer.snooze is not None:
        lint_snooze(under(note, "snooze"), offer.snooze.repeats)
    above(note, offer.hold, 0, "hold")


def _lint_cool_down(note: Note, offer: OfferSpec) -> None:
    cool_down = offer.dismissal_cool_down
    if cool_down is None:
        return
    above(note, cool_down, 0, "dismissal_cool_down")
    longest = DismissalSpec().longest
    if offer.dismissal is not None:
        said = "says what dismissal says; leave one of them out"
        note(said, "dismissal_cool_down")
    elif cool_down > longest:
        said = f"is at most {longest.text}, not {cool_down.text}; for more, say"
        table = "dismissal = { cool_down = …, longest = … }"
        note(f"{said} {table}", "dismissal_cool_down")


def _lint_creative(
    note: Note, creative_id: str, spec: CreativeSpec, catalogue: CatalogueSpec
) -> None:
    id_of(note, "a creative", creative_id)
    if spec.caps:
        lint_caps(under(note, "caps"), spec.caps, catalogue.engagement, of="offers")
    for name in spec.parameters:
        name_of(note, "a parameter", name, "parameters", name)
    if spec.reason:
        name_of(note, "a reason", spec.reason, "reason")
    if wrong := link_problem(spec.action):
        note(wrong, "action")


def _lint_reach(note: Note, offer: OfferSpec, spec: CatalogueSpec) -> None:
    """Check that somebody could see it: what each of them asks for can be together."""
    _lint_room(note, offer, spec)
    if offer.grants:
        _lint_circle(note, offer)
    if offer.ladder:
        _lint_rung(note, offer, spec)
    comparing = [
        spec.placements[name].comparison
        for name in offer.placements
        if name in spec.placements
    ]
    if offer.anchor and not offer.ladder:
        note("is for offers of a ladder alone", "anchor")
    elif offer.anchor and not any(comparing):
        note("is for placements with comparison = true; it names none", "anchor")


def _lint_room(note: Note, offer: OfferSpec, spec: CatalogueSpec) -> None:
    """Check that some placement shows what belongs to its categories."""
    if not offer.placements or "room" in spec.gates.off:
        return
    own = set(offer.categories)
    for name in offer.placements:
        placement = spec.placements.get(name)
        if placement is None or not placement.categories:
            return
        if not own.isdisjoint(placement.categories):
            return
    said = "show none of its categories, so that nobody could ever see it"
    note(f"{said}: {', '.join(offer.placements)}", "placements")


def _lint_circle(note: Note, offer: OfferSpec) -> None:
    """Check that it does not ask users to have what those who have do not see it."""
    grants = set(offer.grants)
    some = offer.kind == "bundle" and not offer.credit
    had = grants.intersection(offer.requires)
    if had if some else had == grants:
        said = f"names {', '.join(sorted(had))}, which the offer itself grants"
        note(f"{said}: who has that does not see it", "requires")
    if both := grants.intersection(offer.complements):
        said = f"names {', '.join(sorted(both))}, which the offer itself grants"
        note(f"{said}: nothing complements itself", "complements")


def _lint_rung(note: Note, offer: OfferSpec, spec: CatalogueSpec) -> None:
    ladder = spec.ladders.get(offer.ladder)
    if ladder is None:
        return
    rungs = [product for product in offer.grants if product in ladder.rungs]
    if not rungs:
        said = f"grants no rung of [ladders.{offer.ladder}]"
        note(f"{said}: {', '.join(ladder.rungs)}", "ladder")
    elif len(rungs) > 1:
        said = f"grants {len(rungs)} rungs of [ladders.{offer.ladder}]"
        note(f"{said}; an offer is one step", "ladder")
