"""Calls and their decisions: stored together, or not at all."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

from policies.identity import root_of
from policies.model import Decision
from policies.records import decode_decision
from server.stores.base import Hold, StoredPast
from server.stores.sqlite import supplies
from server.stores.sqlite.histories import WHOLE, save_record, unchanged

__all__ = ["Call", "answer", "commit", "load_call", "load_decision"]


class Call(NamedTuple):
    """The decisions of one call, and all that is stored with them.

    Attributes:
        records: The decisions, as they are written.
        user: The user's history after them, likewise; none where it stays as it is.
        account: The same of the account.
    """

    decisions: Sequence[Decision]
    records: Sequence[str]
    seen: StoredPast
    user: str | None
    account: str | None
    holds: Sequence[Hold]


def load_decision(db: sqlite3.Connection, decision_id: str) -> Decision | None:
    """Return a decision; none where it was never made."""
    row = db.execute(
        "select record from decision where decision_id = ?", (decision_id,)
    ).fetchone()
    return None if row is None else decode_decision(row[0])


def answer(db: sqlite3.Connection, decision_id: str, kept_id: str) -> list[Decision]:
    """Let a request be answered with a decision of another, if it has no answer yet.

    Returns:
        What it is answered with.
    """
    stored = load_call(db, decision_id)
    if stored:
        return stored
    db.execute("insert into answer values (?, ?)", (decision_id, kept_id))
    return load_call(db, decision_id)


def load_call(db: sqlite3.Connection, decision_id: str) -> list[Decision]:
    """Return the decisions that a request was answered with, in order."""
    stored = _load_own(db, decision_id)
    if stored:
        return stored
    row = db.execute(
        "select kept_id from answer where decision_id = ?", (decision_id,)
    ).fetchone()
    kept = None if row is None else load_decision(db, row[0])
    return [] if kept is None else [kept]


def _load_own(db: sqlite3.Connection, decision_id: str) -> list[Decision]:
    rows = db.execute(
        "select record from decision"
        " where (decision_id = ?1 and call_id is null) or call_id = ?1"
        " order by position",
        (decision_id,),
    )
    return [decode_decision(record) for (record,) in rows]


def commit(
    db: sqlite3.Connection, call: Call
) -> list[Decision] | frozenset[str] | None:
    """Store a call.

    Returns:
        The decisions that are stored; none where the past has changed, or the leases
        that are lost: nothing was stored then.
    """
    opportunity = call.decisions[0].opportunity
    decision_id, user_id = opportunity.decision_id, opportunity.user_id
    inserted = db.execute(
        "insert into decision(decision_id, at_ms, record) select ?1, ?2, ?3"
        " where not exists(select 1 from answer where decision_id = ?1)"
        " on conflict do nothing",
        (decision_id, opportunity.at_ms, call.records[0]),
    )
    if inserted.rowcount == 0:
        return load_call(db, decision_id)
    # Were a silence taken on a history that has changed, and an offer not, then what
    # is logged would depend on what was drawn.
    root = root_of(decision_id)
    same = unchanged(db, root, user_id, call.seen)
    lost = supplies.hold(db, call.holds) if same and call.holds else None
    if lost or not same:
        db.execute("delete from decision where position = ?", (inserted.lastrowid,))
        return lost
    if len(call.decisions) > 1:
        _insert_others(db, call)
    if call.user is not None:
        save_record(db, root, user_id, call.user)
    if call.account is not None:
        save_record(db, root, WHOLE, call.account)
    return list(call.decisions)


def _insert_others(db: sqlite3.Connection, call: Call) -> None:
    first, *others = [decision.opportunity for decision in call.decisions]
    db.executemany(
        "insert into decision(decision_id, at_ms, record, call_id) values (?, ?, ?, ?)",
        [
            (other.decision_id, other.at_ms, record, first.decision_id)
            for other, record in zip(others, call.records[1:], strict=True)
        ],
    )
