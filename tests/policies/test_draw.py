"""Draws: from a distribution to one position, by a hash."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from policies.draw import draw, to_units
from policies.model import PROBABILITY_UNITS, FloatArray

HALVES = (PROBABILITY_UNITS // 2, PROBABILITY_UNITS // 2)

distributions = arrays(
    np.float64, st.integers(1, 200), elements=st.floats(1e-12, 1.0)
).map(lambda weights: weights / weights.sum())


@settings(deadline=None)
@given(distribution=distributions)
def test_units_sum_to_one_exactly_and_are_the_nearest(
    distribution: FloatArray,
) -> None:
    units = to_units(distribution)

    assert sum(units) == PROBABILITY_UNITS
    off = np.abs(np.array(units) - distribution * PROBABILITY_UNITS)
    # All but the one that takes up the rounding of all.
    assert np.sort(off)[:-1].max(initial=0.0) <= 1.0
    assert off.max() <= len(units)


@settings(deadline=None)
@given(distribution=distributions, zeros=st.integers(0, 5))
def test_what_is_possible_stays_so_and_what_is_not_too(
    distribution: FloatArray, zeros: int
) -> None:
    padded = np.concatenate([distribution, np.zeros(zeros)])

    units = to_units(padded)

    assert (padded > 0).tolist() == [unit > 0 for unit in units]


def test_ten_thousand_equal_actions_are_all_possible() -> None:
    units = to_units(np.full(10_000, 1e-4))

    assert {100_000} == set(units)


@pytest.mark.parametrize(
    "distribution",
    [
        [],
        [0.5, 0.4],
        [1.5, -0.5],
        [float("nan"), 1.0],
        [float("inf"), 0.0],
        [1e-5] * 100_000,
    ],
    ids=["empty", "short", "negative", "nan", "infinite", "too many"],
)
def test_what_is_no_distribution_is_refused(distribution: list[float]) -> None:
    with pytest.raises(ValueError, match=r"sum to 1|actions"):
        to_units(np.array(distribution))


@pytest.mark.parametrize(
    ("decision_id", "salt", "position"),
    [
        ("a", "salt", 1),
        ("b", "salt", 2),
        ("b", "pepper", 0),
        ("c", "salt", 5),
        ("ひ", "salt", 1),
        ("", "salt", 5),
    ],
)
def test_the_same_id_makes_the_same_draw_for_ever(
    decision_id: str, salt: str, position: int
) -> None:
    units = to_units(np.full(8, 1 / 8))

    assert position == draw(units, decision_id, salt)


def test_a_hundred_thousand_ids_draw_as_often_as_the_units_say() -> None:
    units = (1_000_000, 49_000_000, 150_000_000, 300_000_000, 500_000_000)
    n = 100_000

    drawn = Counter(draw(units, f"decision-{i}", "salt") for i in range(n))

    expected = np.array(units) / PROBABILITY_UNITS * n
    observed = np.array([drawn[position] for position in range(len(units))])
    chi_squared = ((observed - expected) ** 2 / expected).sum()
    # Its 99.9 % quantile with 4 degrees of freedom.
    assert chi_squared < 18.47


def test_two_salts_draw_independently() -> None:
    n = 20_000

    same = sum(
        draw(HALVES, str(i), "one") == draw(HALVES, str(i), "two") for i in range(n)
    )

    # Four standard deviations of a fair coin.
    assert abs(same - n / 2) < 4 * (n / 4) ** 0.5


@settings(deadline=None)
@given(decision_id=st.text(), before=st.integers(0, 9), after=st.integers(0, 9))
def test_what_has_no_unit_is_never_drawn(
    decision_id: str, before: int, after: int
) -> None:
    units = [0] * before + [PROBABILITY_UNITS] + [0] * after

    assert before == draw(units, decision_id, "salt")


@pytest.mark.parametrize("units", [(), (1,), (PROBABILITY_UNITS, 1)])
def test_units_that_are_not_one_in_all_are_refused(units: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="units must sum to 1000000000"):
        draw(units, "decision", "salt")
