"""Thompson sampling: how likely each action is to be the best, against the truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.explorations.thompson import Thompson, chances_to_be_best
from policies.model import FloatArray

BOUND = 1e-3
"""What the docs promise."""

fast = settings(deadline=None, max_examples=30)
numbers = st.floats(-1e300, 1e300)
some_numbers = st.lists(
    st.tuples(numbers, st.one_of(st.just(0.0), st.floats(0.0, 1e300))),
    min_size=1,
    max_size=12,
)
alike = st.tuples(st.floats(-2.0, 2.0), st.floats(0.01, 2.0))
apart = st.tuples(st.floats(-2.0, 2.0), st.floats(-8.0, 0.0).map(lambda e: 10.0**e))
some_beliefs = st.one_of(
    st.lists(alike, min_size=1, max_size=5), st.lists(apart, min_size=1, max_size=5)
)


def exactly(mean: FloatArray, deviation: FloatArray) -> FloatArray:
    """Integrate at high precision: by Gauss between the tenths of every deviation."""
    steps = deviation[:, np.newaxis] * np.linspace(-9.0, 9.0, 181)
    nodes = np.unique(mean[:, np.newaxis] + steps)
    places, weights = np.polynomial.legendre.leggauss(4)
    half = np.diff(nodes)[:, np.newaxis] / 2.0
    x = (nodes[:-1, np.newaxis] + half + half * places).ravel()
    w = (half * weights).ravel()
    z = (x - mean[:, np.newaxis]) / deviation[:, np.newaxis]
    erfc = np.array([math.erfc(-v) for v in (z / math.sqrt(2.0)).ravel().tolist()])
    cdf = 0.5 * erfc.reshape(z.shape)
    density = np.exp(-0.5 * z * z) / (math.sqrt(2.0 * math.pi) * deviation[:, None])
    chances = [
        float((w * density[a] * np.delete(cdf, a, axis=0).prod(axis=0)).sum())
        for a in range(mean.size)
    ]
    assert sum(chances) == pytest.approx(1.0, abs=1e-7)
    return np.array(chances)


def of(beliefs: list[tuple[float, float]]) -> tuple[FloatArray, FloatArray]:
    mean, deviation = zip(*beliefs, strict=True)
    return np.array(mean), np.array(deviation)


@fast
@given(beliefs=some_beliefs)
def test_every_chance_is_within_the_promised_error(
    beliefs: list[tuple[float, float]],
) -> None:
    mean, deviation = of(beliefs)

    chances = chances_to_be_best(mean, deviation)

    assert np.abs(chances - exactly(mean, deviation)).max() <= BOUND


@pytest.mark.parametrize("ratio", [1.0, 1e-2, 1e-5, 1e-8])
def test_narrow_beliefs_beside_wide_ones_are_told_apart(ratio: float) -> None:
    mean = np.array([0.0, 0.5 * ratio, 0.0, -0.1])
    deviation = np.array([ratio, ratio, 1.0, 0.9])

    chances = chances_to_be_best(mean, deviation)

    assert np.abs(chances - exactly(mean, deviation)).max() <= BOUND
    assert chances[1] > 1.2 * chances[0]


def test_draws_from_the_beliefs_are_the_best_as_often_as_is_said() -> None:
    generator = np.random.default_rng(7)
    mean = generator.normal(0.0, 0.5, 30)
    deviation = generator.uniform(0.05, 1.0, 30)
    drawn = mean + deviation * generator.standard_normal((50_000, 30))
    seen = np.bincount(drawn.argmax(axis=1), minlength=30) / 50_000

    chances = chances_to_be_best(mean, deviation)

    error = np.sqrt(chances * (1.0 - chances) / 50_000)
    assert (np.abs(chances - seen) <= 4.5 * error + BOUND / 10).all()


def test_of_two_the_chance_is_known_in_closed_form() -> None:
    for lead, first, second in [(0.3, 0.2, 0.4), (-1.0, 0.5, 0.5), (2.0, 1.0, 1e-3)]:
        worse, better = chances_to_be_best(
            np.array([0.0, lead]), np.array([first, second])
        )

        apart = lead / math.hypot(first, second)
        assert better == pytest.approx(
            0.5 * math.erfc(-apart / math.sqrt(2)), abs=BOUND
        )
        assert worse + better == pytest.approx(1.0)


@pytest.mark.parametrize("n", [1, 2, 50, 1_000])
def test_of_equal_beliefs_all_are_equally_likely(n: int) -> None:
    for deviation in (0.0, 1e-300, 0.3, 1e300):
        chances = chances_to_be_best(np.full(n, 0.2), np.full(n, deviation))

        assert chances.tolist() == pytest.approx([1.0 / n] * n, rel=1e-9)


@pytest.mark.parametrize(
    ("mean", "deviation", "expected"),
    [
        ([0.2, 0.7, 0.7], [0.0, 0.0, 0.0], [0.0, 0.5, 0.5]),
        ([0.0, 0.0], [0.0, 1.0], [0.5, 0.5]),
        ([0.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.25, 0.25, 0.5]),
        # What is certain, but not the best of that, never is the best.
        ([0.1, 0.0, 0.0], [0.0, 0.0, 1.0], [0.5398, 0.0, 0.4602]),
        ([9.0, 0.0], [0.0, 1.0], [1.0, 0.0]),
        ([0.0, 0.0], [1.0, 1e-12], [0.5, 0.5]),
        ([0.0, 1e300], [1.0, 1.0], [0.0, 1.0]),
        ([0.0], [5.0], [1.0]),
    ],
)
def test_certain_actions_have_the_chance_that_nothing_is_better(
    mean: list[float], deviation: list[float], expected: list[float]
) -> None:
    chances = chances_to_be_best(np.array(mean), np.array(deviation))

    assert chances.tolist() == pytest.approx(expected, abs=1e-4)


@fast
@given(beliefs=some_numbers, scale=st.floats(0.0, 1e3))
def test_any_finite_beliefs_give_a_distribution(
    beliefs: list[tuple[float, float]], scale: float
) -> None:
    mean, deviation = of(beliefs)

    chances = Thompson(scale=scale).distribution(mean, deviation)

    assert np.isfinite(chances).all()
    assert (chances >= 0.0).all()
    assert chances.sum() == pytest.approx(1.0, abs=1e-9)


@fast
@given(beliefs=some_beliefs, data=st.data())
def test_the_order_of_actions_does_not_matter(
    beliefs: list[tuple[float, float]], data: st.DataObject
) -> None:
    mean, deviation = of(beliefs)
    order = np.array(data.draw(st.permutations(range(mean.size))))

    turned = chances_to_be_best(mean[order], deviation[order])

    expected = chances_to_be_best(mean, deviation)[order]
    assert turned.tolist() == pytest.approx(expected.tolist(), abs=1e-9)


@fast
@given(
    means=st.lists(st.floats(-2.0, 2.0), min_size=2, max_size=8),
    deviation=st.floats(0.0, 2.0),
)
def test_of_those_that_are_equally_sure_the_better_is_never_less_likely(
    means: list[float], deviation: float
) -> None:
    mean = np.array(means)

    chances = chances_to_be_best(mean, np.full(mean.size, deviation))

    better = mean[:, np.newaxis] > mean
    assert (chances[:, np.newaxis] >= chances - 1e-6)[better].all()


def test_a_smaller_scale_tries_less_and_none_tries_nothing() -> None:
    mean, deviation = np.array([0.4, 0.5]), np.array([0.3, 0.3])

    of_best = [
        Thompson(scale=scale).distribution(mean, deviation)[1]
        for scale in (1_000.0, 1.0, 0.3, 0.1, 0.0)
    ]

    assert sorted(of_best) == of_best
    assert of_best[0] == pytest.approx(0.5, abs=1e-3)
    assert of_best[-1] == 1.0


@pytest.mark.parametrize("scale", [-0.1, 1_001.0, float("nan")])
def test_a_scale_out_of_its_range_is_refused(scale: float) -> None:
    with pytest.raises(ValueError, match="scale must be from 0 to 1000, not"):
        Thompson(scale=scale)
