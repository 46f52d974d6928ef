"""Caps: how often things may be shown, in windows that roll and in calendars."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.gates.base import Because, Ruling, Situation
from policies.gates.frequency import (
    Cap,
    CategoryCap,
    CreativeCap,
    OfferCap,
    PlacementCap,
)
from policies.model import History, Reservation, Session, Tally, Track
from policies.specs import (
    CapSpec,
    CatalogueSpec,
    CategorySpec,
    CreativeSpec,
    OfferSpec,
    PlacementSpec,
)
from policies.toml import Duration
from tests.policies.gates.pasts import (
    DAY,
    HOUR,
    MINUTE,
    TEA,
    action,
    ask,
    at,
    gates,
    held,
    past,
    rule_out,
    subject,
    track,
)

LATE = at("2026-06-01 23:00", "Europe/Berlin")
NEXT = at("2026-06-02 00:01", "Europe/Berlin")


def cap(limit: int = 1, window: str = "", **settings: object) -> CapSpec:
    if window:
        settings["window"] = Duration.parse(window)
    return CapSpec(limit=limit, **settings)  # type: ignore[arg-type]


def of_offer(*caps: CapSpec) -> list[OfferCap]:
    return gates(OfferCap, offer=OfferSpec(caps=caps))


def ruling(
    spec: CapSpec, situation: Situation, reason: str = "FREQUENCY_CAP"
) -> int | str | None:
    """Return when a capped offer is eligible again, or that it is now."""
    found = rule_out(of_offer(spec), situation)
    if found is None:
        return "eligible"
    assert found.reason == reason
    return found.next_eligible_ms


# --- Windows that roll ------------------------------------------------------------


def test_what_was_shown_last_night_counts_after_midnight() -> None:
    berlin = past(track("tea", LATE), zone="Europe/Berlin")

    assert ruling(cap(1, "24h"), ask(NEXT, berlin)) == LATE + DAY


def test_what_was_shown_a_window_ago_no_longer_counts() -> None:
    history = past(track("tea", 0))

    assert ruling(cap(1, "24h"), ask(DAY - 1, history)) == DAY
    assert ruling(cap(1, "24h"), ask(DAY, history)) == "eligible"


def test_it_is_eligible_once_enough_has_left_the_window() -> None:
    history = past(track("tea", 0, 1 * HOUR, 2 * HOUR, 3 * HOUR))

    assert ruling(cap(2, "24h"), ask(4 * HOUR, history)) == DAY + 2 * HOUR
    assert ruling(cap(4, "24h"), ask(4 * HOUR, history)) == DAY
    assert ruling(cap(5, "24h"), ask(4 * HOUR, history)) == "eligible"


def test_a_rolling_window_is_as_long_when_clocks_change() -> None:
    shown = at("2026-03-28 12:00", "Europe/Berlin")
    history = past(track("tea", shown), zone="Europe/Berlin")
    same_time = at("2026-03-29 12:00", "Europe/Berlin")

    assert same_time - shown == 23 * HOUR
    assert ruling(cap(1, "24h"), ask(same_time, history)) == shown + DAY


def test_what_seems_to_lie_in_the_future_counts() -> None:
    # A clock that went back gives nobody more offers.
    history = past(track("tea", 10 * HOUR))

    assert ruling(cap(1, "1h"), ask(8 * HOUR, history)) == 11 * HOUR
    assert ruling(cap(1, calendar="day"), ask(-1, history)) == DAY
    assert ruling(cap(1), ask(8 * HOUR, history)) is None


def test_the_longest_window_spans_ten_years() -> None:
    history = past(track("tea", 0))

    assert ruling(cap(1, "3660d"), ask(3_660 * DAY - 1, history)) == 3_660 * DAY
    assert ruling(cap(1, "3660d"), ask(3_660 * DAY, history)) == "eligible"


def test_a_cap_for_life_is_for_life() -> None:
    history = past(track("tea", 0))

    assert ruling(cap(1), ask(10**14, history)) is None
    assert ruling(cap(2), ask(1, history)) == "eligible"


@given(
    limit=st.integers(1, 4),
    window_ms=st.integers(1, 1_000),
    seen=st.lists(st.integers(0, 2_000), max_size=8),
    at_ms=st.integers(0, 2_000),
)
def test_a_cap_is_the_count_in_a_half_open_window(
    limit: int, window_ms: int, seen: list[int], at_ms: int
) -> None:
    seen = [time for time in seen if time <= at_ms]
    count = sum(at_ms - window_ms < time <= at_ms for time in seen)
    spec = CapSpec(limit=limit, window=Duration(window_ms))

    found = ruling(spec, ask(at_ms, past(track("tea", *seen))))

    assert (count >= limit) == (found != "eligible")


# --- Windows of the calendar ------------------------------------------------------


def test_a_day_of_the_calendar_ends_at_midnight_where_the_user_is() -> None:
    berlin = past(track("tea", LATE), zone="Europe/Berlin")
    midnight = at("2026-06-02", "Europe/Berlin")

    assert ruling(cap(calendar="day"), ask(NEXT, berlin)) == "eligible"
    assert ruling(cap(calendar="day"), ask(midnight - 1, berlin)) == midnight
    assert ruling(cap(calendar="day"), ask(midnight, berlin)) == "eligible"


def test_without_a_zone_of_their_own_users_live_in_the_catalogues() -> None:
    history = past(track("tea", LATE))

    in_utc = ask(NEXT, history)
    in_berlin = ask(NEXT, history, zone="Europe/Berlin")

    assert ruling(cap(calendar="day"), in_utc) == at("2026-06-02")
    assert ruling(cap(calendar="day"), in_berlin) == "eligible"


def test_a_zone_that_nobody_knows_any_more_is_the_catalogues() -> None:
    nowhere = past(track("tea", LATE), zone="Mars/Olympus_Mons")

    found = ruling(cap(calendar="day"), ask(NEXT, nowhere, zone="Europe/Berlin"))

    assert found == "eligible"


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Berlin", "2026-03-29", 23),
        ("Europe/Berlin", "2026-10-25", 25),
        ("America/New_York", "2026-03-08", 23),
        ("America/New_York", "2026-11-01", 25),
        # Here clocks jump at midnight, from which there is no 00:00.
        ("Africa/Cairo", "2026-04-24", 23),
        # Here the hour after midnight comes twice.
        ("America/Havana", "2026-11-01", 25),
        ("Asia/Kolkata", "2028-02-29", 24),
        ("UTC", "2028-02-29", 24),
    ],
)
def test_a_day_is_as_long_as_clocks_make_it(zone: str, day: str, hours: int) -> None:
    start = at(day, zone)
    history = past(track("tea", start), zone=zone)

    for time_ms in (start, start + 12 * HOUR, start + hours * HOUR - 1):
        found = ruling(cap(calendar="day"), ask(time_ms, history))
        assert found == start + hours * HOUR
    assert ruling(cap(calendar="day"), ask(start + hours * HOUR, history)) == "eligible"
    before = past(track("tea", start - 1), zone=zone)
    assert ruling(cap(calendar="day"), ask(start, before)) == "eligible"


def test_an_hour_that_comes_twice_is_of_one_day() -> None:
    zone = "America/New_York"
    first = at("2026-11-01 01:30", zone)
    again = at("2026-11-01 01:30", zone, second=True)
    history = past(track("tea", first), zone=zone)

    assert again - first == HOUR
    assert ruling(cap(calendar="day"), ask(again, history)) == at("2026-11-02", zone)


def test_a_midnight_that_comes_twice_begins_one_day() -> None:
    # In 2010 clocks in St John's went from 00:01 back to 23:01.
    zone = "America/St_Johns"
    midnight = at("2010-11-07", zone)
    history = past(track("tea", midnight), zone=zone)

    before = past(track("tea", midnight - 1), zone=zone)

    for time_ms in (midnight, midnight + 30 * MINUTE, midnight + 2 * HOUR):
        assert ruling(cap(calendar="day"), ask(time_ms, before)) == "eligible"
        found = ruling(cap(calendar="day"), ask(time_ms, history))
        assert found == at("2010-11-08", zone)


def test_a_midnight_that_is_left_out_begins_its_day_late() -> None:
    # In 1919 clocks in Toronto went from 23:30 to 00:30.
    zone = "America/Toronto"
    jump = at("1919-03-30 23:30", zone)
    history = past(track("tea", jump - HOUR), zone=zone)

    begins = jump + 30 * MINUTE

    assert ruling(cap(calendar="day"), ask(jump, history)) == begins
    assert ruling(cap(calendar="day"), ask(begins, history)) == "eligible"


def test_a_day_that_is_left_out_is_passed_over() -> None:
    # Samoa had no 30 December 2011.
    zone = "Pacific/Apia"
    history = past(track("tea", at("2011-12-29 20:00", zone)), zone=zone)
    begins = at("2011-12-31", zone)

    assert ruling(cap(calendar="day"), ask(begins - 1, history)) == begins
    assert ruling(cap(calendar="day"), ask(begins, history)) == "eligible"


def test_a_week_begins_on_monday() -> None:
    zone = "Europe/Berlin"
    monday = at("2026-10-26", zone)
    sunday = at("2026-10-25 23:59", zone)
    history = past(track("tea", at("2026-10-19", zone)), zone=zone)

    assert ruling(cap(calendar="week"), ask(sunday, history)) == monday
    assert ruling(cap(calendar="week"), ask(monday, history)) == "eligible"


@pytest.mark.parametrize(
    ("first", "following"),
    [
        ("2026-01-01", "2026-02-01"),
        ("2026-02-01", "2026-03-01"),
        ("2028-02-01", "2028-03-01"),
        ("2026-04-01", "2026-05-01"),
        ("2026-12-01", "2027-01-01"),
    ],
)
def test_a_month_is_as_long_as_the_calendar_has_it(first: str, following: str) -> None:
    zone = "America/New_York"
    history = past(track("tea", at(first, zone)), zone=zone)
    end = at(following, zone)

    assert ruling(cap(calendar="month"), ask(end - 1, history)) == end
    assert ruling(cap(calendar="month"), ask(end, history)) == "eligible"


def test_leap_days_count_like_others() -> None:
    leap = at("2028-02-29 12:00")
    history = past(track("tea", leap))

    assert ruling(cap(calendar="month"), ask(leap, history)) == at("2028-03-01")
    assert ruling(cap(1, "1d"), ask(leap, history)) == at("2028-03-01 12:00")
    assert ruling(cap(1, "365d"), ask(leap, history)) == at("2029-02-28 12:00")


def test_what_lies_in_a_later_day_counts_until_that_is_over() -> None:
    history = past(track("tea", at("2026-06-03 12:00"), at("2026-06-01 12:00")))
    asked = ask(at("2026-06-01 18:00"), history)

    assert ruling(cap(1, calendar="day"), asked) == at("2026-06-04")
    assert ruling(cap(2, calendar="day"), asked) == at("2026-06-02")


# --- Visits -----------------------------------------------------------------------


def test_a_cap_on_a_visit_counts_since_it_began() -> None:
    history = past(track("tea", 50, 150), sessions=(Session("v", 100),))

    asked = ask(200, history, session="v")
    assert ruling(cap(1, session=True), asked) == 100 + DAY
    assert ruling(cap(2, session=True), asked) == "eligible"


def test_a_visit_that_lasts_longer_than_a_day_begins_anew() -> None:
    history = past(
        track("tea", 150), reserved=[held(2 * DAY)], sessions=(Session("v", 100),)
    )

    late = ask(99 + DAY, history, session="v")
    assert ruling(cap(1, session=True), late) == 100 + DAY
    later = ask(100 + DAY, history, session="v")
    assert ruling(cap(1, session=True), later) == "eligible"


@pytest.mark.parametrize("session", ["", "another"])
def test_at_the_first_decision_of_a_visit_nothing_counts(session: str) -> None:
    history = past(
        track("tea", 50, 150), reserved=[held(500)], sessions=(Session("v", 100),)
    )

    asked = ask(200, history, session=session)

    assert ruling(cap(1, session=True), asked) == "eligible"


def test_what_a_visit_has_reserved_is_free_when_it_ends() -> None:
    history = past(reserved=[held(500)], sessions=(Session("v", 100),))

    assert ruling(cap(1, session=True), ask(200, history, session="v")) == 500
    assert ruling(cap(1, session=True), ask(500, history, session="v")) == "eligible"


# --- What counts ------------------------------------------------------------------


def test_what_may_still_be_shown_counts_until_it_may_not() -> None:
    history = past(track("tea", 0), reserved=[held(10 * MINUTE)])

    assert ruling(cap(2, "1h"), ask(MINUTE, history)) == 10 * MINUTE
    assert ruling(cap(2, "1h"), ask(10 * MINUTE, history)) == "eligible"
    assert ruling(cap(1, "1h"), ask(MINUTE, history)) == HOUR
    assert ruling(cap(2), ask(MINUTE, history)) == 10 * MINUTE
    assert ruling(cap(2, calendar="day"), ask(MINUTE, history)) == 10 * MINUTE


@pytest.mark.parametrize(
    "kind", ["decided", "shown", "clicked", "accepted", "dismissed"]
)
def test_a_cap_counts_what_it_says(kind: str) -> None:
    history = past(
        track("tea", 0, kind=kind),  # type: ignore[arg-type]
    )

    for counts in ("decided", "shown", "clicked", "accepted", "dismissed"):
        found = ruling(cap(1, "1h", counts=counts), ask(1, history))
        assert (found != "eligible") == (counts == kind)


def test_a_reservation_counts_as_shown_and_as_nothing_else() -> None:
    history = past(reserved=[held(10)])

    assert ruling(cap(1, "1h", counts="shown"), ask(1, history)) == 10
    assert ruling(cap(1, "1h", counts="decided"), ask(1, history)) == "eligible"


def test_what_is_known_by_number_only_counts_as_if_all_were_at_its_last_time() -> None:
    tally = Tally(times=(5 * DAY,), past=3, past_ms=2 * DAY)
    history = History((Track(subject("tea"), {"shown": tally}),))

    assert ruling(cap(4, "7d"), ask(6 * DAY, history)) == 9 * DAY
    assert ruling(cap(4), ask(99 * DAY, history)) is None
    assert ruling(cap(2, "5d"), ask(6 * DAY, history)) == 7 * DAY
    assert ruling(cap(2, "4d"), ask(6 * DAY, history)) == "eligible"


def test_no_number_is_too_large_to_count() -> None:
    tally = Tally(times=(), past=10**12, past_ms=0)
    history = History((Track(subject("tea"), {"shown": tally}),))

    assert ruling(cap(100), ask(1, history)) is None


def test_other_offers_do_not_count() -> None:
    history = past(track("jam", 0), reserved=[held(10, "jam")])

    assert ruling(cap(1), ask(1, history)) == "eligible"


def test_creatives_and_placements_count_towards_their_offer() -> None:
    history = past(track("tea/bold/banner", 0), track("tea/calm/home", 1))

    assert ruling(cap(2), ask(2, history)) is None
    assert ruling(cap(3), ask(2, history)) == "eligible"


# --- Of what ----------------------------------------------------------------------


def test_two_across_all_placements_are_not_two_in_each() -> None:
    # Shown once at home and twice in the banner.
    history = past(track("tea//home", 1), track("tea//banner", 2, 3))
    asked = ask(4, history)
    across = OfferSpec(caps=(cap(2),))
    each = OfferSpec(caps=(cap(2, across="placement"),))

    assert rule_out(gates(OfferCap, offer=across), asked) == Ruling("FREQUENCY_CAP")
    assert not gates(CreativeCap, offer=across)
    assert not gates(OfferCap, offer=each)
    by_placement = gates(CreativeCap, offer=each)
    assert rule_out(by_placement, asked, action(placement="home")) is None
    assert rule_out(by_placement, asked, action(placement="banner")) is not None
    assert rule_out(by_placement, asked, action(placement="till")) is None


def test_a_creative_has_caps_of_its_own() -> None:
    history = past(track("tea/bold/home", 1), track("tea/bold/banner", 2))
    asked = ask(4, history)

    anywhere = gates(CreativeCap, creative=CreativeSpec(caps=(cap(2),)))
    here = gates(CreativeCap, creative=CreativeSpec(caps=(cap(2, across="placement"),)))

    assert rule_out(anywhere, asked, action(creative="bold")) is not None
    assert rule_out(anywhere, asked, action(creative="calm")) is None
    assert rule_out(here, asked, action(creative="bold")) is None
    assert rule_out(anywhere, asked, action("jam", "bold")) is None


def test_a_placement_has_caps_over_all_offers() -> None:
    placement = PlacementSpec(caps=(cap(2, "1h"),))
    made = gates(PlacementCap, placement=placement)

    mixed = past(track("tea//home", 0), track("jam//home", MINUTE))
    elsewhere = past(track("tea//home", 0), track("jam//banner", MINUTE))

    assert rule_out(made, ask(HOUR - 1, mixed)) == Ruling("FREQUENCY_CAP", HOUR)
    assert rule_out(made, ask(HOUR - 1, elsewhere)) is None


def test_caps_at_the_top_are_over_everything() -> None:
    made = gates(PlacementCap, CatalogueSpec(caps=(cap(2, "1h"),)))
    each = gates(PlacementCap, CatalogueSpec(caps=(cap(2, "1h", across="placement"),)))
    history = past(track("tea//home", 0), track("jam//banner", 1))

    assert rule_out(made, ask(2, history)) == Ruling("FREQUENCY_CAP", HOUR)
    assert rule_out(each, ask(2, history)) is None
    assert gates(PlacementCap, CatalogueSpec(caps=(cap(),))) == gates(
        PlacementCap, CatalogueSpec(caps=(cap(),)), placement_id="banner"
    )


def test_a_category_is_what_an_offer_belonged_to_when_it_was_shown() -> None:
    catalogue = CatalogueSpec(categories={"hot": CategorySpec(caps=(cap(1, "1h"),))})
    made = gates(CategoryCap, catalogue, offer=OfferSpec(categories=("hot",)))

    was_hot = past(track(subject("soup", "hot", "food"), 0))
    was_cold = past(track(subject("soup", "food"), 0))
    reserved = past(reserved=[held(5, subject("soup", "hot"))])

    assert rule_out(made, ask(1, was_hot)) == Ruling("FREQUENCY_CAP", HOUR)
    assert rule_out(made, ask(1, was_cold)) is None
    assert rule_out(made, ask(1, reserved)) == Ruling("FREQUENCY_CAP", 5)
    assert rule_out(made, ask(1)) is None


def test_an_offer_obeys_the_caps_of_all_its_categories() -> None:
    catalogue = CatalogueSpec(
        categories={
            "hot": CategorySpec(caps=(cap(2),)),
            "food": CategorySpec(caps=(cap(1), cap(3))),
            "cold": CategorySpec(caps=(cap(1),)),
        }
    )

    made = gates(CategoryCap, catalogue, offer=OfferSpec(categories=("hot", "food")))

    assert [(gate.category, gate.cap.limit) for gate in made] == [
        ("hot", 2),
        ("food", 1),
        ("food", 3),
    ]


def test_an_account_is_counted_as_one() -> None:
    # Twenty members hit a limit on the same day; one offer goes to the account.
    spec = cap(1, "24h", per="account")
    account = past(track("tea", 5))

    assert ruling(spec, ask(10, past(), account)) == 5 + DAY
    assert ruling(cap(1, "24h"), ask(10, past(), account)) == "eligible"
    assert ruling(spec, ask(10, past(track("tea", 5)), past(zone="UTC"))) == "eligible"


def test_who_has_no_account_is_one() -> None:
    spec = cap(1, "24h", per="account")

    assert ruling(spec, ask(10, past(track("tea", 5)))) == 5 + DAY


def test_all_of_ten_caps_must_hold() -> None:
    caps = [
        cap(5, "1h"),
        cap(1, "30m"),
        cap(9, "7d"),
        cap(3, calendar="day"),
        cap(8, calendar="week"),
        cap(9, calendar="month"),
        cap(9, session=True),
        cap(4, counts="clicked"),
        cap(1, counts="accepted"),
        cap(9),
    ]
    made = of_offer(*caps)
    day = at("2026-06-01")

    def reasons(*times: int, now: int) -> list[int]:
        asked = ask(now, past(track("tea", *times)))
        return [n for n, gate in enumerate(made) if gate.reject(TEA, asked)]

    assert len(made) == 10
    assert reasons(now=day) == []
    assert reasons(day, now=day + 29 * MINUTE) == [1]
    assert reasons(day, now=day + 30 * MINUTE) == []
    assert reasons(day, day, day, now=day + HOUR) == [3]
    assert reasons(*range(day - 9 * MINUTE, day, MINUTE), now=day) == [0, 1, 2, 9]


def test_a_limit_of_none_is_no_cap() -> None:
    assert not of_offer(CapSpec())


# --- Words ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "found", "needed"),
    [
        (cap(1, "7d"), "tea shown 2 times in the last 7d", "fewer than 1"),
        (cap(2, calendar="week"), "tea shown 2 times this week", "fewer than 2"),
        (cap(2, session=True), "tea shown 2 times in this visit", "fewer than 2"),
        (cap(2), "tea shown 2 times ever", "fewer than 2"),
        (cap(1, counts="clicked"), "tea clicked 1 time ever", "fewer than 1"),
        (
            cap(2, per="account"),
            "tea shown 2 times ever by the account",
            "fewer than 2",
        ),
    ],
)
def test_it_says_how_often_and_how_often_it_might(
    spec: CapSpec, found: str, needed: str
) -> None:
    monday = at("2026-06-01")
    both = Track(
        subject("tea"),
        {"shown": Tally((monday, monday + 1)), "clicked": Tally((monday,))},
    )
    history = past(both, sessions=(Session("v", monday),))

    (gate,) = of_offer(spec)

    asked = ask(monday + 2, history, session="v")
    assert gate.because(TEA, asked) == Because(found, needed)


def test_it_says_of_what() -> None:
    spec = cap(1)
    history = past(track(subject("tea", "hot"), 0))
    catalogue = CatalogueSpec(
        caps=(spec,), categories={"hot": CategorySpec(caps=(spec,))}
    )
    offer = OfferSpec(categories=("hot",), caps=(cap(1, across="placement"),))
    creative = CreativeSpec(caps=(spec,))
    placement = PlacementSpec(caps=(spec,))

    made = [
        *gates(PlacementCap, catalogue, placement=placement),
        *gates(CategoryCap, catalogue, offer=offer),
        *gates(CreativeCap, offer=offer, creative=creative),
    ]

    assert [gate.because(TEA, ask(1, history)).found for gate in made] == [
        "offers in home shown 1 time ever",
        "offers shown 1 time ever",
        "offers of hot shown 1 time ever",
        "tea/default shown 1 time ever",
        "tea in home shown 1 time ever",
    ]


def test_equal_caps_are_equal() -> None:
    spec = cap(3, "24h")

    assert of_offer(spec) == of_offer(spec)
    assert hash(of_offer(spec)[0]) == hash(of_offer(spec)[0])
    assert of_offer(spec) != of_offer(cap(3, "25h"))
    assert Cap(limit=1) != Cap(limit=1, session=True)


def test_reservations_of_the_same_call_count() -> None:
    # What a call has chosen for one placement counts for the next.
    reserved = [Reservation(100, f"d{n}", subject("tea")) for n in range(2)]

    assert ruling(cap(2, "1h"), ask(50, past(reserved=reserved))) == 100
    assert ruling(cap(3, "1h"), ask(50, past(reserved=reserved))) == "eligible"
