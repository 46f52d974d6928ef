"""Histories: one row for each user, and one for each root as a whole."""

from __future__ import annotations

import sqlite3

from policies.model import NO_HISTORY
from policies.records import decode_history, encode
from server.stores.base import Histories, StoredPast, Versioned

__all__ = ["WHOLE", "load", "load_past", "save", "save_record", "unchanged"]

WHOLE = ""
"""What stands for the user where a history is that of the root as a whole."""

_NEVER_SEEN = Versioned(0, NO_HISTORY)


def load_past(
    db: sqlite3.Connection, root: str, user_id: str, *, account: bool
) -> StoredPast:
    """Return what is remembered of a user and, if asked, of their account."""
    if not account:
        return StoredPast(_load(db, root, user_id), None)
    return StoredPast(_load(db, root, user_id), _load(db, root, WHOLE))


def load(
    db: sqlite3.Connection, root: str, user_id: str, *, account: bool
) -> Histories:
    """Return the same without versions."""
    user, whole = load_past(db, root, user_id, account=account)
    return Histories(user.history, None if whole is None else whole.history)


def unchanged(
    db: sqlite3.Connection, root: str, user_id: str, seen: StoredPast
) -> bool:
    """Say whether the past still has the versions that were seen."""
    if _version(db, root, user_id) != seen.user.version:
        return False
    return seen.account is None or _version(db, root, WHOLE) == seen.account.version


def save(
    db: sqlite3.Connection, root: str, user_id: str, before: Histories, after: Histories
) -> None:
    """Replace what has changed."""
    if after.user != before.user:
        save_record(db, root, user_id, encode(after.user))
    if after.account is not None and after.account != before.account:
        save_record(db, root, WHOLE, encode(after.account))


def save_record(db: sqlite3.Connection, root: str, user_id: str, record: str) -> None:
    """Replace a history, whatever its version."""
    db.execute(
        "insert into history(root, user_id, version, record) values (?, ?, 1, ?)"
        " on conflict do update set version = version + 1, record = excluded.record",
        (root, user_id, record),
    )


def _load(db: sqlite3.Connection, root: str, user_id: str) -> Versioned:
    row = db.execute(
        "select version, record from history where root = ? and user_id = ?",
        (root, user_id),
    ).fetchone()
    return _NEVER_SEEN if row is None else Versioned(row[0], decode_history(row[1]))


def _version(db: sqlite3.Connection, root: str, user_id: str) -> int:
    row = db.execute(
        "select version from history where root = ? and user_id = ?", (root, user_id)
    ).fetchone()
    return 0 if row is None else int(row[0])
