"""Dismissals: an offer stays away for longer each time, and so does a category."""

from __future__ import annotations

import pytest

from policies.gates.base import Because, Ruling
from policies.gates.dismissal import CategoryDismissal, Dismissal
from policies.model import History, Snooze, Tally, Track
from policies.specs import (
    CatalogueSpec,
    CategorySpec,
    DismissalSpec,
    OfferSpec,
    SnoozeSpec,
)
from policies.toml import Duration
from tests.policies.gates.pasts import (
    DAY,
    TEA,
    action,
    ask,
    gates,
    past,
    rule_out,
    subject,
    track,
)

USUAL = gates(Dismissal)


def dismissed(*days: int, about: str = "tea") -> History:
    return past(track(about, *[day * DAY for day in days], kind="dismissed"))


def days_away(made: list[Dismissal], count: int) -> float:
    """Return for how many days an offer stays away after so many dismissals."""
    asked = ask(count * DAY, dismissed(*range(1, count + 1)))
    found = rule_out(made, asked)
    assert found is not None
    assert found.next_eligible_ms is not None
    return found.next_eligible_ms / DAY - count


# --- Offers -----------------------------------------------------------------------


def test_each_dismissal_keeps_an_offer_away_for_twice_as_long() -> None:
    spans = [days_away(USUAL, count) for count in range(1, 9)]

    assert spans == [7, 14, 28, 56, 112, 180, 180, 180]


def test_it_may_come_back_when_the_time_is_over() -> None:
    assert rule_out(USUAL, ask(8 * DAY - 1, dismissed(1))) == Ruling(
        "DISMISSED", 8 * DAY
    )
    assert rule_out(USUAL, ask(8 * DAY, dismissed(1))) is None


def test_a_dismissal_long_ago_makes_the_next_count_more() -> None:
    asked = ask(401 * DAY, dismissed(1, 400))

    assert rule_out(USUAL, asked) == Ruling("DISMISSED", 414 * DAY)


def test_dismissals_count_wherever_and_however_the_offer_was_shown() -> None:
    history = past(
        track("tea/bold/home", 1 * DAY, kind="dismissed"),
        track("tea/calm/banner", 2 * DAY, kind="dismissed"),
    )

    assert rule_out(USUAL, ask(3 * DAY, history)) == Ruling("DISMISSED", 16 * DAY)


def test_what_is_known_by_number_only_counts_too() -> None:
    tally = Tally((10 * DAY,), past=2, past_ms=DAY)
    history = past(Track(subject("tea"), {"dismissed": tally}))

    assert rule_out(USUAL, ask(11 * DAY, history)) == Ruling("DISMISSED", 38 * DAY)


def test_another_offers_dismissal_keeps_nothing_away() -> None:
    assert rule_out(USUAL, ask(2 * DAY, dismissed(1)), action("jam")) is None
    assert rule_out(USUAL, ask(2 * DAY, past(track("tea", DAY)))) is None


@pytest.mark.parametrize(
    ("offer", "spans"),
    [
        (OfferSpec(dismissal_cool_down=Duration(DAY)), [1, 2, 4]),
        (OfferSpec(dismissal_cool_down=Duration(365 * DAY)), [365, 365, 365]),
        (
            OfferSpec(
                dismissal=DismissalSpec(
                    cool_down=Duration(2 * DAY), factor=1.5, longest=Duration(4 * DAY)
                )
            ),
            [2, 3, 4],
        ),
        (OfferSpec(dismissal=DismissalSpec(factor=1.0)), [7, 7, 7]),
        (OfferSpec(dismissal=DismissalSpec(factor=1e300)), [7, 180, 180]),
        (OfferSpec(), [3, 9, 27]),
    ],
)
def test_offers_have_times_of_their_own_or_else_the_catalogues(
    offer: OfferSpec, spans: list[float]
) -> None:
    usual = DismissalSpec(cool_down=Duration(3 * DAY), factor=3.0)
    made = gates(Dismissal, CatalogueSpec(dismissal=usual), offer=offer)

    assert [days_away(made, count) for count in (1, 2, 3)] == spans


def test_no_time_is_no_gate() -> None:
    none = OfferSpec(dismissal_cool_down=Duration(0))

    assert not gates(Dismissal, offer=none)


def test_whoever_snoozes_too_often_has_dismissed() -> None:
    def snoozed(count: int) -> History:
        return past(snoozes={"tea": Snooze(2 * DAY, count, DAY)})

    assert rule_out(USUAL, ask(3 * DAY, snoozed(3))) is None
    assert rule_out(USUAL, ask(3 * DAY, snoozed(4))) == Ruling("DISMISSED", 8 * DAY)
    assert rule_out(USUAL, ask(3 * DAY, snoozed(5))) == Ruling("DISMISSED", 15 * DAY)


def test_how_often_is_too_often_is_a_setting() -> None:
    history = past(snoozes={"tea": Snooze(2 * DAY, 1, DAY)})
    never = OfferSpec(snooze=SnoozeSpec(repeats=0))
    catalogue = CatalogueSpec(snooze=SnoozeSpec(repeats=0))

    for made in (gates(Dismissal, offer=never), gates(Dismissal, catalogue)):
        assert rule_out(made, ask(3 * DAY, history)) == Ruling("DISMISSED", 8 * DAY)


def test_snoozes_too_many_and_dismissals_add_up() -> None:
    history = past(
        track("tea", 5 * DAY, kind="dismissed"), snoozes={"tea": Snooze(DAY, 4, DAY)}
    )

    assert rule_out(USUAL, ask(6 * DAY, history)) == Ruling("DISMISSED", 19 * DAY)


def test_it_says_how_often_and_for_how_long() -> None:
    (gate,) = USUAL

    assert gate.because(TEA, ask(2 * DAY, dismissed(1))) == Because(
        "dismissed once, last at 1970-01-02 00:00:00 UTC", "not dismissed for 7d"
    )
    assert gate.because(TEA, ask(2 * DAY, dismissed(0, 1))) == Because(
        "dismissed 2 times, last at 1970-01-02 00:00:00 UTC", "not dismissed for 14d"
    )


# --- Categories -------------------------------------------------------------------

DRINKS = OfferSpec(categories=("drinks",))


def drinks(spec: CategorySpec) -> list[CategoryDismissal]:
    catalogue = CatalogueSpec(categories={"drinks": spec})
    return gates(CategoryDismissal, catalogue, offer=DRINKS)


def waved_away(*days: float, categories: tuple[str, ...] = ("drinks",)) -> History:
    """Return a past in which different offers of a category were dismissed."""
    return past(
        *[
            track(subject(f"offer{n}", *categories), round(day * DAY), kind="dismissed")
            for n, day in enumerate(days)
        ]
    )


TWICE = drinks(CategorySpec())


def test_two_dismissals_in_a_month_keep_the_category_away_for_a_month() -> None:
    assert rule_out(TWICE, ask(3 * DAY, waved_away(1))) is None
    assert rule_out(TWICE, ask(21 * DAY, waved_away(1, 20))) == Ruling(
        "CATEGORY_COOL_DOWN", 50 * DAY
    )
    assert rule_out(TWICE, ask(50 * DAY, waved_away(1, 20))) is None


def test_dismissals_too_far_apart_keep_nothing_away() -> None:
    assert rule_out(TWICE, ask(32 * DAY, waved_away(1, 31))) is None
    assert rule_out(TWICE, ask(32 * DAY, waved_away(1, 30.9))) is not None


def test_what_came_of_several_stands_when_one_more_comes_later() -> None:
    week = CategorySpec(dismissals_window=Duration(7 * DAY))

    found = rule_out(drinks(week), ask(21 * DAY, waved_away(1, 2, 20)))

    assert found == Ruling("CATEGORY_COOL_DOWN", 32 * DAY)


def test_a_category_is_what_the_offers_belonged_to_when_they_were_dismissed() -> None:
    elsewhere = waved_away(1, 2, categories=("food",))

    assert rule_out(TWICE, ask(3 * DAY, elsewhere)) is None
    assert rule_out(TWICE, ask(3 * DAY)) is None


def test_the_same_offer_dismissed_twice_is_two_dismissals() -> None:
    history = past(track(subject("tea", "drinks"), DAY, 2 * DAY, kind="dismissed"))

    assert rule_out(TWICE, ask(3 * DAY, history)) is not None


def test_a_dismissal_by_one_of_a_household_keeps_it_from_the_others() -> None:
    family = drinks(CategorySpec(household=True))
    asked = ask(3 * DAY, past(), waved_away(1))

    assert rule_out(family, asked) == Ruling("CATEGORY_COOL_DOWN", 31 * DAY)
    assert rule_out(TWICE, asked) is None
    assert family[0].because(TEA, asked) == Because(
        "drinks dismissed in the account, last at 1970-01-02 00:00:00 UTC",
        "none dismissed for 30d",
    )


def test_who_has_no_household_is_none() -> None:
    family = drinks(CategorySpec(household=True))

    assert rule_out(family, ask(3 * DAY, waved_away(1))) is None
    assert rule_out(family, ask(3 * DAY, past(), past(zone="UTC"))) is None


def test_a_household_may_be_all_that_counts() -> None:
    family = drinks(CategorySpec(dismissals=0, household=True))
    mine = waved_away(1, 2)

    assert rule_out(family, ask(3 * DAY, mine)) is None
    assert rule_out(family, ask(3 * DAY, mine, mine)) is not None


@pytest.mark.parametrize(
    "spec", [CategorySpec(dismissals=0), CategorySpec(cool_down=Duration(0))]
)
def test_no_number_and_no_time_are_no_gate(spec: CategorySpec) -> None:
    assert not drinks(spec)


def test_it_says_how_many_were_dismissed() -> None:
    asked = ask(3 * DAY, waved_away(0, 1))

    assert TWICE[0].because(TEA, asked) == Because(
        "offers of drinks dismissed, 2 in 30d, last at 1970-01-02 00:00:00 UTC",
        "none dismissed for 30d",
    )
