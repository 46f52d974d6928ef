"""The engine: what is drawn is what is said, and why is said too."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies import catalogue as catalogues
from policies.engine import decide, eligible, silence
from policies.identity import decision_id, root_key
from policies.model import (
    NO_OFFER,
    PROBABILITY_UNITS,
    Action,
    Context,
    Decision,
    Dismissal,
    Features,
    FloatArray,
    History,
    Impression,
    Opportunity,
    Rejection,
    Reservation,
)
from policies.policy import (
    EpsilonGreedy,
    LinUCBSettings,
    Policy,
    PolicySettings,
    Softmax,
    SquareCB,
    VowpalWabbitSettings,
)

DAY_MS = 86_400_000
CATALOGUE = catalogues.read(
    """
    [placements.home]
    [placements.till]
    [offers.tea]
    placements = ["home", "till"]
    caps = [{ limit = 1, window = "1d" }]
    dismissal_cool_down = "3d"
    [offers.jam]
    placements = ["home"]
    [offers.jam.creatives.bold]
    [offers.jam.creatives.calm]
    [offers.oats]
    placements = ["home"]
    eligible = "segment == 'new'"
    [offers.past]
    placements = ["till"]
    end = 1970-01-02T00:00:00Z
    [offers.soon]
    placements = ["till"]
    start = 1970-01-20T00:00:00Z
    """
)
NOW_MS = 10 * DAY_MS
SEEN = History((Impression(NOW_MS - 1, "tea", "home"),))
POLICIES = {
    "linucb, greedy": PolicySettings(LinUCBSettings(), EpsilonGreedy(epsilon=0.2)),
    "vw, squarecb": PolicySettings(VowpalWabbitSettings(), SquareCB()),
    "linucb, softmax": PolicySettings(LinUCBSettings(), Softmax(temperature=0.3)),
}


def opportunity(number: int = 0, *placements: str, segment: str = "") -> Opportunity:
    name = decision_id(root_key("shop", "", "ada"), "ada", str(number))
    context = Context(segment=segment)
    return Opportunity(name, NOW_MS, "ada", placements or ("home",), context=context)


def cheap(number: int) -> Opportunity:
    """Ask for what no rule in CEL is looked at for, as that takes its time."""
    return msgspec.structs.replace(opportunity(number), offers=("tea", "jam"))


class Still(Policy):
    """A policy whose state is fixed, so that it need not think twice."""

    _known: dict[tuple[int, ...], FloatArray] | None = None

    def distribution(self, context: Features, actions: Sequence[Action]) -> FloatArray:
        known = self._known = self._known or {}
        indices = tuple(action.index for action in actions)
        if indices not in known:
            known[indices] = super().distribution(context, actions)
        return known[indices]


def taught(settings: PolicySettings, kind: type[Policy] = Policy) -> Policy:
    policy = kind(settings)
    context = (("constant", 1.0), ("segment=new", 1.0))
    for index, reward in ((0, 0.1), (1, 0.6), (3, 0.9), (4, -0.2), (5, 0.4)):
        for _ in range(20):
            action = CATALOGUE.actions[index]
            policy.learn(context, action, reward=reward, propensity=0.2)
    return policy


def asked(question: Opportunity, history: History, policy: Policy) -> Decision:
    verdict = decide(question, catalogue=CATALOGUE, history=history, policy=policy)
    return verdict.decision


@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", POLICIES)
def test_offers_are_drawn_as_often_as_their_propensities_say(name: str) -> None:
    policy = taught(POLICIES[name], Still)
    draws = 100_000 if name == "linucb, greedy" else 10_000
    first = asked(cheap(0), SEEN, policy)
    seen: Counter[int] = Counter()

    for number in range(draws):
        decision = asked(cheap(number), SEEN, policy)
        assert decision.probabilities == first.probabilities
        seen[decision.chosen] += 1

    # The capped offer is out, and "no offer" and the others are in.
    names = [CATALOGUE.actions[index].offer_id for index in first.actions]
    assert names == ["", "jam", "jam"]
    expected = np.array(first.probabilities) / PROBABILITY_UNITS * draws
    observed = np.array([seen[index] for index in first.actions])
    possible = expected > 0
    assert observed.sum() == draws
    assert observed[~possible].sum() == 0
    chi = float(((observed - expected)[possible] ** 2 / expected[possible]).sum())
    # The 0.999 quantiles of χ² with 1 and 2 degrees of freedom.
    assert chi < (10.83, 13.82)[possible.sum() - 2]


def test_a_decision_is_the_same_each_time_it_is_made() -> None:
    policy = taught(POLICIES["linucb, greedy"])

    for number in range(50):
        question = opportunity(number, "home", "till")
        first = decide(question, catalogue=CATALOGUE, history=SEEN, policy=policy)
        again = decide(question, catalogue=CATALOGUE, history=SEEN, policy=policy)
        assert first == again


def test_a_decision_holds_all_that_is_needed_to_make_it_again() -> None:
    policy = taught(POLICIES["linucb, greedy"])
    question = opportunity(7, segment="new")

    decision = asked(question, SEEN, policy)

    assert asked(decision.opportunity, decision.history, policy) == decision
    assert decision.catalogue == CATALOGUE.version
    assert (decision.policy, decision.model) == (policy.version, policy.model)
    assert sum(decision.probabilities) == PROBABILITY_UNITS
    assert 0.0 < decision.propensity <= 1.0
    at = decision.actions.index(decision.chosen)
    assert decision.propensity == decision.probabilities[at] / PROBABILITY_UNITS


def test_what_is_out_is_never_drawn_and_says_why() -> None:
    policy = taught(POLICIES["linucb, greedy"])
    reasons = {
        "tea": ("FREQUENCY_CAP", NOW_MS - 1 + DAY_MS),
        "oats": ("NOT_ELIGIBLE", None),
        "past": ("EXPIRED", None),
        "soon": ("NOT_STARTED", 19 * DAY_MS),
    }
    for number in range(200):
        question = opportunity(number, "home", "till")
        verdict = decide(question, catalogue=CATALOGUE, history=SEEN, policy=policy)
        rejected = {
            r.offer_id: (r.reason, r.next_eligible_ms) for r in verdict.rejections
        }
        assert rejected == reasons
        chosen = CATALOGUE.actions[verdict.decision.chosen]
        assert chosen.offer_id in {"", "jam"}


def test_no_offer_is_always_among_the_actions_and_first() -> None:
    for placements in (("home",), ("till",), ("home", "till")):
        actions, _ = eligible(opportunity(0, *placements), CATALOGUE, SEEN)

        assert actions[0].index == NO_OFFER
        assert [a.index for a in actions].count(NO_OFFER) == 1


def test_when_an_offer_is_eligible_again_depends_on_all_its_gates() -> None:
    dismissed = msgspec.structs.replace(
        SEEN, dismissals={"tea": Dismissal(1, NOW_MS - 1)}
    )

    _, rejections = eligible(opportunity(0, "home"), CATALOGUE, dismissed)

    assert rejections[0] == Rejection("tea", "DISMISSED", NOW_MS - 1 + 3 * DAY_MS)


def test_an_offer_may_be_shown_for_a_while_but_not_beyond_its_end() -> None:
    policy = Policy(PolicySettings(LinUCBSettings(), EpsilonGreedy(epsilon=1.0)))
    text = '[placements.home]\n[offers.tea]\nplacements = ["home"]\nend = {}'
    ends = {"1970-01-11T00:05:00Z": 300_000, "1970-01-12T00:00:00Z": 600_000}
    for end, span_ms in ends.items():
        catalogue = catalogues.read(text.format(end))
        spans = {
            (decision.chosen, decision.valid_until_ms - NOW_MS)
            for decision in (
                decide(
                    opportunity(number),
                    catalogue=catalogue,
                    history=History(),
                    policy=policy,
                ).decision
                for number in range(30)
            )
        }
        assert spans == {(NO_OFFER, 600_000), (1, span_ms)}


def decision_of(probabilities: tuple[int, ...]) -> Decision:
    return Decision(
        opportunity=opportunity(),
        catalogue="c",
        policy="p",
        model="0.0",
        actions=tuple(range(len(probabilities))),
        probabilities=probabilities,
        chosen=NO_OFFER,
        valid_until_ms=0,
    )


@pytest.mark.parametrize(
    ("probabilities", "rejections", "why"),
    [
        ((900, 100), [], ("LOW_VALUE", None)),
        ((500, 500), [], ("LOW_VALUE", None)),
        ((100, 900), [], ("EXPLORATION", None)),
        ((1_000,), [], ("NO_CANDIDATE", None)),
        ((1_000,), [Rejection("a", "EXPIRED")], ("EXPIRED", None)),
        (
            (1_000,),
            [
                Rejection("a", "EXPIRED"),
                Rejection("b", "DISMISSED", 7),
                Rejection("c", "FREQUENCY_CAP", 5),
            ],
            ("FREQUENCY_CAP", 5),
        ),
    ],
)
def test_silence_says_why(
    probabilities: tuple[int, ...],
    rejections: list[Rejection],
    why: tuple[str, int | None],
) -> None:
    assert silence(decision_of(probabilities), rejections) == why


SHOWN = st.builds(
    Impression,
    st.integers(0, 40 * DAY_MS),
    st.sampled_from(["tea", "jam", "oats", "gone"]),
    st.just("home"),
)
HELD = st.builds(
    Reservation,
    st.integers(0, 40 * DAY_MS),
    st.sampled_from(["tea", "jam", "gone"]),
    st.just("home"),
    st.just("d"),
)


@given(
    st.lists(SHOWN, max_size=8),
    st.lists(HELD, max_size=3),
    st.integers(0, 41 * DAY_MS),
)
def test_what_is_logged_of_a_past_is_all_that_decides(
    shown: list[Impression], held: list[Reservation], at_ms: int
) -> None:
    dismissals = {"tea": Dismissal(1, at_ms), "gone": Dismissal(2, 5)}
    past = History(tuple(sorted(shown)), tuple(held), dismissals)
    asked = Opportunity("0" * 36, at_ms, "ada", ("home",))
    policy = Policy(PolicySettings())

    verdict = decide(asked, catalogue=CATALOGUE, history=past, policy=policy)
    again = decide(
        asked, catalogue=CATALOGUE, history=verdict.decision.history, policy=policy
    )

    assert again == verdict
    logged = verdict.decision.history
    assert len(logged.impressions) <= 1  # The one cap there is counts one.
    assert "gone" not in logged.dismissals
