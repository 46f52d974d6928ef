"""The contract of stores, kept by every kind of URL.

Another kind of store is tested by one more line in `KINDS`.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlite_utils

from policies.errors import StoreUnavailableError
from policies.identity import decision_id, root_key, root_of
from policies.model import (
    NO_OFFER,
    Context,
    Decision,
    Dismissal,
    History,
    Impression,
    Money,
    Opportunity,
    Outcome,
    Reservation,
    Resolution,
)
from policies.records import decode_decision, decode_outcome
from server.stores.base import (
    ServingStore,
    Snapshot,
    TrainingStore,
    VersionedHistory,
)
from server.stores.opening import migrate_store, open_serving, open_training
from server.stores.sqlite import SQLiteServing

KINDS: dict[str, Callable[[Path], str]] = {
    "sqlite": lambda folder: f"sqlite:///{folder}/store.db",
}
OFFER = ("tea", "home")


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty store."""
    made = KINDS[request.param](tmp_path)
    migrate_store(made)
    return made


@pytest.fixture
async def store(url: str) -> AsyncIterator[ServingStore]:
    """The store as a server sees it."""
    store = open_serving(url)
    yield store
    await store.close()


@pytest.fixture
async def other(url: str) -> AsyncIterator[ServingStore]:
    """The same store as another server sees it."""
    store = open_serving(url)
    yield store
    await store.close()


@pytest.fixture
def training(url: str) -> Iterator[TrainingStore]:
    """The same store as the learner sees it."""
    store = open_training(url)
    yield store
    store.close()


def decision(
    user: str = "ada", request: str = "r", *, chosen: int = 1, at_ms: int = 1_000
) -> Decision:
    name = decision_id(root_key("shop", "", user), user, request)
    context = Context(segment="free", features={"seats": 3.0, "new": True, "x": "y"})
    return Decision(
        opportunity=Opportunity(name, at_ms, user, ("home",), context=context),
        catalogue="catalogue",
        policy="policy",
        model="0.0",
        actions=(0, 1),
        probabilities=(400_000_000, 600_000_000),
        chosen=chosen,
        valid_until_ms=at_ms + 600,
        history=History((Impression(5, "tea", "home"),)),
    )


def held(made: Decision) -> History:
    name = made.opportunity.decision_id
    return History(reservations=(Reservation(made.valid_until_ms, *OFFER, name),))


def outcome(name: str = "a", kind: Any = "shown", at_ms: int = 1_100) -> Outcome:
    return Outcome(name, kind, at_ms)


async def past(store: ServingStore, made: Decision) -> VersionedHistory:
    opportunity = made.opportunity
    return await store.history(root_of(opportunity.decision_id), opportunity.user_id)


# --- Decisions --------------------------------------------------------------------


async def test_a_user_never_seen_has_an_empty_past_of_version_0(
    store: ServingStore,
) -> None:
    assert await store.history("root", "nobody") == (0, History())


async def test_a_decision_never_made_is_none(store: ServingStore) -> None:
    assert await store.decision("0" * 32) is None


async def test_what_is_stored_is_read_back_as_an_equal_value(
    store: ServingStore, other: ServingStore
) -> None:
    made = decision()

    stored = await store.commit(made, version=0, after=held(made))

    assert stored is made
    assert await store.decision(made.opportunity.decision_id) == made
    assert await other.decision(made.opportunity.decision_id) == made
    assert await past(store, made) == await past(other, made) == (1, held(made))


async def test_a_decision_is_stored_by_value(store: ServingStore) -> None:
    made = decision()
    features = made.opportunity.context.features

    await store.commit(made, version=0, after=None)
    features["seats"] = 99.0

    read = await store.decision(made.opportunity.decision_id)
    assert read is not None
    assert read.opportunity.context.features["seats"] == 3.0


async def test_the_second_decision_of_an_id_is_the_first_one(
    store: ServingStore, other: ServingStore
) -> None:
    first, second = decision(at_ms=1_000), decision(chosen=NO_OFFER, at_ms=2_000)
    await store.commit(first, version=0, after=held(first))

    for again in (store, other):
        for after, version in ((None, 0), (History(), 1), (History(), 7)):
            stored = await again.commit(second, version=version, after=after)
            assert stored == first
    assert await past(store, first) == (1, held(first))


async def test_a_decision_on_a_past_that_has_changed_is_not_stored(
    store: ServingStore, other: ServingStore
) -> None:
    first, second = decision(request="1"), decision(request="2")
    await store.commit(first, version=0, after=held(first))

    for stale in (0, 2, 7):
        assert await other.commit(second, version=stale, after=held(second)) is None

    assert await store.decision(second.opportunity.decision_id) is None
    assert await past(store, first) == (1, held(first))
    assert await other.commit(second, version=1, after=held(second)) is second
    assert await past(store, first) == (2, held(second))


async def test_a_decision_that_holds_nothing_changes_no_version(
    store: ServingStore,
) -> None:
    first = decision(request="1")
    await store.commit(first, version=0, after=held(first))

    silence = decision(request="2", chosen=NO_OFFER)
    assert await store.commit(silence, version=1, after=None) is silence

    assert await past(store, first) == (1, held(first))


async def test_a_silence_on_a_past_that_has_changed_is_not_stored(
    store: ServingStore,
) -> None:
    first = decision(request="1")
    await store.commit(first, version=0, after=held(first))

    silence = decision(request="2", chosen=NO_OFFER)

    assert await store.commit(silence, version=0, after=None) is None
    assert await store.decision(silence.opportunity.decision_id) is None


async def test_of_many_decisions_on_one_past_one_is_stored(
    store: ServingStore, other: ServingStore
) -> None:
    made = [decision(request=str(n)) for n in range(100)]
    stores = itertools.cycle((store, other))

    stored = await asyncio.gather(
        *(s.commit(d, version=0, after=held(d)) for s, d in zip(stores, made))  # noqa: B905 - one is endless
    )

    assert sum(one is not None for one in stored) == 1
    assert (await past(store, made[0])).version == 1


async def test_users_do_not_change_each_others_past(store: ServingStore) -> None:
    made = [decision(user=f"user-{n}") for n in range(50)]

    stored = await asyncio.gather(
        *(store.commit(d, version=0, after=held(d)) for d in made)
    )

    assert stored == made
    for one in made:
        assert await past(store, one) == (1, held(one))


# --- Outcomes ---------------------------------------------------------------------


async def test_an_outcome_is_folded_into_the_past_once(
    store: ServingStore, other: ServingStore
) -> None:
    made = decision()
    await store.commit(made, version=0, after=held(made))

    assert await store.report(made, OFFER, [outcome(), outcome()]) == [True, False]
    assert await other.report(made, OFFER, [outcome()]) == [False]

    shown = History(impressions=(Impression(1_100, *OFFER),))
    assert await past(store, made) == await past(other, made) == (2, shown)


async def test_outcomes_at_once_from_several_servers_count_once(
    store: ServingStore, other: ServingStore
) -> None:
    made = decision()
    await store.commit(made, version=0, after=None)
    report = [outcome("a", "dismissed"), outcome("b", "dismissed", 1_200)]

    answers = await asyncio.gather(
        *(s.report(made, OFFER, report) for s in (store, other) for _ in range(20))
    )

    assert sum(new for answer in answers for new in answer) == 2
    history = (await past(store, made)).history
    assert history.dismissals == {"tea": Dismissal(2, 1_200)}
    assert len(history.impressions) == 1


async def test_an_outcome_of_silence_changes_no_past(store: ServingStore) -> None:
    made = decision(chosen=NO_OFFER)
    await store.commit(made, version=0, after=None)

    assert await store.report(made, None, [outcome()]) == [True]

    assert await past(store, made) == (0, History())


async def test_an_outcome_that_teaches_gates_nothing_leaves_the_version(
    store: ServingStore,
) -> None:
    made = decision()
    await store.commit(made, version=0, after=None)
    await store.report(made, OFFER, [outcome("a", "shown")])
    version, _ = await past(store, made)

    await store.report(made, OFFER, [outcome("b", "clicked"), outcome("c", "refunded")])

    assert (await past(store, made)).version == version


async def test_an_outcome_with_everything_is_read_back_by_the_learner(
    store: ServingStore, training: TrainingStore
) -> None:
    made = decision()
    euro = Money("EUR", 950)
    full = Outcome(
        "a",
        "accepted",
        1_100,
        viewed_ms=5,
        snoozed_until_ms=6,
        revenue=euro,
        list_price=euro,
        discount=Money("EUR", 0),
        margin=euro,
    )
    await store.commit(made, version=0, after=None)

    await store.report(made, OFFER, [full])

    (joinable,) = training.joinable([made.opportunity.decision_id])
    assert joinable.decision == made
    assert joinable.outcomes == [full]


# --- The training stream ----------------------------------------------------------


async def put(store: ServingStore, count: int, *, report: bool = True) -> list[str]:
    """Store decisions with an outcome each; return their ids."""
    made = [decision(user=f"user-{n}", chosen=n % 2) for n in range(count)]
    for one in made:
        await store.commit(one, version=0, after=None)
        if report:
            await store.report(one, OFFER if one.chosen else None, [outcome()])
    return [one.opportunity.decision_id for one in made]


async def test_every_outcome_is_news_once(
    store: ServingStore, training: TrainingStore
) -> None:
    names = await put(store, 25)
    seen: list[str] = []

    while True:
        changed, watermark = training.changed(10, silences=False)
        assert training.changed(10, silences=False) == (changed, watermark)
        if not changed:
            break
        seen += changed
        training.append([], dict.fromkeys(changed), watermark)

    assert names == seen
    await store.report(decision(user="user-3"), OFFER, [outcome("later")])
    assert training.changed(10, silences=False)[0] == [names[3]]


async def test_a_decision_with_several_outcomes_is_news_once_at_a_time(
    store: ServingStore, training: TrainingStore
) -> None:
    made = decision()
    await store.commit(made, version=0, after=None)

    await store.report(made, OFFER, [outcome(str(n)) for n in range(5)])

    assert training.changed(100, silences=False)[0] == [made.opportunity.decision_id]


async def test_silences_are_news_of_themselves_where_that_is_asked(
    store: ServingStore, training: TrainingStore
) -> None:
    names = await put(store, 6, report=False)

    changed, watermark = training.changed(100, silences=True)

    assert changed == names[::2]
    training.append([], {}, watermark)
    assert training.changed(100, silences=True)[0] == []


async def test_positions_are_counted_without_gaps(
    store: ServingStore, training: TrainingStore
) -> None:
    names = await put(store, 9)
    for number in range(3):
        batch = names[3 * number : 3 * number + 3]
        training.append([Resolution(n, 0.5) for n in batch], {}, None)
        with pytest.raises(Exception, match=r".") as _:
            training.append([Resolution(names[0], None)], {}, None)  # type: ignore[arg-type] # It fails.

    rows = training.stream(training.epoch(), 0, 100)

    assert [row.position for row in rows] == list(range(1, 10))
    assert [row.resolution.decision_id for row in rows] == names
    assert [row.position for row in training.stream(training.epoch(), 4, 2)] == [5, 6]
    assert rows[0].decision == decision(user="user-0", chosen=0)


async def test_rows_and_watermark_move_together_or_not_at_all(
    store: ServingStore, training: TrainingStore
) -> None:
    names = await put(store, 3)
    before = training.changed(10, silences=False)

    with pytest.raises(Exception, match=r"."):
        training.append(
            [Resolution(names[0], 1.0), Resolution(names[1], None)],  # type: ignore[arg-type] # It fails.
            dict.fromkeys(names),
            before[1],
        )

    assert training.changed(10, silences=False) == before
    assert training.stream(training.epoch(), 0, 10) == []
    assert training.due(10**15, 10) == []


async def test_what_waits_is_due_when_its_time_has_come(
    store: ServingStore, training: TrainingStore
) -> None:
    names = await put(store, 4)
    waits = dict(zip(names, (300, 100, None, 200), strict=True))

    training.append([], waits, None)

    assert training.due(99, 10) == []
    assert training.due(100, 10) == [names[1]]
    assert training.due(1_000, 10) == [names[1], names[3], names[0]]
    assert training.due(1_000, 2) == [names[1], names[3]]
    training.append([], {names[1]: None}, None)
    assert training.due(1_000, 10) == [names[3], names[0]]


async def test_what_was_joined_is_remembered(
    store: ServingStore, training: TrainingStore
) -> None:
    (name,) = await put(store, 1)
    assert training.joinable([name])[0].state == (0, None)

    for revision, reward in ((1, -0.01), (2, 0.99)):
        training.append([Resolution(name, reward, revision)], {name: None}, None)

        assert training.joinable([name])[0].state == (revision, reward)
    training.append([], {name: 7}, None)
    assert training.joinable([name])[0].state == (2, 0.99)


async def test_unknown_decisions_are_not_joinable(
    store: ServingStore, training: TrainingStore
) -> None:
    names = await put(store, 3)

    found = training.joinable([names[2], "0" * 32, names[0]])

    assert [j.decision.opportunity.decision_id for j in found] == [names[2], names[0]]
    assert training.joinable([]) == []


# --- Models -----------------------------------------------------------------------


async def test_a_snapshot_is_there_for_all_once_it_is_published(
    store: ServingStore, training: TrainingStore
) -> None:
    assert training.latest_snapshot("a") is None
    assert await store.latest_snapshot("a", after=(0, 0)) is None
    snapshot = Snapshot("a", training.epoch(), 7, bytes(range(256)) * 1_000)

    training.publish(snapshot, keep=2)

    assert training.latest_snapshot("a") == snapshot
    assert await store.latest_snapshot("a", after=(0, 0)) == snapshot
    assert await store.latest_snapshot("a", after=(training.epoch(), 6)) == snapshot
    assert await store.latest_snapshot("a", after=(training.epoch(), 7)) is None
    assert await store.latest_snapshot("b", after=(0, 0)) is None


async def test_only_the_last_snapshots_of_a_learner_are_kept(
    url: str, store: ServingStore, training: TrainingStore
) -> None:
    epoch = training.epoch()
    training.publish(Snapshot("other", epoch, 1, b"x"), keep=3)
    for position in range(1, 8):
        training.publish(Snapshot("a", epoch, position, b"%d" % position), keep=3)

    kept = sqlite3.connect(url.removeprefix("sqlite:///"))
    rows = kept.execute(
        "select learner, position from snapshots_v1 order by learner, position"
    ).fetchall()
    kept.close()

    assert rows == [("a", 5), ("a", 6), ("a", 7), ("other", 1)]
    latest = await store.latest_snapshot("a", after=(0, 0))
    assert latest is not None
    assert latest.body == b"7"


def test_a_snapshot_that_cannot_be_stored_leaves_the_last_one(
    training: TrainingStore,
) -> None:
    first = Snapshot("a", training.epoch(), 1, b"1")
    training.publish(first, keep=1)

    with pytest.raises(Exception, match=r"."):
        training.publish(Snapshot("a", training.epoch(), 2, None), keep=1)  # type: ignore[arg-type] # It fails.

    assert training.latest_snapshot("a") == first


async def test_a_catalogue_that_was_in_use_is_never_lost_nor_changed(
    store: ServingStore, training: TrainingStore
) -> None:
    assert await store.catalogue("v") is None

    await store.register(("v", "text"), ("p", "{}"))
    await store.register(("v", "other"), ("p", "other"))
    await store.register(("w", "more"), ("p", "{}"))

    assert await store.catalogue("v") == training.catalogue("v") == "text"
    assert await store.catalogue("w") == training.catalogue("w") == "more"


async def test_maintenance_loses_nothing(
    store: ServingStore, training: TrainingStore
) -> None:
    names = await put(store, 20)

    training.maintain()

    assert training.changed(100, silences=False)[0] == names


def test_a_store_is_made_and_brought_up_to_date_as_often_as_one_likes(url: str) -> None:
    for _ in range(3):
        migrate_store(url)


@pytest.mark.parametrize("wrong", ["", "opportune.db", "sqlite:///", "mysql://x/y"])
def test_a_url_of_no_kind_of_store_is_refused(wrong: str) -> None:
    for use in (migrate_store, open_serving, open_training):
        with pytest.raises(ValueError, match="sqlite:///"):
            use(wrong)


# --- SQLite alone -----------------------------------------------------------------


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The file of an empty SQLite store."""
    path = tmp_path / "alone.db"
    migrate_store(f"sqlite:///{path}")
    return path


@pytest.fixture
async def alone(path: Path) -> AsyncIterator[ServingStore]:
    """A SQLite store."""
    store = open_serving(f"sqlite:///{path}")
    yield store
    await store.close()


def test_a_file_that_is_not_there_or_not_up_to_date_is_not_opened(
    tmp_path: Path,
) -> None:
    empty = tmp_path / "empty.db"
    sqlite3.connect(empty).close()
    empty.touch()

    for file in (tmp_path / "none.db", empty):
        for use in (open_serving, open_training):
            with pytest.raises(RuntimeError, match="store at"):
                use(f"sqlite:///{file}")


async def test_people_read_the_views_with_their_own_tools(
    path: Path, alone: ServingStore
) -> None:
    made = decision()
    await alone.commit(made, version=0, after=None)
    await alone.report(made, OFFER, [outcome()])
    await alone.register(("v", "text"), ("p", "{}"))
    training = open_training(f"sqlite:///{path}")
    training.append([Resolution(made.opportunity.decision_id, 0.5)], {}, None)
    training.publish(Snapshot("a", 1, 1, b"x"), keep=1)
    training.close()

    db = sqlite_utils.Database(path)
    views = {view.name: list(view.rows) for view in db.views}
    db.close()

    assert views.keys() == {
        f"{name}_v1"
        for name in (
            "decisions",
            "outcomes",
            "resolutions",
            "snapshots",
            "catalogues",
            "policies",
        )
    }
    assert all(len(rows) == 1 for rows in views.values())
    assert decode_decision(views["decisions_v1"][0]["record"]) == made
    assert decode_outcome(views["outcomes_v1"][0]["record"]) == outcome()
    assert views["resolutions_v1"][0]["reward"] == 0.5


async def test_writes_of_one_moment_share_a_commit(alone: ServingStore) -> None:
    assert isinstance(alone, SQLiteServing)
    statements: list[str] = []
    alone._connection.set_trace_callback(statements.append)
    made = [decision(user=f"user-{n}") for n in range(20)]

    await asyncio.gather(*(alone.commit(d, version=0, after=None) for d in made))

    assert [s for s in statements if s in {"begin immediate", "commit"}] == [
        "begin immediate",
        "commit",
    ]


async def test_a_write_that_cannot_be_fails_alone(alone: ServingStore) -> None:
    good = [decision(user=f"user-{n}") for n in range(20)]
    bad = decision(user="user-bad")
    soon = msgspec.structs.replace(bad.opportunity, at_ms="soon")  # A strict table.
    bad = msgspec.structs.replace(bad, opportunity=soon)

    results = await asyncio.gather(
        *(
            alone.commit(d, version=0, after=held(good[0]))
            for d in (*good[:10], bad, *good[10:])
        ),
        return_exceptions=True,
    )

    assert isinstance(results.pop(10), Exception)
    assert results == good
    assert await past(alone, bad) == (0, History())
    for one in good:
        assert await alone.decision(one.opportunity.decision_id) == one
        assert (await past(alone, one)).version == 1


async def test_a_store_that_another_holds_is_waited_for(
    path: Path, alone: ServingStore
) -> None:
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("begin immediate")
    made = decision()

    commit = asyncio.ensure_future(alone.commit(made, version=0, after=None))
    turns = 0
    for _ in range(50):  # The loop goes on meanwhile, and reads are answered.
        await asyncio.sleep(0)
        assert await alone.decision(made.opportunity.decision_id) is None
        turns += 1
    assert not commit.done()
    holder.execute("rollback")
    holder.close()

    assert await commit is made
    assert turns == 50


async def test_a_store_that_another_holds_for_long_is_unavailable(
    path: Path, alone: ServingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.stores.sqlite.serving._LOCK_WAIT_S", 0.05)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("begin immediate")
    made = decision()

    for write in (
        alone.commit(made, version=0, after=None),
        alone.report(made, OFFER, [outcome()]),
    ):
        with pytest.raises(StoreUnavailableError):
            await write
    holder.execute("rollback")
    holder.close()

    # The same call may be made again, and nothing of the first try is there.
    assert await alone.commit(made, version=0, after=None) is made
    assert await alone.report(made, OFFER, [outcome()]) == [True]


async def test_a_caller_who_gives_up_harms_nobody(alone: ServingStore) -> None:
    made = [decision(user=f"user-{n}") for n in range(10)]
    writes = [asyncio.ensure_future(alone.report(d, OFFER, [outcome()])) for d in made]
    await asyncio.sleep(0)

    for write in writes[::2]:
        write.cancel()
    done = await asyncio.gather(*writes, return_exceptions=True)

    assert done[1::2] == [[True]] * 5
    assert all(isinstance(one, asyncio.CancelledError) for one in done[::2])


async def test_a_store_that_can_make_nothing_durable_any_more_says_so_once(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures: list[None] = []
    store = open_serving(url, on_failure=lambda: failures.append(None))
    made = decision(chosen=NO_OFFER)
    await store.commit(made, version=0, after=None)

    def fail(descriptor: int) -> None:
        raise OSError(5, "input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    for name in "ab":
        with pytest.raises(StoreUnavailableError):
            await store.report(made, None, [outcome(name)])

    assert len(failures) == 1
    await store.close()


async def test_a_file_of_another_program_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "bookmarks.db"
    with closing(sqlite3.connect(path)) as other:
        other.execute("create table bookmark(url text)")
    before = path.read_bytes()

    with pytest.raises(RuntimeError, match="tables of another program"):
        migrate_store(f"sqlite:///{path}")

    assert path.read_bytes() == before
