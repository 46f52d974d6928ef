"""Fatigue: who ignores offers is left alone, then asked once."""

from __future__ import annotations

from policies.gates.base import Because, Ruling
from policies.gates.fatigue import Fatigue
from policies.model import Tally, Track
from policies.specs import CatalogueSpec, FatigueSpec
from policies.toml import Duration
from tests.policies.gates.pasts import (
    DAY,
    HOUR,
    TEA,
    ask,
    gates,
    held,
    past,
    rule_out,
    subject,
    track,
)

AFTER_THREE = gates(Fatigue, CatalogueSpec(fatigue=FatigueSpec(ignored=3)))


def test_three_ignored_offers_make_a_pause() -> None:
    shown = track("tea", 0, HOUR, 2 * HOUR)
    over_ms = 14 * DAY + 2 * HOUR

    tired = past(shown, ignored=3)
    not_yet = past(shown, ignored=2)

    assert rule_out(AFTER_THREE, ask(DAY, tired)) == Ruling("FATIGUE", over_ms)
    assert rule_out(AFTER_THREE, ask(DAY, not_yet)) is None


def test_after_the_pause_one_offer_is_tried() -> None:
    over_ms = 14 * DAY
    tired = past(track("tea", 0), ignored=3)
    assert rule_out(AFTER_THREE, ask(over_ms, tired)) is None

    trying = past(track("tea", 0), reserved=[held(over_ms + HOUR)], ignored=3)
    found = rule_out(AFTER_THREE, ask(over_ms + 1, trying))
    assert found == Ruling("FATIGUE", over_ms + HOUR)

    ignored = past(track("tea", 0, over_ms + 5), ignored=4)
    found = rule_out(AFTER_THREE, ask(over_ms + HOUR, ignored))
    assert found == Ruling("FATIGUE", over_ms + 5 + 14 * DAY)


def test_any_interest_ends_it() -> None:
    keen = past(track("tea", 0, HOUR, 2 * HOUR), ignored=0)

    assert rule_out(AFTER_THREE, ask(DAY, keen)) is None


def test_what_was_shown_too_long_ago_to_know_makes_no_pause() -> None:
    assert rule_out(AFTER_THREE, ask(DAY, past(ignored=9))) is None
    by_number = Track(subject("tea"), {"shown": Tally((), past=9, past_ms=0)})
    found = rule_out(AFTER_THREE, ask(DAY, past(by_number, ignored=9)))
    assert found == Ruling("FATIGUE", 14 * DAY)


def test_without_a_number_or_a_pause_there_is_no_gate() -> None:
    endless = FatigueSpec(ignored=3, pause=Duration(0))

    assert not gates(Fatigue, CatalogueSpec())
    assert not gates(Fatigue, CatalogueSpec(fatigue=endless))


def test_it_says_how_many_were_ignored() -> None:
    tired = past(track("tea", 0), ignored=4)

    assert AFTER_THREE[0].because(TEA, ask(1, tired)) == Because(
        "the last 4 offers were ignored", "any interest, or nothing shown for 14d"
    )
