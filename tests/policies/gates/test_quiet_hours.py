"""Quiet hours: by the clock where the user is, however it is put."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.gates.base import Because, Ruling
from policies.gates.quiet_hours import QuietHours
from policies.model import History, Preferences
from policies.model import QuietHours as Hours
from policies.specs import CatalogueSpec, PlacementSpec, QuietSpec
from tests.policies.gates.pasts import HOUR, MINUTE, TEA, ask, at, gates, past, rule_out

BERLIN, NEW_YORK = "Europe/Berlin", "America/New_York"
MODAL, INLINE = PlacementSpec(kind="modal"), PlacementSpec(kind="inline")


def quiet(start: str = "", end: str = "", blocks: str = "all") -> list[QuietHours]:
    spec = QuietSpec(start, end, blocks)  # type: ignore[arg-type]
    return gates(QuietHours, CatalogueSpec(quiet_hours=spec), placement=MODAL)


NIGHT = quiet("22:00", "08:00")


def end(made: list[QuietHours], at_ms: int, zone: str) -> int | None:
    """Return when quiet hours end; now where there are none."""
    found = rule_out(made, ask(at_ms, past(zone=zone)))
    if found is None:
        return at_ms
    assert found.reason == "QUIET_HOURS"
    return found.next_eligible_ms


@pytest.mark.parametrize("zone", [BERLIN, NEW_YORK, "Asia/Kolkata", "UTC"])
def test_it_is_quiet_from_the_start_until_before_the_end_over_midnight(
    zone: str,
) -> None:
    morning = at("2026-06-02 08:00", zone)

    assert end(NIGHT, at("2026-06-01 21:59", zone), zone) != morning
    for clock in ("06-01 22:00", "06-01 23:59", "06-02 00:00", "06-02 07:59"):
        assert end(NIGHT, at(f"2026-{clock}", zone), zone) == morning
    assert end(NIGHT, morning, zone) == morning


def test_it_may_be_quiet_by_day() -> None:
    siesta = quiet("13:00", "15:30")

    assert end(siesta, at("2026-06-01 13:00"), "UTC") == at("2026-06-01 15:30")
    for clock in ("12:59", "15:30", "23:00"):
        now = at(f"2026-06-01 {clock}")
        assert end(siesta, now, "UTC") == now


@pytest.mark.parametrize(
    ("zone", "evening", "morning", "hours"),
    [
        (BERLIN, "2026-03-28 22:00", "2026-03-29 08:00", 9),
        (BERLIN, "2026-10-24 22:00", "2026-10-25 08:00", 11),
        (NEW_YORK, "2026-03-07 22:00", "2026-03-08 08:00", 9),
        (NEW_YORK, "2026-10-31 22:00", "2026-11-01 08:00", 11),
        (NEW_YORK, "2028-02-28 22:00", "2028-02-29 08:00", 10),
        ("Africa/Cairo", "2026-04-23 22:00", "2026-04-24 08:00", 9),
    ],
)
def test_a_night_is_as_long_as_clocks_make_it(
    zone: str, evening: str, morning: str, hours: int
) -> None:
    starts, ends = at(evening, zone), at(morning, zone)

    assert ends - starts == hours * HOUR
    for now in (starts, starts + hours * HOUR // 2, ends - 1):
        assert end(NIGHT, now, zone) == ends
    assert end(NIGHT, starts - 1, zone) == starts - 1


def test_an_end_that_is_left_out_is_when_clocks_jump() -> None:
    # At 02:00 it is 03:00 in Berlin; there is no 02:30.
    jump = at("2026-03-29 01:59", BERLIN) + MINUTE
    made = quiet("22:00", "02:30")

    assert end(made, at("2026-03-29 01:00", BERLIN), BERLIN) == jump
    assert end(made, jump, BERLIN) == jump


def test_a_start_that_is_left_out_is_when_clocks_jump() -> None:
    jump = at("2026-03-29 01:59", BERLIN) + MINUTE
    made = quiet("02:30", "08:00")

    assert end(made, jump - 1, BERLIN) == jump - 1
    assert end(made, jump, BERLIN) == at("2026-03-29 08:00", BERLIN)


def test_what_is_left_out_as_a_whole_is_not_quiet() -> None:
    jump = at("2026-03-29 01:59", BERLIN) + MINUTE

    assert end(quiet("02:10", "02:50"), jump, BERLIN) == jump


def test_a_time_that_comes_twice_is_quiet_twice() -> None:
    # At 03:00 it is 02:00 again in Berlin.
    first = at("2026-10-25 02:10", BERLIN)
    again = at("2026-10-25 02:10", BERLIN, second=True)
    made = quiet("01:00", "02:30")

    assert end(made, first, BERLIN) == first + 20 * MINUTE
    assert end(made, first + 20 * MINUTE, BERLIN) == first + 20 * MINUTE
    assert end(made, again, BERLIN) == again + 20 * MINUTE


def test_it_stays_quiet_where_the_clock_is_put_back_at_the_end() -> None:
    made = quiet("22:00", "03:00")

    ends = at("2026-10-25 03:00", BERLIN)

    assert ends - at("2026-10-25 02:00", BERLIN) == 2 * HOUR
    assert end(made, at("2026-10-24 23:00", BERLIN), BERLIN) == ends


def test_from_one_time_to_the_same_is_all_day() -> None:
    always = quiet("08:00", "08:00")

    assert end(always, at("2026-06-01 12:00"), "UTC") is None
    assert end(always, at("2026-06-01 08:00"), "UTC") is None


def own(start: int, last: int, zone: str = "") -> History:
    return past(preferences=Preferences(quiet=Hours(start, last), zone=zone))


def test_the_users_own_hours_go_before_the_catalogues() -> None:
    lunch = own(12 * 60, 13 * 60, BERLIN)
    noon = at("2026-06-01 12:30", BERLIN)

    assert rule_out(NIGHT, ask(noon, lunch)) == Ruling("QUIET_HOURS", noon + HOUR // 2)
    assert rule_out(NIGHT, ask(at("2026-06-01 23:00", BERLIN), lunch)) is None
    assert rule_out(quiet(), ask(noon, lunch)) is not None


def test_without_a_zone_of_their_own_users_live_in_the_catalogues() -> None:
    late = at("2026-06-01 22:30", BERLIN)

    assert rule_out(NIGHT, ask(late)) is None
    assert rule_out(NIGHT, ask(late, zone=BERLIN)) is not None


def test_without_hours_it_is_never_quiet() -> None:
    assert rule_out(quiet(), ask(at("2026-06-01 03:00"))) is None


def test_only_what_interrupts_may_be_held_back() -> None:
    spec = CatalogueSpec(quiet_hours=QuietSpec("22:00", "08:00", "interrupts"))

    assert gates(QuietHours, spec, placement=MODAL)
    assert not gates(QuietHours, spec, placement=INLINE)


def test_critical_offers_do_not_go_past_it() -> None:
    assert not QuietHours.bypassed


def test_it_says_what_time_it_is_and_when_it_is_quiet() -> None:
    late = ask(at("2026-06-01 22:05", BERLIN), past(zone=BERLIN))
    mine = ask(at("2026-06-01 12:05"), own(720, 780))

    assert NIGHT[0].because(TEA, late) == Because(
        "it is 22:05 in Europe/Berlin",
        "not from 22:00 to 08:00, the catalogue's quiet hours",
    )
    assert NIGHT[0].because(TEA, mine) == Because(
        "it is 12:05 in UTC", "not from 12:00 to 13:00, the user's quiet hours"
    )


@given(
    zone=st.sampled_from([BERLIN, NEW_YORK, "Africa/Cairo", "Australia/Lord_Howe"]),
    at_ms=st.integers(at("2026-01-01"), at("2027-01-01")),
    start=st.integers(0, 1439),
    last=st.integers(0, 1439),
)
def test_quiet_hours_end_at_the_first_moment_at_which_it_is_not_quiet(
    zone: str, at_ms: int, start: int, last: int
) -> None:
    made = quiet()
    history = own(start, last, zone)
    found = rule_out(made, ask(at_ms, history))

    if found is None or found.next_eligible_ms is None:
        return
    assert rule_out(made, ask(found.next_eligible_ms, history)) is None
    minutes = range(at_ms, found.next_eligible_ms, 7 * MINUTE)
    for time_ms in (*minutes, found.next_eligible_ms - 1):
        assert rule_out(made, ask(time_ms, history)) is not None
