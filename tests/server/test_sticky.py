"""A placement keeps to what it shows, for a while, and for as long as that may be."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from google.protobuf.duration_pb2 import Duration

from opportune.v1 import (
    BeginCriticalRequest,
    Context,
    Decision,
    EndCriticalRequest,
    GetOfferRequest,
    Purchase,
    RecordEventRequest,
    SetPreferencesRequest,
)
from tests.server import kit
from tests.server.kit import Shop

CATALOGUE = """
valid_for = "2h"

[products.pro]

[placements.home]
sticky = "1h"
[placements.side]
sticky = "1h"
[placements.till]

[offers.tea]
placements = ["home", "side", "till"]
caps = [{ limit = 2 }]
[offers.tea.creatives.calm]
[offers.tea.creatives.bold]
[offers.tea.creatives.exact]
parameters = { left = { value = "usage.gb.limit - usage.gb.value" } }

[offers.pro]
placements = ["home", "side", "till"]
grants = ["pro"]
caps = [{ limit = 2 }]

[offers.jam]
placements = ["home", "side", "till"]
caps = [{ limit = 2 }]
"""
STICKY_MS = kit.HOUR_MS


@pytest.fixture
def catalogue_text() -> str:
    return CATALOGUE


@pytest.mark.parametrize("most", [1, 3])
async def test_a_retry_of_a_list_is_that_list_whatever_a_placement_keeps_to(
    eager: Shop, most: int
) -> None:
    # Given a list, of which one is in a placement that keeps to it
    request = eager.request("ada", "home", "till", max_decisions=3)
    first = await eager.stub.GetOffer(request)

    # When it is asked for again
    again = GetOfferRequest()
    again.CopyFrom(request)
    again.max_decisions = most

    # Then nothing else is the answer
    assert await eager.stub.GetOffer(again) == first
    assert kit.rows(eager.path, "select * from answer") == []


async def test_a_placement_keeps_to_its_decision_for_its_time(
    shop: Shop, clock: kit.Clock
) -> None:
    # Given an offer that was decided for a placement
    first = await shop.offered("ada")

    # When the user comes back within the hour, with other requests
    for _ in range(12):
        again = await shop.ask("ada")

        # Then it is the same decision, with the propensity of its draw
        assert again == first
        clock.advance(STICKY_MS // 12 - 1)
    assert shop.count("decisions_v1") >= 1
    decided = shop.count("decisions_v1")

    # And after it, there is another one
    clock.now_ms = kit.NOON_MS + STICKY_MS
    later = await shop.ask("ada")
    assert later.decision_id != first.decision_id
    assert shop.count("decisions_v1") == decided + 1


async def test_what_sticks_counts_once_however_often_it_is_asked_for(
    shop: Shop,
) -> None:
    # Given an offer that may be seen twice, which is asked for and shown many times
    first = await shop.offered("ada", "tea")
    for _ in range(10):
        again = await shop.ask("ada", offer_ids=["tea"])
        assert again == first
        await shop.report(again, kit.SHOWN)

    # Then it counts once
    user = await shop.user()
    assert [count.shown_count for count in user.counts] == [1]
    assert not user.reservations


async def test_silence_does_not_stick(shop: Shop) -> None:
    # Given users who ask until they are offered something
    # When silence was drawn before
    seen = {(await shop.ask("ada", offer_ids=["tea"])).offer_id for _ in range(60)}

    # Then an offer follows all the same
    assert "tea" in seen


async def test_other_placements_and_other_users_are_not_bound(shop: Shop) -> None:
    # Given an offer that sticks to a placement
    first = await shop.offered("ada", "tea")

    # When another placement, one that keeps to nothing, or another user asks
    others = [
        await shop.ask("ada", "side"),
        await shop.ask("ada", "till"),
        await shop.ask("bob"),
        await shop.ask("ada", account_id="acme"),
    ]

    # Then each gets a decision of its own
    assert first.decision_id not in {other.decision_id for other in others}

    # And a request for several placements gets what sticks to one of them
    assert await shop.ask("ada", "till", "home") == first


async def dismissed(shop: Shop, decision: Decision) -> None:
    await shop.report(decision, kit.SHOWN, kit.DISMISSED)


async def snoozed(shop: Shop, decision: Decision) -> None:
    until = kit.timestamp(shop.clock() + kit.DAY_MS)
    await shop.tell(decision, kit.outcome(kit.SNOOZED, snooze_until=until))


async def not_shown(shop: Shop, decision: Decision) -> None:
    await shop.report(decision, kit.NOT_SHOWN)


async def accepted(shop: Shop, decision: Decision) -> None:
    await shop.report(decision, kit.SHOWN, kit.ACCEPTED)


async def stopped(shop: Shop, decision: Decision) -> None:
    await kit.stop(shop, "offer:pro")


async def all_stopped(shop: Shop, decision: Decision) -> None:
    await kit.stop(shop, "placement:home")


async def opted_out(shop: Shop, decision: Decision) -> None:
    await shop.told(SetPreferencesRequest(user_id="ada", opt_out_offer_ids=["pro"]))


async def bought(shop: Shop, decision: Decision) -> None:
    event = Purchase(product_ids=["pro"])
    await shop.told(RecordEventRequest(user_id="ada", purchased=event))


async def paused(shop: Shop, decision: Decision) -> None:
    text = CATALOGUE.replace('grants = ["pro"]', 'grants = ["pro"]\nstate = "paused"')
    await kit.change_catalogue(shop, text)


@pytest.mark.parametrize(
    "happens",
    [
        dismissed,
        snoozed,
        not_shown,
        accepted,
        stopped,
        all_stopped,
        opted_out,
        bought,
        paused,
    ],
)
async def test_what_may_not_be_shown_any_more_does_not_stick(
    shop: Shop, happens: Callable[[Shop, Decision], Awaitable[None]]
) -> None:
    # Given an offer that sticks
    first = await shop.offered("ada", "pro")
    assert await shop.ask("ada") == first

    # When something happens after which it is not to be shown, or was answered
    await happens(shop, first)

    # Then the next request gets a decision of its own
    again = await shop.ask("ada")
    assert again.decision_id != first.decision_id
    if happens is not not_shown:
        assert again.offer_id != "pro"


async def test_what_was_seen_sticks_until_the_user_has_answered(shop: Shop) -> None:
    # Given an offer that sticks
    first = await shop.offered("ada", "tea")

    # When the user sees it, and comes back, then it is there as before
    await shop.report(first, kit.SHOWN, kit.VIEWED)
    assert await shop.ask("ada") == first

    # And when they have looked closer, then the placement is free
    await shop.report(first, kit.CLICKED)
    assert (await shop.ask("ada")).decision_id != first.decision_id


async def test_an_interruption_does_not_unstick(shop: Shop) -> None:
    # Given an offer that sticks, and a workflow that holds it back
    first = await shop.offered("ada", "tea")
    await shop.told(
        BeginCriticalRequest(user_id="ada", key="k", ttl=Duration(seconds=60))
    )
    silence = await shop.ask("ada")
    assert kit.reason_of(silence) == "CRITICAL_WORKFLOW"

    # When the workflow is over
    await shop.told(EndCriticalRequest(user_id="ada", key="k"))

    # Then the same offer is there again
    assert await shop.ask("ada") == first


async def test_what_sticks_must_be_right_for_the_request_too(shop: Shop) -> None:
    # Given an offer that sticks
    first = await shop.offered("ada", "pro")

    # When a request has what it gives in the cart, or is for other offers only
    cart = Context(cart_product_ids=["pro"])
    bought = await shop.ask("ada", context=cart, offer_ids=["pro"])
    other = await shop.ask("ada", offer_ids=["tea"])

    # Then it is not answered with that
    assert kit.reasons(bought) == {"pro": "ALREADY_OWNED"}
    assert kit.candidates(other) == {"tea"}
    assert first.decision_id not in {bought.decision_id, other.decision_id}


@pytest.mark.parametrize("creative", ["calm", "bold"])
async def test_a_decision_sticks_whatever_its_creative(
    shop: Shop, creative: str
) -> None:
    # Given a decision for one of several creatives, of which one needs a value that
    # nobody has
    for number in range(200):
        user_id = f"user-{number}"
        first = await shop.ask(user_id, offer_ids=["tea"])
        if first.creative_id == creative:
            break
    assert first.creative_id == creative

    # When the user comes back, then it is there again
    assert await shop.ask(user_id) == first
    assert await shop.standing(first) == ("ACTIVE", "")


async def test_a_retry_is_answered_alike_whatever_sticks_by_then(shop: Shop) -> None:
    # Given a request that was answered with silence, then one with an offer that
    # sticks, then one that was answered with the same
    silent = await _silence(shop)
    offered = await shop.offered("ada", "tea", request_id="")
    sticking = await shop.ask("ada", request_id="sticking")
    assert sticking == offered

    # When the first comes again, then it is answered with silence still
    assert await shop.ask("ada", request_id="silence") == silent

    # And when the offer was dismissed and the last comes again, then it is answered
    # with the offer still
    await shop.report(offered, kit.SHOWN, kit.DISMISSED)
    decided = shop.count("decisions_v1")
    assert await shop.ask("ada", request_id="sticking") == sticking
    assert await shop.ask("ada", request_id="silence") == silent
    assert shop.count("decisions_v1") == decided


async def _silence(shop: Shop) -> Decision:
    """Ask under the name "silence" when nothing may be shown."""
    await kit.stop(shop, "all")
    silent = await shop.ask("ada", request_id="silence")
    await kit.stop(shop, "all", resume=True)
    assert silent.offer_id == ""
    return silent


async def test_of_many_requests_at_once_one_decides_for_all(
    eager: Shop, other: Shop
) -> None:
    # Given two servers
    # When both are asked many times at once for one user
    answers = await asyncio.gather(
        *(shop.ask("ada") for _ in range(50) for shop in (eager, other))
    )

    # Then all of them are answered with one decision
    assert len({answer.decision_id for answer in answers}) == 1
    assert answers[0].offer_id
    assert eager.count("decisions_v1") == 1
