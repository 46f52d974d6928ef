"""The logged propensity is the true one, whatever policy decides.

A new learner or exploration is tested by being named: the cases come from the settings.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from typing import get_args

import pytest

from policies import catalogue as catalogues
from policies.engine import Past, decide
from policies.identity import decision_id, root_key
from policies.model import (
    NO_OFFER,
    PROBABILITY_UNITS,
    Action,
    Context,
    Decision,
    Features,
    History,
    Moment,
    Opportunity,
    Subject,
    Tally,
    Track,
)
from policies.policy import (
    Chances,
    Exploration,
    LearnerSettings,
    LinUCBSettings,
    Policy,
    PolicySettings,
    Softmax,
    TrafficSettings,
    VowpalWabbitSettings,
)
from tests.policies.frequencies import P_0001, Frequencies
from tests.policies.shops import HOUR, NOW

CATALOGUE = catalogues.read("""
[features.seats]
type = "number"

[placements.list]
[placements.card]

[offers.tea]
placements = ["list", "card"]
priority = 2
[offers.tea.creatives.calm]
[offers.tea.creatives.bold]

[offers.jam]
placements = ["list", "card"]
traffic = { least = 0.05, most = 0.3 }

[offers.oats]
placements = ["list"]
eligible = "segment == 'small'"

[offers.rice]
placements = ["list", "card"]
moments = ["renewal"]

[offers.late]
placements = ["list"]
traffic = { new_outcomes = 10, new_least = 0.1, new_most = 0.15 }

[offers.seen]
placements = ["list", "card"]
caps = [{ limit = 1, window = "1d" }]
""")
PAST = Past(
    History(
        tracks=(
            Track(Subject("seen", "default", "card"), {"shown": Tally((NOW - HOUR,))}),
        )
    )
)
CONTEXTS = (
    Context(segment="small"),
    Context(segment="large", moment=Moment("renewal"), features={"seats": 7.0}),
)
BOUNDS = TrafficSettings(floor=0.02, most=0.6)
DRAWS = 500

LEARNERS: list[type[LearnerSettings]] = list(get_args(LearnerSettings))
EXPLORATIONS: list[type[Exploration]] = list(get_args(Exploration))


class Remembering(Policy):
    """A policy that works each distribution out once: it is the same every time."""

    def __init__(self, settings: PolicySettings, body: bytes, *, learned: int) -> None:
        super().__init__(settings, body, learned=learned)
        self._known: dict[tuple[Features, tuple[int, ...]], Chances] = {}

    def chances(self, context: Features, actions: Sequence[Action]) -> Chances:
        key = context, tuple([action.index for action in actions])
        if key not in self._known:
            self._known[key] = super().chances(context, actions)
        return self._known[key]


def exploration_of(kind: type[Exploration]) -> Exploration:
    return Softmax(temperature=0.3) if issubclass(kind, Softmax) else kind()


@functools.cache
def learned(kind: type[LearnerSettings]) -> tuple[bytes, int]:
    """Return what a learner knows that has learned a little of most offers."""
    learner = VowpalWabbitSettings(bits=12) if kind is VowpalWabbitSettings else kind()
    policy = Policy(PolicySettings(learner))
    for action, turn in itertools.product(CATALOGUE.actions, range(5)):
        if action.offer_id == "late":
            continue
        context: Features = (("constant", 1.0), ("segment=small", float(turn % 2)))
        earned = (action.index * 7 + turn) % 11 / 10.0
        policy.learn(context, action, reward=earned, propensity=0.2)
    return policy.save(), policy.learned


def policy_of(
    learner: type[LearnerSettings],
    exploration: type[Exploration],
    traffic: TrafficSettings,
    kind: type[Policy] = Policy,
) -> Policy:
    body, count = learned(learner)
    named = (
        VowpalWabbitSettings(bits=12) if learner is VowpalWabbitSettings else learner()
    )
    settings = PolicySettings(named, exploration_of(exploration), "salt", traffic)
    return kind(settings, body, learned=count)


def decisions(policy: Policy, count: int = DRAWS, name: str = "") -> list[Decision]:
    root = root_key("shop", "", "ada")
    return [
        decide(
            Opportunity(
                decision_id(root, "ada", f"request-{name}{number}", 0),
                NOW,
                "ada",
                ("list", "card") if number % 3 else ("card",),
                context=CONTEXTS[number % 2],
            ),
            catalogue=CATALOGUE,
            past=PAST,
            policy=policy,
        ).decision
        for number in range(count)
    ]


def units_of(decision: Decision, offer_id: str) -> Sequence[int]:
    return [
        units
        for units, index in zip(decision.probabilities, decision.actions, strict=True)
        if CATALOGUE.actions[index].offer_id == offer_id
    ]


@pytest.mark.parametrize("exploration", EXPLORATIONS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("learner", LEARNERS, ids=lambda kind: kind.__name__)
def test_every_policy_draws_as_it_says_after_all_gates(
    learner: type[LearnerSettings], exploration: type[Exploration]
) -> None:
    # Given a policy that has learned something, without and with bounds
    frequencies = Frequencies()
    for traffic in (TrafficSettings(), BOUNDS):
        policy = policy_of(learner, exploration, traffic, Remembering)

        # When it decides again and again, in several contexts, under other ids
        for made in decisions(policy, name=policy.version):
            pairs = zip(made.actions, made.probabilities, strict=True)
            chances = {str(index): units / PROBABILITY_UNITS for index, units in pairs}
            frequencies.add(chances, str(made.chosen))

            # Then what it promises holds to the last billionth
            assert made.floor <= min(made.probabilities)
            slack = len(made.actions)
            jam = units_of(made, "jam")
            if jam:
                assert 0.05e9 - slack <= sum(jam) <= 0.3e9 + slack
            late = units_of(made, "late")
            if late:
                assert 0.1e9 - slack <= sum(late) <= 0.15e9 + slack

    # And every action is drawn as often as its probability says
    assert len(frequencies.drawn) >= 4
    assert frequencies.deviation() < P_0001


@pytest.mark.parametrize("exploration", EXPLORATIONS, ids=lambda kind: kind.__name__)
def test_the_floor_is_logged_and_holds(exploration: type[Exploration]) -> None:
    policy = policy_of(LEARNERS[0], exploration, BOUNDS)

    for made in decisions(policy, 6):
        share = BOUNDS.floor or 0.0
        assert made.floor >= int(share / len(made.actions) * PROBABILITY_UNITS)
        assert min(made.probabilities) >= made.floor
        for offer_id in {CATALOGUE.actions[at].offer_id for at in made.actions} - {""}:
            assert sum(units_of(made, offer_id)) <= 0.6e9 + len(made.actions)


def test_where_there_is_only_silence_it_is_certain() -> None:
    policy = policy_of(LEARNERS[0], EXPLORATIONS[0], BOUNDS)

    chances = policy.chances((("constant", 1.0),), [CATALOGUE.actions[NO_OFFER]])

    assert chances.probabilities.tolist() == [1.0]


def test_an_offer_that_has_learned_enough_is_bounded_no_more() -> None:
    policy = policy_of(LinUCBSettings, EXPLORATIONS[0], TrafficSettings())
    late: Action = next(a for a in CATALOGUE.actions if a.offer_id == "late")
    context: Features = (("constant", 1.0),)
    for count in range(10):
        (made,) = decisions(policy, 2)[1:]
        assert 0.1e9 - 20 <= sum(units_of(made, "late")) <= 0.15e9 + 20
        assert count == policy.outcomes.get("late", 0)
        policy.learn(context, late, reward=9.0, propensity=0.1)

    (made,) = decisions(policy, 2)[1:]

    assert sum(units_of(made, "late")) > 0.15e9
    again = Policy(policy.settings, policy.save(), learned=policy.learned)
    assert made == decisions(again, 2)[1]
