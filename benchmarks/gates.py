"""Decisions with every gate on: what they take, and what histories take.

The catalogue is that of `gated`: every kind of gate is asked. One user has a year of
use behind them, in an account of five; of the other one nothing is known but what they
own. Each call is timed by itself, the cases take turns, and medians are of all calls of
all rounds. What counts is CPU time, so that it does not matter who else waits for the
same cores: calls take long enough for that.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import msgspec
from rich.progress import Progress
from rich.table import Table

from benchmarks import crowds, gated
from benchmarks.engine import timed
from policies import catalogue as catalogues
from policies.catalogue import Catalogue
from policies.engine import Past, decide, eligible
from policies.features import context_features
from policies.gates import GATES, Gate
from policies.model import History, Opportunity, State
from policies.policy import Policy, PolicySettings
from policies.records import encode, encode_decision

__all__ = ["CASES", "Sizes", "gates_of", "measure", "tables"]

GOAL_US = 40.0
"""What the gates of 50 actions may take at the most, for a user with a year of use."""

_NIGHT_MS = 11 * 3_600_000
_LESSONS = 200
_ASKED = 50
_YEARS = 9


class Sizes(NamedTuple):
    """How large a catalogue is.

    Attributes:
        offers: How many offers it has.
        candidates: How many of its actions reach the gates.
        placements: How many placements it has.
    """

    offers: int
    candidates: int
    placements: int = 4


CASES = {
    "actions_50": Sizes(1_000, 50, 100),
    "actions_1000": Sizes(1_000, 1_000, 100),
    "catalogue_10": Sizes(10, 10),
    "catalogue_1000": Sizes(1_000, 50, 100),
    "catalogue_10000": Sizes(10_000, 50, 1_000),
}
"""What is measured; equal ones are measured once."""

_USERS = 1_000


class _Case(NamedTuple):
    """What decisions are made of, and how long it took to load."""

    catalogue: Catalogue
    seconds: float
    past: Past
    opportunities: list[Opportunity]
    policy: Policy


def measure(
    progress: Progress,
    *,
    rounds: int,
    cases: dict[str, Sizes] = CASES,
    users: int = 1_000_000,
    asked: int = 500,
) -> dict[str, Any]:
    """Run the benchmark.

    Args:
        progress: Shows how far it is.
        rounds: How often everything has its turn.
        cases: What to measure, by name.
        users: How many users the largest store has; the smallest has a thousand, or as
            many.
        asked: How many decisions a turn of a store is.
    """
    task = progress.add_task("catalogues", total=len(cases))
    made: dict[Sizes, _Case] = {}
    for size in cases.values():
        if size not in made:
            made[size] = _case(size)
        progress.advance(task)
    calls = {size: _calls(case) for size, case in made.items()}
    found: dict[tuple[Sizes, str], list[list[float]]] = {}
    for _ in progress.track(range(rounds), description="gates"):
        for size, by_name in calls.items():
            inputs = made[size].opportunities
            few = inputs[: max(_ASKED * 50 // size.candidates, 5)]
            for name, call in by_name.items():
                times = timed(call, few, clock=time.thread_time)
                found.setdefault((size, name), []).append(times)
    with tempfile.TemporaryDirectory(prefix="opportune-bench-") as folder:
        catalogue = made[cases["catalogue_1000"]].catalogue
        stored = crowds.measure(
            catalogue,
            Path(folder),
            progress,
            users=sorted({min(_USERS, users), round((_USERS * users) ** 0.5), users}),
            rounds=rounds,
            asked=asked,
        )
    return {
        "rounds": rounds,
        **{name: _medians(cases, found, name) for name in _MEASURED},
        "spread": {
            key: _spread(found[size, "median_us"]) for key, size in cases.items()
        },
        "candidates": {key: _candidates(made[size]) for key, size in cases.items()},
        "eligible": {key: _eligible(made[size]) for key, size in cases.items()},
        "sizes": {key: size._asdict() for key, size in cases.items()},
        "load_seconds": {
            f"{size.offers} offers, {size.placements} placements": case.seconds
            for size, case in made.items()
        },
        "users_ratio_1e6_1e3": stored["users_ratio"],
        **_bytes(made[cases["catalogue_1000"]]),
        **stored,
    }


_MEASURED = {
    "median_us": "decide, a user with a year of use",
    "gates_median_us": "  its gates",
    "new_user_median_us": "decide, a new user",
    "new_user_gates_median_us": "  its gates",
    "silent_gates_median_us": "gates in quiet hours, a year of use",
}


def _case(size: Sizes) -> _Case:
    text = gated.catalogue_text(
        size.offers, candidates=size.candidates, placements=size.placements
    )
    started = time.perf_counter()
    catalogue = catalogues.read(text)
    seconds = time.perf_counter() - started
    past = gated.past_of_a_year(catalogue, seed=3)
    opportunities = gated.opportunities(_ASKED * 5, seed=1)
    policy = Policy(PolicySettings())
    for number, opportunity in zip(
        range(_LESSONS), itertools.cycle(opportunities), strict=False
    ):
        policy.learn(
            context_features(opportunity.context, catalogue.features),
            catalogue.actions[number % len(catalogue.actions)],
            reward=number % 5 / 5,
            propensity=0.1,
        )
    return _Case(catalogue, seconds, past, opportunities, policy)


def _calls(case: _Case) -> dict[str, Callable[[Opportunity], object]]:
    catalogue, _, past, _, policy = case
    told = State(owned=past.history.state.owned)
    new = Past(History(state=told), conditions=gated.CONDITIONS)

    def decided(opportunity: Opportunity, known: Past) -> object:
        return decide(opportunity, catalogue=catalogue, past=known, policy=policy)

    def at_night(opportunity: Opportunity) -> object:
        night = msgspec.structs.replace(
            opportunity, at_ms=opportunity.at_ms + _NIGHT_MS
        )
        return eligible(night, catalogue, past)

    return {
        "median_us": lambda asked: decided(asked, past),
        "gates_median_us": lambda asked: eligible(asked, catalogue, past),
        "new_user_median_us": lambda asked: decided(asked, new),
        "new_user_gates_median_us": lambda asked: eligible(asked, catalogue, new),
        "silent_gates_median_us": at_night,
    }


def _medians(
    cases: dict[str, Sizes],
    found: dict[tuple[Sizes, str], list[list[float]]],
    name: str,
) -> dict[str, float]:
    return {
        key: median(itertools.chain.from_iterable(found[size, name]))
        for key, size in cases.items()
    }


def _spread(rounds: list[list[float]]) -> float:
    """Return by what share of the median the medians of rounds differ."""
    medians = [median(times) for times in rounds]
    return (max(medians) - min(medians)) / median(medians)


def _candidates(case: _Case) -> int:
    opportunity = case.opportunities[0]
    return len(
        case.catalogue.candidates(
            opportunity.placements,
            moment=opportunity.context.moment.kind,
            owned=case.past.history.state.owned,
        )
    )


def _eligible(case: _Case) -> float:
    """Return how many of the candidates may be chosen."""
    counts = [
        len(eligible(opportunity, case.catalogue, case.past)[0]) - 1
        for opportunity in case.opportunities[:_ASKED]
    ]
    return median(counts)


def _bytes(case: _Case) -> dict[str, Any]:
    """Return what a year of use takes where it is written."""
    pasts = [gated.past_of_a_year(case.catalogue, seed=seed) for seed in range(_YEARS)]
    decisions = [
        decide(
            case.opportunities[0],
            catalogue=case.catalogue,
            past=past,
            policy=case.policy,
        ).decision
        for past in pasts
    ]
    return {
        "year": gated.YEAR,
        "history_bytes_year": median(len(encode(past.history)) for past in pasts),
        "account_bytes_year": median(len(encode(past.account)) for past in pasts),
        "decision_bytes_year": median(len(encode_decision(d)) for d in decisions),
        "tracks_year": median(len(past.history.tracks) for past in pasts),
    }


def gates_of(catalogue: Catalogue) -> set[type[Gate]]:
    """Return the kinds of gates that a catalogue has."""
    every: list[Gate] = []
    for placement in catalogue.placements.values():
        every += placement.gates
    for offer in catalogue.offers.values():
        every += offer.every_gate
    for gates in catalogue.action_gates.values():
        every += gates
    return {kind for kind in GATES if any(type(gate) is kind for gate in every)}


def tables(result: dict[str, Any]) -> list[Table]:
    """Show the result."""
    return [_decisions_table(result), _users_table(result), _bytes_table(result)]


def _decisions_table(result: dict[str, Any]) -> Table:
    sizes = result["sizes"]
    keys = [key for at, key in enumerate(sizes) if sizes[key] not in _first(sizes, at)]
    table = Table("", *keys, title="µs with every gate on")
    for label in ("offers", "placements"):
        table.add_row(label, *(f"{sizes[key][label]:,}" for key in keys))
    for label in ("candidates", "eligible"):
        table.add_row(label, *(f"{result[label][key]:,.0f}" for key in keys))
    table.add_section()
    for name, label in _MEASURED.items():
        table.add_row(label, *(f"{result[name][key]:,.0f}" for key in keys))
    table.add_row("rounds differ by", *(f"{result['spread'][key]:.0%}" for key in keys))
    return table


def _first(sizes: dict[str, Any], count: int) -> list[Any]:
    return list(sizes.values())[:count]


def _users_table(result: dict[str, Any]) -> Table:
    table = Table("users", "µs", title="What a decision waits for its store")
    for size, us in result["users_us"].items():
        table.add_row(f"{int(size):,}", f"{us:.0f}")
    table.add_section()
    table.add_row("the last by the first", f"{result['users_ratio_1e6_1e3']:.2f}")
    return table


def _bytes_table(result: dict[str, Any]) -> Table:
    table = Table("", "", title="What is written and loaded")
    for key, label in (
        ("history_bytes_year", "a year of a user, bytes"),
        ("account_bytes_year", "a year of their account of five, bytes"),
        ("decision_bytes_year", "a decision's record with both, bytes"),
    ):
        table.add_row(label, f"{result[key]:,.0f}")
    table.add_section()
    for size, seconds in result["load_seconds"].items():
        table.add_row(f"loading {size}, s", f"{seconds:.2f}")
    return table
