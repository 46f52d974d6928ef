from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.learning_policies import (
    EVALUATORS,
    EpsilonLinUCB,
    Log,
    logged,
    online,
    summary_of,
)
from policies.estimators.learning import Learned


@pytest.fixture(scope="module", params=[False, True], ids=["uniform", "skewed"])
def log(request: pytest.FixtureRequest) -> Log:
    return logged("segment", 0, 240, skewed=request.param)


def test_the_log_was_drawn_with_its_probabilities(log: Log) -> None:
    chances = np.array([step.probabilities for step in log.steps])
    chosen = np.array([step.chosen for step in log.steps])

    assert chances.sum(axis=1) == pytest.approx(np.ones(240))
    assert chances.min() >= 0.25 / 7 - 1e-12
    taken = chances[np.arange(240), chosen].mean()
    assert pytest.approx((chances**2).sum(axis=1).mean(), abs=0.1) == taken


@pytest.mark.parametrize("name", EVALUATORS)
def test_every_evaluator_has_a_value_and_intervals(log: Log, name: str) -> None:
    made: Learned = EVALUATORS[name](replace(log, steps=log.steps[:120]), 0)

    assert 0 < made.updates <= 120
    assert made.observed <= made.updates
    assert made.run_low <= made.low <= made.value <= made.high <= made.run_high


def test_a_policy_that_is_let_loose_learns() -> None:
    earned = online("segment", seed=0, rows=400)

    assert earned.shape == (400,)
    assert earned[200:].mean() > earned[:100].mean()


def test_choices_are_the_best_bound_but_for_a_tenth() -> None:
    policy = EpsilonLinUCB(2, 2)
    context = np.array([1.0, 0.5])
    for _ in range(5):
        policy.learn(context, range(2), 1, reward=1.0, probability=1.0, weight=1.0)

    assert policy.distribution(context, range(2)) == pytest.approx([0.05, 0.95])


def test_errors_are_from_the_mean_of_runs_of_that_length() -> None:
    curves = np.array([[1.0, 0.5], [0.0, 0.7]])
    numbers = {"value": 0.7, "low": 0.5, "high": 0.9, "run_low": 0.4, "run_high": 1.0}
    counts = {"updates": 2.0, "observed": 1.0, "violations": 0.0}

    made = summary_of([{**numbers, **counts}], curves)

    assert pytest.approx(0.1) == made["bias"] == made["rmse"]
    assert pytest.approx(0.2) == made["rmse_run"]
    assert made["coverage"] == made["coverage_run"] == 1.0
