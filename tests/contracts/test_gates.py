"""The contract of gates, kept by every one: pure, monotone, right about time.

A new gate is tested by being given a way to be made here.
"""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies import gates
from policies.gates import (
    Dates,
    DismissalCoolDown,
    Eligibility,
    FrequencyCap,
    Gate,
    Ruling,
    Situation,
)
from policies.model import (
    Context,
    Dismissal,
    History,
    Impression,
    Opportunity,
    Reservation,
)
from policies.rules import Rule

OFFERS = ["tea", "jam"]
fast = settings(deadline=None, max_examples=40)

times = st.integers(0, 2_000)
offers = st.sampled_from(OFFERS)
spans = st.integers(1, 1_000)
GATES: dict[str, st.SearchStrategy[Gate]] = {
    "FrequencyCap": st.builds(
        FrequencyCap, limit=st.integers(1, 5), window_ms=st.none() | spans
    ),
    "DismissalCoolDown": st.builds(DismissalCoolDown, spans),
    # The catalogue lets no offer end before it starts.
    "Dates": st.builds(
        Dates,
        start_ms=st.none() | st.integers(0, 999),
        end_ms=st.none() | st.integers(1_000, 2_000),
    ),
    "Eligibility": st.sampled_from(["segment == 'a'", "usage.x.value > 3.0"]).map(
        lambda source: Eligibility(Rule(source, {}))
    ),
}
every_gate = pytest.mark.parametrize("name", GATES)

impressions = st.builds(Impression, times, offers, st.just("home"))
reservations = st.builds(
    Reservation, times, offers, st.just("home"), st.text("abc", min_size=1, max_size=3)
)
dismissals = st.dictionaries(offers, st.builds(Dismissal, st.integers(1, 5), times))
histories = st.builds(
    History,
    st.lists(impressions, max_size=8).map(lambda i: tuple(sorted(i))),
    st.lists(reservations, max_size=4).map(tuple),
    dismissals,
)
contexts = st.builds(Context, segment=st.sampled_from(["", "a", "b"]))


def ruling(
    gate: Gate, history: History, at_ms: int, context: Context | None = None
) -> Ruling | None:
    opportunity = Opportunity(
        "d", at_ms, "ada", ("home",), context=context or Context()
    )
    return gate.reject("tea", Situation(opportunity, history))


def test_every_gate_is_tested_here() -> None:
    made = {
        name for name in gates.__all__ if name not in {"Gate", "Ruling", "Situation"}
    }

    assert made == GATES.keys()


@every_gate
@fast
@given(data=st.data(), history=histories, at_ms=times, context=contexts)
def test_a_gate_says_the_same_each_time_and_changes_nothing(
    name: str, data: st.DataObject, history: History, at_ms: int, context: Context
) -> None:
    gate = data.draw(GATES[name])
    before = msgspec.json.encode(history)
    situation = Situation(Opportunity("d", at_ms, "ada", ("home",)), history)

    first = gate.reject("tea", situation)

    assert gate.reject("tea", situation) == first
    assert ruling(gate, history, at_ms) == first
    assert msgspec.json.encode(history) == before


@every_gate
@fast
@given(
    data=st.data(),
    history=histories,
    at_ms=times,
    seen=st.lists(impressions, min_size=1, max_size=4),
    held=st.lists(reservations, max_size=3),
    dismissed=times,
)
def test_more_of_a_past_lets_nothing_through_that_less_ruled_out(  # noqa: PLR0917
    name: str,
    data: st.DataObject,
    history: History,
    at_ms: int,
    seen: list[Impression],
    held: list[Reservation],
    dismissed: int,
) -> None:
    gate = data.draw(GATES[name])
    old = history.dismissals.get("tea", Dismissal(0, 0))
    more = History(
        tuple(sorted([*history.impressions, *seen])),
        (*history.reservations, *held),
        {
            **history.dismissals,
            "tea": Dismissal(old.count + 1, max(old.at_ms, dismissed)),
        },
    )

    less_ruling = ruling(gate, history, at_ms)
    more_ruling = ruling(gate, more, at_ms)

    if less_ruling is not None:
        assert more_ruling is not None
        if more_ruling.next_eligible_ms is not None:
            assert less_ruling.next_eligible_ms is not None
            assert more_ruling.next_eligible_ms >= less_ruling.next_eligible_ms


@every_gate
@fast
@given(data=st.data(), history=histories, at_ms=times)
def test_when_it_is_eligible_again_is_the_first_moment_at_which_it_is(
    name: str, data: st.DataObject, history: History, at_ms: int
) -> None:
    gate = data.draw(GATES[name])
    first = ruling(gate, history, at_ms)

    if first is None or first.next_eligible_ms is None:
        return
    assert first.next_eligible_ms > at_ms
    for before in {at_ms, (at_ms + first.next_eligible_ms) // 2}:
        assert ruling(gate, history, before) is not None
    assert ruling(gate, history, first.next_eligible_ms - 1) is not None
    assert ruling(gate, history, first.next_eligible_ms) is None


@every_gate
@fast
@given(data=st.data(), history=histories, at_ms=times)
def test_where_no_time_is_named_none_helps(
    name: str, data: st.DataObject, history: History, at_ms: int
) -> None:
    gate = data.draw(GATES[name])
    first = ruling(gate, history, at_ms)

    if first is not None and first.next_eligible_ms is None:
        for later in (at_ms + 1, at_ms + 10_000, at_ms + 10**12):
            assert ruling(gate, history, later) is not None


@every_gate
@fast
@given(data=st.data(), history=histories, at_ms=times)
def test_other_offers_do_not_matter(
    name: str, data: st.DataObject, history: History, at_ms: int
) -> None:
    gate = data.draw(GATES[name])
    alone = History(
        tuple(i for i in history.impressions if i.offer_id == "tea"),
        tuple(r for r in history.reservations if r.offer_id == "tea"),
        {k: v for k, v in history.dismissals.items() if k == "tea"},
    )

    assert ruling(gate, alone, at_ms) == ruling(gate, history, at_ms)


@fast
@given(
    limit=st.integers(1, 4),
    window_ms=spans,
    seen=st.lists(times, max_size=8),
    at_ms=times,
)
def test_a_cap_is_the_count_in_a_half_open_window(
    limit: int, window_ms: int, seen: list[int], at_ms: int
) -> None:
    past = sorted(time for time in seen if time <= at_ms)
    history = History(tuple(Impression(time, "tea", "home") for time in past))
    count = sum(at_ms - window_ms < time <= at_ms for time in past)

    rejected = ruling(FrequencyCap(limit=limit, window_ms=window_ms), history, at_ms)

    assert (count >= limit) == (rejected is not None)
