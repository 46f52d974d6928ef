"""The tables, how they came to be, and the views that others may read.

The tables may change with any version. What reads the file from outside, like the
simulator, reads the views, whose names say their version and whose columns stay.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from sqlite_utils import Database
from sqlite_utils.db import Table
from sqlite_utils.migrations import Migrations

__all__ = ["checkpoint", "connect", "migrate", "transaction"]

_WAL_BYTES = 64 * 2**20
_LOCK_WAIT_S = 30.0
_LOCK_RETRY_S = 0.001


_migrations = Migrations("opportune")


@_migrations()
def m001_decide_report_learn(db: Database) -> None:
    """Keep decisions, outcomes, histories, the training stream and models."""
    _create(
        db,
        "decision",
        {"position": int, "decision_id": str, "at_ms": int, "record": str},
        "position",
    )
    db.table("decision").create_index(["decision_id"], unique=True)
    _create(
        db,
        "outcome",
        {"position": int, "decision_id": str, "outcome_id": str, "record": str},
        "position",
    )
    db.table("outcome").create_index(["decision_id", "outcome_id"], unique=True)
    # One tree, not a table and an index: every decision that shows an offer writes it.
    db.execute(
        "create table history(root text not null, user_id text not null,"
        " version integer not null, record text not null,"
        " primary key (root, user_id)) strict, without rowid"
    )
    _create(
        db,
        "resolution",
        {
            "epoch": int,
            "position": int,
            "decision_id": str,
            "reward": float,
            "revision": int,
        },
        ("epoch", "position"),
    )
    _create(
        db,
        "joined",
        {"decision_id": str, "revision": int, "reward": float, "due_ms": int},
        "decision_id",
        nullable=("reward", "due_ms"),
    )
    db.execute("create index due on joined(due_ms) where due_ms is not null")
    _create(
        db,
        "progress",
        {"epoch": int, "outcome_position": int, "decision_position": int},
        "epoch",
    )
    db.table("progress").insert(
        {"epoch": 1, "outcome_position": 0, "decision_position": 0}
    )
    _create(
        db,
        "snapshot",
        {"learner": str, "epoch": int, "position": int, "body": bytes},
        ("learner", "epoch", "position"),
    )
    _create(db, "catalogue", {"version": str, "text": str}, "version")
    _create(db, "policy", {"version": str, "settings": str}, "version")


@_migrations()
def m002_publish_views(db: Database) -> None:
    """Let others read the log without knowing the tables."""
    for view, table, columns in (
        ("decisions_v1", "decision", "position, decision_id, at_ms, record"),
        ("outcomes_v1", "outcome", "position, decision_id, outcome_id, record"),
        (
            "resolutions_v1",
            "resolution",
            "epoch, position, decision_id, reward, revision",
        ),
        ("snapshots_v1", "snapshot", "learner, epoch, position, body"),
        ("catalogues_v1", "catalogue", "version, text"),
        ("policies_v1", "policy", "version, settings"),
    ):
        db.create_view(view, f"select {columns} from [{table}]")


@_migrations()
def m003_decide_several_at_once(db: Database) -> None:
    """Let one call make several decisions; those after the first name the first."""
    db.execute("alter table decision add column call_id text")
    # The first decision of a call, which most calls have alone, is not in it.
    db.execute("create index call on decision(call_id) where call_id is not null")
    db.execute("drop view decisions_v1")
    db.create_view(
        "decisions_v1",
        "select position, decision_id, at_ms, record,"
        " coalesce(call_id, decision_id) as call_id from decision",
    )


@_migrations()
def m004_share_supplies(db: Database) -> None:
    """Keep inventories and budgets: what is taken of them, by whom, and until when.

    Always, for each name: `taken` = what leases have left + what is held or charged.
    """
    db.execute(
        "create table counter(name text primary key, taken integer not null)"
        " strict, without rowid"
    )
    db.execute(
        "create table lease(lease_id text primary key, name text not null,"
        " amount integer not null, used integer not null, until_ms integer not null)"
        " strict, without rowid"
    )
    db.execute("create index lease_end on lease(until_ms)")
    db.execute(
        "create table hold(decision_id text not null, name text not null,"
        " amount integer not null, until_ms integer not null, state text not null,"
        " primary key (decision_id, name)) strict, without rowid"
    )
    db.execute("create index hold_end on hold(until_ms) where state = 'held'")


@_migrations()
def m005_say_who_and_why(db: Database) -> None:
    """Keep what was told of users, what was stopped, and what was activated."""
    _create(
        db,
        "ledger",
        {
            "position": int,
            "root": str,
            "user_id": str,
            "event_id": str,
            "kind": str,
            "at_ms": int,
            "source": str,
            "record": str,
        },
        "position",
    )
    db.table("ledger").create_index(["root", "user_id", "event_id"], unique=True)
    _create(
        db,
        "switch",
        {
            "position": int,
            "scope": str,
            "stopped": int,
            "at_ms": int,
            "who": str,
            "reason": str,
        },
        "position",
    )
    _create(
        db,
        "activation",
        {
            "position": int,
            "version": str,
            "at_ms": int,
            "who": str,
            "reason": str,
            "previous": str,
            "diff": str,
            "accepted": int,
            "problems": str,
        },
        "position",
    )
    for view, table in (
        ("ledger_v1", "ledger"),
        ("switches_v1", "switch"),
        ("activations_v1", "activation"),
    ):
        columns = ", ".join(column.name for column in db.table(table).columns)
        db.create_view(view, f"select {columns} from [{table}]")


@_migrations()
def m006_answer_with_an_earlier_decision(db: Database) -> None:
    """Remember the requests that were answered with a decision of another request."""
    db.execute(
        "create table answer(decision_id text primary key, kept_id text not null)"
        " strict, without rowid"
    )


@_migrations()
def m007_correct_and_rebuild(db: Database) -> None:
    """Say what a correction takes the place of, and let streams begin anew.

    The rows of an epoch that is being prepared are no part of the log yet.
    """
    db.execute("alter table resolution add column before real")
    db.execute("alter table resolution add column earned real")
    db.execute("alter table joined add column earned real")
    begun = "from resolution where epoch <= (select max(epoch) from progress)"
    columns = "epoch, position, decision_id, reward, revision"
    db.execute("drop view resolutions_v1")
    db.create_view("resolutions_v1", f"select {columns} {begun}")
    db.create_view("resolutions_v2", f"select {columns}, before, earned {begun}")


@_migrations()
def m008_let_models_live(db: Database) -> None:
    """Say which models serve, who made them, and how challengers compare.

    What was published last serves on.
    """
    db.execute("alter table snapshot add column at_ms integer not null default 0")
    _create(db, "release", {"learner": str, "record": str}, "learner")
    db.execute(
        "insert into release(learner, record) select learner, json_object('serving',"
        " json_array(epoch, position), 'who', 'the server', 'reason', 'it served')"
        " from (select learner, epoch, position, row_number() over (partition by"
        " learner order by epoch desc, position desc) as place from snapshot)"
        " where place = 1"
    )
    _create(
        db,
        "model_change",
        {
            "position": int,
            "subject": str,
            "what": str,
            "model": str,
            "at_ms": int,
            "who": str,
            "reason": str,
        },
        "position",
    )
    _create(db, "lineup", {"position": int, "record": str}, "position")
    # A trial that is deleted leaves its position to no other.
    db.execute(
        "create table trial(position integer primary key autoincrement,"
        " challenger text not null, champion text not null, decision_id text not null,"
        " weight real not null, base real not null, agrees integer not null,"
        " unique (challenger, champion, decision_id)) strict"
    )
    db.execute("create index trial_order on trial(challenger, champion, position)")
    # One row: only what is decided and learned from now on is compared.
    db.execute(
        "create table tried(silences integer not null, epoch integer not null,"
        " row integer not null) strict"
    )
    db.execute(
        "insert into tried select (select coalesce(max(position), 0) from decision),"
        " epoch, (select coalesce(max(position), 0) from resolution r"
        " where r.epoch = p.epoch) from progress p order by epoch desc limit 1"
    )
    _create(
        db,
        "contest",
        {
            "challenger": str,
            "champion": str,
            "position": int,
            "at_ms": int,
            "n": int,
            "agreement": float,
            "value": float,
            "low": float,
            "high": float,
            "verdict": str,
        },
        ("challenger", "champion", "position"),
    )
    for view, table in (
        ("releases_v1", "release"),
        ("model_changes_v1", "model_change"),
        ("lineups_v1", "lineup"),
        ("contests_v1", "contest"),
    ):
        columns = ", ".join(column.name for column in db.table(table).columns)
        db.create_view(view, f"select {columns} from [{table}]")


@_migrations()
def m009_write_models_in_parts(db: Database) -> None:
    """Let a large model be written piece by piece, so that nobody waits for it.

    The parts of a model come before what is in its row, and are there before it.
    """
    _create(
        db,
        "snapshot_part",
        {"learner": str, "epoch": int, "position": int, "part": int, "body": bytes},
        ("learner", "epoch", "position", "part"),
    )
    db.execute("drop view snapshots_v1")
    # `||` gives a text of the same bytes, whatever they are.
    whole = (
        "with recursive whole(part, body) as (select 0, x'' union all"
        " select p.part + 1, cast(whole.body || p.body as blob) from whole"
        " join snapshot_part p on (p.learner, p.epoch, p.position, p.part)"
        " = (s.learner, s.epoch, s.position, whole.part))"
        " select cast(whole.body || s.body as blob) from whole"
        " order by whole.part desc limit 1"
    )
    db.create_view(
        "snapshots_v1",
        f"select learner, epoch, position, ({whole}) as body from snapshot s",
    )


def migrate(path: Path) -> None:
    """Make the file, or bring it up to date.

    Raises:
        RuntimeError: If it cannot be one of ours; it stays as it is.
    """
    try:
        connection = sqlite3.connect(path, isolation_level=None)
    except sqlite3.Error as error:
        if not path.parent.is_dir():
            raise RuntimeError(
                f"cannot make the store {path}: there is no folder {path.parent}; make"
                " it, or mend `url` in [store]"
            ) from error
        raise RuntimeError(f"cannot open {path}: {error}") from error
    try:
        _refuse_others(connection, path)
        connection.execute("pragma journal_mode = wal")
        _migrations.apply(Database(connection))
    except sqlite3.Error as error:
        raise RuntimeError(f"cannot use {path} as a store: {error}") from error
    finally:
        connection.close()


def _refuse_others(connection: sqlite3.Connection, path: Path) -> None:
    """Leave the files of other programs as they are."""
    names = {name for (name,) in connection.execute("select name from sqlite_master")}
    if names and "decision" not in names:
        raise RuntimeError(f"{path} holds tables of another program")


def connect(path: Path) -> sqlite3.Connection:
    """Open an up-to-date file, for writing, without waiting for locks or disks.

    Raises:
        RuntimeError: If the file is not there or not up to date.
    """
    if not path.exists():
        raise RuntimeError(f"there is no store at {path}")
    connection = sqlite3.connect(path, isolation_level=None)
    if _migrations.pending(Database(connection)):
        connection.close()
        raise RuntimeError(f"the store at {path} is not up to date: run migrations")
    connection.execute("pragma synchronous = normal")
    connection.execute("pragma wal_autocheckpoint = 0")
    connection.execute("pragma cache_size = -65536")
    connection.execute("pragma busy_timeout = 0")
    connection.execute(f"pragma journal_size_limit = {_WAL_BYTES}")
    return connection


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """Hold the write lock, once it can be had, and commit; for who may wait."""
    give_up = time.monotonic() + _LOCK_WAIT_S
    while True:
        try:
            connection.execute("begin immediate")
            break
        except sqlite3.OperationalError as error:
            busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            if not busy or time.monotonic() > give_up:
                raise
            time.sleep(_LOCK_RETRY_S)
    try:
        yield connection
        connection.execute("commit")
    except BaseException:
        connection.rollback()
        raise


def checkpoint(path: Path) -> None:
    """Copy the WAL into the file, and start it anew if nobody minds."""
    with closing(connect(path)) as connection:
        connection.execute("pragma wal_checkpoint(passive)").fetchone()
        connection.execute("pragma wal_checkpoint(restart)").fetchone()


def _create(
    db: Database,
    name: str,
    columns: dict[str, type],
    pk: str | tuple[str, ...],
    nullable: tuple[str, ...] = (),
) -> None:
    table = db.table(name)
    if not isinstance(table, Table):
        raise TypeError(f"{name} is a view")
    table.create(
        columns, pk=pk, not_null=[c for c in columns if c not in nullable], strict=True
    )
