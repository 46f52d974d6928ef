"""LinUCB against the formulas of its paper, and what only it promises."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.hashing import hashed
from policies.learners.linucb import LinUCB, LinUCBSettings
from policies.model import Action, Features, FloatArray

TEA = Action(1, "tea", "text", "home", ())
JAM = Action(2, "jam", "text", "home", (("price", 0.5),))

names = st.sampled_from([f"feature-{i}" for i in range(12)])
contexts = st.dictionaries(names, st.floats(-5.0, 5.0), max_size=8).map(
    lambda features: tuple(features.items())
)
rewards = st.floats(-10.0, 10.0)


def vector(learner: LinUCB, context: Features) -> FloatArray:
    return hashed(context, learner.settings.dim)


@settings(deadline=None)
@given(
    rows=st.lists(st.tuples(contexts, st.sampled_from([TEA, JAM]), rewards)),
    context=contexts,
    keys=st.builds(
        LinUCBSettings,
        alpha=st.floats(0.0, 3.0),
        ridge=st.floats(0.1, 10.0),
        noise=st.just(0.0) | st.floats(0.1, 3.0),
        dim=st.integers(1, 8),
    ),
)
def test_scores_are_those_of_the_inverted_matrix(
    rows: list[tuple[Features, Action, float]],
    context: Features,
    keys: LinUCBSettings,
) -> None:
    learner, dim = LinUCB(keys), keys.dim

    for row, action, reward in rows:
        learner.learn(row, action, reward=reward, propensity=0.5)

    expected = []
    x = vector(learner, context)
    for action in (TEA, JAM):
        learned = [(row, reward) for row, of, reward in rows if of is action]
        design = np.array([vector(learner, row) for row, _ in learned]).reshape(-1, dim)
        inverse = np.linalg.inv(keys.ridge * np.eye(dim) + design.T @ design)
        theta = inverse @ design.T @ np.array([reward for _, reward in learned])
        variance = max(float(x @ inverse @ x), 0.0) + keys.noise**2
        expected.append(x @ theta + keys.alpha * math.sqrt(variance))
    assert expected == pytest.approx(
        learner.score(context, [TEA, JAM]).tolist(), rel=1e-6, abs=1e-6
    )


def test_an_action_never_learned_from_is_at_the_prior() -> None:
    learner = LinUCB(LinUCBSettings(alpha=0.5, ridge=4.0))
    learner.learn((("x", 1.0),), TEA, reward=5.0, propensity=0.5)

    # xᵀx / ridge is 3² / 4, and its root 1.5.
    assert learner.score((("x", 3.0),), [JAM]) == pytest.approx([0.75])


def test_propensities_change_nothing() -> None:
    certain, rare = LinUCB(LinUCBSettings()), LinUCB(LinUCBSettings())

    certain.learn((("x", 1.0),), TEA, reward=1.0, propensity=1.0)
    rare.learn((("x", 1.0),), TEA, reward=1.0, propensity=0.001)

    assert certain.save() == rare.save()


def test_a_hundred_actions_each_keep_what_they_learned() -> None:
    actions = [Action(i, f"offer-{i}", "text", "home", ()) for i in range(1, 101)]
    learner = LinUCB(LinUCBSettings(dim=4, alpha=0.0, ridge=1.0))

    for action in actions:
        learner.learn((("x", 1.0),), action, reward=action.index, propensity=0.5)

    scores = LinUCB.load(learner.settings, learner.save()).score((("x", 1.0),), actions)
    assert [action.index / 2 for action in actions] == pytest.approx(scores.tolist())


def test_a_state_of_another_shape_is_refused() -> None:
    blob = LinUCB(LinUCBSettings(dim=8)).save()

    with pytest.raises(ValueError, match=r"not of this kind: linucb dim=16 ridge=1\.0"):
        LinUCB.load(LinUCBSettings(dim=16), blob)


def test_another_alpha_reads_the_same_state() -> None:
    learner = LinUCB(LinUCBSettings(alpha=0.0))
    learner.learn((("x", 1.0),), TEA, reward=1.0, propensity=0.5)

    bolder = LinUCB.load(LinUCBSettings(alpha=1.0), learner.save())

    x: Features = (("x", 1.0),)
    assert bolder.score(x, [TEA])[0] > learner.score(x, [TEA])[0]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"dim": 0}, "dim must be from 1 to 256, not 0"),
        ({"alpha": -1.0}, "alpha must be from 0 to 1000, not -1.0"),
        ({"ridge": 0.0}, "ridge must be from 0.001 to 1000000, not 0.0"),
        ({"noise": -0.5}, "noise must be from 0 to 1000, not -0.5"),
        ({"ridge": math.nan}, "ridge must be from 0.001 to 1000000, not nan"),
    ],
)
def test_what_is_out_of_range_is_refused_with_its_range(
    wrong: dict[str, float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        LinUCBSettings(**wrong)  # type: ignore[arg-type]


def test_scores_ahead_are_those_of_one_by_one_while_rewards_are_learned() -> None:
    rng = np.random.default_rng(7)
    contexts = [
        tuple([(f"x{at}", float(value)) for at, value in enumerate(row)])
        for row in rng.standard_normal((150, 4))
    ]
    names = ("tea", "jam", "tea")  # Two of one name share what is learned of it.
    actions = [Action(at, name, "c", "p", ()) for at, name in enumerate(names, 1)]
    settings = LinUCBSettings(dim=8, alpha=1.0, noise=0.5)
    ahead, alone = LinUCB(settings), LinUCB(settings)
    bounds = ahead.ahead(contexts, actions)

    for at, context in enumerate(contexts):
        told = bounds.scores(at)[:, 0]

        np.testing.assert_allclose(told, alone.score(context, actions), rtol=1e-12)
        if at % 3:
            place, reward = at % len(actions), float(rng.standard_normal())
            bounds.learn(place, at, reward)
            alone.learn(context, actions[place], reward=reward, propensity=1.0)
    assert ahead.save() == alone.save()
