"""A placement's fallback: shown where nothing else may be, if it may be itself."""

from __future__ import annotations

import pytest

from opportune.v1 import (
    LifeStateUpdate,
    SetPreferencesRequest,
    SetUserStateRequest,
)
from tests.server import kit
from tests.server.kit import Shop

CATALOGUE = """
valid_for = "10m"

[categories.help]

[products.basic]

[placements.home]
fallback = "lesson"
slots = 3
[placements.till]

[offers.tea]
placements = ["home", "till"]
caps = [{ limit = 1 }]

[offers.jam]
placements = ["home"]
caps = [{ limit = 1 }]

[offers.lesson]
placements = ["home", "till"]
categories = ["help"]
kind = "free_help"
caps = [{ limit = 2, window = "1d" }]
"""


@pytest.fixture
def catalogue_text() -> str:
    return CATALOGUE


async def used_up(shop: Shop, *offers: str) -> None:
    for offer_id in offers:
        decision = await shop.ask(offer_ids=[offer_id])
        assert decision.offer_id == offer_id
        await shop.report(decision, kit.SHOWN)


async def test_the_fallback_is_shown_where_nothing_else_may_be(eager: Shop) -> None:
    # Given a user who may see other offers
    decision = await eager.ask()
    assert kit.candidates(decision) == {"tea", "jam"}
    assert not decision.fallback
    assert kit.reasons(decision) == {"lesson": "NO_CANDIDATE"}
    await eager.report(decision, kit.NOT_SHOWN)

    # When they have seen them all
    await used_up(eager, "tea", "jam")
    decision = await eager.ask()

    # Then the fallback is there, and says that it is one
    assert decision.offer_id == "lesson"
    assert decision.fallback
    assert kit.candidates(decision) == {"lesson"}


async def test_elsewhere_it_is_an_offer_like_any_other(eager: Shop) -> None:
    # Given a placement that it is no fallback of
    decision = await eager.ask("ada", "till")

    # Then it stands beside the others
    assert kit.candidates(decision) == {"tea", "lesson"}
    assert not decision.fallback


async def test_it_keeps_its_caps(eager: Shop) -> None:
    # Given a user for whom only the fallback is left
    await used_up(eager, "tea", "jam")
    shown = [await eager.ask() for _ in range(3)]

    # Then it is shown as often as it may be, and then there is silence
    assert [decision.offer_id for decision in shown] == ["lesson", "lesson", ""]
    assert kit.reason_of(shown[-1]) == "FREQUENCY_CAP"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ('state = "paused"', "PAUSED"),
        ('state = "draft"', "NOT_APPROVED"),
        ("start = 2026-12-01T00:00:00Z", "NOT_STARTED"),
        ("end = 2026-11-01T00:00:00Z", "EXPIRED"),
        ("eligible = \"segment == 'team'\"", "NOT_ELIGIBLE"),
        ('requires = ["basic"]', "REQUIREMENT_MISSING"),
        ('moments = ["limit_near"]', "NOT_ELIGIBLE"),
    ],
)
async def test_it_passes_every_gate_or_there_is_silence(
    eager: Shop, change: str, reason: str
) -> None:
    # Given a fallback with a condition that does not hold
    await used_up(eager, "tea", "jam")
    text = CATALOGUE.replace('kind = "free_help"', f'kind = "free_help"\n{change}')
    await kit.change_catalogue(eager, text)

    # When there is nothing else to show
    decision = await eager.ask()

    # Then there is silence
    assert decision.offer_id == ""
    assert kit.reasons(decision)["lesson"] == reason


@pytest.mark.parametrize(
    "wish",
    [
        SetPreferencesRequest(user_id="ada", opt_out_category_ids=["help"]),
        SetPreferencesRequest(user_id="ada", opt_out_all=True),
        SetUserStateRequest(
            user_id="ada", life_states={"incident": LifeStateUpdate(active=True)}
        ),
    ],
)
async def test_it_is_held_back_by_what_users_want(
    eager: Shop, wish: SetPreferencesRequest | SetUserStateRequest
) -> None:
    # Given a user for whom only the fallback is left
    await used_up(eager, "tea", "jam")

    # When they opt out, or something goes on with them
    await eager.told(wish)

    # Then there is silence
    assert (await eager.ask()).offer_id == ""


async def test_it_is_stopped_like_any_other(eager: Shop) -> None:
    # Given a user for whom only the fallback is left, which is stopped
    await used_up(eager, "tea", "jam")
    await kit.stop(eager, "offer:lesson")

    # Then there is silence
    decision = await eager.ask()
    assert decision.offer_id == ""
    assert kit.reasons(decision)["lesson"] == "STOPPED"


async def test_it_comes_last_among_several_offers(eager: Shop) -> None:
    # Given a placement with three slots
    # When all of them are to be filled
    decisions = await eager.choose(3, "ada")

    # Then the fallback comes when there is nothing else, and once
    assert {d.offer_id for d in decisions[:2]} == {"tea", "jam"}
    assert decisions[2].offer_id == "lesson"
    assert [decision.fallback for decision in decisions] == [False, False, True]


async def test_it_is_only_for_who_asks_for_it(eager: Shop) -> None:
    # Given a user who has seen tea
    await used_up(eager, "tea")

    # When a request is for tea only, then the fallback is no way around that
    decision = await eager.ask(offer_ids=["tea"])
    assert decision.offer_id == ""
    assert kit.reasons(decision) == {"tea": "FREQUENCY_CAP"}
