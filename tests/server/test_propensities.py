"""The logged propensity is the true one: after all gates, in slots, under overlap."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Iterator, Sequence

import pytest

from opportune.v1 import Context, Decision, FeatureValue, GetOfferRequest
from policies import catalogue as catalogues
from policies.engine import Past, decide
from policies.history import reserve
from policies.identity import decision_id, root_key
from policies.model import (
    NO_OFFER,
    Conditions,
    History,
    Opportunity,
    Subject,
    Tally,
    Track,
)
from policies.model import Decision as Decided
from policies.policy import LinUCBSettings, Policy, PolicySettings, Softmax
from tests.policies.frequencies import P_0001, P_01, Frequencies
from tests.server import kit
from tests.server.kit import Shop

CATALOGUE = """
valid_for = "10m"
attention = { budget = 2.0 }

[features.seats]
type = "number"

[categories.plans]
caps = [{ limit = 2, window = "1d" }]

[placements.list]
slots = 3
[placements.card]
fallback = "spare"

[offers.tea]
placements = ["list", "card"]
priority = 2
[offers.tea.creatives.calm]
[offers.tea.creatives.bold]

[offers.jam]
placements = ["list", "card"]
caps = [{ limit = 1 }]

[offers.pro]
placements = ["list", "card"]
categories = ["plans"]

[offers.team]
placements = ["list"]
categories = ["plans"]

[offers.few]
placements = ["list"]
inventory = 60

[offers.spare]
placements = ["card"]

[offers.alarm]
placements = ["card"]
override = "critical"
caps = [{ limit = 1 }]
"""
DRAWS = 100_000


@pytest.fixture
def catalogue_text() -> str:
    return CATALOGUE


def learned() -> Policy:
    """Return a policy that has learned something, and tries everything."""
    settings = PolicySettings(
        LinUCBSettings(dim=32, alpha=0.3), Softmax(temperature=0.3)
    )
    policy = Policy(settings)
    catalogue = catalogues.read(CATALOGUE)
    for action in catalogue.actions:
        earned = (action.index * 7 % 11) / 10.0
        for _ in range(5):
            policy.learn((("constant", 1.0),), action, reward=earned, propensity=0.2)
    return policy


def chances_of(decision: Decided) -> dict[str, float]:
    return {
        str(index): units / 1e9
        for index, units in zip(decision.actions, decision.probabilities, strict=True)
    }


@pytest.mark.timeout(300)
def test_the_engine_draws_as_it_says_after_all_gates_and_in_every_slot() -> None:
    # Given a user with a past, an inventory that is used up, and a policy that has
    # learned something
    catalogue, policy = catalogues.read(CATALOGUE), learned()
    subject = Subject("pro", "default", "card", ("plans",), 0.2)
    shown = Track(subject, {"shown": Tally((kit.NOON_MS - kit.HOUR_MS,))})
    past = Past(
        History(tracks=(shown,)), conditions=Conditions(exhausted=("inventory:few",))
    )
    root = root_key("shop", "", "ada")
    frequencies, slots = Frequencies(), Counter[int]()

    # When a call for three offers is drawn again and again, under other ids
    calls = itertools.count()
    while slots.total() < DRAWS:
        number, now = next(calls), past
        earlier: tuple[tuple[str, str], ...] = ()
        for slot in range(3):
            asked = Opportunity(
                decision_id(root, "ada", f"request-{number}", slot),
                kit.NOON_MS,
                "ada",
                ("list", "card"),
                earlier=earlier,
            )
            made = decide(asked, catalogue=catalogue, past=now, policy=policy).decision
            slots[slot] += 1
            frequencies.add(chances_of(made), str(made.chosen))
            if made.chosen == NO_OFFER:
                break
            action = catalogue.actions[made.chosen]
            after = reserve(
                now.history, catalogue.chosen(action), made, catalogue.memory
            )
            now = now._replace(history=after)
            earlier = (*earlier, (action.offer_id, action.placement_id))

    # Then every action is drawn as often as its probability says, in each slot
    assert len(slots) == 3
    assert len(frequencies.drawn) > 10
    assert frequencies.deviation() < P_01


def chances(decision: Decision) -> dict[str, float]:
    return {
        f"{c.offer_id}/{c.creative_id}/{c.placement_id}": c.probability
        for c in decision.candidates
    }


def name_of(decision: Decision) -> str:
    return f"{decision.offer_id}/{decision.creative_id}/{decision.placement_id}"


def requests(shop: Shop, users: int, each: int) -> Sequence[GetOfferRequest]:
    """Return requests of many users, those of one user next to each other."""
    return [
        shop.request(
            f"user-{user}",
            "list",
            "card",
            max_decisions=(1, 3)[number % 2],
            context=Context(features={"seats": FeatureValue(number=float(user % 3))}),
        )
        for user in range(users)
        for number in range(each)
    ]


def batched(
    every: Sequence[GetOfferRequest], size: int
) -> Iterator[Sequence[GetOfferRequest]]:
    for at in range(0, len(every), size):
        yield every[at : at + size]


@pytest.mark.timeout(300)
async def test_overlapping_requests_are_drawn_as_they_say(
    shop: Shop, clock: kit.Clock
) -> None:
    # Given a policy that has learned something, and two servers over one file
    shop.services.current.policy = learned()
    frequencies, decided = Frequencies(), Counter[str]()
    async with kit.running(
        shop.path, CATALOGUE, clock, shop.settings, "other"
    ) as other:
        other.services.current.policy = learned()

        # When each user asks both of them several times at once
        for batch in batched(requests(shop, 1_200, 6), 240):
            answers = await asyncio.gather(
                *(
                    (shop, other)[at % 2].stub.GetOffer(request)
                    for at, request in enumerate(batch)
                )
            )
            for decision in (d for answer in answers for d in answer.decisions):
                frequencies.add(chances(decision), name_of(decision))
                decided[decision.offer_id] += 1

    # Then every action was drawn as often as its logged probability says
    assert decided.total() > 10_000
    assert 50 < decided["few"] <= 60  # Some are leased to the other server still.
    assert frequencies.deviation() < P_0001
