"""Promotion: only by lower bounds, only several windows in a row, step by step."""

from __future__ import annotations

import numpy as np
import pytest

from policies.comparison import difference
from policies.intervals import Estimate
from policies.overlap import Verdict as Overlapped
from policies.promotion import (
    PromotionSettings,
    Standing,
    Verdict,
    advance,
    judge,
    standing,
)


def estimate(low: float, high: float, verdict: Overlapped = "usable") -> Estimate:
    return Estimate(
        value=(low + high) / 2,
        low=low,
        high=high,
        confidence=0.95,
        standard_error=0.1,
        n=1_000,
        ess=500.0,
        events=100,
        weight_max=2.0,
        verdict=verdict,
    )


def follow(start: float, verdicts: str, settings: PromotionSettings) -> list[float]:
    """Return the shares after each window: + is won, - is lost, . is open."""
    names: dict[str, Verdict] = {"+": "better", "-": "worse", ".": "open"}
    at, shares = Standing(start), []
    for sign in verdicts:
        at = advance(at, names[sign], settings)
        shares.append(at.share)
    return shares


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.01, 0.1, "better"),
        (0.0, 0.1, "open"),
        (-0.1, 0.1, "open"),
        (-0.1, 0.0, "open"),
        (-0.2, -0.1, "worse"),
    ],
)
def test_a_window_is_won_only_by_its_lower_bound(
    low: float, high: float, verdict: Verdict
) -> None:
    assert judge(estimate(low, high)) == verdict
    assert judge(estimate(low, high, verdict="unusable")) == "open"


def test_an_apprentice_must_agree_too() -> None:
    better = estimate(0.1, 0.2)

    assert judge(better, agreement=0.79, needed=0.8) == "open"
    assert judge(better, agreement=0.8, needed=0.8) == "better"


def test_a_step_needs_so_many_windows_in_a_row() -> None:
    settings = PromotionSettings(windows=3, step=0.1)

    assert follow(0.0, "++.++-++", settings) == [0.0] * 8
    assert follow(0.0, "+++", settings) == [0.0, 0.0, 0.1]
    assert follow(0.0, "+++.+++", settings)[-1] == 0.2
    assert follow(0.3, "---", settings) == [0.3, 0.3, 0.2]


def test_shares_stay_within_their_bounds_and_end_in_the_champions_place() -> None:
    settings = PromotionSettings(windows=1, step=0.3, share_min=0.2, share_max=0.7)

    assert follow(0.0, "++++", settings) == [0.3, 0.6, 0.7, 1.0]
    assert follow(0.3, "---", settings) == [0.2, 0.2, 0.2]
    assert follow(0.0, "-", settings) == [0.0]
    assert follow(0.1, "-", settings) == [0.1]
    at_once = PromotionSettings(windows=1, step=1.0)
    assert follow(0.0, "+", at_once) == [1.0]
    small = PromotionSettings(windows=1, step=0.05)
    assert follow(0.0, "+", small) == [0.1]


def test_where_a_challenger_stands_ends_with_the_first_step() -> None:
    settings = PromotionSettings(windows=2)
    won: Verdict = "better"

    assert standing(0.1, [won], settings) == Standing(0.1, won=1)
    assert standing(0.1, [won] * 2, settings) == Standing(0.2)
    assert standing(0.1, [won] * 5, settings) == Standing(0.2)
    assert standing(0.1, [], settings) == Standing(0.1)


@pytest.mark.parametrize(
    ("wrong", "key"),
    [
        ({"window": 99}, "window"),
        ({"windows": 0}, "windows"),
        ({"windows": 101}, "windows"),
        ({"step": 0.0}, "step"),
        ({"step": 1.1}, "step"),
        ({"share_min": 0.0}, "share_min"),
        ({"share_min": 0.95}, "share_min"),
        ({"share_max": 1.5}, "share_max"),
        ({"agreement": -0.1}, "agreement"),
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, float], key: str) -> None:
    with pytest.raises(ValueError, match=rf"\b{key}\b.*must be"):
        PromotionSettings(**wrong)  # type: ignore[arg-type] # That is the point.


# --- The difference of two policies ------------------------------------------------


def world(
    seed: int, n: int, *, better: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log two actions evenly; the target takes the second mostly, the base evenly."""
    generator = np.random.default_rng(seed)
    chosen = generator.integers(0, 2, n)
    rewards = (generator.random(n) < 0.3 + better * chosen).astype(float)
    weights = np.where(chosen == 1, 0.9, 0.1) / 0.5
    return rewards, weights, np.ones(n)


def test_a_difference_is_the_difference_of_the_values() -> None:
    found = difference(*world(1, 200_000, better=0.2))

    # The target earns 0.3 + 0.9·0.2, the base 0.3 + 0.5·0.2.
    assert abs(found.value - 0.08) < 0.003
    assert found.low < 0.08 < found.high
    assert found.reliable


def test_equal_policies_are_never_told_apart() -> None:
    rewards, weights, _ = world(2, 5_000, better=0.2)

    found = difference(rewards, weights, weights)

    assert found.value == 0.0
    assert found.low < 0.0 < found.high
    assert judge(found) == "open"


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    held = sum(
        found.low <= 0.08 <= found.high
        for found in (difference(*world(s, 1_000, better=0.2)) for s in range(400))
    )

    assert held >= 0.93 * 400


def test_a_difference_refuses_what_is_no_weight() -> None:
    rewards = np.array([1.0, 0.0])

    with pytest.raises(ValueError, match="base must be 0 or more"):
        difference(rewards, np.ones(2), np.array([1.0, -1.0]))
    with pytest.raises(ValueError, match="the same n"):
        difference(rewards, np.ones(2), np.ones(3))
