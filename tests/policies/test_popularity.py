"""Popularity against the closed forms of its two priors."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.learners.popularity import Popularity, PopularitySettings
from policies.model import Action

TEA = Action(1, "tea", "text", "home", ())
JAM = Action(2, "jam", "text", "home", ())

rewards_learned = st.lists(st.floats(-10.0, 10.0), max_size=20)


def learn(learner: Popularity, rewards: list[float]) -> Popularity:
    for reward in rewards:
        learner.learn((), TEA, reward=reward, propensity=0.5)
    return learner


def test_rewards_of_0_or_1_have_a_beta_prior() -> None:
    learner = Popularity(PopularitySettings(mean=0.25, weight=4.0))

    learn(learner, [1.0, 1.0, 0.0])

    # Beta(1, 3) and two successes of three: Beta(3, 4).
    assert learner.score((), [TEA, JAM]).tolist() == [3 / 7, 0.25]


@settings(deadline=None)
@given(rewards_learned, st.floats(-5.0, 5.0), st.floats(0.1, 9.0), st.floats(0.1, 5.0))
def test_beliefs_are_the_conjugate_posterior(
    rewards: list[float], mean: float, weight: float, deviation: float
) -> None:
    settings = PopularitySettings(mean=mean, weight=weight, deviation=deviation)
    learner = learn(Popularity(settings), rewards)

    believed = learner.believe((("constant", 1.0),), [TEA])

    n = len(rewards)
    average = float(np.mean(rewards)) if rewards else 0.0
    loss = sum((reward - average) ** 2 for reward in rewards)
    loss += weight * n / (weight + n) * (average - mean) ** 2
    variance = (weight * deviation**2 + loss) / (weight + n)
    expected = (weight * mean + sum(rewards)) / (weight + n)
    assert believed.mean == pytest.approx([expected], abs=1e-9)
    assert believed.deviation == pytest.approx(
        [math.sqrt(variance / (weight + n))], abs=1e-6
    )


@settings(deadline=None)
@given(rewards_learned, st.lists(st.floats(-10.0, 10.0), max_size=5))
def test_a_correction_ends_where_the_truth_would_have(
    rewards: list[float], truths: list[float]
) -> None:
    corrected = learn(Popularity(PopularitySettings()), rewards)
    for reward, before in zip(truths, rewards, strict=False):
        corrected.correct((), TEA, reward=reward, before=before, propensity=0.5)

    truths = truths[: len(rewards)]
    right = learn(Popularity(PopularitySettings()), truths + rewards[len(truths) :])

    expected, got = right.believe((), [TEA]), corrected.believe((), [TEA])
    assert expected.mean == pytest.approx(got.mean, abs=1e-9)
    assert expected.deviation == pytest.approx(got.deviation, abs=1e-6)


def test_other_settings_read_the_same_state() -> None:
    blob = learn(Popularity(PopularitySettings()), [1.0]).save()

    learner = Popularity.load(PopularitySettings(weight=3.0), blob)

    assert learner.score((), [TEA]) == pytest.approx([0.25])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"mean": 2e9}, "mean must be from -1e9 to 1e9, not 2000000000.0"),
        ({"weight": 0.0}, "weight must be from 0.001 to 1000000, not 0.0"),
        ({"deviation": 0.0}, "deviation must be from 1e-6 to 1e9, not 0.0"),
    ],
)
def test_what_is_out_of_range_is_refused_with_its_range(
    wrong: dict[str, Any], message: str
) -> None:
    with pytest.raises(msgspec.ValidationError, match=message):
        msgspec.convert({"kind": "popularity", **wrong}, PopularitySettings)
