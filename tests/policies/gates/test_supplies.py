"""Inventories and budgets: what is used up is not offered."""

from __future__ import annotations

import pytest

from policies.gates.base import Because, Facts, Gate, Ruling, Situation
from policies.gates.supplies import Budget, Inventory
from policies.model import NO_HISTORY, Action, Conditions, Opportunity
from policies.rules import Expression, Rule
from policies.specs import CatalogueSpec, OfferSpec

DAY = 86_400_000
ACTION = Action(1, "early_bird", "default", "home", ())
LIMITED = OfferSpec(inventory=100)
DISCOUNT = OfferSpec(price=800, list_price=1_000, discount=200, budget="spring")


def gates(offer: OfferSpec) -> list[Gate]:
    facts = Facts(
        CatalogueSpec(),
        lambda source: Rule(source, {}),
        lambda source: Expression(source, {}),
        offer_id="early_bird",
        offer=offer,
    )
    return [*Inventory.of(facts), *Budget.of(facts)]


def situation(*exhausted: str, at_ms: int = 0) -> Situation:
    asked = Opportunity("d", at_ms, "ada", ("home",))
    return Situation(asked, NO_HISTORY, conditions=Conditions(exhausted=exhausted))


def ruling(offer: OfferSpec, *exhausted: str, at_ms: int = 0) -> Ruling | None:
    (gate,) = gates(offer)
    return gate.reject(ACTION, situation(*exhausted, at_ms=at_ms))


def test_an_offer_of_which_none_are_left_is_not_shown() -> None:
    assert ruling(LIMITED) is None
    assert ruling(LIMITED, "budget:early_bird", "inventory:other") is None
    assert ruling(LIMITED, "inventory:early_bird") == Ruling("INVENTORY_EXHAUSTED")


def test_a_discount_that_nothing_is_left_for_is_not_shown() -> None:
    assert ruling(DISCOUNT) is None
    assert ruling(DISCOUNT, "budget:summer", "inventory:spring") is None
    assert ruling(DISCOUNT, "budget:spring") == Ruling("BUDGET_EXHAUSTED")


def test_a_budget_that_is_nearly_spent_pays_the_smaller_discounts() -> None:
    short, enough = "budget:spring>199", "budget:spring>200"

    assert ruling(DISCOUNT, short) == Ruling("BUDGET_EXHAUSTED")
    assert ruling(DISCOUNT, enough) is None
    assert ruling(DISCOUNT, "budget:spring:1970-01-01>0") == Ruling(
        "BUDGET_EXHAUSTED", DAY
    )


def test_a_budget_that_is_spent_for_today_is_back_at_midnight() -> None:
    today = "budget:spring:1970-01-02"

    assert ruling(DISCOUNT, today, at_ms=DAY) == Ruling("BUDGET_EXHAUSTED", 2 * DAY)
    assert ruling(DISCOUNT, today, at_ms=2 * DAY - 1) == Ruling(
        "BUDGET_EXHAUSTED", 2 * DAY
    )
    assert ruling(DISCOUNT, today, at_ms=2 * DAY) is None
    assert ruling(DISCOUNT, "budget:spring", today, at_ms=DAY) == Ruling(
        "BUDGET_EXHAUSTED"
    )


@pytest.mark.parametrize(
    "offer",
    [
        OfferSpec(),
        OfferSpec(price=1_000, budget="spring"),
        OfferSpec(price=800, discount=200),
    ],
    ids=["nothing", "no discount", "no budget"],
)
def test_what_takes_from_no_supply_has_no_gate(offer: OfferSpec) -> None:
    assert gates(offer) == []


def test_what_is_used_up_is_told_by_name() -> None:
    (inventory,), (budget,) = gates(LIMITED), gates(DISCOUNT)

    assert inventory.because(ACTION, situation("inventory:early_bird")) == Because(
        "early_bird: none left", "one that nobody has reserved"
    )
    assert budget.because(ACTION, situation("budget:spring")) == Because(
        "spring: not enough left", "200 for the discount"
    )
    assert budget.because(ACTION, situation("budget:spring:1970-01-01")) == Because(
        "spring: not enough left for today", "200 for the discount"
    )
