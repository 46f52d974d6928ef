"""More is offered to who is about to need it, once in a cycle."""

from __future__ import annotations

import math
from typing import Any

import pytest

from policies.gates.base import Because, Ruling
from policies.gates.limits import OncePerCycle, UsageLimit
from policies.model import Context, History
from policies.specs import LimitSpec, OfferSpec
from policies.toml import Duration
from tests.policies.gates import kit
from tests.policies.gates.kit import DAY, HOUR, NOW

STORAGE = OfferSpec(limit=LimitSpec(usage="storage_gb"))
TASKS = OfferSpec(limit=LimitSpec(usage="tasks"))
MORE_STORAGE = kit.gate(UsageLimit, STORAGE)
NEXT_TIER = kit.gate(UsageLimit, TASKS)
ONCE = kit.gate(OncePerCycle, TASKS)
FAR = Ruling("NOT_NEAR_LIMIT")


def storage(value: float, limit: float | None = 100.0, **usage: Any) -> Context:
    return kit.using("storage_gb", value, limit, **usage)


def tasks(value: float, day: int, **usage: Any) -> Context:
    """Return so many of 1,000 tasks used on a day of a cycle of 30."""
    since_ms = NOW - (day - 1) * DAY
    until_ms = since_ms + 30 * DAY
    return kit.using(
        "tasks", value, 1_000.0, since_ms=since_ms, until_ms=until_ms, **usage
    )


def test_an_offer_without_a_limit_has_no_such_gates() -> None:
    assert not kit.gates(UsageLimit, OfferSpec())
    assert not kit.gates(OncePerCycle, OfferSpec())


@pytest.mark.parametrize("value", [80.0, 92.0, 100.0])
def test_dropbox_offers_more_storage_from_80_to_100_percent(value: float) -> None:
    assert MORE_STORAGE.reject(kit.ACTION, kit.moment(storage(value))) is None


@pytest.mark.parametrize("value", [0.0, 40.0, 79.9, 100.1, 250.0])
def test_below_and_above_the_band_nobody_is_near_the_limit(value: float) -> None:
    assert MORE_STORAGE.reject(kit.ACTION, kit.moment(storage(value))) == FAR


def test_slack_may_name_a_band_above_the_limit() -> None:
    over = OfferSpec(limit=LimitSpec(usage="messages", from_share=1.0, to_share=2.0))
    gate = kit.gate(UsageLimit, over)

    assert kit.reason(gate, kit.moment(kit.using("messages", 10_050.0, 10_000.0))) == ""
    assert kit.reason(gate, kit.moment(kit.using("messages", 21_000.0, 10_000.0)))


def test_what_was_reached_long_ago_is_no_forecast() -> None:
    far_over = LimitSpec(usage="storage_gb", from_share=1.5, to_share=2.0)
    gate = kit.gate(UsageLimit, OfferSpec(limit=far_over))

    assert gate.reject(kit.ACTION, kit.moment(storage(110.0, per_day=5.0))) == FAR


@pytest.mark.parametrize(
    ("usage", "code"),
    [
        ({"per_day": 10.0}, ""),  # 60 of 100 left, in 6 days.
        ({"per_day": 60.0 / 7.0}, ""),  # In just 7.
        ({"per_day": 8.0}, "NOT_NEAR_LIMIT"),
        ({"per_day": 0.0}, "NOT_NEAR_LIMIT"),
        ({"per_day": -10.0}, "NOT_NEAR_LIMIT"),
        ({"since_ms": NOW - 4 * DAY}, ""),  # 40 in 4 days.
        ({"since_ms": NOW - 5 * DAY}, "NOT_NEAR_LIMIT"),
        ({"since_ms": NOW - 4 * DAY, "per_day": 1.0}, "NOT_NEAR_LIMIT"),
    ],
)
def test_below_the_band_the_forecast_decides(usage: dict[str, Any], code: str) -> None:
    assert kit.reason(MORE_STORAGE, kit.moment(storage(40.0, **usage))) == code


def test_without_a_forecast_the_band_alone_decides() -> None:
    limit = LimitSpec(usage="storage_gb", forecast=Duration(0))
    gate = kit.gate(UsageLimit, OfferSpec(limit=limit))

    little = kit.moment(storage(79.0, per_day=50.0))

    assert gate.reject(kit.ACTION, little) == FAR
    needed = gate.because(kit.ACTION, little).needed
    assert needed == "80 % to 100 % of the limit"
    assert gate.reject(kit.ACTION, kit.moment(storage(80.0, per_day=50.0))) is None


def test_an_hour_of_work_is_no_pace() -> None:
    begun = storage(10.0, since_ms=NOW - HOUR)
    just_now = storage(10.0, since_ms=NOW)
    clock_back = storage(10.0, since_ms=NOW + HOUR)

    for context in (begun, just_now, clock_back):
        assert MORE_STORAGE.reject(kit.ACTION, kit.moment(context)) == FAR


def test_zapier_at_95_percent_on_day_20_of_30_is_offered_the_next_tier() -> None:
    by_mean = kit.moment(tasks(950.0, day=20))
    in_2_days = kit.moment(tasks(950.0, day=20, per_day=25.0))

    assert NEXT_TIER.reject(kit.ACTION, by_mean) is None
    assert NEXT_TIER.reject(kit.ACTION, in_2_days) is None


def test_zapier_at_95_percent_on_day_30_starts_anew_tomorrow_and_is_left_alone() -> (
    None
):
    last_day = kit.moment(tasks(950.0, day=30))

    assert NEXT_TIER.reject(kit.ACTION, last_day) == FAR
    assert NEXT_TIER.because(kit.ACTION, last_day) == Because(
        "tasks is at 95 % of 1,000, at the limit in 1.53 d, counted anew in 1 d",
        "80 % to 100 % of the limit, or the limit within 7d, before the count starts"
        " anew",
    )


def test_who_stands_still_does_not_reach_the_limit_before_the_count_starts_anew() -> (
    None
):
    still = kit.moment(tasks(950.0, day=2, per_day=0.0))
    for_good = kit.moment(storage(95.0, per_day=0.0))

    assert NEXT_TIER.reject(kit.ACTION, still) == FAR
    assert MORE_STORAGE.reject(kit.ACTION, for_good) is None


def test_a_limit_that_is_reached_is_near_until_the_last_moment() -> None:
    last_day = kit.moment(tasks(1_000.0, day=30))

    assert NEXT_TIER.reject(kit.ACTION, last_day) is None


def test_where_no_pace_is_known_the_end_of_the_cycle_rules_nothing_out() -> None:
    context = kit.using("tasks", 950.0, 1_000.0, until_ms=NOW + 1)

    assert NEXT_TIER.reject(kit.ACTION, kit.moment(context)) is None


def test_a_cycle_that_is_over_says_nothing_of_the_one_that_runs() -> None:
    for value in (950.0, 1_000.0):
        over = kit.moment(kit.using("tasks", value, 1_000.0, until_ms=NOW))

        assert NEXT_TIER.reject(kit.ACTION, over) == FAR
    assert NEXT_TIER.because(kit.ACTION, over).found == (
        "tasks is counted anew since 1972-09-27 00:00:00 UTC"
    )


@pytest.mark.parametrize(
    ("context", "found"),
    [
        (Context(), "the request does not say how much storage_gb is used"),
        (storage(92.0, limit=None), "storage_gb has no limit"),
        (storage(92.0, limit=0.0), "storage_gb has no limit"),
        (storage(0.0, limit=0.0), "storage_gb has no limit"),
        (storage(40.0), "storage_gb is at 40 % of 100"),
        (
            storage(40.0, per_day=0.0),
            "storage_gb is at 40 % of 100, not growing",
        ),
        (
            storage(40.0, per_day=2.5),
            "storage_gb is at 40 % of 100, at the limit in 24 d",
        ),
        (storage(125.0), "storage_gb is at 125 % of 100"),
    ],
)
def test_what_is_used_is_told(context: Context, found: str) -> None:
    asked = kit.moment(context)

    assert MORE_STORAGE.reject(kit.ACTION, asked) == FAR
    assert MORE_STORAGE.because(kit.ACTION, asked) == Because(
        found, "80 % to 100 % of the limit, or the limit within 7d"
    )


def test_what_is_not_a_number_is_not_near() -> None:
    for context in (storage(math.nan), storage(92.0, math.nan)):
        assert MORE_STORAGE.reject(kit.ACTION, kit.moment(context)) == FAR


def shown_at(*times: int, **past: Any) -> History:
    return kit.past({"shown": times}, **past)


def test_who_has_seen_the_offer_in_this_cycle_sees_it_in_the_next() -> None:
    context = tasks(950.0, day=20)
    until_ms = context.usage["tasks"].until_ms
    seen = kit.moment(context, history=shown_at(NOW - DAY))

    assert ONCE.reject(kit.ACTION, seen) == Ruling("ALREADY_THIS_CYCLE", until_ms)
    assert ONCE.because(kit.ACTION, seen) == Because(
        "shown at 1972-09-26 00:00:00 UTC",
        "not shown since tasks is counted anew: 1972-09-08 00:00:00 UTC",
    )


def test_what_was_shown_in_an_earlier_cycle_or_of_another_offer_does_not_count() -> (
    None
):
    context = tasks(950.0, day=20)
    earlier = shown_at(NOW - 19 * DAY - 1)
    other = shown_at(NOW - DAY, offer_id="other")

    for history in (earlier, other, History()):
        assert kit.reason(ONCE, kit.moment(context, history=history)) == ""
    at_its_start = kit.moment(context, history=shown_at(NOW - 19 * DAY))
    assert kit.reason(ONCE, at_its_start) == "ALREADY_THIS_CYCLE"


def test_what_may_still_be_shown_counts_until_it_cannot_be() -> None:
    held = kit.moment(tasks(950.0, day=20), history=kit.past(held_until_ms=NOW + HOUR))
    over = kit.moment(tasks(950.0, day=20), history=kit.past(held_until_ms=NOW))

    assert ONCE.reject(kit.ACTION, held) == Ruling("ALREADY_THIS_CYCLE", NOW + HOUR)
    found = ONCE.because(kit.ACTION, held).found
    assert found == "decided, and may still be shown"
    assert ONCE.reject(kit.ACTION, over) is None


def test_what_was_shown_outweighs_what_may_still_be() -> None:
    both = shown_at(NOW - DAY, held_until_ms=NOW + HOUR)
    context = tasks(950.0, day=20)

    ruling = ONCE.reject(kit.ACTION, kit.moment(context, history=both))

    assert ruling == Ruling("ALREADY_THIS_CYCLE", NOW + 11 * DAY)


def test_a_hold_never_outlasts_the_cycle() -> None:
    held = kit.past(held_until_ms=NOW + 2 * DAY)

    ruling = ONCE.reject(kit.ACTION, kit.moment(tasks(950.0, day=30), history=held))

    assert ruling == Ruling("ALREADY_THIS_CYCLE", NOW + DAY)


def test_a_cycle_without_an_end_never_starts_anew() -> None:
    endless = kit.using("tasks", 950.0, 1_000.0, since_ms=NOW - 20 * DAY)
    held = kit.past(held_until_ms=NOW + HOUR)

    shown = kit.moment(endless, history=shown_at(NOW - DAY))
    assert ONCE.reject(kit.ACTION, shown) == Ruling("ALREADY_THIS_CYCLE")
    may_be = kit.moment(endless, history=held)
    assert ONCE.reject(kit.ACTION, may_be) == Ruling("ALREADY_THIS_CYCLE", NOW + HOUR)


def test_without_a_known_and_running_cycle_nothing_is_once() -> None:
    seen = shown_at(NOW - DAY)
    no_start = kit.using("tasks", 950.0, 1_000.0, until_ms=NOW + DAY)
    over = kit.using("tasks", 9.0, 10.0, since_ms=NOW - 2 * DAY, until_ms=NOW)

    for context in (Context(), no_start, over):
        assert kit.reason(ONCE, kit.moment(context, history=seen)) == ""


def test_an_offer_may_be_shown_more_than_once_in_a_cycle() -> None:
    often = OfferSpec(limit=LimitSpec(usage="tasks", once_per_cycle=False))

    assert not kit.gates(OncePerCycle, often)
