"""Caps, cool-downs and dates through the wire: kept exactly, and freed in time."""

from __future__ import annotations

import asyncio

import pytest

from opportune.v1 import Decision, OfferState, Reason
from tests.server import kit
from tests.server.kit import Shop

GRACE_MS = 60_000
HOUSE_MS = 10 * kit.MINUTE_MS
"""How long the catalogue lets an offer be shown."""


def reasons(decision: Decision) -> dict[str, str]:
    return {r.offer_id: Reason.Name(r.reason) for r in decision.rejections}


def candidates(decision: Decision) -> set[str]:
    return {c.offer_id for c in decision.candidates}


async def test_a_thousand_requests_at_once_get_one_capped_offer(shop: Shop) -> None:
    # Given an offer that a user may see once a day
    # When a thousand requests of one user come at once
    decisions = await asyncio.gather(
        *(shop.ask("ada", offer_ids=["tea"]) for _ in range(1_000))
    )

    # Then exactly one of them has the offer, and each is a decision of its own
    assert [d.offer_id for d in decisions if d.offer_id] == ["tea"]
    assert len({d.decision_id for d in decisions}) == 1_000
    assert shop.count("decisions_v1") == 1_000
    for decision in decisions:
        if "tea" not in candidates(decision):
            assert reasons(decision) == {"tea": "REASON_FREQUENCY_CAP"}


async def test_users_do_not_use_up_each_others_caps(shop: Shop) -> None:
    # Given many users, two of whom share an account
    # When each of them asks until offered, then each is
    users = [f"user-{n}" for n in range(20)]
    await asyncio.gather(*(shop.offered(user, "tea") for user in users))
    for user in ("ada", "bob"):
        await shop.offered(user, "tea", account_id="acme")


async def test_what_was_decided_holds_the_cap_until_nothing_can_be_heard_of_it(
    shop: Shop, clock: kit.Clock
) -> None:
    # Given an offer that was decided, and nothing was heard of it
    decision = await shop.offered("ada", "tea")
    assert kit.ms(decision.valid_until) == clock() + HOUSE_MS

    # When it may still be shown, or a report may be under way
    clock.advance(HOUSE_MS + GRACE_MS - 1)
    held = await shop.ask("ada", offer_ids=["tea"])

    # Then the cap holds, until that time is over
    assert reasons(held) == {"tea": "REASON_FREQUENCY_CAP"}
    free_ms = kit.ms(decision.valid_until) + GRACE_MS
    assert kit.ms(held.next_eligible_time) == free_ms
    clock.advance(1)
    assert candidates(await shop.ask("ada", offer_ids=["tea"])) == {"", "tea"}


async def test_what_was_not_shown_is_free_at_once(shop: Shop) -> None:
    # Given an offer that was decided
    decision = await shop.offered("ada", "tea")

    # When it is reported that it will not be shown
    await shop.report(decision, kit.NOT_SHOWN)

    # Then the cap is free
    assert candidates(await shop.ask("ada", offer_ids=["tea"])) == {"", "tea"}


async def test_what_was_shown_is_not_freed_by_a_later_denial(
    shop: Shop, clock: kit.Clock
) -> None:
    # Given an offer that was shown
    decision = await shop.offered("ada", "tea")
    await shop.report(decision, kit.SHOWN)

    # When it is reported that it was not, and its time is over
    await shop.report(decision, kit.NOT_SHOWN)
    clock.advance(HOUSE_MS)

    # Then it counts all the same
    asked = await shop.ask("ada", offer_ids=["tea"])
    assert reasons(asked) == {"tea": "REASON_FREQUENCY_CAP"}


async def test_the_window_of_a_cap_rolls_and_knows_no_midnight(
    shop: Shop, clock: kit.Clock
) -> None:
    # Given an offer of once in 24 hours that was shown at 23:00
    clock.now_ms = kit.NOON_MS + 11 * kit.HOUR_MS
    await shop.report(await shop.offered("ada", "tea"), kit.SHOWN)

    # When the user comes back at 00:01, then it is refused until 23:00
    clock.advance(kit.HOUR_MS + kit.MINUTE_MS)
    early = await shop.ask("ada", offer_ids=["tea"])
    assert reasons(early) == {"tea": "REASON_FREQUENCY_CAP"}
    assert kit.ms(early.next_eligible_time) == kit.NOON_MS + 35 * kit.HOUR_MS

    # And just before that time it still is, and at it it is not
    clock.now_ms = kit.NOON_MS + 35 * kit.HOUR_MS - 1
    assert reasons(await shop.ask("ada", offer_ids=["tea"]))
    clock.advance(1)
    assert not reasons(await shop.ask("ada", offer_ids=["tea"]))


async def test_several_caps_all_hold(shop: Shop, clock: kit.Clock) -> None:
    # Given an offer of once a day, twice a week and three times in a life
    await kit.change_catalogue(
        shop,
        """
        [placements.home]
        [offers.tea]
        placements = ["home"]
        caps = [
            { limit = 1, window = "1d" }, { limit = 2, window = "7d" }, { limit = 3 }
        ]
        """,
    )
    shown: list[int] = []

    # When a user comes every six hours for a month, and sees all that is offered
    for hour in range(0, 30 * 24, 6):
        clock.now_ms = kit.NOON_MS + hour * kit.HOUR_MS
        decision = await shop.ask("ada", offer_ids=["tea"])
        if decision.offer_id:
            await shop.report(decision, kit.SHOWN)
            shown.append(hour)

    # Then no window holds more than it may
    assert len(shown) == 3
    assert shown[1] - shown[0] >= 24
    assert shown[2] - shown[0] >= 7 * 24
    clock.advance(3_000 * kit.DAY_MS)
    last = await shop.ask("ada", offer_ids=["tea"])
    assert reasons(last) == {"tea": "REASON_FREQUENCY_CAP"}
    assert not last.HasField("next_eligible_time")


async def test_a_dismissed_offer_is_silent_until_its_cool_down_is_over(
    shop: Shop, clock: kit.Clock
) -> None:
    # Given an offer with a cool-down of seven days, dismissed an hour after it came
    decision = await shop.offered("ada", "jam")
    clock.advance(kit.HOUR_MS)
    await shop.report(decision, kit.SHOWN, kit.DISMISSED)
    over_ms = clock() + 7 * kit.DAY_MS

    # When the user asks during the cool-down, then there is silence, with the reason
    # and the time from which on there may be an offer
    for now_ms in (clock(), over_ms - 1):
        clock.now_ms = now_ms
        silence = await shop.ask("ada", offer_ids=["jam"])
        assert silence.offer_id == ""
        assert Reason.Name(silence.reason) == "REASON_DISMISSED"
        assert kit.ms(silence.next_eligible_time) == over_ms
        assert silence.propensity == 1.0
    clock.now_ms = over_ms
    assert candidates(await shop.ask("ada", offer_ids=["jam"])) == {"", "jam"}


async def test_each_further_dismissal_starts_a_longer_cool_down(
    shop: Shop, clock: kit.Clock
) -> None:
    # Given three decisions for an offer
    decisions = [await shop.offered("ada", "jam") for _ in range(3)]

    # When one after the other is dismissed, a minute apart, then the cool-down counts
    # from the last one, and is twice as long as the one before
    for decision, days in zip(decisions, (7, 14, 28), strict=True):
        clock.advance(kit.MINUTE_MS)
        await shop.report(decision, kit.DISMISSED)
        silence = await shop.ask("ada", offer_ids=["jam"])
        assert reasons(silence) == {"jam": "REASON_DISMISSED"}
        assert kit.ms(silence.next_eligible_time) == clock() + days * kit.DAY_MS


async def test_an_offer_is_a_candidate_from_its_start_to_before_its_end(
    shop: Shop, clock: kit.Clock
) -> None:
    # Given an offer for some days in December
    offer = shop.services.current.catalogue.offers["xmas"]
    start_ms, end_ms = offer.start_ms, offer.end_ms
    assert start_ms is not None
    assert end_ms is not None

    # When it is asked for at the millisecond before, at and after each of its dates
    for now_ms, reason in (
        (start_ms - 1, "REASON_NOT_STARTED"),
        (start_ms, None),
        (start_ms + 1, None),
        (end_ms - 1, None),
        (end_ms, "REASON_EXPIRED"),
        (end_ms + 1, "REASON_EXPIRED"),
    ):
        clock.now_ms = now_ms
        decision = await shop.ask("ada", "till")

        # Then it is there from the first to before the last
        assert reasons(decision).get("xmas") == reason, now_ms - start_ms
        if reason is not None:
            assert Reason.Name(decision.reason) == reason
        if reason == "REASON_NOT_STARTED":
            assert kit.ms(decision.next_eligible_time) == start_ms
        if reason == "REASON_EXPIRED":
            assert not decision.HasField("next_eligible_time")


async def test_an_offer_may_not_be_shown_beyond_its_end(
    shop: Shop, clock: kit.Clock
) -> None:
    # Given an offer that ends in a minute
    end_ms = shop.services.current.catalogue.offers["xmas"].end_ms
    assert end_ms is not None
    clock.now_ms = end_ms - kit.MINUTE_MS

    # When it is decided
    decision = await shop.offered("ada", "xmas", "till")

    # Then it may be shown until the end, not for the usual time
    assert kit.ms(decision.valid_until) == end_ms


async def test_an_accept_after_the_end_is_recorded_and_answered_expired(
    shop: Shop, clock: kit.Clock
) -> None:
    # Given an offer that was shown before its end
    end_ms = shop.services.current.catalogue.offers["xmas"].end_ms
    assert end_ms is not None
    clock.now_ms = end_ms - 1
    decision = await shop.offered("ada", "xmas", "till")
    (shown,) = await shop.report(decision, kit.SHOWN)

    # When the user accepts at its end
    clock.now_ms = end_ms
    (accepted,) = await shop.report(decision, kit.ACCEPTED)

    # Then the answer says that it is over, and the accept is in the log
    assert OfferState.Name(shown.offer_state) == "OFFER_STATE_ACTIVE"
    assert OfferState.Name(accepted.offer_state) == "OFFER_STATE_EXPIRED"
    assert shop.count("outcomes_v1") == 2


async def test_an_accept_of_an_offer_that_was_withdrawn_says_so(shop: Shop) -> None:
    # Given an offer that the catalogue drops after it was decided
    decision = await shop.offered("ada", "jam")
    await kit.change_catalogue(shop, "[placements.home]")

    # When the user accepts
    (accepted,) = await shop.report(decision, kit.ACCEPTED)

    # Then the answer says that it is withdrawn, and the accept is in the log
    assert OfferState.Name(accepted.offer_state) == "OFFER_STATE_WITHDRAWN"
    assert shop.count("outcomes_v1") == 1


@pytest.mark.parametrize("back_ms", [1, kit.MINUTE_MS, kit.DAY_MS, 400 * kit.DAY_MS])
async def test_a_clock_that_goes_back_frees_no_cap_and_breaks_nothing(
    shop: Shop, clock: kit.Clock, back_ms: int
) -> None:
    # Given an offer that was shown, and one that was decided
    shown = await shop.offered("ada", "tea")
    await shop.report(shown, kit.SHOWN)
    await shop.offered("bob", "tea")

    # When the clock goes back
    clock.advance(-back_ms)

    # Then both caps hold, and outcomes are still taken
    for user in ("ada", "bob"):
        asked = await shop.ask(user, offer_ids=["tea"])
        assert reasons(asked) == {"tea": "REASON_FREQUENCY_CAP"}
    (result,) = await shop.report(shown, kit.ACCEPTED)
    assert not result.duplicate


async def test_silence_does_not_touch_the_history(shop: Shop) -> None:
    # Given a user whom an offer was shown to
    await shop.report(await shop.offered("ada", "tea"), kit.SHOWN)
    before = kit.rows(shop.path, "select root, user_id, version, record from history")

    # When the user asks a hundred times where nothing can be offered
    await asyncio.gather(*(shop.ask("ada", offer_ids=["tea"]) for _ in range(100)))
    silence = await shop.ask("ada", "empty")
    await shop.report(silence, kit.SHOWN, kit.CONVERTED)

    # Then what is remembered is the same, at the same version
    after = kit.rows(shop.path, "select root, user_id, version, record from history")
    assert before == after


async def test_why_there_is_silence_is_what_the_clock_ends_first(
    shop: Shop, clock: kit.Clock
) -> None:
    # Given one offer that is capped for a day and one dismissed for a week
    await shop.report(await shop.offered("ada", "tea"), kit.SHOWN)
    await shop.report(await shop.offered("ada", "jam"), kit.DISMISSED)

    # When the user asks for both
    silence = await shop.ask("ada")

    # Then the reason is that of the one that comes back first
    assert Reason.Name(silence.reason) == "REASON_FREQUENCY_CAP"
    assert kit.ms(silence.next_eligible_time) == clock() + kit.DAY_MS
