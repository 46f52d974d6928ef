"""Entropy: how much choice a distribution leaves."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.entropy import selection_entropy

some_weights = st.lists(st.floats(0.0, 1e300), min_size=2, max_size=30).filter(any)


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ([0.5, 0.5], 1.0),
        ([7, 7, 7, 7], 1.0),
        ([1.0, 0.0, 0.0], 0.0),
        ([500_000_000, 500_000_000, 0, 0], 0.5),
        ([0.9, 0.1], 0.4690),
        ([1.0, 5e-324], 0.0),
    ],
)
def test_it_is_a_share_of_the_largest(weights: list[float], expected: float) -> None:
    assert selection_entropy(weights) == pytest.approx(expected, abs=1e-4)


@given(some_weights)
def test_it_is_from_0_to_1_whatever_the_order(weights: list[float]) -> None:
    entropy = selection_entropy(weights)

    assert 0.0 <= entropy <= 1.0
    assert selection_entropy(weights[::-1]) == entropy


@pytest.mark.parametrize(
    "wrong", [[1.0], [], [0.0, 0.0], [1.0, -0.1], [1.0, float("nan")]]
)
def test_what_is_no_distribution_is_refused(wrong: list[float]) -> None:
    with pytest.raises(ValueError, match="weights"):
        selection_entropy(wrong)
