"""What everybody must see goes past caps, and past nothing else; all of it is told."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from opportune.v1 import (
    BeginCriticalRequest,
    LifeStateUpdate,
    QuietHours,
    SetPreferencesRequest,
    SetUserStateRequest,
)
from server import telemetry
from tests.server import kit
from tests.server.kit import Shop

CATALOGUE = """
valid_for = "10m"
caps = [{ limit = 1, window = "1d" }]
attention = { budget = 3.0 }
spacing = { interruptive = "1h", per_session = 1 }
fatigue = { ignored = 1, pause = "1d" }

[categories.news]
caps = [{ limit = 1, window = "1d" }]

[placements.dialog]
kind = "modal"
caps = [{ limit = 1, window = "1d" }]

[offers.terms]
placements = ["dialog"]
categories = ["news"]
override = "critical"
priority = 2
caps = [{ limit = 1 }]
[offers.terms.creatives.short]
caps = [{ limit = 1, window = "1h" }]

[offers.outage]
placements = ["dialog"]
override = "critical"
counted = false

[offers.tea]
placements = ["dialog"]
categories = ["news"]
"""

BYPASSED = {
    "placement_cap",
    "attention",
    "spacing",
    "session_limit",
    "fatigue",
    "category_cap",
    "offer_cap",
    "creative_cap",
}


@pytest.fixture
def catalogue_text() -> str:
    return CATALOGUE


async def ask(shop: Shop, offer_id: str) -> Any:
    return await shop.ask("ada", "dialog", offer_ids=[offer_id], session_id="visit")


async def test_a_critical_offer_goes_past_every_cap_and_says_so(
    eager: Shop,
) -> None:
    # Given a critical offer that was shown as often as all caps would allow
    await eager.report(await ask(eager, "terms"), kit.SHOWN)
    before = telemetry.OVERRIDES._value.get()

    # When it is asked for again
    decision = await ask(eager, "terms")

    # Then it is shown, the metrics count it, and the explanation lists all it went past
    assert decision.offer_id == "terms"
    assert telemetry.OVERRIDES._value.get() == before + 1
    explained = await eager.explain(decision)
    assert {bypass.gate for bypass in explained.bypasses} == BYPASSED
    for bypass in explained.bypasses:
        assert (bypass.offer_id, bypass.creative_id) == ("terms", "short")
        assert bypass.found
        assert bypass.needed
    assert not explained.rejections

    # And an offer that is not critical is held back by them
    assert (await ask(eager, "tea")).offer_id == ""


async def test_a_critical_offer_counts_for_the_others_unless_it_says_otherwise(
    eager: Shop,
) -> None:
    # Given a critical offer that does not count
    await eager.report(await ask(eager, "outage"), kit.SHOWN)

    # When another one is asked for, then no cap has heard of the first
    tea = await ask(eager, "tea")
    assert tea.offer_id == "tea"
    await eager.report(tea, kit.NOT_SHOWN)

    # And one that counts holds the others back
    await eager.report(await ask(eager, "terms"), kit.SHOWN)
    held_back = await eager.explain(await ask(eager, "tea"))
    assert kit.reasons(held_back) == {"tea": "FATIGUE"}
    found = (await eager.user()).counts
    assert {count.offer_id for count in found} == {"terms"}


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        (SetPreferencesRequest(user_id="ada", opt_out_all=True), "OPTED_OUT"),
        (
            SetPreferencesRequest(user_id="ada", opt_out_category_ids=["news"]),
            "OPTED_OUT",
        ),
        (
            BeginCriticalRequest(
                user_id="ada", key="payment", ttl=Duration(seconds=60)
            ),
            "CRITICAL_WORKFLOW",
        ),
        (
            SetPreferencesRequest(
                user_id="ada", quiet_hours=QuietHours(start="12:00", end="13:00")
            ),
            "QUIET_HOURS",
        ),
        (
            SetUserStateRequest(
                user_id="ada", life_states={"incident": LifeStateUpdate(active=True)}
            ),
            "INCIDENT",
        ),
    ],
)
async def test_a_critical_offer_goes_past_nothing_else(
    eager: Shop, told: Any, reason: str
) -> None:
    # Given a critical offer that may be shown
    assert (await ask(eager, "terms")).offer_id == "terms"

    # When the user has asked for silence, or needs it
    await eager.told(told)

    # Then there is silence
    silence = await ask(eager, "terms")
    assert silence.offer_id == ""
    assert kit.reason_of(silence) == reason
    assert not (await eager.explain(silence)).bypasses


async def test_a_critical_offer_that_was_waved_away_stays_away(eager: Shop) -> None:
    # Given a critical offer that the user has dismissed
    decision = await ask(eager, "terms")
    await eager.report(decision, kit.SHOWN, kit.DISMISSED)

    # Then it does not come back at once
    assert kit.reason_of(await ask(eager, "terms")) == "DISMISSED"
