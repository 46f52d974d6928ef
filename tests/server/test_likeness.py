"""A new offer begins with what is known of the one that it is like, and so it stays."""

from __future__ import annotations

import asyncio
from contextlib import closing
from pathlib import Path

import pytest

from opportune.v1 import Context
from policies.policy import (
    BlendSettings,
    LearnerSettings,
    VowpalWabbitSettings,
)
from server.stores.opening import open_admin, open_training
from simulator import Log, replay
from tests.server import kit
from tests.server.kit import Shop

CATALOGUE = """
[spacing]
interruptive = "0s"
[dismissal]
cool_down = "1s"
[placements.home]
[offers.tea]
placements = ["home"]
[offers.jam]
placements = ["home"]
"""
MINT = '[offers.mint]\nplacements = ["home"]\n'
LIKE = MINT + 'like = "tea"\n'
LEARNERS: list[LearnerSettings] = [
    BlendSettings(waves=64),
    VowpalWabbitSettings(),
]


def learn(shop: Shop) -> bytes:
    """Learn all there is, and return the latest model."""
    with kit.learning_over(shop.settings, shop.clock) as (learning, _):
        kit.learn_all(learning)
    with closing(open_training(shop.settings.store.url)) as store:
        snapshot = store.latest_snapshot(shop.settings.policy.learner_version)
    assert snapshot is not None
    return snapshot.body


async def live(shop: Shop, name: str, count: int) -> None:
    """Let users be offered something: teens like tea, and adults all else."""

    async def one(number: int) -> None:
        segment = ("teens", "adults")[number % 2]
        context = Context(segment=segment)
        decision = await shop.ask(f"{name}-{number}", context=context)
        if decision.offer_id:
            pleased = (decision.offer_id == "tea") == (segment == "teens")
            kind = kit.ACCEPTED if pleased else kit.DISMISSED
            await shop.report(decision, kit.SHOWN, kind)

    await asyncio.gather(*map(one, range(count)))


async def chances(shop: Shop, segment: str) -> dict[str, float]:
    decision = await shop.ask(f"new-{segment}", context=Context(segment=segment))
    return {c.offer_id: c.probability for c in decision.candidates}


@pytest.mark.parametrize("learner", LEARNERS, ids=["blend", "vw"])
async def test_a_new_offer_begins_where_its_sibling_is_and_goes_its_own_way(
    tmp_path: Path, clock: kit.Clock, learner: LearnerSettings
) -> None:
    # Given a server that has learned that teens like tea, and adults jam
    path = tmp_path / "opportune.db"
    settings = kit.settings_of(path, learner=learner, epsilon=0.3)
    async with kit.running(path, CATALOGUE, clock, settings) as shop:
        await live(shop, "early", 80)
        learn(shop)
        await shop.follow()

        # When an offer joins that is like tea, and nothing was learned of it
        await kit.change_catalogue(shop, CATALOGUE + LIKE)

        # Then teens may get it as well as tea, and adults hardly
        teens, adults = await chances(shop, "teens"), await chances(shop, "adults")
        assert teens["mint"] + teens["tea"] > 0.7
        assert adults["mint"] < 0.1

        # And once adults have taken it, and teens have not, that is what counts
        await live(shop, "late", 120)
        learn(shop)
        await shop.follow()
        teens, adults = await chances(shop, "teens"), await chances(shop, "adults")
        assert teens["mint"] < 0.15 < teens["tea"]
        assert adults["mint"] + adults["jam"] > 0.7

        # And all of it comes out again, decisions and bytes
        with Log(path) as log:
            done = replay(log)
        assert done.identical == done.decisions > 0
        assert rebuilt(shop) == rebuilt(shop)


def rebuilt(shop: Shop) -> bytes:
    with closing(open_admin(shop.settings.store.url)) as store:
        store.ask_rebuild(who="grace", reason="", at_ms=shop.clock.now_ms)
    return learn(shop)


async def test_a_learner_that_is_stopped_at_each_row_ends_in_the_same_bytes(
    tmp_path: Path, clock: kit.Clock
) -> None:
    # Given a stream in which an offer joins that is like another
    path = tmp_path / "opportune.db"
    settings = kit.settings_of(path, learner=BlendSettings(waves=64), epsilon=0.9)
    async with kit.running(path, CATALOGUE, clock, settings) as shop:
        bodies = set()
        await live(shop, "early", 20)
        await kit.change_catalogue(shop, CATALOGUE + LIKE)
        for number in range(8):
            await live(shop, f"late-{number}", 4)
            bodies.add(learn(shop))

        # When it is learned at once, then in the bytes that it ended in bit by bit
        assert len(bodies) > 4
        assert rebuilt(shop) in bodies
