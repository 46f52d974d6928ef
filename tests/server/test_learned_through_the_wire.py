"""What a client reports in whatever order ends in the model of the truth.

All of it goes through a real server and its learner: late, corrected, taken back,
twice, early, of nobody's decision, a year old, of users who are to teach nothing.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import msgspec
import numpy as np
import pytest

from opportune.v1 import Context, Decision
from policies.model import Decision as Logged
from policies.objective import ObjectiveSettings
from policies.policy import (
    BlendSettings,
    EpsilonGreedy,
    LearnerSettings,
    LinUCBSettings,
    Policy,
    PolicySettings,
)
from policies.records import decode_decision
from policies.rewards import RewardSettings
from policies.splits import SplitSettings
from policies.toml import Duration
from policies.traffic import TrafficSettings
from server.settings import Settings
from server.stores.opening import open_training
from tests.server import kit
from tests.server.kit import Shop

TWO = """
[placements.home]
[offers.tea]
placements = ["home"]
[offers.jam]
placements = ["home"]
"""
MINT = '[offers.mint]\nplacements = ["home"]\n'
WAIT_MS = int(RewardSettings().wait)


def settings_of(path: Path, policy: PolicySettings, **sections: Any) -> Settings:
    settings: Settings = msgspec.structs.replace(
        kit.settings_of(path), policy=policy, **sections
    )
    return settings


def learn(shop: Shop) -> None:
    with kit.learning_over(shop.settings, shop.clock) as (learning, _):
        kit.learn_all(learning)


def model_of(shop: Shop) -> bytes:
    with closing(open_training(shop.settings.store.url)) as store:
        found = store.latest_snapshot(shop.settings.policy.learner_version)
    assert found is not None
    return found.body


def decisions_of(shop: Shop) -> list[Logged]:
    rows = kit.rows(shop.path, "select record from decisions_v1 order by position")
    return [decode_decision(record) for (record,) in rows]


def learned(shop: Shop) -> dict[str, list[float]]:
    """Return by decision the rewards that were learned, corrections too."""
    rows = kit.rows(
        shop.path, "select decision_id, reward from resolutions_v1 order by position"
    )
    found: dict[str, list[float]] = {}
    for name, reward in rows:
        found.setdefault(name, []).append(reward)
    return found


# --- The order of reports -----------------------------------------------------------

USERS = [f"user-{number}" for number in range(24)]


async def decided(shop: Shop) -> list[Decision]:
    """Make the same decisions in any shop: of each user, the first for an offer."""
    found: list[Decision] = []
    for user in USERS:
        for at in range(50):
            segment = ("teens", "adults")[len(found) % 2]
            decision = await shop.ask(
                user, request_id=f"{user}-{at}", context=Context(segment=segment)
            )
            if decision.offer_id:
                found.append(decision)
                break
    assert len(found) == len(USERS)
    return found


async def in_order(shop: Shop, decisions: list[Decision]) -> None:
    """Report at once what is true in the end."""
    truth = [
        (kit.SHOWN, kit.ACCEPTED),
        (kit.SHOWN, kit.ACCEPTED, kit.REFUNDED),
        (kit.SHOWN, kit.DISMISSED),
        (kit.SHOWN, kit.ACCEPTED),
        (kit.SHOWN,),
        (),
    ]
    for number, decision in enumerate(decisions):
        for kind in truth[number % 6]:
            await shop.report(decision, kind)
    shop.clock.advance(WAIT_MS)
    learn(shop)


async def in_disorder(shop: Shop, decisions: list[Decision]) -> None:
    """Report the same late, bit by bit, twice, early, a year old, and of nobody."""
    for number, decision in enumerate(decisions):
        first: tuple[tuple[int, ...], ...] = (
            (kit.SHOWN,),
            (kit.SHOWN, kit.ACCEPTED),
            (kit.SHOWN, kit.DISMISSED, kit.SHOWN, kit.DISMISSED),
            (kit.ACCEPTED,),
            (kit.SHOWN,),
            (kit.NOT_SHOWN, kit.ACCEPTED),
        )
        for kind in first[number % 6]:
            await shop.report(decision, kind)
        nobody = await kit.refused(shop.report("0" * 32, kit.ACCEPTED))
        assert nobody.code == grpc.StatusCode.NOT_FOUND
    shop.clock.advance(WAIT_MS)
    learn(shop)
    for number, decision in enumerate(decisions):
        late: dict[int, int] = {0: kit.ACCEPTED, 1: kit.REFUNDED, 3: kit.SHOWN}
        if number % 6 in late:
            await shop.report(decision, late[number % 6])
            learn(shop)
            await shop.report(decision, late[number % 6])
    learn(shop)
    shop.clock.advance(366 * kit.DAY_MS)
    for decision in decisions[4::6]:
        await shop.report(decision, kit.ACCEPTED)
    learn(shop)


async def test_reports_in_any_order_end_in_the_model_of_the_truth(
    tmp_path: Path,
) -> None:
    # Given two servers with the same users, of which nothing is learned yet
    rewards = RewardSettings(late=Duration(90 * kit.DAY_MS))
    policy = PolicySettings(LinUCBSettings(dim=8), EpsilonGreedy(epsilon=0.5))
    models, streams = [], []
    for name, told in (("order", in_order), ("disorder", in_disorder)):
        path = tmp_path / f"{name}.db"
        settings = settings_of(path, policy, rewards=rewards)
        async with kit.running(path, TWO, kit.Clock(), settings) as shop:
            # When one is told the truth at once, and the other bit by bit
            decisions = await decided(shop)
            await told(shop, decisions)
            by_name = learned(shop)
            streams.append([by_name.get(d.decision_id, []) for d in decisions])
            models.append(Policy(policy, model_of(shop)))
            actions = shop.services.current.catalogue.actions

    # Then both have learned the same of every user in the end, one of them twice
    order, disorder = streams
    cost = order[0][-1] - 1.0
    assert [rewards[-1:] for rewards in order] == [rewards[-1:] for rewards in disorder]
    assert order[:6] == [
        pytest.approx(each)
        for each in ([1 + cost], [cost], [cost - 0.2], [1 + cost], [cost], [])
    ]
    assert disorder[0] == pytest.approx([cost, 1 + cost])
    assert disorder[1] == pytest.approx([1 + cost, cost])
    assert [len(each) for each in disorder[2:6]] == [1, 1, 1, 0]

    # And expect the same
    for segment in ("teens", "adults"):
        context = (("constant", 1.0), (f"segment={segment}", 1.0))
        first, second = (model.score(context, actions) for model in models)
        assert np.abs(first - second).max() < 1e-9
        assert np.abs(first).max() > 0.01


# --- Users who teach nothing ----------------------------------------------------------


@pytest.mark.parametrize(
    "learner",
    [LinUCBSettings(), BlendSettings(waves=64)],
    ids=["linucb", "blend"],
)
async def test_users_of_the_evaluation_change_no_byte_of_the_model(
    tmp_path: Path, learner: LearnerSettings
) -> None:
    # Given two servers, one of which is asked by those who do not teach, too
    split = SplitSettings(eval=0.3, control=0.2)
    policy = PolicySettings(learner, EpsilonGreedy(epsilon=0.5), split=split)
    bodies, counts = [], []
    for everybody in (True, False):
        path = tmp_path / f"{everybody}.db"
        settings = settings_of(path, policy)
        async with kit.running(path, TWO, kit.Clock(), settings) as shop:
            # When they report what they did
            for number in range(40):
                user = f"user-{number}"
                if everybody or split.of(user) == "train":
                    decision = await shop.ask(user, request_id=user)
                    liked = split.of(user) != "train" or number % 3 == 0
                    kind = kit.ACCEPTED if liked else kit.DISMISSED
                    if decision.offer_id:
                        await shop.report(decision, kit.SHOWN, kind)
            learn(shop)
            bodies.append(model_of(shop))
            counts.append(len(learned(shop)))

    # Then what they did is known, and both models are the same to the last bit
    assert counts[0] > counts[1] > 5
    assert bodies[0] == bodies[1]


# --- A new offer ----------------------------------------------------------------------


async def test_a_new_offer_is_tried_within_its_bounds_until_it_is_known(
    tmp_path: Path, clock: kit.Clock
) -> None:
    # Given a server that has learned that nobody likes what there is
    path = tmp_path / "opportune.db"
    traffic = TrafficSettings(new_outcomes=20, new_least=0.1, new_most=0.25)
    policy = PolicySettings(
        LinUCBSettings(), EpsilonGreedy(epsilon=0.02), traffic=traffic
    )
    async with kit.running(path, TWO, clock, settings_of(path, policy)) as shop:

        async def live(name: str, offer_id: str, count: int, kind: int) -> None:
            for number in range(count):
                decision = await shop.offered(f"{name}-{number}", offer_id)
                await shop.report(decision, kit.SHOWN, kind)
            learn(shop)
            await shop.follow()

        async def chance(user: str) -> float:
            decision = await shop.ask(user)
            return {c.offer_id: c.probability for c in decision.candidates}["mint"]

        await live("tea", "tea", 25, kit.DISMISSED)
        await live("jam", "jam", 25, kit.DISMISSED)

        # When an offer joins that might be the best, then it has the most for new ones
        await kit.change_catalogue(shop, TWO + MINT)
        assert await chance("ada") == pytest.approx(0.25, abs=1e-8)

        # And when nobody likes it, the least for new ones, until enough was learned
        await live("mint", "mint", 19, kit.DISMISSED)
        assert await chance("bob") == pytest.approx(0.1, abs=1e-8)
        await live("more", "mint", 1, kit.DISMISSED)
        assert await chance("cleo") == pytest.approx(0.005, abs=1e-8)


# --- What a score was made of ---------------------------------------------------------

WORTHS = """
[placements.home]
[offers.tea]
placements = ["home"]
price = 900
margin = 300
lever = 1.5
moment_weights = { renewal = 2.0 }
[offers.jam]
placements = ["home"]
price = 500
margin = 400
"""


async def test_each_term_of_a_score_is_in_the_log_of_the_server(
    tmp_path: Path, clock: kit.Clock
) -> None:
    # Given a server that ranks by chance, moment, margin and lever
    path = tmp_path / "opportune.db"
    objective = ObjectiveSettings(
        exponent=0.5, context=True, value="margin", levers=True
    )
    policy = PolicySettings(
        LinUCBSettings(alpha=0.0), EpsilonGreedy(epsilon=0.5), objective=objective
    )
    rewards = RewardSettings({"accepted": 1.0}, attention_cost=0.0)
    settings = settings_of(path, policy, rewards=rewards)
    async with kit.running(path, WORTHS, clock, settings) as shop:
        for number in range(30):
            decision = await shop.offered(f"early-{number}")
            kind = kit.ACCEPTED if number % 2 else kit.DISMISSED
            await shop.report(decision, kit.SHOWN, kind)
        learn(shop)
        await shop.follow()

        # When it decides at a moment, and at none
        renewal = Context()
        renewal.moment.kind = "renewal"
        for number in range(20):
            await shop.ask(f"then-{number}", context=renewal)
            await shop.ask(f"late-{number}")

        # Then each decision says what the score of what it chose was made of
        current = shop.services.current
        actions = current.catalogue.actions
        seen = set()
        for logged in decisions_of(shop)[-40:]:
            offer = actions[logged.chosen].offer_id
            moment = logged.opportunity.context.moment.kind
            terms = logged.terms
            assert terms is not None
            seen.add((offer, moment))
            assert (terms.context, terms.value, terms.lever) == {
                "tea": (2.0 if moment else 1.0, 3.0, 1.5),
                "jam": (1.0, 4.0, 1.0),
                "": (1.0, 1.0, 1.0),
            }[offer]
            if offer:
                assert 0.0 < abs(terms.expected) < 1.0
        assert {"tea", "jam"} <= {offer for offer, _ in seen}
