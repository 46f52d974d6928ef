"""The store as the server sees it."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from policies import history as histories
from policies.errors import StoreUnavailableError
from policies.identity import root_of
from policies.model import NO_HISTORY, Decision, History, Outcome
from policies.records import (
    decode_decision,
    decode_history,
    decode_outcome,
    encode,
    encode_decision,
)
from server.stores.base import Snapshot, VersionedHistory
from server.stores.sqlite.schema import checkpoint, connect

__all__ = ["SQLiteServing"]

_T = TypeVar("_T")

_LOCK_WAIT_S = 5.0
_LOCK_RETRY_S = 0.001
_RETRY_AFTER_S = 1.0
_WAL_BYTES_MAX = 512 * 2**20  # Far beyond what a learner that is alive lets it grow to.


class _Write(NamedTuple):
    """Something to do within the next transaction."""

    work: Callable[[sqlite3.Connection], Any]
    done: asyncio.Future[Any]
    durable: bool


class SQLiteServing:
    """A SQLite file, for one event loop.

    Writes that are asked for in the same turn of the loop share a transaction. It
    is committed to the WAL, which outlives the process; for outcomes the WAL is
    then synced, which outlives the power, by a thread that many reports share.

    Args:
        path: The file.
        on_failure: Is called once when nothing can be made durable any more, and the
            process had better be started anew.
    """

    def __init__(
        self, path: Path, on_failure: Callable[[], object] = lambda: None
    ) -> None:
        self._connection = connect(path)
        self._on_failure = on_failure
        self._path = path
        self._wal = Path(f"{path}-wal")
        self._wal_descriptor: int | None = None
        self._writes: list[_Write] = []
        self._waiting_since_s: float | None = None
        self._unsynced: list[tuple[asyncio.Future[Any], Any]] = []
        self._syncing: asyncio.Task[None] | None = None
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="sync")
        self._sync_failed = False

    async def history(self, root: str, user_id: str) -> VersionedHistory:
        """See `ServingStore.history`."""
        return self._read(lambda db: _load_history(db, root, user_id))

    async def decision(self, decision_id: str) -> Decision | None:
        """See `ServingStore.decision`."""
        return self._read(lambda db: _load_decision(db, decision_id))

    async def commit(
        self, decision: Decision, *, version: int, after: History | None
    ) -> Decision | None:
        """See `ServingStore.commit`."""
        record = encode_decision(decision)
        folded = None if after is None else encode(after)
        return await self._write(
            lambda db: _commit(db, decision, record, version, folded), durable=False
        )

    async def report(
        self,
        decision: Decision,
        offer: tuple[str, str] | None,
        outcomes: Sequence[Outcome],
    ) -> list[bool]:
        """See `ServingStore.report`."""
        return await self._write(
            lambda db: _report(db, decision, offer, outcomes), durable=True
        )

    async def latest_snapshot(
        self, learner: str, *, after: tuple[int, int]
    ) -> Snapshot | None:
        """See `ServingStore.latest_snapshot`."""
        row = self._read(
            lambda db: db.execute(
                "select learner, epoch, position, body from snapshot"
                " where learner = ? and (epoch, position) > (?, ?)"
                " order by epoch desc, position desc limit 1",
                (learner, *after),
            ).fetchone()
        )
        return None if row is None else Snapshot(*row)

    async def catalogue(self, version: str) -> str | None:
        """See `ServingStore.catalogue`."""
        row = self._read(
            lambda db: db.execute(
                "select text from catalogue where version = ?", (version,)
            ).fetchone()
        )
        return None if row is None else str(row[0])

    async def register(
        self, catalogue: tuple[str, str], policy: tuple[str, str]
    ) -> None:
        """See `ServingStore.register`."""
        await self._write(lambda db: _register(db, catalogue, policy), durable=True)

    async def close(self) -> None:
        """See `ServingStore.close`."""
        await asyncio.gather(
            *(write.done for write in self._writes),
            *(done for done, _ in self._unsynced),
            return_exceptions=True,
        )
        if self._syncing is not None:
            await self._syncing
        self._disk.shutdown()
        if self._wal_descriptor is not None:
            os.close(self._wal_descriptor)
        self._connection.close()

    def _read(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        try:
            return work(self._connection)
        except sqlite3.DatabaseError as error:
            raise StoreUnavailableError(_RETRY_AFTER_S) from error

    async def _write(
        self, work: Callable[[sqlite3.Connection], _T], *, durable: bool
    ) -> _T:
        if durable and self._sync_failed:
            raise StoreUnavailableError(_RETRY_AFTER_S)
        loop = asyncio.get_running_loop()
        done: asyncio.Future[_T] = loop.create_future()
        self._writes.append(_Write(work, done, durable))
        if len(self._writes) == 1:
            loop.call_soon(self._flush)
        return await done

    def _flush(self) -> None:
        """Do all the writes that wait, in one transaction."""
        try:
            self._connection.execute("begin immediate")
        except sqlite3.DatabaseError as error:
            self._wait_for_lock(error)
            return
        self._waiting_since_s = None
        writes, self._writes = self._writes, []
        try:
            results = [write.work(self._connection) for write in writes]
            self._connection.execute("commit")
        except Exception as error:  # noqa: BLE001 - passed on to whom it concerns
            self._connection.rollback()
            self._flush_apart(writes, error)
            return
        for write, result in zip(writes, results, strict=True):
            self._finish(write, result)

    def _flush_apart(self, writes: list[_Write], error: Exception) -> None:
        """Let a write that fails fail alone."""
        if len(writes) == 1:
            if isinstance(error, sqlite3.DatabaseError):
                error = StoreUnavailableError(_RETRY_AFTER_S)
            if not writes[0].done.done():
                writes[0].done.set_exception(error)
            return
        waiting, self._writes = self._writes, []
        for write in writes:
            self._writes = [write]
            self._flush()
            waiting = [*self._writes, *waiting]
        self._writes = waiting
        if waiting:
            asyncio.get_running_loop().call_soon(self._flush)

    def _wait_for_lock(self, error: sqlite3.DatabaseError) -> None:
        """Try again when another process has committed, or give up."""
        loop = asyncio.get_running_loop()
        if self._waiting_since_s is None:
            self._waiting_since_s = loop.time()
        busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
        if busy and loop.time() < self._waiting_since_s + _LOCK_WAIT_S:
            loop.call_later(_LOCK_RETRY_S, self._flush)
            return
        self._waiting_since_s = None
        writes, self._writes = self._writes, []
        for write in writes:
            if not write.done.done():
                write.done.set_exception(StoreUnavailableError(_RETRY_AFTER_S))

    def _finish(self, write: _Write, result: object) -> None:
        if not write.durable:
            if not write.done.done():
                write.done.set_result(result)
            return
        self._unsynced.append((write.done, result))
        if self._syncing is None:
            self._syncing = asyncio.get_running_loop().create_task(self._sync())

    async def _sync(self) -> None:
        """Sync the WAL, again and again while anything waits for it."""
        loop = asyncio.get_running_loop()
        while self._unsynced:
            synced, self._unsynced = self._unsynced, []
            try:
                await loop.run_in_executor(self._disk, self._sync_wal)
            except OSError:
                # After a failed sync nobody can say what is on the disk: what was
                # written may be lost although a second sync succeeds.
                self._sync_failed = True
                self._on_failure()
            for done, result in synced:
                if done.done():
                    continue
                if self._sync_failed:
                    done.set_exception(StoreUnavailableError(_RETRY_AFTER_S))
                else:
                    done.set_result(result)
        self._syncing = None

    def _sync_wal(self) -> None:
        if self._wal_descriptor is None:
            # The WAL lives as long as this process is connected.
            self._wal_descriptor = os.open(self._wal, os.O_RDONLY)
        os.fsync(self._wal_descriptor)
        if os.fstat(self._wal_descriptor).st_size > _WAL_BYTES_MAX:
            checkpoint(self._path)


def _register(
    db: sqlite3.Connection, catalogue: tuple[str, str], policy: tuple[str, str]
) -> None:
    db.execute("insert or ignore into catalogue values (?, ?)", catalogue)
    db.execute("insert or ignore into policy values (?, ?)", policy)


def _load_history(db: sqlite3.Connection, root: str, user_id: str) -> VersionedHistory:
    row = db.execute(
        "select version, record from history where root = ? and user_id = ?",
        (root, user_id),
    ).fetchone()
    if row is None:
        return VersionedHistory(0, NO_HISTORY)
    return VersionedHistory(row[0], decode_history(row[1]))


def _load_decision(db: sqlite3.Connection, decision_id: str) -> Decision | None:
    row = db.execute(
        "select record from decision where decision_id = ?", (decision_id,)
    ).fetchone()
    return None if row is None else decode_decision(row[0])


def _version(db: sqlite3.Connection, root: str, user_id: str) -> int:
    row = db.execute(
        "select version from history where root = ? and user_id = ?", (root, user_id)
    ).fetchone()
    return 0 if row is None else int(row[0])


def _save_history(
    db: sqlite3.Connection, root: str, user_id: str, version: int, record: str
) -> bool:
    """Replace a history that is still at `version`; say whether it was."""
    if version == 0:
        saved = db.execute(
            "insert into history(root, user_id, version, record) values (?, ?, 1, ?)"
            " on conflict do nothing",
            (root, user_id, record),
        )
    else:
        saved = db.execute(
            "update history set version = version + 1, record = ?"
            " where root = ? and user_id = ? and version = ?",
            (record, root, user_id, version),
        )
    return saved.rowcount == 1


def _commit(
    db: sqlite3.Connection,
    decision: Decision,
    record: str,
    version: int,
    after: str | None,
) -> Decision | None:
    opportunity = decision.opportunity
    decision_id = opportunity.decision_id
    inserted = db.execute(
        "insert into decision(decision_id, at_ms, record) values (?, ?, ?)"
        " on conflict do nothing",
        (decision_id, opportunity.at_ms, record),
    )
    if inserted.rowcount == 0:
        return _load_decision(db, decision_id)
    root = root_of(decision_id)
    if after is None:
        # Were a silence taken on a history that has changed, and an offer not, then
        # what is logged would depend on what was drawn.
        unchanged = _version(db, root, opportunity.user_id) == version
    else:
        unchanged = _save_history(db, root, opportunity.user_id, version, after)
    if unchanged:
        return decision
    db.execute("delete from decision where position = ?", (inserted.lastrowid,))
    return None


def _report(
    db: sqlite3.Connection,
    decision: Decision,
    offer: tuple[str, str] | None,
    outcomes: Sequence[Outcome],
) -> list[bool]:
    decision_id = decision.opportunity.decision_id
    known = [
        decode_outcome(record)
        for (record,) in db.execute(
            "select record from outcome where decision_id = ?", (decision_id,)
        )
    ]
    names = {outcome.outcome_id for outcome in known}
    fresh: list[bool] = []
    news: list[Outcome] = []
    for outcome in outcomes:
        fresh.append(outcome.outcome_id not in names)
        if fresh[-1]:
            names.add(outcome.outcome_id)
            news.append(outcome)
    db.executemany(
        "insert into outcome(decision_id, outcome_id, record) values (?, ?, ?)",
        [(decision_id, outcome.outcome_id, encode(outcome)) for outcome in news],
    )
    if offer is not None and news:
        _fold(db, decision, offer, news, known)
    return fresh


def _fold(
    db: sqlite3.Connection,
    decision: Decision,
    offer: tuple[str, str],
    news: Sequence[Outcome],
    known: Sequence[Outcome],
) -> None:
    """Fold new outcomes into the user's history."""
    opportunity = decision.opportunity
    root = root_of(opportunity.decision_id)
    version, before = _load_history(db, root, opportunity.user_id)
    confirmed = any(outcome.kind in histories.CONFIRMING for outcome in known)
    after = before
    for outcome in news:
        after = histories.report(
            after, *offer, opportunity.decision_id, outcome, confirmed=confirmed
        )
        confirmed = confirmed or outcome.kind in histories.CONFIRMING
    if after != before:
        _save_history(db, root, opportunity.user_id, version, encode(after))
