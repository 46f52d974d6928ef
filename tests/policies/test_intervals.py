"""Off-policy estimates: known answers, laws, refusals, and how often intervals hold.

`tests/data/hillstrom_counts.csv` counts the 64,000 customers of Kevin Hillstrom's
e-mail test of 2008 by what the policies below and their rewards depend on: the
e-mail that was sent (0 none, 1 men's, 2 women's; each to a third at random), whether
the customer had bought men's goods before, visit, conversion and spend.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from policies import estimators
from policies.estimators import Rows, Terms, rows_of
from policies.intervals import Estimate, estimate, mean_of, rate_of, worst_rows
from policies.model import FloatArray

COUNTS = Path(__file__).parent.parent / "data" / "hillstrom_counts.csv"


def ips(rewards: FloatArray, weights: FloatArray, **known: Any) -> Estimate:
    rewards, weights = np.asarray(rewards, float), np.asarray(weights, float)
    terms = (
        Terms(added=rewards * weights) if rewards.shape == weights.shape else Terms()
    )
    return estimate(terms, weights=weights, rewards=rewards, **known)


def snips(rewards: FloatArray, weights: FloatArray, **known: Any) -> Estimate:
    rewards, weights = np.asarray(rewards, float), np.asarray(weights, float)
    over = rewards * weights if rewards.shape == weights.shape else rewards
    terms = Terms(over=over, under=weights)
    return estimate(terms, weights=weights, rewards=rewards, **known)


def dr(
    rewards: FloatArray, weights: FloatArray, q: FloatArray, v: FloatArray, **known: Any
) -> Estimate:
    rows = Rows(rewards=rewards, weights=weights, logged_values=q, target_values=v)
    worst = worst_rows(
        rows,
        weight_max=known.get("weight_max") or 2 * float(weights.max()),
        reward_range=known.get("reward_range")
        or (float(rewards.min()), float(rewards.max())),
    )
    return estimate(
        estimators.dr(rows),
        weights=weights,
        rewards=rewards,
        worst=estimators.dr(worst),
        **known,
    )


def importance_weights(target: FloatArray, logging: FloatArray) -> FloatArray:
    return rows_of(np.zeros(len(target)), logging, target).weights


@pytest.fixture(scope="module")
def customers() -> dict[str, FloatArray]:
    with COUNTS.open() as file:
        rows = list(csv.DictReader(file))
    counts = [int(row["count"]) for row in rows]
    return {
        name: np.repeat([float(row[name]) for row in rows], counts)
        for name in ("arm", "mens", "visit", "conversion", "spend")
    }


# By policy: reward → (IPS, SNIPS), and the effective sample size.
HILLSTROM: dict[str, tuple[dict[str, tuple[float, float]], float]] = {
    "nothing": (
        {
            "visit": (0.10603125, 0.10616727682343002),
            "conversion": (0.00571875, 0.005726086548390125),
            "spend": (0.65195296875, 0.6527893551112363),
        },
        21306.0,
    ),
    "men's": (
        {
            "visit": (0.18253125, 0.18275684047496127),
            "conversion": (0.012515625, 0.01253109306800582),
            "spend": (1.4208604687500002, 1.422616511005773),
        },
        21307.0,
    ),
    "women's": (
        {
            "visit": (0.15178125, 0.151400383410483),
            "conversion": (0.008859375, 0.008837144059475383),
            "spend": (1.07991140625, 1.0772015710478329),
        },
        21387.0,
    ),
    "by last purchase": (
        {
            "visit": (0.1846875, 0.18423267558215656),
            "conversion": (0.01228125, 0.012251005330590106),
            "spend": (1.4321550000000003, 1.4286280744412234),
        },
        21386.0,
    ),
    "by last purchase, mostly": (
        {
            "visit": (0.17900156250000002, 0.17862672548074898),
            "conversion": (0.01179375, 0.01176905337705409),
            "spend": (1.3749679921875002, 1.3720887497017977),
        },
        26221.702127378805,
    ),
}


def target_probability(policy: str, customers: dict[str, FloatArray]) -> FloatArray:
    """The probability with which a policy sends the e-mail that was sent."""
    arm = customers["arm"]
    liked = np.where(customers["mens"] == 1, 1.0, 2.0)
    if policy == "by last purchase, mostly":
        return np.where(arm == liked, 0.9, 0.05)
    fixed = {"nothing": 0.0, "men's": 1.0, "women's": 2.0}
    return np.where(arm == fixed.get(policy, liked), 1.0, 0.0)


@pytest.mark.parametrize("reward", ["visit", "conversion", "spend"])
@pytest.mark.parametrize("policy", list(HILLSTROM))
def test_policies_on_real_customers_earn_what_is_known(
    customers: dict[str, FloatArray], policy: str, reward: str
) -> None:
    known, ess = HILLSTROM[policy]
    weights = 3 * target_probability(policy, customers)
    rewards = customers[reward]

    by_ips = ips(rewards, weights, weight_max=3.0)
    by_snips = snips(rewards, weights, weight_max=3.0)

    assert (by_ips.value, by_snips.value) == pytest.approx(known[reward], abs=1e-12)
    assert by_ips.ess == by_snips.ess == pytest.approx(ess, rel=1e-12)
    assert by_ips.n == 64_000
    assert by_ips.reliable
    assert by_snips.reliable


@pytest.mark.parametrize(
    ("policy", "reward", "known"),
    [
        ("nothing", "visit", 0.002189662925854565),
        ("men's", "spend", 0.12173766592557622),
        ("by last purchase, mostly", "visit", 0.0025576876436039626),
        ("by last purchase, mostly", "spend", 0.1087416877756075),
    ],
)
def test_standard_errors_on_real_customers_are_those_known(
    customers: dict[str, FloatArray], policy: str, reward: str, known: float
) -> None:
    weights = 3 * target_probability(policy, customers)
    # Known with a divisor of n or of n - 1.
    assert ips(customers[reward], weights).standard_error == pytest.approx(
        known, rel=1e-5
    )


def test_a_policy_that_was_tried_alone_earned_the_mean_of_its_customers(
    customers: dict[str, FloatArray],
) -> None:
    sent = customers["arm"] == 1
    weights = 3 * target_probability("men's", customers)
    off_policy = snips(customers["spend"], weights, weight_max=3.0)
    on_policy = mean_of(customers["spend"][sent])
    assert off_policy.value == pytest.approx(on_policy.value, rel=1e-12)
    assert off_policy.standard_error == pytest.approx(
        on_policy.standard_error, rel=1e-3
    )
    assert off_policy.low == pytest.approx(on_policy.low, rel=1e-3)
    assert off_policy.high == pytest.approx(on_policy.high, rel=1e-3)


@pytest.mark.parametrize("n", [100, 1000, 10000])
@pytest.mark.parametrize("agreement", [0.2, 0.8])
def test_a_coin_that_pays_every_other_time_pays_as_often_as_it_is_agreed_with(
    agreement: float, n: int
) -> None:
    rewards = np.tile([1.0, 0.0], n // 2)
    target = np.tile([agreement, 1 - agreement], n // 2)
    weights = importance_weights(target, np.full(n, 0.5))
    assert ips(rewards, weights).value == pytest.approx(agreement, abs=1e-9)
    assert snips(rewards, weights).value == pytest.approx(agreement, abs=1e-9)
    assert snips(rewards, weights).reliable == (n > 100)


def test_a_rate_has_the_interval_that_wilson_gave_it() -> None:
    rate = rate_of(10, 100)
    assert (rate.value, rate.low, rate.high) == pytest.approx(
        (0.1, 0.05522913, 0.17436566), abs=1e-8
    )
    assert rate.reliable


def test_rates_of_all_and_of_nothing_end_where_rates_end() -> None:
    assert rate_of(0, 20).low == 0.0
    assert rate_of(0, 20).high == pytest.approx(0.16113, abs=1e-5)
    assert rate_of(20, 20).high == 1.0
    assert rate_of(20, 20).low == pytest.approx(1 - 0.16113, abs=1e-5)


def test_a_bound_is_that_of_student_with_the_worst_row_added() -> None:
    values = np.arange(30.0)
    found = mean_of(values)
    with_best = np.append(values, 29.0)
    # 2.0423 is Student's quantile at 30 degrees of freedom.
    half = 2.0423 * with_best.std() / np.sqrt(30)
    assert found.high == pytest.approx(with_best.mean() + half, rel=1e-4)


@st.composite
def logs(draw: st.DrawFn) -> tuple[FloatArray, FloatArray]:
    """Rewards and weights, with at least one weight above 0."""
    n = draw(st.integers(1, 40))
    rewards = draw(arrays(float, n, elements=st.floats(-100, 100, width=32)))
    weights = draw(arrays(float, n, elements=st.floats(0, 50, width=16)))
    weights[draw(st.integers(0, n - 1))] = draw(st.floats(0.5, 50))
    return rewards, weights


@given(arrays(float, st.integers(1, 40), elements=st.floats(-1e6, 1e6)))
def test_the_logging_policy_earns_the_mean_reward(rewards: FloatArray) -> None:
    weights = np.ones_like(rewards)
    mean = pytest.approx(rewards.mean(), rel=1e-12, abs=1e-9)
    assert ips(rewards, weights).value == mean
    assert snips(rewards, weights).value == mean
    assert ips(rewards, weights).ess == len(rewards)


@given(logs())
def test_snips_stays_within_the_rewards_seen(
    log: tuple[FloatArray, FloatArray],
) -> None:
    rewards, weights = log
    found = snips(rewards, weights)
    slack = 1e-12 * max(abs(rewards.min()), abs(rewards.max()))
    assert rewards.min() - slack <= found.value <= rewards.max() + slack
    assert rewards.min() - slack <= found.low
    assert found.high <= rewards.max() + slack


@given(logs())
def test_an_estimate_lies_in_its_interval(log: tuple[FloatArray, FloatArray]) -> None:
    rewards, weights = log
    zeros = np.zeros_like(rewards)
    for found in (
        ips(rewards, weights),
        ips(rewards, weights, reward_range=(-100, 100)),
        snips(rewards, weights),
        snips(rewards, weights, weight_max=50, reward_range=(-100, 100)),
        dr(rewards, weights, zeros, zeros, reward_range=(-100, 100)),
        mean_of(rewards),
    ):
        assert found.low <= found.value <= found.high


@given(logs(), st.floats(-100, 100))
def test_rewards_that_are_all_the_same_leave_snips_no_doubt(
    log: tuple[FloatArray, FloatArray], reward: float
) -> None:
    _, weights = log
    found = snips(np.full_like(weights, reward), weights)
    ends = [found.low, found.value, found.high]
    assert ends == pytest.approx([reward] * 3, rel=1e-9, abs=1e-9)
    assert found.standard_error == pytest.approx(0.0, abs=1e-9)


@given(logs())
def test_without_a_model_dr_is_ips(log: tuple[FloatArray, FloatArray]) -> None:
    rewards, weights = log
    zeros = np.zeros_like(rewards)
    assert dr(rewards, weights, zeros, zeros) == ips(rewards, weights)


@given(logs(), st.floats(-100, 100))
def test_a_perfect_model_leaves_dr_no_noise(
    log: tuple[FloatArray, FloatArray], value: float
) -> None:
    rewards, weights = log
    found = dr(rewards, weights, rewards, np.full_like(rewards, value))
    assert found.value == pytest.approx(value, rel=1e-12)
    assert found.standard_error == pytest.approx(0.0, abs=1e-12)


@given(logs(), st.randoms(use_true_random=False))
def test_the_order_of_the_rows_says_nothing(
    log: tuple[FloatArray, FloatArray], random: np.random.Generator
) -> None:
    rewards, weights = log
    order = list(range(len(rewards)))
    random.shuffle(order)
    values = np.sin(rewards)

    def estimates(rows: list[int]) -> list[Estimate]:
        r, w, q = rewards[rows], weights[rows], values[rows]
        return [ips(r, w), snips(r, w), dr(r, w, q, q), mean_of(r)]

    plain, shuffled = estimates(sorted(order)), estimates(order)
    for one, other in zip(plain, shuffled, strict=True):
        assert one.value == pytest.approx(other.value, rel=1e-12, abs=1e-12)
        assert one.low == pytest.approx(other.low, rel=1e-9, abs=1e-9)
        assert one.high == pytest.approx(other.high, rel=1e-9, abs=1e-9)
        assert (one.n, one.events, one.doubts) == (other.n, other.events, other.doubts)


@given(logs(), st.floats(0.5, 0.9), st.floats(0.91, 0.999))
def test_more_confidence_makes_an_interval_wider(
    log: tuple[FloatArray, FloatArray], less: float, more: float
) -> None:
    for estimator in (ips, snips):
        narrow = estimator(*log, confidence=less)
        wide = estimator(*log, confidence=more)
        assert wide.low <= narrow.low + 1e-9
        assert narrow.high <= wide.high + 1e-9


def test_a_larger_weight_that_was_possible_makes_an_interval_wider() -> None:
    rewards, weights = np.tile([1.0, 0.0, 0.0, 0.0], 100), np.ones(400)
    for estimator in (ips, snips):
        sure = estimator(rewards, weights, weight_max=1.0)
        unsure = estimator(rewards, weights, weight_max=50.0)
        assert sure.high < unsure.high
        assert sure.value == unsure.value


def test_an_unknown_largest_weight_is_taken_for_twice_the_largest_seen() -> None:
    rewards, weights = np.tile([1.0, 0.0], 200), np.tile([1.5, 0.5], 200)
    assert ips(rewards, weights) == ips(rewards, weights, weight_max=3.0)


def test_a_log_with_a_few_heavy_rows_is_doubted() -> None:
    weights = np.concatenate([np.full(990, 0.1), np.full(10, 90.1)])
    rewards = np.tile([1.0, 0.0], 500)
    found = snips(rewards, weights)
    assert found.ess < 20
    assert not found.reliable
    assert "the log is worth 12 decisions of this policy" in found.doubts[0]


def test_a_log_with_a_few_rewards_is_doubted() -> None:
    rewards = np.zeros(5000)
    rewards[:9] = 1.0
    assert ips(rewards, np.ones(5000)).doubts == (
        "9 decisions earned anything, and 10 are needed",
    )
    rewards[9] = 1.0
    assert ips(rewards, np.ones(5000)).reliable


def test_propensities_that_cannot_be_right_are_doubted() -> None:
    rewards = np.tile([1.0, 0.0], 500)
    for wrong in (np.full(1000, 0.5), np.tile([1.9, 1.7], 500)):
        (doubt,) = snips(rewards, wrong).doubts
        assert doubt.startswith(f"weights are {wrong.mean():.3f} on average and not 1")


def test_where_no_weight_is_above_zero_there_is_nothing_but_doubt() -> None:
    found = ips(np.ones(1000), np.zeros(1000), weight_max=30.0)
    assert (found.value, found.ess, found.events) == (0.0, 0.0, 0)
    assert len(found.doubts) == 3
    with pytest.raises(ValueError, match="not all be 0"):
        snips(np.ones(1000), np.zeros(1000))


GOOD = np.array([0.5, 0.5, 1.0])


@pytest.mark.parametrize("estimator", [ips, snips])
@pytest.mark.parametrize(
    ("rewards", "weights", "message"),
    [
        ([1, np.nan, 0], GOOD, "rewards must be finite: row 1 is nan"),
        ([1, 0, np.inf], GOOD, "rewards must be finite: row 2 is inf"),
        ([1, 0, 0], [1, 1, np.nan], "weights must be finite: row 2 is nan"),
        ([1, 0, 0], [-0.1, 1, 1], "weights must be 0 or more: row 0 is -0.1"),
        ([1, 0], GOOD, r"rewards \(2,\), weights \(3,\)"),
        ([], [], "at least 1"),
        ([[1, 0]], [[1, 1]], r"each must be \(n,\)"),
    ],
)
def test_what_is_not_a_log_is_refused_with_its_row(
    estimator: type, rewards: list[float], weights: list[float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        estimator(np.array(rewards), np.array(weights))


def test_a_log_that_contradicts_what_is_known_of_it_is_refused() -> None:
    rewards, weights = np.array([0.0, 2.0]), np.array([0.5, 1.5])
    with pytest.raises(ValueError, match=r"weights must be at most 1.4.*row 1 is 1.5"):
        ips(rewards, weights, weight_max=1.4)
    with pytest.raises(ValueError, match=r"rewards must be in \[0, 1\].*row 1 is 2.0"):
        snips(rewards, weights, reward_range=(0, 1))
    with pytest.raises(ValueError, match=r"rewards must be in \[0, 1\]"):
        dr(rewards, weights, rewards, rewards, reward_range=(0, 1))


@pytest.mark.parametrize("confidence", [0.0, 1.0, np.nan])
def test_a_confidence_that_is_none_is_refused(confidence: float) -> None:
    with pytest.raises(ValueError, match="confidence must be in"):
        ips(GOOD, GOOD, confidence=confidence)


@pytest.mark.parametrize(
    ("successes", "n", "message"),
    [(0, 0, "n must be"), (3, 2, "successes must be"), (-1, 2, "successes must be")],
)
def test_a_rate_of_more_than_all_is_refused(
    successes: int, n: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        rate_of(successes, n)
