"""The engine alone: one decision without wire and store, and what its stages take.

Each call is timed by itself, and the median is of all calls of all rounds: what else
the machine does now and then does not reach it. The catalogue is that of `workload`,
the users have seen three offers and dismissed a fourth, which is therefore ruled out.
The learners have learned from a thousand rewards.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any, NamedTuple

from rich.progress import Progress
from rich.table import Table

from benchmarks import workload
from opportune.v1 import DECISION_VIEW_BASIC, GetOfferRequest, GetOfferResponse
from policies import catalogue as catalogues
from policies.catalogue import Catalogue
from policies.draw import draw, to_units
from policies.engine import Past, Verdict, decide, eligible, message_of
from policies.features import context_features
from policies.history import reserve
from policies.model import (
    EventKind,
    FloatArray,
    History,
    Opportunity,
    Tally,
    Track,
)
from policies.policy import (
    EpsilonGreedy,
    LearnerSettings,
    LinUCBSettings,
    Policy,
    PolicySettings,
    VowpalWabbitSettings,
)
from policies.records import encode, encode_decision
from server import codec

__all__ = ["measure", "tables", "timed"]

SIZES = (10, 50, 1_000)
DEFAULT = "vw"
LEARNERS: dict[str, LearnerSettings] = {
    "vw": VowpalWabbitSettings(),
    "linucb": LinUCBSettings(),
}
_STAGED_SIZE = 50
_LESSONS = 1_000
_ASKED = 200
_AT_MS = 1_780_000_000_000
_DAY_MS = 86_400_000
_ACTION_CALLS = 10_000  # A round of a measurement makes this many over its actions.


class _Case(NamedTuple):
    """What decisions are made of."""

    catalogue: Catalogue
    policy: Policy
    past: Past
    messages: list[bytes]
    opportunities: list[Opportunity]


def measure(progress: Progress, *, rounds: int) -> dict[str, Any]:
    """Run the benchmark: so many rounds, in each of which everything has its turn."""
    cases = {
        (learner, size): _case(settings, size)
        for learner, settings in LEARNERS.items()
        for size in SIZES
    }
    stages = _stages(cases[DEFAULT, _STAGED_SIZE])
    decisions_us: dict[tuple[str, int], list[float]] = {key: [] for key in cases}
    stages_us: dict[str, list[float]] = {name: [] for name in stages}
    for _ in progress.track(range(rounds), description="engine"):
        for key, case in cases.items():
            calls = max(_ACTION_CALLS // key[1], 20)
            decisions_us[key] += timed(_decider(case), _some(case, calls))
        for name, (stage, inputs) in stages.items():
            stages_us[name] += timed(stage, inputs)
    by_learner = {
        learner: {str(size): median(decisions_us[learner, size]) for size in SIZES}
        for learner in LEARNERS
    }
    return {
        "rounds": rounds,
        "median_us": by_learner[DEFAULT],
        "median_us_by_learner": by_learner,
        "stage_offers": _STAGED_SIZE,
        "stages_median_us": {name: median(us) for name, us in stages_us.items()},
    }


def _case(learner: LearnerSettings, size: int) -> _Case:
    catalogue = catalogues.read(workload.catalogue_text(size))
    requests = workload.requests(seed=3)
    messages = list(itertools.islice(requests, _ASKED))
    opportunities = [_read(message, catalogue) for message in messages]
    policy = Policy(PolicySettings(learner, EpsilonGreedy()))
    for number in range(_LESSONS):
        context = opportunities[number % _ASKED].context
        # A step that shares no factor with the size, so that every action has its turn.
        index = 1 + number * 7 % size
        policy.learn(
            context_features(context, catalogue.features),
            catalogue.actions[index],
            reward=index % 5 / 5,
            propensity=1 / size,
        )
    shown: EventKind = "shown"
    dismissed: EventKind = "dismissed"
    tracks = [
        Track(
            catalogue.chosen(catalogue.actions[1 + number]).subject,
            {kind: Tally((_AT_MS - days * _DAY_MS,))},
        )
        for number, (kind, days) in enumerate([(shown, 2)] * 3 + [(dismissed, 1)])
    ]
    past = Past(History(tuple(tracks)))
    return _Case(catalogue, policy, past, messages, opportunities)


def _read(message: bytes, catalogue: Catalogue) -> Opportunity:
    return codec.opportunity_from_proto(
        GetOfferRequest.FromString(message),
        request_id="",
        tenant="benchmark",
        at_ms=_AT_MS,
        catalogue=catalogue,
    )


def _some(case: _Case, calls: int) -> list[Opportunity]:
    return list(itertools.islice(itertools.cycle(case.opportunities), calls))


def _decider(case: _Case) -> Callable[[Opportunity], Verdict]:
    return lambda opportunity: decide(
        opportunity,
        catalogue=case.catalogue,
        past=case.past,
        policy=case.policy,
    )


def _stages(case: _Case) -> dict[str, tuple[Callable[[Any], object], list[Any]]]:
    """Return each stage of a request, with inputs as the stage before leaves them."""
    catalogue, policy, past, messages, opportunities = case
    exploration, salt = EpsilonGreedy(), policy.settings.salt
    actions, _ = eligible(opportunities[0], catalogue, past)
    features = [context_features(o.context, catalogue.features) for o in opportunities]
    scores = [policy.score(context, actions) for context in features]
    decider = _decider(case)
    verdicts = [decider(opportunity) for opportunity in opportunities]
    offered = [v for v in verdicts if v.decision.chosen]

    def distribute(values: FloatArray) -> int:
        distribution = exploration.distribution(values, learned=policy.learned)
        return draw(to_units(distribution), opportunities[0].decision_id, salt)

    def record(verdict: Verdict) -> tuple[str, str]:
        decision = verdict.decision
        chosen = catalogue.chosen(catalogue.actions[decision.chosen])
        after = reserve(past.history, chosen, decision, catalogue.memory)
        return encode_decision(decision), encode(after)

    def answer(verdict: Verdict) -> bytes:
        decision, rejections = verdict
        written = codec.decision_to_proto(
            decision,
            rejections,
            catalogue,
            DECISION_VIEW_BASIC,
            message=message_of(decision, catalogue),
        )
        return GetOfferResponse(decisions=[written]).SerializeToString()

    return {
        "read the request": (lambda m: _read(m, catalogue), messages),
        "gates": (lambda o: eligible(o, catalogue, past), opportunities),
        "features": (
            lambda o: context_features(o.context, catalogue.features),
            opportunities,
        ),
        "scores": (lambda f: policy.score(f, actions), features),
        "distribution and draw": (distribute, scores),
        "decide, all of it": (decider, opportunities),
        "records": (record, offered),
        "write the answer": (answer, offered),
    }


def timed(
    call: Callable[[Any], object],
    inputs: Sequence[Any],
    clock: Callable[[], float] = time.perf_counter,
) -> list[float]:
    """Return how long each call took, in microseconds."""
    times: list[float] = []
    for given in inputs:
        started = clock()
        call(given)
        times.append((clock() - started) * 1e6)
    return times


def tables(result: dict[str, Any]) -> list[Table]:
    """Show the result."""
    decisions = Table("learner", *map(str, SIZES), title="µs a decision, by actions")
    for learner, medians in result["median_us_by_learner"].items():
        cells = (f"{medians[str(size)]:.0f}" for size in SIZES)
        decisions.add_row(learner, *cells)
    stages = Table(
        "stage", "µs", title=f"At {result['stage_offers']} actions, {DEFAULT}"
    )
    for name, us in result["stages_median_us"].items():
        stages.add_row(name, f"{us:.1f}")
    return [decisions, stages]
