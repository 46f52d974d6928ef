"""The engine, by its laws: whatever is offered to whom, after whatever."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from policies.catalogue import Catalogue, read
from policies.draw import draw
from policies.engine import (
    Past,
    decide,
    eligible,
    explain,
    past_of,
)
from policies.gates import Gate, Situation
from policies.identity import decision_id, root_key
from policies.model import (
    NO_OFFER,
    PROBABILITY_UNITS,
    Action,
    Features,
    FloatArray,
    History,
    Opportunity,
    Subject,
    Tally,
    Track,
)
from policies.policy import (
    EpsilonGreedy,
    LinUCBSettings,
    Policy,
    PolicySettings,
    PrioritySettings,
    Softmax,
    SquareCB,
    VowpalWabbitSettings,
)
from policies.records import decode_decision, encode_decision
from tests.policies import shops
from tests.policies.shops import NOW, asked

ANY = Policy(PolicySettings(LinUCBSettings(), EpsilonGreedy(epsilon=1.0)))
laws = settings(
    deadline=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


# --- Laws, whatever is offered to whom ----------------------------------------------


@laws
@given(data=st.data())
def test_what_may_be_chosen_is_what_all_gates_let_through(data: st.DataObject) -> None:
    # Given any catalogue, any past, and any question
    catalogue = data.draw(shops.catalogues())
    past = data.draw(shops.pasts(catalogue))
    question = data.draw(shops.opportunities)

    actions, _ = eligible(question, catalogue, past)

    # Then asking every gate about every action finds the same
    assert actions[0].index == NO_OFFER
    assert actions[1:] == asked_one_by_one(question, catalogue, past)


def asked_one_by_one(
    question: Opportunity, catalogue: Catalogue, past: Past
) -> list[Action]:
    situation = Situation(
        question,
        past.history,
        past.account,
        past.conditions,
        zone=catalogue.spec.zone,
    )
    through: dict[str, list[Action]] = {place: [] for place in question.placements}
    last: dict[str, list[Action]] = {place: [] for place in question.placements}
    for action in catalogue.actions[NO_OFFER + 1 :]:
        wanted = not question.offers or action.offer_id in question.offers
        if action.placement_id in question.placements and wanted:
            critical = catalogue.offers[action.offer_id].critical
            if not any(
                gate.reject(action, situation)
                for gate in gates_of(action, catalogue)
                if not (critical and gate.bypassed)
            ):
                place = catalogue.placements[action.placement_id]
                fallback = place.spec.fallback == action.offer_id
                (last if fallback else through)[action.placement_id].append(action)
    found = [a for place in through for a in through[place] or last[place]]
    return sorted(found, key=lambda action: action.index)


def gates_of(action: Action, catalogue: Catalogue) -> list[Gate]:
    return [
        *catalogue.placements[action.placement_id].gates,
        *catalogue.offers[action.offer_id].every_gate,
        *catalogue.action_gates.get(action.index, ()),
    ]


@laws
@given(data=st.data())
def test_what_is_logged_of_a_past_is_all_that_decides(data: st.DataObject) -> None:
    # Given a decision on all that is known
    catalogue = data.draw(shops.catalogues())
    past = data.draw(shops.pasts(catalogue))
    question = data.draw(shops.opportunities)
    verdict = decide(question, catalogue=catalogue, past=past, policy=ANY)
    decision = verdict.decision

    # When it is made again on what was logged, read back from the log
    logged = past_of(decode_decision(encode_decision(decision)))
    again = decide(question, catalogue=catalogue, past=logged, policy=ANY)

    # Then it is the same, and what was left out has made no difference
    assert again == verdict
    actions, rejections = eligible(question, catalogue, past)
    assert decision.actions == tuple(action.index for action in actions)
    assert verdict.rejections == rejections


@laws
@given(data=st.data())
def test_every_action_could_be_chosen_or_is_refused_for_a_reason(
    data: st.DataObject,
) -> None:
    # Given any decision
    catalogue = data.draw(shops.catalogues())
    past = data.draw(shops.pasts(catalogue))
    question = data.draw(shops.opportunities)
    verdict = decide(question, catalogue=catalogue, past=past, policy=ANY)

    explanation = explain(verdict.decision, catalogue)

    # Then nothing is missing, and nothing is there twice
    could = [catalogue.actions[index] for index in verdict.decision.actions[1:]]
    names = sorted(
        [(a.offer_id, a.creative_id, a.placement_id) for a in could]
        + [(r.offer_id, r.creative_id, r.placement_id) for r in explanation.refusals]
    )
    every = catalogue.all_actions(question.placements, question.offers)
    assert names == sorted(
        (action.offer_id, action.creative_id, action.placement_id) for action in every
    )
    # And each reason says what was found, and what it would take
    for refusal in (*explanation.refusals, *explanation.bypasses):
        assert refusal.reason
        assert refusal.gate
        assert refusal.found
        assert refusal.needed
    # And what was told with the decision is told in the explanation
    told = {
        (r.offer_id, r.creative_id, r.placement_id): (r.reason, r.next_eligible_ms)
        for r in explanation.refusals
    }
    for r in verdict.rejections:
        name = (r.offer_id, r.creative_id, r.placement_id)
        assert told[name] == (r.reason, r.next_eligible_ms)


@laws
@given(data=st.data())
def test_only_critical_offers_go_past_caps_and_each_time_is_told(
    data: st.DataObject,
) -> None:
    catalogue = data.draw(shops.catalogues())
    past = data.draw(shops.pasts(catalogue))
    question = data.draw(shops.opportunities)
    decision = decide(question, catalogue=catalogue, past=past, policy=ANY).decision

    explanation = explain(decision, catalogue)

    bypassed = {
        gate.name
        for action in catalogue.actions[1:]
        for gate in gates_of(action, catalogue)
        if gate.bypassed
    }
    chosen = {catalogue.actions[index].offer_id for index in decision.actions[1:]}
    for bypass in explanation.bypasses:
        assert catalogue.offers[bypass.offer_id].critical
        assert bypass.offer_id in chosen
        assert bypass.gate in bypassed
    for refusal in explanation.refusals:
        if catalogue.offers[refusal.offer_id].critical:
            assert refusal.gate not in bypassed


@laws
@given(data=st.data(), number=st.integers(0, 10**6))
def test_a_decision_is_a_distribution_and_the_draw_of_its_id(
    data: st.DataObject, number: int
) -> None:
    catalogue = data.draw(shops.catalogues())
    past = data.draw(shops.pasts(catalogue))
    question = msgspec.structs.replace(
        data.draw(shops.opportunities), decision_id=f"{number:036x}"
    )

    decision = decide(question, catalogue=catalogue, past=past, policy=ANY).decision

    assert sum(decision.probabilities) == PROBABILITY_UNITS
    assert min(decision.probabilities) > 0
    assert len(decision.probabilities) == len(decision.actions)
    at = draw(decision.probabilities, question.decision_id, ANY.salt)
    assert decision.chosen == decision.actions[at]
    assert decision.propensity == decision.probabilities[at] / PROBABILITY_UNITS
    assert (decision.catalogue, decision.policy, decision.model) == (
        catalogue.version,
        ANY.version,
        ANY.model,
    )


# --- Propensities -------------------------------------------------------------------


class Still(Policy):
    """A policy whose state is fixed, so that it need not think twice."""

    _known: dict[tuple[int, ...], FloatArray] | None = None

    def distribution(self, context: Features, actions: Sequence[Action]) -> FloatArray:
        known = self._known = self._known or {}
        indices = tuple(action.index for action in actions)
        if indices not in known:
            known[indices] = super().distribution(context, actions)
        return known[indices]


MANY = read(
    """
    caps = [{ limit = 5, window = "1d" }]
    [placements.home]
    slots = 2
    fallback = "water"
    [placements.till]
    fallback = "water"
    [offers.tea]
    placements = ["home", "till"]
    caps = [{ limit = 1, window = "1d" }]
    [offers.jam]
    placements = ["home"]
    priority = 1
    [offers.jam.creatives.bold]
    [offers.jam.creatives.calm]
    [offers.oats]
    placements = ["home"]
    [offers.water]
    placements = ["home", "till"]
    [offers.water.creatives.still]
    [offers.water.creatives.fizzy]
    """
)
SEEN = Past(
    History((Track(Subject("tea", "default", "home"), {"shown": Tally((NOW - 1,))}),))
)
QUESTIONS = {
    "a capped offer, equal scores": (
        PolicySettings(LinUCBSettings(), EpsilonGreedy(epsilon=0.2)),
        asked(),
        ["jam", "jam", "oats"],
    ),
    "a fallback": (
        PolicySettings(VowpalWabbitSettings(bits=12), SquareCB()),
        asked(0, "till"),
        ["water", "water"],
    ),
    "a second slot": (
        PolicySettings(LinUCBSettings(), Softmax(temperature=0.3)),
        asked(0, "home", earlier=(("oats", "home"),)),
        ["jam", "jam"],
    ),
    "by priority": (
        PolicySettings(PrioritySettings(), EpsilonGreedy(epsilon=0.3)),
        asked(0, "home", "till"),
        ["jam", "jam", "oats", "water", "water"],
    ),
}


@pytest.mark.parametrize("name", QUESTIONS)
def test_offers_are_drawn_as_often_as_their_propensities_say(name: str) -> None:
    draws, decisions = 100_000, 500
    chosen, question, names = QUESTIONS[name]
    policy = taught(chosen)
    numbered = [
        msgspec.structs.replace(question, decision_id=decision_id(ROOT, "ada", f"{n}"))
        for n in range(decisions)
    ]
    made = [
        decide(one, catalogue=MANY, past=SEEN, policy=policy).decision
        for one in numbered
    ]
    first = made[0]
    assert [MANY.actions[index].offer_id for index in first.actions[1:]] == names

    # Each decision is the draw of its id from the same distribution,
    seen: Counter[int] = Counter()
    for decision in made:
        assert decision.probabilities == first.probabilities
        seen[decision.chosen] += 1
    # and as many draws as it takes to tell are drawn in the same way.
    for number in range(decisions, draws):
        drawn = decision_id(ROOT, "ada", f"{number}")
        seen[first.actions[draw(first.probabilities, drawn, policy.salt)]] += 1

    expected = np.array(first.probabilities) / PROBABILITY_UNITS * draws
    observed = np.array([seen[index] for index in first.actions])
    possible = expected > 0
    assert observed.sum() == draws
    assert observed[~possible].sum() == 0
    chi = float(((observed - expected)[possible] ** 2 / expected[possible]).sum())
    # The 0.999 quantiles of χ² with 1 to 5 degrees of freedom.
    assert chi < (10.83, 13.82, 16.27, 18.47, 20.52)[possible.sum() - 2]


ROOT = root_key("shop", "", "ada")


def taught(chosen: PolicySettings) -> Policy:
    policy = Still(chosen)
    for index, reward in enumerate((0.1, 0.6, 0.2, 0.9, 0.9, -0.2, 0.3, 0.0, 0.5)):
        for _ in range(10):
            policy.learn(
                (("constant", 1.0),),
                MANY.actions[index],
                reward=reward,
                propensity=0.2,
            )
    return policy


def test_priorities_break_ties_and_nothing_else() -> None:
    catalogue = read(
        """
        [placements.home]
        [offers.tea]
        placements = ["home"]
        priority = 2
        [offers.jam]
        placements = ["home"]
        priority = 1
        [offers.oats]
        placements = ["home"]
        priority = 2
        """
    )
    policy = Policy(PolicySettings(LinUCBSettings(), EpsilonGreedy(epsilon=0.4)))

    def chances() -> list[int]:
        decision = decide(asked(), catalogue=catalogue, past=Past(), policy=policy)
        return [units // 10**6 for units in decision.decision.probabilities]

    # Before anything is learned all scores are equal, silence's too.
    assert chances() == [100, 400, 100, 400]
    # What is known to be better goes first, whatever its priority.
    for _ in range(9):
        policy.learn(
            (("constant", 1.0),), catalogue.actions[2], reward=5.0, propensity=1.0
        )
    assert chances() == [100, 100, 700, 100]


def test_by_priority_the_highest_is_shown_and_equals_share() -> None:
    text = """
        [placements.home]
        [offers.tea]
        placements = ["home"]
        priority = -2
        [offers.jam]
        placements = ["home"]
        priority = {}
        """
    policy = Policy(PolicySettings(PrioritySettings(), EpsilonGreedy(epsilon=0.0)))
    chances = {}
    for priority in (-3, -2, -1):
        catalogue = read(text.format(priority))
        decision = decide(asked(), catalogue=catalogue, past=Past(), policy=policy)
        chances[priority] = decision.decision.probabilities

    # Silence is never as good as an offer, however low that stands.
    half, all_of_it = PROBABILITY_UNITS // 2, PROBABILITY_UNITS
    assert chances == {
        -3: (0, all_of_it, 0),
        -2: (0, half, half),
        -1: (0, 0, all_of_it),
    }
