"""An offer that the user wants to see later comes back once, and not before."""

from __future__ import annotations

import pytest

from opportune.v1 import Context, Decision, Moment
from tests.server import kit
from tests.server.kit import Shop

CATALOGUE = """
valid_for = "10m"

[placements.home]

[offers.help]
placements = ["home"]
moments = ["limit_near"]
caps = [{ limit = 3, window = "1d" }]
snooze = { repeats = 3 }
dismissal = { cool_down = "7d" }

[offers.once]
placements = ["home"]
moments = ["limit_near"]
caps = [{ limit = 1 }]
"""
NEAR = Context(moment=Moment(kind="limit_near"))
DONE = Context(moment=Moment(kind="workflow_done"))


@pytest.fixture
def catalogue_text() -> str:
    return CATALOGUE


async def snooze(
    shop: Shop, decision: Decision, span_ms: int, name: str = "later"
) -> int:
    """Put an offer off; return until when."""
    until_ms = shop.clock() + span_ms
    put_off = kit.outcome(
        kit.SNOOZED, outcome_id=name, snooze_until=kit.timestamp(until_ms)
    )
    await shop.tell(decision, kit.outcome(kit.SHOWN), put_off)
    return until_ms


async def test_an_offer_that_was_put_off_comes_back_once_at_no_certain_moment(
    eager: Shop, other: Shop, clock: kit.Clock
) -> None:
    # Given an offer for a certain moment, which the user puts off by two days
    decision = await eager.ask(offer_ids=["help"], context=NEAR)
    until_ms = await snooze(eager, decision, 2 * kit.DAY_MS)

    # When the moment comes again before that, then there is silence until then
    clock.now_ms = until_ms - 1
    early = await other.ask(offer_ids=["help"], context=NEAR)
    assert kit.reason_of(early) == "SNOOZED"
    assert kit.ms(early.next_eligible_time) == until_ms
    at_none = await other.ask(offer_ids=["help"])
    assert kit.ms(at_none.next_eligible_time) == until_ms

    # And from then on it is there, though its moment has not come again
    clock.now_ms = until_ms
    for context in (DONE, None):
        back = await other.ask(offer_ids=["help"], context=context)
        assert back.offer_id == "help"
        await other.report(back, kit.NOT_SHOWN)

    # And once it was shown, it waits for its moment like before
    back = await other.ask(offer_ids=["help"])
    await other.report(back, kit.SHOWN)
    (snoozed,) = (await eager.user()).snoozes
    assert snoozed.returned
    for context in (DONE, None):
        asked = await eager.ask(offer_ids=["help"], context=context)
        assert kit.reason_of(asked) == "NOT_ELIGIBLE"
    assert (await eager.ask(offer_ids=["help"], context=NEAR)).offer_id == "help"


async def test_what_comes_back_keeps_its_caps(eager: Shop, clock: kit.Clock) -> None:
    # Given an offer of once in a life, which the user has put off when they saw it
    decision = await eager.ask(offer_ids=["once"], context=NEAR)
    until_ms = await snooze(eager, decision, kit.DAY_MS)

    # When it is due, then its cap holds it back all the same
    clock.now_ms = until_ms
    for context in (None, NEAR):
        asked = await eager.ask(offer_ids=["once"], context=context)
        assert kit.reasons(asked) == {"once": "FREQUENCY_CAP"}


async def test_who_puts_off_once_too_often_has_dismissed(
    eager: Shop, clock: kit.Clock
) -> None:
    # Given a user who puts an offer off three times, each time when it has come back
    for number in range(3):
        decision = await eager.ask(offer_ids=["help"], context=NEAR)
        assert decision.offer_id == "help", number
        clock.now_ms = await snooze(eager, decision, kit.DAY_MS)

    # When they do so for the fourth time
    decision = await eager.ask(offer_ids=["help"], context=NEAR)
    put_off_ms = clock()
    until_ms = await snooze(eager, decision, kit.DAY_MS)

    # Then it stays away like one that was dismissed, not only until then
    clock.now_ms = until_ms
    asked = await eager.ask(offer_ids=["help"], context=NEAR)
    assert kit.reasons(asked) == {"help": "DISMISSED"}
    assert kit.ms(asked.next_eligible_time) == put_off_ms + 7 * kit.DAY_MS


async def test_the_later_of_two_wishes_holds(eager: Shop, clock: kit.Clock) -> None:
    # Given two decisions for one offer
    first, second = [
        await eager.ask(offer_ids=["help"], context=NEAR) for _ in range(2)
    ]

    # When both are put off, the second one for less long
    until_ms = await snooze(eager, first, 3 * kit.DAY_MS)
    await snooze(eager, second, kit.HOUR_MS)

    # Then the longer wish holds
    clock.now_ms = until_ms - 1
    asked = await eager.ask(offer_ids=["help"], context=NEAR)
    assert kit.ms(asked.next_eligible_time) == until_ms


async def test_a_wish_is_one_users(eager: Shop, clock: kit.Clock) -> None:
    # Given a user of an account who puts an offer off
    decision = await eager.ask(offer_ids=["help"], context=NEAR, account_id="acme")
    until_ms = await snooze(eager, decision, kit.DAY_MS)

    # Then the others see it at its moment, and it does not come back to them
    theirs = await eager.ask("bob", context=NEAR, account_id="acme")
    assert "help" in kit.candidates(theirs)
    clock.now_ms = until_ms
    theirs = await eager.ask("bob", offer_ids=["help"], account_id="acme")
    assert kit.reasons(theirs) == {"help": "NOT_ELIGIBLE"}


async def test_a_wish_that_is_told_twice_counts_once(
    eager: Shop, clock: kit.Clock
) -> None:
    # Given an offer that was put off
    decision = await eager.ask(offer_ids=["help"], context=NEAR)
    await snooze(eager, decision, kit.DAY_MS)

    # When the report comes again
    clock.advance(kit.MINUTE_MS)
    await snooze(eager, decision, kit.DAY_MS)

    # Then it counts once, from the first time
    (snoozed,) = (await eager.user()).snoozes
    assert snoozed.snooze_count == 1
    assert kit.ms(snoozed.end_time) == kit.NOON_MS + kit.DAY_MS
