"""Opt-outs: who wants to see nothing sees nothing."""

from __future__ import annotations

import pytest

from policies.gates.base import Because, Ruling
from policies.gates.opt_out import OfferOptOut, OptOut
from policies.model import History, Preferences
from policies.specs import OfferSpec
from tests.policies.gates.pasts import DAY, TEA, action, ask, gates, past, rule_out

ALL = gates(OptOut)
OFFER = gates(OfferOptOut, offer=OfferSpec(categories=("hot", "drinks")))


def out_of(*scopes: str) -> History:
    preferences = Preferences(opt_outs=dict.fromkeys(scopes, DAY))
    return past(preferences=preferences)


def test_who_opts_out_of_all_sees_nothing() -> None:
    assert rule_out(ALL, ask(DAY, out_of("all"))) == Ruling("OPTED_OUT")
    assert rule_out(ALL, ask(DAY, out_of("offer:tea", "category:hot"))) is None
    assert rule_out(ALL, ask(DAY)) is None


@pytest.mark.parametrize("scope", ["offer:tea", "category:hot", "category:drinks"])
def test_who_opts_out_of_an_offer_or_a_category_does_not_see_it(scope: str) -> None:
    assert rule_out(OFFER, ask(DAY, out_of(scope))) == Ruling("OPTED_OUT")


@pytest.mark.parametrize("scope", ["offer:jam", "category:food", "category:tea", "all"])
def test_but_sees_others(scope: str) -> None:
    assert rule_out(OFFER, ask(DAY, out_of(scope))) is None


def test_an_accounts_opt_out_is_one_of_all_its_users() -> None:
    assert rule_out(ALL, ask(DAY, past(), out_of("all"))) == Ruling("OPTED_OUT")
    found = rule_out(OFFER, ask(DAY, past(), out_of("category:hot")))
    assert found == Ruling("OPTED_OUT")


def test_it_holds_even_if_the_clock_went_back() -> None:
    assert rule_out(ALL, ask(0, out_of("all"))) == Ruling("OPTED_OUT")


def test_critical_offers_do_not_go_past_it() -> None:
    assert not OptOut.bypassed
    assert not OfferOptOut.bypassed


def test_an_offer_that_was_opted_out_of_is_unlike_others() -> None:
    # Alike offers are asked for once.
    asked = ask(DAY, out_of("offer:tea"))

    assert "tea" in asked.touched
    assert rule_out(OFFER, asked, action("jam")) is None


def test_they_say_since_when() -> None:
    assert ALL[0].because(TEA, ask(DAY, out_of("all"))) == Because(
        "opted out of all at 1970-01-02 00:00:00 UTC", "no opt-out"
    )
    assert OFFER[0].because(TEA, ask(DAY, out_of("category:hot"))) == Because(
        "opted out of category:hot at 1970-01-02 00:00:00 UTC", "no opt-out"
    )
