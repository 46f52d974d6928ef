"""Histories: what is remembered of a user, and that it stays small."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.history import (
    CONFIRMING,
    IMPRESSIONS_MAX,
    REMEMBERED_MS,
    report,
    reserve,
)
from policies.model import (
    Decision,
    Dismissal,
    History,
    Impression,
    Opportunity,
    Outcome,
    OutcomeKind,
    Reservation,
)


def decision(name: str, at_ms: int = 1_000, until_ms: int = 2_000) -> Decision:
    return Decision(
        opportunity=Opportunity(name, at_ms, "ada", ("home",)),
        catalogue="c",
        policy="p",
        model="0.0",
        actions=(0, 1),
        probabilities=(0, 10**9),
        chosen=1,
        valid_until_ms=until_ms,
    )


def tell(
    history: History,
    kind: OutcomeKind,
    at_ms: int = 1_100,
    name: str = "d",
    offer: str = "tea",
    *,
    confirmed: bool = False,
) -> History:
    outcome = Outcome("o", kind, at_ms)
    return report(history, offer, "home", name, outcome, confirmed=confirmed)


HELD = reserve(History(), "tea", "home", decision("d"))


def test_what_is_decided_is_held_until_it_may_not_be_shown() -> None:
    assert HELD.reservations == (Reservation(2_000, "tea", "home", "d"),)

    later = reserve(HELD, "jam", "home", decision("e", at_ms=1_999, until_ms=3_000))
    last = reserve(later, "jam", "home", decision("f", at_ms=2_000, until_ms=3_000))

    assert [r.decision_id for r in later.reservations] == ["d", "e"]
    assert [r.decision_id for r in last.reservations] == ["e", "f"]


@pytest.mark.parametrize("kind", sorted(CONFIRMING))
def test_what_only_a_shown_offer_can_have_makes_a_reservation_an_impression(
    kind: OutcomeKind,
) -> None:
    after = tell(HELD, kind)

    assert after.reservations == ()
    assert after.impressions == (Impression(1_100, "tea", "home"),)
    assert tell(after, kind, 1_200, confirmed=True).impressions == after.impressions


@pytest.mark.parametrize("kind", ["converted", "refunded", "downgraded", "churned"])
def test_what_can_be_without_an_offer_says_nothing_about_it(kind: OutcomeKind) -> None:
    assert tell(HELD, kind) == HELD


def test_what_was_not_shown_is_free_unless_it_was() -> None:
    shown = tell(HELD, "shown")

    assert tell(HELD, "not_shown") == History()
    assert tell(shown, "not_shown", confirmed=True) == shown
    assert tell(HELD, "not_shown", name="other") == HELD


def test_dismissals_are_counted_by_offer_and_the_last_one_is_remembered() -> None:
    once = tell(HELD, "dismissed", 1_500)
    twice = tell(once, "dismissed", 1_200, name="e")
    other = tell(twice, "dismissed", 1_300, offer="jam")

    assert once.dismissals == {"tea": Dismissal(1, 1_500)}
    assert other.dismissals == {"tea": Dismissal(2, 1_500), "jam": Dismissal(1, 1_300)}
    assert HELD.dismissals == {}


def test_a_history_stays_bounded_and_keeps_the_latest_of_each_offer() -> None:
    history = History()
    for at_ms in range(3 * IMPRESSIONS_MAX):
        history = tell(history, "shown", at_ms, offer="tea")
    history = tell(history, "shown", 0, offer="jam")

    tea = [i.at_ms for i in history.impressions if i.offer_id == "tea"]
    assert tea == list(range(2 * IMPRESSIONS_MAX, 3 * IMPRESSIONS_MAX))
    assert len(history.impressions) == IMPRESSIONS_MAX + 1

    later = tell(history, "shown", REMEMBERED_MS + 250, offer="tea")
    tea = [i.at_ms for i in later.impressions if i.offer_id == "tea"]
    assert tea == [*range(251, 3 * IMPRESSIONS_MAX), REMEMBERED_MS + 250]


def test_reservations_stay_bounded_too() -> None:
    history = History()
    for number in range(5 * IMPRESSIONS_MAX):
        history = reserve(history, "tea", "home", decision(f"d{number}"))

    assert len(history.reservations) <= 2 * IMPRESSIONS_MAX


@given(
    st.permutations(
        [
            ("a", "tea", 3, "shown"),
            ("b", "tea", 1, "dismissed"),
            ("c", "jam", 2, "clicked"),
            ("d", "jam", 2, "dismissed"),
            ("e", "tea", 9, "accepted"),
        ]
    )
)
def test_the_order_in_which_decisions_are_heard_of_does_not_matter(
    told: list[tuple[str, str, int, OutcomeKind]],
) -> None:
    history = History()
    for name, offer, at_ms, kind in told:
        history = tell(history, kind, at_ms, name, offer)

    assert [i.at_ms for i in history.impressions] == [1, 2, 2, 3, 9]
    assert history.dismissals == {"tea": Dismissal(1, 1), "jam": Dismissal(1, 2)}


def test_what_goes_in_is_not_changed() -> None:
    before = msgspec.json.encode(HELD)

    tell(HELD, "dismissed")
    reserve(HELD, "jam", "home", decision("e"))

    assert msgspec.json.encode(HELD) == before
