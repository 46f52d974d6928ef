"""What is told to the server: appended once, and folded into what is remembered."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence

from policies.errors import InvalidRequestError, Problem
from policies.identity import root_of
from policies.model import Decision, History, Outcome
from policies.records import decode_outcome, encode
from server.stores.base import Changed, Fold, Histories, LedgerEntry, Reported
from server.stores.sqlite import histories, supplies

__all__ = ["change", "report"]


def report(
    db: sqlite3.Connection,
    decision: Decision,
    outcomes: Sequence[Outcome],
    fold: Fold,
    *,
    account: bool,
) -> Reported:
    """Store outcomes, and what follows from those that are new."""
    opportunity = decision.opportunity
    decision_id, user_id = opportunity.decision_id, opportunity.user_id
    known = _load_outcomes(db, decision_id)
    fresh, news = _split(known, outcomes)
    root = root_of(decision_id)
    before = histories.load(db, root, user_id, account=account)
    if not news:
        kept = supplies.kept(db, decision_id)
        return Reported(fresh, before, before, known, kept)
    db.executemany(
        "insert into outcome(decision_id, outcome_id, record) values (?, ?, ?)",
        [(decision_id, outcome.outcome_id, encode(outcome)) for outcome in news],
    )
    after, settlement = fold(before, known, news)
    if after.account is None:
        after = after._replace(account=before.account)
    histories.save(db, root, user_id, before, after)
    supplies.settle(db, decision_id, settlement)
    return Reported(fresh, before, after, known, supplies.kept(db, decision_id))


def change(
    db: sqlite3.Connection,
    root: str,
    user_id: str,
    entry: LedgerEntry,
    fold: Callable[[History], History],
) -> Changed:
    """Append to a ledger, and to the history what follows."""
    before, _ = histories.load(db, root, user_id, account=False)
    inserted = db.execute(
        "insert into ledger(root, user_id, event_id, kind, at_ms, source, record)"
        " values (?, ?, ?, ?, ?, ?, ?) on conflict do nothing",
        (root, user_id, *entry),
    )
    if inserted.rowcount == 0:
        _refuse_another(db, root, user_id, entry)
        return Changed(fresh=False, history=before)
    after = fold(before)
    histories.save(db, root, user_id, Histories(before), Histories(after))
    return Changed(fresh=True, history=after)


def _refuse_another(
    db: sqlite3.Connection, root: str, user_id: str, entry: LedgerEntry
) -> None:
    """Refuse to take something else for a repeat, of which it has the name.

    Raises:
        InvalidRequestError: If it is something else.
    """
    (kind,) = db.execute(
        "select kind from ledger where root = ? and user_id = ? and event_id = ?",
        (root, user_id, entry.event_id),
    ).fetchone()
    if kind != entry.kind:
        wrong = f"names a {kind} already, and cannot name a {entry.kind} too"
        raise InvalidRequestError([Problem("event_id", wrong)])


def _load_outcomes(db: sqlite3.Connection, decision_id: str) -> list[Outcome]:
    rows = db.execute(
        "select record from outcome where decision_id = ?", (decision_id,)
    )
    return [decode_outcome(record) for (record,) in rows]


def _split(
    known: Sequence[Outcome], outcomes: Sequence[Outcome]
) -> tuple[list[bool], list[Outcome]]:
    """Say of each outcome whether it is new, and return those that are."""
    names = {outcome.outcome_id for outcome in known}
    fresh: list[bool] = []
    news: list[Outcome] = []
    for outcome in outcomes:
        fresh.append(outcome.outcome_id not in names)
        if fresh[-1]:
            names.add(outcome.outcome_id)
            news.append(outcome)
    return fresh, news
