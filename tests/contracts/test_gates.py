"""The contract of gates, kept by every one: pure, monotone, right about time.

A new gate is tested by being one of `GATES`: it must come about in one of the two
catalogues below, and must rule something out in one of the moments that are drawn.
"""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import Phase, given, seed, settings
from hypothesis import strategies as st

from policies import gates
from policies.gates import ALIKE, GATES, Facts, Gate, Moments, Ruling, Situation
from policies.model import (
    NO_HISTORY,
    Action,
    Conditions,
    Context,
    EventKind,
    History,
    Lease,
    LifeState,
    Moment,
    Opportunity,
    Preferences,
    QuietHours,
    Reservation,
    Session,
    Snooze,
    State,
    Subject,
    Tally,
    Track,
    Usage,
)
from policies.rules import Expression, Rule
from policies.specs import CatalogueSpec, CreativeSpec, QuietSpec, SentimentSpec
from policies.toml import parse

CATALOGUE = """
zone = "Europe/Berlin"
buyers = ["admin"]
value_discovered = "features.tenure > 30.0"
caps = [{ limit = 6, window = "2d" }, { limit = 2, session = true, counts = "clicked" }]
attention = { budget = 4.0, window = "1d" }
spacing = { interruptive = "3h", per_session = 2 }
quiet_hours = { start = "22:00", end = "02:30" }
fatigue = { ignored = 3, pause = "2d" }
engagement = { low = "segment == 'idle'", high = "segment == 'keen'" }
contacts = { cool_down = "1d" }
snooze = { repeats = 1 }
holdout = { share = 0.5 }

[features.tenure]
type = "number"

[categories.drinks]
dismissals_window = "2d"
cool_down = "3d"
caps = [
    { limit = 2, window = "6h" },
    { limit = 1, calendar = "day", counts = "accepted" },
]
[categories.food]
dismissals = 3
household = true
caps = [{ limit = 3, calendar = "week", per = "account" }]

[suppressors.moving]
blocks = "interrupts"
categories = ["food"]
cool_down = "1d"

[products.basic]
price = 10
limit = 5.0
[products.pro]
price = 15
limit = 50.0
[products.max]
price = 100
[products.flow]
metered = true
[ladders.plans]
rungs = ["basic", "pro", "max"]
usage = "seats"
[budgets.spring]
amount = 1000

[placements.door]
kind = "modal"
caps = [{ limit = 1, calendar = "day" }]
[placements.bar]
kind = "banner"
categories = ["drinks"]
[placements.list]
slots = 2
comparison = true

[offers.tea]
placements = ["door", "bar", "list"]
categories = ["drinks"]
caps = [
    { limit = 1, window = "1d" },
    { limit = 2, window = "3d", across = "placement" },
    { limit = 2, calendar = "month", scales = false },
    { limit = 3 },
    { limit = 1, session = true },
    { limit = 2, counts = "decided", window = "2h" },
]
limit = { usage = "seats", to_share = 10.0 }
[offers.tea.creatives.bold]
caps = [{ limit = 1, calendar = "day" }]
[offers.tea.creatives.calm.parameters.left]
value = "usage.seats.limit - usage.seats.value"

[offers.jam]
placements = ["list", "bar"]
categories = ["food", "drinks"]
price = 5
discount = 2
budget = "spring"
inventory = 100
eligible = "segment != 'idle'"
applicable = "usage.seats.value > 2.0"
suitable = "!('flow' in owned)"
dismissal = { cool_down = "12h", factor = 2.0, longest = "2d" }

[offers.pro]
placements = ["door", "list"]
grants = ["pro"]
ladder = "plans"
price = 15
limit = { usage = "seats" }

[offers.max]
placements = ["door", "list"]
grants = ["max"]
ladder = "plans"
anchor = true
dismissal = { cool_down = "1d", factor = 3.0 }

[offers.pair]
placements = ["list"]
kind = "bundle"
grants = ["basic", "flow"]
complements = ["pro"]
[offers.help]
placements = ["list", "door", "bar"]
kind = "free_help"
requires = ["basic"]
grants = ["flow"]
moments = ["limit_hit"]

[offers.xmas]
placements = ["list"]
state = "paused"
start = 2026-03-27T12:00:00Z
end = 2026-03-30T12:00:00Z
"""


def catalogues() -> Iterator[CatalogueSpec]:
    """Yield two catalogues, for settings that exclude each other."""
    spec = parse(CATALOGUE, "contract").convert(CatalogueSpec)
    assert spec is not None
    yield spec
    yield msgspec.structs.replace(
        spec,
        sentiment=SentimentSpec(blocks="interrupts"),
        quiet_hours=QuietSpec(blocks="interrupts"),
    )


class Made(NamedTuple):
    """A gate as a catalogue makes it, for an action that it is asked about."""

    gate: Gate
    action: Action


@cache
def compiled(kind: type[Any], source: str) -> Any:
    return kind(source, {"tenure": 1.0})


def facts_of(spec: CatalogueSpec) -> Iterator[tuple[Facts, Action]]:
    """Yield what gates are made from, for each action of a catalogue."""
    for offer_id, offer in spec.offers.items():
        for creative_id, creative in (offer.creatives or PLAIN).items():
            for placement_id in offer.placements:
                facts = Facts(
                    spec,
                    lambda source: compiled(Rule, source),
                    lambda source: compiled(Expression, source),
                    offer_id,
                    offer,
                    placement_id,
                    spec.placements[placement_id],
                    creative_id,
                    creative,
                )
                yield facts, Action(1, offer_id, creative_id, placement_id, ())


PLAIN = {"default": CreativeSpec()}
SPECS = list(catalogues())
EVERY = [(facts, action) for spec in SPECS for facts, action in facts_of(spec)]
MADE = [
    Made(gate, action)
    for kind in GATES
    for facts, action in EVERY
    for gate in kind.of(facts)
]
ONCE = list(
    {
        (m.gate, m.action if m.gate.scope == "action" else m.action.offer_id): m
        for m in MADE
    }.values()
)

# --- Moments ----------------------------------------------------------------------

HOUR = 3_600_000
DAY = 24 * HOUR
START = 1_774_569_600_000  # 27 March 2026, two days before clocks change in Europe.

OFFERS = list(SPECS[0].offers)
CATEGORIES = st.sampled_from([(), ("drinks",), ("food",), ("food", "drinks")])
KINDS: list[EventKind] = ["decided", "shown", "clicked", "accepted", "dismissed"]
# Much happens with few of them, so that there is enough to be ruled out for.
offers = st.sampled_from(["tea", "tea", "tea", "jam", "jam", "help", *OFFERS])
placements = st.sampled_from(["door", "bar", "list", "gone"])
users = st.sampled_from(["ada", "bob", "eve", "joe", "sue"])

# Quarters of an hour, for things must fall together, and any time.
now = st.integers(START, START + 4 * DAY) | st.integers(0, 4 * 96).map(
    lambda quarters: START + quarters * HOUR // 4
)
then = st.integers(-8 * 24, 8 * 24).map(lambda hours: START + hours * HOUR)
later = st.integers(0, 3 * 24).map(lambda hours: START + hours * HOUR)

subjects = st.builds(
    Subject,
    offers,
    st.sampled_from(["bold", "calm", "default"]),
    placements,
    CATEGORIES,
    st.sampled_from([0.2, 1.0, 3.0]),
)
tallies = st.builds(
    Tally,
    st.lists(then, max_size=3).map(lambda times: tuple(sorted(times))),
    st.sampled_from([0, 0, 0, 1, 4]),
    then,
)
tracks = st.builds(
    Track,
    subjects,
    st.dictionaries(st.sampled_from(["shown", "shown", *KINDS]), tallies, min_size=1),
)
reservations = st.builds(Reservation, then, st.just("earlier"), subjects)
snoozes = st.builds(Snooze, then, st.integers(1, 3), then, st.booleans())
life_states = st.builds(
    LifeState, then, st.none() | later, st.none() | then, CATEGORIES, st.booleans()
)
LIFE = ["support_open", "incident", "payment_failed", "trial_first_session", "moving"]
states = st.builds(
    State,
    role=st.sampled_from(["", "admin", "guest"]),
    engagement=st.sampled_from(["", "low", "high"]),
    value_discovered=st.booleans(),
    owned=st.dictionaries(st.sampled_from(["basic", "pro", "flow"]), then, max_size=2),
    pending=st.dictionaries(st.sampled_from(["pro", "max", "flow"]), then, max_size=1),
    life=st.dictionaries(st.sampled_from(LIFE), life_states, max_size=1),
)
SCOPES = ["all", *(f"offer:{o}" for o in OFFERS), "category:food", "category:drinks"]
minutes = st.integers(0, 95).map(lambda quarters: quarters * 15)
opt_outs = st.dictionaries(st.sampled_from(SCOPES), then, max_size=1)
preferences = st.builds(
    Preferences,
    opt_outs,
    st.sampled_from(["", "Europe/Berlin", "America/New_York", "Pacific/Apia"]),
    st.none() | st.builds(QuietHours, minutes, minutes),
)
leases = st.dictionaries(
    st.sampled_from(["pay", "call"]), st.builds(Lease, later, st.booleans()), max_size=1
)
contacts = st.dictionaries(st.sampled_from(["", "food"]), then, max_size=1)
histories = st.builds(
    History,
    tracks=st.lists(tracks, max_size=4).map(tuple),
    reservations=st.lists(reservations, max_size=2).map(tuple),
    snoozes=st.dictionaries(offers, snoozes, max_size=2),
    sessions=st.just(()) | then.map(lambda since_ms: (Session("visit", since_ms),)),
    ignored=st.integers(0, 4),
    leases=leases,
    contacts=contacts,
    negative_ms=st.none() | then,
    state=states,
    preferences=preferences,
)
usages = st.builds(
    Usage,
    st.sampled_from([1.0, 9.0, 20.0, 60.0]),
    st.sampled_from([None, 10.0, 50.0]),
    st.sampled_from([None, 0.5, 3.0]),
    st.none() | then,
    st.none() | later,
)
contexts = st.builds(
    Context,
    role=st.sampled_from(["", "admin", "guest"]),
    segment=st.sampled_from(["", "idle", "keen"]),
    usage=st.dictionaries(st.just("seats"), usages),
    moment=st.sampled_from([Moment(), Moment("limit_hit"), Moment("milestone")]),
    features=st.sampled_from([{}, {"tenure": 3.0}, {"tenure": 90.0}]),
    cart=st.sampled_from([(), ("pro",), ("basic", "flow")]),
)
conditions = st.builds(
    Conditions,
    st.sampled_from([(), ("all",), ("category:food",), ("offer:tea", "placement:bar")]),
    st.sampled_from(
        [(), ("budget:spring", "inventory:jam"), ("budget:spring:2026-03-28",)]
    ),
)


class When(NamedTuple):
    """A moment at which gates are asked."""

    opportunity: Opportunity
    history: History = NO_HISTORY
    account: History = NO_HISTORY
    conditions: Conditions = Conditions()

    def situation(self, at_ms: int | None = None) -> Situation:
        """Return what gates see then, or at another time if nothing else happens."""
        opportunity = self.opportunity
        if at_ms is not None:
            opportunity = msgspec.structs.replace(opportunity, at_ms=at_ms)
        return Situation(
            opportunity,
            self.history,
            self.account,
            self.conditions,
            zone="Europe/Berlin",
        )


moments = st.builds(
    When,
    st.builds(
        Opportunity,
        st.just("d"),
        now,
        users,
        st.just(("door", "bar", "list")),
        session_id=st.sampled_from(["", "visit"]),
        context=contexts,
        earlier=st.lists(st.tuples(offers, placements), max_size=3).map(tuple),
    ),
    st.just(NO_HISTORY) | histories,
    st.just(NO_HISTORY) | histories,
    conditions,
)
# What fails names the gate. To make its moment small, too, takes minutes; leave out the
# phases for that.
many = settings(
    deadline=None,
    max_examples=100,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)


def asked(made: Made, situation: Situation) -> Ruling | None:
    """Ask as the engine does: what is of history only where there is any."""
    gate, action = made
    if gate.of_history and action.offer_id not in situation.touched:
        return None
    return gate.reject(action, situation)


def waiting(ruling: Ruling) -> float:
    """Return when it lets through; infinity where it never does by itself."""
    return math.inf if ruling.next_eligible_ms is None else ruling.next_eligible_ms


# --- What they are ----------------------------------------------------------------

every_kind = pytest.mark.parametrize("kind", GATES, ids=lambda kind: kind.__name__)


def test_all_gates_are_exported_and_nothing_else_is_a_gate() -> None:
    exported = {
        value
        for name in gates.__all__
        if isinstance(value := getattr(gates, name), type)
        and value is not Gate
        and hasattr(value, "reject")
    }

    assert exported == set(GATES)
    assert len(GATES) == len(exported)


def test_a_name_and_a_scope_say_which_gate_it_is() -> None:
    names = {(kind.name, kind.scope) for kind in GATES}

    assert len(names) == len(GATES)


def test_critical_offers_go_past_caps_attention_spacing_and_fatigue_alone() -> None:
    assert {kind.name for kind in GATES if kind.bypassed} == {
        "attention",
        "category_cap",
        "creative_cap",
        "fatigue",
        "offer_cap",
        "placement_cap",
        "session_limit",
        "spacing",
    }


@every_kind
def test_a_gate_is_a_frozen_value(kind: type[Gate]) -> None:
    made = next(m.gate for m in MADE if type(m.gate) is kind)

    assert dataclasses.replace(made) == made  # type: ignore[type-var]
    assert not hasattr(made, "__dict__")
    for field in dataclasses.fields(made):  # type: ignore[arg-type]
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(made, field.name, 1)


@every_kind
def test_equal_settings_make_equal_gates(kind: type[Gate]) -> None:
    twice = [list(kind.of(facts)) for facts, _ in EVERY]
    again = [list(kind.of(facts)) for facts, _ in EVERY]

    assert twice == again
    assert [[hash(g) for g in made] for made in twice] == [
        [hash(g) for g in made] for made in again
    ]


@every_kind
def test_a_gate_of_a_scope_is_made_of_nothing_else(kind: type[Gate]) -> None:
    blank = Facts(SPECS[0], EVERY[0][0].rule, EVERY[0][0].expression)
    kept = {
        "placement": ("placement_id", "placement"),
        "offer": ("offer_id", "offer"),
        "action": (
            "placement_id",
            "placement",
            "offer_id",
            "offer",
            "creative_id",
            "creative",
        ),
    }[kind.scope]

    for facts, _ in EVERY:
        if facts.catalogue is SPECS[0]:
            only = blank._replace(**{name: getattr(facts, name) for name in kept})
            assert list(kind.of(only)) == list(kind.of(facts))


def test_every_gate_rules_something_out_at_some_moment() -> None:
    found: set[type[Gate]] = set()

    @settings(deadline=None, database=None, max_examples=200, phases=[Phase.generate])
    @given(moment=moments)
    def look(moment: When) -> None:
        situation = moment.situation()
        for made in ONCE:
            if type(made.gate) not in found and asked(made, situation) is not None:
                found.add(type(made.gate))

    # Some are seldom: which moments come depends on numbers in the code, too.
    for number in range(20):
        seed(number)(look)()
        if found >= set(GATES):
            break
    assert set(GATES) - found == set()


# --- What they do -----------------------------------------------------------------


@many
@given(moment=moments)
def test_a_gate_says_the_same_each_time_and_changes_nothing(moment: When) -> None:
    before = msgspec.json.encode(moment)
    situation = moment.situation()
    turned = moment._replace(history=turned_round(moment.history)).situation()

    for made in ONCE:
        first = asked(made, situation)
        assert asked(made, situation) == first, made
        assert asked(made, moment.situation()) == first, made
        assert asked(made, turned) == first, made
    assert msgspec.json.encode(moment) == before


def turned_round(history: History) -> History:
    return msgspec.structs.replace(
        history, tracks=history.tracks[::-1], reservations=history.reservations[::-1]
    )


@many
@given(moment=moments)
def test_a_gate_that_rejects_says_why_in_a_code_and_in_words(moment: When) -> None:
    situation = moment.situation()

    for made in ONCE:
        ruling = asked(made, situation)
        if ruling is not None:
            assert ruling.reason.isupper(), made
            assert ruling.reason.replace("_", "").isalnum(), made
            found, needed = made.gate.because(made.action, situation)
            assert found.strip(), made
            assert needed.strip(), made


@many
@given(moment=moments)
def test_when_it_is_eligible_again_is_the_first_moment_at_which_it_is(
    moment: When,
) -> None:
    at_ms = moment.opportunity.at_ms
    situation = moment.situation()

    for made in ONCE:
        ruling = asked(made, situation)
        if ruling is None:
            continue
        next_ms = ruling.next_eligible_ms
        if next_ms is None:
            waits = [1, HOUR, 3 * DAY, 400 * DAY]
        else:
            assert type(next_ms) is int, made
            assert next_ms > at_ms, made
            assert asked(made, moment.situation(next_ms)) is None, made
            left = next_ms - at_ms
            waits = [left // 3, left // 2, left - 1]
        for wait in waits:
            held = asked(made, moment.situation(at_ms + wait))
            assert held is not None, (made, wait)
            assert held.next_eligible_ms == next_ms, (made, wait)


@st.composite
def more_of(draw: st.DrawFn, history: History, at_ms: int) -> History:
    """Draw a past in which the same has happened, and more."""
    return msgspec.structs.replace(
        history,
        tracks=(*history.tracks, *draw(st.lists(tracks, max_size=3))),
        reservations=(*history.reservations, *draw(st.lists(reservations, max_size=2))),
        ignored=history.ignored + draw(st.integers(0, 2)),
        snoozes={
            **history.snoozes,
            **{
                offer: again(history.snoozes.get(offer), until_ms)
                for offer, until_ms in draw(
                    st.dictionaries(offers, later, max_size=2)
                ).items()
                if until_ms > at_ms
            },
        },
        leases=draw(leases) | history.leases,
        contacts=latest(history.contacts, draw(contacts)),
        preferences=msgspec.structs.replace(
            history.preferences,
            opt_outs=draw(opt_outs) | history.preferences.opt_outs,
        ),
    )


def again(snooze: Snooze | None, until_ms: int) -> Snooze:
    if snooze is None:
        return Snooze(until_ms, 1, START)
    return Snooze(max(until_ms, snooze.until_ms), snooze.count + 1, snooze.at_ms)


def latest(times: Mapping[str, int], others: Mapping[str, int]) -> dict[str, int]:
    both = times.keys() | others.keys()
    return {key: max(times.get(key, 0), others.get(key, 0)) for key in both}


@many
@given(data=st.data(), moment=moments)
def test_more_of_a_past_lets_nothing_through_that_less_ruled_out(
    data: st.DataObject, moment: When
) -> None:
    at_ms = moment.opportunity.at_ms
    account = moment.account
    if account is not NO_HISTORY:
        account = data.draw(more_of(account, at_ms))
    history = data.draw(more_of(moment.history, at_ms))
    less = moment.situation()
    more = moment._replace(history=history, account=account).situation()

    for made in ONCE:
        ruling = asked(made, less)
        # A snooze brings back what the moment rules out: the user has asked for it.
        if ruling is not None and not isinstance(made.gate, Moments):
            longer = asked(made, more)
            assert longer is not None, made
            assert waiting(longer) >= waiting(ruling), made


@many
@given(moment=moments)
def test_a_gate_looks_at_no_more_than_its_scope_names(moment: When) -> None:
    situation = moment.situation()
    rulings: dict[tuple[Gate, str], set[Ruling | None]] = defaultdict(set)

    for gate, action in MADE:
        if gate.scope == "placement":
            rulings[gate, action.placement_id].add(gate.reject(action, situation))
        elif gate.scope == "offer":
            rulings[gate, action.offer_id].add(gate.reject(action, situation))
            if type(gate) in ALIKE and action.offer_id not in situation.named:
                rulings[gate, ""].add(gate.reject(action, situation))
        if gate.of_history and action.offer_id not in situation.touched:
            assert gate.reject(action, situation) is None, (gate, action)
    assert all(len(different) == 1 for different in rulings.values())


@many
@given(moment=moments, offer=offers)
def test_what_is_of_history_looks_at_no_other_offers(moment: When, offer: str) -> None:
    alone = moment._replace(
        history=only(moment.history, offer), account=only(moment.account, offer)
    )

    for made in ONCE:
        if made.gate.of_history and made.action.offer_id == offer:
            expected = asked(made, moment.situation())
            assert asked(made, alone.situation()) == expected, made


def only(history: History, offer: str) -> History:
    if history is NO_HISTORY:
        return history
    return msgspec.structs.replace(
        history,
        tracks=tuple(t for t in history.tracks if t.subject.offer_id == offer),
        reservations=tuple(
            r for r in history.reservations if r.subject.offer_id == offer
        ),
        snoozes={k: v for k, v in history.snoozes.items() if k == offer},
    )
