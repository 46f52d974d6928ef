"""An offer is shown from its start until before its end."""

from __future__ import annotations

import datetime as dt

from policies.gates.base import Because, Ruling
from policies.gates.dates import Dates
from policies.specs import OfferSpec
from tests.policies.gates import kit

START = dt.datetime(2026, 11, 27, tzinfo=dt.UTC)
END = dt.datetime(2026, 11, 30, tzinfo=dt.timezone(dt.timedelta(hours=1)))
START_MS = 1_795_737_600_000
END_MS = START_MS + 3 * kit.DAY - kit.HOUR
FRIDAY = kit.gate(Dates, OfferSpec(start=START, end=END))


def test_an_offer_without_dates_is_always_in_time() -> None:
    assert not kit.gates(Dates, OfferSpec())


def test_an_offer_is_shown_from_its_start_until_before_its_end() -> None:
    for at_ms in (START_MS, END_MS - 1):
        assert FRIDAY.reject(kit.ACTION, kit.moment(at_ms=at_ms)) is None


def test_an_offer_that_has_not_started_says_when_it_does() -> None:
    early = kit.moment(at_ms=START_MS - 1)

    assert FRIDAY.reject(kit.ACTION, early) == Ruling("NOT_STARTED", START_MS)
    assert FRIDAY.because(kit.ACTION, early) == Because(
        "it is 2026-11-26 23:59:59 UTC", "2026-11-27 00:00:00 UTC or later"
    )


def test_an_offer_that_has_ended_never_comes_back() -> None:
    late = kit.moment(at_ms=END_MS)

    assert FRIDAY.reject(kit.ACTION, late) == Ruling("EXPIRED")
    assert FRIDAY.because(kit.ACTION, late) == Because(
        "it is 2026-11-29 23:00:00 UTC", "before 2026-11-29 23:00:00 UTC"
    )


def test_an_offer_may_have_a_start_or_an_end_alone() -> None:
    started = kit.gate(Dates, OfferSpec(start=START))
    ending = kit.gate(Dates, OfferSpec(end=END))

    assert kit.reason(started, kit.moment(at_ms=END_MS)) == ""
    assert kit.reason(ending, kit.moment(at_ms=0)) == ""
