"""What a product tells of its users binds the next decision, of every server, once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from opportune.v1 import (
    BeginCriticalRequest,
    Cancellation,
    Complaint,
    Contact,
    EndCriticalRequest,
    Engagement,
    LifeStateUpdate,
    Preferences,
    Purchase,
    QuietHours,
    Rating,
    RecordEventRequest,
    SetPreferencesRequest,
    SetUserStateRequest,
    TicketClosing,
    TicketOpening,
    Uninstall,
    User,
    UserState,
)
from tests.server import kit
from tests.server.kit import Shop

CATALOGUE = """
currency = "EUR"
valid_for = "10m"

[quiet_hours]
start = "22:00"
end = "08:00"

[categories.storage]
[categories.devices]

[products.pro]
price = 900
[products.disk]
[products.basic]

[placements.home]
[placements.dialog]
kind = "modal"

[offers.pro]
placements = ["home", "dialog"]
categories = ["storage"]
grants = ["pro"]
price = 900
eligible = "role != 'guest'"

[offers.disk]
placements = ["home"]
categories = ["devices"]
grants = ["disk"]
caps = [{ limit = 2, window = "1d" }, { limit = 9, window = "1d", per = "account" }]

[offers.urgent]
placements = ["home"]
categories = ["storage"]
override = "critical"
caps = [{ limit = 1 }]
"""


@pytest.fixture
def catalogue_text() -> str:
    return CATALOGUE


def state(**fields: Any) -> SetUserStateRequest:
    return SetUserStateRequest(**({"user_id": "ada"} | fields))


def prefer(**fields: Any) -> SetPreferencesRequest:
    return SetPreferencesRequest(**({"user_id": "ada"} | fields))


def begin(**fields: Any) -> BeginCriticalRequest:
    ttl = Duration(seconds=60)
    given: dict[str, Any] = {"user_id": "ada", "key": "export", "ttl": ttl}
    return BeginCriticalRequest(**(given | fields))


def end(**fields: Any) -> EndCriticalRequest:
    return EndCriticalRequest(**({"user_id": "ada", "key": "export"} | fields))


def happened(**fields: Any) -> RecordEventRequest:
    return RecordEventRequest(**({"user_id": "ada"} | fields))


def life(name: str, **fields: Any) -> Mapping[str, LifeStateUpdate]:
    return {name: LifeStateUpdate(**fields)}


NOBODY = QuietHours(start="11:00", end="13:00")
SOON = kit.timestamp(kit.NOON_MS + kit.HOUR_MS)

TOLD: dict[str, tuple[Any, str, Any]] = {
    # What is told, why "pro" cannot be shown then, and what takes it back.
    "owned": (
        state(add_product_ids=["pro"]),
        "ALREADY_OWNED",
        state(remove_product_ids=["pro"]),
    ),
    "pending": (
        state(pending_product_ids=["pro"], pending_until=SOON),
        "PENDING_PURCHASE",
        state(remove_product_ids=["pro"]),
    ),
    "role": (state(role="guest"), "NOT_ELIGIBLE", state(role="admin")),
    "incident": (
        state(life_states=life("incident", active=True)),
        "INCIDENT",
        None,
    ),
    "onboarding": (
        state(life_states=life("onboarding", active=True)),
        "ONBOARDING",
        state(life_states=life("onboarding")),
    ),
    "no storage": (
        prefer(opt_out_category_ids=["storage"]),
        "OPTED_OUT",
        prefer(opt_in_category_ids=["storage"]),
    ),
    "no pro": (
        prefer(opt_out_offer_ids=["pro"]),
        "OPTED_OUT",
        prefer(opt_in_offer_ids=["pro"]),
    ),
    "nothing": (prefer(opt_out_all=True), "OPTED_OUT", prefer(opt_out_all=False)),
    "quiet at noon": (
        prefer(quiet_hours=NOBODY),
        "QUIET_HOURS",
        prefer(clear_quiet_hours=True),
    ),
    "far away": (
        prefer(time_zone="Pacific/Auckland"),
        "QUIET_HOURS",
        prefer(time_zone=""),
    ),
    "workflow": (begin(), "CRITICAL_WORKFLOW", end()),
    "bought": (
        happened(purchased=Purchase(product_ids=["basic", "pro"])),
        "ALREADY_OWNED",
        happened(cancelled=Cancellation(product_ids=["pro"])),
    ),
    "called": (
        happened(contacted=Contact(category_ids=["storage"], channel="phone")),
        "CROSS_CHANNEL_COOLDOWN",
        None,
    ),
    "called about anything": (
        happened(contacted=Contact()),
        "CROSS_CHANNEL_COOLDOWN",
        None,
    ),
    "bad rating": (happened(rated=Rating(score=0.2)), "NEGATIVE_SENTIMENT", None),
    "complaint": (happened(complained=Complaint()), "NEGATIVE_SENTIMENT", None),
    "uninstalled": (happened(uninstalled=Uninstall()), "NEGATIVE_SENTIMENT", None),
    "ticket": (
        happened(ticket_opened=TicketOpening(category_ids=["storage"])),
        "SUPPORT_OPEN",
        happened(ticket_closed=TicketClosing()),
    ),
}


@pytest.mark.parametrize("name", list(TOLD))
async def test_what_is_told_binds_the_next_decision_of_every_server(
    eager: Shop, other: Shop, name: str
) -> None:
    # Given two servers that would show an offer
    told, reason, taken_back = TOLD[name]
    for shop in (eager, other):
        assert "pro" in kit.candidates(await shop.ask())

    # When one of them is told something
    await eager.told(told)

    # Then neither shows it to this user from then on, for that reason, but to others
    for shop in (eager, other):
        assert kit.reasons(await shop.ask(offer_ids=["pro"])) == {"pro": reason}
        assert "pro" in kit.candidates(await shop.ask("bob"))

    # And when the other one is told that it is over, then both do again
    if taken_back is not None:
        await other.told(taken_back)
        for shop in (eager, other):
            assert "pro" in kit.candidates(await shop.ask())


@pytest.mark.parametrize("name", list(TOLD))
async def test_what_is_told_of_an_account_binds_all_of_its_users_and_nobody_else(
    eager: Shop, other: Shop, name: str
) -> None:
    # Given a user who has been here before, and one who has not
    told, reason, taken_back = TOLD[name]
    await eager.ask("ada", account_id="acme")
    told, taken_back = (of_account(each) for each in (told, taken_back))

    # When it is told of their account
    await eager.told(told)

    # Then it binds both of them, on every server, and nobody without the account
    for user in ("ada", "bob"):
        asked = await other.ask(user, account_id="acme", offer_ids=["pro"])
        assert kit.reasons(asked) == {"pro": reason}
        assert "pro" in kit.candidates(await other.ask(user))
        elsewhere = await other.ask(user, account_id="emca")
        assert "pro" in kit.candidates(elsewhere)
    if taken_back is not None:
        await other.told(taken_back)
        for user in ("ada", "bob"):
            asked = await eager.ask(user, account_id="acme")
            assert "pro" in kit.candidates(asked)


def of_account(request: Any) -> Any:
    if request is None:
        return None
    copy = type(request)()
    copy.CopyFrom(request)
    copy.user_id, copy.account_id = "", "acme"
    return copy


async def test_what_is_told_of_a_user_of_an_account_binds_this_user_there(
    eager: Shop,
) -> None:
    # Given a user who is in an account, and is called the same outside of it
    # When something is told of the user in the account
    await eager.told(prefer(account_id="acme", opt_out_all=True))

    # Then it binds the user there, not elsewhere, and nobody else in the account
    there = await eager.ask("ada", account_id="acme")
    assert set(kit.reasons(there).values()) == {"OPTED_OUT"}
    assert kit.candidates(await eager.ask("ada"))
    assert kit.candidates(await eager.ask("bob", account_id="acme"))


async def test_no_decision_that_is_asked_for_after_an_opt_out_goes_against_it(
    eager: Shop, other: Shop
) -> None:
    # Given two servers that are asked for one user without pause
    async def storm(shop: Shop, count: int) -> list[str]:
        asked = [shop.ask(offer_ids=["pro", "disk"]) for _ in range(count)]
        return [decision.offer_id for decision in await asyncio.gather(*asked)]

    before = [asyncio.ensure_future(storm(shop, 100)) for shop in (eager, other)]
    await asyncio.sleep(0)

    # When the user opts out at one of them, and asking goes on
    await other.told(prefer(opt_out_category_ids=["storage"]))
    after = await asyncio.gather(*(storm(shop, 100) for shop in (eager, other)))

    # Then nothing that was asked for after the answer shows what is opted out of, and
    # in the log no decision knows less of the user's consent than one before it
    assert "pro" not in {offer for offers in after for offer in offers}
    await asyncio.gather(*before)
    logged = kit.rows(
        eager.path,
        "select coalesce(record ->> '$.history.preferences.version', 0),"
        " record ->> '$.chosen' from decisions_v1 order by position",
    )
    versions = [version for version, _ in logged]
    assert sorted(versions) == versions
    assert len(logged) == 400
    pro = {a.index for a in catalogue_actions(eager, "pro")}
    assert not any(version and chosen in pro for version, chosen in logged)


def catalogue_actions(shop: Shop, offer_id: str) -> list[Any]:
    actions = shop.services.current.catalogue.actions
    return [action for action in actions if action.offer_id == offer_id]


@pytest.mark.parametrize(
    "wish",
    [
        prefer(opt_out_category_ids=["storage"]),
        prefer(opt_out_offer_ids=["urgent"]),
        prefer(opt_out_all=True),
        prefer(user_id="", account_id="acme", opt_out_all=True),
        prefer(user_id="", account_id="acme", opt_out_category_ids=["storage"]),
    ],
)
async def test_an_opt_out_beats_every_override(
    eager: Shop, wish: SetPreferencesRequest
) -> None:
    # Given a critical offer, which goes past its own cap
    account_id = wish.account_id
    for _ in range(2):
        asked = await eager.ask(account_id=account_id, offer_ids=["urgent"])
        assert asked.offer_id == "urgent"
        await eager.report(asked, kit.SHOWN)

    # When the user, or the account, does not want to see it
    await eager.told(wish)

    # Then it is not shown, and one that was decided may not be shown any more
    refused = await eager.ask(account_id=account_id, offer_ids=["urgent"])
    assert refused.offer_id == ""
    assert kit.reason_of(refused) == "OPTED_OUT"
    assert await eager.standing(asked) == ("ACTIVE", "OPTED_OUT")


async def test_an_offer_that_is_opted_out_of_where_it_was_shown_stays_away(
    eager: Shop, other: Shop
) -> None:
    # Given an offer on the screen
    decision = await eager.ask(offer_ids=["urgent"])

    # When the user answers that they never want to see the like again
    await eager.report(decision, kit.SHOWN, kit.OPTED_OUT)

    # Then neither it nor its category comes back, and the consent has a new version
    refused = await other.ask(offer_ids=["urgent", "pro"])
    assert kit.reasons(refused) == {"urgent": "OPTED_OUT", "pro": "OPTED_OUT"}
    user = await other.user()
    assert user.preferences.opt_outs.keys() == {"offer:urgent", "category:storage"}
    assert user.preferences.consent_version == 1


async def test_value_that_was_discovered_lets_in_what_costs(eager: Shop) -> None:
    # Given a catalogue that asks nothing of users who have not found the value
    await kit.change_catalogue(
        eager, 'value_discovered = "usage.files.value > 3.0"\n' + CATALOGUE
    )
    assert kit.reasons(await eager.ask(offer_ids=["pro"])) == {
        "pro": "VALUE_NOT_DISCOVERED"
    }

    # When the product says that this one has
    await eager.told(state(value_discovered=True))

    # Then what costs something is a candidate, until the product says otherwise
    assert "pro" in kit.candidates(await eager.ask())
    await eager.told(state(value_discovered=False))
    assert "pro" not in kit.candidates(await eager.ask())


async def test_caps_follow_the_engagement_that_is_told(eager: Shop) -> None:
    # Given an offer of twice a day
    async def shown(user_id: str) -> int:
        for number in range(5):
            decision = await eager.ask(user_id, offer_ids=["disk"])
            if not decision.offer_id:
                return number
            await eager.report(decision, kit.SHOWN)
        return 5

    # When users of all kinds come
    for engagement, times in (("LOW", 1), ("NORMAL", 2), ("HIGH", 3)):
        user_id = f"user-{times}"
        told = Engagement.Value(f"ENGAGEMENT_{engagement}")
        await eager.told(state(user_id=user_id, engagement=told))

        # Then those who use the product little see it once, and those who do a lot
        # three times
        assert await shown(user_id) == times


async def test_the_role_of_a_request_goes_before_the_one_that_was_told(
    eager: Shop,
) -> None:
    # Given a user who is known as a guest
    await eager.told(state(role="guest"))

    # When a request says that they are an admin, then it is believed
    asked = await eager.ask(context={"role": "admin"})  # type: ignore[arg-type]
    assert "pro" in kit.candidates(asked)


async def test_everything_that_is_told_is_in_the_ledger(
    eager: Shop, clock: kit.Clock
) -> None:
    # Given a user, and their account
    told = [
        state(event_id="1", source="billing", add_product_ids=["disk"]),
        prefer(event_id="2", source="one_click", opt_out_category_ids=["devices"]),
        begin(event_id="3", source="checkout", user_id="", account_id="acme"),
        end(event_id="4", source="checkout", user_id="", account_id="acme"),
        happened(event_id="5", source="crm", complained=Complaint()),
        prefer(event_id="6", source="self_service", opt_in_category_ids=["devices"]),
    ]

    # When things are told of them, a second apart
    for request in told:
        await eager.told(request)
        clock.advance(kit.SECOND_MS)

    # Then the ledger says in their order what was told, when, by whom and of whom
    ledger = kit.rows(
        eager.path,
        "select event_id, kind, at_ms, source, user_id, root, record"
        " from ledger_v1 order by position",
    )
    assert [row[:5] for row in ledger] == [
        ("1", "set_state", kit.NOON_MS, "billing", "ada"),
        ("2", "set_preferences", kit.NOON_MS + 1_000, "one_click", "ada"),
        ("3", "begin_critical", kit.NOON_MS + 2_000, "checkout", ""),
        ("4", "end_critical", kit.NOON_MS + 3_000, "checkout", ""),
        ("5", "record_event", kit.NOON_MS + 4_000, "crm", "ada"),
        ("6", "set_preferences", kit.NOON_MS + 5_000, "self_service", "ada"),
    ]
    roots = [row[5] for row in ledger]
    assert roots[0] == roots[1] == roots[4] == roots[5]
    assert roots[2] == roots[3] != roots[0]
    assert json.loads(ledger[0][6])["added"] == ["disk"]
    assert json.loads(ledger[1][6])["opt_out"] == ["category:devices"]
    assert json.loads(ledger[5][6])["opt_in"] == ["category:devices"]


async def test_a_decision_remembers_the_consent_that_it_relied_on(
    eager: Shop, other: Shop
) -> None:
    # Given decisions of a user before and after the user changes their mind, twice,
    # and the account once
    first = await eager.ask(account_id="acme")
    answers = [
        await other.told(prefer(account_id="acme", opt_out_offer_ids=["pro"])),
        await eager.told(prefer(account_id="acme", opt_in_offer_ids=["pro"])),
    ]
    second = await eager.ask(account_id="acme")
    await eager.told(prefer(user_id="", account_id="acme", time_zone="Asia/Tokyo"))
    third = await other.ask(account_id="acme")

    # When each is explained, then it names the versions that held then
    assert [answer.consent_version for answer in answers] == [1, 2]
    for decision, versions in ((first, (0, 0)), (second, (2, 0)), (third, (2, 1))):
        explained = await eager.explain(decision)
        found = explained.consent_version, explained.account_consent_version
        assert found == versions


ONCE: dict[str, tuple[Any, Any]] = {
    # What is told, and something else that comes under the same name.
    "state": (state(add_product_ids=["disk"]), state(remove_product_ids=["disk"])),
    "preferences": (prefer(opt_out_all=True), prefer(opt_out_all=False)),
    "begin": (begin(), begin(ttl=Duration(seconds=3_600))),
    "event": (
        happened(purchased=Purchase(product_ids=["disk"])),
        happened(cancelled=Cancellation(product_ids=["disk"])),
    ),
}


@pytest.mark.parametrize("name", list(ONCE))
async def test_what_is_told_twice_under_one_name_counts_once(
    eager: Shop, other: Shop, clock: kit.Clock, name: str
) -> None:
    # Given something that was told
    first, second = (with_name(each) for each in ONCE[name])
    told = await eager.told(first)
    before = await eager.user()

    # When it is told again, at another server, and something else under its name
    clock.advance(kit.SECOND_MS)
    again = [await other.told(first), await eager.told(second)]

    # Then both are duplicates, and change nothing
    assert not told.duplicate
    assert all(answer.duplicate for answer in again)
    assert await other.user() == before
    assert eager.count("ledger_v1") == 1
    if name == "begin":
        assert again[0].expire_time == told.expire_time
    if name == "preferences":
        assert {answer.consent_version for answer in (told, *again)} == {1}


def with_name(request: Any, event_id: str = "once") -> Any:
    copy = type(request)()
    copy.CopyFrom(request)
    copy.event_id = event_id
    return copy


async def test_a_name_is_one_users_and_without_one_everything_is_new(
    eager: Shop,
) -> None:
    # Given two users of whom something is told under one name
    for user_id in ("ada", "bob"):
        answer = await eager.told(
            prefer(user_id=user_id, event_id="1", opt_out_all=True)
        )

        # Then it counts for both of them
        assert not answer.duplicate

    # And when something is told twice without a name, then both count
    answers = [await eager.told(prefer(opt_out_all=True)) for _ in range(2)]
    assert [answer.duplicate for answer in answers] == [False, False]
    assert [answer.consent_version for answer in answers] == [2, 3]


async def test_one_event_sent_by_many_at_once_counts_once(
    eager: Shop, other: Shop
) -> None:
    # Given an event
    event = prefer(event_id="once", opt_out_all=True)

    # When two servers are told of it by many at once
    answers = await asyncio.gather(
        *(shop.told(event) for shop in (eager, other) for _ in range(50))
    )

    # Then one of them was the first
    assert sum(not answer.duplicate for answer in answers) == 1
    assert {answer.consent_version for answer in answers} == {1}
    assert eager.count("ledger_v1") == 1


async def test_a_user_is_shown_with_all_that_is_remembered(
    eager: Shop, other: Shop, clock: kit.Clock
) -> None:
    # Given a user of whom much is known
    later_ms = kit.NOON_MS + kit.MINUTE_MS
    await eager.told(
        state(
            role="admin",
            engagement=Engagement.ENGAGEMENT_HIGH,
            value_discovered=True,
            add_product_ids=["basic"],
            pending_product_ids=["disk"],
            pending_until=SOON,
            life_states=life(
                "moving", active=True, end_time=SOON, topic_category_ids=["devices"]
            ),
        )
    )
    await eager.told(
        prefer(
            opt_out_category_ids=["devices"],
            time_zone="Europe/Berlin",
            quiet_hours=QuietHours(start="23:30", end="06:00"),
        )
    )
    clock.now_ms = later_ms
    seen = await eager.ask(offer_ids=["pro"])
    await eager.report(seen, kit.SHOWN, kit.CLICKED)
    await eager.tell(
        seen, kit.outcome(kit.SNOOZED, snooze_until=SOON, outcome_id="later")
    )
    await eager.report(await eager.ask(offer_ids=["urgent"]), kit.DISMISSED)
    open_one = await eager.ask(offer_ids=["urgent"])
    assert open_one.offer_id == ""
    await eager.told(happened(contacted=Contact(category_ids=["storage"])))
    await eager.told(happened(complained=Complaint()))
    await eager.told(begin(allow_inline=True, ttl=Duration(seconds=90)))

    # When another server is asked for them
    user = await other.user()

    # Then it answers all of it
    now = kit.timestamp(later_ms)
    noon = kit.timestamp(kit.NOON_MS)
    expected = User(user_id="ada", ignored_count=1)
    expected.state.role = "admin"
    expected.state.engagement = Engagement.ENGAGEMENT_HIGH
    expected.state.value_discovered = True
    expected.state.owned_products["basic"].CopyFrom(noon)
    expected.state.pending_products["disk"].CopyFrom(SOON)
    moving = expected.state.life_states["moving"]
    moving.active = True
    moving.begin_time.CopyFrom(noon)
    moving.end_time.CopyFrom(SOON)
    moving.topic_category_ids.append("devices")
    expected.preferences.opt_outs["category:devices"].CopyFrom(noon)
    expected.preferences.time_zone = "Europe/Berlin"
    expected.preferences.quiet_hours.CopyFrom(QuietHours(start="23:30", end="06:00"))
    expected.preferences.consent_version = 1
    expected.leases.add(
        key="export",
        allow_inline=True,
        expire_time=kit.timestamp(later_ms + 90_000),
    )
    expected.counts.add(
        offer_id="pro",
        creative_id="default",
        placement_id="home",
        category_ids=["storage"],
        shown_count=1,
        clicked_count=1,
        last_shown_time=now,
    )
    expected.counts.add(
        offer_id="urgent",
        creative_id="default",
        placement_id="home",
        category_ids=["storage"],
        shown_count=1,
        dismissed_count=1,
        last_shown_time=now,
        last_dismissed_time=now,
    )
    expected.snoozes.add(offer_id="pro", end_time=SOON, snooze_count=1)
    expected.contacts["storage"].CopyFrom(now)
    expected.negative_time.CopyFrom(now)
    assert user == expected


async def test_what_was_decided_is_a_reservation_of_the_user_and_of_the_account(
    eager: Shop, clock: kit.Clock
) -> None:
    # Given a decision of a user of an account
    decision = await eager.ask(account_id="acme", offer_ids=["pro"])

    # When the user and the account are asked for
    user, account = await eager.user("ada", "acme"), await eager.user("", "acme")

    # Then both hold it, until nothing can be heard of it any more
    until_ms = kit.ms(decision.valid_until) + kit.MINUTE_MS
    for found in (user, account):
        (held,) = found.reservations
        assert held.decision_id == decision.decision_id
        assert (held.offer_id, held.placement_id) == ("pro", "home")
        assert kit.ms(held.expire_time) == until_ms
    clock.now_ms = until_ms
    for whose in (("ada", "acme"), ("", "acme")):
        assert not (await eager.user(*whose)).reservations


async def test_of_a_user_never_heard_of_nothing_is_remembered(eager: Shop) -> None:
    # Given nobody
    # When somebody is asked for, or an account
    # Then there is nothing but the name, and nothing is written
    assert await eager.user("eve") == User(
        user_id="eve", state=UserState(), preferences=Preferences()
    )
    assert (await eager.user("", "acme")).account_id == "acme"
    assert eager.count("history") == 0


WRONG: dict[str, tuple[Any, set[str]]] = {
    "nobody": (prefer(user_id="", opt_out_all=True), {"user_id"}),
    "what is not in the catalogue": (
        prefer(
            opt_out_category_ids=["storage", "none"],
            opt_out_offer_ids=["gold"],
            time_zone="Mars/Olympus",
        ),
        {"opt_out_category_ids[1]", "opt_out_offer_ids[0]", "time_zone"},
    ),
    "a product that is none": (
        state(add_product_ids=["gold"], pending_product_ids=["pro"]),
        {"add_product_ids[0]", "pending_until"},
    ),
    "a lease for ever": (begin(key="", ttl=Duration(seconds=90_000)), {"key", "ttl"}),
    "no event": (happened(), {"event"}),
    "a rating that is none": (happened(rated=Rating(score=7.0)), {"rated.score"}),
}


@pytest.mark.parametrize("name", list(WRONG))
async def test_what_is_wrong_is_named_and_changes_nothing(
    eager: Shop, name: str
) -> None:
    # Given something that is wrong
    request, fields = WRONG[name]

    # When it is told
    refusal = await kit.refused(eager.told(request))

    # Then every wrong field is named, and nothing is remembered
    assert refusal.code == grpc.StatusCode.INVALID_ARGUMENT
    assert refusal.fields.keys() == fields
    assert eager.count("ledger_v1") == 0
    assert eager.count("history") == 0
