"""What gates see: the same past, looked at from several sides."""

from __future__ import annotations

import math
from collections import Counter
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.gates.base import Happening, Per, Situation
from policies.model import (
    NO_HISTORY,
    Conditions,
    Context,
    EventKind,
    History,
    Opportunity,
    Preferences,
    Session,
    Snooze,
    State,
    Tally,
    Track,
)
from policies.rules import Rule
from tests.policies.gates.pasts import ask, held, past, subject, track

KINDS: tuple[EventKind, ...] = get_args(EventKind)
times = st.integers(0, 50)
tallies = st.builds(
    Tally,
    st.lists(times, max_size=4).map(lambda found: tuple(sorted(found))),
    st.integers(0, 2),
    times,
)
names = st.sampled_from(["tea", "jam", "tea//banner"])
pasts = st.builds(
    lambda tracks, reserved: past(*tracks, reserved=reserved),
    st.lists(
        st.builds(
            lambda name, found: Track(subject(name), found),
            names,
            st.dictionaries(st.sampled_from(KINDS), tallies),
        ),
        max_size=4,
    ),
    st.lists(st.builds(held, times, names), max_size=3),
)
everybody = st.sampled_from(get_args(Per))


@given(mine=pasts, ours=pasts, per=everybody, kind=st.sampled_from(KINDS))
def test_all_looks_at_a_past_agree(
    mine: History, ours: History, per: Per, kind: EventKind
) -> None:
    now = 20
    asked = ask(now, mine, ours)
    every = asked.happenings(kind, per)

    for offer in ("tea", "jam", "oats"):
        of_offer = [h for h in every if h.subject.offer_id == offer]
        last_ms = asked.last_ms(offer, kind, per)
        assert Counter(asked.happenings_of(offer, kind, per)) == Counter(of_offer)
        assert last_ms >= max([h.at_ms for h in of_offer], default=-math.inf)
        assert of_offer or last_ms in {math.inf, -math.inf}
    for since_ms in (15, 0, 30, 15):
        recent = [h for h in every if h.reserved or h.at_ms >= since_ms]
        assert Counter(asked.since(kind, since_ms, per)) == Counter(recent)


def test_a_past_is_the_users_or_the_accounts() -> None:
    asked = ask(10, past(track("tea", 1)), past(track("jam", 2)))

    assert asked.happenings("shown") == [Happening(1, subject("tea"))]
    assert asked.happenings("shown", "account") == [Happening(2, subject("jam"))]


def test_who_has_no_account_is_one() -> None:
    asked = ask(10, past(track("tea", 1)))

    assert asked.happenings("shown", "account") == asked.happenings("shown")
    assert asked.since("shown", 0, "account") == asked.since("shown", 0)
    assert asked.happenings_of("tea", "shown", "account")


def test_what_is_known_by_number_only_comes_at_most_a_thousand_times() -> None:
    many = Track(subject("tea"), {"shown": Tally((5,), past=2_000, past_ms=3)})
    asked = ask(10, past(many))

    assert len(asked.happenings("shown")) == 1_001
    assert len(asked.since("shown", 4)) == 1


def test_a_reservation_that_is_over_is_none() -> None:
    asked = ask(10, past(reserved=[held(10), held(11)]))

    assert asked.happenings("shown") == [Happening(11, subject("tea"), reserved=True)]


def test_it_knows_the_offers_that_something_is_known_of() -> None:
    history = past(
        track("tea", 1),
        reserved=[held(1, "jam")],
        snoozes={"oats": Snooze(1, 1, 1)},
        preferences=Preferences(opt_outs={"offer:nuts": 1, "category:food": 1}),
    )
    stopped = Conditions(
        ("category:food", "offer:figs"), ("budget:x", "inventory:kiwi")
    )
    opportunity = Opportunity("d", 2, "ada", ("home",), earlier=(("plum", "home"),))

    asked = Situation(opportunity, history, past(track("rice", 1)), stopped)

    assert asked.named == {"oats", "nuts", "figs", "kiwi", "plum"}
    assert asked.touched == asked.named | {"tea", "jam", "rice"}
    assert not ask(2).touched


def test_products_are_those_of_the_user_and_of_the_account() -> None:
    mine = past(state=State(owned={"a": 1}, pending={"c": 20, "d": 30, "e": 5}))
    ours = past(state=State(owned={"b": 2}, pending={"c": 30, "d": 20, "f": 10}))

    asked = ask(10, mine, ours)

    assert asked.owned == {"a": 1, "b": 2}
    assert asked.pending == {"c": 30, "d": 30}
    assert ask(10, mine).pending == {"c": 20, "d": 30}


@pytest.mark.parametrize(
    ("said", "mine", "ours", "role"),
    [
        ("guest", "admin", "owner", "guest"),
        ("", "admin", "owner", "admin"),
        ("", "", "owner", "owner"),
        ("", "", "", ""),
    ],
)
def test_a_request_knows_the_role_best(
    said: str, mine: str, ours: str, role: str
) -> None:
    users, accounts = past(state=State(role=mine)), past(state=State(role=ours))

    assert ask(0, users, accounts, context=Context(role=said)).role == role


def test_a_visit_began_with_its_first_decision() -> None:
    history = past(sessions=(Session("a", 1), Session("b", 2)))

    assert ask(9, history, session="b").session_since_ms() == 2
    assert ask(9, history, session="b").session_since_ms("account") == 2
    assert ask(9, history, session="c").session_since_ms() is None
    assert ask(9, NO_HISTORY, session="c").session_since_ms() is None


@pytest.mark.parametrize(
    ("mine", "ours", "zone"),
    [
        ("Asia/Tokyo", "Asia/Dubai", "Asia/Tokyo"),
        ("", "Asia/Dubai", "Asia/Dubai"),
        ("", "", "Europe/Berlin"),
        ("Mars/Olympus_Mons", "", "Europe/Berlin"),
    ],
)
def test_a_zone_is_the_users_the_accounts_or_the_catalogues(
    mine: str, ours: str, zone: str
) -> None:
    asked = ask(0, past(zone=mine), past(zone=ours), zone="Europe/Berlin")

    assert asked.zone.key == zone


def test_a_rule_is_evaluated_once() -> None:
    rule = Rule("segment == 'a'", {})
    asked = ask(0, context=Context(segment="a"))

    assert asked.holds(rule)
    assert asked.holds(rule)
