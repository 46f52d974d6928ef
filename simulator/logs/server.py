"""Reads a server's log: the versioned views of its SQLite file, and nothing else.

The file is opened for reading only and may be in use. Every read is short, so that
it never holds up who writes, and all of them together see the log as it was when it
was opened: rows are only ever appended, and those that came later are left out.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import msgspec

from policies import catalogue as catalogues
from policies.catalogue import Catalogue
from policies.errors import FileError
from policies.identity import root_of
from policies.model import Decision, Resolution, Split
from policies.policy import PolicySettings
from policies.records import decode_decision, decode_lesson
from simulator.logs.base import LogError

__all__ = ["Key", "Log", "Record", "Rooted", "StreamRow"]

_SQLITE = "sqlite:///"
_VIEWS = {
    "decisions_v1",
    "outcomes_v1",
    "resolutions_v2",
    "snapshots_v1",
    "catalogues_v1",
    "policies_v1",
}
_CHUNK = 1_000
_LOCK_WAIT_S = 30.0


class Record(NamedTuple):
    """A logged decision as it is stored: where in the log, and its JSON."""

    position: int
    decision_id: str
    record: str


class Key(msgspec.Struct, frozen=True, gc=False):
    """What says by which policy and model a decision was made, for whom, and what."""

    policy: str
    model: str
    chosen: int
    split: Split = "train"


class StreamRow(NamedTuple):
    """A row of the training stream, with the record of its decision.

    Attributes:
        position: Its place in the stream, from 1.
        resolution: What the decision earned.
        record: The decision, as JSON; none where the log does not hold it any more.
    """

    position: int
    resolution: Resolution
    record: str | None


class Rooted(NamedTuple):
    """All decisions of one root, with what came of them.

    Attributes:
        records: The decisions, in the order in which they were made.
        rewards: By id, what those with a reward earned.
        outcomes: By id, outcomes as JSON, in the order in which they were told.
    """

    records: list[Record]
    rewards: dict[str, float]
    outcomes: dict[str, list[str]]


class Log:
    """What one server has logged, up to now.

    Args:
        source: The path of the server's file, or its URL as in the server's settings,
            `sqlite:///PATH`.

    Raises:
        LogError: If there is no such file, or it is no log that can be read.

    Attributes:
        path: Where the file is.
        first: The position of the first decision; 0 in an empty log.
        last: The position of the last one; 0 in an empty log.
        epoch: The latest training stream; 0 before anything was resolved.
        resolved: How many rows that stream has.
        reported: The position of the last outcome; 0 without any.
    """

    def __init__(self, source: str | Path) -> None:
        self.path = _path(source)
        self._connection = _connect(self.path)
        self._catalogues: dict[str, Catalogue] = {}
        self._policies: dict[str, PolicySettings] = {}
        try:
            self._check()
            self.first, self.last = self._one(
                "select coalesce(min(position), 0), coalesce(max(position), 0)"
                " from decisions_v1"
            )
            (self.epoch,) = self._one(
                "select coalesce(max(epoch), 0) from resolutions_v2"
            )
            (self.resolved,) = self._one(
                "select coalesce(max(position), 0) from resolutions_v2 where epoch = ?",
                self.epoch,
            )
            (self.reported,) = self._one(
                "select coalesce(max(position), 0) from outcomes_v1"
            )
        except BaseException:
            self._connection.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def records(self, first: int = 0, last: int | None = None) -> Iterator[Record]:
        """Yield decisions as they are stored, in the order in which they were made.

        Args:
            first: The position of the first one.
            last: The position of the last one; to the end of the log without it.
        """
        after, last = first - 1, self.last if last is None else min(last, self.last)
        while after < last:
            rows = self._all(
                "select position, decision_id, record from decisions_v1"
                " where position > ? and position <= ? order by position limit ?",
                *(after, last, _CHUNK),
            )
            yield from map(Record._make, rows)
            if len(rows) < _CHUNK:
                return
            after = rows[-1][0]

    def decisions(self) -> Iterator[tuple[int, Decision]]:
        """Yield positions and decisions, in the order in which they were made.

        Raises:
            LogError: If a record is no decision.
        """
        for position, _, record in self.records():
            yield position, self.read(record, f"decision {position}")

    def stream(self, epoch: int, after: int = 0) -> Iterator[StreamRow]:
        """Yield the rows of a training stream, in order.

        Args:
            epoch: Which stream.
            after: The position past which to begin.
        """
        while True:
            rows = self._all(
                "select r.position, r.decision_id, r.reward, r.revision, r.before,"
                " r.earned, d.record from resolutions_v2 r"
                " left join decisions_v1 d on d.decision_id = r.decision_id"
                " where r.epoch = ? and r.position > ? order by r.position limit ?",
                *(epoch, after, _CHUNK),
            )
            for position, *resolution, record in rows:
                yield StreamRow(position, Resolution(*resolution), record)
            if len(rows) < _CHUNK:
                return
            after = rows[-1][0]

    def resolutions(self) -> Iterator[StreamRow]:
        """Yield what each decision earned, by the latest training stream.

        A decision whose reward was corrected is there once, with the last reward.
        """
        corrected = dict(
            self._all(
                "select decision_id, max(revision) from resolutions_v2"
                " where epoch = ? and position <= ? and revision > 1"
                " group by decision_id",
                *(self.epoch, self.resolved),
            )
        )
        for row in self.stream(self.epoch):
            if row.position > self.resolved:
                return
            resolution = row.resolution
            latest = corrected.get(resolution.decision_id, resolution.revision)
            if resolution.revision == latest:
                yield row

    def keep_rewards(self) -> None:
        """Keep the last reward of each decision at hand, in a file that goes again."""
        self._connection.execute(
            "create temp table if not exists rewarded(decision_id text primary key,"
            " reward real) without rowid"
        )
        after = 0
        while after < self.resolved:
            rows = self._all(
                "select position, decision_id, reward from resolutions_v2"
                " where epoch = ? and position > ? and position <= ?"
                " order by position limit ?",
                *(self.epoch, after, self.resolved, _CHUNK),
            )
            if not rows:
                break
            self._connection.executemany(
                "insert or replace into temp.rewarded values (?, ?)",
                [row[1:] for row in rows],
            )
            after = rows[-1][0]
        self._connection.commit()

    def rewards(self, first: int, last: int) -> list[tuple[str, float]]:
        """Return ids and rewards of the decisions that have one; kept before.

        Args:
            first: The position of the first decision.
            last: That of the last one.
        """
        return self._all(
            "select decision_id, reward from temp.rewarded where decision_id in"
            " (select decision_id from decisions_v1 where position between ? and ?)",
            *(first, last),
        )

    def outcomes(self, first: int, last: int) -> list[tuple[str, str]]:
        """Return ids of decisions with outcomes of theirs, as JSON, in their order.

        Args:
            first: The position of the first decision.
            last: That of the last one.
        """
        return self._all(
            "select decision_id, record from outcomes_v1 where position <= ? and"
            " decision_id in"
            " (select decision_id from decisions_v1 where position between ? and ?)"
            " order by position",
            *(self.reported, first, last),
        )

    def by_root(self, rows: int = 4 * _CHUNK) -> Iterator[list[Rooted]]:
        """Yield decisions root by root, with what came of them; some roots at a time.

        The reward is the last one of each; `keep_rewards` comes before.

        Args:
            rows: How many decisions are read at a time; a root is never cut.
        """
        after, kept = "", list[Record]()
        while True:
            read = self._all(
                "select position, decision_id, record from decisions_v1"
                " where decision_id > ? and position <= ? order by decision_id limit ?",
                *(after, self.last, rows),
            )
            records = kept + [Record._make(row) for row in read]
            is_last = len(read) < rows
            open_root = "" if is_last else root_of(records[-1].decision_id)
            kept = [r for r in records if root_of(r.decision_id) == open_root]
            whole = records[: len(records) - len(kept)]
            if whole:
                yield self._rooted(whole)
            if is_last:
                return
            after = read[-1][1]

    def _rooted(self, records: list[Record]) -> list[Rooted]:
        between = (records[0].decision_id, records[-1].decision_id)
        rewards = dict(
            self._all(
                "select * from temp.rewarded where decision_id between ? and ?",
                *between,
            )
        )
        outcomes: dict[str, list[str]] = {}
        for decision_id, text in self._all(
            "select decision_id, record from outcomes_v1"
            " where decision_id between ? and ? and position <= ? order by position",
            *(*between, self.reported),
        ):
            outcomes.setdefault(decision_id, []).append(text)
        roots: dict[str, Rooted] = {}
        for record in records:
            name = record.decision_id
            rooted = roots.setdefault(root_of(name), Rooted([], {}, {}))
            rooted.records.append(record)
            if name in rewards:
                rooted.rewards[name] = rewards[name]
            if name in outcomes:
                rooted.outcomes[name] = outcomes[name]
        for rooted in roots.values():
            rooted.records.sort()
        return list(roots.values())

    def reward_range(self) -> tuple[float, float] | None:
        """Return the smallest and the largest reward; `keep_rewards` comes before."""
        low, high = self._one("select min(reward), max(reward) from temp.rewarded")
        return None if low is None else (low, high)

    def read(self, record: str, name: str) -> Decision:
        """Read a stored decision.

        Raises:
            LogError: If it is none.
        """
        try:
            return decode_decision(record)
        except msgspec.DecodeError as error:
            raise LogError(self.path, f"{name} cannot be read: {error}") from None

    def lesson(self, record: str, name: str) -> Decision:
        """Read of a stored decision what a policy learns from.

        Raises:
            LogError: If it is none.
        """
        try:
            return decode_lesson(record)
        except msgspec.DecodeError as error:
            raise LogError(self.path, f"{name} cannot be read: {error}") from None

    def catalogue(self, version: str) -> Catalogue:
        """Return a catalogue that decisions name, compiled once.

        Raises:
            LogError: If the log does not hold it, or it does not compile.
        """
        if version not in self._catalogues:
            text = self._text("catalogues_v1", "text", version)
            try:
                compiled = catalogues.read(text, f"catalogue {version}", linted=False)
            except FileError as error:
                raise LogError(self.path, str(error)) from None
            self._catalogues[version] = compiled
        return self._catalogues[version]

    def policy(self, version: str) -> PolicySettings:
        """Return the settings of a policy that decisions name.

        Raises:
            LogError: If the log does not hold them, or they are of another build.
        """
        if version not in self._policies:
            text = self._text("policies_v1", "settings", version)
            try:
                settings = msgspec.json.decode(text, type=PolicySettings)
            except msgspec.DecodeError as error:
                raise LogError(self.path, f"policy {version}: {error}") from None
            self._policies[version] = settings
        return self._policies[version]

    def snapshot(self, learner: str, epoch: int) -> tuple[int, bytes] | None:
        """Return the position and the bytes of a learner's last snapshot, if any."""
        rows = self._all(
            "select position, body from snapshots_v1 where learner = ? and epoch = ?"
            " and position <= ? order by position desc limit 1",
            *(learner, epoch, self.resolved),
        )
        return rows[0] if rows else None

    def begun(self, learner: str, epoch: int) -> bytes | None:
        """Return what a learner began with, if that was not nothing."""
        rows = self._all(
            "select body from snapshots_v1 where learner = ? and epoch = ?"
            " and position = 0",
            *(learner, epoch),
        )
        return bytes(rows[0][0]) if rows else None

    def _text(self, view: str, column: str, version: str) -> str:
        query = f"select {column} from {view} where version = ?"  # noqa: S608
        rows = self._all(query, version)
        if not rows:
            wanted = f"version {version!r} in {view}"
            raise LogError(self.path, f"the log does not hold {wanted}")
        return str(rows[0][0])

    def _check(self) -> None:
        """Refuse a file without the views that are read here."""
        found = {name for (name,) in self._all("select name from sqlite_master")}
        missing = sorted(_VIEWS - found)
        if not missing:
            return
        stems = tuple(view.rstrip("0123456789") for view in _VIEWS)
        others = sorted(name for name in found if name.startswith(stems))
        if not others:
            problem = "is no log of an Opportune server: it has none of its views"
        else:
            problem = (
                f"publishes {', '.join(others)}, but not {', '.join(missing)}: read it"
                " with the simulator of the server's own version, or start this"
                " version's server on it once, which brings it up to date"
            )
        raise LogError(self.path, problem)

    def _one(self, query: str, *values: object) -> tuple[Any, ...]:
        (row,) = self._all(query, *values)
        return tuple(row)

    def _all(self, query: str, *values: object) -> list[Any]:
        try:
            return self._connection.execute(query, values).fetchall()
        except sqlite3.DatabaseError as error:
            raise LogError(self.path, _explain(error)) from error


def _path(source: str | Path) -> Path:
    text = str(source)
    if text.startswith(_SQLITE):
        return Path(text.removeprefix(_SQLITE))
    if "://" in text:
        raise LogError(
            Path(text), f"a log is a file, given by its path or as {_SQLITE}PATH"
        )
    return Path(text)


def _connect(path: Path) -> sqlite3.Connection:
    """Open the file so that nothing can be written."""
    if not path.is_file():
        raise LogError(
            path,
            "there is no such file; the log is the file that [store] url names in the"
            " server's settings",
        )
    uri = f"{path.resolve().as_uri()}?mode=ro"
    connection = sqlite3.connect(uri, uri=True, timeout=_LOCK_WAIT_S)
    try:
        connection.execute("select 1 from sqlite_master").fetchone()
    except sqlite3.OperationalError:
        # Where nothing can be written beside the file, a WAL cannot be shared. One
        # that has nothing in it is not missed.
        connection.close()
        wal = Path(f"{path}-wal")
        if wal.exists() and wal.stat().st_size:
            raise LogError(
                path,
                f"cannot be read together with {wal.name}; copy both to a folder that"
                " you may write to, and read the copy",
            ) from None
        connection = sqlite3.connect(f"{uri}&immutable=1", uri=True)
    except sqlite3.DatabaseError as error:
        connection.close()
        raise LogError(path, _explain(error)) from None
    return connection


def _explain(error: sqlite3.DatabaseError) -> str:
    match getattr(error, "sqlite_errorcode", 0) & 0xFF:
        case sqlite3.SQLITE_NOTADB:
            return "is no log of an Opportune server: it is no SQLite file"
        case sqlite3.SQLITE_CORRUPT:
            return f"is damaged ({error}); read a copy that is whole"
        case _:
            return f"cannot be read: {error}"
