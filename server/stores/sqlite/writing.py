"""One connection of an event loop, whose writes share transactions and syncs."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from policies.errors import StoreUnavailableError
from server.stores.sqlite.schema import checkpoint, connect

__all__ = ["Writer"]

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


class Writer:
    """A SQLite file, for one event loop.

    Writes that are asked for in the same turn of the loop share a transaction. It
    is committed to the WAL, which outlives the process; what is to be durable waits
    until the WAL is synced, which outlives the power, by a thread that many share.

    Args:
        path: The file.
        on_failure: Is called once when nothing can be made durable any more, and the
            process had better be started anew.
    """

    def __init__(self, path: Path, on_failure: Callable[[], object]) -> None:
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

    async def close(self) -> None:
        """Finish what is under way, and let go of the file."""
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

    def read(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Return what is read, at once.

        Raises:
            StoreUnavailableError: If it cannot be read.
        """
        try:
            return work(self._connection)
        except sqlite3.DatabaseError as error:
            raise StoreUnavailableError(_RETRY_AFTER_S) from error

    async def write(
        self, work: Callable[[sqlite3.Connection], _T], *, durable: bool
    ) -> _T:
        """Return what is done in the next transaction, once it is committed.

        Args:
            work: Is done within the transaction; again, if another's work fails.
            durable: Whether to wait until it is on disk.

        Raises:
            StoreUnavailableError: If it cannot be done, or not be made durable.
        """
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
