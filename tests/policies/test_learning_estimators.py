"""Evaluating policies that learn: what is kept, what is counted, what it is worth."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from policies.estimators.fitting import cross_fit_smooth
from policies.estimators.learning import (
    Learned,
    Step,
    completed,
    dr_ns,
    explore_eval,
    rejection,
    replay,
)
from policies.model import FloatArray

MEANS = np.array([[0.8, 0.3, 0.1], [0.1, 0.4, 0.7]])
"""What each of three actions earns, in each of two contexts."""

KEPT: dict[str, Callable[..., Learned]] = {"replay": replay, "rejection": rejection}
EVALUATORS: dict[str, Callable[[list[Step]], Learned]] = {
    "replay": lambda steps: replay(Means(), steps),
    "rejection": lambda steps: rejection(Means(), steps),
    "explore_eval": lambda steps: explore_eval(Means(), steps),
    "dr_ns": lambda steps: dr_ns(Means(), steps, quantile=0.0),
    "completed": lambda steps: completed(Means, steps),
}
every_evaluator = pytest.mark.parametrize(
    "evaluate", EVALUATORS.values(), ids=EVALUATORS
)


class Means:
    """Takes the action with the best mean so far nine times of ten."""

    def __init__(self) -> None:
        self.sums = np.ones_like(MEANS)
        self.counts = np.ones_like(MEANS)
        self.lessons: list[tuple[int, int, float, float, float]] = []

    def distribution(self, context: int, actions: Sequence[int]) -> FloatArray:
        chances = np.full(len(actions), 0.1 / len(actions))
        chances[np.argmax(self.sums[context] / self.counts[context])] += 0.9
        return chances

    def learn(
        self,
        context: int,
        actions: Sequence[int],
        chosen: int,
        *,
        reward: float,
        probability: float,
        weight: float,
    ) -> None:
        self.lessons.append((context, chosen, reward, probability, weight))
        self.sums[context, chosen] += weight * reward
        self.counts[context, chosen] += weight


def log(n: int, seed: int, *, skewed: bool = False, values: bool = True) -> list[Step]:
    rng = np.random.default_rng(seed)
    steps = []
    for _ in range(n):
        context = int(rng.integers(2))
        chances = np.full(3, 1 / 3)
        if skewed:
            chances = np.full(3, 0.1)
            chances[1 - context] = 0.8
        chosen = min(int((chances.cumsum() < rng.random()).sum()), 2)
        steps.append(
            Step(
                context=context,
                actions=range(3),
                chosen=chosen,
                reward=float(rng.random() < MEANS[context, chosen]),
                probabilities=chances,
                values=MEANS[context] + 0.05 if values else None,
            )
        )
    return steps


def online(length: int, runs: int = 25) -> float:
    """Return what the policy earns on average in a run of so many decisions."""
    rng = np.random.default_rng(99)
    earned = 0.0
    for _ in range(runs):
        policy = Means()
        for _ in range(length):
            context = int(rng.integers(2))
            ends = policy.distribution(context, range(3)).cumsum()
            chosen = min(int((ends < rng.random()).sum()), 2)
            reward = float(rng.random() < MEANS[context, chosen])
            earned += MEANS[context, chosen]
            policy.learn(
                context, range(3), chosen, reward=reward, probability=1.0, weight=1.0
            )
    return earned / length / runs


@every_evaluator
def test_on_a_uniform_log_the_value_is_that_of_a_run_as_long(
    evaluate: Callable[[list[Step]], Learned],
) -> None:
    made = evaluate(log(1_200, seed=1))

    truth = online(round(made.updates))
    assert made.low < truth < made.high
    assert pytest.approx(truth, abs=0.06) == made.value
    assert made.run_low < made.low < made.value < made.high < made.run_high
    assert made.violations <= 1  # DR-ns begins with the largest multiplier.


@pytest.mark.parametrize("name", ["rejection", "completed"])
def test_on_a_skewed_log_propensities_are_used(name: str) -> None:
    made = EVALUATORS[name](log(2_000, seed=2, skewed=True))

    assert made.low < online(round(made.updates)) < made.high


def test_completing_keeps_at_its_own_rate_and_counts_what_was_observed() -> None:
    steps = log(2_000, seed=3, skewed=True)

    kept = rejection(Means(), steps)
    made = completed(Means, steps, rate=0.4)

    assert pytest.approx(0.4 * 2_000, rel=0.05) == made.updates
    assert made.updates > 2.0 * kept.updates
    assert 0.0 < made.observed < made.updates
    assert made.high - made.low < kept.high - kept.low


def test_where_every_action_is_likely_enough_nothing_is_filled_in() -> None:
    steps = log(600, seed=4)

    made = completed(Means, steps, rate=1 / 3)

    assert made.observed == made.updates
    assert pytest.approx(200, rel=0.15) == made.updates


def test_every_context_is_kept_as_often_as_it_comes() -> None:
    policies: list[Means] = []

    def make() -> Means:
        policies.append(Means())
        return policies[-1]

    completed(make, log(2_000, seed=5, skewed=True), rate=0.5, passes=2)

    for policy in policies:
        contexts = [context for context, *_ in policy.lessons]
        assert pytest.approx(0.5, abs=0.05) == np.mean(contexts)
        assert all(0.0 <= reward <= 1.0 for _, _, reward, *_ in policy.lessons)


def test_in_order_the_log_is_walked_as_it_is() -> None:
    class Reader(Means):
        def distribution(self, context: int, actions: Sequence[int]) -> FloatArray:
            seen.append(context)
            return super().distribution(context, actions)

    seen: list[int] = []
    steps = log(50, seed=6)

    completed(Reader, steps, passes=2, in_order=True)

    assert [step.context for step in steps] * 2 == seen


@every_evaluator
def test_the_same_seed_gives_the_same_value(
    evaluate: Callable[[list[Step]], Learned],
) -> None:
    steps = log(200, seed=7)

    assert evaluate(steps).value == evaluate(steps).value


def test_other_seeds_draw_otherwise() -> None:
    steps = log(200, seed=7)

    values = {replay(Means(), steps, seed=seed).updates for seed in range(5)}

    assert len(values) > 1


def test_the_policy_learns_with_its_own_probability_and_the_logs_reward() -> None:
    for evaluate in KEPT.values():
        policy = Means()
        made = evaluate(policy, log(100, seed=8))
        assert len(policy.lessons) == made.updates == made.observed
        for _, _, reward, probability, weight in policy.lessons:
            assert reward in {0.0, 1.0}
            assert pytest.approx(0.1 / 3) == probability or probability > 0.9
            assert weight == 1.0


def test_a_multiplier_that_is_too_large_is_counted() -> None:
    steps = log(300, seed=9, skewed=True)

    made = rejection(Means(), steps, multiplier=0.5)

    assert made.multiplier == 0.5
    assert made.violations > 0
    assert made.updates > rejection(Means(), steps).updates


def test_explore_eval_falls_to_the_smallest_ratio_it_meets() -> None:
    steps = log(300, seed=10, skewed=True)

    free = explore_eval(Means(), steps)
    fixed = explore_eval(Means(), steps, multiplier=0.5)

    assert pytest.approx(0.1 / (0.9 + 0.1 / 3)) == free.multiplier
    assert free.violations == 0
    assert fixed.multiplier == 0.5
    assert fixed.violations > 0


def test_explore_eval_meets_a_target_rate_with_weights() -> None:
    policy = Means()

    made = explore_eval(policy, log(1_000, seed=11), target_rate=0.6)

    assert pytest.approx(600, rel=0.2) == made.updates
    assert max(weight for *_, weight in policy.lessons) > 1.0
    assert pytest.approx(made.updates) == sum(weight for *_, weight in policy.lessons)


def test_dr_ns_keeps_more_with_a_larger_quantile() -> None:
    steps = log(1_500, seed=12, skewed=True)

    strict = dr_ns(Means(), steps, quantile=0.0)
    loose = dr_ns(Means(), steps, quantile=0.3)

    assert loose.updates > 1.3 * strict.updates
    assert loose.violations > strict.violations
    assert strict.multiplier <= loose.multiplier <= 1.0


def test_where_nothing_is_kept_there_is_no_value() -> None:
    steps = log(1, seed=0)

    made = rejection(Means(), steps, multiplier=1e-9)

    assert made.updates == 0.0
    assert np.isnan([made.value, made.low, made.run_high]).all()


@pytest.mark.parametrize("evaluate", [dr_ns, lambda _, steps: completed(Means, steps)])
def test_without_a_model_what_needs_one_is_refused(
    evaluate: Callable[[Means, list[Step]], Learned],
) -> None:
    with pytest.raises(ValueError, match="reward model"):
        evaluate(Means(), log(5, seed=0, values=False))


def test_arguments_out_of_range_are_refused() -> None:
    steps = log(5, seed=0)

    for rate in (0.0, 1.5):
        with pytest.raises(ValueError, match="rate must be in"):
            completed(Means, steps, rate=rate)
    with pytest.raises(ValueError, match="passes must be"):
        completed(Means, steps, passes=1)


def circles(n: int) -> tuple[FloatArray, FloatArray]:
    """Return points, and what two actions earn there: inside or outside of a ring."""
    rng = np.random.default_rng(1)
    points = rng.normal(size=(n, 3))
    points[:, 2] = 5.0  # Says nothing.
    inside = np.exp(-(points[:, 0] ** 2) - points[:, 1] ** 2)
    return points, np.stack([inside, 1.0 - inside], axis=1)


def test_the_smooth_model_learns_what_is_no_line() -> None:
    points, means = circles(1_200)
    chosen = np.arange(1_200) % 2
    rewards = means[np.arange(1_200), chosen]

    made = cross_fit_smooth(
        points, chosen, rewards, np.arange(1_200) // 2 % 4, n_actions=3, waves=100
    )

    assert made.shape == (1_200, 3)
    assert np.sqrt(((made[:, :2] - means) ** 2).mean()) < 0.07
    assert made[:, 2] == pytest.approx(np.full(1_200, rewards.mean()), abs=0.05)


def test_the_smooth_model_never_sees_the_fold_that_it_predicts() -> None:
    points, means = circles(200)
    chosen, folds = np.zeros(200, dtype=int), np.arange(200) % 3
    changed = means[:, 0].copy()
    changed[folds == 0] = 0.5

    before = cross_fit_smooth(points, chosen, means[:, 0], folds, n_actions=1, waves=20)
    after = cross_fit_smooth(points, chosen, changed, folds, n_actions=1, waves=20)

    assert (before[folds == 0] == after[folds == 0]).all()
    assert (before[folds == 1] != after[folds == 1]).any()


def test_what_the_smooth_model_predicts_is_earned_on_average() -> None:
    points, means = circles(1_500)
    chosen = (np.arange(1_500) % 10 == 0).astype(int)  # The second is seldom taken.
    uniform = np.random.default_rng(2).random(1_500)
    rewards = (uniform < means[np.arange(1_500), chosen]).astype(float)

    counts = np.where(chosen == 1, 10.0, 1.0)
    made = cross_fit_smooth(
        points,
        chosen,
        rewards,
        np.arange(1_500) // 10 % 5,
        n_actions=2,
        waves=50,
        weights=counts,
    )

    told = made[np.arange(1_500), chosen]
    assert 0.0 <= made.min() <= made.max() <= 1.0
    for low, high in ((0.0, 0.35), (0.35, 0.7), (0.7, 1.01)):
        within = (low <= told) & (told < high)
        earned = np.average(rewards[within], weights=counts[within])
        assert pytest.approx(earned, abs=0.1) == np.average(
            told[within], weights=counts[within]
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"X": np.ones(4)}, "X must be"),
        ({"chosen": np.array([0, 1, 2, 0])}, "chosen must be"),
        ({"waves": 0}, "waves must be"),
        ({"folds": np.array([0, 1, 0, 1])}, "at least 3 folds"),
        ({"length": 0.0}, "above 0"),
        ({"ridge": -1.0}, "above 0"),
    ],
)
def test_what_the_smooth_model_cannot_use_is_refused(
    change: dict[str, object], message: str
) -> None:
    given: dict[str, object] = {
        "X": np.ones((4, 1)),
        "chosen": np.zeros(4, dtype=int),
        "rewards": np.ones(4),
        "folds": np.arange(4),
        "n_actions": 2,
    }

    with pytest.raises(ValueError, match=message):
        cross_fit_smooth(**{**given, **change})  # type: ignore[arg-type]
