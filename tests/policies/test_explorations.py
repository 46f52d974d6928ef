"""Explorations: what makes a distribution of scores."""

from __future__ import annotations

from typing import get_args

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from policies.explorations import (
    UCB,
    ByScore,
    EpsilonGreedy,
    Exploration,
    First,
    InverseGap,
    Softmax,
    SquareCB,
    Thompson,
)
from policies.model import FloatArray

EXPLORATIONS: list[ByScore] = [
    EpsilonGreedy(epsilon=0.0),
    EpsilonGreedy(epsilon=0.1),
    EpsilonGreedy(epsilon=1.0),
    Softmax(temperature=1e-9),
    Softmax(temperature=0.1),
    Softmax(temperature=1e9),
    SquareCB(),
    SquareCB(gamma_scale=1e9, gamma_exponent=1.0),
    SquareCB(gamma_scale=5e-324, gamma_exponent=0.0),
    InverseGap(),
    InverseGap(error=1e-9, horizon=10**12),
    InverseGap(error=1e9, horizon=1),
    UCB(),
    First(rewards=0),
    First(),
]

any_scores = arrays(
    np.float64,
    st.integers(1, 60),
    elements=st.floats(allow_nan=False, allow_infinity=False),
)
any_count = st.integers(0, 2**63)


@pytest.mark.parametrize("exploration", EXPLORATIONS, ids=str)
@settings(deadline=None, max_examples=40)
@given(scores=any_scores, learned=any_count)
def test_any_finite_scores_give_a_distribution(
    exploration: ByScore, scores: FloatArray, learned: int
) -> None:
    distribution = exploration.distribution(scores, learned=learned)

    assert scores.shape == distribution.shape
    assert np.isfinite(distribution).all()
    assert (distribution >= 0.0).all()
    assert distribution.sum() == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("exploration", EXPLORATIONS, ids=str)
@settings(deadline=None, max_examples=40)
@given(scores=any_scores, learned=any_count)
def test_a_better_action_is_never_less_likely(
    exploration: ByScore, scores: FloatArray, learned: int
) -> None:
    distribution = exploration.distribution(scores, learned=learned)

    better = scores[:, np.newaxis] > scores
    likelier = distribution[:, np.newaxis] >= distribution - 1e-9
    assert likelier[better].all()


@pytest.mark.parametrize("exploration", EXPLORATIONS, ids=str)
def test_the_scores_are_left_as_they_were(exploration: ByScore) -> None:
    scores = np.array([0.1, 0.3, 0.3])

    exploration.distribution(scores, learned=3)

    assert scores.tolist() == [0.1, 0.3, 0.3]


@pytest.mark.parametrize("exploration", EXPLORATIONS, ids=str)
def test_one_action_alone_is_certain(exploration: ByScore) -> None:
    distribution = exploration.distribution(np.array([-3.0]), learned=7)

    assert distribution.tolist() == [1.0]


@pytest.mark.parametrize("exploration", EXPLORATIONS, ids=str)
def test_actions_that_are_equally_good_are_equally_likely(
    exploration: ByScore,
) -> None:
    distribution = exploration.distribution(np.full(4, 0.2), learned=9)

    assert pytest.approx(distribution.tolist()) == [0.25] * 4


def test_epsilon_greedy_shares_what_is_left_among_the_best() -> None:
    exploration = EpsilonGreedy(epsilon=0.4)

    distribution = exploration.distribution(np.array([1.0, 0.0, 1.0, 0.5]), learned=0)

    assert pytest.approx(distribution.tolist()) == [0.4, 0.1, 0.4, 0.1]


def test_softmax_makes_a_lead_of_one_temperature_e_times_likelier() -> None:
    exploration = Softmax(temperature=0.2)

    worse, better = exploration.distribution(np.array([0.5, 0.7]), learned=0)

    assert np.e == pytest.approx(better / worse)


def test_squarecb_starts_uniform_and_ends_at_the_best() -> None:
    exploration = SquareCB(gamma_scale=10.0, gamma_exponent=0.5)
    scores = np.array([0.0, 0.1, 0.2])

    of_best = [
        exploration.distribution(scores, learned=learned)[2]
        for learned in (0, 1, 100, 10_000, 10**12)
    ]

    assert sorted(of_best) == of_best
    assert pytest.approx(1 / 3) == of_best[0]
    assert of_best[-1] > 0.999


def test_actions_that_are_best_alike_share_what_is_left() -> None:
    exploration = SquareCB(gamma_scale=8.0, gamma_exponent=0.5)

    distribution = exploration.distribution(np.array([0.5, 0.0, 0.5]), learned=1)

    assert distribution.tolist() == pytest.approx([3 / 7, 1 / 7, 3 / 7])


def test_squarecb_weighs_by_the_inverse_of_the_gap() -> None:
    exploration = SquareCB(gamma_scale=2.0, gamma_exponent=0.5)

    distribution = exploration.distribution(np.array([0.0, 0.5, 1.0]), learned=100)

    gamma = 2.0 * 10.0
    trailing = [1 / (3 + gamma * 1.0), 1 / (3 + gamma * 0.5)]
    assert [*trailing, 1 - sum(trailing)] == pytest.approx(distribution.tolist())


@pytest.mark.parametrize("exploration", EXPLORATIONS, ids=str)
@settings(deadline=None, max_examples=20)
@given(scores=any_scores, learned=any_count, data=st.data())
def test_the_order_of_actions_does_not_matter(
    exploration: ByScore, scores: FloatArray, learned: int, data: st.DataObject
) -> None:
    order = np.array(data.draw(st.permutations(range(scores.size))))

    turned = exploration.distribution(scores[order], learned=learned)

    expected = exploration.distribution(scores, learned=learned)[order]
    assert turned.tolist() == pytest.approx(expected.tolist(), abs=1e-9)


@pytest.mark.parametrize("exploration", EXPLORATIONS, ids=str)
@settings(deadline=None, max_examples=20)
@given(scores=any_scores, learned=any_count)
def test_no_action_is_below_what_every_one_is_promised(
    exploration: ByScore, scores: FloatArray, learned: int
) -> None:
    distribution = exploration.distribution(scores, learned=learned)

    assert distribution.min() >= exploration.least(scores.size, learned=learned) >= 0.0


def test_every_exploration_that_may_leave_actions_out_has_a_floor() -> None:
    floors = {kind.__name__: kind.floor for kind in get_args(Exploration)}

    assert floors == {
        "EpsilonGreedy": 0.0,
        "Softmax": 0.0,
        "SquareCB": 0.0,
        "InverseGap": 0.01,
        "Thompson": 0.01,
        "UCB": 0.01,
        "First": 0.01,
    }


def test_inverse_gap_grows_from_epoch_to_epoch() -> None:
    exploration = InverseGap(error=2.0)
    scores = np.array([0.0, 0.1, 0.2])

    of_best = [
        float(exploration.distribution(scores, learned=learned)[2])
        for learned in (0, 1, 2, 3, 4, 7, 8, 1_000, 1_024, 10**12)
    ]

    assert of_best == sorted(of_best)
    assert of_best[0] == pytest.approx(1 / 3)
    assert of_best[2] == of_best[3] < of_best[4] == of_best[5] < of_best[6]
    gamma = np.sqrt(3 * 512 / 2.0)
    assert of_best[7] == pytest.approx(
        1 - 1 / (3 + gamma * 0.2) - 1 / (3 + gamma * 0.1)
    )


def test_inverse_gap_with_a_horizon_does_not_depend_on_what_was_learned() -> None:
    exploration = InverseGap(error=4.0, horizon=100)
    scores = np.array([0.0, 1.0])

    for learned in (0, 99, 10**9):
        worse, _ = exploration.distribution(scores, learned=learned)
        assert worse == pytest.approx(1 / (2 + np.sqrt(2 * 100 / 4.0)))


def test_ucb_prefers_what_may_well_be_better() -> None:
    mean, deviation = np.array([0.5, 0.4, 0.1]), np.array([0.0, 0.1, 0.2])

    best = [
        int(UCB(alpha=alpha).bounds(mean, deviation).argmax())
        for alpha in (0.0, 0.9, 1.1, 5.0)
    ]

    assert best == [0, 0, 1, 2]
    assert np.isfinite(UCB(alpha=1e3).bounds(mean * 1e308, deviation * 1e308)).all()


def test_first_tries_all_and_then_the_best() -> None:
    scores = np.array([0.2, 0.7, 0.7])

    before = First(rewards=5).distribution(scores, learned=4)
    after = First(rewards=5).distribution(scores, learned=5)

    assert before.tolist() == pytest.approx([1 / 3] * 3)
    assert after.tolist() == [0.0, 0.5, 0.5]


@pytest.mark.parametrize(
    ("kind", "wrong", "message"),
    [
        (InverseGap, {"error": 0.0}, "error must be from 1e-9 to 1e9, not 0"),
        (InverseGap, {"horizon": -1}, "horizon must be from 0 to 1e12, not -1"),
        (UCB, {"alpha": -1.0}, "alpha must be from 0 to 1000, not -1"),
        (First, {"rewards": -1}, "rewards must be from 0 to 1e12, not -1"),
        (EpsilonGreedy, {"epsilon": -0.1}, "epsilon must be from 0 to 1, not -0.1"),
        (EpsilonGreedy, {"epsilon": float("nan")}, "epsilon must be .* not nan"),
        (Softmax, {"temperature": 0.0}, "temperature must be from 1e-9 to 1e9, not 0"),
        (Softmax, {"temperature": float("inf")}, "temperature must be .* not inf"),
        (SquareCB, {"gamma_scale": 0.0}, "gamma_scale must be above 0, to 1e9, not 0"),
        (SquareCB, {"gamma_exponent": 1.5}, "gamma_exponent must be .* 1, not 1.5"),
    ],
)
def test_what_is_out_of_range_is_refused_with_its_range(
    kind: type[msgspec.Struct], wrong: dict[str, float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        kind(**wrong)


@pytest.mark.parametrize("exploration", [*EXPLORATIONS, Thompson()], ids=str)
def test_an_exploration_is_read_back_from_a_file_by_its_kind(
    exploration: Exploration,
) -> None:
    written = msgspec.json.encode(exploration)

    assert exploration == msgspec.json.decode(written, type=Exploration)


def test_an_unknown_setting_is_refused() -> None:
    file = b'{"kind": "epsilon_greedy", "epsilom": 0.2}'

    with pytest.raises(msgspec.ValidationError, match="unknown field `epsilom`"):
        msgspec.json.decode(file, type=Exploration)
