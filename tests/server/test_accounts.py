"""Who shares an account shares its caps and some wishes; who may buy buys."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from opportune.v1 import Context, SetUserStateRequest
from tests.server import kit
from tests.server.kit import Shop

CATALOGUE = """
currency = "EUR"
valid_for = "10m"
buyers = ["owner", "admin"]

[categories.toys]
household = true
cool_down = "30d"
[categories.books]

[placements.home]

[offers.train]
placements = ["home"]
categories = ["toys"]

[offers.atlas]
placements = ["home"]
categories = ["books"]
caps = [{ limit = 2, window = "7d", per = "account" }]

[offers.poem]
placements = ["home"]
categories = ["books"]
caps = [{ limit = 2, window = "7d" }]

[offers.seats]
placements = ["home"]
price = 900

[offers.gift]
placements = ["home"]
price = 100
buyers_only = false
"""


@pytest.fixture
def catalogue_text() -> str:
    return CATALOGUE


async def at_acme(shop: Shop, user_id: str, offer_id: str, **fields: Any) -> str:
    """Ask for one offer; return it, or why not."""
    decision = await shop.ask(
        user_id, account_id="acme", offer_ids=[offer_id], **fields
    )
    return decision.offer_id or kit.reason_of(decision)


async def test_a_cap_of_an_account_counts_what_all_of_its_users_see(
    eager: Shop, other: Shop, clock: kit.Clock
) -> None:
    # Given an offer that an account may see twice a week
    for user_id in ("ada", "bob"):
        decision = await eager.ask(user_id, account_id="acme", offer_ids=["atlas"])
        await eager.report(decision, kit.SHOWN)
        clock.advance(kit.HOUR_MS)

    # When it was shown to two of its users, then no other sees it, until the first of
    # the two is a week ago
    silence = await other.ask("cat", account_id="acme", offer_ids=["atlas"])
    assert kit.reason_of(silence) == "FREQUENCY_CAP"
    assert kit.ms(silence.next_eligible_time) == kit.NOON_MS + 7 * kit.DAY_MS
    clock.now_ms = kit.NOON_MS + 7 * kit.DAY_MS
    assert await at_acme(other, "cat", "atlas") == "atlas"


async def test_many_users_of_an_account_at_once_keep_its_cap(
    eager: Shop, other: Shop
) -> None:
    # Given forty users of an account
    # When all of them ask at once, at two servers
    answers = await asyncio.gather(
        *(
            at_acme(shop, f"user-{number}", "atlas")
            for number in range(20)
            for shop in (eager, other)
        )
    )

    # Then two of them see the offer that the account may see twice
    assert sorted(answers) == ["FREQUENCY_CAP"] * 38 + ["atlas"] * 2


async def test_a_cap_of_users_counts_each_for_themselves(eager: Shop) -> None:
    # Given an offer that each user may see twice a week
    # When two users of an account come three times each
    for user_id in ("ada", "bob"):
        answers = [await at_acme(eager, user_id, "poem") for _ in range(3)]

        # Then each sees it twice
        assert answers == ["poem", "poem", "FREQUENCY_CAP"]


async def test_a_user_without_an_account_is_one(eager: Shop) -> None:
    # Given users who stand alone
    for user_id in ("ada", "bob"):
        decisions = [await eager.ask(user_id, offer_ids=["atlas"]) for _ in range(3)]

        # Then what an account may see twice each of them may see twice
        assert [decision.offer_id for decision in decisions] == ["atlas", "atlas", ""]


async def test_what_one_of_a_household_waves_away_stays_away_from_all(
    eager: Shop, other: Shop, clock: kit.Clock
) -> None:
    # Given a category that is a household's matter, and one that is not
    for offer_id in ("train", "poem"):
        decision = await eager.ask("ada", account_id="acme", offer_ids=[offer_id])
        await eager.report(decision, kit.SHOWN, kit.DISMISSED)

    # Then the others do not see the one, and see the other
    assert await at_acme(other, "bob", "train") == "CATEGORY_COOL_DOWN"
    assert await at_acme(other, "bob", "poem") == "poem"
    alone = await other.ask("bob", offer_ids=["train"])
    assert alone.offer_id == "train"
    clock.advance(30 * kit.DAY_MS)
    assert await at_acme(other, "bob", "train") == "train"


@pytest.mark.parametrize("told", [True, False])
async def test_only_who_may_buy_is_offered_what_costs(
    eager: Shop, *, told: bool
) -> None:
    # Given users of several roles, which were told, or come with the request
    for role, answer in (
        ("owner", "seats"),
        ("admin", "seats"),
        ("guest", "NOT_BUYER"),
        ("", "NOT_BUYER"),
    ):
        user_id, context = f"user-{role}", None
        if told:
            await eager.told(
                SetUserStateRequest(user_id=user_id, account_id="acme", role=role)
            )
        else:
            context = Context(role=role)

        # Then what costs something is for those who may buy, unless the offer says
        # otherwise
        assert await at_acme(eager, user_id, "seats", context=context) == answer
        assert await at_acme(eager, user_id, "gift", context=context) == "gift"
        assert await at_acme(eager, user_id, "poem", context=context) == "poem"
