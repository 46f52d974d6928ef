"""What a learner begins with: a model from a file, or another store's stream."""

from __future__ import annotations

import base64
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import lru_cache
from pathlib import Path

import msgspec

from policies import catalogue as catalogues
from policies.catalogue import Catalogue
from policies.errors import plainly
from policies.model import Resolution
from policies.policy import LearnerSettings, Policy, PolicySettings
from policies.records import decode_decision
from policies.training import fold
from server.settings import Settings

__all__ = ["Exported", "Watcher", "body", "doubts", "export", "fold_log"]

_FORMAT = "opportune.model.v1"
_PIECE = 3 << 18
"""Bytes that are written at once: a multiple of 3, so that base 64 goes on."""

Watcher = Callable[[int, int], object]
"""Is told how much is done, and how much there is."""

_SQLITE = "sqlite:///"


class Exported(msgspec.Struct, frozen=True):
    """A model as a file: JSON, with the learner's bytes in base 64.

    Attributes:
        format: The version of these fields.
        learner: The version of the learner's settings.
        settings: The learner's settings.
        model: Which model it was.
        learned: How many rows of its training stream it had learned.
        body: The learner, as bytes.
    """

    format: str
    learner: str
    settings: LearnerSettings
    model: str
    learned: int
    body: bytes


def export(
    path: Path,
    settings: PolicySettings,
    *,
    model: str,
    body: bytes,
    watcher: Watcher = lambda *_: None,
) -> None:
    """Write a model to a file, which is there whole or not at all.

    Args:
        path: The file.
        settings: A policy with the learner.
        model: Which model it is.
        body: The learner, as bytes.
        watcher: Is told how many bytes of it were written, and how many there are.

    Raises:
        OSError: If it cannot be written.
    """
    head = msgspec.json.encode(
        {
            "format": _FORMAT,
            "learner": settings.learner_version,
            "settings": settings.learner,
            "model": model,
            "learned": int(model.partition(".")[2]),
        }
    )
    part = path.with_name(f"{path.name}.part")
    with part.open("wb") as file:
        file.write(msgspec.json.format(head, indent=1).removesuffix(b"\n}"))
        file.write(b',\n "body": "')
        for start in range(0, len(body), _PIECE):
            watcher(start, len(body))
            file.write(base64.b64encode(body[start : start + _PIECE]))
        file.write(b'"\n}\n')
    part.replace(path)
    watcher(len(body), len(body))


def body(source: str, settings: PolicySettings) -> bytes:
    """Return what a learner begins with, as bytes.

    Args:
        source: A file that `export` wrote, or another store as `sqlite:///PATH`.
        settings: A policy with the learner.

    Raises:
        OSError: If there is no such file.
        ValueError: If it is not one, or of a learner with other settings.
    """
    if source.startswith(_SQLITE):
        return fold_log(Path(source.removeprefix(_SQLITE)), settings).save()
    try:
        exported = msgspec.json.decode(Path(source).read_bytes(), type=Exported)
    except msgspec.DecodeError as error:
        raise ValueError(f"{source} is no exported model: {error}") from None
    if exported.format != _FORMAT:
        raise ValueError(f"{source} has the format {exported.format!r}, not {_FORMAT}")
    if exported.learner != settings.learner_version:
        raise ValueError(
            f"{source} is of a learner with other settings ({exported.learner}, and"
            f" here {settings.learner_version}): copy its `settings` to"
            " [policy.learner], or learn from the other store instead"
        )
    return exported.body


def doubts(settings: Settings) -> list[str]:
    """Say why learners would not begin with what the settings name, if it is so.

    Another store is only looked for, and not learned from.

    Args:
        settings: The settings, with an absolute path.
    """
    source = settings.learning.warm_start
    if not source:
        return []
    place = Path(source.removeprefix(_SQLITE))
    why = ""
    if not place.exists():
        why = f"{place} is not there"
    elif not source.startswith(_SQLITE):
        found = [_unfit(source, policy) for policy in settings.policies.values()]
        why = "" if "" in found else found[0]
    return [f"learning.warm_start: {why}; nothing is begun with"] if why else []


def _unfit(source: str, policy: PolicySettings) -> str:
    """Say why a policy's learner cannot begin with a file; empty where it can."""
    try:
        body(source, policy)
    except OSError as error:
        return f"{source} {plainly(error)}"
    except ValueError as error:
        return str(error)
    return ""


def fold_log(
    path: Path,
    settings: PolicySettings,
    watcher: Watcher = lambda *_: None,
) -> Policy:
    """Learn the latest training stream of another store.

    Args:
        path: The other store.
        settings: A policy with the learner.
        watcher: Is told how many rows were learned, and how many there are.

    Raises:
        ValueError: If it is no store, or holds no training stream.
    """
    policy = Policy(settings)
    if not path.exists():
        raise ValueError(f"there is no store at {path}")
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
            compiled = lru_cache(maxsize=8)(lambda version: _catalogue(db, version))
            count = _count(db)
            for done, (resolution, record) in enumerate(_rows(db), start=1):
                decision = decode_decision(record)
                fold(policy, resolution, decision, compiled(decision.catalogue))
                watcher(done, count)
    except sqlite3.Error as error:
        raise ValueError(f"cannot learn from {path}: {error}") from None
    return policy


def _count(db: sqlite3.Connection) -> int:
    (count,) = db.execute(
        "select count(*) from resolutions_v2"
        " where epoch = (select max(epoch) from resolutions_v2)"
    ).fetchone()
    return int(count)


def _rows(db: sqlite3.Connection) -> Iterator[tuple[Resolution, str]]:
    rows = db.execute(
        "select r.decision_id, r.reward, r.revision, r.before, d.record"
        " from resolutions_v2 r"
        " join decisions_v1 d on d.decision_id = r.decision_id"
        " where r.epoch = (select max(epoch) from resolutions_v2) order by r.position"
    )
    for *resolution, record in rows:
        yield Resolution(*resolution), record


def _catalogue(db: sqlite3.Connection, version: str) -> Catalogue:
    row = db.execute(
        "select text from catalogues_v1 where version = ?", (version,)
    ).fetchone()
    if row is None:
        raise ValueError(f"the other store lacks catalogue {version}")
    return catalogues.read(row[0], linted=False)
