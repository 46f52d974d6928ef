"""Calls and their decisions, each stored with what it reserves, or not at all."""

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

__all__ = ["Made", "answer", "commit", "load_call", "load_decision"]


class Made(NamedTuple):
    """A decision, and all that is stored with it.

    Attributes:
        call_id: The first decision of its call; empty where this is the first.
        record: The decision, as it is written.
        user: The user's history after it, likewise; none where it stays as it is.
        account: The same of the account.
    """

    decision: Decision
    call_id: str
    record: str
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


def answer(db: sqlite3.Connection, decision_id: str, kept_id: str) -> Decision:
    """Let a request be answered with a decision of another, if it has no answer yet.

    Returns:
        What it is answered with first.
    """
    stored = _load_first(db, decision_id)
    if stored is not None:
        return stored
    kept = load_decision(db, kept_id)
    if kept is None:
        raise ValueError(f"there is no decision {kept_id}")
    db.execute("insert into answer values (?, ?)", (decision_id, kept_id))
    return kept


def load_call(db: sqlite3.Connection, decision_id: str) -> list[Decision]:
    """Return the decisions that a request was answered with, in order."""
    stored = _load_own(db, decision_id)
    if stored:
        return stored
    kept = _load_kept(db, decision_id)
    return [] if kept is None else [kept]


def _load_first(db: sqlite3.Connection, decision_id: str) -> Decision | None:
    return load_decision(db, decision_id) or _load_kept(db, decision_id)


def _load_kept(db: sqlite3.Connection, decision_id: str) -> Decision | None:
    row = db.execute(
        "select kept_id from answer where decision_id = ?", (decision_id,)
    ).fetchone()
    return None if row is None else load_decision(db, row[0])


def _load_own(db: sqlite3.Connection, decision_id: str) -> list[Decision]:
    rows = db.execute(
        "select record from decision"
        " where (decision_id = ?1 and call_id is null) or call_id = ?1"
        " order by position",
        (decision_id,),
    )
    return [decode_decision(record) for (record,) in rows]


def commit(db: sqlite3.Connection, made: Made) -> Decision | frozenset[str] | None:
    """Store a decision.

    Returns:
        The decision that is stored; none where the past has changed, or the leases
        that are lost: nothing was stored then.
    """
    opportunity = made.decision.opportunity
    decision_id, user_id = opportunity.decision_id, opportunity.user_id
    inserted = db.execute(
        "insert into decision(decision_id, at_ms, record, call_id)"
        " select ?1, ?2, ?3, nullif(?4, '')"
        " where not exists(select 1 from answer where decision_id = ?1)"
        " on conflict do nothing",
        (decision_id, opportunity.at_ms, made.record, made.call_id),
    )
    if inserted.rowcount == 0:
        return _load_first(db, decision_id)
    # Were a silence taken on a history that has changed, and an offer not, then what
    # is logged would depend on what was drawn.
    root = root_of(decision_id)
    same = unchanged(db, root, user_id, made.seen)
    lost = supplies.hold(db, made.holds) if same and made.holds else None
    if lost or not same:
        db.execute("delete from decision where position = ?", (inserted.lastrowid,))
        return lost
    if made.user is not None:
        save_record(db, root, user_id, made.user)
    if made.account is not None:
        save_record(db, root, WHOLE, made.account)
    return made.decision
