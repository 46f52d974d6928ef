"""What is promised of a SQLite file alone; see tests/contracts for the rest."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
import sqlite_utils

from policies.errors import StoreUnavailableError
from policies.identity import root_of
from policies.model import NO_OFFER, Resolution
from policies.promotion import Lineup
from policies.records import (
    decode_decision,
    decode_outcome,
    encode,
    encode_decision,
)
from server.stores.base import (
    Contest,
    Histories,
    LedgerEntry,
    ModelChange,
    ServingStore,
    Snapshot,
    Versioned,
)
from server.stores.opening import (
    migrate_store,
    open_admin,
    open_serving,
    open_training,
)
from server.stores.sqlite import SQLiteServing, schema
from tests.contracts.stores import (
    UNSEEN,
    decision,
    held,
    more,
    name_of,
    outcome,
    past,
    put,
    tell,
    version,
)


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
        for use in (open_serving, open_training, open_admin):
            with pytest.raises(RuntimeError, match="store at"):
                use(f"sqlite:///{file}")


async def test_a_store_of_an_earlier_version_keeps_what_it_holds(
    tmp_path: Path,
) -> None:
    path = tmp_path / "old.db"
    made, later = decision(), decision(request="later")
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("pragma journal_mode = wal")
        schema._migrations.apply(
            sqlite_utils.Database(db), stop_before="m003_decide_several_at_once"
        )
        db.execute(
            "insert into decision(decision_id, at_ms, record) values (?, ?, ?)",
            (name_of(made), 1_000, encode_decision(made)),
        )
        db.execute(
            "insert into history values (?, ?, 3, ?)",
            (root_of(name_of(made)), "ada", encode(held(made))),
        )

    migrate_store(f"sqlite:///{path}")

    store = open_serving(f"sqlite:///{path}")
    assert await store.decisions(name_of(made)) == [made]
    assert await past(store, made) == (Versioned(3, held(made)), None)
    await put(store, later, decision(request="later", slot=1))
    await store.close()
    with closing(sqlite3.connect(path)) as db:
        calls = db.execute("select call_id from decisions_v1 order by position")
        assert [call_id for (call_id,) in calls] == [
            name_of(made),
            name_of(later),
            name_of(later),
        ]


async def test_people_read_the_views_with_their_own_tools(
    path: Path, alone: ServingStore
) -> None:
    made = decision()
    await put(alone, made, decision(slot=1))
    await tell(alone, made, outcome())
    await alone.register(("v", "text"), ("p", "{}"))
    await alone.change("root", "ada", LedgerEntry("e", "k", 1, "s"), more)
    admin = open_admin(f"sqlite:///{path}")
    admin.stop("all", who="ada", reason="r", at_ms=1)
    admin.activate("v", "text", at_ms=1, who="ada", reason="r", diff="")
    admin.close()
    training = open_training(f"sqlite:///{path}")
    training.append([Resolution(name_of(made), 0.5)], {}, None)
    training.publish(Snapshot("a", 1, 1, b"x"), keep=1)
    training.change_lineup(
        Lineup("b"), ModelChange(0, "b", "promote", "", 1, "ada", "r")
    )
    training.record_contest(
        Contest("b", "default", 1, 1, 100, 1.0, 0.1, -0.1, 0.3, "open")
    )
    training.close()

    db = sqlite_utils.Database(path)
    views = {view.name: list(view.rows) for view in db.views}
    db.close()

    assert views.keys() == {
        "resolutions_v2",
        *(
            f"{name}_v1"
            for name in (
                "decisions",
                "outcomes",
                "resolutions",
                "snapshots",
                "catalogues",
                "policies",
                "ledger",
                "switches",
                "activations",
                "releases",
                "model_changes",
                "lineups",
                "contests",
            )
        ),
    }
    decisions = views.pop("decisions_v1")
    assert [row["call_id"] for row in decisions] == [name_of(made)] * 2
    assert list(decisions[0]) == [
        "position",
        "decision_id",
        "at_ms",
        "record",
        "call_id",
    ]
    assert decode_decision(decisions[0]["record"]) == made
    assert all(len(rows) == 1 for rows in views.values())
    assert decode_outcome(views["outcomes_v1"][0]["record"]) == outcome()
    assert views["resolutions_v1"][0]["reward"] == 0.5
    assert views["resolutions_v2"][0]["before"] is None


async def test_writes_of_one_moment_share_a_commit(alone: ServingStore) -> None:
    assert isinstance(alone, SQLiteServing)
    statements: list[str] = []
    alone._writer._connection.set_trace_callback(statements.append)
    made = [decision(user=f"user-{n}") for n in range(20)]

    await asyncio.gather(*(alone.commit(d, seen=UNSEEN, after=None) for d in made))

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
            alone.commit(d, seen=UNSEEN, after=Histories(held(good[0])))
            for d in (*good[:10], bad, *good[10:])
        ),
        return_exceptions=True,
    )

    assert isinstance(results.pop(10), Exception)
    assert results == good
    assert await past(alone, bad) == UNSEEN
    for one in good:
        assert await alone.decision(name_of(one)) == one
        assert await version(alone, one) == 1


async def test_a_store_that_another_holds_is_waited_for(
    path: Path, alone: ServingStore
) -> None:
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("begin immediate")
    made = decision()

    commit = asyncio.ensure_future(alone.commit(made, seen=UNSEEN, after=None))
    turns = 0
    for _ in range(50):  # The loop goes on meanwhile, and reads are answered.
        await asyncio.sleep(0)
        assert await alone.decision(name_of(made)) is None
        turns += 1
    assert not commit.done()
    holder.execute("rollback")
    holder.close()

    assert await commit == made
    assert turns == 50


async def test_a_store_that_another_holds_for_long_is_unavailable(
    path: Path, alone: ServingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.stores.sqlite.writing._LOCK_WAIT_S", 0.05)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("begin immediate")
    made = decision()

    for write in (
        alone.commit(made, seen=UNSEEN, after=None),
        tell(alone, made, outcome()),
    ):
        with pytest.raises(StoreUnavailableError):
            await write
    holder.execute("rollback")
    holder.close()

    # The same call may be made again, and nothing of the first try is there.
    assert await alone.commit(made, seen=UNSEEN, after=None) == made
    assert (await tell(alone, made, outcome())).fresh == [True]


async def test_a_caller_who_gives_up_harms_nobody(alone: ServingStore) -> None:
    made = [decision(user=f"user-{n}") for n in range(10)]
    writes = [asyncio.ensure_future(tell(alone, d, outcome())) for d in made]
    await asyncio.sleep(0)

    for write in writes[::2]:
        write.cancel()
    done = await asyncio.gather(*writes, return_exceptions=True)

    assert all(isinstance(one, asyncio.CancelledError) for one in done[::2])
    assert [(await one).fresh for one in writes[1::2]] == [[True]] * 5


async def test_a_store_that_can_make_nothing_durable_any_more_says_so_once(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures: list[None] = []
    store = open_serving(f"sqlite:///{path}", on_failure=lambda: failures.append(None))
    made = decision(chosen=NO_OFFER)
    await put(store, made)

    def fail(descriptor: int) -> None:
        raise OSError(5, "input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    for name in "ab":
        with pytest.raises(StoreUnavailableError):
            await tell(store, made, outcome(name))

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
