"""What is read alike by who serves, who learns, and who runs the server."""

from __future__ import annotations

import sqlite3
from typing import get_args

from server.stores.base import ActiveCatalogue, Renewal

__all__ = ["RENEWALS", "load_active", "load_catalogue"]

RENEWALS: tuple[Renewal, ...] = get_args(Renewal)
"""What is stored by its place in here."""


def load_catalogue(db: sqlite3.Connection, version: str) -> str | None:
    """Return the text of a catalogue that was in use."""
    row = db.execute(
        "select text from catalogue where version = ?", (version,)
    ).fetchone()
    return None if row is None else str(row[0])


def load_active(db: sqlite3.Connection) -> ActiveCatalogue:
    """Return which catalogue was activated last."""
    row = db.execute(
        "select position, version from activation where accepted"
        " order by position desc limit 1"
    ).fetchone()
    return ActiveCatalogue(0, "") if row is None else ActiveCatalogue(*row)
