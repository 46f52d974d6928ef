"""What goes on with a user holds offers back, and for a while after it is over."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from opportune.v1 import (
    LifeStateUpdate,
    RecordEventRequest,
    SetUserStateRequest,
    TicketClosing,
    TicketOpening,
)
from tests.server import kit
from tests.server.kit import Shop

CATALOGUE = """
valid_for = "10m"
spacing = { interruptive = "0s" }

[categories.storage]
[categories.devices]

[suppressors.moving]
blocks = "price"
categories = ["devices"]
cool_down = "2d"

[placements.home]
[placements.dialog]
kind = "modal"

[offers.space]
placements = ["home", "dialog"]
categories = ["storage"]
price = 500

[offers.phone]
placements = ["home", "dialog"]
categories = ["devices"]
price = 900

[offers.lesson]
placements = ["home", "dialog"]
kind = "free_help"
"""

EVERYTHING = {
    (offer, placement)
    for offer in ("space", "phone", "lesson")
    for placement in ("home", "dialog")
}
PRICED = {pair for pair in EVERYTHING if pair[0] != "lesson"}
INTERRUPTING = {pair for pair in EVERYTHING if pair[1] == "dialog"}
PHONES = {pair for pair in EVERYTHING if pair[0] == "phone"}
HOUR, DAY = kit.HOUR_MS, kit.DAY_MS


class Suppressor(NamedTuple):
    """What a life-state does.

    Attributes:
        holds: What it holds back.
        cool_down_ms: For how long after it is over.
    """

    state: str
    reason: str
    holds: set[tuple[str, str]]
    cool_down_ms: int


SUPPRESSORS = [
    Suppressor("support_open", "SUPPORT_OPEN", EVERYTHING, DAY),
    Suppressor("payment_failed", "PAYMENT_FAILED", PRICED, DAY),
    Suppressor("incident", "INCIDENT", EVERYTHING, HOUR),
    Suppressor("onboarding", "ONBOARDING", PRICED, 0),
    Suppressor("churn_risk", "CHURN_RISK", PRICED, 0),
    Suppressor("trial_first_session", "TRIAL_FIRST_SESSION", INTERRUPTING, 0),
    Suppressor("moving", "LIFE_STATE", PHONES, 2 * DAY),
]


@pytest.fixture
def catalogue_text() -> str:
    return CATALOGUE


async def held_back(
    shop: Shop, reason: str, user_id: str = "ada", **fields: Any
) -> set[tuple[str, str]]:
    """Return what is held back for a reason, and see to it that the rest is not."""
    asked = await shop.ask(user_id, "home", "dialog", **fields)
    open_ones = {(c.offer_id, c.placement_id) for c in asked.candidates if c.offer_id}
    held = {(r.offer_id, r.placement_id) for r in asked.rejections}
    assert {kit.reason_of(r) for r in asked.rejections} <= {reason}
    assert open_ones | held == EVERYTHING
    assert not open_ones & held
    await shop.report(asked, kit.NOT_SHOWN)
    return held


async def tell(shop: Shop, state: str, user_id: str = "ada", **fields: Any) -> None:
    account_id = fields.pop("account_id", "")
    update = LifeStateUpdate(**fields)
    await shop.told(
        SetUserStateRequest(
            user_id=user_id, account_id=account_id, life_states={state: update}
        )
    )


@pytest.mark.parametrize("suppressor", SUPPRESSORS, ids=lambda it: it.state)
async def test_a_life_state_holds_back_its_part_and_cools_down(
    eager: Shop,
    other: Shop,
    clock: kit.Clock,
    suppressor: Suppressor,
) -> None:
    state, reason, holds, cool_down_ms = suppressor
    # Given a user with whom nothing goes on
    assert await held_back(eager, reason) == set()

    # When something begins, then it holds its part back for as long as it goes on
    await tell(eager, state, active=True)
    for _ in range(2):
        assert await held_back(other, reason) == holds
        clock.advance(90 * DAY)

    # And for a while after it is over
    await tell(other, state)
    over_ms = clock() + cool_down_ms
    if cool_down_ms:
        clock.now_ms = over_ms - 1
        assert await held_back(eager, reason) == holds
        for rejection in (await eager.ask("ada", "home", "dialog")).rejections:
            assert kit.ms(rejection.next_eligible_time) == over_ms
        clock.now_ms = over_ms
    assert await held_back(eager, reason) == set()


@pytest.mark.parametrize("suppressor", SUPPRESSORS, ids=lambda it: it.state)
async def test_a_life_state_that_ends_by_itself_cools_down_as_well(
    eager: Shop,
    clock: kit.Clock,
    suppressor: Suppressor,
) -> None:
    state, reason, holds, cool_down_ms = suppressor
    # Given something that is known to be over in an hour
    end_ms = clock() + HOUR
    await tell(eager, state, active=True, end_time=kit.timestamp(end_ms))

    # When nobody says anything more, then it holds back until then, and the while after
    for now_ms, held in (
        (clock(), holds),
        (end_ms + cool_down_ms - 1, holds),
        (end_ms + cool_down_ms, set()),
    ):
        clock.now_ms = now_ms
        assert await held_back(eager, reason) == held


@pytest.mark.parametrize("suppressor", SUPPRESSORS, ids=lambda it: it.state)
async def test_a_life_state_of_an_account_is_one_of_all_its_users(
    eager: Shop,
    clock: kit.Clock,
    suppressor: Suppressor,
) -> None:
    state, reason, holds, cool_down_ms = suppressor
    # Given something that goes on with an account
    await tell(eager, state, user_id="", account_id="acme", active=True)

    # Then it holds back for its users, and for nobody else
    for user_id in ("ada", "bob"):
        held = await held_back(eager, reason, user_id, account_id="acme")
        assert held == holds
        assert await held_back(eager, reason, user_id) == set()
    await tell(eager, state, user_id="", account_id="acme")
    clock.advance(cool_down_ms)
    assert await held_back(eager, reason, "bob", account_id="acme") == set()


async def test_what_a_ticket_was_about_may_be_offered_once_it_is_solved(
    eager: Shop, clock: kit.Clock
) -> None:
    # Given a ticket about storage
    async def ticket(**fields: Any) -> None:
        await eager.told(RecordEventRequest(user_id="ada", **fields))

    await ticket(ticket_opened=TicketOpening(category_ids=["storage"]))
    assert await held_back(eager, "SUPPORT_OPEN") == EVERYTHING

    # When it is closed well, then storage may be offered at once, and nothing else
    await ticket(ticket_closed=TicketClosing())
    about = {pair for pair in EVERYTHING if pair[0] == "space"}
    assert await held_back(eager, "SUPPORT_OPEN") == EVERYTHING - about

    # And when one is closed badly, then storage waits like everything else
    clock.advance(DAY)
    assert await held_back(eager, "SUPPORT_OPEN") == set()
    await ticket(ticket_opened=TicketOpening(category_ids=["storage"]))
    await ticket(ticket_closed=TicketClosing(negative=True))
    assert await held_back(eager, "SUPPORT_OPEN") == EVERYTHING
    clock.advance(DAY)
    assert await held_back(eager, "SUPPORT_OPEN") == set()


async def test_a_state_that_comes_back_begins_anew(
    eager: Shop, clock: kit.Clock
) -> None:
    # Given an incident that is over
    await tell(eager, "incident", active=True)
    await tell(eager, "incident")

    # When there is another one before the hour is over
    clock.advance(HOUR // 2)
    await tell(eager, "incident", active=True)
    clock.advance(HOUR)

    # Then it holds back, whatever has been said of the one before
    assert await held_back(eager, "INCIDENT") == EVERYTHING


async def test_a_state_that_nothing_looks_at_holds_nothing_back(eager: Shop) -> None:
    # Given a state that the catalogue has no suppressor for
    await tell(eager, "on_holiday", active=True)

    # Then it holds nothing back
    assert await held_back(eager, "LIFE_STATE") == set()
    assert (await eager.user()).state.life_states["on_holiday"].active


async def test_a_critical_offer_waits_for_life_as_well(eager: Shop) -> None:
    # Given a critical offer
    await kit.change_catalogue(
        eager,
        '[placements.home]\n[offers.alarm]\nplacements = ["home"]\n'
        'override = "critical"\n',
    )

    # When there is an incident
    await tell(eager, "incident", active=True)

    # Then it is not shown
    assert kit.reasons(await eager.ask()) == {"alarm": "INCIDENT"}
