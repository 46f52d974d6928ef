"""This process's parts of inventories and budgets.

What the candidates of a request need is leased before the draw, so that whether an
offer can be had depends on nothing that is drawn. A part that nothing was taken from
for a while is given back; when this process dies, all of them end by themselves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from server.stores.base import Hold, LeaseLostError, SupplyStore

__all__ = ["Supplies"]

_LEASE_MS = 10_000
_RENEW_MS = 5_000
_IDLE_MS = 2_000
_REFUSED_MS = 250
_NEEDS_MAX = 256  # So many decisions can take from what is leased at once.


@dataclass(slots=True, eq=False)
class _Part:
    """A lease of this process.

    Attributes:
        name: The supply.
        limit: How much of it there was altogether when it was leased.
        left: How much may still be taken.
        taken_ms: When something was taken last.
        until_ms: When the lease ends.
    """

    lease_id: str
    name: str
    limit: int
    left: int
    taken_ms: int
    until_ms: int


@dataclass(frozen=True, slots=True)
class _Refusal:
    """That less than an amount was left of a supply, which is believed for a while."""

    amount: int
    limit: int
    until_ms: int

    def believed_at(self, now_ms: int) -> bool:
        """Return whether it still holds; a clock that went back ends it."""
        return now_ms < self.until_ms <= now_ms + _REFUSED_MS


class Supplies:
    """What one process may hand out, for one event loop.

    Between `prepare` and `take` the loop must not turn: others might take the same.

    Args:
        store: Where supplies are leased.
        clock: The time.
    """

    def __init__(self, store: SupplyStore, clock: Callable[[], int]) -> None:
        self._store = store
        self._clock = clock
        self._parts: dict[str, _Part] = {}
        self._open: dict[str, list[_Part]] = {}
        self._unwanted: set[str] = set()
        self._refusals: dict[str, _Refusal] = {}
        self._leasing: dict[str, asyncio.Task[None]] = {}

    async def prepare(self, needs: Mapping[str, tuple[int, int]]) -> frozenset[str]:
        """Make sure that there is enough to take from, of every supply that has it.

        Args:
            needs: By supply, how much of it there is altogether, and how much a
                decision would take: 1 or more.

        Returns:
            The supplies of which so much is not left.

        Raises:
            StoreUnavailableError: If it cannot be said of one.
        """
        now_ms = self._clock()
        told: set[str] = set()
        while True:
            scarce = [
                n for n, (lim, need) in needs.items() if not self._has(n, lim, need)
            ]
            missing = [
                n
                for n in scarce
                if not self._refused(n, *needs[n])
                or not (n in told or self._refusals[n].believed_at(now_ms))
            ]
            if not missing:
                return frozenset(scarce)
            before = {n: self._refusals.get(n) for n in missing}
            await asyncio.gather(*(self._lease(n, *needs[n]) for n in missing))
            # An answer to this call holds, however late it is.
            told |= {n for n in missing if self._refusals.get(n) is not before[n]}

    def take(self, name: str, amount: int, *, decision_id: str, until_ms: int) -> Hold:
        """Take what was prepared, for a decision that is to be stored now.

        Args:
            name: The supply.
            amount: How much of it.
            decision_id: The decision.
            until_ms: When the decision lets go of it, unless that is extended.

        Raises:
            LeaseLostError: If it was not prepared, or others have taken it since.
        """
        part = self._find(name, amount)
        if part is None:
            raise LeaseLostError([])
        part.left -= amount
        part.taken_ms = self._clock()
        if part.left == 0:
            self._close(part)
        return Hold(decision_id, name, part.lease_id, amount, until_ms)

    def undo(self, hold: Hold) -> None:
        """Put back what a decision took that was not stored."""
        part = self._parts.get(hold.lease_id)
        if part is None:
            return
        if part.left == 0:
            self._open.setdefault(part.name, []).append(part)
        part.left += hold.amount

    def forget(self, lease_ids: Collection[str]) -> None:
        """Take nothing more from leases that the store has lost."""
        for lease_id in lease_ids:
            part = self._parts.pop(lease_id, None)
            if part is not None:
                self._close(part)
            self._unwanted.add(lease_id)

    async def tidy(self) -> None:
        """Give back what is idle, renew the rest, and end what others left behind.

        It is to be called about twice a second.

        Raises:
            StoreUnavailableError: If the store is not available. What was to be given
                back will end by itself.
        """
        now_ms = self._clock()
        # A clock that went back makes everything look as if it was just taken.
        idle = [
            part
            for part in self._parts.values()
            if not 0 <= now_ms - part.taken_ms < _IDLE_MS
        ]
        self.forget([part.lease_id for part in idle])
        await self._give_back()
        await self._renew(now_ms)
        self._refusals = {
            name: refusal
            for name, refusal in self._refusals.items()
            if refusal.believed_at(now_ms)
        }
        while await self._store.sweep(now_ms):
            pass

    async def close(self) -> None:
        """Give everything back."""
        await asyncio.gather(*self._leasing.values(), return_exceptions=True)
        self.forget(list(self._parts))
        await self._give_back()

    def _find(self, name: str, amount: int) -> _Part | None:
        """Find what may be taken from.

        What has ended in a long pause is left to no draw: only what is drawn would
        notice, and be drawn again.
        """
        now_ms = self._clock()
        for part in self._open.get(name, ()):
            if part.left >= amount and now_ms < part.until_ms:
                return part
        return None

    def _has(self, name: str, limit: int, amount: int) -> bool:
        part = self._find(name, amount)
        if part is not None and part.limit > limit:
            # It was leased when there was more of it.
            self.forget([other.lease_id for other in self._open[name]])
            return False
        return part is not None

    def _refused(self, name: str, limit: int, amount: int) -> bool:
        refusal = self._refusals.get(name)
        return (
            refusal is not None and refusal.amount <= amount and refusal.limit >= limit
        )

    async def _lease(self, name: str, limit: int, need: int) -> None:
        """Ask the store, or wait for the answer to who has asked just now.

        A request that is given up does not take the answer with it.
        """
        task = self._leasing.get(name)
        if task is None:
            task = asyncio.create_task(self._ask(name, limit, need))
            self._leasing[name] = task
            task.add_done_callback(lambda done: self._answered(name, done))
        await asyncio.shield(task)

    def _answered(self, name: str, task: asyncio.Task[None]) -> None:
        del self._leasing[name]
        if not task.cancelled():
            task.exception()  # Whoever still waits for it is told.

    async def _ask(self, name: str, limit: int, need: int) -> None:
        now_ms = self._clock()
        lease = await self._store.lease(
            name,
            limit=limit,
            need=need,
            want=need * _NEEDS_MAX,
            until_ms=now_ms + _LEASE_MS,
            at_ms=now_ms,
        )
        now_ms = self._clock()
        if lease is None:
            self._refusals[name] = _Refusal(need, limit, now_ms + _REFUSED_MS)
            return
        part = _Part(lease.lease_id, name, limit, lease.amount, now_ms, lease.until_ms)
        self._parts[part.lease_id] = part
        self._open.setdefault(name, []).append(part)

    def _close(self, part: _Part) -> None:
        """Let nothing more be taken from a part."""
        parts = self._open.get(part.name, [])
        if part in parts:
            parts.remove(part)
        if not parts:
            self._open.pop(part.name, None)

    async def _give_back(self) -> None:
        unwanted, self._unwanted = self._unwanted, set()
        if unwanted:
            await self._store.give_back(unwanted)

    async def _renew(self, now_ms: int) -> None:
        ending = {
            lease_id
            for lease_id, part in self._parts.items()
            if part.until_ms - now_ms <= _RENEW_MS
        }
        if not ending:
            return
        until_ms = now_ms + _LEASE_MS
        renewed = await self._store.renew(ending, until_ms)
        self.forget(ending - renewed)
        for lease_id in renewed & self._parts.keys():
            self._parts[lease_id].until_ms = until_ms
