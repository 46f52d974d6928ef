"""The store as the server sees it."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from policies.model import Decision, History, Outcome
from policies.promotion import Lineup
from policies.records import encode, encode_decision
from policies.releasing import Model, Release
from server.stores.base import (
    ActiveCatalogue,
    Changed,
    Fold,
    Histories,
    Hold,
    LeaseLostError,
    LedgerEntry,
    Reported,
    Snapshot,
    StoredPast,
    SupplyLease,
)
from server.stores.sqlite import calls, histories, models, reports, supplies
from server.stores.sqlite.rows import load_active, load_catalogue
from server.stores.sqlite.writing import Writer

__all__ = ["SQLiteServing"]


class SQLiteServing:
    """A SQLite file, for one event loop.

    Args:
        path: The file.
        on_failure: Is called once when nothing can be made durable any more, and the
            process had better be started anew.
    """

    def __init__(
        self, path: Path, on_failure: Callable[[], object] = lambda: None
    ) -> None:
        self._writer = Writer(path, on_failure)

    async def past(self, root: str, user_id: str, *, account: bool) -> StoredPast:
        """See `ServingStore.past`."""
        return self._writer.read(
            lambda db: histories.load_past(db, root, user_id, account=account)
        )

    async def decision(self, decision_id: str) -> Decision | None:
        """See `ServingStore.decision`."""
        return self._writer.read(lambda db: calls.load_decision(db, decision_id))

    async def decisions(self, decision_id: str) -> list[Decision]:
        """See `ServingStore.decisions`."""
        return self._writer.read(lambda db: calls.load_call(db, decision_id))

    async def answer(self, decision_id: str, kept_id: str) -> Decision:
        """See `ServingStore.answer`."""
        return await self._writer.write(
            lambda db: calls.answer(db, decision_id, kept_id), durable=False
        )

    async def commit(
        self,
        decision: Decision,
        *,
        call_id: str = "",
        seen: StoredPast,
        after: Histories | None,
        holds: Sequence[Hold] = (),
    ) -> Decision | None:
        """See `ServingStore.commit`."""
        made = calls.Made(
            decision,
            call_id,
            encode_decision(decision),
            seen,
            None if after is None else encode(after.user),
            None if after is None or after.account is None else encode(after.account),
            tuple(holds),
        )
        stored = await self._writer.write(
            lambda db: calls.commit(db, made), durable=False
        )
        if isinstance(stored, frozenset):
            raise LeaseLostError(stored)
        return stored

    async def report(
        self,
        decision: Decision,
        outcomes: Sequence[Outcome],
        fold: Fold,
        *,
        account: bool,
    ) -> Reported:
        """See `ServingStore.report`."""
        return await self._writer.write(
            lambda db: reports.report(db, decision, outcomes, fold, account=account),
            durable=True,
        )

    async def change(
        self,
        root: str,
        user_id: str,
        entry: LedgerEntry,
        fold: Callable[[History], History],
    ) -> Changed:
        """See `ServingStore.change`."""
        return await self._writer.write(
            lambda db: reports.change(db, root, user_id, entry, fold), durable=True
        )

    async def lease(
        self,
        name: str,
        *,
        limit: int,
        need: int,
        want: int,
        until_ms: int,
        at_ms: int,
    ) -> SupplyLease | None:
        """See `SupplyStore.lease`."""
        wanted = SupplyLease(uuid.uuid4().hex, name, want, until_ms)
        return await self._writer.write(
            lambda db: supplies.lease(db, wanted, limit=limit, need=need, at_ms=at_ms),
            durable=False,
        )

    async def renew(self, lease_ids: Collection[str], until_ms: int) -> frozenset[str]:
        """See `SupplyStore.renew`."""
        return await self._writer.write(
            lambda db: supplies.renew(db, lease_ids, until_ms), durable=False
        )

    async def give_back(self, lease_ids: Collection[str]) -> None:
        """See `SupplyStore.give_back`."""
        await self._writer.write(lambda db: supplies.end(db, lease_ids), durable=False)

    async def sweep(self, at_ms: int) -> bool:
        """See `SupplyStore.sweep`."""
        if not self._writer.read(lambda db: supplies.anything_over(db, at_ms)):
            return False
        return await self._writer.write(
            lambda db: supplies.sweep(db, at_ms), durable=False
        )

    async def stopped(self) -> tuple[str, ...]:
        """See `ServingStore.stopped`."""
        return self._writer.read(_load_stopped)

    async def active_catalogue(self) -> ActiveCatalogue:
        """See `ServingStore.active_catalogue`."""
        return self._writer.read(load_active)

    async def release(self, learner: str) -> Release | None:
        """See `ServingStore.release`."""
        return self._writer.read(lambda db: models.load_release(db, learner))

    async def lineup(self) -> Lineup | None:
        """See `ServingStore.lineup`."""
        return self._writer.read(models.load_lineup)

    async def snapshot(self, learner: str, *, at_most: Model) -> Snapshot | None:
        """See `ServingStore.snapshot`."""
        return self._writer.read(
            lambda db: models.load_snapshot(db, learner, at_most=at_most)
        )

    async def catalogue(self, version: str) -> str | None:
        """See `ServingStore.catalogue`."""
        return self._writer.read(lambda db: load_catalogue(db, version))

    async def register(
        self, catalogue: tuple[str, str], policy: tuple[str, str]
    ) -> None:
        """See `ServingStore.register`."""
        await self._writer.write(
            lambda db: _register(db, catalogue, policy), durable=True
        )

    async def close(self) -> None:
        """See `ServingStore.close`."""
        await self._writer.close()


def _register(
    db: sqlite3.Connection, catalogue: tuple[str, str], policy: tuple[str, str]
) -> None:
    db.execute("insert or ignore into catalogue values (?, ?)", catalogue)
    db.execute("insert or ignore into policy values (?, ?)", policy)


def _load_stopped(db: sqlite3.Connection) -> tuple[str, ...]:
    rows = db.execute(
        "select scope from switch where position in"
        " (select max(position) from switch group by scope)"
        " and stopped order by scope"
    )
    return tuple([scope for (scope,) in rows])
