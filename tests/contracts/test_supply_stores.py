"""The contract of stores towards who hands out supplies, kept by every kind of URL.

What is looked at is what others can still lease: there is no other way to see it.
"""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Sequence
from multiprocessing.queues import Queue

import pytest

from policies.model import NO_OFFER, Decision, Outcome
from server.stores.base import (
    NO_SETTLEMENT,
    Histories,
    Hold,
    LeaseLostError,
    Reported,
    ServingStore,
    Settlement,
    StoredPast,
    SupplyLease,
    Versioned,
)
from server.stores.opening import open_serving
from tests.contracts.stores import UNSEEN, decision, held, name_of, outcome, past, put

NAME = "inventory:tea"
LIMIT = 100


async def leased(
    store: ServingStore,
    need: int = 1,
    *,
    name: str = NAME,
    limit: int = LIMIT,
    want: int = 0,
    until_ms: int = 1_000,
    at_ms: int = 0,
) -> SupplyLease:
    """Lease, which must be possible."""
    lease = await store.lease(
        name, limit=limit, need=need, want=want, until_ms=until_ms, at_ms=at_ms
    )
    assert lease is not None
    return lease


async def left(store: ServingStore, name: str = NAME, limit: int = LIMIT) -> int:
    """Return how much of a supply could be leased."""
    for need in range(limit, 0, -1):
        lease = await store.lease(
            name, limit=limit, need=need, want=0, until_ms=1, at_ms=-1
        )
        if lease is not None:
            await store.give_back([lease.lease_id])
            return need
    return 0


def hold(
    made: Decision, lease: SupplyLease, amount: int = 1, until_ms: int = 500
) -> Hold:
    return Hold(name_of(made), lease.name, lease.lease_id, amount, until_ms)


async def settle(
    store: ServingStore, made: Decision, kind: str, until_ms: int = 0, name: str = ""
) -> Reported:
    """Report something that settles what the decision holds."""
    settlement = Settlement(kind, until_ms)  # type: ignore[arg-type] # One of them.

    def fold(
        before: Histories, known: Sequence[Outcome], news: Sequence[Outcome]
    ) -> tuple[Histories, Settlement]:
        return before, settlement

    return await store.report(made, [outcome(name or kind)], fold, account=False)


# --- Leases -----------------------------------------------------------------------


async def test_no_more_is_leased_than_there_is(
    store: ServingStore, other: ServingStore
) -> None:
    assert (await leased(store, 60)).amount == 60

    assert (
        await other.lease(NAME, limit=LIMIT, need=41, want=99, until_ms=9, at_ms=0)
        is None
    )
    assert (await leased(other, 40)).amount == 40
    assert await left(store) == 0


async def test_who_wants_much_gets_a_small_share_of_what_is_left(
    store: ServingStore,
) -> None:
    first = await leased(store, 1, limit=64_000, want=64_000)
    second = await leased(store, 1, limit=64_000, want=64_000)
    modest = await leased(store, 1, limit=64_000, want=7)

    assert first.amount == 1_000
    assert second.amount == 63_000 // 64
    assert modest.amount == 7


async def test_supplies_are_counted_each_for_itself(store: ServingStore) -> None:
    await leased(store, LIMIT)

    assert await left(store, "budget:spring") == LIMIT


async def test_a_limit_that_was_lowered_below_what_is_taken_allows_nothing(
    store: ServingStore,
) -> None:
    await leased(store, 10)

    assert await left(store, limit=5) == 0
    assert await left(store, limit=12) == 2


async def test_of_many_who_lease_at_once_none_gets_what_another_has(
    store: ServingStore, other: ServingStore
) -> None:
    leases = await asyncio.gather(
        *(
            one.lease(NAME, limit=LIMIT, need=3, want=0, until_ms=9, at_ms=0)
            for _ in range(30)
            for one in (store, other)
        )
    )

    assert sum(lease.amount for lease in leases if lease is not None) == 99
    assert await left(store) == 1


async def test_what_is_given_back_is_free(
    store: ServingStore, other: ServingStore
) -> None:
    lease = await leased(store, 60)

    await other.give_back([lease.lease_id, "no-such-lease"])
    await store.give_back([lease.lease_id])

    assert await left(store) == LIMIT


async def test_a_lease_ends_by_itself_unless_it_is_renewed(store: ServingStore) -> None:
    kept, lost = await leased(store, 30), await leased(store, 20)

    assert await store.renew([kept.lease_id, "no-such-lease"], 2_000) == {kept.lease_id}
    assert not await store.sweep(999)
    assert await left(store) == 50
    assert not await store.sweep(1_000)

    assert await left(store) == 70
    assert await store.renew([kept.lease_id, lost.lease_id], 3_000) == {kept.lease_id}


async def test_who_needs_what_is_over_need_not_wait_until_it_is_swept(
    store: ServingStore,
) -> None:
    await leased(store, LIMIT)

    assert (
        await store.lease(NAME, limit=LIMIT, need=1, want=1, until_ms=9, at_ms=999)
        is None
    )
    assert (await leased(store, LIMIT, at_ms=1_000)).amount == LIMIT


# --- Holds ------------------------------------------------------------------------


async def test_what_a_decision_holds_stays_taken_when_its_lease_is_given_back(
    store: ServingStore,
) -> None:
    made, lease = decision(), await leased(store, 10)
    await put(store, made, holds=[hold(made, lease, 4)])
    assert await left(store) == 90

    await store.give_back([lease.lease_id])

    assert await left(store) == 96


@pytest.mark.parametrize("how", ["given back", "ended", "empty", "of another supply"])
async def test_nothing_is_stored_that_holds_from_a_lease_that_is_lost(
    store: ServingStore, other: ServingStore, how: str
) -> None:
    good, bad = await leased(store, 5, until_ms=9_000), await leased(store, 5)
    made = decision()
    wanted = hold(made, bad, 6 if how == "empty" else 1)
    if how == "given back":
        await other.give_back([bad.lease_id])
    elif how == "ended":
        await other.sweep(1_000)
    elif how == "of another supply":
        wanted = wanted._replace(name="budget:spring")
    before = await left(store)

    with pytest.raises(LeaseLostError) as caught:
        await store.commit(
            made,
            seen=UNSEEN,
            after=Histories(held(made)),
            holds=[hold(made, good, 5), wanted],
        )

    assert caught.value.lease_ids == {bad.lease_id}
    assert await store.decisions(name_of(made)) == []
    assert await store.decision(name_of(made)) is None
    assert await past(store, made) == UNSEEN
    await put(store, made, holds=[hold(made, good, 5)])
    assert await left(store) == before


async def test_decisions_hold_no_more_than_was_leased(store: ServingStore) -> None:
    lease = await leased(store, 10)
    made = [decision(user=f"user-{n}") for n in range(20)]

    answers = await asyncio.gather(
        *(
            store.commit(d, seen=UNSEEN, after=None, holds=[hold(d, lease)])
            for d in made
        ),
        return_exceptions=True,
    )

    assert answers[:10] == made[:10]
    assert all(isinstance(answer, LeaseLostError) for answer in answers[10:])
    await store.give_back([lease.lease_id])
    assert await left(store) == 90


async def test_a_retry_and_a_decision_on_a_changed_past_hold_nothing(
    store: ServingStore,
) -> None:
    lease = await leased(store, 10)
    made, late = decision(), decision(request="late")
    await put(store, made, holds=[hold(made, lease)])
    stale = StoredPast(Versioned(7, UNSEEN.user.history), None)

    for _ in range(3):
        again = await store.commit(
            made, seen=UNSEEN, after=None, holds=[hold(made, lease)]
        )
        assert again == made
        assert (
            await store.commit(late, seen=stale, after=None, holds=[hold(late, lease)])
            is None
        )

    await store.give_back([lease.lease_id])
    assert await left(store) == 99


async def test_the_decisions_of_a_call_may_hold_from_several_supplies(
    store: ServingStore,
) -> None:
    made = [decision(slot=slot) for slot in range(2)]
    tea, money = await leased(store, 2), await leased(store, 50, name="budget:spring")

    await put(
        store,
        *made,
        holds=[hold(made[0], tea), hold(made[0], money, 20), hold(made[1], tea)],
    )
    await settle(store, made[0], "release")
    await store.give_back([tea.lease_id, money.lease_id])

    assert await left(store) == 99
    assert await left(store, "budget:spring") == LIMIT


async def test_a_hold_that_is_not_charged_is_let_go_of(store: ServingStore) -> None:
    made, lease = decision(), await leased(store, 10)
    await put(store, made, holds=[hold(made, lease, 4, until_ms=500)])
    await store.give_back([lease.lease_id])

    assert not await store.sweep(499)
    assert await left(store) == 96
    assert not await store.sweep(500)

    assert await left(store) == LIMIT


async def test_a_hold_let_go_of_is_free_once_whatever_becomes_of_its_lease(
    store: ServingStore,
) -> None:
    made, lease = decision(), await leased(store, 10)
    await put(store, made, holds=[hold(made, lease, 4)])

    await settle(store, made, "release")
    assert await left(store) == 94
    await settle(store, made, "release", name="again")
    await store.sweep(500)
    assert await left(store) == 94
    await store.give_back([lease.lease_id])

    assert await left(store) == LIMIT


async def test_what_is_charged_is_taken_for_good(store: ServingStore) -> None:
    made, lease = decision(), await leased(store, 10)
    await put(store, made, holds=[hold(made, lease, 4)])

    assert (await settle(store, made, "charge")).kept is True
    assert (await settle(store, made, "charge", name="again")).kept is True
    assert (await settle(store, made, "release")).kept is True
    await store.sweep(10_000)

    assert await left(store) == 96


async def test_what_was_charged_is_free_again_once_it_is_refunded(
    store: ServingStore,
) -> None:
    made, lease = decision(), await leased(store, 10)
    await put(store, made, holds=[hold(made, lease, 4)])
    await store.give_back([lease.lease_id])
    await settle(store, made, "charge")

    assert (await settle(store, made, "refund")).kept is False
    assert (await settle(store, made, "refund", name="again")).kept is False

    assert await left(store) == LIMIT


async def test_what_was_let_go_of_is_not_charged(store: ServingStore) -> None:
    made, lease = decision(), await leased(store, 10)
    await put(store, made, holds=[hold(made, lease, 4)])
    await store.sweep(500)

    assert (await settle(store, made, "charge")).kept is False

    await store.give_back([lease.lease_id])
    assert await left(store) == LIMIT


async def test_what_is_over_may_be_charged_as_long_as_nobody_swept(
    store: ServingStore,
) -> None:
    made, lease = decision(), await leased(store, 10)
    await put(store, made, holds=[hold(made, lease, 4, until_ms=-7)])

    assert (await settle(store, made, "charge")).kept is True

    await store.sweep(1_000)
    assert await left(store) == 96


async def test_a_charge_of_several_supplies_is_made_of_all_or_none(
    store: ServingStore,
) -> None:
    made = decision()
    tea, money = await leased(store, 1), await leased(store, 50, name="budget:spring")
    await put(
        store,
        made,
        holds=[hold(made, tea, until_ms=100), hold(made, money, 20, until_ms=200)],
    )
    await store.give_back([tea.lease_id, money.lease_id])
    await store.sweep(100)

    assert (await settle(store, made, "charge")).kept is False

    await store.sweep(200)
    assert await left(store) == await left(store, "budget:spring") == LIMIT


async def test_a_hold_is_extended_and_never_shortened(store: ServingStore) -> None:
    made, lease = decision(), await leased(store, 10)
    await put(store, made, holds=[hold(made, lease, 4, until_ms=500)])
    await store.give_back([lease.lease_id])

    assert (await settle(store, made, "extend", 800)).kept is True
    await settle(store, made, "extend", 600, name="again")
    await store.sweep(799)
    assert await left(store) == 96
    await store.sweep(800)

    assert await left(store) == LIMIT
    await settle(store, made, "extend", 5_000, name="too late")
    assert await left(store) == LIMIT


async def test_a_repeated_outcome_settles_nothing(store: ServingStore) -> None:
    made, lease = decision(), await leased(store, 10)
    await put(store, made, holds=[hold(made, lease, 4)])
    await settle(store, made, "none", name="a")

    assert (await settle(store, made, "charge", name="a")).kept is True

    await store.sweep(1_000)
    assert await left(store) == LIMIT


async def test_who_holds_nothing_settles_nothing(store: ServingStore) -> None:
    made = decision(chosen=NO_OFFER)
    await put(store, made)

    for kind in ("none", "charge", "release", "extend", "refund"):
        assert (await settle(store, made, kind, 9)).kept is None
    assert NO_SETTLEMENT == ("none", 0)


async def test_much_that_is_over_is_swept_little_by_little(store: ServingStore) -> None:
    limit = 5_000
    lease = await leased(store, limit, limit=limit, until_ms=10)
    made = [decision(user=f"user-{n}") for n in range(1_200)]
    await asyncio.gather(
        *(
            store.commit(
                d, seen=UNSEEN, after=None, holds=[hold(d, lease, until_ms=20)]
            )
            for d in made
        )
    )

    turns = 1
    while await store.sweep(20):
        turns += 1

    assert turns > 1
    assert (await leased(store, limit, limit=limit)).amount == limit


# --- Several processes ------------------------------------------------------------


def hand_out(url: str, worker: int, answers: Queue[int]) -> None:
    """Sell what can be leased, one at a time, and say how much that was."""

    async def sell() -> int:
        store = open_serving(url)
        sold = 0
        while True:
            lease = await store.lease(
                NAME, limit=LIMIT, need=2, want=0, until_ms=10**15, at_ms=0
            )
            if lease is None:
                await store.close()
                return sold
            made = decision(user=f"user-{worker}-{sold}")
            await put(store, made, holds=[hold(made, lease)])
            assert (await settle(store, made, "charge")).kept
            await store.give_back([lease.lease_id])
            sold += 1

    answers.put(asyncio.run(sell()))


async def test_processes_that_sell_at_once_sell_no_more_than_there_is(
    url: str, store: ServingStore
) -> None:
    spawn = multiprocessing.get_context("spawn")
    answers: Queue[int] = spawn.Queue()
    processes = [
        spawn.Process(target=hand_out, args=(url, worker, answers)) for worker in (1, 2)
    ]

    for process in processes:
        process.start()
    sold = [await asyncio.to_thread(answers.get, timeout=40) for _ in processes]
    for process in processes:
        process.join(40)

    # Each needs two to sell one, so that the last one of all is never sold.
    assert sum(sold) == 99
    assert await left(store) == 1
