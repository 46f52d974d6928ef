"""The contract of stores towards the learner, kept by every kind of URL."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import msgspec
import pytest

from policies.model import Money, Outcome, Resolution
from policies.promotion import Lineup
from policies.releasing import Release
from server.stores.base import (
    AdminStore,
    Contest,
    ModelChange,
    ServingStore,
    Snapshot,
    TrainingStore,
    Trial,
    Tried,
)
from tests.contracts.stores import decision, name_of, outcome, put, tell

# --- The training stream ----------------------------------------------------------


async def put_many(
    store: ServingStore, count: int, *, report: bool = True
) -> list[str]:
    """Store decisions with an outcome each; return their ids."""
    made = [decision(user=f"user-{n}", chosen=n % 2) for n in range(count)]
    for one in made:
        await put(store, one)
        if report:
            await tell(store, one, outcome())
    return [name_of(one) for one in made]


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
    await put(store, made)

    await tell(store, made, full)

    (joinable,) = training.joinable([name_of(made)])
    assert joinable.decision == made
    assert joinable.outcomes == [full]


async def test_the_decisions_of_a_call_are_news_each_for_itself(
    store: ServingStore, training: TrainingStore
) -> None:
    calls = [
        [
            decision(user=f"user-{n}", slot=slot, chosen=(n + slot) % 2)
            for slot in range(3)
        ]
        for n in range(4)
    ]
    made = [one for call in calls for one in call]
    for call in calls:
        await put(store, *call)

    await tell(store, made[7], outcome())
    await tell(store, made[1], outcome())

    silent = [name_of(one) for one in made if not one.chosen]
    reported = [name_of(made[7]), name_of(made[1])]
    assert training.changed(100, silences=False)[0] == reported
    changed, watermark = training.changed(4, silences=True)
    assert changed == [*reported, *silent[:2]]
    training.append([], {}, watermark)
    changed, watermark = training.changed(100, silences=True)
    assert changed == silent[2:]
    training.append([], {}, watermark)
    assert training.changed(100, silences=True)[0] == []


async def test_every_outcome_is_news_once(
    store: ServingStore, training: TrainingStore
) -> None:
    names = await put_many(store, 25)
    seen: list[str] = []

    while True:
        changed, watermark = training.changed(10, silences=False)
        assert training.changed(10, silences=False) == (changed, watermark)
        if not changed:
            break
        seen += changed
        training.append([], dict.fromkeys(changed), watermark)

    assert names == seen
    await tell(store, decision(user="user-3"), outcome("later"))
    assert training.changed(10, silences=False)[0] == [names[3]]


async def test_a_decision_with_several_outcomes_is_news_once_at_a_time(
    store: ServingStore, training: TrainingStore
) -> None:
    made = decision()
    await put(store, made)

    await tell(store, made, *(outcome(str(n)) for n in range(5)))

    assert training.changed(100, silences=False)[0] == [name_of(made)]


async def test_silences_are_news_of_themselves_where_that_is_asked(
    store: ServingStore, training: TrainingStore
) -> None:
    names = await put_many(store, 6, report=False)

    changed, watermark = training.changed(100, silences=True)

    assert changed == names[::2]
    training.append([], {}, watermark)
    assert training.changed(100, silences=True)[0] == []


async def test_positions_are_counted_without_gaps(
    store: ServingStore, training: TrainingStore
) -> None:
    names = await put_many(store, 9)
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
    names = await put_many(store, 3)
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
    names = await put_many(store, 4)
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
    (name,) = await put_many(store, 1)
    assert training.joinable([name])[0].state == (0, None, None)

    for revision, reward in ((1, -0.01), (2, 0.99)):
        training.append([Resolution(name, reward, revision)], {name: None}, None)

        assert training.joinable([name])[0].state == (revision, reward, reward)
    training.append([], {name: 7}, None)
    assert training.joinable([name])[0].state == (2, 0.99, 0.99)


# --- Epochs -----------------------------------------------------------------------


async def test_a_new_epoch_has_each_decision_once_with_its_last_reward(
    store: ServingStore, training: TrainingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.stores.sqlite.training._COPIED", 2)
    names = await put_many(store, 5)
    watermark = training.changed(3, silences=False)[1]
    first = [Resolution(n, 0.1 * at) for at, n in enumerate(names)]
    training.append(first, dict.fromkeys(names), watermark)
    corrected = Resolution(names[1], 7.0, 2, 0.1, earned=9.0)
    training.append([corrected, Resolution(names[3], 8.0, 2, 0.3)], {}, None)
    training.append([Resolution(names[3], -1.0, 3, 8.0)], {}, None)
    news = training.changed(10, silences=False)

    assert training.begin_epoch() == 2

    assert training.epoch() == 2
    rows = [row.resolution for row in training.stream(2, 0, 10)]
    assert rows == [
        Resolution(names[0], 0.0),
        Resolution(names[1], 7.0, earned=9.0),
        Resolution(names[2], 0.2),
        Resolution(names[3], -1.0),
        Resolution(names[4], 0.4),
    ]
    assert len(training.stream(1, 0, 10)) == 8, "what was written stays"
    assert training.changed(10, silences=False) == news
    assert training.joinable([names[1]])[0].state == (1, 7.0, 9.0)
    assert training.latest_snapshot("a") is None


async def test_a_new_epoch_is_asked_for_once(
    training: TrainingStore, admin: AdminStore
) -> None:
    assert training.rebuild_asked() == "none"

    admin.ask_rebuild(who="grace", reason="", at_ms=0)
    assert training.rebuild_asked() == "as_learned"
    admin.ask_rebuild("judged_anew", who="grace", reason="", at_ms=1)

    assert training.rebuild_asked() == "judged_anew"
    training.begin_epoch()
    assert training.rebuild_asked() == "none"
    assert training.epoch() == 2


async def test_the_last_rewards_of_those_who_teach_are_known_as_they_were_earned(
    store: ServingStore, training: TrainingStore
) -> None:
    names = await put_many(store, 3)
    aside = msgspec.structs.replace(decision(user="aside"), split="eval")
    await put(store, aside)
    rows = [Resolution(n, float(at), earned=at + 0.5) for at, n in enumerate(names)]
    training.append([*rows, Resolution(name_of(aside), 99.0)], {}, None)
    training.append([Resolution(names[0], 5.0, 2, 0.0, 50.0)], {}, None)

    assert training.recent_rewards(10) == [0.5, 1.5, 2.5, 50.0]
    assert training.recent_rewards(2) == [2.5, 50.0]


async def test_unknown_decisions_are_not_joinable(
    store: ServingStore, training: TrainingStore
) -> None:
    names = await put_many(store, 3)

    found = training.joinable([names[2], "0" * 32, names[0]])

    assert [name_of(j.decision) for j in found] == [names[2], names[0]]
    assert training.joinable([]) == []


# --- Models -----------------------------------------------------------------------


def rows(url: str, query: str) -> list[tuple[object, ...]]:
    """Return what anybody reads in the file."""
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as db:
        return db.execute(query).fetchall()


async def test_a_snapshot_is_there_for_all_once_it_is_published(
    store: ServingStore, training: TrainingStore
) -> None:
    epoch = training.epoch()
    assert training.latest_snapshot("a") is None
    assert await store.snapshot("a", at_most=(epoch, 100)) is None
    assert await store.release("a") is None
    snapshot = Snapshot("a", epoch, 7, bytes(range(256)) * 1_000)

    training.publish(snapshot, keep=2)

    assert training.latest_snapshot("a") == snapshot
    assert await store.release("a") == Release((epoch, 7))
    assert await store.snapshot("a", at_most=(epoch, 7)) == snapshot
    assert await store.snapshot("a", at_most=(epoch, 6)) is None
    assert await store.snapshot("b", at_most=(epoch, 7)) is None
    assert training.latest_snapshot("a", before=7) is None


@pytest.mark.parametrize("length", [0, 1, 65_536, 65_537, 300_000])
async def test_a_large_snapshot_is_whole_wherever_it_is_read(
    url: str,
    store: ServingStore,
    training: TrainingStore,
    admin: AdminStore,
    length: int,
) -> None:
    epoch = training.epoch()
    body = (bytes(range(256)) * 2_000)[:length]
    snapshot = Snapshot("a", epoch, 7, body, at_ms=5)

    training.publish(snapshot, keep=2)

    assert training.latest_snapshot("a") == snapshot
    assert await store.snapshot("a", at_most=(epoch, 7)) == snapshot
    assert [model.size for model in admin.models("a")] == [length]
    assert rows(url, "select body from snapshots_v1") == [(body,)]


@pytest.mark.parametrize("table", ["snapshot", "snapshot_part"])
async def test_a_snapshot_that_was_damaged_is_whole_once_it_is_published_again(
    url: str, training: TrainingStore, table: str
) -> None:
    snapshot = Snapshot("a", training.epoch(), 7, bytes(range(256)) * 1_000)
    training.publish(snapshot, keep=2)
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as db, db:
        db.execute(f"update {table} set body = x'00'")  # noqa: S608
    assert training.latest_snapshot("a") != snapshot

    training.publish(snapshot, keep=2)

    assert training.latest_snapshot("a") == snapshot


async def test_a_snapshot_that_was_stored_in_one_part_stays_whole(
    url: str, training: TrainingStore
) -> None:
    snapshot = Snapshot("a", training.epoch(), 7, bytes(range(256)) * 1_000)
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as db, db:
        db.execute("insert into snapshot values (?, ?, ?, ?, ?)", snapshot)

    training.publish(snapshot, keep=2)

    assert training.latest_snapshot("a") == snapshot


async def test_what_is_left_of_a_snapshot_that_was_not_published_is_no_part_of_one(
    url: str, training: TrainingStore
) -> None:
    # Given that who wrote a larger snapshot was killed before it was published
    epoch = training.epoch()
    left = [("a", epoch, 7, part, b"left over") for part in range(9)]
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as db, db:
        db.executemany("insert into snapshot_part values (?, ?, ?, ?, ?)", left)

    # When one is published in its place, and later ones after it
    snapshot = Snapshot("a", epoch, 7, bytes(range(256)) * 1_000)
    training.publish(snapshot, keep=1)
    again = training.latest_snapshot("a")
    for position in (8, 9, 10):
        training.publish(Snapshot("a", epoch, position, b"small"), keep=1)

    # Then it is whole, and nothing of it is kept longer than it is
    assert again == snapshot
    assert rows(url, "select * from snapshot_part") == []


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
    latest = await store.snapshot("a", at_most=(epoch, 100))
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


async def test_the_learner_reads_the_catalogues_that_decisions_refer_to(
    store: ServingStore, training: TrainingStore
) -> None:
    assert training.catalogue("v") is None

    await store.register(("v", "text"), ("p", "{}"))

    assert training.catalogue("v") == "text"


async def test_maintenance_loses_nothing(
    store: ServingStore, training: TrainingStore
) -> None:
    names = await put_many(store, 20)

    training.maintain()

    assert training.changed(100, silences=False)[0] == names


async def test_what_serves_and_what_a_learner_began_with_is_kept(
    store: ServingStore, training: TrainingStore, admin: AdminStore
) -> None:
    epoch = training.epoch()
    kept = Release((epoch, 1), canary=(epoch, 2), previous=(epoch, 3))
    for position in range(6):
        snapshot = Snapshot("a", epoch, position, b"%d" % position, at_ms=position)
        training.publish(snapshot, keep=1, release=lambda _: kept)

    positions = [model.position for model in admin.models("a")]

    assert positions == [5, 3, 2, 1, 0]
    assert admin.models("a")[0].at_ms == 5
    warm = training.warm("a")
    assert warm is not None
    assert warm.body == b"0"
    assert training.warm("b") is None
    assert await store.release("a") == training.release("a") == admin.release("a")


def test_what_was_done_to_models_is_noted_and_nothing_is_where_nothing_changed(
    training: TrainingStore, admin: AdminStore
) -> None:
    release = Release((1, 7), at_ms=5, who="ada", reason="why")

    assert training.change_release("a", lambda before: before) is None
    assert admin.change_release("a", lambda _: release, "promote") == release
    assert admin.change_release("a", lambda before: before, "promote") == release

    (note,) = admin.model_changes(10)
    assert note[1:] == ("a", "promote", "1.7", 5, "ada", "why")


async def test_the_line_up_that_was_recorded_last_holds(
    store: ServingStore, training: TrainingStore, admin: AdminStore
) -> None:
    assert await store.lineup() is None
    first, second = Lineup("x", {"y": 0.5}), Lineup("y", {}, {"x": 3})

    training.change_lineup(first, None)
    assert await store.lineup() == training.lineup() == admin.lineup() == first
    note = ModelChange(0, "y", "promote", "", 9, "ada", "")
    admin.change_lineup(second, note)

    assert await store.lineup() == training.lineup() == admin.lineup() == second
    assert [change.subject for change in admin.model_changes(10)] == ["y"]


async def test_trials_are_of_a_decision_each_once_and_end_with_their_window(
    store: ServingStore, training: TrainingStore, admin: AdminStore
) -> None:
    # Given trials of decisions, of one of which the reward is known
    names = await put_many(store, 4)
    training.append([Resolution(names[1], 0.5)], {names[1]: None}, None)
    trials = [Trial("new", "old", name, 2.0, 1.0, agrees=True) for name in names]
    training.record_trials(trials, Tried(4, 1, 1))
    training.record_trials(trials[:1], Tried(5, 1, 2))

    # When they are read, each is there once, with what it has earned
    rows = training.trials("new", "old", after=0, limit=10)
    assert [row.reward for row in rows] == [0.0, 0.5, 0.0, 0.0]
    assert training.trials("new", "other", after=0, limit=10) == []
    assert len(training.trials("new", "old", after=rows[0].position, limit=2)) == 2
    assert training.tried() == Tried(5, 1, 2)

    # Then a window ends those up to it, whose positions no other gets
    last = rows[-1].position
    contest = Contest("new", "old", last, 7, 4, 1.0, 0.1, -0.1, 0.3, "open")
    training.record_contest(contest)
    assert training.trials("new", "old", after=0, limit=10) == []
    assert training.contests("new", "old", 5) == [contest]
    assert admin.contests("new", "old", 5) == [contest]
    training.record_trials(trials[:1], Tried(5, 1, 2))
    assert training.trials("new", "old", after=0, limit=1)[0].position > last


async def test_silences_are_those_that_could_have_been_something_else(
    store: ServingStore, training: TrainingStore
) -> None:
    await put_many(store, 6)

    found, seen = training.silences(0, 4)

    assert [one.chosen for one in found] == [0, 0]
    assert training.silences(seen, 10)[0][0].opportunity.user_id == "user-4"
    assert training.silences(6, 10) == ([], 6)


async def test_the_latest_decisions_come_with_what_they_earned(
    store: ServingStore, training: TrainingStore, admin: AdminStore
) -> None:
    made = [decision(user=f"user-{n}", at_ms=1_000 * n) for n in range(1, 9)]
    for one in made:
        await put(store, one)
    training.append([Resolution(name_of(made[2]), 0.5)], {}, None)
    training.append([], {name_of(made[2]): None}, None)

    assert [found.decision for found in admin.recent(3)] == made[:-4:-1]
    before = training.recent(2, before_ms=3_500)
    assert [found.decision for found in before] == [made[2], made[1]]
    assert training.recent(5, before_ms=999) == []
    assert training.recent(1, before_ms=10**9)[0].decision == made[-1]
