"""Inventories and budgets: who leases how much of them, and what decisions hold.

A counter says how much of a supply is taken. A lease takes from the counter, a hold
from a lease, so that a decision changes only rows of its own process. What is let go
of goes back to the counter: of a lease what no hold took, of a hold all of it.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Collection, Iterable, Sequence

from server.stores.base import Hold, Settlement, SupplyLease

__all__ = [
    "anything_over",
    "end",
    "hold",
    "kept",
    "lease",
    "renew",
    "settle",
    "sweep",
]

_SHARES = 64  # A process that is not the only one leaves most to the others.
_SWEPT_MAX = 500


def lease(
    db: sqlite3.Connection, wanted: SupplyLease, *, limit: int, need: int, at_ms: int
) -> SupplyLease | None:
    """Lease what is wanted or less, but `need` at least; none where that is not left.

    What ended by `at_ms` is in nobody's way.
    """
    left = limit - _taken(db, wanted.name)
    if left < need:
        sweep(db, at_ms)
        left = limit - _taken(db, wanted.name)
    if left < need:
        return None
    amount = max(need, min(wanted.amount, left // _SHARES))
    db.execute(
        "insert into counter(name, taken) values (?, ?)"
        " on conflict do update set taken = taken + excluded.taken",
        (wanted.name, amount),
    )
    made = wanted._replace(amount=amount)
    db.execute(
        "insert into lease(lease_id, name, amount, used, until_ms)"
        " values (?, ?, ?, 0, ?)",
        made,
    )
    return made


def renew(
    db: sqlite3.Connection, lease_ids: Collection[str], until_ms: int
) -> frozenset[str]:
    """Let leases end later; return those that there are."""
    rows = db.execute(
        "update lease set until_ms = max(until_ms, ?)"
        " where lease_id in (select value from json_each(?)) returning lease_id",
        (until_ms, json.dumps(list(lease_ids))),
    )
    return frozenset(lease_id for (lease_id,) in rows.fetchall())


def end(db: sqlite3.Connection, lease_ids: Collection[str]) -> None:
    """End leases; what no hold took from them is free."""
    rows = db.execute(
        "delete from lease where lease_id in (select value from json_each(?))"
        " returning name, amount - used",
        (json.dumps(list(lease_ids)),),
    )
    _free(db, rows.fetchall())


def anything_over(db: sqlite3.Connection, at_ms: int) -> bool:
    """Say whether there is anything to sweep."""
    (over,) = db.execute(
        "select exists(select 1 from lease where until_ms <= ?1) or"
        " exists(select 1 from hold where state = 'held' and until_ms <= ?1)",
        (at_ms,),
    ).fetchone()
    return bool(over)


def sweep(db: sqlite3.Connection, at_ms: int) -> bool:
    """End some of what is over; say whether there may be more."""
    rows = db.execute(
        "select lease_id from lease where until_ms <= ? order by until_ms limit ?",
        (at_ms, _SWEPT_MAX),
    )
    ended = [lease_id for (lease_id,) in rows]
    end(db, ended)
    freed = db.execute(
        "update hold set state = 'released' where (decision_id, name) in"
        " (select decision_id, name from hold where state = 'held' and until_ms <= ?"
        " order by until_ms limit ?) returning name, amount",
        (at_ms, _SWEPT_MAX),
    ).fetchall()
    _free(db, freed)
    return _SWEPT_MAX in (len(ended), len(freed))


def hold(db: sqlite3.Connection, holds: Sequence[Hold]) -> frozenset[str]:
    """Hold all of them or none; return the leases that are gone or have too little."""
    for number, held in enumerate(holds):
        if not _use(db, held.lease_id, held.name, held.amount):
            for before in holds[:number]:
                _use(db, before.lease_id, before.name, -before.amount)
            return frozenset([held.lease_id])
    db.executemany(
        "insert into hold(decision_id, name, amount, until_ms, state)"
        " values (?, ?, ?, ?, 'held')",
        [(h.decision_id, h.name, h.amount, h.until_ms) for h in holds],
    )
    return frozenset()


def settle(db: sqlite3.Connection, decision_id: str, settlement: Settlement) -> None:
    """Do with all that a decision holds what is to be done."""
    match settlement.kind:
        case "charge":
            # All of it or nothing: what was let go of others may have by now.
            if kept(db, decision_id):
                db.execute(
                    "update hold set state = 'charged' where decision_id = ?",
                    (decision_id,),
                )
        case "release":
            _release(db, decision_id, "held")
        case "refund":
            _release(db, decision_id, "held", "charged")
        case "extend":
            db.execute(
                "update hold set until_ms = max(until_ms, ?)"
                " where decision_id = ? and state = 'held'",
                (settlement.until_ms, decision_id),
            )
        case "none":
            pass


def kept(db: sqlite3.Connection, decision_id: str) -> bool | None:
    """Say whether a decision still has all that it took; none where that is nothing."""
    rows = db.execute("select state from hold where decision_id = ?", (decision_id,))
    states = [state for (state,) in rows]
    return "released" not in states if states else None


def _release(db: sqlite3.Connection, decision_id: str, *states: str) -> None:
    freed = db.execute(
        "update hold set state = 'released' where decision_id = ?"
        " and state in (select value from json_each(?)) returning name, amount",
        (decision_id, json.dumps(states)),
    )
    _free(db, freed.fetchall())


def _taken(db: sqlite3.Connection, name: str) -> int:
    row = db.execute("select taken from counter where name = ?", (name,)).fetchone()
    return 0 if row is None else int(row[0])


def _use(db: sqlite3.Connection, lease_id: str, name: str, amount: int) -> bool:
    used = db.execute(
        "update lease set used = used + ?"
        " where lease_id = ? and name = ? and used + ? <= amount",
        (amount, lease_id, name, amount),
    )
    return used.rowcount == 1


def _free(db: sqlite3.Connection, amounts: Iterable[tuple[str, int]]) -> None:
    freed: Counter[str] = Counter()
    for name, amount in amounts:
        freed[name] += amount
    db.executemany(
        "update counter set taken = taken - ? where name = ?",
        [(amount, name) for name, amount in freed.items()],
    )
