"""Placements have room for some categories and so many offers, each of them once."""

from __future__ import annotations

from policies.gates.base import Because, Ruling
from policies.gates.room import Chosen, Room, Slots
from policies.specs import OfferSpec, PlacementSpec
from tests.policies.gates import kit

ONCE = kit.gate(Chosen, OfferSpec())
COMPARE = kit.gate(Slots, OfferSpec(), placement=PlacementSpec(slots=3))
SUITE, PHOTO, SINGLE = ("suite", "home"), ("photo_bundle", "home"), ("single", "home")


def test_a_placement_without_categories_is_for_all() -> None:
    assert not kit.gates(Room, OfferSpec(categories=("video",)))


def test_a_placement_is_for_offers_of_at_least_one_of_its_categories() -> None:
    photos = PlacementSpec(categories=("photo", "print"))
    both = OfferSpec(categories=("video", "photo"))

    assert not kit.gates(Room, both, placement=photos)


def test_an_offer_of_other_categories_is_not_for_the_placement() -> None:
    photos = PlacementSpec(categories=("photo", "print"))
    gate = kit.gate(Room, OfferSpec(categories=("video",)), placement=photos)

    assert gate.reject(kit.ACTION, kit.moment()) == Ruling("NOT_FOR_PLACEMENT")
    assert gate.because(kit.ACTION, kit.moment()) == Because(
        "the offer belongs to video", "one of photo, print in home"
    )


def test_an_offer_of_no_category_is_not_for_a_placement_with_some() -> None:
    gate = kit.gate(Room, OfferSpec(), placement=PlacementSpec(categories=("photo",)))

    found = gate.because(kit.ACTION, kit.moment()).found
    assert found == "the offer belongs to no category"


def test_an_offer_is_chosen_once_in_a_call_wherever_it_is() -> None:
    here = kit.moment(earlier=[SUITE, ("offer", "home")])
    elsewhere = kit.moment(earlier=[("offer", "banner")])

    for situation in (here, elsewhere):
        assert ONCE.reject(kit.ACTION, situation) == Ruling("ALREADY_CHOSEN")
    assert ONCE.because(kit.ACTION, elsewhere) == Because(
        "chosen for banner in the same call", "not chosen yet"
    )


def test_other_offers_of_the_call_do_not_matter_to_an_offer() -> None:
    assert ONCE.reject(kit.ACTION, kit.moment()) is None
    assert ONCE.reject(kit.ACTION, kit.moment(earlier=[SUITE, PHOTO])) is None


def test_an_offer_that_the_call_has_chosen_is_asked_for_its_past() -> None:
    assert "suite" in kit.moment(earlier=[SUITE]).touched


def test_adobe_compares_as_many_plans_as_there_are_slots() -> None:
    two, three = [SUITE, PHOTO], [SUITE, PHOTO, SINGLE]

    assert COMPARE.reject(kit.ACTION, kit.moment(earlier=two)) is None
    full = kit.moment(earlier=three)
    assert COMPARE.reject(kit.ACTION, full) == Ruling("PLACEMENT_FULL")
    assert COMPARE.because(kit.ACTION, full) == Because(
        "3 chosen for home in the same call", "fewer than 3"
    )


def test_what_other_placements_show_takes_no_slot_here() -> None:
    elsewhere = [("a", "banner"), ("b", "till"), ("c", "home"), ("d", "door")]

    assert COMPARE.reject(kit.ACTION, kit.moment(earlier=elsewhere)) is None


def test_a_placement_has_one_slot_unless_it_says_otherwise() -> None:
    one = kit.gate(Slots, OfferSpec())

    assert kit.reason(one, kit.moment()) == ""
    assert kit.reason(one, kit.moment(earlier=[SUITE])) == "PLACEMENT_FULL"
