"""Silence is learned: where showing costs more than it earns, nothing is shown.

The worlds are small, and live through the engine, the joiner and the fold, as a server
and its learner do; only the store is left out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest

from policies.catalogue import Catalogue, read
from policies.engine import Past, decide, silence
from policies.identity import decision_id, root_key
from policies.joiner import join, terms_of
from policies.model import (
    NO_OFFER,
    Action,
    Context,
    Decision,
    Opportunity,
    Outcome,
    OutcomeKind,
    Resolution,
)
from policies.policy import (
    EpsilonGreedy,
    LearnerSettings,
    LinUCBSettings,
    Policy,
    PolicySettings,
    VowpalWabbitSettings,
)
from policies.rewards import Amount, RewardSettings
from policies.training import fold

NOON_MS = 1_795_262_400_000
DAY_MS = 86_400_000

SHOP = read(
    """
    [placements.popup]
    kind = "modal"
    [placements.list]

    [offers.tea]
    placements = ["popup", "list"]

    [offers.jam]
    placements = ["popup"]
    """
)

learners = pytest.mark.parametrize(
    "learner",
    [LinUCBSettings(alpha=0.2), VowpalWabbitSettings()],
    ids=["linucb", "vw"],
)

Taste = Callable[[str, Action], OutcomeKind | None]
"""What the users of a segment do about an offer; none where they ignore it."""


def chance(*of: object) -> float:
    digest = hashlib.blake2b(repr(of).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def live(
    taste: Taste,
    learner: LearnerSettings,
    rewards: RewardSettings,
    shop: Catalogue = SHOP,
    count: int = 1_600,
) -> list[Decision]:
    """Let users come, one each minute, and learn what each did; return the decisions.

    Silence confirms itself, and all is learned at once.
    """
    policy = Policy(PolicySettings(learner, EpsilonGreedy(epsilon=0.04)))
    decisions: list[Decision] = []
    for number in range(count):
        user = f"user-{number}"
        segment = ("busy", "idle")[number % 2]
        opportunity = Opportunity(
            decision_id(root_key("shop", "", user), user, "r"),
            NOON_MS,
            user,
            ("popup", "list"),
            context=Context(segment=segment),
        )
        decision = decide(
            opportunity, catalogue=shop, past=Past(), policy=policy
        ).decision
        action = shop.actions[decision.chosen]
        outcomes = [Outcome("s", "shown", NOON_MS)]
        if decision.chosen != NO_OFFER:
            kind = taste(segment, action)
            if kind is not None:
                outcomes.append(Outcome("o", kind, NOON_MS + 1))
        terms = terms_of(rewards, shop.spec, action)
        earned = join(decision, outcomes, terms, NOON_MS + DAY_MS).reward
        assert earned is not None
        fold(policy, Resolution(opportunity.decision_id, earned), decision, shop)
        decisions.append(decision)
    return decisions


def silent(decisions: list[Decision]) -> float:
    return sum(d.chosen == NO_OFFER for d in decisions) / len(decisions)


@learners
def test_where_all_offers_annoy_silence_is_learned(learner: LearnerSettings) -> None:
    # Given users of whom a third wave any offer away, and hardly one takes it
    def annoyed(segment: str, action: Action) -> OutcomeKind | None:
        at = chance(segment, action.name, next(numbers))
        return "accepted" if at < 0.01 else "dismissed" if at < 0.34 else None

    numbers = iter(range(10**6))

    # When that has been learned
    decisions = live(annoyed, learner, RewardSettings())[-600:]

    # Then nearly all decisions are for silence, with the propensity that this has
    assert silent(decisions) > 0.95
    expected = sum(d.probabilities[0] for d in decisions) / len(decisions) / 10**9
    assert silent(decisions) == pytest.approx(expected, abs=0.02)
    quiet = [d for d in decisions if d.chosen == NO_OFFER]
    assert {silence(d, ()).reason for d in quiet} == {"LOW_VALUE"}


@learners
@pytest.mark.parametrize(("cost", "quiet"), [(0.0, False), (1.0, True)])
def test_showing_must_earn_more_than_the_attention_it_takes(
    learner: LearnerSettings, cost: float, *, quiet: bool
) -> None:
    # Given offers that earn 0.01 in any placement, and annoy nobody
    rewards = RewardSettings(default=0.01, attention_cost=cost)

    # When attention costs nothing, or more than that in all of them
    decisions = live(lambda *_: None, learner, rewards, count=1_200)[-400:]

    # Then silence is what earns more, or what does not
    assert silent(decisions) > 0.9 if quiet else silent(decisions) < 0.1


# Tea costs 10 and is worth 8 to the shop, or with the discount 6 and 4.
DISCOUNTS = read(
    """
    [placements.list]

    [offers.tea]
    placements = ["list"]
    price = 1000
    margin = 800

    [offers.tea_less]
    placements = ["list"]
    price = 600
    list_price = 1000
    discount = 400
    margin = 400
    """
)


def test_a_discount_is_for_those_with_whom_it_pays() -> None:
    # Given some of whom it moves half instead of a tenth, and others who mostly buy it
    # anyway
    def taste(segment: str, action: Action) -> OutcomeKind | None:
        less = action.offer_id == "tea_less"
        chances = {"busy": (0.1, 0.5), "idle": (0.5, 0.6)}[segment]
        bought = chance(segment, action.name, next(numbers)) < chances[less]
        return "accepted" if bought else None

    numbers = iter(range(10**6))
    rewards = RewardSettings({"accepted": Amount("margin", factor=0.001)})

    # When it is learned what is left of the price
    decisions = live(taste, LinUCBSettings(alpha=0.2), rewards, shop=DISCOUNTS)[-600:]

    # Then the first are offered the discount, and the others are not
    for segment, wanted in (("busy", "tea_less"), ("idle", "tea")):
        offered = [
            DISCOUNTS.actions[d.chosen].offer_id
            for d in decisions
            if d.opportunity.context.segment == segment
        ]
        assert offered.count(wanted) / len(offered) > 0.9


def test_silence_is_for_those_who_are_annoyed() -> None:
    # Given one segment that likes tea in the list, and one that likes nothing
    def taste(segment: str, action: Action) -> OutcomeKind | None:
        if segment == "idle" and action.placement_id == "list":
            return "accepted"
        return "dismissed"

    decisions = live(taste, LinUCBSettings(alpha=0.2), RewardSettings())[-600:]

    busy, idle = (
        [d for d in decisions if d.opportunity.context.segment == segment]
        for segment in ("busy", "idle")
    )
    assert silent(busy) > 0.95
    assert silent(idle) < 0.05
