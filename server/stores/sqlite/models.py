"""Models in a SQLite file: which there are, which of them serves, how they compare."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence

import msgspec

from policies.model import Decision
from policies.promotion import Lineup
from policies.records import decode_decision
from policies.releasing import Model, Release, name_of
from server.stores.values import (
    Contest,
    ModelChange,
    Renewal,
    Resolved,
    Snapshot,
    StoredModel,
    Trial,
    TrialRow,
    Tried,
)

__all__ = [
    "ask_rebuild",
    "change_lineup",
    "change_release",
    "load_changes",
    "load_contests",
    "load_lineup",
    "load_models",
    "load_recent",
    "load_release",
    "load_silences",
    "load_snapshot",
    "load_trials",
    "load_tried",
    "load_warm",
    "parts_of",
    "prune",
    "rebuild_asked",
    "record_contest",
    "record_trials",
    "store_part",
    "store_snapshot",
    "sweep",
]

_COLUMNS = "learner, epoch, position, body, at_ms"
_VERSION = "learner = ? and epoch = ? and position = ?"
_REBUILD = "rebuild"
_PART_BYTES = 1 << 16
"""How much of a model one transaction writes: less than a millisecond of work."""
_SWEPT = 4


def load_snapshot(
    db: sqlite3.Connection,
    learner: str,
    *,
    at_most: Model | None = None,
    epoch: int | None = None,
) -> Snapshot | None:
    """Return a learner's latest snapshot, of all or of those asked for."""
    where, values = ["learner = ?"], [learner, *(at_most or ())]
    if at_most is not None:
        where.append("(epoch, position) <= (?, ?)")
    if epoch is not None:
        where.append("epoch = ?")
        values.append(epoch)
    return _read_whole(db, " and ".join(where), values)


def load_warm(db: sqlite3.Connection, learner: str) -> Snapshot | None:
    """Return what a learner knew before it learned anything here."""
    return _read_whole(db, "learner = ? and position = 0", (learner,))


def parts_of(db: sqlite3.Connection, snapshot: Snapshot) -> Iterator[int]:
    """Return the numbers of the parts to be stored before the snapshot, if any.

    None are where it is there already; one that is damaged is stored again.
    """
    if _is_stored(db, snapshot):
        return iter(())
    return iter(range(max(len(snapshot.body) - 1, 0) // _PART_BYTES))


def _is_stored(db: sqlite3.Connection, snapshot: Snapshot) -> bool:
    """Say whether a snapshot is there, whole, in however many parts."""
    known = _read_whole(db, _VERSION, _key(snapshot))
    return known is not None and known.body == snapshot.body


def store_part(db: sqlite3.Connection, snapshot: Snapshot, part: int) -> None:
    """Keep a part of a snapshot that is not there yet, instead of a part left over."""
    start = part * _PART_BYTES
    db.execute(
        "insert or replace into snapshot_part values (?, ?, ?, ?, ?)",
        (*_key(snapshot), part, snapshot.body[start : start + _PART_BYTES]),
    )


def store_snapshot(db: sqlite3.Connection, snapshot: Snapshot) -> None:
    """Keep a snapshot, whose parts are kept already."""
    if _is_stored(db, snapshot):
        return
    parts = max(len(snapshot.body) - 1, 0) // _PART_BYTES
    db.execute(
        f"insert into snapshot({_COLUMNS}) values (?, ?, ?, ?, ?)"
        " on conflict do update set body = excluded.body",
        (*_key(snapshot), snapshot.body[parts * _PART_BYTES :], snapshot.at_ms),
    )
    db.execute(
        f"delete from snapshot_part where {_VERSION} and part >= ?",
        (*_key(snapshot), parts),
    )


def sweep(db: sqlite3.Connection) -> bool:
    """Drop a few parts of snapshots that are not there; say whether there were any."""
    swept = db.execute(
        "delete from snapshot_part where rowid in (select p.rowid from snapshot_part p"
        " where not exists (select 1 from snapshot s where (s.learner, s.epoch,"
        " s.position) = (p.learner, p.epoch, p.position)) limit ?)",
        (_SWEPT,),
    )
    return swept.rowcount > 0


def _key(snapshot: Snapshot) -> tuple[str, int, int]:
    return snapshot.learner, snapshot.epoch, snapshot.position


def _read_whole(
    db: sqlite3.Connection, where: str, values: Sequence[object]
) -> Snapshot | None:
    """Return the latest of some snapshots, all of it as it is at one moment."""
    db.execute("savepoint whole")
    try:
        row = db.execute(
            f"select {_COLUMNS} from snapshot where {where}"
            " order by epoch desc, position desc limit 1",
            values,
        ).fetchone()
        if row is None:
            return None
        snapshot = Snapshot(*row)
        parts = db.execute(
            f"select body from snapshot_part where {_VERSION} order by part",
            _key(snapshot),
        )
        body = b"".join([*(part for (part,) in parts), snapshot.body])
        return snapshot._replace(body=body)
    finally:
        db.execute("release whole")


def prune(db: sqlite3.Connection, learner: str, keep: int) -> None:
    """Drop all but a learner's last snapshots, what serves, and what it began with."""
    release = load_release(db, learner)
    pointed: list[Model] = []
    if release is not None:
        named = (release.serving, release.canary, release.previous)
        pointed = [model for model in named if model is not None]
    kept = [list(model) for model in pointed]
    db.execute(
        "delete from snapshot where learner = ? and position > 0"
        " and (epoch, position) < (select epoch, position from snapshot"
        " where learner = ? order by epoch desc, position desc limit 1 offset ?)"
        " and not exists (select 1 from json_each(?) where value ->> 0 = epoch"
        " and value ->> 1 = position)",
        (learner, learner, keep - 1, json.dumps(kept)),
    )


def load_models(db: sqlite3.Connection, learner: str) -> list[StoredModel]:
    """Return a learner's snapshots without their bodies, the latest first."""
    rows = db.execute(
        "select learner, epoch, position, at_ms, length(body) + (select"
        " coalesce(sum(length(p.body)), 0) from snapshot_part p where (p.learner,"
        " p.epoch, p.position) = (s.learner, s.epoch, s.position)) from snapshot s"
        " where learner = ? order by epoch desc, position desc",
        (learner,),
    )
    return [StoredModel(*row) for row in rows]


def load_release(db: sqlite3.Connection, learner: str) -> Release | None:
    """Return which model of a learner serves."""
    row = db.execute(
        "select record from release where learner = ?", (learner,)
    ).fetchone()
    return None if row is None else msgspec.json.decode(row[0], type=Release)


def change_release(
    db: sqlite3.Connection,
    learner: str,
    change: Callable[[Release | None], Release | None],
    what: str = "",
) -> Release | None:
    """Move the pointer, within a transaction; note it where it has a name."""
    before = load_release(db, learner)
    after = change(before)
    if after is None or after == before:
        return before
    db.execute(
        "insert into release(learner, record) values (?, ?)"
        " on conflict do update set record = excluded.record",
        (learner, msgspec.json.encode(after).decode()),
    )
    if what:
        note = ModelChange(
            0,
            learner,
            what,
            name_of(after.serving),
            after.at_ms,
            after.who,
            after.reason,
        )
        _note(db, note)
    return after


def _note(db: sqlite3.Connection, note: ModelChange) -> None:
    db.execute(
        "insert into model_change(subject, what, model, at_ms, who, reason)"
        " values (?, ?, ?, ?, ?, ?)",
        note[1:],
    )


def load_changes(db: sqlite3.Connection, limit: int) -> list[ModelChange]:
    """Return what was done to models, the latest first."""
    rows = db.execute(
        "select position, subject, what, model, at_ms, who, reason from model_change"
        " order by position desc limit ?",
        (limit,),
    )
    return [ModelChange(*row) for row in rows]


def ask_rebuild(
    db: sqlite3.Connection,
    epoch: int,
    renewal: Renewal,
    *,
    who: str,
    reason: str,
    at_ms: int,
) -> None:
    """Ask the learner for a new epoch after this one."""
    _note(db, ModelChange(0, renewal, _REBUILD, f"{epoch}.0", at_ms, who, reason))


def rebuild_asked(db: sqlite3.Connection, epoch: int) -> Renewal:
    """Say which new epoch was asked for last after this one."""
    row = db.execute(
        "select subject from model_change where what = ? and model = ?"
        " order by position desc limit 1",
        (_REBUILD, f"{epoch}.0"),
    ).fetchone()
    return "none" if row is None else row[0]


def load_lineup(db: sqlite3.Connection) -> Lineup | None:
    """Return which policy decides, and what the others have of the traffic."""
    row = db.execute(
        "select record from lineup order by position desc limit 1"
    ).fetchone()
    return None if row is None else msgspec.json.decode(row[0], type=Lineup)


def change_lineup(
    db: sqlite3.Connection, lineup: Lineup, note: ModelChange | None
) -> None:
    """Let policies take turns otherwise from now on, within a transaction."""
    db.execute(
        "insert into lineup(record) values (?)",
        (msgspec.json.encode(lineup).decode(),),
    )
    if note is not None:
        _note(db, note)


def load_tried(db: sqlite3.Connection) -> Tried:
    """Return how far challengers have been tried."""
    return Tried(*db.execute("select silences, epoch, row from tried").fetchone())


def record_trials(
    db: sqlite3.Connection, trials: Sequence[Trial], tried: Tried
) -> None:
    """Keep how policies would have decided, and how far that goes."""
    db.executemany(
        "insert or ignore into trial(challenger, champion, decision_id, weight, base,"
        " agrees) values (?, ?, ?, ?, ?, ?)",
        trials,
    )
    db.execute("update tried set silences = ?, epoch = ?, row = ?", tried)


def load_silences(
    db: sqlite3.Connection, after: int, limit: int
) -> tuple[list[Decision], int]:
    """Return decisions for no offer past a position, and the position of the last.

    Those in which there was nothing else to choose are left out.
    """
    rows = db.execute(
        "select position, record ->> 'chosen', record from decision where position > ?"
        " order by position limit ?",
        (after, limit),
    ).fetchall()
    silent = [decode_decision(record) for _, chosen, record in rows if chosen == 0]
    last = rows[-1][0] if rows else after
    return [decision for decision in silent if len(decision.actions) > 1], int(last)


def load_trials(
    db: sqlite3.Connection, challenger: str, champion: str, *, after: int, limit: int
) -> list[TrialRow]:
    """Return trials past a position with what their decisions earned, in order."""
    rows = db.execute(
        "select t.position, t.weight, t.base, t.agrees, coalesce(j.reward, 0.0)"
        " from trial t left join joined j on j.decision_id = t.decision_id"
        " where t.challenger = ? and t.champion = ? and t.position > ?"
        " order by t.position limit ?",
        (challenger, champion, after, limit),
    )
    return [TrialRow(*row) for row in rows]


def record_contest(db: sqlite3.Connection, contest: Contest) -> None:
    """Keep the result of a window; its trials are not needed any more."""
    db.execute(
        "insert or replace into contest(challenger, champion, position, at_ms, n,"
        " agreement, value, low, high, verdict) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        contest,
    )
    db.execute(
        "delete from trial where challenger = ? and position <= ?",
        (contest.challenger, contest.position),
    )


def load_contests(
    db: sqlite3.Connection, challenger: str, champion: str, limit: int
) -> list[Contest]:
    """Return the results of the last windows, the latest first."""
    rows = db.execute(
        "select challenger, champion, position, at_ms, n, agreement, value, low, high,"
        " verdict from contest where challenger = ? and champion = ?"
        " order by position desc limit ?",
        (challenger, champion, limit),
    )
    return [Contest(*row) for row in rows]


def load_recent(
    db: sqlite3.Connection, limit: int, *, before_ms: int | None = None
) -> list[Resolved]:
    """Return the last decisions, the latest first, with what is known they earned."""
    top = None if before_ms is None else _position_at(db, before_ms)
    rows = db.execute(
        "select d.record, j.reward from decision d"
        " left join joined j on j.decision_id = d.decision_id"
        " where ? is null or d.position <= ? order by d.position desc limit ?",
        (top, top, limit),
    )
    return [Resolved(decode_decision(record), reward) for record, reward in rows]


def _position_at(db: sqlite3.Connection, at_ms: int) -> int:
    """Return the position of the last decision that is not later, by halving.

    Decisions are stored about in the order of their times.
    """
    (low,) = db.execute(
        "select coalesce(min(position), 1) - 1 from decision"
    ).fetchone()
    (high,) = db.execute("select coalesce(max(position), 0) from decision").fetchone()
    while low < high:
        middle = (low + high + 1) // 2
        row = db.execute(
            "select at_ms from decision where position <= ?"
            " order by position desc limit 1",
            (middle,),
        ).fetchone()
        if row is not None and row[0] > at_ms:
            high = middle - 1
        else:
            low = middle
    return int(low)
