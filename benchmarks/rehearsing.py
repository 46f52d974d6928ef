"""How fast a log is rehearsed under other rules, with all gates asked.

A log as a server keeps it is written for 20 actions in a catalogue with every gate:
each user comes ten times, with the past of a month of use, and is rehearsed under the
rules that decided, with every gate of every decision asked again and without, and
under a looser cap of all offers and of one. It is a part of
`python -m benchmarks.simulator`.
"""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import msgspec

from benchmarks import reading
from benchmarks.gated import AT_MS, catalogue_text, opportunities, past_of_a_year
from benchmarks.replaying import empty_store
from policies import catalogue as catalogues
from policies.catalogue import Catalogue
from policies.engine import Past, decide
from policies.history import reserve
from policies.identity import decision_id, root_key
from policies.model import NO_OFFER, Decision, Outcome
from policies.policy import EpsilonGreedy, LinUCBSettings, Policy, PolicySettings
from policies.records import encode, encode_decision
from simulator.logs import Log
from simulator.rehearsing import Rehearsal, rehearse

__all__ = ["Rehearsed", "measure"]

_ACTIONS = 20
_OFFERS = 40
_VISITS = 10
_PASTS = 16
_WEEKS = 4
_REPEATS = 2
_HOUR_MS = 3_600_000
_POLICY = PolicySettings(LinUCBSettings(dim=8), EpsilonGreedy(epsilon=1.0))
_TWICE = "{ limit = 2,"
_WEEKLY = '{ limit = 20, window = "7d" }'


class Rehearsed(NamedTuple):
    """What rehearsing a log took, in seconds of one core.

    Attributes:
        same: Where the rules of the placements are as they were.
        asked: The same with every gate of every decision asked again.
        other: Under another cap for all offers.
        one: Under another cap of one offer.
        peak_mb: The most memory of a process that rehearsed it, in MB.
    """

    same: float
    asked: float
    other: float
    one: float
    peak_mb: float


def measure(size: int) -> Rehearsed:
    """Write a log of so many decisions, and rehearse it.

    Raises:
        SystemExit: If the same rules did not lead to the log.
    """
    text = catalogue_text(_OFFERS, candidates=_ACTIONS)
    looser = text.replace(_WEEKLY, '{ limit = 30, window = "7d" }', 1)
    lifted = text.replace(_TWICE, "{ limit = 3,", 1)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "opportune.db"
        _written(path, text, size)
        new = Path(folder) / "new.toml"
        new.write_text(looser, encoding="utf-8")
        offer = Path(folder) / "offer.toml"
        offer.write_text(lifted, encoding="utf-8")
        same, result = _best(path, "logged")
        asked, again = _best(path, "logged", thorough=True)
        if not result.coverage == again.coverage == 1.0:
            raise SystemExit("the same rules did not lead to the log")
        other, _ = _best(path, str(new))
        one, _ = _best(path, str(offer))
        peak = reading.apart(_thorough, path)
        return Rehearsed(same, asked, other, one, peak.peak_mb)


def _thorough(path: Path) -> float:
    with Log(path) as log:
        return rehearse(log, "logged", thorough=True).coverage


def _best(
    path: Path, catalogue: str, *, thorough: bool = False
) -> tuple[float, Rehearsal]:
    """Return the seconds of one core that the fastest of a few turns took."""
    seconds: list[float] = []
    for _ in range(_REPEATS):
        started = time.process_time()
        with Log(path) as log:
            result = rehearse(log, catalogue, thorough=thorough)
        seconds.append(time.process_time() - started)
    return min(seconds), result


def _written(path: Path, text: str, size: int) -> None:
    """Write a log."""
    path.write_bytes(empty_store())
    catalogue, policy = catalogues.read(text), Policy(_POLICY)
    pasts = [
        past_of_a_year(catalogue, seed=seed, weeks=_WEEKS) for seed in range(_PASTS)
    ]
    asked = opportunities(997, seed=3)
    database = sqlite3.connect(path)
    database.execute(
        "insert into catalogue values (?, ?)", (catalogue.version, catalogue.text)
    )
    database.execute(
        "insert into policy values (?, ?)", (policy.version, policy.settings.to_json())
    )
    users = range(size // _VISITS)
    after: list[Past] = [pasts[user % _PASTS] for user in users]
    for position in range(1, size + 1):
        visit, user = divmod(position - 1, len(users))
        name = f"user-{user}"
        root = root_key("benchmark", name, name)
        opportunity = msgspec.structs.replace(
            asked[position % len(asked)],
            decision_id=decision_id(root, name, str(visit)),
            user_id=name,
            account_id=name,
            at_ms=AT_MS + visit * _HOUR_MS // 2,
        )
        decision = decide(
            opportunity, catalogue=catalogue, past=after[user], policy=policy
        ).decision
        after[user] = _reserved(after[user], decision, catalogue)
        _insert(database, decision, position)
    database.commit()
    database.close()


def _reserved(past: Past, decision: Decision, catalogue: Catalogue) -> Past:
    if decision.chosen == NO_OFFER:
        return past
    chosen = catalogue.chosen(catalogue.actions[decision.chosen])
    memory = catalogue.memory
    return past._replace(
        history=reserve(past.history, chosen, decision, memory),
        account=reserve(past.account, chosen, decision, memory, account=True),
    )


def _insert(database: sqlite3.Connection, decision: Decision, position: int) -> None:
    asked = decision.opportunity
    name = asked.decision_id
    database.execute(
        "insert into decision(position, decision_id, at_ms, record)"
        " values (?, ?, ?, ?)",
        (position, name, asked.at_ms, encode_decision(decision)),
    )
    kind = ("accepted", "dismissed", "ignored")[position % 3]
    for number, told in enumerate(("shown", kind)):
        outcome = Outcome(str(number), told, asked.at_ms + number)  # type: ignore[arg-type]
        database.execute(
            "insert into outcome(decision_id, outcome_id, record) values (?, ?, ?)",
            (name, str(number), encode(outcome)),
        )
    database.execute(
        "insert into resolution(epoch, position, decision_id, reward, revision)"
        " values (1, ?, ?, ?, 1)",
        (position, name, float(kind == "accepted")),
    )
