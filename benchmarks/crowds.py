"""How long a decision waits for its store, by how many users the store knows.

A file is filled with users, each with a history of their own age: two in five came this
week, one in ten has a year of use. Then users are drawn, and their decisions loaded and
committed as the server does; what is decided in between is not timed.
"""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import msgspec
from rich.progress import Progress

from benchmarks import gated
from policies.catalogue import Catalogue
from policies.engine import Past, decide
from policies.history import reserve
from policies.identity import decision_id, root_key, root_of
from policies.model import NO_OFFER, Decision, History, Opportunity
from policies.policy import Policy, PolicySettings
from policies.records import encode
from server.stores.base import Histories, ServingStore, TrainingStore
from server.stores.opening import migrate_store, open_serving, open_training

__all__ = ["Crowd", "fill", "measure"]

WEEKS = {1: 0.4, 4: 0.25, 13: 0.15, 26: 0.1, 52: 0.1}
"""For how many weeks what share of the users has been there."""

_TENANT = "benchmark"
_DIFFERENT = 40
_BATCH = 20_000


class Crowd(NamedTuple):
    """An open store with so many users."""

    users: int
    store: ServingStore
    training: TrainingStore


def measure(
    catalogue: Catalogue,
    folder: Path,
    progress: Progress,
    *,
    users: Sequence[int],
    rounds: int,
    asked: int,
) -> dict[str, Any]:
    """Measure stores of some sizes, which take turns.

    Args:
        catalogue: What is decided from.
        folder: Where the stores are made.
        progress: Shows how far it is.
        users: The sizes.
        rounds: How often each has its turn.
        asked: How many decisions a turn is.
    """
    records = list(_records(catalogue))
    turns = rounds + 1
    task = progress.add_task("users", total=sum(users) + turns * len(users) * asked)
    urls = {size: f"sqlite:///{folder}/{size}.db" for size in users}
    for size, url in urls.items():
        migrate_store(url)
        for done in fill(Path(url.removeprefix("sqlite:///")), size, records):
            progress.advance(task, done)
    os.sync()  # What is still to be written would slow down the first turns.
    requests = gated.opportunities(asked, seed=5)
    times = asyncio.run(
        _turns(catalogue, urls, requests, turns, lambda: progress.advance(task))
    )
    # In its first turn a store fills its caches.
    medians = {size: [median(us) for us in times[size][1:]] for size in users}
    first, last = users[0], users[-1]
    pairs = zip(medians[last], medians[first], strict=True)
    return {
        "users_us": {str(size): median(medians[size]) for size in users},
        "users_rounds_us": {str(size): medians[size] for size in users},
        "users_ratio": median(many / few for many, few in pairs),
        "users_history_bytes": sum(map(len, records)) / len(records),
    }


def _records(catalogue: Catalogue) -> Iterator[str]:
    """Yield histories as they are stored, of each age its share."""
    for weeks, share in WEEKS.items():
        for seed in range(round(share * _DIFFERENT)):
            past = gated.past_of_a_year(catalogue, seed=seed, weeks=weeks, colleagues=0)
            yield encode(past.history)


def fill(path: Path, size: int, records: Sequence[str]) -> Iterator[int]:
    """Store so many users; yield how many were, now and then."""
    rows = [(root_key(_TENANT, "", name), name) for name in map(_name, range(size))]
    rows.sort()  # As they lie in the file; it takes ages otherwise.
    draw = random.Random(size)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("pragma journal_mode = off")
        db.execute("pragma synchronous = off")
        for first in range(0, size, _BATCH):
            batch = rows[first : first + _BATCH]
            db.execute("begin")
            db.executemany(
                "insert into history values (?, ?, 1, ?)",
                [(*row, draw.choice(records)) for row in batch],
            )
            db.execute("commit")
            yield len(batch)
        db.execute("pragma journal_mode = wal")


def _name(number: int) -> str:
    return f"user-{number}"


async def _turns(
    catalogue: Catalogue,
    urls: Mapping[int, str],
    requests: Sequence[Opportunity],
    count: int,
    advance: Callable[[], object],
) -> dict[int, list[list[float]]]:
    """Let the stores take turns; return of each what its decisions took, in µs."""
    crowds = [
        Crowd(size, open_serving(url), open_training(url)) for size, url in urls.items()
    ]
    policy = Policy(PolicySettings())
    draw = random.Random(1)
    turns: dict[int, list[list[float]]] = {size: [] for size in urls}
    for turn in range(count):
        for crowd in crowds:
            times: list[float] = []
            for number, request in enumerate(requests):
                asked = _asked(
                    request, _name(draw.randrange(crowd.users)), turn, number
                )
                times.append(await _decide(crowd.store, catalogue, policy, asked))
                advance()
            turns[crowd.users].append(times)
            crowd.training.maintain()  # As the learner does all the time.
    for crowd in crowds:
        await crowd.store.close()
        crowd.training.close()
    return turns


def _asked(request: Opportunity, user_id: str, turn: int, number: int) -> Opportunity:
    """Return what a user asks who stands alone."""
    root = root_key(_TENANT, "", user_id)
    return msgspec.structs.replace(
        request,
        decision_id=decision_id(root, user_id, f"{turn}-{number}"),
        user_id=user_id,
        account_id="",
    )


async def _decide(
    store: ServingStore,
    catalogue: Catalogue,
    policy: Policy,
    opportunity: Opportunity,
) -> float:
    """Make a decision; return what the store took of it, in µs."""
    root = root_of(opportunity.decision_id)
    started = time.perf_counter()
    seen = await store.past(root, opportunity.user_id, account=False)
    loaded = time.perf_counter()
    past = Past(seen.user.history, conditions=gated.CONDITIONS)
    decision = decide(
        opportunity, catalogue=catalogue, past=past, policy=policy
    ).decision
    after = _after(past.history, decision, catalogue)
    decided = time.perf_counter()
    stored = await store.commit(decision, seen=seen, after=after)
    ended = time.perf_counter()
    if stored is not decision:
        raise RuntimeError("nobody else uses this store")
    return (loaded - started + ended - decided) * 1e6


def _after(
    history: History, decision: Decision, catalogue: Catalogue
) -> Histories | None:
    if decision.chosen == NO_OFFER:
        return None
    chosen = catalogue.chosen(catalogue.actions[decision.chosen])
    return Histories(reserve(history, chosen, decision, catalogue.memory))
