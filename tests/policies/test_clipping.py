"""Rewards stay within limits, whatever was clipped before."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.clipping import REMEMBERED, Clipping
from policies.rewards import RewardSettings


@given(st.floats(-1e9, 1e9))
def test_no_reward_is_beyond_fixed_limits(earned: float) -> None:
    clipping = Clipping(RewardSettings(clip_min=-1.0, clip_max=3.0), [])

    assert clipping.clip(earned) == float(np.clip(earned, -1.0, 3.0))


def drawn(seed: int, count: int) -> list[float]:
    """Return numbers, some of them equal."""
    generator = np.random.default_rng(seed)
    return [float(x) for x in generator.standard_t(2, size=count).round(2)]


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("quantile", [0.6, 0.9, 0.95, 0.99])
def test_the_quantile_is_one_of_what_was_earned_and_at_least_that(
    seed: int, quantile: float
) -> None:
    before = drawn(seed, 100 + 7 * seed)
    clipping = Clipping(RewardSettings(clip_quantile=quantile), before)

    high, low = clipping.clip(1e12), clipping.clip(-1e12)

    assert high == np.quantile(before, quantile, method="higher")
    turned = [-earned for earned in before]
    assert -low == np.quantile(turned, quantile, method="higher")


def test_a_quantile_of_few_says_nothing() -> None:
    clipping = Clipping(RewardSettings(clip_quantile=0.9), [0.0] * 99)

    assert clipping.clip(5.0) == 5.0
    clipping.remember(0.0)
    assert clipping.clip(5.0) == 0.0


def test_limits_follow_what_is_earned_though_it_is_clipped() -> None:
    # Given a hundred small rewards, and then only large ones
    clipping = Clipping(RewardSettings(clip_quantile=0.9), [1.0] * 100)
    learned: list[float] = []

    # When they are clipped one after the other
    for _ in range(2_000):
        learned.append(clipping.clip(9.0))
        clipping.remember(9.0)

    # Then the limit moves up once a tenth is large
    assert learned[0] == 1.0
    assert learned[30] == 9.0


def test_only_the_last_ones_count_and_it_can_be_cut_anywhere() -> None:
    before = drawn(1, 2_345)
    settings = RewardSettings(clip_quantile=0.8)
    straight = Clipping(settings, [])
    for earned in before:
        straight.remember(earned)

    resumed = Clipping(settings, before[-REMEMBERED:])

    assert straight.clip(1e9) == resumed.clip(1e9)
    assert straight.clip(-1e9) == resumed.clip(-1e9)


@pytest.mark.parametrize("quantile", [None, 0.9])
def test_fixed_limits_go_with_quantiles(quantile: float | None) -> None:
    settings = RewardSettings(clip_quantile=quantile, clip_max=0.5)

    assert Clipping(settings, [1.0] * 200).clip(2.0) == 0.5
