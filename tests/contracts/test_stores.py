"""The contract of stores towards servers, kept by every kind of URL."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence

import msgspec
import pytest

from policies.identity import root_of
from policies.model import NO_HISTORY, NO_OFFER, History, Outcome
from server.stores.base import (
    NO_SETTLEMENT,
    Histories,
    LedgerEntry,
    ServingStore,
    Settlement,
    StoredPast,
    Versioned,
)
from server.stores.opening import (
    migrate_store,
    open_admin,
    open_serving,
    open_training,
)
from tests.contracts.stores import (
    UNSEEN,
    UNSEEN_BOTH,
    counting,
    decision,
    held,
    more,
    name_of,
    nothing,
    outcome,
    past,
    put,
    tell,
    version,
)

# --- Decisions --------------------------------------------------------------------


async def test_who_was_never_seen_has_an_empty_past_of_version_0(
    store: ServingStore,
) -> None:
    assert await store.past("root", "nobody", account=False) == UNSEEN
    assert await store.past("root", "nobody", account=True) == UNSEEN_BOTH


async def test_a_decision_never_made_is_none(store: ServingStore) -> None:
    assert await store.decision("0" * 36) is None
    assert await store.decisions("0" * 36) == []


async def test_what_is_stored_is_read_back_as_an_equal_value(
    store: ServingStore, other: ServingStore
) -> None:
    made = decision()

    stored = await store.commit(made, seen=UNSEEN, after=Histories(held(made)))

    assert stored is made
    for one in (store, other):
        assert await one.decision(name_of(made)) == made
        assert await one.decisions(name_of(made)) == [made]
        assert await past(one, made) == (Versioned(1, held(made)), None)


async def test_a_decision_is_stored_by_value(store: ServingStore) -> None:
    made = decision()
    features = made.opportunity.context.features

    await put(store, made)
    features["seats"] = 99.0

    read = await store.decision(name_of(made))
    assert read is not None
    assert read.opportunity.context.features["seats"] == 3.0


async def test_the_second_decision_of_an_id_is_the_first_one(
    store: ServingStore, other: ServingStore
) -> None:
    first, second = decision(at_ms=1_000), decision(chosen=NO_OFFER, at_ms=2_000)
    await store.commit(first, seen=UNSEEN, after=Histories(held(first)))

    for again in (store, other):
        for number, after in ((0, None), (1, NO_HISTORY), (7, NO_HISTORY)):
            stored = await again.commit(
                second,
                seen=StoredPast(Versioned(number, NO_HISTORY), None),
                after=None if after is None else Histories(after),
            )
            assert stored == first
    assert await past(store, first) == (Versioned(1, held(first)), None)


async def test_a_decision_on_a_past_that_has_changed_is_not_stored(
    store: ServingStore, other: ServingStore
) -> None:
    first, second = decision(request="1"), decision(request="2")
    after = Histories(held(second))
    await store.commit(first, seen=UNSEEN, after=Histories(held(first)))

    for stale in (0, 2, 7):
        seen = StoredPast(Versioned(stale, NO_HISTORY), None)
        assert await other.commit(second, seen=seen, after=after) is None

    assert await store.decision(name_of(second)) is None
    seen = await past(store, first)
    assert seen == StoredPast(Versioned(1, held(first)), None)
    assert await other.commit(second, seen=seen, after=after) == second
    assert await past(store, first) == (Versioned(2, held(second)), None)


async def test_a_decision_that_holds_nothing_changes_no_version(
    store: ServingStore,
) -> None:
    first, silence = decision(request="1"), decision(request="2", chosen=NO_OFFER)
    await store.commit(first, seen=UNSEEN, after=Histories(held(first)))

    await put(store, silence)

    assert await past(store, first) == (Versioned(1, held(first)), None)


async def test_a_silence_on_a_past_that_has_changed_is_not_stored(
    store: ServingStore,
) -> None:
    first, silence = decision(request="1"), decision(request="2", chosen=NO_OFFER)
    await store.commit(first, seen=UNSEEN, after=Histories(held(first)))

    assert await store.commit(silence, seen=UNSEEN, after=None) is None
    assert await store.decision(name_of(silence)) is None


async def test_of_many_decisions_on_one_past_one_is_stored(
    store: ServingStore, other: ServingStore
) -> None:
    made = [decision(request=str(n)) for n in range(100)]
    stores = itertools.cycle((store, other))

    stored = await asyncio.gather(
        *(
            one.commit(each, seen=UNSEEN, after=Histories(held(each)))
            for one, each in zip(stores, made)  # noqa: B905 - one is endless
        )
    )

    assert sum(one is not None for one in stored) == 1
    assert await version(store, made[0]) == 1


async def test_users_do_not_change_each_others_past(store: ServingStore) -> None:
    made = [decision(user=f"user-{n}") for n in range(50)]

    stored = await asyncio.gather(
        *(store.commit(d, seen=UNSEEN, after=Histories(held(d))) for d in made)
    )

    assert stored == made
    for one in made:
        assert await past(store, one) == (Versioned(1, held(one)), None)


# --- Accounts ---------------------------------------------------------------------


async def test_a_decision_may_change_the_past_of_the_account_too(
    store: ServingStore, other: ServingStore
) -> None:
    made = decision(account="acme")

    await store.commit(
        made, seen=UNSEEN_BOTH, after=Histories(held(made), History(ignored=3))
    )

    expected = (Versioned(1, held(made)), Versioned(1, History(ignored=3)))
    assert await past(other, made, account=True) == expected
    colleague = decision(user="bob", account="acme")
    assert await past(other, colleague, account=True) == (UNSEEN.user, expected[1])


async def test_what_changes_of_the_user_alone_leaves_the_account(
    store: ServingStore,
) -> None:
    made = decision(account="acme")

    await store.commit(made, seen=UNSEEN_BOTH, after=Histories(held(made)))

    assert await past(store, made, account=True) == (
        Versioned(1, held(made)),
        UNSEEN.user,
    )


@pytest.mark.parametrize("reserves", [True, False])
async def test_a_decision_on_a_past_of_the_account_that_has_changed_is_not_stored(
    store: ServingStore, reserves: bool
) -> None:
    mine, theirs = (decision(user=user, account="acme") for user in ("ada", "bob"))
    await store.commit(
        theirs, seen=UNSEEN_BOTH, after=Histories(held(theirs), held(theirs))
    )
    after = Histories(held(mine), held(mine)) if reserves else None

    assert await store.commit(mine, seen=UNSEEN_BOTH, after=after) is None

    assert await store.decision(name_of(mine)) is None
    seen = await past(store, mine, account=True)
    assert seen == StoredPast(UNSEEN.user, Versioned(1, held(theirs)))
    assert await store.commit(mine, seen=seen, after=after) == mine


async def test_colleagues_who_ask_at_once_are_stored_one_after_the_other(
    store: ServingStore, other: ServingStore
) -> None:
    async def ask(one: ServingStore, number: int) -> int:
        made = decision(user=f"user-{number}", account="acme")
        for tries in itertools.count(1):
            seen = await past(one, made, account=True)
            assert seen.account is not None
            after = Histories(held(made), more(seen.account.history))
            if await one.commit(made, seen=seen, after=after) is not None:
                return tries
        raise AssertionError

    await asyncio.gather(
        *(ask(s, n) for n in range(20) for s in (store, other)[n % 2 :][:1])
    )

    whole = (await past(store, decision(account="acme"), account=True)).account
    assert whole == Versioned(20, History(ignored=20))


# --- Calls ------------------------------------------------------------------------


async def test_the_decisions_of_a_call_are_found_together_and_apart(
    store: ServingStore, other: ServingStore
) -> None:
    made = [decision(slot=slot, chosen=slot % 2) for slot in range(4)]

    await put(store, *made)

    assert await other.decisions(name_of(made[0])) == made
    for one in made:
        assert await other.decision(name_of(one)) == one
    for later in made[1:]:
        assert await other.decisions(name_of(later)) == []


async def test_a_retry_is_answered_with_what_the_first_try_decided(
    store: ServingStore, other: ServingStore
) -> None:
    stored = [decision(slot=slot) for slot in range(3)]
    await put(store, *stored)

    for one, first in itertools.product((store, other), stored):
        again = msgspec.structs.replace(first, chosen=NO_OFFER)
        after = Histories(more(NO_HISTORY))
        assert (
            await one.commit(
                again, call_id=name_of(stored[0]), seen=UNSEEN, after=after
            )
            == first
        )

    assert await store.decisions(name_of(stored[0])) == stored
    assert await version(store, stored[0]) == 0


async def test_a_call_that_was_cut_short_is_gone_on_with(
    store: ServingStore, other: ServingStore
) -> None:
    first, second = (decision(slot=slot) for slot in range(2))
    call_id = name_of(first)
    await put(store, first)

    assert (
        await other.commit(second, call_id=call_id, seen=UNSEEN, after=None) == second
    )

    assert await store.decisions(call_id) == [first, second]


async def test_many_tries_of_one_decision_at_once_store_one_of_them(
    store: ServingStore, other: ServingStore
) -> None:
    await put(store, decision())
    tries = [decision(slot=1, at_ms=1_000 + number) for number in range(30)]

    answers = await asyncio.gather(
        *(
            (store, other)[number % 2].commit(
                made, call_id=name_of(decision()), seen=UNSEEN, after=None
            )
            for number, made in enumerate(tries)
        )
    )

    assert answers[0] in tries
    assert all(answer == answers[0] for answer in answers)
    assert await store.decisions(name_of(decision())) == [decision(), answers[0]]


# --- Requests that are answered with an earlier decision --------------------------


async def test_a_request_may_be_answered_with_a_decision_of_another(
    store: ServingStore, other: ServingStore
) -> None:
    kept, again = decision(slot=1), decision(request="again")
    await put(store, decision(), kept)

    assert await store.answer(name_of(again), name_of(kept)) == kept

    for one in (store, other):
        assert await one.decisions(name_of(again)) == [kept]
        assert await one.answer(name_of(again), name_of(decision())) == kept
        assert await one.commit(again, seen=UNSEEN, after=None) == kept
    assert await store.decision(name_of(again)) is None


async def test_a_request_that_has_its_own_decisions_keeps_them(
    store: ServingStore,
) -> None:
    earlier = decision(request="earlier")
    made = [decision(slot=slot) for slot in range(2)]
    await put(store, earlier)
    await put(store, *made)

    assert await store.answer(name_of(made[0]), name_of(earlier)) == made[0]

    assert await store.decisions(name_of(made[0])) == made


async def test_of_an_answer_and_a_decision_at_once_one_holds(
    store: ServingStore, other: ServingStore
) -> None:
    earlier = decision(request="earlier")
    await put(store, earlier)

    for number in range(20):
        made = decision(request=str(number))
        ones = (store, other)[:: 1 if number % 2 else -1]

        answers = await asyncio.gather(
            ones[0].commit(made, seen=UNSEEN, after=None),
            ones[1].answer(name_of(made), name_of(earlier)),
        )

        assert answers[0] == answers[1]
        assert await store.decisions(name_of(made)) == [answers[0]]
        assert answers[0] in (made, earlier)


# --- Outcomes ---------------------------------------------------------------------


async def test_an_outcome_is_folded_into_the_past_once(
    store: ServingStore, other: ServingStore
) -> None:
    made = decision()
    await store.commit(made, seen=UNSEEN, after=Histories(held(made)))
    after = more(held(made))

    first = await tell(store, made, outcome(), outcome())
    again = await tell(other, made, outcome())

    old, new = Histories(held(made)), Histories(after)
    assert first == ([True, False], old, new, [], None)
    assert again == ([False], new, new, [outcome()], None)

    for one in (store, other):
        assert await past(one, made) == (Versioned(2, after), None)


async def test_outcomes_at_once_from_several_servers_count_once(
    store: ServingStore, other: ServingStore
) -> None:
    made = decision()
    await put(store, made)
    outcomes = [outcome("a", "dismissed"), outcome("b", "dismissed", 1_200)]

    answers = await asyncio.gather(
        *(tell(s, made, *outcomes) for s in (store, other) for _ in range(20))
    )

    assert sum(new for answer in answers for new in answer.fresh) == 2
    assert (await past(store, made)).user.history == History(ignored=2)


async def test_a_fold_sees_what_was_known_and_what_is_new(store: ServingStore) -> None:
    made = decision()
    await put(store, made)
    seen: list[tuple[list[Outcome], list[Outcome]]] = []

    def fold(
        before: Histories, known: Sequence[Outcome], news: Sequence[Outcome]
    ) -> tuple[Histories, Settlement]:
        seen.append((list(known), list(news)))
        return before, NO_SETTLEMENT

    a, b, c = (outcome(name) for name in "abc")
    for told in ([a], [a, b, b], [b, a], [c]):
        await store.report(made, told, fold, account=False)

    assert seen == [([], [a]), ([a], [b]), ([a, b], [c])]


async def test_an_outcome_that_teaches_gates_nothing_leaves_the_version(
    store: ServingStore,
) -> None:
    made = decision(account="acme")
    await put(store, made)
    await tell(store, made, outcome("a"), account=True)
    before = await past(store, made, account=True)

    reported = await store.report(made, [outcome("b")], nothing, account=True)

    assert reported.fresh == [True]
    assert await past(store, made, account=True) == before


async def test_an_outcome_may_change_the_past_of_the_account_too(
    store: ServingStore,
) -> None:
    mine, theirs = (decision(user=user, account="acme") for user in ("ada", "bob"))
    await put(store, mine)
    await put(store, theirs)

    await tell(store, mine, outcome(), account=True)
    reported = await tell(store, theirs, outcome(), account=True)

    assert reported.histories == (History(ignored=1), History(ignored=2))
    assert await past(store, mine, account=True) == (
        Versioned(1, History(ignored=1)),
        Versioned(2, History(ignored=2)),
    )


async def test_an_account_that_a_fold_leaves_out_stays_as_it_is(
    store: ServingStore,
) -> None:
    made = decision(account="acme")
    await put(store, made)
    await tell(store, made, outcome("a"), account=True)

    reported = await store.report(
        made,
        [outcome("b")],
        lambda before, known, news: (Histories(more(before.user)), NO_SETTLEMENT),
        account=True,
    )

    assert reported.histories == (History(ignored=2), History(ignored=1))
    assert (await past(store, made, account=True)).account == (1, History(ignored=1))


async def test_a_fold_that_fails_stores_nothing_and_harms_nobody(
    store: ServingStore,
) -> None:
    made = [decision(user=f"user-{n}") for n in range(6)]
    for one in made:
        await put(store, one)

    def fail(*arguments: object) -> tuple[Histories, Settlement]:
        raise ZeroDivisionError

    answers = await asyncio.gather(
        *(
            store.report(one, [outcome()], fail if n == 3 else counting, account=False)
            for n, one in enumerate(made)
        ),
        return_exceptions=True,
    )

    assert isinstance(answers.pop(3), ZeroDivisionError)
    never, after = Histories(NO_HISTORY), Histories(History(ignored=1))
    assert answers == [([True], never, after, [], None)] * 5
    assert (await tell(store, made[3], outcome())).fresh == [True]


async def test_a_report_and_a_decision_at_once_lose_neither(
    store: ServingStore, other: ServingStore
) -> None:
    first = decision(request="first")
    await put(store, first)

    async def decide(number: int) -> None:
        made = decision(request=str(number))
        while True:
            seen = await past(other, made)
            after = Histories(more(seen.user.history))
            if await other.commit(made, seen=seen, after=after) is not None:
                return

    await asyncio.gather(
        *(decide(n) for n in range(20)),
        *(tell(store, first, outcome(str(n))) for n in range(20)),
    )

    assert await past(store, first) == (Versioned(40, History(ignored=40)), None)


# --- What else is told ------------------------------------------------------------


def entry(event_id: str = "e", at_ms: int = 5) -> LedgerEntry:
    return LedgerEntry(event_id, "opt_out", at_ms, "api", '{"scope":"all"}')


async def test_a_change_is_made_once(store: ServingStore, other: ServingStore) -> None:
    changed = await store.change("root", "ada", entry(), more)

    assert changed == (True, History(ignored=1))
    for one in (store, other):
        assert await one.change("root", "ada", entry(at_ms=9), more) == (
            False,
            History(ignored=1),
        )
        assert (await one.past("root", "ada", account=False)).user == (
            1,
            History(ignored=1),
        )


async def test_changes_at_once_are_each_made_once(
    store: ServingStore, other: ServingStore
) -> None:
    answers = await asyncio.gather(
        *(
            one.change("root", "ada", entry(str(number)), more)
            for number in range(25)
            for one in (store, other)
        )
    )

    assert sum(changed.fresh for changed in answers) == 25
    assert (await store.past("root", "ada", account=False)).user == (
        25,
        History(ignored=25),
    )


async def test_the_same_event_may_change_a_user_and_the_account(
    store: ServingStore,
) -> None:
    for user_id in ("ada", "bob", ""):
        assert (await store.change("root", user_id, entry(), more)).fresh

    assert await store.past("root", "ada", account=True) == (
        Versioned(1, History(ignored=1)),
        Versioned(1, History(ignored=1)),
    )


async def test_an_event_that_changes_nothing_is_in_the_ledger_all_the_same(
    store: ServingStore,
) -> None:
    def same(history: History) -> History:
        return history

    assert (await store.change("root", "ada", entry(), same)).fresh
    assert not (await store.change("root", "ada", entry(), more)).fresh
    assert await store.past("root", "ada", account=False) == UNSEEN


async def test_a_decision_on_a_past_from_before_a_change_is_not_stored(
    store: ServingStore,
) -> None:
    made = decision()
    seen = await past(store, made)

    await store.change(root_of(name_of(made)), "ada", entry(), more)

    assert await store.commit(made, seen=seen, after=None) is None


# --- The rest ---------------------------------------------------------------------


async def test_a_catalogue_that_was_in_use_is_never_lost_nor_changed(
    store: ServingStore,
) -> None:
    assert await store.catalogue("v") is None

    await store.register(("v", "text"), ("p", "{}"))
    await store.register(("v", "other"), ("p", "other"))
    await store.register(("w", "more"), ("p", "{}"))

    assert await store.catalogue("v") == "text"
    assert await store.catalogue("w") == "more"


def test_a_store_is_made_and_brought_up_to_date_as_often_as_one_likes(url: str) -> None:
    for _ in range(3):
        migrate_store(url)


@pytest.mark.parametrize("wrong", ["", "opportune.db", "sqlite:///", "mysql://x/y"])
def test_a_url_of_no_kind_of_store_is_refused(wrong: str) -> None:
    for use in (migrate_store, open_serving, open_training, open_admin):
        with pytest.raises(ValueError, match="sqlite:///"):
            use(wrong)


async def test_a_history_with_everything_is_read_back(store: ServingStore) -> None:
    made = decision()
    full = msgspec.structs.replace(made.history, ignored=2, contacts={"": 7})

    await store.commit(made, seen=UNSEEN, after=Histories(full))

    assert (await past(store, made)).user.history == full
