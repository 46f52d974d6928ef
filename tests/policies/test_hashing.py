"""Hashing: every name has its places, whoever asks and whatever else there is."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies import hashing
from policies.hashing import Hasher, hashed

contexts = st.dictionaries(
    st.text(max_size=5), st.floats(-10.0, 10.0), max_size=12
).map(lambda features: tuple(features.items()))


def test_names_have_the_same_places_on_every_machine() -> None:
    vector = hashed((("segment=free", 1.0), ("größe", 2.0), ("constant", 4.0)), 8)

    half = math.sqrt(0.5)
    expected = [3.0, 0.0, 4.0, 0.0, 4.0, -3.0, 0.0, 0.0]
    assert vector.tolist() == pytest.approx([half * share for share in expected])


def test_names_that_share_a_place_can_still_be_told_apart() -> None:
    vectors = np.array([hashed(((f"name-{i}", 1.0),), 32) for i in range(300)])

    gram = vectors @ vectors.T

    assert np.diag(gram) == pytest.approx(1.0)
    alike = np.abs(np.triu(gram, 1)) > 0.99
    # Of all pairs about one in 1,000; with one place a name it would be one in 32.
    assert alike.sum() < 300 * 299 / 2 / 500


@given(contexts, st.integers(1, 64))
def test_hashing_does_not_look_at_the_order(
    context: tuple[tuple[str, float], ...], dim: int
) -> None:
    forward, backward = hashed(context, dim), hashed(context[::-1], dim)

    assert forward.shape == (dim,)
    assert forward == pytest.approx(backward, abs=1e-9)


@given(contexts)
def test_many_names_at_once_go_where_each_goes_alone(
    context: tuple[tuple[str, float], ...],
) -> None:
    many = (*context, *((f"filler-{i}", 0.0) for i in range(200)))
    alone = sum((hashed((feature,), 64) for feature in context), np.zeros(64))

    assert hashed(context, 64) == pytest.approx(alone, abs=1e-9)
    assert hashed(many, 64) == pytest.approx(alone, abs=1e-9)


def test_more_than_is_remembered_still_has_its_places(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    contexts = [
        tuple((f"name-{i}", float(i)) for i in range(first, first + 50))
        for first in range(20)
    ]
    expected = [hashed(context, 32).tolist() for context in contexts]

    monkeypatch.setattr(hashing, "_NAMES_MAX", 7)
    monkeypatch.setattr(hashing, "_LAYOUTS_MAX", 4_000)
    hasher = Hasher(32)

    assert expected == [hasher.vector(context).tolist() for context in contexts]
    assert len(hasher._places_of) <= 7
    assert len(hasher._layout_of) <= 3
