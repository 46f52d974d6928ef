"""Many tests of the same data: luck is told from what is there."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.intervals import above, apart, rate_of, select


def exact(both: int, one: int, other: int, n: int) -> float:
    """Add up the hypergeometric distribution in whole numbers."""
    ways = sum(
        math.comb(one, k) * math.comb(n - one, other - k)
        for k in range(both, min(one, other) + 1)
    )
    return float(Fraction(ways, math.comb(n, other)))


@given(st.data())
def test_above_is_fishers_exact_test(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 200))
    one, other = (data.draw(st.integers(0, n)) for _ in range(2))
    both = data.draw(st.integers(max(0, one + other - n), min(one, other)))

    assert above(both, one, other, n) == pytest.approx(
        exact(both, one, other, n), rel=1e-9, abs=1e-12
    )


def test_above_is_quick_and_finite_where_there_are_many() -> None:
    assert above(250_000, 500_000, 500_000, 1_000_000) == pytest.approx(0.5, abs=0.001)
    assert above(300_000, 500_000, 500_000, 1_000_000) == 0.0


@pytest.mark.parametrize(
    ("both", "one", "other", "n"), [(5, 4, 6, 10), (0, 8, 8, 10), (2, 12, 2, 10)]
)
def test_above_refuses_what_cannot_be(both: int, one: int, other: int, n: int) -> None:
    with pytest.raises(ValueError, match=f"both are from .*, not {both}"):
        above(both, one, other, n)


def test_select_is_benjamini_and_hochberg() -> None:
    # The fifteen of their paper, of which four are selected at 0.05.
    p = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459]
    p += [0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0]

    found = select(p, rate=0.05)

    assert sum(found.selected) == 4
    assert found.selected[:4] == (True,) * 4
    assert found.confidence == pytest.approx(1 - 0.05 * 4 / 15)


def test_select_of_nothing_selects_nothing() -> None:
    assert select([], rate=0.1) == ((), (), 0.9)
    assert select([0.9, 0.8], rate=0.1).selected == (False, False)


def test_on_average_no_more_is_luck_than_was_asked_for() -> None:
    rng = np.random.default_rng(7)
    shares: list[float] = []
    for _ in range(400):
        p = rng.random(40)
        p[:8] = p[:8] ** 12 * 1e-2
        selected = np.array(select(p.tolist(), rate=0.2).selected)
        shares.append(selected[8:].sum() / max(selected.sum(), 1))

    assert 0.1 < np.mean(shares) < 0.2


@pytest.mark.parametrize(
    ("p", "rate", "wrong"),
    [([0.5], 1.0, "rate must be in"), ([1.5], 0.1, "p-value must be in")],
)
def test_select_refuses_what_is_out_of_range(
    p: list[float], rate: float, wrong: str
) -> None:
    with pytest.raises(ValueError, match=wrong):
        select(p, rate)


def test_the_distance_of_two_estimates_is_newcombes() -> None:
    # From his paper: 56 of 70 against 48 of 80, by Wilson's intervals.
    value, ends = apart(rate_of(56, 70), rate_of(48, 80))

    assert value == pytest.approx(0.2)
    assert ends == pytest.approx((0.0524, 0.3339), abs=5e-5)


def test_the_distance_holds_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    held = 0
    for _ in range(1_000):
        one, other = rng.binomial(60, 0.3), rng.binomial(200, 0.1)
        _, (low, high) = apart(rate_of(int(one), 60), rate_of(int(other), 200))
        held += low <= 0.2 <= high

    assert held >= 930
