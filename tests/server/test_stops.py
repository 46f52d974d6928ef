"""What somebody switches off is off: for what is decided, and for what was."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from opportune.v1 import Decision
from server.following import follow_changes
from server.stores.opening import open_admin
from tests.server import kit
from tests.server.kit import Shop

CATALOGUE = """
valid_for = "1d"

[categories.plans]

[placements.home]
sticky = "1d"
[placements.till]

[offers.tea]
placements = ["home", "till"]
override = "critical"
[offers.jam]
placements = ["home", "till"]
[offers.pro]
placements = ["till"]
categories = ["plans"]
"""
SCOPES: dict[str, set[tuple[str, str]]] = {
    # What is switched off, and what that holds back.
    "all": {
        ("tea", "home"),
        ("tea", "till"),
        ("jam", "home"),
        ("jam", "till"),
        ("pro", "till"),
    },
    "offer:tea": {("tea", "home"), ("tea", "till")},
    "category:plans": {("pro", "till")},
    "placement:till": {("tea", "till"), ("jam", "till"), ("pro", "till")},
}


@pytest.fixture
def catalogue_text() -> str:
    return CATALOGUE


@pytest.fixture
async def following(eager: Shop, other: Shop) -> AsyncIterator[None]:
    """Let both servers look for changes, as workers do."""
    tasks = [
        asyncio.ensure_future(follow_changes(shop.services.current, shop.store))
        for shop in (eager, other)
    ]
    yield
    for task in tasks:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def switch(shop: Shop, scope: str, *, resume: bool = False) -> None:
    """Switch something off or on, and tell no server."""
    admin = open_admin(shop.settings.store.url)
    change = admin.resume if resume else admin.stop
    change(scope, who="ops", reason="a typo", at_ms=shop.clock())
    admin.close()


def stopped(decision: Decision) -> set[tuple[str, str]]:
    return {
        (r.offer_id, r.placement_id)
        for r in decision.rejections
        if kit.reason_of(r) == "STOPPED"
    }


async def until_stopped(shop: Shop, held: set[tuple[str, str]]) -> None:
    """Ask for one user after the other until just that is held back."""
    give_up = time.monotonic() + kit.PATIENCE_S
    for number in itertools.count():
        asked = await shop.ask(f"{shop.name}-{len(held)}-{number}", "home", "till")
        if stopped(asked) == held:
            return
        assert time.monotonic() < give_up
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("scope", list(SCOPES))
@pytest.mark.usefixtures("following")
async def test_a_stop_is_heard_of_by_every_server_within_a_second(
    eager: Shop, other: Shop, scope: str
) -> None:
    # Given two servers that follow what is switched off, and decisions that are open
    held = SCOPES[scope]
    open_ones = [
        await eager.ask("bob", place, offer_ids=[offer])
        for offer, place in sorted(held)
        if place == "till"
    ]
    assert all(decision.offer_id for decision in open_ones)

    # When something is switched off, by another process
    switch(eager, scope)
    began_s = time.monotonic()
    for shop in (eager, other):
        await until_stopped(shop, held)
    stopping_s = time.monotonic() - began_s

    # Then each of them holds it back, for those who ask and for what was decided and
    # not shown
    for shop in (eager, other):
        for decision in open_ones:
            assert await shop.standing(decision) == ("WITHDRAWN", "STOPPED")

    # And when it is switched on again, then it is back
    switch(eager, scope, resume=True)
    began_s = time.monotonic()
    for shop in (eager, other):
        await until_stopped(shop, set())
    resuming_s = time.monotonic() - began_s
    for shop in (eager, other):
        for decision in open_ones:
            assert await shop.standing(decision) == ("ACTIVE", "")

    # And both took less than a second, unless this machine was busy otherwise
    assert min(stopping_s, resuming_s) < 1.0


async def test_a_stop_holds_back_what_sticks_and_what_is_critical(
    eager: Shop,
) -> None:
    # Given a critical offer that sticks
    first = await eager.ask("ada", "home", offer_ids=["tea"])
    assert await eager.ask("ada", "home", offer_ids=["tea"]) == first

    # When it is stopped
    await kit.stop(eager, "offer:tea")

    # Then it is not shown, and an accept of what is on the screen is told so
    silence = await eager.ask("ada", "home", offer_ids=["tea"])
    assert kit.reason_of(silence) == "STOPPED"
    (accepted,) = await eager.report(first, kit.ACCEPTED)
    assert kit.state_of(accepted) == "WITHDRAWN"


async def test_several_stops_each_hold_back_what_they_name(eager: Shop) -> None:
    # Given an offer that is stopped, and its placement as well
    await kit.stop(eager, "offer:jam")
    await kit.stop(eager, "placement:till")

    # When one of the two is taken back, then the other one holds still
    await kit.stop(eager, "placement:till", resume=True)
    assert stopped(await eager.ask("ada", "till")) == {("jam", "till")}
    await kit.stop(eager, "offer:jam", resume=True)
    assert stopped(await eager.ask("ada", "till")) == set()


async def test_a_decision_says_what_was_stopped_then(eager: Shop) -> None:
    # Given a decision while something was stopped, which goes on by now
    await kit.stop(eager, "category:plans")
    decision = await eager.ask("ada", "till", offer_ids=["pro"])
    await kit.stop(eager, "category:plans", resume=True)

    # When it is explained, then it says what was stopped
    explained = await eager.explain(decision)
    assert list(explained.stopped_scopes) == ["category:plans"]
    (rejection,) = explained.rejections
    assert (rejection.found, rejection.needed) == ("stopped: category:plans", "no stop")


async def test_a_server_that_is_started_later_knows_what_is_stopped(
    eager: Shop, clock: kit.Clock
) -> None:
    # Given something that was stopped
    switch(eager, "all")

    # When a server is started
    async with kit.running(
        eager.path, CATALOGUE, clock, eager.settings, "late"
    ) as late:
        # Then it shows nothing from its first answer on
        assert kit.reason_of(await late.ask("ada", "till")) == "STOPPED"
