"""Features: what learners see of what a request says."""

from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.features import (
    FeatureSpec,
    context_features,
    features_of,
    unknown_features,
)
from policies.model import Context, FeatureValue, Moment, Usage

SPECS = {
    "age": FeatureSpec("number", range=(0.0, 50.0)),
    "spent": FeatureSpec("number"),
    "plan": FeatureSpec("category"),
    "trial": FeatureSpec("flag"),
}
finite = st.floats(allow_nan=False, allow_infinity=False)
values: st.SearchStrategy[FeatureValue] = finite | st.booleans() | st.text(max_size=5)


def test_a_context_is_read_by_what_the_catalogue_declares() -> None:
    context = Context(
        role="admin",
        segment="free",
        usage={"gb": Usage(8.0, 10.0), "calls": Usage(math.e - 1)},
        moment=Moment("done", {"age": 100.0, "shoe": 1.0}),
        features={"trial": True, "plan": "team", "age": 25.0, "hat": "top"},
    )

    assert context_features(context, SPECS) == (
        ("constant", 1.0),
        ("segment=free", 1.0),
        ("role=admin", 1.0),
        ("moment=done", 1.0),
        ("usage.calls", 1.0),
        ("usage.gb", 0.8),
        ("age", 0.5),
        ("plan=team", 1.0),
        ("trial", 1.0),
        ("moment.age", 1.0),
    )
    assert unknown_features(context, SPECS) == {"shoe", "hat"}


def test_nothing_known_is_a_constant() -> None:
    assert context_features(Context(), SPECS) == (("constant", 1.0),)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("age", "old"),
        ("age", True),
        ("plan", 3.0),
        ("plan", False),
        ("trial", 1.0),
        ("trial", "yes"),
    ],
)
def test_a_value_of_another_type_is_not_seen(name: str, value: FeatureValue) -> None:
    assert features_of({name: value}, SPECS) == ()


@given(st.dictionaries(st.sampled_from([*SPECS, "shoe"]), values))
def test_whatever_is_said_learners_see_finite_numbers(
    said: dict[str, FeatureValue],
) -> None:
    usage = {"x": Usage(1e308, 1e-308), "y": Usage(1.7e308)}
    context = Context(usage=usage, moment=Moment("", said), features=said)

    seen = context_features(context, SPECS)

    assert all(math.isfinite(number) for _, number in seen)
    assert len({name for name, _ in seen}) == len(seen)
    reverse = Context(
        usage=usage,
        moment=Moment("", dict(reversed(said.items()))),
        features=dict(reversed(said.items())),
    )
    assert context_features(reverse, SPECS) == seen


@given(finite)
def test_a_number_without_a_range_is_squashed_and_keeps_its_sign(value: float) -> None:
    ((_, squashed),) = features_of({"spent": value}, SPECS)

    assert math.copysign(1.0, squashed) == math.copysign(1.0, value)
    assert abs(squashed) <= 711.0
    assert abs(squashed) <= abs(value)


@pytest.mark.parametrize(
    ("value", "scaled"), [(-1.0, 0.0), (0.0, 0.0), (10.0, 0.2), (50.0, 1.0), (1e9, 1.0)]
)
def test_a_number_with_a_range_is_scaled_and_clipped(
    value: float, scaled: float
) -> None:
    assert features_of({"age": value}, SPECS) == (("age", scaled),)


@pytest.mark.parametrize(
    "wrong",
    [
        {"type": "flag", "range": [0, 1]},
        {"type": "number", "range": [1, 1]},
        {"type": "number", "range": [2, 1]},
        {"type": "number", "range": [0, math.inf]},
        {"type": "number", "range": [math.nan, 1]},
        {"type": "nubmer"},
        {},
    ],
)
def test_what_declares_no_feature_is_refused(wrong: object) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(wrong, FeatureSpec)
