"""The store as who runs the server sees it."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from policies.model import Decision, Outcome, OutcomeKind
from policies.promotion import Lineup
from policies.records import decode_decision, decode_outcome
from policies.releasing import Model, Release
from server.stores.base import (
    Activation,
    ActiveCatalogue,
    Contest,
    ModelChange,
    Renewal,
    Resolved,
    Snapshot,
    StoredModel,
    Switch,
)
from server.stores.sqlite import models
from server.stores.sqlite.locking import learner_runs
from server.stores.sqlite.rows import load_active, load_catalogue
from server.stores.sqlite.schema import connect, transaction

__all__ = ["SQLiteAdmin"]

_READ = 1_000


class SQLiteAdmin:
    """A SQLite file, for a command of a person. Servers may use it meanwhile."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection = connect(path)
        # Each commit is synced, which nobody has to wait for but the person.
        self._connection.execute("pragma synchronous = full")

    def stop(self, scope: str, *, who: str, reason: str, at_ms: int) -> None:
        """See `AdminStore.stop`."""
        self._switch(Switch(scope, stopped=True, at_ms=at_ms, who=who, reason=reason))

    def resume(self, scope: str, *, who: str, reason: str, at_ms: int) -> None:
        """See `AdminStore.resume`."""
        self._switch(Switch(scope, stopped=False, at_ms=at_ms, who=who, reason=reason))

    def switches(self) -> list[Switch]:
        """See `AdminStore.switches`."""
        rows = self._connection.execute(
            "select scope, stopped, at_ms, who, reason from switch where position in"
            " (select max(position) from switch group by scope) order by scope"
        )
        return [Switch(scope, bool(stopped), *rest) for scope, stopped, *rest in rows]

    def activate(
        self, version: str, text: str, *, at_ms: int, who: str, reason: str, diff: str
    ) -> int:
        """See `AdminStore.activate`."""
        made = Activation(
            0, version, at_ms, who, reason, "", diff, accepted=True, problems=""
        )
        return self._append(made, text)

    def refuse(
        self,
        version: str,
        *,
        at_ms: int,
        who: str,
        reason: str,
        diff: str,
        problems: str,
    ) -> int:
        """See `AdminStore.refuse`."""
        made = Activation(
            0, version, at_ms, who, reason, "", diff, accepted=False, problems=problems
        )
        return self._append(made, None)

    def activations(self, limit: int) -> list[Activation]:
        """See `AdminStore.activations`."""
        rows = self._connection.execute(
            "select position, version, at_ms, who, reason, previous, diff, accepted,"
            " problems from activation order by position desc limit ?",
            (limit,),
        )
        found = [Activation(*row) for row in rows]
        return [one._replace(accepted=bool(one.accepted)) for one in found]

    def active_catalogue(self) -> ActiveCatalogue:
        """See `AdminStore.active_catalogue`."""
        return load_active(self._connection)

    def decisions_with(
        self, kinds: Collection[OutcomeKind]
    ) -> Iterator[tuple[Decision, list[Outcome]]]:
        """See `AdminStore.decisions_with`.

        It reads one part after the other, so that no log is held up for long.
        """
        after = ""
        while True:
            rows = self._connection.execute(
                "select w.decision_id, d.record, json_group_array(o.record)"
                " from (select distinct decision_id from outcome"
                "  where decision_id > ? and record ->> 'kind' in"
                "  (select value from json_each(?)) order by decision_id limit ?) w"
                " left join decision d on d.decision_id = w.decision_id"
                " join outcome o on o.decision_id = w.decision_id"
                " group by w.decision_id order by w.decision_id",
                (after, json.dumps(list(kinds)), _READ),
            ).fetchall()
            for _, record, outcomes in rows:
                told = [decode_outcome(each) for each in json.loads(outcomes)]
                if record is not None:
                    yield decode_decision(record), told
            if not rows:
                return
            after = rows[-1][0]

    def decisions_since(self, at_ms: int, limit: int) -> list[Decision]:
        """See `AdminStore.decisions_since`."""
        rows = self._connection.execute(
            "select record from (select at_ms, record from decision"
            " order by position desc limit ?) where at_ms >= ?",
            (limit, at_ms),
        )
        return [decode_decision(record) for (record,) in rows]

    def catalogue(self, version: str) -> str | None:
        """See `AdminStore.catalogue`."""
        return load_catalogue(self._connection, version)

    def epoch(self) -> int:
        """See `AdminStore.epoch`."""
        (epoch,) = self._connection.execute(
            "select max(epoch) from progress"
        ).fetchone()
        return int(epoch)

    def policies(self) -> list[str]:
        """See `AdminStore.policies`."""
        rows = self._connection.execute(
            "select settings from policy order by rowid desc"
        )
        return [text for (text,) in rows]

    def models(self, learner: str) -> list[StoredModel]:
        """See `AdminStore.models`."""
        return models.load_models(self._connection, learner)

    def snapshot(self, learner: str, *, at_most: Model) -> Snapshot | None:
        """See `AdminStore.snapshot`."""
        return models.load_snapshot(self._connection, learner, at_most=at_most)

    def release(self, learner: str) -> Release | None:
        """See `AdminStore.release`."""
        return models.load_release(self._connection, learner)

    def change_release(
        self,
        learner: str,
        change: Callable[[Release | None], Release | None],
        what: str,
    ) -> Release | None:
        """See `AdminStore.change_release`."""
        with transaction(self._connection) as db:
            return models.change_release(db, learner, change, what)

    def model_changes(self, limit: int) -> list[ModelChange]:
        """See `AdminStore.model_changes`."""
        return models.load_changes(self._connection, limit)

    def lineup(self) -> Lineup | None:
        """See `AdminStore.lineup`."""
        return models.load_lineup(self._connection)

    def change_lineup(self, lineup: Lineup, note: ModelChange) -> None:
        """See `AdminStore.change_lineup`."""
        with transaction(self._connection) as db:
            models.change_lineup(db, lineup, note)

    def contests(self, challenger: str, champion: str, limit: int) -> list[Contest]:
        """See `AdminStore.contests`."""
        return models.load_contests(self._connection, challenger, champion, limit)

    def recent(self, limit: int) -> list[Resolved]:
        """See `AdminStore.recent`."""
        return models.load_recent(self._connection, limit)

    def learner_runs(self) -> bool:
        """See `AdminStore.learner_runs`."""
        return learner_runs(self._path)

    def ask_rebuild(
        self,
        renewal: Renewal = "as_learned",
        *,
        who: str,
        reason: str,
        at_ms: int,
    ) -> int:
        """See `AdminStore.ask_rebuild`."""
        epoch = self.epoch()
        with transaction(self._connection) as db:
            models.ask_rebuild(db, epoch, renewal, who=who, reason=reason, at_ms=at_ms)
        return epoch

    def close(self) -> None:
        """See `AdminStore.close`."""
        self._connection.close()

    def _switch(self, switch: Switch) -> None:
        with transaction(self._connection) as db:
            db.execute(
                "insert into switch(scope, stopped, at_ms, who, reason)"
                " values (?, ?, ?, ?, ?)",
                switch,
            )

    def _append(self, made: Activation, text: str | None) -> int:
        """Append an activation after what holds now; return its position."""
        with transaction(self._connection) as db:
            previous = load_active(db).version
            if text is not None:
                db.execute(
                    "insert into catalogue(version, text) values (?, ?)"
                    " on conflict do nothing",
                    (made.version, text),
                )
            _, *values = made._replace(previous=previous)
            inserted = db.execute(
                "insert into activation(version, at_ms, who, reason, previous, diff,"
                " accepted, problems) values (?, ?, ?, ?, ?, ?, ?, ?)",
                values,
            )
            return int(inserted.lastrowid or 0)
