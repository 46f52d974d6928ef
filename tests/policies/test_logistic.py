"""Logistic learners against a Newton solution and against integrals."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.hashing import hashed
from policies.learners.logistic import Logistic, LogisticSettings
from policies.model import Action, Features, FloatArray

TEA = Action(1, "tea", "text", "home", ())
JAM = Action(2, "jam", "text", "home", ())
DIM = 8

Row = tuple[Features, float]


def rows_of_a_world(count: int, seed: int = 3) -> list[Row]:
    generator = np.random.default_rng(seed)
    rows: list[Row] = []
    for _ in range(count):
        a, b = generator.standard_normal(2)
        chance = 1.0 / (1.0 + math.exp(1.0 - 1.5 * a + 0.7 * b))
        context = (("constant", 1.0), ("a", float(a)), ("b", float(b)))
        rows.append((context, float(generator.random() < chance)))
    return rows


def learn(learner: Logistic, rows: list[Row]) -> Logistic:
    for context, reward in rows:
        learner.learn(context, TEA, reward=reward, propensity=0.5)
    return learner


def logistic(**keys: Any) -> Logistic:
    return Logistic(LogisticSettings(dim=DIM, **keys))


def newton(rows: list[Row], ridge: float) -> tuple[FloatArray, FloatArray]:
    """Return the most likely weights, and the inverse of the curvature there."""
    x = np.array([hashed(context, DIM) for context, _ in rows])
    y = np.array([reward for _, reward in rows])
    theta = np.zeros(DIM)
    for _ in range(50):
        chance = 1.0 / (1.0 + np.exp(-x @ theta))
        curvature = ridge * np.eye(DIM) + (x.T * (chance * (1 - chance))) @ x
        theta += np.linalg.solve(curvature, x.T @ (y - chance) - ridge * theta)
    return theta, np.linalg.inv(curvature)


def moments(mean: float, deviation: float) -> tuple[float, float]:
    """Return mean and deviation of the chance, by a sum over a fine grid."""
    z = np.linspace(-9.0, 9.0, 20_001)
    density = np.exp(-z * z / 2.0)
    density /= density.sum()
    chance = 0.5 + 0.5 * np.tanh(0.5 * (mean + deviation * z))
    first = float(density @ chance)
    return first, math.sqrt(max(float(density @ (chance - first) ** 2), 0.0))


def test_it_ends_near_newtons_solution() -> None:
    rows = rows_of_a_world(2_000)
    learner = learn(logistic(ridge=0.5), rows)

    theta, inverse = newton(rows, 0.5)

    for context, _ in rows_of_a_world(50, seed=4):
        x = hashed(context, DIM)
        expected = moments(float(x @ theta), math.sqrt(float(x @ inverse @ x)))
        mean, deviation = learner.believe(context, [TEA])
        assert mean == pytest.approx([expected[0]], abs=0.015)
        assert deviation == pytest.approx([expected[1]], rel=0.1)


def test_one_reward_ends_at_the_most_likely_weights() -> None:
    """For a single reward the step is Newton's solution itself."""
    rows: list[Row] = [((("a", 2.0), ("b", -1.0)), 1.0)]
    learner = learn(logistic(ridge=0.3), rows)

    theta, inverse = newton(rows, 0.3)

    x = hashed(rows[0][0], DIM)
    mean, variance = learner._odds.moments([TEA], x)
    assert mean == pytest.approx([x @ theta], abs=1e-9)
    assert variance == pytest.approx([x @ inverse @ x], abs=1e-9)


@settings(deadline=None, max_examples=30)
@given(size=st.floats(0.0, 100.0), prior=st.floats(0.01, 0.99))
def test_beliefs_are_the_moments_of_the_chance(size: float, prior: float) -> None:
    learner = logistic(prior=prior)

    mean, deviation = learner.believe((("a", size),), [JAM])

    expected = moments(math.log(prior / (1.0 - prior)), size)
    assert mean == pytest.approx([expected[0]], abs=0.02)
    assert deviation == pytest.approx([expected[1]], abs=0.02)


def test_rewards_are_taken_between_low_and_high() -> None:
    rows = rows_of_a_world(200)
    plain = learn(logistic(), rows)
    moved = learn(
        logistic(low=-1.0, high=3.0), [(x, -1.0 if r == 0.0 else 9.0) for x, r in rows]
    )

    for context, _ in rows[:20]:
        expected = plain.believe(context, [TEA, JAM])
        got = moved.believe(context, [TEA, JAM])
        assert -1.0 + 4.0 * expected.mean == pytest.approx(got.mean)
        assert 4.0 * expected.deviation == pytest.approx(got.deviation)


def test_an_action_never_tried_is_at_the_prior() -> None:
    learner = learn(logistic(prior=0.1, ridge=1e6), rows_of_a_world(20))

    assert learner.score((("a", 1.0),), [JAM]) == pytest.approx([0.1], abs=1e-4)


@pytest.mark.parametrize(("every", "tolerance"), [(50, 0.02), (10, 0.1)])
def test_a_correction_ends_near_where_the_truth_would_have(
    every: int, tolerance: float
) -> None:
    rows = rows_of_a_world(500)
    true_rows = [(x, 1.0 - r if i % every == 0 else r) for i, (x, r) in enumerate(rows)]
    corrected = learn(logistic(), rows)
    for (context, before), (_, reward) in zip(rows, true_rows, strict=True):
        if before != reward:
            corrected.correct(
                context, TEA, reward=reward, before=before, propensity=0.5
            )

    contexts = [context for context, _ in rows_of_a_world(200, seed=5)]
    right = scores(learn(logistic(), true_rows), contexts)
    wrong = scores(learn(logistic(), rows), contexts)
    got = scores(corrected, contexts)

    assert np.abs(right - got).max() < tolerance
    assert np.abs(right - got).mean() < 0.7 * np.abs(right - wrong).mean()


def scores(learner: Logistic, contexts: list[Features]) -> FloatArray:
    return np.array([learner.score(context, [TEA])[0] for context in contexts])


@pytest.mark.parametrize("reward", [1.0, 0.0])
def test_a_mad_context_moves_the_chance_the_right_way(reward: float) -> None:
    learner = Logistic(LogisticSettings(ridge=0.001))
    context: Features = (("a", 1e9), ("b", -1e9))
    before = learner.score(context, [TEA])[0]

    for _ in range(20):
        learner.learn(context, TEA, reward=reward, propensity=1.0)

    after = learner.score(context, [TEA])[0]
    assert abs(after - reward) < abs(before - reward) - 0.001


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"dim": 0}, "dim must be from 1 to 256, not 0"),
        ({"ridge": 0.0}, "ridge must be from 0.001 to 1000000, not 0.0"),
        ({"low": -2e9}, "low must be from -1e9 to 1e9, not -2000000000.0"),
        ({"low": 1.0}, "high must be above low, 1.0, to 1e9, not 1.0"),
        ({"prior": 0.0}, "prior must be from 0.0001 to 0.9999, not 0.0"),
    ],
)
def test_what_is_out_of_range_is_refused_with_its_range(
    wrong: dict[str, Any], message: str
) -> None:
    with pytest.raises(msgspec.ValidationError, match=message):
        msgspec.convert({"kind": "logistic", **wrong}, LogisticSettings)
