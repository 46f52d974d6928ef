"""Users go up rung by rung, in steps that are not too big."""

from __future__ import annotations

from typing import Any

import pytest

from policies.gates.base import Because, Ruling, Situation
from policies.gates.ladder import AnchorStep, LadderStep
from policies.model import Context
from policies.specs import (
    CatalogueSpec,
    LadderSpec,
    OfferSpec,
    PlacementSpec,
    ProductSpec,
)
from tests.policies.gates import kit
from tests.policies.gates.kit import DAY, HOUR, NOW

JUMP = Ruling("LADDER_JUMP")
OWNED = Ruling("ALREADY_OWNED")
NETFLIX = CatalogueSpec(
    products={
        "basic": ProductSpec(price=900),
        "standard": ProductSpec(price=1_500),
        "premium": ProductSpec(price=2_300),
    },
    ladders={"plans": LadderSpec(rungs=("basic", "standard", "premium"))},
)
ZAPIER = CatalogueSpec(
    products={
        "free": ProductSpec(price=0, limit=100.0),
        "starter": ProductSpec(price=2_000, limit=750.0),
        "pro": ProductSpec(price=4_900, limit=2_000.0),
        "team": ProductSpec(price=9_800, limit=50_000.0),
        "company": ProductSpec(price=60_000),
    },
    ladders={
        "tasks": LadderSpec(
            rungs=("free", "starter", "pro", "team", "company"), usage="tasks"
        )
    },
)


def plan(*grants: str, **offer: Any) -> OfferSpec:
    return OfferSpec(kind="upsell", ladder="plans", grants=grants, **offer)


def tier(product: str) -> OfferSpec:
    return OfferSpec(kind="upsell", ladder="tasks", grants=(product,))


BASIC, STANDARD, PREMIUM = (
    kit.gate(LadderStep, plan(rung), NETFLIX)
    for rung in ("basic", "standard", "premium")
)
STARTER, PRO, TEAM, COMPANY = (
    kit.gate(LadderStep, tier(rung), ZAPIER)
    for rung in ("starter", "pro", "team", "company")
)


def has(*owned: str, context: Context | None = None, **state: Any) -> Situation:
    return kit.moment(context or Context(), history=kit.having(*owned, **state))


def test_an_offer_that_is_on_no_ladder_makes_no_step() -> None:
    off = OfferSpec(grants=("premium",))
    unknown = OfferSpec(ladder="missing", grants=("premium",))
    beside = plan("tv")

    for offer in (off, unknown, beside):
        assert not kit.gates(LadderStep, offer, NETFLIX)


def test_netflix_goes_from_basic_to_standard_to_premium() -> None:
    assert STANDARD.reject(kit.ACTION, has("basic")) is None
    assert PREMIUM.reject(kit.ACTION, has("basic", "standard")) is None
    assert PREMIUM.reject(kit.ACTION, has("standard")) is None


def test_netflix_does_not_go_from_basic_to_premium() -> None:
    assert PREMIUM.reject(kit.ACTION, has("basic")) == JUMP
    assert PREMIUM.because(kit.ACTION, has("basic")) == Because(
        "the user has basic, and premium is 2 rungs up", "the next rung, standard"
    )


def test_who_has_no_rung_starts_at_the_first() -> None:
    assert BASIC.reject(kit.ACTION, has("tv")) is None
    for gate in (STANDARD, PREMIUM):
        assert gate.reject(kit.ACTION, has("tv")) == JUMP
    assert STANDARD.because(kit.ACTION, has()) == Because(
        "the user has no rung, and standard is 2 rungs up", "the next rung, basic"
    )


def test_what_the_account_has_is_where_its_users_stand() -> None:
    account = kit.moment(account=kit.having("standard"))

    assert PREMIUM.reject(kit.ACTION, account) is None
    assert STANDARD.reject(kit.ACTION, account) == OWNED


def test_nobody_is_offered_the_rung_they_have_or_one_below() -> None:
    for gate in (BASIC, STANDARD):
        assert gate.reject(kit.ACTION, has("standard")) == OWNED
    assert BASIC.because(kit.ACTION, has("standard")) == Because(
        "the user has standard", "nothing as high as basic"
    )


def test_nobody_is_offered_a_rung_not_above_what_is_in_the_cart() -> None:
    cart = has("basic", context=Context(cart=("premium",)))

    assert STANDARD.reject(kit.ACTION, cart) == OWNED
    assert STANDARD.because(kit.ACTION, cart) == Because(
        "premium is in the cart", "nothing as high as standard"
    )
    first = kit.moment(Context(cart=("basic", "basic")))
    assert BASIC.reject(kit.ACTION, first) == OWNED


def test_a_cart_is_no_rung_to_stand_on() -> None:
    buying = has("basic", context=Context(cart=("standard",)))

    assert PREMIUM.reject(kit.ACTION, buying) == JUMP


def test_nobody_is_offered_a_rung_not_above_what_is_about_to_be_theirs() -> None:
    pending = {"standard": NOW + HOUR, "premium": NOW + DAY, "tv": NOW + 9 * DAY}
    about = has("basic", pending=pending)

    ruling = STANDARD.reject(kit.ACTION, about)
    assert ruling == Ruling("PENDING_PURCHASE", NOW + DAY)
    assert STANDARD.because(kit.ACTION, about) == Because(
        "standard pending until 1972-09-27 01:00:00 UTC,"
        " premium pending until 1972-09-28 00:00:00 UTC",
        "nothing as high as standard",
    )
    assert PREMIUM.reject(kit.ACTION, about) == JUMP


def test_what_was_pending_and_did_not_come_holds_nothing_back() -> None:
    ran_out = has("basic", pending={"premium": NOW})
    lower = has("standard", pending={"basic": NOW + DAY})

    assert STANDARD.reject(kit.ACTION, ran_out) is None
    assert PREMIUM.reject(kit.ACTION, lower) is None


def test_an_offer_of_several_rungs_gives_the_highest() -> None:
    both = kit.gate(LadderStep, plan("premium", "tv", "basic"), NETFLIX)

    assert both == PREMIUM


def test_the_first_paid_rung_may_cost_anything() -> None:
    assert STARTER.reject(kit.ACTION, has("free")) is None


def test_a_step_of_exactly_the_most_is_not_too_big() -> None:
    assert TEAM.reject(kit.ACTION, has("pro")) is None


def test_a_step_that_costs_too_many_times_as_much_is_too_big() -> None:
    few = has("starter", context=kit.using("tasks", 700.0, 750.0))

    for situation in (has("starter"), few):
        assert PRO.reject(kit.ACTION, situation) == JUMP
    assert PRO.because(kit.ACTION, few) == Because(
        "the user has starter, and pro costs 2.45 times as much",
        "at most 2 times as much, or more tasks than 2,000",
    )


@pytest.mark.parametrize(("tasks", "code"), [(2_000.0, "LADDER_JUMP"), (2_001.0, "")])
def test_a_step_of_any_size_is_open_to_who_uses_more_than_the_next_rung_allows(
    tasks: float, code: str
) -> None:
    situation = has("starter", context=kit.using("tasks", tasks, 750.0))

    assert kit.reason(PRO, situation) == code


@pytest.mark.parametrize(("tasks", "code"), [(2_000.0, "LADDER_JUMP"), (2_001.0, "")])
def test_a_rung_may_be_skipped_by_who_uses_more_than_it_allows(
    tasks: float, code: str
) -> None:
    situation = has("starter", context=kit.using("tasks", tasks, 750.0))

    assert kit.reason(TEAM, situation) == code


def test_every_rung_that_is_skipped_must_be_too_small() -> None:
    heavy = has("starter", context=kit.using("tasks", 2_001.0, 750.0))
    heavier = has("starter", context=kit.using("tasks", 50_001.0, 750.0))

    assert COMPANY.reject(kit.ACTION, heavy) == JUMP
    assert COMPANY.reject(kit.ACTION, heavier) is None
    assert COMPANY.because(kit.ACTION, heavy) == Because(
        "the user has starter, and company is 3 rungs up",
        "the next rung, pro, or more tasks than 50,000",
    )


def test_a_rung_that_allows_anything_is_too_small_for_nobody() -> None:
    heavy = has("team", context=kit.using("tasks", 1e9, 50_000.0))

    assert COMPANY.reject(kit.ACTION, heavy) == JUMP
    needed = COMPANY.because(kit.ACTION, heavy).needed
    assert needed == "at most 2 times as much"


def test_products_that_the_catalogue_does_not_price_make_no_step_too_big() -> None:
    bare = CatalogueSpec(ladders=NETFLIX.ladders)
    gate = kit.gate(LadderStep, plan("standard"), bare)

    assert gate.reject(kit.ACTION, has("basic")) is None


def test_a_ladder_says_how_big_a_step_may_be() -> None:
    ladder = LadderSpec(rungs=("basic", "standard", "premium"), max_step=1.5)
    steep = CatalogueSpec(products=NETFLIX.products, ladders={"plans": ladder})
    gate = kit.gate(LadderStep, plan("standard"), steep)

    assert gate.reject(kit.ACTION, has("basic")) == JUMP


def test_an_anchor_is_free_of_the_ladder_in_placements_for_comparison_alone() -> None:
    anchor = plan("premium", anchor=True)
    compare = PlacementSpec(comparison=True)

    assert not kit.gates(LadderStep, anchor, NETFLIX)
    assert not kit.gates(AnchorStep, anchor, NETFLIX, compare)
    gate = kit.gate(AnchorStep, anchor, NETFLIX)
    assert gate.reject(kit.ACTION, has("basic")) == JUMP
    assert gate.reject(kit.ACTION, has("standard")) is None


def test_what_is_no_anchor_obeys_the_ladder_in_placements_for_comparison_too() -> None:
    compare = PlacementSpec(comparison=True)

    assert not kit.gates(AnchorStep, plan("premium"), NETFLIX, compare)
    assert kit.gate(LadderStep, plan("premium"), NETFLIX, compare) == PREMIUM


def test_who_is_about_to_have_the_first_rung_is_not_offered_it() -> None:
    pending = kit.moment(history=kit.having(pending={"basic": NOW + DAY}))

    ruling = BASIC.reject(kit.ACTION, pending)

    assert ruling == Ruling("PENDING_PURCHASE", NOW + DAY)
