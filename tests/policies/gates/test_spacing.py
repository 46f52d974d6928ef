"""Spacing: what interrupts is far apart, and not often in one visit."""

from __future__ import annotations

from policies.gates.base import Because, Ruling
from policies.gates.spacing import SessionLimit, Spacing
from policies.model import Session
from policies.specs import CatalogueSpec, PlacementSpec, SpacingSpec
from policies.toml import Duration
from tests.policies.gates.pasts import (
    MINUTE,
    TEA,
    ask,
    gates,
    held,
    past,
    rule_out,
    subject,
    track,
)

MODAL = PlacementSpec(kind="modal")
PLACEMENTS = {
    "door": MODAL,
    "bar": PlacementSpec(kind="banner", interruptiveness=0.5),
    "list": PlacementSpec(kind="inline", interruptiveness=2.0),
}
CATALOGUE = CatalogueSpec(placements=PLACEMENTS)
HALF_HOUR = gates(Spacing, CATALOGUE, placement=MODAL, placement_id="door")


def visits(limit: int) -> list[SessionLimit]:
    spec = CatalogueSpec(placements=PLACEMENTS, spacing=SpacingSpec(per_session=limit))
    return gates(SessionLimit, spec, placement=MODAL, placement_id="door")


def test_two_interruptions_are_half_an_hour_apart() -> None:
    history = past(track("tea//bar", 0))

    assert rule_out(HALF_HOUR, ask(30 * MINUTE - 1, history)) == Ruling(
        "SPACING", 30 * MINUTE
    )
    assert rule_out(HALF_HOUR, ask(30 * MINUTE, history)) is None


def test_what_interrupts_nothing_may_be_shown_in_between() -> None:
    inline = PLACEMENTS["list"]

    assert not gates(Spacing, CATALOGUE, placement=inline, placement_id="list")


def test_what_was_shown_without_interrupting_does_not_count() -> None:
    history = past(track(subject("tea//list", weight=2.0), 0))

    assert rule_out(HALF_HOUR, ask(1, history)) is None


def test_a_placement_that_is_no_more_interrupted_if_it_was_as_large_as_a_banner() -> (
    None
):
    large = past(track(subject("tea//gone", weight=1.0), 0))
    small = past(track(subject("tea//gone", weight=0.9), 0))

    assert rule_out(HALF_HOUR, ask(1, large)) is not None
    assert rule_out(HALF_HOUR, ask(1, small)) is None


def test_what_may_still_interrupt_counts_until_it_may_not() -> None:
    history = past(reserved=[held(10 * MINUTE, "tea//door")])

    assert rule_out(HALF_HOUR, ask(1, history)) == Ruling("SPACING", 10 * MINUTE)
    assert rule_out(HALF_HOUR, ask(10 * MINUTE, history)) is None


def test_what_was_only_decided_and_never_shown_keeps_nothing_away() -> None:
    history = past(track("tea//door", 0, kind="decided"))

    assert rule_out(HALF_HOUR, ask(1, history)) is None


def test_no_spacing_is_no_gate() -> None:
    none = CatalogueSpec(spacing=SpacingSpec(interruptive=Duration(0)))

    assert not gates(Spacing, none, placement=MODAL)
    assert not gates(SessionLimit, none, placement=MODAL)


def test_a_visit_sees_so_many_interruptions() -> None:
    history = past(
        track("tea//door", 50, 150),
        track("jam//bar", 160),
        track("oats//list", 170),
        sessions=(Session("v", 100),),
    )
    asked = ask(200, history, session="v")

    assert rule_out(visits(2), asked) == Ruling("SESSION_LIMIT", 100 + 86_400_000)
    assert rule_out(visits(3), asked) is None
    assert rule_out(visits(2), ask(200, history, session="next")) is None


def test_what_a_visit_has_reserved_counts_until_it_may_not_be_shown() -> None:
    history = past(
        track("tea//door", 150),
        reserved=[held(300, "jam//bar")],
        sessions=(Session("v", 100),),
    )

    found = rule_out(visits(2), ask(200, history, session="v"))

    assert found == Ruling("SESSION_LIMIT", 300)


def test_they_say_what_has_interrupted() -> None:
    history = past(track("tea//door", 150), sessions=(Session("v", 100),))
    asked = ask(200, history, session="v")

    assert HALF_HOUR[0].because(TEA, asked) == Because(
        "offers that interrupt shown 1 time in the last 30m", "fewer than 1"
    )
    assert visits(1)[0].because(TEA, asked) == Because(
        "offers that interrupt shown 1 time in this visit", "fewer than 1"
    )
