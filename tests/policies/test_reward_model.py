"""The reward model of doubly robust estimates: what it learns and never sees."""

from __future__ import annotations

import numpy as np
import pytest

from policies.estimators import Rows, dr, ips
from policies.hashing import hashed
from policies.intervals import estimate
from policies.model import Features, FloatArray
from policies.reward_model import IntArray, Moments, cross_fit, fold_of

N = 3000


@pytest.fixture(scope="module")
def log() -> tuple[list[Features], IntArray, FloatArray, list[str], FloatArray]:
    """A log of three actions, whose mean rewards are linear in the context."""
    rng = np.random.default_rng(3)
    age, plan = rng.random(N), rng.integers(2, size=N)
    contexts: list[Features] = [
        (("age", float(a)), (f"plan={'free' if p else 'paid'}", 1.0))
        for a, p in zip(age, plan, strict=True)
    ]
    means = np.stack([0.2 + age, 1.0 - age, 0.5 + 0.3 * plan], axis=1)
    actions = rng.integers(3, size=N)
    rewards = means[np.arange(N), actions] + 0.1 * rng.normal(size=N)
    return contexts, actions, rewards, [f"user-{row}" for row in range(N)], means


def test_what_is_linear_in_the_context_is_learned(
    log: tuple[list[Features], IntArray, FloatArray, list[str], FloatArray],
) -> None:
    contexts, actions, rewards, keys, means = log
    predicted = cross_fit(contexts, actions, rewards, keys, n_actions=3)
    assert predicted.shape == (N, 3)
    assert np.abs(predicted - means).max() < 0.05


def test_no_prediction_knows_the_reward_of_its_own_key(
    log: tuple[list[Features], IntArray, FloatArray, list[str], FloatArray],
) -> None:
    contexts, actions, rewards, keys, _ = log
    keys = [f"user-{row % 100}" for row in range(N)]
    mine = np.array([key == "user-7" for key in keys])
    before = cross_fit(contexts, actions, rewards, keys, n_actions=3)
    after = cross_fit(contexts, actions, rewards + 1000.0 * mine, keys, n_actions=3)
    # Sums over all rows less those of a fold: equal but for rounding.
    assert after[mine] == pytest.approx(before[mine], abs=1e-6)
    assert np.abs(after - before).max() > 1.0


def test_it_is_the_ridge_regression_of_the_other_folds(
    log: tuple[list[Features], IntArray, FloatArray, list[str], FloatArray],
) -> None:
    contexts, actions, rewards, keys, _ = log
    weights = np.linspace(0.0, 2.0, N)
    predicted = cross_fit(
        contexts,
        actions,
        rewards,
        keys,
        n_actions=3,
        weights=weights,
        dim=8,
        folds=3,
        ridge=5.0,
    )
    others = np.array([fold_of(key, 3) != fold_of(keys[0], 3) for key in keys])
    design = np.array([[1.0, *hashed(context, 8)] for context in contexts])
    mean = np.average(rewards[others], weights=weights[others])
    for action in range(3):
        rows = others & (actions == action)
        # Ridge is least squares with √ridge·I as further rows, and 0 as their rewards.
        root = np.sqrt(weights[rows])[:, None]
        left = np.vstack([root * design[rows], np.sqrt(5.0) * np.eye(9)])
        right = np.append(root[:, 0] * (rewards[rows] - mean), np.zeros(9))
        theta = np.linalg.lstsq(left, right)[0]
        assert predicted[0, action] == pytest.approx(mean + design[0] @ theta, abs=1e-9)


def test_an_action_never_seen_is_expected_to_earn_the_mean(
    log: tuple[list[Features], IntArray, FloatArray, list[str], FloatArray],
) -> None:
    contexts, actions, rewards, keys, _ = log
    predicted = cross_fit(contexts, actions, rewards, keys, n_actions=4)
    assert predicted[:, 3] == pytest.approx(rewards.mean(), abs=0.02)


def test_a_log_of_one_row_says_nothing_about_itself() -> None:
    predicted = cross_fit(
        [(("age", 1.0),)], np.array([0]), np.array([7.0]), ["user-1"], n_actions=2
    )
    assert predicted.tolist() == [[0.0, 0.0]]


def test_a_log_of_no_rows_has_no_predictions() -> None:
    nothing = np.array([], dtype=int)
    assert cross_fit([], nothing, nothing * 1.0, [], n_actions=2).shape == (0, 2)


def test_with_the_model_an_estimate_is_calmer(
    log: tuple[list[Features], IntArray, FloatArray, list[str], FloatArray],
) -> None:
    contexts, actions, rewards, keys, means = log
    best = means.argmax(axis=1)
    rows = np.arange(N)
    target = np.full((N, 3), 0.05)
    target[rows, best] = 0.9
    weights = 3 * target[rows, actions]
    values = cross_fit(contexts, actions, rewards, keys, n_actions=3)
    weighed = Rows(
        rewards=rewards,
        weights=weights,
        logged_values=values[rows, actions],
        target_values=(target * values).sum(axis=1),
    )
    robust, plain = (
        estimate(estimator(weighed), weights=weights, rewards=rewards)
        for estimator in (dr, ips)
    )
    assert robust.standard_error < plain.standard_error / 2
    assert robust.low < (target * means).sum(axis=1).mean() < robust.high


def test_folds_are_of_about_the_same_size() -> None:
    sizes = np.bincount([fold_of(f"user-{row}", 5) for row in range(10_000)])
    assert sizes.min() > 1850
    assert sizes.max() < 2150


def test_folds_are_the_same_on_every_machine() -> None:
    assert [fold_of(f"user-{row}", 5) for row in range(8)] == [1, 4, 0, 1, 3, 1, 3, 3]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"actions": np.array([0, 2])}, "actions must be from 0 to n_actions - 1 = 1"),
        ({"actions": np.array([0, -1])}, "actions must be from 0"),
        ({"actions": np.array([0])}, "there are 2 contexts"),
        ({"keys": ["a"]}, "there are 2 contexts"),
        ({"rewards": np.array([0.0, np.nan])}, "rewards must be finite: row 1 is nan"),
        (
            {"weights": np.array([-1.0, 1.0])},
            "weights must be 0 or more: row 0 is -1.0",
        ),
        ({"n_actions": 0}, "actions must be"),
        ({"dim": 0}, "dim must be at least 1, not 0"),
        ({"folds": 1}, "folds must be at least 2, not 1"),
        ({"ridge": 0.0}, "ridge must be above 0, not 0.0"),
    ],
)
def test_what_is_not_a_log_is_refused(change: dict[str, object], message: str) -> None:
    arguments: dict[str, object] = {
        "contexts": [(), ()],
        "actions": np.array([0, 1]),
        "rewards": np.array([0.0, 1.0]),
        "keys": ["a", "b"],
        "n_actions": 2,
    }
    with pytest.raises(ValueError, match=message):
        cross_fit(**(arguments | change))  # type: ignore[arg-type]


# --- Parts of a log -----------------------------------------------------------------


def test_parts_of_a_log_add_up_to_the_same_model(
    log: tuple[list[Features], IntArray, FloatArray, list[str], FloatArray],
) -> None:
    # Given parts that have not seen the same actions
    contexts, actions, rewards, _, _ = log
    fold = np.arange(N) % 3
    names = ["tea", "jam", "bun"]
    order = np.argsort(actions, kind="stable")

    def moments(rows: IntArray) -> Moments:
        found = Moments(folds=3, dim=16)
        found.add(
            [contexts[row] for row in rows],
            names,
            actions[rows],
            rewards[rows, None],
            fold=fold[rows],
        )
        return found

    first, second = moments(order[:1_200]), moments(order[1_200:])
    parts, whole = first + second, moments(np.arange(N))

    # Then together they predict as one, and adding has changed none of them
    expected = whole.solve().predict(contexts, fold)
    np.testing.assert_allclose(parts.solve().predict(contexts, fold), expected)
    assert parts.size == whole.size == 3 * 3 * 17 * 17
    assert first.size < whole.size


def test_several_rewards_are_predicted_by_one_model(
    log: tuple[list[Features], IntArray, FloatArray, list[str], FloatArray],
) -> None:
    contexts, actions, rewards, _, _ = log
    fold = np.arange(N) % 2
    both = Moments(folds=2, dim=16)
    columns = np.stack([rewards, 3.0 - rewards], axis=1)
    both.add(contexts, ["tea", "jam", "bun"], actions, columns, fold=fold)

    model = both.solve(names=["bun", "tea", "soup"])

    assert model.names == ["bun", "tea", "soup"]
    one, other = (model.predict(contexts, fold, reward) for reward in (0, 1))
    np.testing.assert_allclose(one + other, 3.0, atol=0.05)


def test_nothing_added_is_nothing_known() -> None:
    empty = Moments(folds=2, dim=4)
    empty.add([], ["tea"], np.zeros(0, int), np.zeros((0, 1)), fold=np.zeros(0, int))

    assert empty.size == 0
    predicted = empty.solve(names=["tea"]).predict([()], np.array([1]))
    assert predicted.tolist() == [[0.0]]
