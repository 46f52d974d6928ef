"""What there is only so often is promised only so often, and is free when it is not."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from contextlib import closing
from typing import Any

import grpc
import pytest

from opportune.v1 import Decision, Purchase, RecordEventRequest
from server.stores.base import LeaseLostError
from tests.server import kit
from tests.server.kit import Shop

CATALOGUE = """
currency = "EUR"
valid_for = "10m"
report_grace = "1m"

[budgets.spring]
amount = 1000
per_day = 300

[products.lamp]

[placements.home]
slots = 3
[placements.door]
fallback = "spare"

[offers.lamp]
placements = ["home"]
inventory = 3
hold = "2h"

[offers.half]
placements = ["home"]
price = 100
list_price = 200
discount = 100
budget = "spring"
hold = "2h"

[offers.main]
placements = ["door"]
inventory = 1

[offers.spare]
placements = ["door"]
inventory = 2
price = 150
list_price = 200
discount = 50
budget = "spring"
"""
HELD_MS = 11 * kit.MINUTE_MS
HOLD_MS = 2 * kit.HOUR_MS


@pytest.fixture
def catalogue_text() -> str:
    return CATALOGUE


async def tidied(*shops: Shop) -> None:
    """Let servers do what they do twice a second."""
    for shop in shops:
        await shop.services.supplies.tidy()


async def sold(shop: Shop, *users: str, offer: str = "lamp") -> list[Decision]:
    """Ask for users until nothing is left."""
    decisions = [await shop.ask(user, offer_ids=[offer]) for user in users]
    return [decision for decision in decisions if decision.offer_id]


async def left(shop: Shop, name: str = "probe", offer: str = "lamp") -> int:
    """Say how many could still be had, and leave them there.

    That there is none is believed for a quarter of a second.
    """
    shop.clock.advance(250)
    decisions = await sold(shop, *(f"{name}-{n}" for n in range(12)), offer=offer)
    for decision in decisions:
        await shop.report(decision, kit.NOT_SHOWN)
    return len(decisions)


def why(decision: Decision) -> str:
    assert decision.offer_id == ""
    return kit.reason_of(decision)


async def test_no_more_is_promised_than_there_is_however_many_ask_at_once(
    eager: Shop, other: Shop
) -> None:
    # Given three lamps
    # When two hundred users ask at once, at two servers
    decisions = await asyncio.gather(
        *(
            shop.ask(f"user-{number}-{shop.name}", offer_ids=["lamp"])
            for number in range(100)
            for shop in (eager, other)
        )
    )
    # Those that found all of it leased out to the other server may ask again.
    await tidied(eager, other)
    eager.clock.advance(3 * kit.SECOND_MS)
    await tidied(eager, other)
    decisions += [
        await shop.ask(f"late-{n}", offer_ids=["lamp"])
        for n in range(5)
        for shop in (eager, other)
    ]

    # Then three of them are promised one, and the rest learns why they are not
    counted = Counter(decision.offer_id for decision in decisions)
    assert counted["lamp"] == 3
    for decision in decisions:
        if not decision.offer_id:
            assert why(decision) == "INVENTORY_EXHAUSTED"
    silent = next(decision for decision in decisions if not decision.offer_id)
    explained = await eager.explain(silent)
    assert list(explained.exhausted_supplies) == ["inventory:lamp"]
    assert explained.rejections[0].found == "lamp: none left"


async def test_who_gives_up_while_it_is_stored_has_taken_it_all_the_same(
    eager: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a lease of all three, and a request that gives up while the store is held
    assert not await eager.services.supplies.prepare({"inventory:lamp": (3, 3)})
    request = eager.request("hasty", offer_ids=["lamp"])
    with closing(sqlite3.connect(eager.path, isolation_level=None)) as holder:
        holder.execute("begin immediate")
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await eager.stub.GetOffer(request, timeout=0.1)
        assert error.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    lost: list[LeaseLostError] = []
    commit = eager.store.commit

    async def watched(decision: Any, **how: Any) -> Any:
        try:
            return await commit(decision, **how)
        except LeaseLostError as error:
            lost.append(error)
            raise

    monkeypatch.setattr(eager.store, "commit", watched)

    # When others ask for what is left
    others = await sold(eager, "first", "second", "third")

    # Then nobody drew what was not there, and the hasty one has a lamp
    assert len(others) == 2
    assert lost == []
    (decision,) = (await eager.stub.GetOffer(request)).decisions
    assert decision.offer_id == "lamp"


async def test_a_decision_for_what_may_be_used_up_is_repeated_bit_for_bit(
    eager: Shop,
) -> None:
    # Given decisions before and after everything is promised
    made = [await eager.ask(f"user-{n}", "home") for n in range(8)]
    assert {decision.offer_id for decision in made} == {"lamp", "half", ""}

    # When each is explained, then it says what was used up then, not what is now
    for decision in made:
        explained = await eager.explain(decision)
        reasons = kit.reasons(explained)
        exhausted = set(explained.exhausted_supplies)
        assert ("inventory:lamp" in exhausted) == (
            reasons.get("lamp") == "INVENTORY_EXHAUSTED"
        )
        spent = {name for name in exhausted if name.startswith("budget:spring")}
        assert bool(spent) == (reasons.get("half") == "BUDGET_EXHAUSTED")


async def test_a_budget_that_cannot_pay_the_dearest_discount_pays_the_others(
    eager: Shop,
) -> None:
    # Given a budget of 300, and discounts of 200 and 100
    await kit.change_catalogue(
        eager,
        """
        [budgets.fall]
        amount = 300
        [placements.home]
        [offers.year]
        placements = ["home"]
        priority = 2
        price = 800
        list_price = 1000
        discount = 200
        budget = "fall"
        [offers.month]
        placements = ["home"]
        priority = 1
        price = 90
        list_price = 190
        discount = 100
        budget = "fall"
        """,
    )

    # When users come one after the other
    came = [(await eager.ask(f"user-{n}", "home")) for n in range(3)]

    # Then what is left after the dearest discount goes to the other one
    assert [decision.offer_id for decision in came] == ["year", "month", ""]
    explained = await eager.explain(came[1])
    assert list(explained.exhausted_supplies) == ["budget:fall>100"]
    assert explained.rejections[0].found == "fall: not enough left"


async def test_what_is_not_shown_in_time_is_free_again(
    eager: Shop, clock: kit.Clock
) -> None:
    # Given three lamps that are promised
    assert len(await sold(eager, "a", "b", "c", "d")) == 3

    # When nothing is heard of them, then they are held until nothing can be heard
    clock.now_ms = kit.NOON_MS + HELD_MS - 251
    await tidied(eager)
    assert await left(eager) == 0
    clock.advance(1)
    await tidied(eager)
    assert await left(eager, "later") == 3


@pytest.mark.parametrize("kind", [kit.NOT_SHOWN, kit.DISMISSED, kit.OPTED_OUT])
async def test_what_nobody_wants_is_free_at_once(eager: Shop, kind: int) -> None:
    # Given three lamps that are promised
    decisions = await sold(eager, "a", "b", "c")
    assert await left(eager) == 0

    # When one of them will not be shown, or is waved away
    await eager.report(decisions[1], kind)

    # Then another user may have it
    assert await left(eager, "later") == 1


async def test_what_was_shown_waits_for_the_accept(
    eager: Shop, clock: kit.Clock
) -> None:
    # Given a lamp that was shown in its last minute, and two that were not
    shown, *_ = await sold(eager, "a", "b", "c")
    clock.now_ms = kit.NOON_MS + HELD_MS - kit.MINUTE_MS
    await eager.report(shown, kit.SHOWN)
    until_ms = clock() + HOLD_MS

    # When time passes, then it is held for two hours from then, and the others are not
    clock.now_ms = until_ms - 251
    await tidied(eager)
    assert await left(eager) == 2
    clock.advance(1)
    await tidied(eager)
    assert await left(eager, "later") == 3

    # And an accept after that is told that it came too late
    (accepted,) = await eager.report(shown, kit.ACCEPTED)
    assert kit.state_of(accepted) == "EXPIRED"


async def test_what_was_accepted_is_gone_for_good(
    eager: Shop, other: Shop, clock: kit.Clock
) -> None:
    # Given three lamps, of which two are accepted in time
    decisions = await sold(eager, "a", "b", "c")
    for decision in decisions[:2]:
        (accepted,) = await other.report(decision, kit.ACCEPTED)
        assert kit.state_of(accepted) == "ACTIVE"

    # When a year passes, then one is left
    clock.advance(365 * kit.DAY_MS)
    await tidied(eager, other)
    assert await left(eager) == 1

    # And whatever else is heard of the others, they stay sold
    for decision in decisions[:2]:
        await eager.report(decision, kit.SHOWN, kit.CLICKED, kit.DISMISSED)
    await tidied(eager, other)
    assert await left(eager, "later") == 1


async def test_a_refund_gives_back_what_was_taken(
    eager: Shop, clock: kit.Clock
) -> None:
    # Given a lamp and a discount that were taken
    (lamp,) = await sold(eager, "a")
    (half,) = await sold(eager, "b", offer="half")
    for decision in (lamp, half):
        await eager.report(decision, kit.ACCEPTED)
    assert await left(eager) == 2
    assert await left(eager, "discount", "half") == 2

    # When both are paid back, then there is as much as before, and not more, however
    # often that is reported
    for _ in range(2):
        for decision in (lamp, half):
            await eager.report(decision, kit.REFUNDED)
    assert await left(eager, "later") == 3
    assert await left(eager, "less", "half") == 3


async def test_an_accept_that_came_too_late_is_told_so_each_time(
    eager: Shop, clock: kit.Clock
) -> None:
    # Given a lamp whose time was over, so that another user has it now
    late, *_ = await sold(eager, "a", "b", "c")
    clock.advance(HELD_MS)
    await tidied(eager)
    again = await sold(eager, "d", "e", "f", "g")
    assert len(again) == 3

    # When the first user accepts all the same, and the client tries again
    for _ in range(2):
        (accepted,) = await eager.report(late, kit.ACCEPTED)

        # Then each answer says that it cannot be had
        assert kit.state_of(accepted) == "EXPIRED"

    # And those who hold it now get it
    for decision in again:
        (accepted,) = await eager.report(decision, kit.ACCEPTED)
        assert kit.state_of(accepted) == "ACTIVE"
    clock.advance(kit.DAY_MS)
    await tidied(eager)
    assert await left(eager) == 0


async def test_money_is_reserved_charged_and_released_like_pieces(
    eager: Shop, clock: kit.Clock
) -> None:
    # Given a budget of ten discounts, three of them a day
    first = await sold(eager, "a", "b", "c", "d", offer="half")
    assert len(first) == 3
    silent = await eager.ask("e", offer_ids=["half"])
    assert why(silent) == "BUDGET_EXHAUSTED"
    midnight_ms = kit.NOON_MS + 12 * kit.HOUR_MS
    assert kit.ms(silent.next_eligible_time) == midnight_ms
    assert list((await eager.explain(silent)).exhausted_supplies) == [
        "budget:spring:2026-11-21"
    ]

    # When one is accepted, one is waved away, and one is not heard of
    await eager.report(first[0], kit.ACCEPTED)
    await eager.report(first[1], kit.DISMISSED)
    clock.advance(HELD_MS)
    await tidied(eager)

    # Then there are two more for today, and three for each day after, until all is gone
    taken = 1
    days: list[int] = []
    while True:
        number = len(days)
        decisions = await sold(
            eager, *(f"day-{number}-{n}" for n in range(5)), offer="half"
        )
        for decision in decisions:
            (accepted,) = await eager.report(decision, kit.ACCEPTED)
            assert kit.state_of(accepted) == "ACTIVE"
        days.append(len(decisions))
        taken += len(decisions)
        if not decisions:
            break
        clock.advance(kit.DAY_MS)
        await tidied(eager)
    assert days == [2, 3, 3, 1, 0]
    assert taken == 10
    spent = await eager.ask("late", offer_ids=["half"])
    assert why(spent) == "BUDGET_EXHAUSTED"
    assert not spent.HasField("next_eligible_time")


async def test_a_call_for_several_offers_reserves_for_each(eager: Shop) -> None:
    # Given a user who gets a lamp and a discount in one call
    decisions = await eager.choose(3, "ada")
    assert {decision.offer_id for decision in decisions} == {"lamp", "half", ""}

    # When one of the two is not shown, then only that is free
    lamp = next(d for d in decisions if d.offer_id == "lamp")
    assert await left(eager) == 2
    assert await left(eager, "discount", "half") == 2
    await eager.report(lamp, kit.NOT_SHOWN)
    assert await left(eager, "later") == 3
    assert await left(eager, "less", "half") == 2


async def test_the_last_one_can_be_had_by_a_call_for_several_offers(
    eager: Shop,
) -> None:
    # Given one lamp that is left, and one discount for today
    await sold(eager, "a", "b")
    await sold(eager, "c", "d", offer="half")

    # When a call asks for up to three offers, then it gets both of them
    decisions = await eager.choose(3, "ada")
    assert {decision.offer_id for decision in decisions} == {"lamp", "half", ""}

    # And the next one learns that nothing is left
    decisions = await eager.choose(3, "bob")
    assert [decision.offer_id for decision in decisions] == [""]
    assert set(kit.reasons(decisions[0]).values()) == {
        "INVENTORY_EXHAUSTED",
        "BUDGET_EXHAUSTED",
    }


async def test_a_retry_takes_nothing_more(eager: Shop) -> None:
    # Given a request that was answered with a lamp
    first = await eager.ask("ada", offer_ids=["lamp"], request_id="once")

    # When it is sent again, by many at once
    again = await asyncio.gather(
        *(eager.ask("ada", offer_ids=["lamp"], request_id="once") for _ in range(20))
    )

    # Then it is one lamp
    assert all(answer == first for answer in again)
    assert await left(eager) == 2


async def test_a_fallback_that_may_be_used_up_is_promised_as_exactly(
    eager: Shop,
) -> None:
    # Given a placement whose one offer is promised to somebody
    assert (await eager.ask("a", "door")).offer_id == "main"

    # When others ask for it, then the fallback is there, as often as there is of it
    others = [await eager.ask(f"user-{n}", "door") for n in range(4)]
    assert [decision.offer_id for decision in others] == ["spare", "spare", "", ""]
    assert all(decision.fallback for decision in others[:2])

    # And why there is no more is told of both
    assert kit.reasons(others[-1]) == {
        "main": "INVENTORY_EXHAUSTED",
        "spare": "INVENTORY_EXHAUSTED",
    }


async def test_what_a_server_had_leased_when_it_died_is_free_after_ten_seconds(
    eager: Shop, clock: kit.Clock
) -> None:
    # Given a server that has leased lamps, and dies without a word
    async with kit.running(
        eager.path, CATALOGUE, clock, eager.settings, "dying"
    ) as dying:
        promised = await dying.ask("a", offer_ids=["lamp"])
        assert promised.offer_id == "lamp"
        services = dying.services
        services.supplies = type(services.supplies)(services.store, clock)

    # When ten seconds have passed
    clock.advance(10 * kit.SECOND_MS)
    await tidied(eager)

    # Then all but what it has promised is there for others, and its promise holds
    assert await left(eager) == 2
    (accepted,) = await eager.report(promised, kit.ACCEPTED)
    assert kit.state_of(accepted) == "ACTIVE"


async def test_a_limit_that_is_lowered_holds_for_what_is_promised_next(
    eager: Shop,
) -> None:
    # Given two lamps that are promised, of three
    assert len(await sold(eager, "a", "b")) == 2

    # When the catalogue says that there are only two
    await kit.change_catalogue(
        eager, CATALOGUE.replace("inventory = 3", "inventory = 2")
    )

    # Then there is none for the next user, and with four there are two
    assert await left(eager) == 0
    await kit.change_catalogue(
        eager, CATALOGUE.replace("inventory = 3", "inventory = 4")
    )
    assert await left(eager, "later") == 2


@pytest.mark.parametrize("how", ["stopped", "bought"])
async def test_an_accept_in_vain_takes_nothing(
    eager: Shop, clock: kit.Clock, how: str
) -> None:
    # Given lamps on the screens of two users, which are stopped, or which they have
    # bought meanwhile
    await kit.change_catalogue(
        eager, CATALOGUE.replace("inventory = 3", 'inventory = 3\ngrants = ["lamp"]')
    )
    decisions = await sold(eager, "a", "b")
    if how == "stopped":
        await kit.stop(eager, "offer:lamp")
    for user_id in ("a", "b") if how == "bought" else ():
        event = Purchase(product_ids=["lamp"])
        await eager.told(RecordEventRequest(user_id=user_id, purchased=event))

    # When they accept all the same
    for decision in decisions:
        (accepted,) = await eager.report(decision, kit.ACCEPTED)
        assert kit.state_of(accepted) == "WITHDRAWN"

    # Then nothing is taken, and nobody waits for what will not come
    if how == "stopped":
        await kit.stop(eager, "offer:lamp", resume=True)
        assert not (await eager.user("a")).state.pending_products
    clock.advance(kit.DAY_MS)
    await tidied(eager)
    assert await left(eager) == 3
