"""Stops: what was switched off is not shown."""

from __future__ import annotations

import pytest

from policies.gates.base import Because, Ruling
from policies.gates.stops import OfferStop, PlacementStop
from policies.model import NO_HISTORY, Conditions
from policies.specs import OfferSpec
from tests.policies.gates.pasts import TEA, action, ask, gates, rule_out

HOME = gates(PlacementStop)
OFFER = gates(OfferStop, offer=OfferSpec(categories=("hot", "drinks")))


def stopped(*names: str) -> Conditions:
    return Conditions(stopped=tuple(sorted(names)))


@pytest.mark.parametrize("name", ["all", "placement:home"])
def test_a_placement_obeys_stops_of_all_and_its_own(name: str) -> None:
    asked = ask(0, conditions=stopped(name, "offer:jam"))

    assert rule_out(HOME, asked) == Ruling("STOPPED")


@pytest.mark.parametrize("name", ["offer:tea", "category:hot", "category:drinks"])
def test_an_offer_obeys_its_own_stops_and_its_categories(name: str) -> None:
    asked = ask(0, conditions=stopped(name, "offer:jam"))

    assert rule_out(OFFER, asked) == Ruling("STOPPED")


@pytest.mark.parametrize(
    "name",
    ["offer:jam", "category:food", "placement:till", "offer:home", "category:tea"],
)
def test_other_stops_stop_others(name: str) -> None:
    asked = ask(0, conditions=stopped(name))

    assert rule_out(HOME + OFFER, asked) is None  # type: ignore[operator]


def test_nothing_is_stopped_until_something_is() -> None:
    assert rule_out(HOME, ask(0)) is None
    assert rule_out(OFFER, ask(0)) is None


def test_critical_offers_do_not_go_past_it() -> None:
    assert not PlacementStop.bypassed
    assert not OfferStop.bypassed


def test_an_offer_that_was_stopped_is_unlike_others() -> None:
    asked = ask(0, NO_HISTORY, conditions=stopped("offer:tea"))

    assert asked.touched == {"tea"}
    assert rule_out(OFFER, asked, action("jam")) is None


def test_they_say_what_was_stopped() -> None:
    everything = ask(0, conditions=stopped("all", "placement:home"))
    hot = ask(0, conditions=stopped("offer:tea", "category:hot", "category:food"))

    assert HOME[0].because(TEA, everything) == Because(
        "stopped: all, placement:home", "no stop"
    )
    assert OFFER[0].because(TEA, hot) == Because(
        "stopped: offer:tea, category:hot", "no stop"
    )
