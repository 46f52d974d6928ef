"""How fast the decisions of a log are made again, and compared with it.

Logs are written as a server keeps them, by the engine that a server decides with: a
LinUCB among 20 offers takes up what it has learned every 500 decisions, users come
back, and what they did about what they saw is in their past. In `plain` logs the
catalogue is that of the server's benchmark: each offer has two caps and a cool-down,
every third a rule, and nine users in ten are new. In `gated` ones it has every gate,
and all users have the past of a month and colleagues with one.

Beside it, the engine alone makes the same decisions, from what is in memory already:
what is above that is reading and comparing.
"""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, NamedTuple

import msgspec

from benchmarks import gated, reading, workload
from policies import catalogue as catalogues
from policies.catalogue import Catalogue
from policies.engine import Past, decide, past_of
from policies.history import report, reserve
from policies.identity import decision_id, root_key
from policies.model import (
    NO_OFFER,
    Context,
    Decision,
    FeatureValue,
    Opportunity,
    Outcome,
    Resolution,
)
from policies.policy import EpsilonGreedy, LinUCBSettings, Policy, PolicySettings
from policies.records import encode, encode_decision
from policies.training import fold
from server.stores.opening import migrate_store
from simulator.logs import Log
from simulator.replaying import replay

__all__ = ["Again", "Kind", "empty_store", "measure", "write_log"]

Kind = Literal["plain", "gated"]

_ACTIONS = 20
_OFFERS = 40
_EVERY = 500
_RETURNING = 0.1
_PASTS = 16
_WEEKS = 4
_VISITS = 10
_HOUR_MS = 3_600_000
_SECOND_MS = 1_000
_POLICY = PolicySettings(LinUCBSettings(), EpsilonGreedy(epsilon=0.1))


class Again(NamedTuple):
    """What making a log again took.

    Attributes:
        decisions: How many there are.
        eligible: How many actions were eligible on average.
        replay: All of it, in a process of its own.
        engine: Seconds of a decision of the engine alone.
    """

    decisions: int
    eligible: float
    replay: reading.Peak
    engine: float


class _World(NamedTuple):
    """What a log is written from.

    Attributes:
        text: The catalogue.
        visits: Yields who comes, by number, and what is asked for them.
        begin: Returns the past that a user begins with, by number.
    """

    text: str
    visits: Callable[[int], Iterator[tuple[int, Opportunity]]]
    begin: Callable[[int], Past]


def write_log(path: Path, kind: Kind, decisions: int) -> float:
    """Write a log, and return how many actions were eligible on average."""
    world = _plain() if kind == "plain" else _gated()
    catalogue, policy = catalogues.read(world.text), Policy(_POLICY)
    path.write_bytes(empty_store())
    database = sqlite3.connect(path)
    database.execute(
        "insert into catalogue values (?, ?)", (catalogue.version, catalogue.text)
    )
    database.execute(
        "insert into policy values (?, ?)", (policy.version, policy.settings.to_json())
    )
    pasts: dict[int, Past] = {}
    pending: list[tuple[Resolution, Decision]] = []
    eligible = 0
    for position, (user, opportunity) in enumerate(world.visits(decisions), 1):
        past = pasts.get(user) or world.begin(user)
        decision = decide(
            opportunity, catalogue=catalogue, past=past, policy=policy
        ).decision
        eligible += len(decision.actions)
        outcomes = _outcomes(decision, position)
        pasts[user] = _after(past, decision, outcomes, catalogue)
        reward = float(any(outcome.kind == "accepted" for outcome in outcomes))
        resolution = Resolution(decision.opportunity.decision_id, reward)
        pending.append((resolution, decision))
        _insert(database, position, decision, outcomes, reward)
        if position % _EVERY == 0:
            for row in pending:
                fold(policy, *row, catalogue)
            pending.clear()
            policy.model, policy.learned = f"1.{position}", position
    database.commit()
    database.close()
    return eligible / decisions


def measure(kind: Kind, decisions: int) -> Again:
    """Write a log and make it again.

    Raises:
        SystemExit: If a decision did not come out again.
    """
    with TemporaryDirectory() as folder:
        path = Path(folder) / "opportune.db"
        eligible = write_log(path, kind, decisions)
        found = reading.apart(_identical, path)
        if found.result != decisions:
            raise SystemExit("not every decision came out again")
        return Again(decisions, eligible, found, _engine(path))


def _identical(path: Path) -> float:
    with Log(path) as log:
        return float(replay(log).identical)


@cache
def empty_store() -> bytes:
    """Return the file of a server that nobody has asked anything."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "opportune.db"
        migrate_store(f"sqlite:///{path}")
        database = sqlite3.connect(path)
        database.execute("pragma wal_checkpoint(truncate)")
        database.execute("pragma journal_mode = delete")
        database.close()
        return path.read_bytes()


def _engine(path: Path, most: int = 2_000) -> float:
    """Return the seconds that the engine alone takes for a decision of a log."""
    with Log(path) as log:
        found = [
            log.read(record.record, "it")
            for record in log.records(1, min(most, log.last))
        ]
        catalogue = log.catalogue(found[0].catalogue)
        policy = Policy(log.policy(found[0].policy))
    began = time.process_time()
    for decision in found:
        decide(
            decision.opportunity,
            catalogue=catalogue,
            past=past_of(decision),
            policy=policy,
        )
    return (time.process_time() - began) / len(found)


def _plain() -> _World:
    draw = random.Random(3)
    plans, countries = ("free", "starter", "team"), ("de", "fr", "gb", "in", "jp", "us")

    def visits(decisions: int) -> Iterator[tuple[int, Opportunity]]:
        users = 0
        for number in range(decisions):
            user = users
            if users and draw.random() < _RETURNING:
                user = draw.randrange(users)
            else:
                users += 1
            features: dict[str, FeatureValue] = {
                "plan": draw.choice(plans),
                "country": draw.choice(countries),
                "channel": draw.choice(("mail", "partner", "search", "web")),
                "trial": draw.random() < 0.3,
                "admin": draw.random() < 0.2,
                "age_days": float(draw.randrange(1_000)),
                "seats": float(draw.randrange(3, 50)),
                "storage_gb": round(draw.expovariate(0.1), 1),
                "shares_week": float(draw.randrange(20)),
                "logins_week": float(draw.randrange(50)),
            }
            yield (
                user,
                Opportunity(
                    *_named(user, number),
                    placements=(workload.PLACEMENT,),
                    context=Context(segment="active", features=features),
                ),
            )

    return _World(workload.catalogue_text(_ACTIONS), visits, lambda _: Past())


def _gated() -> _World:
    text = gated.catalogue_text(_OFFERS, candidates=_ACTIONS)
    catalogue = catalogues.read(text)
    pasts = [
        gated.past_of_a_year(catalogue, seed=seed, weeks=_WEEKS)
        for seed in range(_PASTS)
    ]
    asked = gated.opportunities(997, seed=3)

    def visits(decisions: int) -> Iterator[tuple[int, Opportunity]]:
        users = max(decisions // _VISITS, 1)
        for number in range(decisions):
            user = number % users
            name, at_ms, user_id = _named(user, number)
            yield (
                user,
                msgspec.structs.replace(
                    asked[number % len(asked)],
                    decision_id=name,
                    at_ms=at_ms,
                    user_id=user_id,
                    account_id=user_id,
                ),
            )

    return _World(text, visits, lambda user: pasts[user % _PASTS])


def _named(user: int, number: int) -> tuple[str, int, str]:
    """Return a decision's id, its time and its user."""
    name = f"user-{user}"
    key = decision_id(root_key("benchmark", name, name), name, str(number))
    return key, gated.AT_MS + number * _SECOND_MS, name


def _outcomes(decision: Decision, number: int) -> list[Outcome]:
    """Return what a user does: an offer is seen, and sometimes answered."""
    if decision.chosen == NO_OFFER:
        return []
    at_ms = decision.opportunity.at_ms + 1
    seen = Outcome("0", "shown", at_ms)
    kind = ("ignored", "accepted", "ignored", "dismissed", "ignored")[
        (number + decision.chosen) % 5
    ]
    return [seen, Outcome("1", kind, at_ms + 1)]  # type: ignore[arg-type]


def _after(
    past: Past, decision: Decision, outcomes: list[Outcome], catalogue: Catalogue
) -> Past:
    if decision.chosen == NO_OFFER:
        return past
    chosen = catalogue.chosen(catalogue.actions[decision.chosen])
    memory, name = catalogue.memory, decision.opportunity.decision_id
    history = reserve(past.history, chosen, decision, memory)
    account = past.account
    shared = bool(decision.opportunity.account_id)
    if shared:
        account = reserve(account, chosen, decision, memory, account=True)
    for at, outcome in enumerate(outcomes):
        history = report(history, chosen, name, outcome, memory, confirmed=at > 0)
        if shared:
            account = report(
                account,
                chosen,
                name,
                outcome,
                memory,
                confirmed=at > 0,
                account=True,
            )
    return past._replace(history=history, account=account)


def _insert(
    database: sqlite3.Connection,
    position: int,
    decision: Decision,
    outcomes: list[Outcome],
    reward: float,
) -> None:
    name, at_ms = decision.opportunity.decision_id, decision.opportunity.at_ms
    database.execute(
        "insert into decision(position, decision_id, at_ms, record)"
        " values (?, ?, ?, ?)",
        (position, name, at_ms, encode_decision(decision)),
    )
    database.executemany(
        "insert into outcome(decision_id, outcome_id, record) values (?, ?, ?)",
        [(name, outcome.outcome_id, encode(outcome)) for outcome in outcomes],
    )
    database.execute(
        "insert into resolution(epoch, position, decision_id, reward, revision)"
        " values (1, ?, ?, ?, 1)",
        (position, name, reward),
    )
