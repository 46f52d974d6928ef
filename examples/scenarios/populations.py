"""Users by the hundred: what a server learns of them, and what it does to them."""

from __future__ import annotations

import random
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from examples.scenarios.script import Group, Learning, Tell, Year, told
from examples.scenarios.serving import Served
from examples.scenarios.wire import ask_request, report_request, tell_requests
from opportune.v1 import Decision

__all__ = ["Found", "Said", "learn", "live"]

_ROUND = 5
"""How many of each group ask before the learner learns once more."""

_APART_MS = 60_000
_HOUR_MS = 3_600_000
_SILENCE = "no_offer"


class Said(NamedTuple):
    """What came, and why."""

    came: str
    why: str


class Found(NamedTuple):
    """What was found, and what of it was not expected."""

    said: Said
    misses: tuple[str, ...]


async def learn(learning: Learning, served: Served) -> dict[str, Found]:
    """Let users ask in turn, let them answer, and look at what was learned of them.

    Args:
        learning: Who asks, and what is expected.
        served: The server.

    Returns:
        What was found, by group.
    """
    chance = random.Random(learning.case)
    last = learning.asks // 5
    seen: dict[str, list[Decision]] = {name: [] for name in learning.groups}
    for number in range(learning.asks):
        for name, group in learning.groups.items():
            user_id = f"{name} {number}"
            seen[name].append(await _asked(served, group, user_id, chance))
        served.clock.now_ms += _APART_MS
        if number % _ROUND == _ROUND - 1:
            await served.learn()
    return {
        name: _compare(group, seen[name][-last:])
        for name, group in learning.groups.items()
    }


async def live(year: Year, served: Served) -> Found:
    """Let a population come again and again for a year, and count what they see.

    Args:
        year: Who comes, and what is expected.
        served: The server.
    """
    chance = random.Random(year.case)
    users = [f"user {number}" for number in range(year.users)]
    for user_id in users:
        await _tell(served, year.tell, user_id)
    interruptions, offers = Counter(users), Counter(users)
    for _ in range(round(365 * 24 * _HOUR_MS / year.every)):
        for user_id in users:
            now_ms = served.clock.now_ms
            ask = chance.choice(year.asks)
            request = ask_request(ask, user_id, "", now_ms, f"{now_ms}")
            response = await served.decisions.GetOffer(request)
            for decision in response.decisions:
                if decision.offer_id:
                    await _report(served, decision, ("shown",))
                    offers[user_id] += 1
                    interruptions[user_id] += (
                        decision.placement_id in served.interrupting
                    )
        served.clock.now_ms += year.every
        await served.keep_up()
        await served.learn()
    often = statistics.median(interruptions.values()) - 1
    shown = statistics.median(offers.values()) - 1
    misses = []
    if often != year.interruptions:
        misses.append(f"not {year.interruptions:g} interruptions")
    if shown < year.offers:
        misses.append(f"not {year.offers:g} offers or more")
    came = f"median {often:g} interruptions, {shown:g} offers"
    total = interruptions.total() - year.users
    return Found(Said(came, f"{total} interruptions in all"), tuple(misses))


async def _asked(
    served: Served, group: Group, user_id: str, chance: random.Random
) -> Decision:
    """Let a new user of a group ask, and answer as they like what they get."""
    await _tell(served, group.tell, user_id)
    request = ask_request(group.ask, user_id, "", served.clock.now_ms, "first")
    decision = (await served.decisions.GetOffer(request)).decisions[0]
    if chance.random() < group.takes.get(decision.offer_id, 0.0):
        said: tuple[str, ...] = ("shown", "accepted")
    elif decision.offer_id and chance.random() < group.dismisses:
        said = "shown", "dismissed"
    else:
        said = ("shown",)
    await _report(served, decision, said)
    return decision


async def _tell(served: Served, tell: Tell | tuple[Tell, ...], user_id: str) -> None:
    for part in told(tell):
        for request in tell_requests(part, user_id, "", served.clock.now_ms):
            await served.tell(request)


async def _report(served: Served, decision: Decision, said: Sequence[str]) -> None:
    request = report_request(decision, said, served.clock.now_ms, 0)
    await served.decisions.ReportOutcome(request)


def _compare(group: Group, decisions: Sequence[Decision]) -> Found:
    """Compare the probabilities of the last decisions with what is expected."""
    chances = _chances(decisions)
    best, probability = max(chances.items(), key=lambda item: item[1])
    learned = group.learned
    misses = []
    if best != learned.best or probability <= learned.above:
        misses.append(f"not {learned.best} above {learned.above:g}")
    for offer_id, limit in learned.below.items():
        if chances.get(offer_id, 0.0) >= limit:
            misses.append(f"{offer_id} is not below {limit:g}")
    others = ", ".join(
        f"{name} {share:.2f}"
        for name, share in sorted(chances.items(), key=lambda item: -item[1])
        if name != best
    )
    said = Said(f"{best} {probability:.2f}", f"others: {others}" if others else "")
    return Found(said, tuple(misses))


def _chances(decisions: Sequence[Decision]) -> Mapping[str, float]:
    """Return the mean probability of each offer over decisions."""
    chances: Counter[str] = Counter()
    for decision in decisions:
        for candidate in decision.candidates:
            offer_id = candidate.offer_id or _SILENCE
            chances[offer_id] += candidate.probability  # type: ignore[assignment]
    return {name: total / len(decisions) for name, total in chances.items()}
