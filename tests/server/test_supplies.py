"""What a process hands out of inventories and budgets, alone and beside others.

The stores are real ones on one file, as if of several processes; the clock is the
test's. What is looked at inside is only whether the books are right.
"""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
from collections.abc import AsyncIterator, Coroutine
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    multiple,
    rule,
)

from policies.errors import StoreUnavailableError
from policies.model import Decision
from server.stores.base import (
    Histories,
    Hold,
    LeaseLostError,
    ServingStore,
    Settlement,
    SupplyLease,
)
from server.stores.opening import migrate_store, open_serving
from server.supplies import Supplies
from tests.contracts.stores import decision, more, name_of, outcome, past
from tests.server.kit import NOON_MS, Clock

_T = TypeVar("_T")

TEA = "inventory:tea"
MONEY = "budget:spring"
HELD_MS = 60_000


@pytest.fixture
async def other_store(store_path: Path) -> AsyncIterator[ServingStore]:
    """The same store as another process sees it."""
    store = open_serving(f"sqlite:///{store_path}")
    yield store
    await store.close()


@pytest.fixture
def mine(store: ServingStore, clock: Clock) -> Supplies:
    """What one process may hand out."""
    return Supplies(store, clock)


@pytest.fixture
def theirs(other_store: ServingStore, clock: Clock) -> Supplies:
    """What another process may hand out."""
    return Supplies(other_store, clock)


def take(supplies: Supplies, made: Decision, name: str = TEA, amount: int = 1) -> Hold:
    now_ms = made.opportunity.at_ms
    return supplies.take(
        name, amount, decision_id=name_of(made), until_ms=now_ms + HELD_MS
    )


async def sell(
    store: ServingStore,
    supplies: Supplies,
    made: Decision,
    needs: dict[str, tuple[int, int]],
) -> bool:
    """Decide for what takes all of it, as the service does; say whether it was had."""
    while True:
        if await supplies.prepare(needs):
            return False
        seen = await past(store, made)
        holds: list[Hold] = []
        stored = None
        try:
            for name, (_, amount) in needs.items():
                holds.append(take(supplies, made, name, amount))
            after = Histories(more(seen.user.history))
            stored = await store.commit(made, seen=seen, after=after, holds=holds)
        except LeaseLostError as error:
            supplies.forget(error.lease_ids)
        if stored is made:
            return True
        for hold in holds:
            supplies.undo(hold)


async def settle(
    store: ServingStore, made: Decision, settlement: Settlement, name: str = "a"
) -> bool | None:
    reported = await store.report(
        made,
        [outcome(name)],
        lambda before, known, news: (before, settlement),
        account=False,
    )
    return reported.kept


def made_by(user: object, at_ms: int = NOON_MS) -> Decision:
    return decision(user=f"user-{user}", at_ms=at_ms)


# --- What is left -----------------------------------------------------------------


async def test_what_nothing_is_needed_of_is_not_exhausted(mine: Supplies) -> None:
    assert await mine.prepare({}) == frozenset()


async def test_what_is_exhausted_is_named_and_the_rest_can_be_taken(
    mine: Supplies,
) -> None:
    needs = {TEA: (5, 1), MONEY: (100, 101), "inventory:jam": (0, 1)}

    assert await mine.prepare(needs) == {MONEY, "inventory:jam"}

    assert take(mine, decision()).name == TEA
    for name in (MONEY, "inventory:jam"):
        with pytest.raises(LeaseLostError):
            take(mine, decision(), name)


async def test_processes_together_sell_what_there_is_and_no_more(
    store: ServingStore,
    other_store: ServingStore,
    mine: Supplies,
    theirs: Supplies,
) -> None:
    sold = await asyncio.gather(
        *(
            sell(one, supplies, made_by(f"{n}-{which}"), {TEA: (100, 1)})
            for n in range(80)
            for which, (one, supplies) in enumerate(
                ((store, mine), (other_store, theirs))
            )
        )
    )

    assert sum(sold) == 100
    assert await mine.prepare({TEA: (100, 1)}) == {TEA}
    assert await theirs.prepare({TEA: (100, 1)}) == {TEA}


async def test_what_one_cannot_have_it_asks_for_again_after_a_quarter_of_a_second(
    mine: Supplies, theirs: Supplies, clock: Clock
) -> None:
    await theirs.prepare({TEA: (1, 1)})
    assert await mine.prepare({TEA: (1, 1)}) == {TEA}
    await theirs.close()

    clock.advance(249)
    assert await mine.prepare({TEA: (1, 1)}) == {TEA}
    clock.advance(1)

    assert await mine.prepare({TEA: (1, 1)}) == frozenset()


async def test_less_than_what_was_refused_or_of_more_is_asked_for_at_once(
    mine: Supplies,
) -> None:
    assert await mine.prepare({MONEY: (100, 200)}) == {MONEY}

    assert await mine.prepare({MONEY: (100, 150)}) == {MONEY}
    assert await mine.prepare({MONEY: (100, 90)}) == frozenset()
    assert await mine.prepare({MONEY: (100, 200)}) == {MONEY}
    assert await mine.prepare({MONEY: (400, 200)}) == frozenset()


async def test_a_limit_that_was_lowered_holds_at_once(
    mine: Supplies, clock: Clock
) -> None:
    await mine.prepare({TEA: (6_400, 1)})  # A hundred are leased.

    assert await mine.prepare({TEA: (50, 1)}) == {TEA}
    with pytest.raises(LeaseLostError):
        take(mine, decision())

    await mine.tidy()
    clock.advance(250)
    assert await mine.prepare({TEA: (50, 1)}) == frozenset()


async def test_what_was_not_stored_can_be_taken_again(mine: Supplies) -> None:
    await mine.prepare({TEA: (1, 1)})

    for _ in range(5):
        hold = take(mine, decision())
        assert await mine.prepare({TEA: (1, 1)}) == {TEA}
        mine.undo(hold)
        assert await mine.prepare({TEA: (1, 1)}) == frozenset()


async def test_many_needs_of_one_moment_are_one_lease(
    store_path: Path, mine: Supplies
) -> None:
    await asyncio.gather(*(mine.prepare({TEA: (64_000, 1)}) for _ in range(50)))

    assert books(store_path).leases == 1


async def test_a_request_that_is_given_up_harms_nobody(
    store_path: Path, mine: Supplies
) -> None:
    waiting = [
        asyncio.ensure_future(mine.prepare({TEA: (64_000, 1)})) for _ in range(4)
    ]
    await asyncio.sleep(0)
    waiting[0].cancel()
    waiting[2].cancel()

    answers = await asyncio.gather(*waiting, return_exceptions=True)

    assert answers[1] == answers[3] == frozenset()
    assert books(store_path).leases == 1
    take(mine, decision())


# --- How long it lasts ------------------------------------------------------------


async def test_what_is_not_used_is_given_back(
    mine: Supplies, theirs: Supplies, clock: Clock
) -> None:
    await mine.prepare({TEA: (1, 1)})

    clock.advance(1_999)
    await mine.tidy()
    assert await theirs.prepare({TEA: (1, 1)}) == {TEA}
    clock.advance(1)
    await mine.tidy()
    clock.advance(250)

    assert await theirs.prepare({TEA: (1, 1)}) == frozenset()
    assert await mine.prepare({TEA: (1, 1)}) == {TEA}


async def test_what_is_needed_and_never_taken_is_given_back_too(
    mine: Supplies, theirs: Supplies, clock: Clock
) -> None:
    for _ in range(8):
        await mine.prepare({TEA: (1, 1)})
        clock.advance(250)
        await mine.tidy()

    assert await theirs.prepare({TEA: (1, 1)}) == frozenset()


async def test_what_is_used_is_kept_for_as_long_as_it_is_used(
    store_path: Path, store: ServingStore, mine: Supplies, clock: Clock
) -> None:
    needs = {TEA: (6_400, 1)}
    for number in range(60):
        assert await sell(store, mine, made_by(number, clock()), needs)
        clock.advance(500)
        await mine.tidy()

    # A lease lasts ten seconds, these were thirty.
    assert books(store_path).leases == 1


async def test_what_a_process_had_when_it_died_is_free_after_ten_seconds(
    store_path: Path,
    store: ServingStore,
    mine: Supplies,
    theirs: Supplies,
    clock: Clock,
) -> None:
    needs = {TEA: (640, 1)}
    assert await sell(store, mine, made_by("ada"), needs)
    del mine

    clock.advance(10_000)
    await theirs.tidy()

    assert books(store_path) == Books(taken={TEA: 1}, leases=0, held={TEA: 1})


async def test_a_process_that_was_asleep_for_long_takes_nothing_that_is_not_its(
    store: ServingStore, mine: Supplies, theirs: Supplies, clock: Clock
) -> None:
    await mine.prepare({TEA: (1, 1)})
    clock.advance(10_000)
    await theirs.tidy()
    await theirs.prepare({TEA: (1, 1)})

    assert not await sell(store, mine, made_by("ada"), {TEA: (1, 1)})

    await theirs.close()
    clock.advance(250)
    assert await sell(store, mine, made_by("ada"), {TEA: (1, 1)})


async def test_what_has_ended_in_a_long_pause_is_leased_again_before_a_draw(
    store: ServingStore, mine: Supplies, theirs: Supplies, clock: Clock
) -> None:
    await mine.prepare({TEA: (2, 1)})
    clock.advance(10_000)
    await theirs.tidy()
    await theirs.prepare({TEA: (2, 2)})

    assert await mine.prepare({TEA: (2, 1)}) == {TEA}


async def test_who_leaves_leaves_everything(
    store_path: Path, store: ServingStore, mine: Supplies
) -> None:
    assert await sell(store, mine, made_by("ada"), {TEA: (640, 1), MONEY: (900, 5)})

    await mine.close()

    assert books(store_path) == Books(
        taken={TEA: 1, MONEY: 5}, leases=0, held={TEA: 1, MONEY: 5}
    )


async def test_what_is_sold_is_taken_until_it_is_charged_or_over(
    store_path: Path, store: ServingStore, mine: Supplies, clock: Clock
) -> None:
    sold = [made_by(number) for number in range(3)]
    for one in sold:
        assert await sell(store, mine, one, {TEA: (3, 1)})
    assert not await sell(store, mine, made_by("late"), {TEA: (3, 1)})

    assert await settle(store, sold[0], Settlement("charge"))
    await settle(store, sold[1], Settlement("extend", NOON_MS + 2 * HELD_MS))
    clock.advance(HELD_MS)
    await mine.tidy()

    assert books(store_path) == Books(taken={TEA: 2}, leases=0, held={TEA: 2})
    assert not await settle(store, sold[2], Settlement("charge"))
    assert await settle(store, sold[1], Settlement("charge"), "b")
    assert await sell(store, mine, made_by("late", clock()), {TEA: (3, 1)})


async def test_a_store_that_does_not_answer_is_not_a_supply_that_is_exhausted(
    store_path: Path, mine: Supplies, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.stores.sqlite.writing._LOCK_WAIT_S", 0.01)
    with closing(sqlite3.connect(store_path, isolation_level=None)) as holder:
        holder.execute("begin immediate")
        with pytest.raises(StoreUnavailableError):
            await mine.prepare({TEA: (1, 1)})

    assert await mine.prepare({TEA: (1, 1)}) == frozenset()


class Slow:
    """A store whose leases are late, and the clock goes on meanwhile."""

    def __init__(self, store: ServingStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def lease(self, name: str, **wanted: Any) -> SupplyLease | None:
        lease = await self._store.lease(name, **wanted)
        self._clock.advance(1_000)
        return lease


async def test_a_store_that_is_slow_is_not_asked_for_the_same_again_and_again(
    store: ServingStore, clock: Clock
) -> None:
    supplies = Supplies(Slow(store, clock), clock)
    needs = {f"inventory:{n}": (n % 2, 1) for n in range(6)}

    exhausted = await supplies.prepare(needs)

    assert exhausted == {"inventory:0", "inventory:2", "inventory:4"}
    assert clock() == NOON_MS + 6_000


# --- Whatever happens -------------------------------------------------------------


@dataclass(frozen=True)
class Books:
    """What the store says: what is taken, how many leases there are, what is held.

    Attributes:
        taken: By supply, what is not free; nothing where all of it is.
        held: By supply, what decisions hold or have charged.
    """

    taken: dict[str, int]
    leases: int
    held: dict[str, int]


def books(path: Path) -> Books:
    """Read the books, and see that they are right."""
    with closing(sqlite3.connect(path)) as db:
        taken = dict(db.execute("select name, taken from counter where taken <> 0"))
        held = dict(
            db.execute(
                "select name, sum(amount) from hold where state <> 'released'"
                " group by name"
            )
        )
        leased = db.execute("select name, amount - used from lease").fetchall()
    counted = dict(held)
    for name, unused in leased:
        assert unused >= 0
        counted[name] = counted.get(name, 0) + unused
    assert {name: count for name, count in counted.items() if count} == taken
    return Books(taken, len(leased), held)


LIMITS = {TEA: 7, "inventory:jam": 200, MONEY: 20_000, f"{MONEY}:2026-11-21": 120}
NEEDS = st.dictionaries(st.sampled_from(sorted(LIMITS)), st.integers(1, 40), min_size=1)
WORKERS = st.integers(0, 2)


@cache
def empty_store() -> bytes:
    """Return the file of an empty store."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "opportune.db")
        migrate_store(f"sqlite:///{path}")
        return path.read_bytes()


class Anything(RuleBasedStateMachine):
    """Three processes sell, settle, sleep, and die, in any order."""

    sold = Bundle("sold")

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = TemporaryDirectory()
        self.path = Path(self.folder.name, "opportune.db")
        self.path.write_bytes(empty_store())
        self.clock = Clock()
        self.stores = [open_serving(f"sqlite:///{self.path}") for _ in range(3)]
        self.supplies = [Supplies(store, self.clock) for store in self.stores]
        self.asked = 0
        self.charged: set[str] = set()

    def do(self, work: Coroutine[Any, Any, _T]) -> _T:
        return self.loop.run_until_complete(work)

    def sale(
        self, worker: int, needs: dict[str, int]
    ) -> tuple[Decision, Coroutine[Any, Any, bool]]:
        """Return a decision of one of three users, and the work of making it."""
        self.asked += 1
        user, request = f"user-{self.asked % 3}", str(self.asked)
        made = decision(user, request, at_ms=self.clock())
        limited = {
            name: (LIMITS[name], 1 if name.startswith("inventory") else amount)
            for name, amount in needs.items()
        }
        return made, sell(self.stores[worker], self.supplies[worker], made, limited)

    @rule(target=sold, asked=st.lists(st.tuples(WORKERS, NEEDS), max_size=6))
    def some_sell(self, asked: list[tuple[int, dict[str, int]]]) -> Any:
        sales = [self.sale(worker, needs) for worker, needs in asked]

        async def at_once() -> list[bool]:
            return await asyncio.gather(*(work for _, work in sales))

        had = self.do(at_once())
        return multiple(*itertools.compress((made for made, _ in sales), had))

    @rule(target=sold, worker=WORKERS, needs=NEEDS, turns=st.integers(0, 12))
    def one_gives_up_midway(
        self, worker: int, needs: dict[str, int], turns: int
    ) -> Decision:
        made, work = self.sale(worker, needs)

        async def for_a_while() -> None:
            task = asyncio.ensure_future(work)
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])

        self.do(for_a_while())
        return made  # Perhaps it was stored, perhaps not.

    @rule(
        worker=WORKERS,
        made=sold,
        kind=st.sampled_from(["charge", "release", "extend", "refund"]),
        for_ms=st.integers(0, 2 * HELD_MS),
    )
    def one_settles(self, worker: int, made: Decision, kind: Any, for_ms: int) -> None:
        settlement = Settlement(kind, self.clock() + for_ms)
        self.asked += 1
        work = settle(self.stores[worker], made, settlement, str(self.asked))
        if self.do(work) and kind == "charge":
            self.charged.add(name_of(made))
        elif kind == "refund":
            self.charged.discard(name_of(made))

    @rule(for_ms=st.sampled_from([1, 250, 2_000, 5_000, 10_000, HELD_MS]))
    def time_passes(self, for_ms: int) -> None:
        self.clock.advance(for_ms)

    @rule(worker=WORKERS)
    def one_tidies(self, worker: int) -> None:
        self.do(self.supplies[worker].tidy())

    @rule(worker=WORKERS)
    def one_leaves(self, worker: int) -> None:
        self.do(self.supplies[worker].close())

    @rule(worker=WORKERS)
    def one_dies(self, worker: int) -> None:
        self.supplies[worker] = Supplies(self.stores[worker], self.clock)

    @invariant()
    def no_more_is_taken_than_there_is(self) -> None:
        taken = books(self.path).taken
        assert all(0 < amount <= LIMITS[name] for name, amount in taken.items())

    def teardown(self) -> None:
        """See that in the end what was charged is taken, and nothing else."""
        self.clock.advance(10 * HELD_MS)
        self.do(self.supplies[0].tidy())
        left = books(self.path)
        with closing(sqlite3.connect(self.path)) as db:
            rows = db.execute(
                "select decision_id, amount from hold where state = 'charged'"
            ).fetchall()
        for store in self.stores:
            self.do(store.close())
        self.loop.close()
        self.folder.cleanup()
        assert left.leases == 0
        assert left.taken == left.held
        assert sum(left.held.values()) == sum(amount for _, amount in rows)
        assert {made for made, _ in rows} == self.charged


TestAnything = Anything.TestCase
TestAnything.settings = settings(deadline=None, max_examples=40, stateful_step_count=30)
