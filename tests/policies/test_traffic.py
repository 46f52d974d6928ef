"""Bounds of traffic: the floor, the least and the most, and offers that are new."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.draw import to_units
from policies.model import Action, FloatArray, Traffic
from policies.traffic import Chances, TrafficSettings, bounded

SILENCE = Action(0, "", "", "", ())
share = st.floats(0.0, 1.0)
weight = st.one_of(st.just(0.0), share, st.floats(0.0, 1e-200))
fast = settings(deadline=None, max_examples=60)


@st.composite
def problems(
    draw: st.DrawFn,
) -> tuple[FloatArray, list[Action], TrafficSettings, float]:
    """Return a distribution over actions of offers with bounds of their own."""
    count = draw(st.integers(1, 10))
    pairs = [sorted(draw(st.tuples(share, share))) for _ in range(4)]
    bounds = [Traffic(least=low, most=high) for low, high in pairs]
    actions = [SILENCE] if draw(st.booleans()) else []
    for index in range(1, count + 1):
        offer = draw(st.integers(0, 3))
        actions.append(Action(index, f"{offer}", "c", "p", (), 0, bounds[offer]))
    weights = draw(st.lists(weight, min_size=len(actions), max_size=len(actions)))
    chances = np.array(weights)
    if chances.sum() < 1e-100:
        chances[draw(st.integers(0, len(actions) - 1))] = 1.0
    floor = draw(st.sampled_from([0.0, 0.01, 0.5, 1.0]))
    return chances / chances.sum(), actions, TrafficSettings(), floor


def shares(chances: FloatArray, actions: Sequence[Action]) -> dict[str, float]:
    found: dict[str, float] = {}
    for chance, action in zip(chances.tolist(), actions, strict=True):
        found[action.offer_id] = found.get(action.offer_id, 0.0) + chance
    return found


def limits(actions: Sequence[Action], floor: float) -> dict[str, tuple[float, float]]:
    """Return the bounds of each offer, made wide enough for the floor."""
    found: dict[str, tuple[float, float]] = {}
    for offer_id, part in shares(
        np.full(len(actions), floor / len(actions)), actions
    ).items():
        own = next(a.traffic for a in actions if a.offer_id == offer_id)
        low, high = (own.least or 0.0, own.most) if offer_id else (0.0, 1.0)
        found[offer_id] = max(low, part), max(1.0 if high is None else high, part)
    return found


@fast
@given(problem=problems())
def test_floor_and_bounds_hold_where_they_can(
    problem: tuple[FloatArray, list[Action], TrafficSettings, float],
) -> None:
    explored, actions, traffic, floor = problem

    chances, promised = bounded(Chances(explored, 0.0), actions, traffic, floor, {})

    # It is a distribution, with the floor under it, also in what is stored
    assert chances.sum() == pytest.approx(1.0, abs=1e-9)
    assert promised == floor / len(actions)
    assert chances.min() >= promised
    assert min(to_units(chances)) >= int(promised * 1e9) - 1
    # And where all bounds can hold at once, they do
    bounds = limits(actions, floor)
    lowest, highest = (sum(b[side] for b in bounds.values()) for side in (0, 1))
    for offer_id, found in shares(chances, actions).items():
        low, high = bounds[offer_id]
        assert lowest > 1.0 or found >= low - 1e-9
        assert highest < 1.0 or found <= high + 1e-9


@fast
@given(problem=problems())
def test_what_is_not_at_a_bound_keeps_its_ratio_to_the_rest(
    problem: tuple[FloatArray, list[Action], TrafficSettings, float],
) -> None:
    explored, actions, traffic, floor = problem
    bounds = limits(actions, floor)
    part = floor / len(actions)

    chances, _ = bounded(Chances(explored, 0.0), actions, traffic, floor, {})

    if sum(low for low, _ in bounds.values()) > 1.0 - 1e-6:
        return
    if sum(high for _, high in bounds.values()) < 1.0 + 1e-6:
        return
    was, now = shares(explored, actions), shares(chances - part, actions)
    free = [
        now[offer_id] / was[offer_id]
        for offer_id, found in shares(chances, actions).items()
        if bounds[offer_id][0] + 1e-6 < found < bounds[offer_id][1] - 1e-6
        and was[offer_id] > 1e-6
    ]
    assert free == pytest.approx([free[0]] * len(free), rel=1e-5) if free else True
    # Who is held down would have had more, and who is held up less.
    for offer_id, found in shares(chances, actions).items():
        if not free or was[offer_id] < 1e-6:
            continue
        ratio = now[offer_id] / was[offer_id]
        if found >= bounds[offer_id][1] - 1e-9 and found > bounds[offer_id][0] + 1e-6:
            assert ratio <= free[0] * (1 + 1e-5)
        if found <= bounds[offer_id][0] + 1e-9 and found < bounds[offer_id][1] - 1e-6:
            assert ratio >= free[0] * (1 - 1e-5)


@fast
@given(problem=problems(), data=st.data())
def test_the_order_of_actions_does_not_matter(
    problem: tuple[FloatArray, list[Action], TrafficSettings, float],
    data: st.DataObject,
) -> None:
    explored, actions, traffic, floor = problem
    order = data.draw(st.permutations(range(len(actions))))

    straight = bounded(Chances(explored, 0.0), actions, traffic, floor, {})
    turned = bounded(
        Chances(explored[order], 0.0), [actions[at] for at in order], traffic, floor, {}
    )

    assert turned.probabilities.tolist() == pytest.approx(
        straight.probabilities[order].tolist(), abs=1e-9
    )


@fast
@given(
    explored=st.lists(share, min_size=2, max_size=12).filter(lambda w: sum(w) > 0.01),
    least=st.floats(0.0, 0.3),
    most=st.floats(0.3, 1.0),
    floor=st.floats(0.0, 0.5),
)
def test_of_offers_with_the_same_bounds_the_likelier_stays_the_likelier(
    explored: list[float], least: float, most: float, floor: float
) -> None:
    weights = np.array(explored) / sum(explored)
    actions = [Action(i, f"{i}", "c", "p", ()) for i in range(1, weights.size)]
    traffic = TrafficSettings(least=least, most=most)

    chances, _ = bounded(Chances(weights, 0.0), [SILENCE, *actions], traffic, floor, {})

    likelier = weights[1:, np.newaxis] > weights[1:]
    assert (chances[1:, np.newaxis] >= chances[1:] - 1e-12)[likelier].all()


def act(offer_id: str, traffic: Traffic | None = None, creative: str = "c") -> Action:
    return Action(1, offer_id, creative, "p", (), 0, traffic or Traffic())


def test_silence_has_its_part_of_the_floor_and_no_other_bound() -> None:
    actions = [SILENCE, act("tea"), act("jam")]
    greedy = Chances(np.array([1.0, 0.0, 0.0]), 0.0)

    chances, floor = bounded(greedy, actions, TrafficSettings(most=0.1), 0.03, {})

    assert chances.tolist() == pytest.approx([0.98, 0.01, 0.01])
    assert floor == 0.01
    chances, _ = bounded(
        Chances(np.array([0.0, 1.0, 0.0]), 0.0),
        actions,
        TrafficSettings(most=0.1),
        0.0,
        {},
    )
    assert chances.tolist() == pytest.approx([0.8, 0.1, 0.1])


def test_the_bounds_are_of_an_offer_and_not_of_each_of_its_actions() -> None:
    own = Traffic(most=0.3)
    actions = [SILENCE, act("tea", own, "calm"), act("tea", own, "bold"), act("jam")]
    explored = Chances(np.array([0.1, 0.2, 0.6, 0.1]), 0.1)

    chances, floor = bounded(explored, actions, TrafficSettings(), 0.0, {})

    assert chances.tolist() == pytest.approx([0.35, 0.075, 0.225, 0.35])
    # What the exploration promised is scaled with the offer that lost the most.
    assert floor == pytest.approx(0.1 * 0.3 / 0.8)


def test_leasts_that_ask_too_much_are_reduced_alike() -> None:
    actions = [SILENCE, act("tea"), act("jam"), act("oats", Traffic(least=0.8))]
    explored = Chances(np.array([1.0, 0.0, 0.0, 0.0]), 0.0)

    chances, _ = bounded(explored, actions, TrafficSettings(least=0.6), 0.0, {})

    assert chances.tolist() == pytest.approx([0.0, 0.3, 0.3, 0.4])


def test_mosts_that_leave_a_rest_without_silence_are_raised_alike() -> None:
    actions = [act("tea"), act("jam", Traffic(most=0.1))]
    explored = Chances(np.array([0.5, 0.5]), 0.5)

    chances, _ = bounded(explored, actions, TrafficSettings(most=0.4), 0.0, {})

    assert chances.tolist() == pytest.approx([0.8, 0.2])
    none = [act("tea", Traffic(most=0.0)), act("jam", Traffic(most=0.0))]
    chances, _ = bounded(explored, none, TrafficSettings(), 0.0, {})
    assert chances.tolist() == pytest.approx([0.5, 0.5])


def test_the_floor_goes_before_what_an_offer_has_at_the_most() -> None:
    actions = [SILENCE, act("tea", Traffic(most=0.0)), act("jam")]
    explored = Chances(np.array([0.0, 1.0, 0.0]), 0.0)

    chances, floor = bounded(explored, actions, TrafficSettings(), 0.3, {})

    assert chances.tolist() == pytest.approx([0.45, 0.1, 0.45])
    assert floor == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("learned", "expected"),
    [
        ({}, [0.0, 0.8, 0.2]),
        ({"jam": 9}, [0.0, 0.8, 0.2]),
        ({"jam": 10}, [0.0, 1.0, 0.0]),
    ],
)
def test_an_offer_is_tried_at_least_so_often_until_it_is_known(
    learned: dict[str, int], expected: list[float]
) -> None:
    actions = [SILENCE, act("tea"), act("jam")]
    traffic = TrafficSettings(new_outcomes=10, new_least=0.2, new_most=0.3)

    chances, _ = bounded(
        Chances(np.array([0.0, 1.0, 0.0]), 0.0),
        actions,
        traffic,
        0.0,
        {"tea": 50, **learned},
    )

    assert chances.tolist() == pytest.approx(expected)


def test_an_offer_that_is_new_is_not_tried_more_often_than_said() -> None:
    actions = [SILENCE, act("tea"), act("jam")]
    traffic = TrafficSettings(new_outcomes=10, new_least=0.2, new_most=0.3)
    eager = Chances(np.array([0.1, 0.1, 0.8]), 0.0)

    chances, _ = bounded(eager, actions, traffic, 0.0, {"tea": 50})

    assert chances.tolist() == pytest.approx([0.35, 0.35, 0.3])


def test_what_the_catalogue_says_of_an_offer_goes_before_the_settings() -> None:
    traffic = TrafficSettings(
        least=0.1, most=0.5, new_outcomes=10, new_least=0.2, new_most=0.3
    )

    assert traffic.bounds(Traffic(), learned=10) == (0.1, 0.5)
    assert traffic.bounds(Traffic(), learned=9) == (0.2, 0.3)
    assert traffic.bounds(Traffic(new_outcomes=5), learned=5) == (0.1, 0.5)
    assert traffic.bounds(Traffic(new_most=0.4), learned=0) == (0.2, 0.4)
    assert traffic.bounds(Traffic(new_least=0.25), learned=0) == (0.25, 0.3)
    assert traffic.bounds(Traffic(least=0.0, most=1.0), learned=99) == (0.0, 1.0)
    # The most goes before the least.
    assert traffic.bounds(Traffic(most=0.05), learned=99) == (0.05, 0.05)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"floor": 1.1}, "floor must be from 0 to 1, not 1.1"),
        ({"floor": float("nan")}, "floor must be from 0 to 1, not nan"),
        ({"least": -0.1}, "least must be from 0 to 1, not -0.1"),
        ({"most": 2.0}, "most must be from 0 to 1, not 2.0"),
        ({"new_least": -1.0}, "new_least must be from 0 to 1"),
        ({"new_most": -1.0}, "new_most must be from 0 to 1"),
        ({"new_outcomes": -1}, "new_outcomes must be from 0 to 1e9, not -1"),
        ({"least": 0.5, "most": 0.4}, "least must be at most most, 0.4, not 0.5"),
    ],
)
def test_what_is_out_of_range_is_refused_with_its_range(
    wrong: dict[str, float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        TrafficSettings(**wrong)  # type: ignore[arg-type]


def test_bounds_that_are_next_to_nothing_are_loosened_alike() -> None:
    next_to_nothing = Traffic(most=5e-324)
    actions = [
        Action(1, "tea", "c", "p", (), 0, next_to_nothing),
        Action(2, "jam", "c", "p", (), 0, next_to_nothing),
    ]

    found = bounded(
        Chances(np.array([0.9, 0.1]), 0.0), actions, TrafficSettings(), 0.0, {}
    )

    assert found.probabilities.tolist() == [0.5, 0.5]
