"""Linear learners against closed forms: inverted matrices and conjugate posteriors."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.hashing import hashed
from policies.learners import pairing
from policies.learners.linear import Linear, LinearSettings
from policies.learners.pairing import Pairing
from policies.model import Action, Features, FloatArray

TEA = Action(1, "tea", "text", "home", (("price", 0.5), ("hot", 1.0)))
JAM = Action(2, "jam", "text", "home", (("price", 0.9),))
SOAP = Action(3, "soap", "text", "home", ())
ACTIONS = (TEA, JAM, SOAP)
PRIOR_NOISE, PRIOR_WEIGHT = 0.7, 3.0

fast = settings(deadline=None, max_examples=25)
names = st.sampled_from([f"feature-{i}" for i in range(8)])
contexts = st.dictionaries(names, st.floats(-5.0, 5.0), max_size=6).map(
    lambda features: tuple(features.items())
)


class Row(NamedTuple):
    """A reward that is to be learned."""

    context: Features
    action: Action
    reward: float


rows_learned = st.lists(
    st.builds(Row, contexts, st.sampled_from(ACTIONS), st.floats(-10.0, 10.0)),
    max_size=20,
)


def linear(**keys: Any) -> Linear:
    return Linear(LinearSettings(noise=PRIOR_NOISE, noise_weight=PRIOR_WEIGHT, **keys))


def learn(learner: Linear, rows: list[Row]) -> Linear:
    for row in rows:
        learner.learn(row.context, row.action, reward=row.reward, propensity=0.5)
    return learner


def design(shape: str, dim: int, context: Features, action: Action) -> FloatArray:
    """Return the features of the one big regression that a shape amounts to."""
    x = hashed(context, dim)
    own = np.zeros((len(ACTIONS), dim))
    own[ACTIONS.index(action)] = x
    (common,) = Pairing(dim).pairs(x, [action])
    parts = {"disjoint": (own.ravel(),), "shared": (common,)}
    return np.concatenate(parts.get(shape, (own.ravel(), common)))


class Posterior(NamedTuple):
    """The normal-inverse-gamma posterior, with every matrix inverted."""

    theta: FloatArray
    a_inv: FloatArray
    variance: float

    def belief(self, x: FloatArray) -> tuple[float, float]:
        spread = max(float(x @ self.a_inv @ x), 0.0)
        return float(x @ self.theta), math.sqrt(self.variance * spread)


def posterior(
    rows: FloatArray, rewards: FloatArray, weights: FloatArray, ridge: float
) -> Posterior:
    a_inv = np.linalg.inv(ridge * np.eye(rows.shape[1]) + (rows.T * weights) @ rows)
    b = rows.T @ (weights * rewards)
    theta = a_inv @ b
    loss = float(weights @ rewards**2 - b @ theta)
    believed = PRIOR_WEIGHT * PRIOR_NOISE**2
    return Posterior(
        theta,
        a_inv.astype(np.float64),
        (believed + loss) / (PRIOR_WEIGHT + weights.sum()),
    )


@pytest.mark.parametrize("shape", ["disjoint", "shared", "hybrid"])
@fast
@given(
    rows=rows_learned,
    context=contexts,
    ridge=st.floats(0.1, 10.0),
    dim=st.integers(1, 8),
)
def test_beliefs_are_the_posterior_of_the_joint_regression(
    shape: Any, rows: list[Row], context: Features, ridge: float, dim: int
) -> None:
    learner = learn(linear(shape=shape, dim=dim, ridge=ridge), rows)

    believed = learner.believe(context, ACTIONS)

    features = functools.partial(design, shape, dim)
    big = np.array([features(row.context, row.action) for row in rows])
    rewards = np.array([row.reward for row in rows])
    size = len(features((), TEA))
    known = posterior(big.reshape(-1, size), rewards, np.ones(len(rows)), ridge)
    expected = [known.belief(features(context, action)) for action in ACTIONS]
    got = list(zip(*(part.tolist() for part in believed), strict=True))
    assert [pytest.approx(pair, rel=1e-6, abs=1e-6) for pair in expected] == got
    assert believed.mean.tolist() == learner.score(context, ACTIONS).tolist()


@fast
@given(rows=rows_learned, context=contexts, forgetting=st.floats(0.5, 0.999))
def test_what_is_forgotten_fades_and_the_prior_does_not(
    rows: list[Row], context: Features, forgetting: float
) -> None:
    learner = learn(linear(dim=4, ridge=2.0, forgetting=forgetting), rows)

    score = learner.score(context, ACTIONS)

    x = hashed(context, 4)
    for action, got in zip(ACTIONS, score, strict=True):
        own = [row for row in rows if row.action is action]
        weights = np.array([forgetting**age for age in range(len(own))][::-1])
        x_of = np.array([hashed(row.context, 4) for row in own]).reshape(-1, 4)
        rewards = np.array([row.reward for row in own])
        known = posterior(x_of, rewards, weights, 2.0)
        assert known.theta @ x == pytest.approx(got, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("shape", ["disjoint", "shared"])
def test_with_forgetting_a_change_is_followed_and_without_it_is_not(
    shape: Any,
) -> None:
    before = [Row((("x", 1.0),), TEA, 1.0)] * 500
    after = [Row((("x", 1.0),), TEA, 0.0)] * 100

    forgetful = learn(linear(shape=shape, forgetting=0.95), before + after)
    faithful = learn(linear(shape=shape), before + after)

    assert forgetful.score((("x", 1.0),), [TEA])[0] < 0.01
    assert faithful.score((("x", 1.0),), [TEA])[0] > 0.8


def test_after_long_forgetting_it_is_still_a_regression() -> None:
    learner = linear(dim=64, forgetting=0.5, ridge=0.001)

    learn(learner, [Row((("x", 1000.0), ("y", 1000.0)), TEA, 1.0)] * 3_000)

    mean, deviation = learner.believe((("x", 1000.0), ("y", 1000.0)), [TEA])
    assert mean == pytest.approx([1.0], abs=1e-3)
    assert np.isfinite(deviation).all()
    _, unsure = learner.believe((("z", 1.0),), [TEA])
    assert unsure[0] > 10.0 * deviation[0]


@pytest.mark.parametrize("shape", ["disjoint", "shared", "hybrid"])
@fast
@given(rows=rows_learned, data=st.data())
def test_a_correction_ends_where_the_truth_would_have(
    shape: Any, rows: list[Row], data: st.DataObject
) -> None:
    truths = [data.draw(st.none() | st.floats(-10.0, 10.0)) for _ in rows]
    true_rows = [
        row if truth is None else row._replace(reward=truth)
        for row, truth in zip(rows, truths, strict=True)
    ]

    corrected = learn(linear(shape=shape, dim=8), rows)
    for row, true_row in zip(rows, true_rows, strict=True):
        if true_row is not row:
            corrected.correct(
                row.context,
                row.action,
                reward=true_row.reward,
                before=row.reward,
                propensity=0.5,
            )

    right = learn(linear(shape=shape, dim=8), true_rows)
    for row in rows:
        expected = right.believe(row.context, ACTIONS)
        got = corrected.believe(row.context, ACTIONS)
        assert expected.mean == pytest.approx(got.mean, rel=1e-6, abs=1e-6)
        assert expected.deviation == pytest.approx(got.deviation, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("shape", ["shared", "hybrid"])
def test_a_new_offer_with_known_features_is_known(shape: Any) -> None:
    rich: Features = (("constant", 1.0), ("rich", 1.0))
    poor: Features = (("constant", 1.0), ("poor", 1.0))
    rows = []
    for price in (0.1, 0.3, 0.6, 0.9):
        rows.append(Row(rich, offer(f"old-{price}", price), price))
        rows.append(Row(poor, offer(f"old-{price}", price), 1.0 - price))
    learner = learn(linear(shape=shape, dim=128), rows * 20)

    new = [offer("new-low", 0.2), offer("new-high", 0.8)]

    # With hybrid a part of what was learned is each action's own.
    lead = 0.45 if shape == "shared" else 0.03
    low, high = learner.score(rich, new)
    assert high - low > lead
    low, high = learner.score(poor, new)
    assert low - high > lead
    known, unknown = learner.believe(rich, [new[0], offer("other", None)]).deviation
    assert known < unknown


def offer(name: str, price: float | None) -> Action:
    features = () if price is None else (("price", price),)
    return Action(9, name, "text", "home", features)


def test_products_do_not_depend_on_what_is_remembered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x = hashed((("constant", 1.0), ("rich", 1.0)), 16)
    expected = Pairing(16).pairs(x, ACTIONS).tolist()

    monkeypatch.setattr(pairing, "_ACTIONS_MAX", 1)

    assert expected == Pairing(16).pairs(x, ACTIONS).tolist()


def test_hybrid_learns_where_an_action_differs_from_its_features() -> None:
    twins = [offer("good", 0.5), offer("bad", 0.5)]
    context: Features = (("constant", 1.0),)
    rows = [Row(context, twins[0], 1.0), Row(context, twins[1], 0.0)] * 50

    assert learn(linear(shape="shared"), rows).score(context, twins) == pytest.approx(
        [0.5, 0.5], abs=0.02
    )
    assert learn(linear(shape="hybrid"), rows).score(context, twins) == pytest.approx(
        [1.0, 0.0], abs=0.05
    )


def test_the_noise_is_learned() -> None:
    generator = np.random.default_rng(7)
    rewards = 5.0 + 2.0 * generator.standard_normal(4_000)
    context: Features = (("constant", 1.0),)

    learner = linear()
    learn(learner, [Row(context, SOAP, reward) for reward in rewards])

    mean, deviation = learner.believe(context, [SOAP])
    assert mean == pytest.approx([rewards.mean()], rel=1e-3)
    assert deviation == pytest.approx([2.0 / math.sqrt(4_000)], rel=0.05)


@pytest.mark.parametrize("shape", ["disjoint", "hybrid"])
def test_the_posterior_holds_the_truth_as_often_as_it_says(shape: Any) -> None:
    """Thompson sampling draws from it: it must be neither too wide nor too narrow."""
    generator = np.random.default_rng(11)
    context: Features = tuple((f"x{i}", 0.5) for i in range(3))
    inside = 0
    for _ in range(300):
        weights = {name: generator.standard_normal() * 0.5 for name, _ in context}
        learner = Linear(LinearSettings(shape=shape, dim=8, ridge=1.0, noise=0.5))
        rows = []
        for _ in range(15):
            x = tuple((name, float(generator.standard_normal())) for name in weights)
            noise = 0.5 * generator.standard_normal()
            reward = sum(weights[name] * value for name, value in x) + noise
            rows.append(Row(x, SOAP, reward))
        learn(learner, rows)
        truth = sum(weights[name] * value for name, value in context)
        mean, deviation = learner.believe(context, [SOAP])
        inside += abs(mean[0] - truth) < deviation[0]

    # Of a normal distribution 68 % are within one deviation.
    assert 0.6 < inside / 300 < 0.76


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"shape": "round"}, "Invalid enum value 'round'"),
        ({"dim": 257}, "dim must be from 1 to 256, not 257"),
        ({"ridge": 0.0}, "ridge must be from 0.001 to 1000000, not 0.0"),
        ({"forgetting": 0.4}, "forgetting must be from 0.5 to 1, not 0.4"),
        ({"forgetting": math.nan}, "forgetting must be from 0.5 to 1, not nan"),
        (
            {"forgetting": 0.9, "shape": "hybrid"},
            'forgetting must be 1 with shape "hybrid", not 0.9',
        ),
        ({"noise": 0.0}, "noise must be from 1e-6 to 1000000, not 0.0"),
        ({"noise_weight": 0.0}, "noise_weight must be from 0.001 to 1000000, not 0.0"),
    ],
)
def test_what_is_out_of_range_is_refused_with_its_range(
    wrong: dict[str, Any], message: str
) -> None:
    with pytest.raises(msgspec.ValidationError, match=message):
        msgspec.convert({"kind": "linear", **wrong}, LinearSettings)
