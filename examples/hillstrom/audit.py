"""What the server's own file says: read through its views, and counted again."""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from policies import catalogue as catalogues
from policies.specs import CapSpec

__all__ = ["NotLearnedError", "caps_broken", "lost", "trained", "until_learned"]

_POLL_S = 0.1
_STALLED_S = 30.0


class NotLearnedError(Exception):
    """The learner stands still before it has learned everything."""


class _Shown(NamedTuple):
    catalogue: str
    user_id: str
    action: int
    at_ms: int


async def until_learned(
    store: Path, shown: int, watch: Callable[[int], None] = lambda _: None
) -> int:
    """Wait until every decision that was shown is resolved, learned and published.

    Args:
        store: The server's file.
        shown: How many decisions were reported shown.
        watch: Is told how many are learned and published, again and again.

    Returns:
        How many rows of the training stream the published model has learned.

    Raises:
        NotLearnedError: If nothing moves for half a minute.
    """
    loop = asyncio.get_running_loop()
    last, moved = (-1, -1), loop.time()
    while True:
        resolved, learned = _progress(store)
        watch(learned)
        if resolved >= shown and learned >= resolved:
            return learned
        if (resolved, learned) != last:
            last, moved = (resolved, learned), loop.time()
        elif loop.time() - moved > _STALLED_S:
            raise NotLearnedError(
                f"of {shown} decisions shown the learner has resolved {resolved} and"
                f" learned {learned}, and stands still; see the server's log"
            )
        await asyncio.sleep(_POLL_S)


def caps_broken(store: Path) -> int:
    """Count the shown offers that were more than a cap of theirs allows.

    This does not ask the server: it takes what was reported shown, whenever that
    was, and counts for each user, offer and cap how many there were in each window.
    """
    with closing(_open(store)) as db:
        texts = dict(db.execute("select version, text from catalogues_v1"))
        compiled = {
            version: catalogues.read(text, linted=False)
            for version, text in texts.items()
        }
        times: dict[tuple[str, str, str], list[int]] = defaultdict(list)
        for shown in _shown_offers(db):
            offer_id = compiled[shown.catalogue].actions[shown.action].offer_id
            times[shown.catalogue, shown.user_id, offer_id].append(shown.at_ms)
    return sum(
        _excess(at_ms, cap)
        for (version, _, offer_id), at_ms in times.items()
        for cap in compiled[version].offers[offer_id].spec.caps
    )


def lost(store: Path, acknowledged: Collection[tuple[str, str]]) -> int:
    """Count the outcomes that were acknowledged and are not in the file.

    Args:
        store: The file of a server that has stopped.
        acknowledged: Ids of decisions and of outcomes of theirs.
    """
    with closing(_open(store)) as db:
        kept = set(db.execute("select decision_id, outcome_id from outcomes_v1"))
    return len(set(acknowledged) - kept)


def trained(store: Path, decision_ids: Collection[str]) -> int:
    """Count the rows of the training stream that are about some decisions."""
    with closing(_open(store)) as db:
        rows = db.execute("select decision_id from resolutions_v1").fetchall()
    wanted = frozenset(decision_ids)
    return sum(decision_id in wanted for (decision_id,) in rows)


def _progress(store: Path) -> tuple[int, int]:
    """Return how many decisions are resolved, and how many of them are published."""
    with closing(_open(store)) as db:
        (resolved,) = db.execute(
            "select count(distinct decision_id) from resolutions_v1"
        ).fetchone()
        (learned,) = db.execute(
            "select coalesce(max(position), 0) from snapshots_v1"
        ).fetchone()
    return resolved, learned


def _shown_offers(db: sqlite3.Connection) -> Iterator[_Shown]:
    rows = db.execute(
        "select d.record ->> '$.catalogue', d.record ->> '$.opportunity.user_id',"
        " d.record ->> '$.chosen', min(o.record ->> '$.at_ms')"
        " from outcomes_v1 o join decisions_v1 d on d.decision_id = o.decision_id"
        " where o.record ->> '$.kind' = 'shown' and d.record ->> '$.chosen' > 0"
        " group by o.decision_id"
    )
    return map(_Shown._make, rows)


def _excess(times: list[int], cap: CapSpec) -> int:
    """Count the times at which the window that ends there held too many.

    The caps of the example roll, or are for life.
    """
    ordered = sorted(times)
    if cap.window is None:
        return max(len(ordered) - cap.limit, 0)
    window_ms = int(cap.window)
    held = (
        count - bisect_right(ordered, at_ms - window_ms)
        for count, at_ms in zip(itertools.count(1), ordered, strict=False)
    )
    return sum(count > cap.limit for count in held)


def _open(store: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{store.resolve().as_uri()}?mode=ro", uri=True, timeout=30)
