"""The laws of estimators, kept by every one that has a name.

A new estimator is tested by being named: the cases come from the registry.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from operator import add

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.estimators import (
    ESTIMATORS,
    SLATES,
    Estimator,
    Rows,
    Slates,
    Sums,
    Terms,
    named,
    sums_of,
)
from policies.estimators.base import IntArray

fast = settings(deadline=None, max_examples=10)
every_estimator = pytest.mark.parametrize(
    "estimator", ESTIMATORS.values(), ids=ESTIMATORS
)
every_slate = pytest.mark.parametrize("estimator", SLATES.values(), ids=SLATES)
tunable = [
    (name, value, end)
    for name, estimator in ESTIMATORS.items()
    if estimator.tunable is not None
    for value, end in estimator.tunable.ends.items()
]


@st.composite
def logs(draw: st.DrawFn, *, reward: float | None = None) -> Rows:
    """Some rows with all columns, such as a log of two loggers has them."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n = draw(st.integers(20, 200))
    propensities = rng.uniform(0.05, 1.0, n)
    targets = rng.random(n) * rng.integers(2, size=n)
    targets[0] = 1.0
    rewards = rng.normal(size=n) if reward is None else np.full(n, reward)
    # The first row weighs the most, so that something is always accepted.
    draws = rng.random(n)
    draws[0] = 0.0
    return Rows(
        rewards=rewards,
        weights=targets / propensities,
        logged_values=rng.normal(size=n),
        target_values=rng.normal(size=n),
        targets=targets,
        cluster_weights=rng.exponential(size=n),
        balanced_weights=rng.exponential(size=n),
        draws=draws,
        loggers=rng.integers(2, size=n),
    )


def places(n: int, seed: int) -> IntArray:
    return np.random.default_rng(seed).permutation(n)


@every_estimator
@fast
@given(rows=logs(), seed=st.integers(0, 1000))
def test_the_order_of_the_rows_is_of_no_matter(
    estimator: Estimator, rows: Rows, seed: int
) -> None:
    shuffled = rows.take(places(len(rows), seed))

    assert pytest.approx(estimator(rows).value, rel=1e-12, abs=1e-12) == (
        estimator(shuffled).value
    )


@every_estimator
@fast
@given(rows=logs(), cut=st.integers(1, 19))
def test_parts_add_up_to_the_whole(estimator: Estimator, rows: Rows, cut: int) -> None:
    if estimator.whole:
        return
    parts = [rows.take(slice(cut)), rows.take(slice(cut, None))]

    added = reduce(add, (estimator(part).sums for part in parts), Sums(n=0))

    assert pytest.approx(estimator(rows).value, rel=1e-12, abs=1e-12) == added.value
    assert added == sums_of({"it": estimator}, parts)["it"]


@every_estimator
@fast
@given(rows=logs(reward=1.0), model=st.sampled_from([0.0, 1.0]))
def test_a_ratio_has_no_error_where_rewards_are_all_the_same(
    estimator: Estimator, rows: Rows, model: float
) -> None:
    if not estimator.ratio:
        return
    columns = {name: getattr(rows, name) for name in rows.__struct_fields__}
    columns["logged_values"] = columns["target_values"] = np.full(len(rows), model)
    terms = estimator(Rows(**columns))

    assert pytest.approx(1.0, abs=1e-12) == terms.value
    if terms.under is not None:
        assert terms.value == 1.0
        assert np.abs(terms.influence).max() == 0.0


@every_estimator
@fast
@given(rows=logs())
def test_terms_have_a_number_for_every_row_and_are_finite(
    estimator: Estimator, rows: Rows
) -> None:
    terms = estimator(rows)

    assert any(part is not None for part in (terms.added, terms.over))
    assert (terms.over is None) == (terms.under is None)
    for part in (terms.added, terms.over, terms.under):
        assert part is None or (
            part.shape == rows.rewards.shape and np.isfinite(part).all()
        )
    assert pytest.approx(0.0, abs=1e-9) == terms.influence.mean()
    assert len(terms.influence) == len(rows) == terms.sums.n


@every_estimator
@fast
@given(rows=logs(), factor=st.floats(0.01, 100.0))
def test_the_unit_of_the_rewards_is_of_no_matter(
    estimator: Estimator, rows: Rows, factor: float
) -> None:
    columns = {name: getattr(rows, name) for name in rows.__struct_fields__}
    for name in ("rewards", "logged_values", "target_values"):
        columns[name] = factor * columns[name]

    assert pytest.approx(factor * estimator(rows).value, rel=1e-9, abs=1e-9) == (
        estimator(Rows(**columns)).value
    )


@every_estimator
def test_it_says_which_column_it_lacks(estimator: Estimator) -> None:
    bare = Rows(rewards=np.ones(3), weights=np.array([0.5, 1.0, 2.0]))

    if estimator.needs:
        with pytest.raises(ValueError, match="this estimator needs"):
            estimator(bare)
    else:
        assert np.isfinite(estimator(bare).value)


@every_estimator
def test_it_says_what_it_is_and_where_it_is_from(estimator: Estimator) -> None:
    documented = estimator.terms.__doc__ or ""

    assert ":" in documented.splitlines()[0]
    assert "References:" in documented


@pytest.mark.parametrize(("name", "value", "end"), tunable)
@fast
@given(rows=logs())
def test_at_the_ends_of_its_range_it_is_another(
    name: str, value: float, end: str, rows: Rows
) -> None:
    expected = 0.0 if end == "zero" else named(end)(rows).value

    assert pytest.approx(expected, rel=1e-12, abs=1e-12) == (
        ESTIMATORS[name].at(value)(rows).value
    )


@pytest.mark.parametrize(("name", "value", "end"), tunable)
@fast
@given(rows=logs())
def test_near_the_ends_it_is_near_the_other(
    name: str, value: float, end: str, rows: Rows
) -> None:
    near = {0.0: 1e-9, 1.0: 1 - 1e-9, np.inf: 1e9}[value]
    expected = 0.0 if end == "zero" else named(end)(rows).value

    assert pytest.approx(expected, rel=1e-6, abs=1e-6) == (
        ESTIMATORS[name].at(near)(rows).value
    )


@pytest.mark.parametrize("name", ["dr", "sndr", "clipped_dr", "switch_dr", "dros"])
@fast
@given(rows=logs())
def test_weights_are_no_noise_to_a_model_that_is_right(name: str, rows: Rows) -> None:
    columns = {field: getattr(rows, field) for field in rows.__struct_fields__}
    right = Rows(**{**columns, "logged_values": rows.rewards})

    terms = named(name)(right)

    assert named("dm")(right).value == terms.value
    assert pytest.approx(named("dm")(right).influence) == terms.influence


@pytest.mark.parametrize("name", ["nothing", "dr@5", "dros@many", ""])
def test_what_has_no_such_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"no estimator|no parameter|no number"):
        named(name)


@pytest.mark.parametrize(
    "name",
    [
        "clipped_ips@-1",
        "switch_dr@nan",
        "dros@-2",
        "subgaussian_dr@1.5",
        "exponential@2",
    ],
)
@given(rows=logs())
@settings(max_examples=1)
def test_a_parameter_out_of_range_is_refused(name: str, rows: Rows) -> None:
    with pytest.raises(ValueError, match="must be"):
        named(name)(rows)


@st.composite
def slates(draw: st.DrawFn) -> Slates:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = draw(st.integers(5, 60)), draw(st.integers(1, 4))
    return Slates(
        rewards=rng.normal(size=shape),
        weights=rng.exponential(size=shape),
        logged_values=rng.normal(size=shape),
        target_values=rng.normal(size=shape),
    )


def part_of(whole: Slates, part: IntArray | slice) -> Slates:
    return Slates(
        **{name: getattr(whole, name)[part] for name in whole.__struct_fields__}
    )


@every_slate
@fast
@given(whole=slates(), cut=st.integers(1, 4), seed=st.integers(0, 1000))
def test_slates_add_up_in_any_order(
    estimator: Callable[[Slates], Terms], whole: Slates, cut: int, seed: int
) -> None:
    shuffled = part_of(whole, places(len(whole.rewards), seed))
    parts = [part_of(shuffled, slice(cut)), part_of(shuffled, slice(cut, None))]

    added = reduce(add, (estimator(part).sums for part in parts))

    assert pytest.approx(estimator(whole).value, rel=1e-9, abs=1e-9) == added.value


@every_slate
@fast
@given(whole=slates())
def test_a_slate_of_one_slot_is_a_single_decision(
    estimator: Callable[[Slates], Terms], whole: Slates
) -> None:
    single = Slates(
        **{name: getattr(whole, name)[:, :1] for name in whole.__struct_fields__}
    )
    assert single.logged_values is not None
    assert single.target_values is not None
    rows = Rows(
        rewards=single.rewards[:, 0],
        weights=single.weights[:, 0],
        logged_values=single.logged_values[:, 0],
        target_values=single.target_values[:, 0],
    )
    name = {"cascade_dr": "dr", "pseudo_inverse": "ips"}.get(
        estimator.__name__, "snips" if estimator.__name__.startswith("sn") else "ips"
    )

    assert pytest.approx(named(name)(rows).value) == estimator(single).value
