"""What users have, or are about to have, is not offered to them."""

from __future__ import annotations

from typing import Any

import pytest

from opportune.v1 import (
    Cancellation,
    Context,
    Purchase,
    RecordEventRequest,
    SetUserStateRequest,
)
from tests.server import kit
from tests.server.kit import Shop

CATALOGUE = """
valid_for = "1d"
provisioned_within = "2d"

[products.pro]
[products.seat]
shared = false
[products.disk]

[placements.home]

[offers.pro]
placements = ["home"]
grants = ["pro"]

[offers.seat]
placements = ["home"]
grants = ["seat"]

[offers.both]
placements = ["home"]
kind = "bundle"
grants = ["pro", "disk"]

[offers.support]
placements = ["home"]
requires = ["pro"]

[offers.cable]
placements = ["home"]
complements = ["disk"]
"""


@pytest.fixture
def catalogue_text() -> str:
    return CATALOGUE


async def bought(shop: Shop, *products: str, **fields: Any) -> None:
    event = Purchase(product_ids=products)
    given: dict[str, Any] = {"user_id": "ada", "purchased": event}
    await shop.told(RecordEventRequest(**(given | fields)))


async def cancelled(shop: Shop, *products: str, **fields: Any) -> None:
    event = Cancellation(product_ids=products)
    given: dict[str, Any] = {"user_id": "ada", "cancelled": event}
    await shop.told(RecordEventRequest(**(given | fields)))


async def reasons(shop: Shop, user_id: str = "ada", **fields: Any) -> dict[str, str]:
    return kit.reasons(await shop.ask(user_id, **fields))


NOTHING_OWNED = {"support": "REQUIREMENT_MISSING", "cable": "NOT_COMPLEMENTARY"}
PRO_OWNED = {
    "pro": "ALREADY_OWNED",
    "both": "ALREADY_OWNED",
    "cable": "NOT_COMPLEMENTARY",
}


async def test_what_an_account_has_none_of_its_users_is_offered(
    eager: Shop, other: Shop
) -> None:
    # Given an account that has bought something
    await bought(eager, "pro", user_id="", account_id="acme")

    # Then no user of it is offered that, not even in a bundle, but what builds on it
    for user_id in ("ada", "bob"):
        assert await reasons(other, user_id, account_id="acme") == PRO_OWNED

    # And users of other accounts, or of none, are
    assert await reasons(other, account_id="emca") == NOTHING_OWNED
    assert await reasons(other) == NOTHING_OWNED

    # And when it is given up, all of them are again
    await cancelled(other, "pro", user_id="", account_id="acme")
    for user_id in ("ada", "bob"):
        assert await reasons(eager, user_id, account_id="acme") == NOTHING_OWNED


async def test_what_one_user_has_the_others_of_the_account_may_have_too(
    eager: Shop,
) -> None:
    # Given a user of an account who has something of their own
    await bought(eager, "pro", account_id="acme")

    # Then only this user is not offered it
    assert await reasons(eager, "ada", account_id="acme") == PRO_OWNED
    assert await reasons(eager, "bob", account_id="acme") == NOTHING_OWNED


@pytest.mark.parametrize("whose", ["user", "account"])
async def test_a_purchase_that_is_recorded_late_voids_what_was_decided(
    eager: Shop, other: Shop, clock: kit.Clock, whose: str
) -> None:
    # Given decisions for an offer, of which one was shown
    fields: dict[str, Any] = {"account_id": "acme"}
    open_one = await eager.ask("ada", offer_ids=["pro"], **fields)
    shown = await eager.ask("ada", offer_ids=["pro"], **fields)
    await eager.report(shown, kit.SHOWN)
    assert await eager.standing(open_one) == ("ACTIVE", "")
    clock.advance(kit.HOUR_MS)

    # When a purchase of an hour before them is recorded now
    bought_ms = kit.NOON_MS - kit.HOUR_MS
    user_id = "ada" if whose == "user" else ""
    late = kit.timestamp(bought_ms)
    await bought(other, "pro", user_id=user_id, occur_time=late, **fields)

    # Then neither stands any more, whatever the client does about them
    for decision in (open_one, shown):
        assert await eager.standing(decision) == ("WITHDRAWN", "ALREADY_OWNED")
    (confirmed,) = await eager.report(open_one, kit.SHOWN)
    (accepted,) = await eager.report(shown, kit.ACCEPTED)
    assert kit.state_of(confirmed) == "WITHDRAWN"
    assert kit.state_of(accepted) == "WITHDRAWN"
    user = await eager.user(user_id, "acme")
    assert kit.ms(user.state.owned_products["pro"]) == bought_ms


async def test_what_was_accepted_is_not_offered_while_it_is_provisioned(
    eager: Shop, other: Shop, clock: kit.Clock
) -> None:
    # Given an offer that a user of an account has accepted
    decision = await eager.ask("ada", offer_ids=["pro"], account_id="acme")
    (result,) = await eager.report(decision, kit.ACCEPTED)
    assert kit.state_of(result) == "ACTIVE"
    until_ms = clock() + 2 * kit.DAY_MS

    # Then nobody of the account is offered it until it should be there
    clock.now_ms = until_ms - 1
    for user_id in ("ada", "bob"):
        asked = await other.ask(user_id, offer_ids=["pro"], account_id="acme")
        assert kit.reasons(asked) == {"pro": "PENDING_PURCHASE"}
        assert kit.ms(asked.next_eligible_time) == until_ms

    # And if it never comes, it may be offered again
    clock.now_ms = until_ms
    for user_id in ("ada", "bob"):
        assert "pro" not in await reasons(other, user_id, account_id="acme")


async def test_what_users_have_for_themselves_is_pending_for_who_took_it(
    eager: Shop,
) -> None:
    # Given a product that users of an account do not share
    decision = await eager.ask("ada", offer_ids=["seat"], account_id="acme")

    # When one of them accepts it
    await eager.report(decision, kit.ACCEPTED)

    # Then it is pending for this one alone
    mine = await reasons(eager, "ada", account_id="acme")
    theirs = await reasons(eager, "bob", account_id="acme")
    assert mine["seat"] == "PENDING_PURCHASE"
    assert "seat" not in theirs


@pytest.mark.parametrize("user_id", ["ada", ""])
async def test_what_is_pending_becomes_owned_and_goes(
    eager: Shop, clock: kit.Clock, user_id: str
) -> None:
    # Given an offer that was accepted by a user of an account
    decision = await eager.ask("ada", offer_ids=["pro"], account_id="acme")
    await eager.report(decision, kit.ACCEPTED)

    # When the purchase is recorded, of the user or of the account
    await bought(eager, "pro", user_id=user_id, account_id="acme")
    owned = await reasons(eager, "ada", account_id="acme")
    assert owned["pro"] == "ALREADY_OWNED"

    # And given back when the accept would have been forgotten
    clock.advance(2 * kit.DAY_MS)
    await cancelled(eager, "pro", user_id=user_id, account_id="acme")

    # Then it may be offered
    assert await reasons(eager, "ada", account_id="acme") == NOTHING_OWNED


async def test_a_refund_lets_it_be_offered_again(eager: Shop) -> None:
    # Given an offer that was accepted
    decision = await eager.ask("ada", offer_ids=["pro"], account_id="acme")
    await eager.report(decision, kit.ACCEPTED)

    # When it was paid back before it was there
    await eager.report(decision, kit.REFUNDED)

    # Then the users of the account may be offered it again
    for user_id in ("ada", "bob"):
        assert await reasons(eager, user_id, account_id="acme") == NOTHING_OWNED


async def test_what_is_in_the_cart_is_as_good_as_owned(eager: Shop) -> None:
    # Given a user with something in the cart
    cart = Context(cart_product_ids=["pro", "gravel"])

    # When they ask, then that is not offered, for as long as it lies there
    assert await reasons(eager, context=cart) == {
        "pro": "ALREADY_OWNED",
        "both": "ALREADY_OWNED",
        "support": "REQUIREMENT_MISSING",
        "cable": "NOT_COMPLEMENTARY",
    }
    assert await reasons(eager) == NOTHING_OWNED


async def test_what_the_product_knows_to_come_is_pending_until_then(
    eager: Shop, clock: kit.Clock
) -> None:
    # Given a purchase that the product knows to be under way for an hour
    until_ms = clock() + kit.HOUR_MS
    await eager.told(
        SetUserStateRequest(
            user_id="ada",
            pending_product_ids=["disk"],
            pending_until=kit.timestamp(until_ms),
        )
    )

    # When the user asks meanwhile, then what has it in it waits, and what goes with
    # it may come already
    asked = await eager.ask()
    assert kit.reasons(asked) == {
        "both": "PENDING_PURCHASE",
        "support": "REQUIREMENT_MISSING",
    }
    explained = await eager.explain(asked)
    (both,) = [r for r in explained.rejections if r.offer_id == "both"]
    assert kit.ms(both.next_eligible_time) == until_ms
    assert both.found == "disk pending until 2026-11-21 13:00:00 UTC"
    clock.now_ms = until_ms
    assert await reasons(eager) == NOTHING_OWNED
