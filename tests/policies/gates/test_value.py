"""Who has not found what the product is good for is sold nothing."""

from __future__ import annotations

from policies.gates.base import Because, Ruling
from policies.gates.value import ValueDiscovered
from policies.model import Context, History, State
from policies.specs import CatalogueSpec, OfferSpec
from tests.policies.gates import kit

NETFLIX = CatalogueSpec(value_discovered="features.tenure_days >= 60.0")
STANDARD = kit.gate(ValueDiscovered, OfferSpec(price=1_549), NETFLIX)
THREE_WEEKS = Context(features={"tenure_days": 21.0})
FIVE_MONTHS = Context(features={"tenure_days": 150.0})
DISCOVERED = History(state=State(value_discovered=True))


def test_without_a_rule_everybody_has_found_the_value() -> None:
    assert not kit.gates(ValueDiscovered, OfferSpec(price=1_549))


def test_what_costs_nothing_is_for_newcomers_too() -> None:
    assert not kit.gates(ValueDiscovered, OfferSpec(price=0), NETFLIX)


def test_netflix_sells_nothing_in_the_first_three_weeks() -> None:
    new, settled = kit.moment(THREE_WEEKS), kit.moment(FIVE_MONTHS)

    assert STANDARD.reject(kit.ACTION, new) == Ruling("VALUE_NOT_DISCOVERED")
    assert STANDARD.reject(kit.ACTION, settled) is None


def test_slack_waits_until_a_team_writes_messages() -> None:
    rule = "usage.messages.value >= 2000.0"
    paid = kit.gate(
        ValueDiscovered, OfferSpec(price=725), CatalogueSpec(value_discovered=rule)
    )

    few = kit.moment(kit.using("messages", 800.0, 10_000.0))
    many = kit.moment(kit.using("messages", 10_050.0, 10_000.0))

    assert kit.reason(paid, few) == "VALUE_NOT_DISCOVERED"
    assert kit.reason(paid, many) == ""
    assert paid.because(kit.ACTION, few) == Because("usage.messages.value = 800", rule)


def test_the_rule_of_an_offer_replaces_that_of_the_catalogue() -> None:
    free = OfferSpec(value_discovered="features.device == 'tv'")
    gate = kit.gate(ValueDiscovered, free, NETFLIX)

    on_tv = kit.moment(Context(features={"device": "tv", "tenure_days": 1.0}))
    on_phone = kit.moment(Context(features={"device": "phone", "tenure_days": 999.0}))

    assert kit.reason(gate, on_tv) == ""
    assert kit.reason(gate, on_phone) == "VALUE_NOT_DISCOVERED"


def test_what_the_product_says_of_user_or_account_goes_before_rules() -> None:
    assert kit.reason(STANDARD, kit.moment(THREE_WEEKS, history=DISCOVERED)) == ""
    assert kit.reason(STANDARD, kit.moment(THREE_WEEKS, account=DISCOVERED)) == ""


def test_that_the_product_has_not_said_so_settles_nothing() -> None:
    nothing_said = History(state=State(value_discovered=False))

    assert kit.reason(STANDARD, kit.moment(FIVE_MONTHS, history=nothing_said)) == ""
