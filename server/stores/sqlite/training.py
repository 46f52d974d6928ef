"""The store as the learner sees it."""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from policies.model import Decision, Outcome, Resolution
from policies.promotion import Lineup
from policies.records import decode_decision, decode_outcome
from policies.releasing import Release
from server.stores.base import (
    Contest,
    Joinable,
    JoinState,
    Judge,
    ModelChange,
    Renewal,
    Resolved,
    Snapshot,
    StreamRow,
    Trial,
    TrialRow,
    Tried,
    Watermark,
)
from server.stores.sqlite import models
from server.stores.sqlite.locking import lock_of
from server.stores.sqlite.rows import load_catalogue
from server.stores.sqlite.schema import connect, transaction

__all__ = ["SQLiteTraining"]

_Earned = tuple[str, float, float | None]

_COPIED = 2_000
_LEARNER_WAIT_S = 10.0
_LOCK_RETRY_S = 0.001
_BREATH_S = 0.002
"""How long others may write between two parts of a model."""
_RESTART_PAGES = 4_096  # 32 MiB.


class SQLiteTraining:
    """A SQLite file, for the one process that writes the training stream.

    Raises:
        RuntimeError: If another process has been doing so for longer than a process
            that is ending would.
    """

    def __init__(self, path: Path) -> None:
        self._lock = _lock(lock_of(path))
        self._connection = connect(path)

    def epoch(self) -> int:
        """See `TrainingStore.epoch`."""
        return self._progress()[0]

    def begin_epoch(self, judge: Judge | None = None) -> int:
        """See `TrainingStore.begin_epoch`.

        It is copied in parts, between which others write. Until the last one nobody
        looks at the new epoch.
        """
        epoch = self.epoch()
        self._forget(epoch + 1)
        position = done = 0
        while True:
            rows = self._connection.execute(
                "select r.position, r.decision_id, j.reward, j.earned"
                " from resolution r join joined j on j.decision_id = r.decision_id"
                " where r.epoch = ? and r.revision = 1 and r.position > ?"
                " order by r.position limit ?",
                (epoch, position, _COPIED),
            ).fetchall()
            if not rows:
                break
            values = [row[1:] for row in rows]
            if judge is not None:
                values = self._judged(values, judge)
            with transaction(self._connection) as db:
                db.executemany(
                    "insert into resolution"
                    " (epoch, position, decision_id, reward, revision, earned)"
                    " values (?, ?, ?, ?, 1, ?)",
                    [
                        (epoch + 1, at, *row)
                        for at, row in enumerate(values, start=done + 1)
                    ],
                )
            position, done = rows[-1][0], done + len(rows)
        with transaction(self._connection) as db:
            db.execute("update joined set revision = 1 where revision > 1")
            if judge is not None:
                db.execute(
                    "update joined set reward = r.reward, earned = r.earned"
                    " from resolution r where r.epoch = ?"
                    " and r.decision_id = joined.decision_id"
                    " and (joined.reward <> r.reward or joined.earned is not r.earned)",
                    (epoch + 1,),
                )
            db.execute(
                "insert into progress"
                " (epoch, outcome_position, decision_position)"
                " select epoch + 1, outcome_position, decision_position"
                " from progress where epoch = ?",
                (epoch,),
            )
        return epoch + 1

    def _judged(self, rows: Sequence[_Earned], judge: Judge) -> list[_Earned]:
        """Return the rows with what they are to have earned."""
        found = self.joinable([decision_id for decision_id, _, _ in rows])
        judged = {
            joinable.decision.opportunity.decision_id: judgement
            for joinable, judgement in zip(found, judge(found), strict=True)
            if judgement is not None
        }
        return [
            (decision_id, *judged.get(decision_id, (reward, earned)))
            for decision_id, reward, earned in rows
        ]

    def _forget(self, epoch: int) -> None:
        """Drop what is left of an epoch that never began."""
        gone = 1
        while gone:
            with transaction(self._connection) as db:
                gone = db.execute(
                    "delete from resolution where epoch = ? and position in"
                    " (select position from resolution where epoch = ? limit ?)",
                    (epoch, epoch, _COPIED),
                ).rowcount

    def recent_rewards(self, limit: int) -> list[float]:
        """See `TrainingStore.recent_rewards`."""
        rows = self._connection.execute(
            "select coalesce(r.earned, r.reward)"
            " from resolution r join decision d on d.decision_id = r.decision_id"
            " where r.epoch = ? and d.record ->> 'split' is null"
            " order by r.position desc limit ?",
            (self.epoch(), limit),
        ).fetchall()
        return [earned for (earned,) in reversed(rows)]

    def changed(self, limit: int, *, silences: bool) -> tuple[list[str], Watermark]:
        """See `TrainingStore.changed`.

        Writers of a SQLite file take turns, so that positions are in the order in
        which rows become visible, and "past the last position" misses none.
        """
        _, outcome_position, decision_position = self._progress()
        rows = self._connection.execute(
            "select position, decision_id from outcome where position > ?"
            " order by position limit ?",
            (outcome_position, limit),
        ).fetchall()
        outcome_position = rows[-1][0] if rows else outcome_position
        ids = [decision_id for _, decision_id in rows]
        if silences:
            rows = self._connection.execute(
                "select position, decision_id, record ->> 'chosen' from decision"
                " where position > ? order by position limit ?",
                (decision_position, limit),
            ).fetchall()
            decision_position = rows[-1][0] if rows else decision_position
            ids += [decision_id for _, decision_id, chosen in rows if chosen == 0]
        return list(dict.fromkeys(ids)), (outcome_position, decision_position)

    def due(self, now_ms: int, limit: int) -> list[str]:
        """See `TrainingStore.due`."""
        rows = self._connection.execute(
            "select decision_id from joined where due_ms <= ?"
            " order by due_ms, decision_id limit ?",
            (now_ms, limit),
        )
        return [decision_id for (decision_id,) in rows]

    def joinable(self, decision_ids: Sequence[str]) -> list[Joinable]:
        """See `TrainingStore.joinable`."""
        wanted = json.dumps(decision_ids)
        outcomes: dict[str, list[Outcome]] = {d: [] for d in decision_ids}
        for decision_id, record in self._connection.execute(
            "select decision_id, record from outcome"
            " where decision_id in (select value from json_each(?))",
            (wanted,),
        ):
            outcomes[decision_id].append(decode_outcome(record))
        rows = self._connection.execute(
            "select d.decision_id, d.record, coalesce(j.revision, 0), j.reward,"
            " coalesce(j.earned, j.reward)"
            " from json_each(?) w join decision d on d.decision_id = w.value"
            " left join joined j on j.decision_id = d.decision_id order by w.key",
            (wanted,),
        )
        return [
            Joinable(
                decode_decision(record),
                outcomes[decision_id],
                JoinState(revision, reward, earned),
            )
            for decision_id, record, revision, reward, earned in rows
        ]

    def append(
        self,
        resolutions: Sequence[Resolution],
        waits: dict[str, int | None],
        watermark: Watermark | None,
    ) -> None:
        """See `TrainingStore.append`."""
        with transaction(self._connection) as db:
            epoch = self.epoch()
            (last,) = db.execute(
                "select coalesce(max(position), 0) from resolution where epoch = ?",
                (epoch,),
            ).fetchone()
            db.executemany(
                "insert into resolution (epoch, position, decision_id, reward,"
                " revision, before, earned) values (?, ?, ?, ?, ?, ?, ?)",
                [
                    (
                        epoch,
                        position,
                        r.decision_id,
                        r.reward,
                        r.revision,
                        r.before,
                        r.earned,
                    )
                    for position, r in zip(
                        itertools.count(last + 1), resolutions, strict=False
                    )
                ],
            )
            db.executemany(
                "insert into joined(decision_id, revision, due_ms) values (?, 0, ?)"
                " on conflict do update set due_ms = excluded.due_ms",
                list(waits.items()),
            )
            db.executemany(
                "update joined set revision = ?, reward = ?, earned = ?"
                " where decision_id = ?",
                [(r.revision, r.reward, r.earned, r.decision_id) for r in resolutions],
            )
            if watermark is not None:
                db.execute(
                    "update progress set outcome_position = ?, decision_position = ?"
                    " where epoch = ?",
                    (*watermark, epoch),
                )

    def stream(self, epoch: int, after: int, limit: int) -> list[StreamRow]:
        """See `TrainingStore.stream`."""
        rows = self._connection.execute(
            "select r.position, r.decision_id, r.reward, r.revision, r.before,"
            " r.earned, d.record"
            " from resolution r join decision d on d.decision_id = r.decision_id"
            " where r.epoch = ? and r.position > ? order by r.position limit ?",
            (epoch, after, limit),
        )
        return [
            StreamRow(
                position,
                Resolution(*resolution),
                decode_decision(record),
            )
            for position, *resolution, record in rows
        ]

    def stream_length(self) -> int:
        """See `TrainingStore.stream_length`."""
        (length,) = self._connection.execute(
            "select coalesce(max(position), 0) from resolution where epoch = ?",
            (self.epoch(),),
        ).fetchone()
        return int(length)

    def rebuild_asked(self) -> Renewal:
        """See `TrainingStore.rebuild_asked`."""
        return models.rebuild_asked(self._connection, self.epoch())

    def latest_snapshot(
        self, learner: str, *, before: int | None = None
    ) -> Snapshot | None:
        """See `TrainingStore.latest_snapshot`."""
        epoch = self.epoch()
        at_most = None if before is None else (epoch, before - 1)
        return models.load_snapshot(
            self._connection, learner, epoch=epoch, at_most=at_most
        )

    def warm(self, learner: str) -> Snapshot | None:
        """See `TrainingStore.warm`."""
        return models.load_warm(self._connection, learner)

    def publish(
        self,
        snapshot: Snapshot,
        keep: int,
        release: Callable[[Release | None], Release | None] | None = None,
    ) -> None:
        """See `TrainingStore.publish`."""
        serve = release or (lambda _: Release(snapshot.version))
        for part in models.parts_of(self._connection, snapshot):
            with transaction(self._connection) as db:
                models.store_part(db, snapshot, part)
            time.sleep(_BREATH_S)
        with transaction(self._connection) as db:
            models.store_snapshot(db, snapshot)
            models.change_release(db, snapshot.learner, serve)
            models.prune(db, snapshot.learner, keep)
        swept = True
        while swept:
            with transaction(self._connection) as db:
                swept = models.sweep(db)
            time.sleep(_BREATH_S if swept else 0.0)

    def release(self, learner: str) -> Release | None:
        """See `TrainingStore.release`."""
        return models.load_release(self._connection, learner)

    def change_release(
        self,
        learner: str,
        change: Callable[[Release | None], Release | None],
        what: str = "",
    ) -> Release | None:
        """See `TrainingStore.change_release`."""
        with transaction(self._connection) as db:
            return models.change_release(db, learner, change, what)

    def lineup(self) -> Lineup | None:
        """See `TrainingStore.lineup`."""
        return models.load_lineup(self._connection)

    def change_lineup(self, lineup: Lineup, note: ModelChange | None) -> None:
        """See `TrainingStore.change_lineup`."""
        with transaction(self._connection) as db:
            models.change_lineup(db, lineup, note)

    def tried(self) -> Tried:
        """See `TrainingStore.tried`."""
        return models.load_tried(self._connection)

    def silences(self, after: int, limit: int) -> tuple[list[Decision], int]:
        """See `TrainingStore.silences`."""
        return models.load_silences(self._connection, after, limit)

    def record_trials(self, trials: Sequence[Trial], tried: Tried) -> None:
        """See `TrainingStore.record_trials`."""
        with transaction(self._connection) as db:
            models.record_trials(db, trials, tried)

    def trials(
        self, challenger: str, champion: str, *, after: int, limit: int
    ) -> list[TrialRow]:
        """See `TrainingStore.trials`."""
        return models.load_trials(
            self._connection, challenger, champion, after=after, limit=limit
        )

    def record_contest(self, contest: Contest) -> None:
        """See `TrainingStore.record_contest`."""
        with transaction(self._connection) as db:
            models.record_contest(db, contest)

    def contests(self, challenger: str, champion: str, limit: int) -> list[Contest]:
        """See `TrainingStore.contests`."""
        return models.load_contests(self._connection, challenger, champion, limit)

    def recent(self, limit: int, *, before_ms: int | None = None) -> list[Resolved]:
        """See `TrainingStore.recent`."""
        return models.load_recent(self._connection, limit, before_ms=before_ms)

    def catalogue(self, version: str) -> str | None:
        """See `TrainingStore.catalogue`."""
        return load_catalogue(self._connection, version)

    def maintain(self) -> None:
        """Copy the WAL into the file, so that nobody who serves has to.

        A checkpoint that does not get to the end, because others keep writing,
        leaves the WAL growing; one that is allowed to hold up writers for a moment
        starts it anew.
        """
        _, pages, _ = self._connection.execute(
            "pragma wal_checkpoint(passive)"
        ).fetchone()
        if pages > _RESTART_PAGES:
            self._connection.execute("pragma wal_checkpoint(restart)").fetchone()

    def close(self) -> None:
        """See `TrainingStore.close`."""
        self._connection.close()
        os.close(self._lock)

    def _progress(self) -> tuple[int, int, int]:
        row = self._connection.execute(
            "select epoch, outcome_position, decision_position from progress"
            " order by epoch desc limit 1"
        ).fetchone()
        return row[0], row[1], row[2]


def _lock(path: Path) -> int:
    """Take the lock that only one learner holds; it ends with the process."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    give_up = time.monotonic() + _LEARNER_WAIT_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        except BlockingIOError:
            if time.monotonic() > give_up:
                os.close(descriptor)
                raise RuntimeError(f"another learner holds {path}") from None
            time.sleep(_LOCK_RETRY_S)
