"""The attention budget: over all offers, weighed by how they interrupt."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from policies.gates.attention import AttentionBudget
from policies.gates.base import Because, Ruling
from policies.specs import AttentionSpec, CatalogueSpec, PlacementSpec
from policies.toml import Duration
from tests.policies.gates.pasts import (
    DAY,
    HOUR,
    TEA,
    ask,
    gates,
    held,
    past,
    rule_out,
    subject,
    track,
)

MODAL, BANNER = PlacementSpec(kind="modal"), PlacementSpec(kind="banner")
INLINE = PlacementSpec(kind="inline")


def budget(amount: float, placement: PlacementSpec = MODAL) -> list[AttentionBudget]:
    spec = AttentionSpec(budget=amount, window=Duration(DAY))
    return gates(AttentionBudget, CatalogueSpec(attention=spec), placement=placement)


def test_what_interrupts_more_takes_more() -> None:
    history = past(track(subject("tea//door", weight=3.0), 0))
    asked = ask(1, history)

    assert rule_out(budget(5.0, MODAL), asked) == Ruling("ATTENTION_BUDGET", DAY)
    assert rule_out(budget(5.0, BANNER), asked) is None
    assert rule_out(budget(5.0, INLINE), asked) is None


def test_there_is_room_again_once_enough_has_left_the_window() -> None:
    history = past(
        track(subject("tea//door", weight=3.0), 1 * HOUR),
        track(subject("jam//bar", weight=1.0), 0, 2 * HOUR),
        track(subject("oats//list", weight=0.2), 3 * HOUR),
    )
    asked = ask(4 * HOUR, history)

    assert rule_out(budget(8.2), asked) is None
    assert rule_out(budget(8.1), asked) == Ruling("ATTENTION_BUDGET", DAY)
    assert rule_out(budget(7.1), asked) == Ruling("ATTENTION_BUDGET", DAY + HOUR)
    assert rule_out(budget(4.1), asked) == Ruling("ATTENTION_BUDGET", DAY + 2 * HOUR)
    assert rule_out(budget(3.1), asked) == Ruling("ATTENTION_BUDGET", DAY + 3 * HOUR)


def test_what_takes_more_than_there_is_never_has_room() -> None:
    assert rule_out(budget(2.9), ask(0)) == Ruling("ATTENTION_BUDGET")
    used = past(track(subject("tea", weight=3.0), 0))
    assert rule_out(budget(2.9), ask(1, used)) == Ruling("ATTENTION_BUDGET")


def test_sums_are_exact() -> None:
    # 0.1 + 0.2 is more than 0.3 to a computer.
    history = past(track(subject("tea", weight=0.1), 0))
    placement = PlacementSpec(interruptiveness=0.2)

    assert rule_out(budget(0.3, placement), ask(1, history)) is None


def test_what_may_still_be_shown_takes_attention() -> None:
    history = past(reserved=[held(500, subject("tea//door", weight=3.0))])

    assert rule_out(budget(5.0), ask(1, history)) == Ruling("ATTENTION_BUDGET", 500)
    assert rule_out(budget(5.0), ask(500, history)) is None


def test_what_was_shown_took_what_its_placement_asked_for_then() -> None:
    history = past(track(subject("tea//home", weight=3.0), 0))

    assert rule_out(budget(3.1, INLINE), ask(1, history)) is not None


def test_what_takes_no_attention_needs_no_budget() -> None:
    assert not budget(5.0, PlacementSpec(interruptiveness=0.0))


def test_without_a_budget_there_is_no_gate() -> None:
    assert not gates(AttentionBudget, CatalogueSpec(), placement=MODAL)


def test_it_says_how_much_is_taken() -> None:
    (gate,) = budget(5.0)
    history = past(track(subject("tea", weight=3.2), 0))

    assert gate.because(TEA, ask(1, history)) == Because(
        "3.2 taken in the last 1d, and the placement takes 3", "at most 5 altogether"
    )


@given(
    weights=st.lists(
        st.tuples(st.integers(0, 100), st.sampled_from([0.1, 0.2, 1.0, 3.0]))
    ),
    amount=st.sampled_from([0.3, 1.0, 2.5, 6.0]),
)
def test_time_makes_room_step_by_step(
    weights: list[tuple[int, float]], amount: float
) -> None:
    spec = AttentionSpec(budget=amount, window=Duration(100))
    (gate,) = gates(AttentionBudget, CatalogueSpec(attention=spec), placement=BANNER)
    history = past(*[track(subject("x", weight=weight), t) for t, weight in weights])

    for at_ms in range(0, 250, 10):
        found = gate.reject(TEA, ask(at_ms, history))
        taken = sum(round(w * 10) for t, w in weights if t > at_ms - 100)
        assert (found is not None) == (taken + 10 > round(amount * 10))
