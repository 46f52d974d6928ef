"""The kernel learner against the Gaussian process that it approximates."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
import pytest

from policies.learners import kernel
from policies.learners.kernel import Kernel, KernelSettings
from policies.model import Action, Features, FloatArray

TEA = Action(1, "tea", "text", "home", ())
JAM = Action(2, "jam", "text", "home", ())

Row = tuple[Features, float]


def rows_of_a_world(count: int, seed: int = 1) -> list[Row]:
    """What pleases is to be far from the origin: no linear function says so."""
    generator = np.random.default_rng(seed)
    rows: list[Row] = []
    for _ in range(count):
        a, b = generator.standard_normal(2)
        context = (("constant", 1.0), ("a", float(a)), ("b", float(b)))
        rows.append((context, float(a * a + b * b > 1.4)))
    return rows


def learn(learner: Kernel, rows: list[Row]) -> Kernel:
    for context, reward in rows:
        learner.learn(context, TEA, reward=reward, propensity=0.5)
    return learner


def scores(learner: Kernel, rows: list[Row]) -> FloatArray:
    return np.array([learner.score(context, [TEA])[0] for context, _ in rows])


def arc_cosine(x: FloatArray, y: FloatArray) -> float:
    """Return the arc-cosine kernel of order 1: E 2·max(0, w·x)·max(0, w·y)."""
    lengths = float(np.linalg.norm(x) * np.linalg.norm(y))
    angle = math.acos(min(max(float(x @ y) / lengths, -1.0), 1.0))
    return lengths * (math.sin(angle) + (math.pi - angle) * math.cos(angle)) / math.pi


def test_features_have_the_arc_cosine_kernel_on_average() -> None:
    learner = Kernel(KernelSettings(features=1024))
    rows = rows_of_a_world(12)

    vectors = np.array([learner._vectors.of(context) for context, _ in rows])

    # The bias is one more feature, 0.3 beside those over √3.
    inputs = [
        np.array([0.3, *(value / math.sqrt(3.0) for _, value in context)])
        for context, _ in rows
    ]
    expected = np.array([[arc_cosine(x, y) for y in inputs] for x in inputs])
    error = vectors @ vectors.T - expected
    # Each is a mean of 1,024 numbers.
    assert np.abs(error).max() < 6.0 * expected.max() / math.sqrt(1024)
    assert abs(error.mean()) < 0.05


def test_it_learns_what_no_linear_function_says() -> None:
    learner = learn(Kernel(KernelSettings(features=128)), rows_of_a_world(800))

    fresh = rows_of_a_world(300, seed=2)

    right = (scores(learner, fresh) > 0.5) == [reward > 0.5 for _, reward in fresh]
    assert right.mean() > 0.9


def test_beliefs_are_the_posterior_on_its_features() -> None:
    settings = KernelSettings(features=32, ridge=0.5, noise=0.4, noise_weight=5.0)
    rows = rows_of_a_world(60)
    learner = learn(Kernel(settings), rows)

    features = np.array([learner._vectors.of(context) for context, _ in rows])
    rewards = np.array([reward for _, reward in rows])
    inverse = np.linalg.inv(0.5 * np.eye(32) + features.T @ features)
    theta = inverse @ features.T @ rewards
    loss = rewards @ rewards - theta @ features.T @ rewards
    variance = (5.0 * 0.4**2 + loss) / 65.0
    for context, _ in rows_of_a_world(20, seed=3):
        x = learner._vectors.of(context)
        mean, deviation = learner.believe(context, [TEA])
        assert mean == pytest.approx([x @ theta], abs=1e-7)
        assert deviation == pytest.approx([math.sqrt(variance * (x @ inverse @ x))])


def test_a_correction_ends_where_the_truth_would_have() -> None:
    rows = rows_of_a_world(100)
    true_rows = [(x, 1.0 - r if i % 3 == 0 else r) for i, (x, r) in enumerate(rows)]
    settings = KernelSettings(features=64)
    corrected = learn(Kernel(settings), rows)
    for (context, before), (_, reward) in zip(rows, true_rows, strict=True):
        if reward != before:
            corrected.correct(
                context, TEA, reward=reward, before=before, propensity=0.5
            )

    right = learn(Kernel(settings), true_rows)

    for context, _ in rows:
        expected, got = right.believe(context, [TEA]), corrected.believe(context, [TEA])
        assert expected.mean == pytest.approx(got.mean, abs=1e-7)
        assert expected.deviation == pytest.approx(got.deviation, abs=1e-7)


def test_with_standardize_a_correction_ends_near_it() -> None:
    rows = rows_of_a_world(400)
    settings = KernelSettings(features=64, standardize=True)
    wrong = [(x, 1.0 - r if i % 10 == 0 else r) for i, (x, r) in enumerate(rows)]
    corrected = learn(Kernel(settings), wrong)
    for (context, reward), (_, before) in zip(rows, wrong, strict=True):
        if reward != before:
            corrected.correct(
                context, TEA, reward=reward, before=before, propensity=0.5
            )

    right = scores(learn(Kernel(settings), rows), rows)

    assert np.abs(right - scores(corrected, rows)).mean() < 0.02
    assert np.abs(right - scores(learn(Kernel(settings), wrong), rows)).mean() > 0.05


def test_features_do_not_depend_on_what_is_remembered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    contexts: list[Features] = [
        tuple((f"name-{i}", 1.0) for i in range(first, first + 5))
        for first in range(20)
    ]
    remembering = Kernel(KernelSettings(features=16))
    expected = [remembering._vectors.of(context).tolist() for context in contexts]

    monkeypatch.setattr(kernel, "_HELD_MAX", 200)
    forgetting = Kernel(KernelSettings(features=16))

    got = [forgetting._vectors.of(context).tolist() for context in contexts]
    assert expected == got


def test_beyond_the_limit_the_longest_unused_action_is_forgotten() -> None:
    # Given room for two actions, and two that were learned
    settings = KernelSettings(features=16, actions_max=2)
    context = (("constant", 1.0), ("x", 0.5))
    offers = [Action(at, f"offer-{at}", "c", "p", ()) for at in range(1, 6)]
    learner = Kernel(settings)
    for at in (0, 1, 0):
        learner.learn(context, offers[at], reward=1.0, propensity=1.0)

    # When a third is learned, before or after it was saved
    loaded = Kernel.load(settings, learner.save())
    for one in (learner, loaded):
        one.learn(context, offers[2], reward=1.0, propensity=1.0)

    # Then the one that was not learned for the longest is at the prior
    means = learner.believe(context, offers).mean
    assert (means > 0.1).tolist() == [True, False, True, False, False]
    assert means[1] == means[4] == 0.0
    assert learner.save() == loaded.save()

    # And it takes no more room, however many there are
    size = len(learner.save())
    for offer in offers * 3:
        learner.learn(context, offer, reward=1.0, propensity=1.0)
        learner.correct(context, offer, reward=0.5, before=1.0, propensity=1.0)
    assert len(learner.save()) <= size + 20


def full(like: tuple[str, ...] = ()) -> tuple[Kernel, Features, Action]:
    """Return a learner without room, and an action that it has not learned of."""
    learner = Kernel(KernelSettings(features=16, actions_max=2))
    context: Features = (("constant", 1.0), ("x", 0.5))
    for action, reward in ((TEA, -5.0), (JAM, 1.0)):
        for _ in range(30):
            learner.learn(context, action, reward=reward, propensity=1.0)
    return learner, context, Action(3, "new", "text", "home", (), like=like)


def test_what_takes_the_place_of_another_has_nothing_of_it() -> None:
    learner, context, new = full()
    fresh = Kernel(KernelSettings(features=16, actions_max=2))

    for one in (learner, fresh):
        one.learn(context, new, reward=1.0, propensity=1.0)

    assert learner.score(context, [new])[0] == fresh.score(context, [new])[0]
    loaded = Kernel.load(learner.settings, learner.save())
    for one in (learner, loaded):
        one.learn(context, new, reward=1.0, propensity=1.0)
    assert learner.save() == loaded.save()


@pytest.mark.parametrize(("sibling", "expected"), [(TEA, -5.0), (JAM, 1.0)])
def test_where_there_is_no_room_an_offer_begins_with_what_it_is_like_too(
    sibling: Action, expected: float
) -> None:
    learner, context, new = full(like=(sibling.name,))

    learner.learn(context, new, reward=expected, propensity=1.0)

    assert learner.score(context, [new])[0] == pytest.approx(expected, rel=0.02)


def test_of_what_is_forgotten_nothing_is_corrected() -> None:
    learner, context, new = full()
    learner.learn(context, new, reward=1.0, propensity=1.0)
    expected = learner.score(context, [TEA, JAM, new]).tolist()

    learner.correct(context, TEA, reward=0.0, before=-5.0, propensity=1.0)

    assert expected == learner.score(context, [TEA, JAM, new]).tolist()


def test_another_seed_has_other_features() -> None:
    context: Features = (("constant", 1.0),)
    first, second = (
        Kernel(KernelSettings(features=16, seed=seed))._vectors.of(context)
        for seed in (0, 1)
    )

    assert np.abs(first - second).max() > 0.01


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"features": 8}, "features must be from 16 to 1024, not 8"),
        ({"ridge": 0.0}, "ridge must be from 1e-6 to 1000000, not 0.0"),
        ({"noise": 0.0}, "noise must be from 1e-6 to 1000000, not 0.0"),
        ({"noise_weight": 0.0}, "noise_weight must be from 0.001 to 1000000, not 0.0"),
        ({"actions_max": 0}, "actions_max must be from 1 to 30000, not 0"),
        ({"seed": -1}, "seed must be from 0 to 1000000, not -1"),
    ],
)
def test_what_is_out_of_range_is_refused_with_its_range(
    wrong: dict[str, Any], message: str
) -> None:
    with pytest.raises(msgspec.ValidationError, match=message):
        msgspec.convert({"kind": "kernel", **wrong}, KernelSettings)
