"""What a product tells of its users: what is read, refused, remembered and written."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import MessageToDict
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from opportune.v1 import (
    BeginCriticalRequest,
    BeginCriticalResponse,
    Cancellation,
    Complaint,
    Contact,
    EndCriticalRequest,
    EndCriticalResponse,
    GetUserRequest,
    LifeStateUpdate,
    Purchase,
    QuietHours,
    Rating,
    RecordEventRequest,
    RecordEventResponse,
    SetPreferencesRequest,
    SetPreferencesResponse,
    SetUserStateRequest,
    SetUserStateResponse,
    TicketClosing,
    TicketOpening,
    Uninstall,
)
from policies import model
from policies.commands import (
    Command,
    LeaseBegin,
    LeaseEnd,
    LifeChange,
    Notice,
    PreferencesChange,
    StateChange,
    UserEvent,
)
from policies.errors import InvalidRequestError
from policies.model import (
    NO_HISTORY,
    History,
    Preferences,
    State,
    Subject,
    Tally,
    Track,
)
from policies.specs import CatalogueSpec, CategorySpec, OfferSpec, ProductSpec
from server import codec
from tests.server.kit import DAY_MS, NOON_MS, ms, timestamp

SPEC = CatalogueSpec(
    categories={"storage": CategorySpec(), "coffee": CategorySpec()},
    products={"disk": ProductSpec(), "cloud": ProductSpec()},
    offers={"more_storage": OfferSpec(), "tea": OfferSpec()},
)


def wrong_fields(error: InvalidRequestError) -> set[str]:
    fields = [problem.field for problem in error.problems]
    assert len(fields) == len(set(fields))
    assert all(problem.description for problem in error.problems)
    return set(fields)


Request = (
    SetUserStateRequest
    | SetPreferencesRequest
    | BeginCriticalRequest
    | EndCriticalRequest
    | RecordEventRequest
)


def state(**fields: Any) -> SetUserStateRequest:
    return SetUserStateRequest(**({"user_id": "ada"} | fields))


def preferences(**fields: Any) -> SetPreferencesRequest:
    return SetPreferencesRequest(**({"user_id": "ada"} | fields))


def begin(**fields: Any) -> BeginCriticalRequest:
    given: dict[str, Any] = {
        "user_id": "ada",
        "key": "checkout",
        "ttl": Duration(seconds=60),
    }
    return BeginCriticalRequest(**(given | fields))


def event(**fields: Any) -> RecordEventRequest:
    return RecordEventRequest(**({"user_id": "ada"} | fields))


def notice(request: Request) -> Notice:
    return codec.notice_from_proto(
        request, event_id=request.event_id or "made up", at_ms=NOON_MS, spec=SPEC
    )


LATER = timestamp(NOON_MS + DAY_MS)

COMMANDS: dict[str, tuple[Request, Command]] = {
    "nothing": (state(), StateChange(NOON_MS)),
    "a state": (
        state(
            role="admin",
            engagement="ENGAGEMENT_HIGH",
            value_discovered=True,
            add_product_ids=["disk", "disk"],
            pending_product_ids=["cloud"],
            pending_until=LATER,
            life_states={
                "support_open": LifeStateUpdate(
                    active=True, end_time=LATER, topic_category_ids=["storage"]
                ),
                "incident": LifeStateUpdate(negative=True),
            },
        ),
        StateChange(
            NOON_MS,
            role="admin",
            engagement="high",
            value_discovered=True,
            added=("disk",),
            pending=("cloud",),
            pending_until_ms=NOON_MS + DAY_MS,
            life={
                "support_open": LifeChange(
                    active=True, until_ms=NOON_MS + DAY_MS, topics=("storage",)
                ),
                "incident": LifeChange(active=False, negative=True),
            },
        ),
    ),
    "a state that is taken back": (
        state(
            role="",
            engagement="ENGAGEMENT_UNSPECIFIED",
            value_discovered=False,
            remove_product_ids=["disk"],
        ),
        StateChange(
            NOON_MS, role="", engagement="", value_discovered=False, removed=("disk",)
        ),
    ),
    "preferences": (
        preferences(
            opt_out_category_ids=["coffee"],
            opt_in_category_ids=["storage"],
            opt_out_offer_ids=["tea"],
            opt_in_offer_ids=["more_storage"],
            opt_out_all=False,
            time_zone="Europe/Berlin",
            quiet_hours=QuietHours(start="22:00", end="07:30"),
        ),
        PreferencesChange(
            NOON_MS,
            opt_out=("category:coffee", "offer:tea"),
            opt_in=("category:storage", "offer:more_storage", "all"),
            zone="Europe/Berlin",
            quiet=model.QuietHours(22 * 60, 7 * 60 + 30),
        ),
    ),
    "an opt-out of everything": (
        preferences(opt_out_all=True, time_zone="", clear_quiet_hours=True),
        PreferencesChange(NOON_MS, opt_out=("all",), zone="", quiet_cleared=True),
    ),
    "a workflow": (
        begin(allow_inline=True),
        LeaseBegin(NOON_MS, "checkout", NOON_MS + 60_000, inline=True),
    ),
    "the end of a workflow": (
        EndCriticalRequest(user_id="ada", key="checkout"),
        LeaseEnd(NOON_MS, "checkout"),
    ),
    "a purchase, late": (
        event(
            purchased=Purchase(product_ids=["disk"]),
            occur_time=timestamp(NOON_MS - DAY_MS),
        ),
        UserEvent(NOON_MS - DAY_MS, "purchased", products=("disk",)),
    ),
    "a cancellation, by a fast clock": (
        event(
            cancelled=Cancellation(product_ids=["disk"]),
            occur_time=timestamp(NOON_MS + 300_000),
        ),
        UserEvent(NOON_MS, "cancelled", products=("disk",)),
    ),
    "a contact": (
        event(contacted=Contact(category_ids=["coffee"], channel="email")),
        UserEvent(NOON_MS, "contacted", categories=("coffee",), channel="email"),
    ),
    "the worst rating": (
        event(rated=Rating(score=0.0)),
        UserEvent(NOON_MS, "rated", score=0.0),
    ),
    "a complaint": (event(complained=Complaint()), UserEvent(NOON_MS, "complained")),
    "a ticket": (
        event(ticket_opened=TicketOpening(category_ids=["storage"])),
        UserEvent(NOON_MS, "ticket_opened", categories=("storage",)),
    ),
    "the bad end of a ticket": (
        event(ticket_closed=TicketClosing(negative=True)),
        UserEvent(NOON_MS, "ticket_closed", negative=True),
    ),
    "an uninstall": (event(uninstalled=Uninstall()), UserEvent(NOON_MS, "uninstalled")),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_what_a_product_tells_becomes_a_command_that_can_be_kept(name: str) -> None:
    request, command = COMMANDS[name]

    read = notice(request).command

    assert command == read
    kept = msgspec.json.encode(read)
    assert command == msgspec.json.decode(kept, type=Command)


def test_a_notice_says_of_whom_it_is_and_who_says_so() -> None:
    request = state(account_id="acme", event_id="e", source="billing")

    read = notice(request)

    assert (read.user_id, read.account_id) == ("ada", "acme")
    assert (read.event_id, read.source, read.told_ms) == ("e", "billing", NOON_MS)
    assert notice(state()).event_id == "made up"


WHO_IS_IT: dict[str, tuple[dict[str, str], set[str]]] = {
    "nobody": ({"user_id": ""}, {"user_id"}),
    "long names": (
        {
            "user_id": "x" * 129,
            "account_id": "x" * 129,
            "event_id": "x" * 129,
            "source": "x" * 129,
        },
        {"user_id", "account_id", "event_id", "source"},
    ),
    "control characters": (
        {"user_id": "a\nb", "account_id": "a\0b", "event_id": "\r", "source": "\x7f"},
        {"user_id", "account_id", "event_id", "source"},
    ),
}


@pytest.mark.parametrize("name", WHO_IS_IT)
def test_every_notice_must_say_of_whom_it_is(name: str) -> None:
    fields, wrong = WHO_IS_IT[name]
    for request in (
        state(**fields),
        preferences(**fields),
        begin(**fields),
        EndCriticalRequest(**({"user_id": "ada", "key": "checkout"} | fields)),
        event(complained=Complaint(), **fields),
    ):
        with pytest.raises(InvalidRequestError) as caught:
            notice(request)

        assert wrong == wrong_fields(caught.value)


def life(**fields: Any) -> dict[str, LifeStateUpdate]:
    return {"incident": LifeStateUpdate(**fields)}


PAST = timestamp(NOON_MS)
FAR = timestamp(NOON_MS + 366 * DAY_MS + 1)
HERE = "life_states['incident']"

WRONG_NOTICES: dict[str, tuple[Request, set[str]]] = {
    "a long role": (state(role="x" * 257), {"role"}),
    "no engagement": (state(engagement=9), {"engagement"}),
    "unknown products": (
        state(
            add_product_ids=["disk", "gold"],
            remove_product_ids=["silver"],
            pending_product_ids=["bronze"],
            pending_until=LATER,
        ),
        {"add_product_ids[1]", "remove_product_ids[0]", "pending_product_ids[0]"},
    ),
    "101 products": (
        state(
            add_product_ids=["disk"] * 101,
            remove_product_ids=["disk"] * 101,
            pending_product_ids=["disk"] * 101,
            pending_until=LATER,
        ),
        {"add_product_ids", "remove_product_ids", "pending_product_ids"},
    ),
    "nothing that is": (
        state(
            add_product_ids=["gold"],
            remove_product_ids=["gold"],
            life_states=life(end_time=PAST, negative=True),
            pending_until=PAST,
        ),
        {
            "add_product_ids[0]",
            "remove_product_ids[0]",
            "pending_until",
            "life_states['incident'].end_time",
        },
    ),
    "had and not had": (
        state(
            add_product_ids=["disk"],
            pending_product_ids=["cloud"],
            pending_until=LATER,
            remove_product_ids=["cloud", "disk"],
        ),
        {"remove_product_ids[0]", "remove_product_ids[1]"},
    ),
    "pending for how long": (state(pending_product_ids=["disk"]), {"pending_until"}),
    "pending until then": (state(pending_until=LATER), {"pending_until"}),
    "pending until now": (
        state(pending_product_ids=["disk"], pending_until=PAST),
        {"pending_until"},
    ),
    "pending for years": (
        state(pending_product_ids=["disk"], pending_until=FAR),
        {"pending_until"},
    ),
    "21 life-states": (
        state(life_states={f"s{n}": LifeStateUpdate() for n in range(21)}),
        {"life_states"},
    ),
    "a life-state without a name": (
        state(life_states={"Support open": LifeStateUpdate()}),
        {"life_states['Support open']"},
    ),
    "a life-state that is over already": (
        state(life_states=life(active=True, end_time=PAST)),
        {f"{HERE}.end_time"},
    ),
    "a life-state for years": (
        state(life_states=life(active=True, end_time=FAR)),
        {f"{HERE}.end_time"},
    ),
    "the end of what is over": (
        state(life_states=life(end_time=LATER)),
        {f"{HERE}.end_time"},
    ),
    "the bad end of what goes on": (
        state(life_states=life(active=True, negative=True)),
        {f"{HERE}.negative"},
    ),
    "an unknown topic": (
        state(life_states=life(active=True, topic_category_ids=["storage", "gold"])),
        {f"{HERE}.topic_category_ids[1]"},
    ),
    "unknown categories and offers": (
        preferences(
            opt_out_category_ids=["coffee", "gold"],
            opt_in_category_ids=["silver"],
            opt_out_offer_ids=["coffee"],
            opt_in_offer_ids=["", "x" * 2**20],
        ),
        {
            "opt_out_category_ids[1]",
            "opt_in_category_ids[0]",
            "opt_out_offer_ids[0]",
            "opt_in_offer_ids[0]",
            "opt_in_offer_ids[1]",
        },
    ),
    "in and out": (
        preferences(
            opt_out_category_ids=["coffee"],
            opt_in_category_ids=["storage", "coffee"],
            opt_out_offer_ids=["tea"],
            opt_in_offer_ids=["tea"],
        ),
        {"opt_in_category_ids[1]", "opt_in_offer_ids[0]"},
    ),
    "101 opt-outs": (
        preferences(
            opt_out_category_ids=["coffee"] * 101, opt_in_offer_ids=["tea"] * 101
        ),
        {"opt_out_category_ids", "opt_in_offer_ids"},
    ),
    "no time zone": (preferences(time_zone="Europe/Bielefeld"), {"time_zone"}),
    "a folder of time zones": (preferences(time_zone="Europe"), {"time_zone"}),
    "a file elsewhere": (preferences(time_zone="../../../etc/hosts"), {"time_zone"}),
    "1 MB of time zone": (preferences(time_zone="x" * 2**20), {"time_zone"}),
    "1 MB of folders": (preferences(time_zone="x/" * 2**19), {"time_zone"}),
    "a time zone with an end": (preferences(time_zone="UTC\0"), {"time_zone"}),
    "hours that are none": (
        preferences(quiet_hours=QuietHours(start="24:00", end="8:00")),
        {"quiet_hours.start", "quiet_hours.end"},
    ),
    "hours without an end": (
        preferences(quiet_hours=QuietHours(start="22:00")),
        {"quiet_hours.end"},
    ),
    "hours in other digits": (
        preferences(quiet_hours=QuietHours(start="٢٢:٠٠", end="08:00\n")),
        {"quiet_hours.start", "quiet_hours.end"},
    ),
    "hours and none": (
        preferences(
            quiet_hours=QuietHours(start="22:00", end="08:00"), clear_quiet_hours=True
        ),
        {"clear_quiet_hours"},
    ),
    "no workflow": (BeginCriticalRequest(user_id="ada"), {"key", "ttl"}),
    "a long key": (begin(key="x" * 65), {"key"}),
    "no time": (begin(ttl=Duration(nanos=999_000_000)), {"ttl"}),
    "less than no time": (begin(ttl=Duration(seconds=-60)), {"ttl"}),
    "more than a day": (begin(ttl=Duration(seconds=86_400, nanos=10**6)), {"ttl"}),
    "an age": (begin(ttl=Duration(seconds=2**62)), {"ttl"}),
    "the end of nothing": (EndCriticalRequest(user_id="ada"), {"key"}),
    "no event": (event(), {"event"}),
    "an event to come": (
        event(complained=Complaint(), occur_time=timestamp(NOON_MS + 300_001)),
        {"occur_time"},
    ),
    "an event before all": (
        event(complained=Complaint(), occur_time=Timestamp(seconds=-1)),
        {"occur_time"},
    ),
    "an event after all": (
        event(complained=Complaint(), occur_time=Timestamp(seconds=2**62)),
        {"occur_time"},
    ),
    "a purchase of nothing": (event(purchased=Purchase()), {"purchased.product_ids"}),
    "a purchase of gold": (
        event(purchased=Purchase(product_ids=["disk", "gold"])),
        {"purchased.product_ids[1]"},
    ),
    "a cancellation of gold": (
        event(cancelled=Cancellation(product_ids=["gold"])),
        {"cancelled.product_ids[0]"},
    ),
    "a contact about gold": (
        event(contacted=Contact(category_ids=["gold"], channel="x" * 129)),
        {"contacted.category_ids[0]", "contacted.channel"},
    ),
    "a ticket about gold": (
        event(ticket_opened=TicketOpening(category_ids=["gold"])),
        {"ticket_opened.category_ids[0]"},
    ),
    "no score": (event(rated=Rating()), {"rated.score"}),
    "a score that is none": (event(rated=Rating(score=math.nan)), {"rated.score"}),
    "a score of stars": (event(rated=Rating(score=5.0)), {"rated.score"}),
    "everything": (
        RecordEventRequest(
            event_id="\n",
            source="\n",
            occur_time=Timestamp(seconds=-1),
            purchased=Purchase(product_ids=["gold"]),
        ),
        {"user_id", "event_id", "source", "occur_time", "purchased.product_ids[0]"},
    ),
}


@pytest.mark.parametrize("name", WRONG_NOTICES)
def test_a_wrong_notice_is_refused_with_every_wrong_field(name: str) -> None:
    request, wrong = WRONG_NOTICES[name]

    with pytest.raises(InvalidRequestError) as caught:
        notice(request)

    assert wrong == wrong_fields(caught.value)


times = st.builds(
    Timestamp,
    seconds=st.integers(-(2**63), 2**63 - 1),
    nanos=st.integers(-(2**31), 2**31 - 1),
)
spans = st.builds(
    Duration,
    seconds=st.integers(-(2**63), 2**63 - 1),
    nanos=st.integers(-(2**31), 2**31 - 1),
)
words = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(
    request=st.one_of(
        st.builds(state, pending_product_ids=st.just(["disk"]), pending_until=times),
        st.builds(
            state,
            life_states=st.dictionaries(
                words,
                st.builds(
                    LifeStateUpdate,
                    active=st.booleans(),
                    end_time=times,
                    negative=st.booleans(),
                ),
            ),
        ),
        st.builds(preferences, time_zone=words),
        st.builds(
            preferences, quiet_hours=st.builds(QuietHours, start=words, end=words)
        ),
        st.builds(begin, key=words, ttl=spans),
        st.builds(event, occur_time=times, complained=st.just(Complaint())),
        st.builds(event, rated=st.builds(Rating, score=st.floats())),
    )
)
def test_whatever_is_told_is_refused_or_can_be_kept(request: Request) -> None:
    try:
        read = notice(request)
    except InvalidRequestError:
        return

    kept = msgspec.json.encode(read.command)
    assert read.command == msgspec.json.decode(kept, type=Command)


# --- What is remembered -----------------------------------------------------------

REMEMBERED = History(
    preferences=Preferences(version=7),
    leases={"checkout": model.Lease(NOON_MS + 60_000)},
)

ANSWERS: dict[str, tuple[Request, object]] = {
    "a state": (state(), SetUserStateResponse()),
    "preferences": (preferences(), SetPreferencesResponse(consent_version=7)),
    "a workflow": (
        begin(),
        BeginCriticalResponse(expire_time=timestamp(NOON_MS + 60_000)),
    ),
    "a workflow that is over": (begin(key="export"), BeginCriticalResponse()),
    "the end of a workflow": (
        EndCriticalRequest(user_id="ada", key="checkout"),
        EndCriticalResponse(),
    ),
    "an event": (event(complained=Complaint()), RecordEventResponse()),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_what_was_told_is_answered_in_kind(name: str) -> None:
    request, response = ANSWERS[name]
    told = notice(request)

    assert response == codec.notice_to_proto(told, REMEMBERED, fresh=True)
    assert codec.notice_to_proto(told, REMEMBERED, fresh=False).duplicate


def test_whoever_asks_what_is_remembered_says_of_whom() -> None:
    both = GetUserRequest(user_id="ada", account_id="acme")

    assert codec.whose_from_proto(both) == ("ada", "acme")
    assert codec.whose_from_proto(GetUserRequest(account_id="a")) == ("", "a")
    with pytest.raises(InvalidRequestError) as caught:
        codec.whose_from_proto(GetUserRequest())
    assert wrong_fields(caught.value) == {"user_id"}


def test_nothing_is_remembered_of_somebody_never_heard_of() -> None:
    written = codec.user_to_proto("ada", "", NO_HISTORY, NOON_MS)

    assert MessageToDict(written) == {"userId": "ada", "state": {}, "preferences": {}}


def test_all_that_is_remembered_is_written() -> None:
    # Given a user of whom everything is remembered that can be
    subject = Subject("more_storage", "plain", "home", ("storage",), 3.0)
    history = History(
        tracks=(
            Track(
                subject,
                {
                    "shown": Tally((NOON_MS - 2, NOON_MS - 1), past=3, past_ms=5),
                    "dismissed": Tally(past=1, past_ms=NOON_MS - 9),
                },
            ),
        ),
        reservations=(
            model.Reservation(NOON_MS + 1, "d", subject),
            model.Reservation(NOON_MS, "over", subject),
        ),
        snoozes={"tea": model.Snooze(NOON_MS + 5, 2, NOON_MS, returned=True)},
        ignored=4,
        leases={
            "checkout": model.Lease(NOON_MS + 1, inline=True),
            "over": model.Lease(NOON_MS),
        },
        contacts={"": NOON_MS - 3},
        negative_ms=NOON_MS - 4,
        state=State(
            role="admin",
            engagement="low",
            value_discovered=True,
            owned={"disk": NOON_MS - 6},
            pending={"cloud": NOON_MS + 6, "over": NOON_MS},
            life={
                "incident": model.LifeState(NOON_MS - 1, topics=("storage",)),
                "support_open": model.LifeState(
                    NOON_MS - 9, NOON_MS + 9, NOON_MS - 5, negative=True
                ),
            },
        ),
        preferences=Preferences(
            {"category:coffee": NOON_MS - 7},
            "Europe/Berlin",
            model.QuietHours(22 * 60, 7 * 60 + 5),
            version=8,
        ),
    )

    # When it is written
    user = codec.user_to_proto("ada", "acme", history, NOON_MS)

    # Then it is all there, but for what is over
    assert (user.user_id, user.account_id) == ("ada", "acme")
    (counts,) = user.counts
    assert list(counts.category_ids) == ["storage"]
    assert (counts.shown_count, counts.dismissed_count, counts.clicked_count) == (
        5,
        1,
        0,
    )
    assert ms(counts.last_shown_time) == NOON_MS - 1
    assert ms(counts.last_dismissed_time) == NOON_MS - 9
    assert [held.decision_id for held in user.reservations] == ["d"]
    assert user.reservations[0].offer_id == "more_storage"
    (snooze,) = user.snoozes
    assert (snooze.offer_id, snooze.snooze_count, snooze.returned) == ("tea", 2, True)
    assert user.ignored_count == 4
    (lease,) = user.leases
    assert (lease.key, lease.allow_inline) == ("checkout", True)
    assert ms(user.contacts[""]) == NOON_MS - 3
    assert ms(user.negative_time) == NOON_MS - 4
    assert MessageToDict(user.state, preserving_proto_field_name=True) == {
        "role": "admin",
        "engagement": "ENGAGEMENT_LOW",
        "value_discovered": True,
        "owned_products": {"disk": "2026-11-21T11:59:59.994Z"},
        "pending_products": {"cloud": "2026-11-21T12:00:00.006Z"},
        "life_states": {
            "incident": {
                "active": True,
                "begin_time": "2026-11-21T11:59:59.999Z",
                "topic_category_ids": ["storage"],
            },
            "support_open": {
                "begin_time": "2026-11-21T11:59:59.991Z",
                "end_time": "2026-11-21T11:59:59.995Z",
                "negative": True,
            },
        },
    }
    assert MessageToDict(user.preferences, preserving_proto_field_name=True) == {
        "opt_outs": {"category:coffee": "2026-11-21T11:59:59.993Z"},
        "time_zone": "Europe/Berlin",
        "quiet_hours": {"start": "22:00", "end": "07:05"},
        "consent_version": 8,
    }
