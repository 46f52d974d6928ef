"""ReportOutcome through the wire: each outcome once, in any order, on the disk."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import pytest

from opportune.v1 import Money, Outcome
from policies.model import EventKind, History, Subject, Tally, Track
from policies.records import decode_history, decode_outcome
from tests.server import kit
from tests.server.kit import Shop


async def test_outcomes_are_answered_in_their_order_and_stored(shop: Shop) -> None:
    # Given a decision for an offer
    decision = await shop.offered("ada", "jam")

    # When the user's doings are reported with times and money
    results = await shop.tell(
        decision,
        kit.outcome(kit.SHOWN, at_ms=kit.NOON_MS),
        kit.outcome(
            kit.ACCEPTED,
            revenue=Money(currency_code="EUR", minor_units=950),
            list_price=Money(currency_code="EUR", minor_units=1_000),
            discount=Money(currency_code="EUR", minor_units=50),
            margin=Money(currency_code="EUR", minor_units=0),
        ),
    )

    # Then each has a result, and the log holds what was said
    assert [r.outcome_id for r in results] == [
        "OUTCOME_KIND_SHOWN",
        "OUTCOME_KIND_ACCEPTED",
    ]
    assert not any(r.duplicate for r in results)
    logged = [
        decode_outcome(record)
        for (record,) in kit.rows(
            shop.path, "select record from outcomes_v1 order by position"
        )
    ]
    assert [outcome.kind for outcome in logged] == ["shown", "accepted"]
    accepted = logged[1]
    assert accepted.revenue is not None
    assert (accepted.revenue.currency, accepted.revenue.minor) == ("EUR", 950)
    assert accepted.margin is not None
    assert accepted.margin.minor == 0


async def test_an_outcome_counts_once_however_often_it_is_sent(shop: Shop) -> None:
    # Given an outcome that was reported
    decision = await shop.offered("ada", "jam")
    (first,) = await shop.report(decision, kit.SHOWN)
    history = kit.rows(shop.path, "select version, record from history")

    # When it is reported again, alone, twice at once, and as something else
    again = await shop.report(decision, kit.SHOWN, kit.SHOWN)
    (other,) = await shop.tell(
        decision, kit.outcome(kit.DISMISSED, outcome_id="OUTCOME_KIND_SHOWN")
    )

    # Then only the first one counts
    assert not first.duplicate
    assert [r.duplicate for r in (*again, other)] == [True, True, True]
    assert shop.count("outcomes_v1") == 1
    assert history == kit.rows(shop.path, "select version, record from history")


async def test_an_outcome_sent_many_times_at_once_counts_once(shop: Shop) -> None:
    # Given a decision
    decision = await shop.offered("ada", "jam")

    # When the same outcome is sent by a hundred clients at once
    answers = await asyncio.gather(
        *(shop.report(decision, kit.DISMISSED) for _ in range(100))
    )

    # Then one of them was the first, and the dismissal counts once
    assert sum(not result.duplicate for (result,) in answers) == 1
    assert shop.count("outcomes_v1") == 1
    ((version, history),) = await _histories(shop)
    assert version == 2  # The reservation, and the dismissal.
    assert history == {"jam": 1}


async def _histories(shop: Shop) -> list[tuple[int, dict[str, int]]]:
    return [
        (
            version,
            {
                track.subject.offer_id: len(track.tallies["dismissed"].times)
                for track in decode_history(record).tracks
                if "dismissed" in track.tallies
            },
        )
        for version, record in kit.rows(
            shop.path, "select version, record from history"
        )
    ]


async def test_one_name_twice_in_a_report_counts_with_what_came_first(
    shop: Shop,
) -> None:
    # Given a decision
    decision = await shop.offered("ada", "jam")

    # When one report says two things under one name
    results = await shop.tell(
        decision,
        kit.outcome(kit.SHOWN, outcome_id="a"),
        kit.outcome(kit.DISMISSED, outcome_id="a"),
    )

    # Then the first counts
    assert [r.duplicate for r in results] == [False, True]
    ((_, dismissals),) = await _histories(shop)
    assert dismissals == {}


async def test_the_same_name_under_two_decisions_is_two_outcomes(shop: Shop) -> None:
    # Given two decisions
    decisions = [await shop.offered("ada", "jam") for _ in range(2)]

    # When an outcome of the same name is reported for both, then both count
    results = [(await shop.report(d, kit.SHOWN))[0] for d in decisions]
    assert [r.duplicate for r in results] == [False, False]


async def test_an_accept_before_shown_counts_as_seen(
    shop: Shop, clock: kit.Clock
) -> None:
    # Given an offer that was decided
    decision = await shop.offered("ada", "tea")

    # When the accept arrives first, and shown after the reservation is over
    clock.advance(kit.MINUTE_MS)
    await shop.report(decision, kit.ACCEPTED)
    clock.advance(kit.HOUR_MS)
    capped = await shop.ask("ada", offer_ids=["tea"])
    await shop.report(decision, kit.SHOWN)

    # Then the cap held all the time, and the offer counts once
    assert [r.offer_id for r in capped.rejections] == ["tea"]
    ((record,),) = kit.rows(shop.path, "select record from history")
    assert record.count('"tea"') == 1


@pytest.mark.parametrize(
    "order",
    [
        (kit.SHOWN, kit.CLICKED, kit.DISMISSED),
        (kit.DISMISSED, kit.CLICKED, kit.SHOWN),
        (kit.CLICKED, kit.SHOWN, kit.DISMISSED),
    ],
)
@pytest.mark.parametrize("together", [True, False])
async def test_the_order_of_arrival_does_not_matter(
    shop: Shop, order: tuple[int, ...], *, together: bool
) -> None:
    # Given a decision
    decision = await shop.offered("ada", "jam")

    # When what was done at one time arrives in some order
    if together:
        await shop.report(decision, *order)
    else:
        for kind in order:
            await shop.report(decision, kind)

    # Then the user has seen it once, clicked on it once and dismissed it once
    ((record,),) = kit.rows(shop.path, "select record from history")
    subject = Subject("jam", "default", "home", (), 0.2)
    once = Tally((kit.NOON_MS,))
    tallies: dict[EventKind, Tally] = dict.fromkeys(
        ("shown", "clicked", "dismissed"), once
    )
    assert decode_history(record) == History(tracks=(Track(subject, tallies),))


async def test_times_are_held_between_the_decision_and_now(
    shop: Shop, clock: kit.Clock
) -> None:
    # Given a decision a minute ago, and clients whose clocks are a little off
    decision = await shop.offered("ada", "jam")
    clock.advance(kit.MINUTE_MS)

    # When they report a time before the decision and one after now
    await shop.tell(
        decision,
        kit.outcome(kit.SHOWN, at_ms=kit.NOON_MS - 300_000),
        kit.outcome(kit.CLICKED, at_ms=clock() + 300_000),
        kit.outcome(kit.VIEWED),
    )

    # Then the log holds the decision's time, and now
    logged = [
        decode_outcome(record).at_ms
        for (record,) in kit.rows(
            shop.path, "select record from outcomes_v1 order by position"
        )
    ]
    assert logged == [kit.NOON_MS, clock(), clock()]


@contextmanager
def disk(sync: object) -> Iterator[None]:
    """Put something between the store and the disk."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", sync)
        yield


async def test_an_outcome_is_acknowledged_only_when_the_disk_has_it(
    shop: Shop,
) -> None:
    # Given a disk that takes its time
    decision = await shop.offered("ada", "jam")
    really, started, finish = os.fsync, threading.Event(), threading.Event()

    def slow(descriptor: int) -> None:
        started.set()
        assert finish.wait(kit.PATIENCE_S)
        really(descriptor)

    with disk(slow):
        # When an outcome is reported
        report = asyncio.ensure_future(shop.report(decision, kit.SHOWN))
        loop = asyncio.get_running_loop()
        assert await loop.run_in_executor(None, started.wait, kit.PATIENCE_S)

        # Then it is written but not acknowledged while the disk is busy, others are
        # served meanwhile, and a retry is not acknowledged before the disk either
        assert shop.count("outcomes_v1") == 1
        retry = asyncio.ensure_future(shop.report(decision, kit.SHOWN))
        for _ in range(20):
            assert (await shop.ask("bob")).decision_id
        assert not report.done()
        assert not retry.done()
        finish.set()
        (result,) = await report
        (repeated,) = await retry
    assert not result.duplicate
    assert repeated.duplicate


async def test_an_outcome_that_the_disk_refuses_is_not_acknowledged(
    shop: Shop,
) -> None:
    # Given a disk that fails
    decision = await shop.offered("ada", "jam")

    def fail(descriptor: int) -> None:
        raise OSError(5, "input/output error")

    with disk(fail):
        # When an outcome is reported
        refusal = await kit.refused(shop.report(decision, kit.SHOWN))

    # Then it is not acknowledged, and not after the disk says that it is well again,
    # as nobody can say what it has lost
    later = await kit.refused(shop.report(decision, kit.CLICKED))
    for refused in (refusal, later):
        assert refused.code == grpc.StatusCode.UNAVAILABLE
        assert refused.info.reason == "STORE_UNAVAILABLE"
        assert refused.retry_after_s == 1.0


async def test_a_decision_does_not_wait_for_the_disk(shop: Shop) -> None:
    # Given a disk that would never answer
    def never(descriptor: int) -> None:
        raise AssertionError("a decision survives the process, not the power")

    with disk(never):
        # When decisions are made, then they are answered
        for _ in range(10):
            assert (await shop.ask("ada")).decision_id


async def test_a_report_is_stored_whole_or_not_at_all(shop: Shop) -> None:
    # Given a report of which the last outcome is wrong
    decision = await shop.offered("ada", "jam")
    outcomes = [kit.outcome(kit.SHOWN, outcome_id=str(n)) for n in range(99)]

    # When it is sent
    await kit.refused(shop.tell(decision, *outcomes, Outcome()))

    # Then nothing of it is there
    assert shop.count("outcomes_v1") == 0
    await shop.tell(decision, *outcomes)
    assert shop.count("outcomes_v1") == 99
