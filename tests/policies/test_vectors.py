"""Vectors of contexts: clipped, standardised online, and kept for the next call."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.hashing import Hasher, hashed
from policies.learners import scaling
from policies.learners.scaling import Scaling
from policies.learners.vectors import Vectors
from policies.model import Features

numbers = st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=30)


def vectors(*, standardize: bool = False) -> Vectors:
    return Vectors(Hasher(16), standardize=standardize)


@settings(deadline=None)
@given(numbers)
def test_a_number_is_put_in_deviations_from_its_mean(values: list[float]) -> None:
    followed = Scaling()
    for value in values:
        followed.learn(("constant", "age"), np.array([1.0, value]))

    constant, age = followed.scaled(("constant", "age"), np.array([1.0, values[0]]))

    assert constant == 1.0
    deviation = float(np.std(values))
    if deviation > 1e-3:
        expected = (values[0] - float(np.mean(values))) / deviation
        assert age == pytest.approx(expected, abs=1e-6)


def test_what_never_varied_and_what_is_new_are_left_alone() -> None:
    made = vectors(standardize=True)
    for age in (20.0, 40.0):
        made.learn((("segment=new", 1.0), ("age", age), ("floor", 7.0)))

    seen = made.of((("segment=new", 1.0), ("floor", 7.0), ("new", 3.0)))
    expected = hashed((("segment=new", 1.0), ("floor", 7.0), ("new", 3.0)), 16)
    assert seen.tolist() == pytest.approx(expected.tolist())
    assert made.of((("age", 50.0),)).tolist() == pytest.approx(
        hashed((("age", 2.0),), 16).tolist()
    )


def test_far_from_what_is_usual_a_number_is_clipped() -> None:
    followed = Scaling()
    for value in (-1.0, 1.0):
        followed.learn(("x",), np.array([value]))

    assert followed.scaled(("x",), np.array([999.0])).tolist() == [10.0]
    assert followed.scaled(("x",), np.array([-999.0])).tolist() == [-10.0]


def test_to_ask_teaches_nothing() -> None:
    made = vectors(standardize=True)
    made.learn((("x", 1.0),))
    made.learn((("x", 3.0),))
    before = made.save()

    made.of((("x", 100.0), ("new", 1.0)))

    assert before == made.save()


def test_a_loaded_one_goes_on_alike() -> None:
    straight, stopped = vectors(standardize=True), vectors(standardize=True)
    rows: list[Features] = [
        (("x", float(i % 7)), (f"name-{i % 5}", float(i))) for i in range(40)
    ]
    for row in rows[:20]:
        straight.learn(row)
        stopped.learn(row)
    loaded = vectors(standardize=True)
    loaded.load(stopped.save())

    for row in rows[20:]:
        assert straight.learn(row).tolist() == loaded.learn(row).tolist()
    assert straight.save() == loaded.save()


def test_names_beyond_those_followed_are_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scaling, "_NAMES_MAX", 2)
    monkeypatch.setattr(scaling, "_LAYOUTS_MAX", 1)
    followed = Scaling()
    for value in (0.0, 2.0):
        followed.learn(("a", "b", "c"), np.array([value] * 3))

    assert followed.scaled(("a", "b", "c"), np.array([3.0] * 3)).tolist() == [2, 2, 3]
    assert followed.scaled(("c",), np.array([3.0])).tolist() == [3.0]


@pytest.mark.parametrize(
    ("value", "clipped"),
    [
        (1e308, 1000.0),
        (-math.inf, -1000.0),
        (math.nan, 0.0),
        (-1000.5, -1000.0),
        (999.0, 999.0),
    ],
)
def test_what_is_too_large_to_compute_with_is_clipped(
    value: float, clipped: float
) -> None:
    expected = hashed((("x", clipped), ("y", 500.0)), 16)

    assert vectors().of((("x", value), ("y", 500.0))).tolist() == pytest.approx(
        expected.tolist()
    )


def test_the_latest_context_is_kept_until_something_is_learned() -> None:
    made = vectors(standardize=True)
    made.learn((("x", 1.0),))
    context: Features = (("x", 2.0),)
    first = made.of(context)
    assert made.of(context) is first

    made.learn((("x", 3.0),))

    assert made.of(context).tolist() != first.tolist()
    assert made.of(()).tolist() == [0.0] * 16
