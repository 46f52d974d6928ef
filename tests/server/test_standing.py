"""Whether a decided offer still stands: asked before it is shown, and told after."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from opportune.v1 import (
    BeginCriticalRequest,
    CheckDecisionRequest,
    CheckDecisionResponse,
    Complaint,
    Contact,
    Decision,
    LifeStateUpdate,
    Purchase,
    QuietHours,
    RecordEventRequest,
    SetPreferencesRequest,
    SetUserStateRequest,
)
from tests.server import kit
from tests.server.kit import Shop

CATALOGUE = """
currency = "EUR"
valid_for = "1h"

[categories.plans]

[products.pro]

[placements.home]
[placements.door]

[offers.pro]
placements = ["home"]
categories = ["plans"]
grants = ["pro"]
price = 900
end = 2026-11-21T12:30:00Z
caps = [{ limit = 1 }]

[offers.tea]
placements = ["home"]
caps = [{ limit = 1 }]
"""

_Change = Callable[[Shop, kit.Clock, Decision], Awaitable[object]]


@pytest.fixture
def catalogue_text() -> str:
    return CATALOGUE


async def edited(shop: Shop, before: str, after: str) -> None:
    assert before in CATALOGUE
    await kit.change_catalogue(shop, CATALOGUE.replace(before, after))


async def end_of_time(shop: Shop, clock: kit.Clock, decision: Decision) -> None:
    clock.now_ms = kit.ms(decision.valid_until)


async def gone(shop: Shop, clock: kit.Clock, decision: Decision) -> None:
    await kit.change_catalogue(shop, "[placements.home]\n[products.pro]\n")


async def paused(shop: Shop, clock: kit.Clock, decision: Decision) -> None:
    await edited(shop, 'grants = ["pro"]', 'grants = ["pro"]\nstate = "paused"')


async def archived(shop: Shop, clock: kit.Clock, decision: Decision) -> None:
    await edited(shop, 'grants = ["pro"]', 'grants = ["pro"]\nstate = "archived"')


async def moved(shop: Shop, clock: kit.Clock, decision: Decision) -> None:
    await edited(
        shop,
        '[offers.pro]\nplacements = ["home"]',
        '[offers.pro]\nplacements = ["door"]',
    )


async def over(shop: Shop, clock: kit.Clock, decision: Decision) -> None:
    await edited(shop, "T12:30", "T11:59")


async def put_off(shop: Shop, clock: kit.Clock, decision: Decision) -> None:
    await edited(shop, "end = 2026-11-21T12:30", "start = 2026-11-21T12:01")


def stopped(scope: str) -> _Change:
    async def change(shop: Shop, clock: kit.Clock, decision: Decision) -> None:
        await kit.stop(shop, scope)

    return change


def told(request: object) -> _Change:
    async def change(shop: Shop, clock: kit.Clock, decision: Decision) -> None:
        await shop.told(request)

    return change


def reported(*kinds: int) -> _Change:
    async def change(shop: Shop, clock: kit.Clock, decision: Decision) -> None:
        await shop.report(decision, *kinds)

    return change


async def snoozed(shop: Shop, clock: kit.Clock, decision: Decision) -> None:
    until = kit.timestamp(clock() + kit.DAY_MS)
    await shop.tell(decision, kit.outcome(kit.SNOOZED, snooze_until=until))


SOON = kit.timestamp(kit.NOON_MS + kit.HOUR_MS)

GONE: dict[str, tuple[_Change, str, str]] = {
    # What happens, the state of the offer then, and why it may not be shown.
    "its time is over": (end_of_time, "EXPIRED", "EXPIRED"),
    "it is over early": (over, "EXPIRED", "EXPIRED"),
    "it is put off": (put_off, "WITHDRAWN", "NOT_STARTED"),
    "it is dropped": (gone, "WITHDRAWN", "WITHDRAWN"),
    "it is paused": (paused, "WITHDRAWN", "WITHDRAWN"),
    "it is archived": (archived, "WITHDRAWN", "WITHDRAWN"),
    "it is shown elsewhere": (moved, "WITHDRAWN", "WITHDRAWN"),
    "all is stopped": (stopped("all"), "WITHDRAWN", "STOPPED"),
    "the offer is stopped": (stopped("offer:pro"), "WITHDRAWN", "STOPPED"),
    "plans are stopped": (stopped("category:plans"), "WITHDRAWN", "STOPPED"),
    "home is stopped": (stopped("placement:home"), "WITHDRAWN", "STOPPED"),
    "it is owned": (
        told(SetUserStateRequest(user_id="ada", add_product_ids=["pro"])),
        "WITHDRAWN",
        "ALREADY_OWNED",
    ),
    "it is bought": (
        told(
            RecordEventRequest(user_id="ada", purchased=Purchase(product_ids=["pro"]))
        ),
        "WITHDRAWN",
        "ALREADY_OWNED",
    ),
    "it is about to be owned": (
        told(
            SetUserStateRequest(
                user_id="ada", pending_product_ids=["pro"], pending_until=SOON
            )
        ),
        "WITHDRAWN",
        "PENDING_PURCHASE",
    ),
}

NOT_NOW: dict[str, tuple[_Change, str]] = {
    # What happens after which the offer can still be had, but is not to be shown.
    "a workflow": (
        told(
            BeginCriticalRequest(user_id="ada", key="export", ttl=Duration(seconds=60))
        ),
        "CRITICAL_WORKFLOW",
    ),
    "an opt-out": (
        told(SetPreferencesRequest(user_id="ada", opt_out_category_ids=["plans"])),
        "OPTED_OUT",
    ),
    "an incident": (
        told(
            SetUserStateRequest(
                user_id="ada", life_states={"incident": LifeStateUpdate(active=True)}
            )
        ),
        "INCIDENT",
    ),
    "quiet hours": (
        told(
            SetPreferencesRequest(
                user_id="ada", quiet_hours=QuietHours(start="12:00", end="13:00")
            )
        ),
        "QUIET_HOURS",
    ),
    "a call": (
        told(RecordEventRequest(user_id="ada", contacted=Contact())),
        "CROSS_CHANNEL_COOLDOWN",
    ),
    "a complaint": (
        told(RecordEventRequest(user_id="ada", complained=Complaint())),
        "NEGATIVE_SENTIMENT",
    ),
    "a dismissal": (reported(kit.DISMISSED), "DISMISSED"),
    "an opt-out of the like": (reported(kit.OPTED_OUT), "OPTED_OUT"),
    "a snooze": (snoozed, "SNOOZED"),
}


@pytest.mark.parametrize("what", list(GONE))
async def test_what_cannot_be_had_any_more_is_told_whoever_asks(
    eager: Shop, clock: kit.Clock, what: str
) -> None:
    # Given an offer that was decided
    change, state, reason = GONE[what]
    decision = await eager.ask(offer_ids=["pro"])
    assert await eager.standing(decision) == ("ACTIVE", "")

    # When something happens after which it cannot be had
    await change(eager, clock, decision)

    # Then whoever asks before it is shown learns so, and why; who shows it learns it
    # from the report, which counts all the same
    assert await eager.standing(decision) == (state, reason)
    (shown,) = await eager.report(decision, kit.SHOWN)
    assert kit.state_of(shown) == state
    assert eager.count("outcomes_v1") == 1


@pytest.mark.parametrize("what", list(GONE))
async def test_an_accept_is_answered_with_what_is_true_now(
    eager: Shop, clock: kit.Clock, what: str
) -> None:
    # Given an offer on the screen
    change, state, _ = GONE[what]
    decision = await eager.ask(offer_ids=["pro"])
    (shown,) = await eager.report(decision, kit.SHOWN)
    assert kit.state_of(shown) == "ACTIVE"

    # When something happens before the user takes it
    await change(eager, clock, decision)
    (accepted,) = await eager.report(decision, kit.ACCEPTED)

    # Then the answer says whether it can still be had, and the accept is in the log
    assert kit.state_of(accepted) == state
    assert not accepted.duplicate
    assert eager.count("outcomes_v1") == 2


@pytest.mark.parametrize("what", list(NOT_NOW))
async def test_what_is_not_to_be_shown_now_can_still_be_had(
    eager: Shop, clock: kit.Clock, what: str
) -> None:
    # Given an offer that was decided
    change, reason = NOT_NOW[what]
    decision = await eager.ask(offer_ids=["pro"])

    # When something happens after which it had better not be shown
    await change(eager, clock, decision)

    # Then whoever asks learns why, and who accepts it gets it
    assert await eager.standing(decision) == ("ACTIVE", reason)
    (accepted,) = await eager.report(decision, kit.ACCEPTED)
    assert kit.state_of(accepted) == "ACTIVE"


async def test_an_offer_that_is_on_the_screen_may_be_accepted_after_its_decision(
    eager: Shop, clock: kit.Clock
) -> None:
    # Given an offer that was shown in time
    decision = await eager.ask(offer_ids=["tea"])
    await eager.report(decision, kit.SHOWN)

    # When the user takes it long after the decision was to be shown
    clock.advance(kit.DAY_MS)
    (accepted,) = await eager.report(decision, kit.ACCEPTED)

    # Then it can be had, though it may not be shown once more
    assert kit.state_of(accepted) == "ACTIVE"
    assert await eager.standing(decision) == ("EXPIRED", "EXPIRED")


async def test_what_was_shown_and_taken_in_time_is_reported_when_there_is_a_network(
    eager: Shop, clock: kit.Clock
) -> None:
    # Given a client that shows an offer in time, and cannot say so at once
    decision = await eager.ask(offer_ids=["tea"])
    shown_ms = clock() + kit.MINUTE_MS
    clock.advance(kit.DAY_MS)

    # When it reports later what happened then
    results = await eager.report(decision, kit.SHOWN, kit.ACCEPTED, at_ms=shown_ms)

    # Then the offer stands, as it was shown while it might be
    assert [kit.state_of(result) for result in results] == ["ACTIVE", "ACTIVE"]


async def test_a_report_that_it_was_shown_too_late_says_so(
    eager: Shop, clock: kit.Clock
) -> None:
    # Given an offer that was decided
    decision = await eager.ask(offer_ids=["tea"])

    # When it is shown after it might be
    clock.now_ms = kit.ms(decision.valid_until)
    (shown,) = await eager.report(decision, kit.SHOWN)

    # Then the answer says that its time is over
    assert kit.state_of(shown) == "EXPIRED"


async def test_its_own_cap_does_not_speak_against_a_decision(eager: Shop) -> None:
    # Given an offer of once in a life
    decision = await eager.ask(offer_ids=["tea"])

    # Then its decision stands before and after it was shown, though it would not be
    # decided again
    assert await eager.standing(decision) == ("ACTIVE", "")
    await eager.report(decision, kit.SHOWN)
    assert await eager.standing(decision) == ("ACTIVE", "")
    assert kit.reasons(await eager.ask(offer_ids=["tea"])) == {"tea": "FREQUENCY_CAP"}


async def test_the_second_decision_for_what_was_just_accepted_is_withdrawn(
    eager: Shop, clock: kit.Clock
) -> None:
    # Given two decisions for one offer
    await edited(eager, "caps = [{ limit = 1 }]\n\n[offers.tea]", "\n[offers.tea]")
    first, second = [await eager.ask(offer_ids=["pro"]) for _ in range(2)]

    # When one of them is accepted
    (accepted,) = await eager.report(first, kit.ACCEPTED)
    assert kit.state_of(accepted) == "ACTIVE"

    # Then the other one is withdrawn, and told so when it is shown or accepted
    clock.advance(kit.SECOND_MS)
    assert await eager.standing(second) == ("WITHDRAWN", "PENDING_PURCHASE")
    (shown,) = await eager.report(second, kit.SHOWN)
    assert kit.state_of(shown) == "WITHDRAWN"
    (again,) = await eager.report(second, kit.ACCEPTED)
    assert kit.state_of(again) == "WITHDRAWN"

    # And when both accepts are sent again, then each is answered as it was
    for decision, state in ((first, "ACTIVE"), (second, "WITHDRAWN")):
        (retry,) = await eager.report(decision, kit.ACCEPTED)
        assert retry.duplicate
        assert kit.state_of(retry) == state


async def test_of_two_users_who_accept_for_their_account_the_first_one_gets_it(
    eager: Shop, clock: kit.Clock
) -> None:
    # Given two users of an account who see the same offer
    ada = await eager.ask("ada", account_id="acme", offer_ids=["pro"])
    bob = await eager.ask("bob", account_id="acme", offer_ids=["pro"])

    # When both accept it, one after the other, and both retry
    for _ in range(2):
        (mine,) = await eager.report(ada, kit.ACCEPTED)
        clock.advance(kit.SECOND_MS)
        (theirs,) = await eager.report(bob, kit.ACCEPTED)

        # Then the first one gets it, and the other one is told so
        assert kit.state_of(mine) == "ACTIVE"
        assert kit.state_of(theirs) == "WITHDRAWN"


async def test_of_many_accepts_at_once_one_gets_it(eager: Shop, other: Shop) -> None:
    # Given decisions for one offer, of many users of an account
    decisions = [
        await eager.ask(f"user-{number}", account_id="acme", offer_ids=["pro"])
        for number in range(20)
    ]

    # When all of them accept at once, at two servers
    results = await asyncio.gather(
        *(
            shop.report(decision, kit.ACCEPTED)
            for decision, shop in zip(decisions, [eager, other] * 10, strict=True)
        )
    )

    # Then one of them gets it, and the others are told that they came too late
    states = Counter(kit.state_of(result) for (result,) in results)
    assert states == {"ACTIVE": 1, "WITHDRAWN": 19}


async def test_that_it_cannot_be_had_goes_before_that_it_is_not_to_be_shown_now(
    eager: Shop,
) -> None:
    # Given an offer that was decided, and a user who is in a workflow
    decision = await eager.ask(offer_ids=["pro"])
    workflow, _ = NOT_NOW["a workflow"]
    await workflow(eager, eager.clock, decision)
    assert await eager.standing(decision) == ("ACTIVE", "CRITICAL_WORKFLOW")

    # When they buy it elsewhere
    bought, _, _ = GONE["it is bought"]
    await bought(eager, eager.clock, decision)

    # Then the client learns that it cannot be had, not only that it has to wait
    assert await eager.standing(decision) == ("WITHDRAWN", "ALREADY_OWNED")


async def test_a_retry_of_an_accept_is_answered_like_the_accept(eager: Shop) -> None:
    # Given an accept
    decision = await eager.ask(offer_ids=["pro"])
    (first,) = await eager.report(decision, kit.ACCEPTED)

    # When it is sent again, and what else happened arrives late
    (again,) = await eager.report(decision, kit.ACCEPTED)
    (late,) = await eager.report(decision, kit.SHOWN)

    # Then the offer stands: what is pending is pending because of this very accept
    assert (first.duplicate, again.duplicate) == (False, True)
    assert {kit.state_of(result) for result in (first, again, late)} == {"ACTIVE"}


async def test_what_comes_back_stands_again(eager: Shop, clock: kit.Clock) -> None:
    # Given an offer that was stopped
    decision = await eager.ask(offer_ids=["pro"])
    await kit.stop(eager, "offer:pro")
    assert await eager.standing(decision) == ("WITHDRAWN", "STOPPED")

    # When it is let go on, then it stands, for the rest of its time
    await kit.stop(eager, "offer:pro", resume=True)
    assert await eager.standing(decision) == ("ACTIVE", "")
    clock.now_ms = kit.ms(decision.valid_until)
    assert await eager.standing(decision) == ("EXPIRED", "EXPIRED")


async def test_to_ask_changes_nothing(eager: Shop, clock: kit.Clock) -> None:
    # Given a decision
    decision = await eager.ask(offer_ids=["pro"])
    before = eager.counts()

    # When it is asked about again and again
    for _ in range(10):
        await eager.check(decision)
        clock.advance(kit.MINUTE_MS)

    # Then nothing is written, and it is valid for no longer
    assert eager.counts() == before
    clock.now_ms = kit.ms(decision.valid_until)
    assert await eager.standing(decision) == ("EXPIRED", "EXPIRED")


async def test_silence_has_no_offer_that_could_stand(eager: Shop) -> None:
    # Given a decision for silence
    await kit.stop(eager, "all")
    silence = await eager.ask()
    assert silence.offer_id == ""

    # When it is asked about, then there is nothing to say
    assert await eager.check(silence) == CheckDecisionResponse()


@pytest.mark.parametrize("name", ["", "never", "0" * 32, "x" * 500])
async def test_a_decision_that_was_never_made_is_not_found(
    eager: Shop, name: str
) -> None:
    # Given a name that is no decision's
    # When it is asked about
    refusal = await kit.refused(
        eager.stub.CheckDecision(CheckDecisionRequest(decision_id=name))
    )

    # Then it is not found, and no name at all is not even looked for
    if name:
        assert refusal.code == grpc.StatusCode.NOT_FOUND
    else:
        assert refusal.code == grpc.StatusCode.INVALID_ARGUMENT
        assert refusal.fields.keys() == {"decision_id"}
