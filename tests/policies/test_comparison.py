"""Which policy is better: paired differences, several at once, every day, and the gate.

A world has a coin for each of three segments; policies differ in what they like there.
"""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from policies.comparison import (
    Comparison,
    GateSettings,
    compare,
    difference,
    forgone,
    gate,
    lead,
    leader,
)
from policies.estimators import ESTIMATORS, Rows, snips
from policies.intervals import Estimate, Sums, estimate_sums
from policies.model import FloatArray
from policies.overlap import Verdict

IntArray = NDArray[np.int64]

RATES = np.array([[0.2, 0.5], [0.4, 0.3], [0.3, 0.3]])
LOGGING = np.array([0.6, 0.4])


def logged(n: int, seed: int) -> tuple[IntArray, IntArray, FloatArray]:
    rng = np.random.default_rng(seed)
    segment = rng.integers(3, size=n)
    action = (rng.random(n) >= LOGGING[0]).astype(int)
    rewards = (rng.random(n) < RATES[segment, action]).astype(float)
    return segment, action, rewards


def sums(
    log: tuple[IntArray, IntArray, FloatArray], liking: list[float], name: str
) -> Sums:
    """Value a policy that takes the second action so often, by segment."""
    segment, action, rewards = log
    second = np.array(liking)[segment]
    chance = np.where(action == 1, second, 1 - second)
    rows = Rows(rewards=rewards, weights=chance / LOGGING[action], targets=chance)
    return Sums.of(
        {name: ESTIMATORS[name](rows)},
        np.arange(len(rewards), dtype=np.uint64),
        weights=rows.weights,
        rewards=rewards,
        weight_max=2.5,
        reward_range=(0.0, 1.0),
    )


NOW, BEST, ALIKE = [0.4, 0.4, 0.4], [0.95, 0.05, 0.5], [0.4, 0.4, 0.9]


def truth(liking: list[float]) -> float:
    second = np.array(liking)
    return float(((1 - second) * RATES[:, 0] + second * RATES[:, 1]).mean())


@pytest.mark.parametrize("name", ["ips", "snips", "replay"])
def test_the_better_of_two_is_found(name: str) -> None:
    log = logged(8_000, 1)
    found = compare(
        {"now": sums(log, NOW, name), "new": sums(log, BEST, name)}, name, base="now"
    )
    (one,) = found
    assert (one.candidate, one.base, one.candidates) == ("new", "now", 1)
    assert one.difference.low < truth(BEST) - truth(NOW) < one.difference.high
    assert one.lead == "better"
    assert one.rows_to_tell is None
    assert leader(found) == "new"


def test_a_difference_is_known_better_than_the_values() -> None:
    log = logged(8_000, 1)
    now, new = sums(log, NOW, "snips"), sums(log, [0.5, 0.4, 0.4], "snips")
    (one,) = compare({"now": now, "new": new}, "snips", base="now")
    values = [estimate_sums(each, "snips") for each in (now, new)]
    assert one.difference.value == pytest.approx(values[1].value - values[0].value)
    alone = min(value.high - value.low for value in values)
    assert one.difference.high - one.difference.low < 0.5 * alone


def test_what_cannot_be_told_names_nobody_and_how_many_rows_would_do() -> None:
    log = logged(2_000, 2)
    both = {"now": sums(log, NOW, "ips"), "new": sums(log, ALIKE, "ips")}
    found = compare(both, "ips", base="now")
    assert found[0].lead == "open"
    assert leader(found) is None
    assert (found[0].rows_to_tell or 0) > 2_000


def test_equal_policies_are_never_told_apart() -> None:
    log = logged(2_000, 3)
    both = {"now": sums(log, NOW, "snips"), "new": sums(log, NOW, "snips")}
    (one,) = compare(both, "snips", base="now")
    assert one.difference.value == 0.0
    assert one.lead == "open"
    assert one.rows_to_tell is None
    twice = both | {"too": sums(log, NOW, "snips")}
    assert {one.lead for one in compare(twice, "snips", base="now")} == {"open"}


def test_a_log_of_one_user_cannot_say_how_many_rows_would_tell() -> None:
    log = logged(500, 3)
    both = {
        name: msgspec.structs.replace(of, rows=np.eye(1, 2000, 0)[0] * 500)
        for name, of in {
            "now": sums(log, NOW, "ips"),
            "new": sums(log, BEST, "ips"),
        }.items()
    }
    (one,) = compare(both, "ips", base="now", always_valid=True)
    assert one.lead == "open"


def test_the_base_leads_where_it_is_better_than_all() -> None:
    log = logged(8_000, 4)
    both = {"now": sums(log, NOW, "ips"), "best": sums(log, BEST, "ips")}
    found = compare(both, "ips", base="best")
    assert found[0].lead == "worse"
    assert leader(found) == "best"
    assert leader([]) is None


def candidates(seed: int, n: int = 1_500) -> dict[str, Sums]:
    """Eight policies that are worth the same, and differ where it does not matter."""
    log = logged(n, seed)
    return {
        f"p{place}": sums(log, [0.4, 0.4, 0.1 * (place + 1)], "ips")
        for place in range(9)
    }


def test_intervals_are_wider_for_many_candidates_and_for_daily_looks() -> None:
    many = candidates(5)
    two = {name: many[name] for name in ("p3", "p0")}

    def width(found: list[Comparison]) -> float:
        (one,) = (one for one in found if one.candidate == "p0")
        return one.difference.high - one.difference.low

    alone = width(compare(two, "ips", base="p3"))
    together = width(compare(many, "ips", base="p3"))
    daily = width(compare(many, "ips", base="p3", always_valid=True))
    # All that differs is one segment, so that candidates are nearly one and the same.
    assert alone <= together < 1.4 * alone
    assert together < daily


def test_of_many_that_are_alike_one_is_called_different_once_in_twenty() -> None:
    wrong = sum(
        any(one.lead != "open" for one in compare(candidates(seed), "ips", base="p3"))
        for seed in range(30)
    )
    # 1.5 are expected; 6 or more would be once in 250 studies.
    assert wrong < 6


def test_sums_of_other_rows_are_no_pair() -> None:
    both = {
        "now": sums(logged(500, 1), NOW, "ips"),
        "new": sums(logged(600, 1), BEST, "ips"),
    }
    with pytest.raises(ValueError, match="not of the same rows"):
        compare(both, "ips", base="now")
    with pytest.raises(ValueError, match="nothing to compare with now"):
        compare({"now": both["now"]}, "ips", base="now")


def test_a_weak_log_names_no_winner() -> None:
    log = logged(400, 6)
    found = compare(
        {"now": sums(log, NOW, "ips"), "new": sums(log, [0.99, 0.0, 0.5], "ips")},
        {"now": "ips", "new": "ips"},
        base="now",
        worst={"new": ESTIMATORS["ips"](sums(log, BEST, "ips").worst_rows())},
    )
    assert found[0].lead == "better"
    few = logged(150, 6)
    (one,) = compare(
        {"now": sums(few, NOW, "ips"), "new": sums(few, [0.99, 0.0, 0.5], "ips")},
        "ips",
        base="now",
    )
    assert one.difference.verdict == "unusable"
    assert one.lead == "open"
    assert one.difference.doubts[0].startswith("new: the log is worth")
    assert (one.difference.rows_needed or 0) > 150


def test_rows_of_one_user_count_as_one_in_a_difference() -> None:
    _, action, _ = logged(4_000, 7)
    users = np.repeat(np.arange(40), 100).astype(np.uint64)
    rewards = (users.astype(int) % 2 * (action == 1)).astype(float)
    weights = np.where(action == 1, 2.0, 1 / 3)

    def width(keys: np.ndarray | None) -> float:
        found = difference(rewards, weights, np.ones(4_000), keys)
        return found.high - found.low

    assert width(users) > 1.5 * width(None)


def test_the_range_of_rewards_may_be_told() -> None:
    rewards, weights = np.tile([1.0, 0.0], 500), np.tile([1.5, 0.5], 500)
    seen = difference(rewards, weights, np.ones(1_000))
    known = difference(rewards, weights, np.ones(1_000), reward_range=(-5.0, 5.0))
    assert known.high > seen.high
    with pytest.raises(ValueError, match="confidence must be in"):
        difference(rewards, weights, np.ones(1_000), confidence=1.0)


# --- The gate -----------------------------------------------------------------------


def found(low: float, high: float, verdict: Verdict = "usable") -> Estimate:
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
        doubts=() if verdict == "usable" else ("few rows",),
    )


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0.1, 0.2, "better"), (-0.2, -0.1, "worse"), (0.0, 0.1, "open"), (-1, 0, "open")],
)
def test_who_leads_is_said_by_the_interval(
    low: float, high: float, expected: str
) -> None:
    assert lead(found(low, high)) == expected


@pytest.mark.parametrize(
    ("gain", "dismissals", "settings", "verdict", "reason"),
    [
        (found(0.01, 0.1), None, {}, "deploy", "at least 0.01 more"),
        (found(-0.01, 0.1), None, {}, "keep", "may earn 0.01 less a decision"),
        (found(0.01, 0.1), None, {"gain_min": 0.02}, "keep", "not above 0.02"),
        (found(0.01, 0.1, "weak"), None, {}, "cannot tell", "its rewards: few rows"),
        (found(0.01, 0.1, "weak"), None, {"weak": True}, "deploy", "more a decision"),
        (found(0.1, 0.2, "unusable"), None, {"weak": True}, "cannot tell", "few rows"),
        (
            found(0.01, 0.1),
            found(-0.01, 0.001),
            {"dismissals_rise_max": 0.002},
            "deploy",
            "dismissals rise by at most 0.001",
        ),
        (
            found(0.01, 0.1),
            found(-0.02, -0.0119),
            {"dismissals_rise_max": 0.002},
            "deploy",
            "dismissals fall by at least 0.0119 a decision",
        ),
        (
            found(0.01, 0.1),
            found(-0.01, 0.003),
            {"dismissals_rise_max": 0.002},
            "keep",
            "dismissals may rise by 0.003 a decision, and 0.002 is allowed",
        ),
        (
            found(0.01, 0.1),
            found(-0.01, 0.001, "unusable"),
            {"dismissals_rise_max": 0.002},
            "cannot tell",
            "its dismissals: few rows",
        ),
        (found(0.01, 0.1), found(-0.01, 0.9), {}, "deploy", "more a decision"),
    ],
)
def test_the_gate_opens_only_where_it_is_certain_enough(
    gain: Estimate,
    dismissals: Estimate | None,
    settings: dict[str, float | bool],
    verdict: str,
    reason: str,
) -> None:
    decision = gate(gain, dismissals, settings=GateSettings(**settings))  # type: ignore[arg-type]
    assert decision.verdict == verdict
    assert any(reason in told for told in decision.reasons)


def test_a_gate_that_looks_at_dismissals_needs_them() -> None:
    with pytest.raises(ValueError, match="there are no dismissals"):
        gate(found(0.1, 0.2), settings=GateSettings(dismissals_rise_max=0.0))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gain_min": float("nan")}, "gain_min must be a number, not nan"),
        ({"dismissals_rise_max": 1.5}, "dismissals_rise_max must be -1 to 1, not 1.5"),
        ({"confidence": 0.5}, "confidence must be above 0.5, below 1, not 0.5"),
    ],
)
def test_settings_of_the_gate_are_checked(
    settings: dict[str, float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        GateSettings(**settings)  # type: ignore[arg-type]


def test_what_gates_cost_is_what_a_model_expects_and_says_so() -> None:
    freely, gated = np.full(400, 0.3), np.tile([0.3, 0.1], 200)
    cost = forgone(freely, gated)
    assert cost.value == pytest.approx(0.1)
    assert cost.low < 0.1 < cost.high
    assert cost.verdict == "weak"
    assert "was not tried" in cost.doubts[-1]
    assert forgone(freely[:50], gated[:50]).verdict == "unusable"


@pytest.mark.parametrize("expected", [3.2, 5.0, 12.0])
def test_the_upper_end_of_what_is_rare_holds(expected: float) -> None:
    # Given a candidate for which so many dismissals are to be expected, and a base
    # that a hundredth of all is dismissed by
    rng = np.random.default_rng(5)
    n, share, logs = 2_000, 0.2, 300
    rate = expected / (n * share)
    missed = told = 0
    for _ in range(logs):
        took = rng.random(n) < share
        dismissed = (rng.random(n) < np.where(took, rate, 0.01)).astype(float)
        sides = {
            name: Sums.of(
                {"snips": snips(Rows(rewards=dismissed, weights=weights))},
                weights=weights,
                rewards=dismissed,
                weight_max=1 / share,
                reward_range=(0.0, 1.0),
            )
            for name, weights in (("old", np.ones(n)), ("new", took / share))
        }

        (found,) = compare(sides, "snips", base="old", rare=True)

        told += found.difference.verdict != "unusable"
        missed += found.difference.high < (1 - share) * (rate - 0.01)

    # Then the upper end holds 95 times in 100, few as they are
    assert told == logs
    assert missed <= 0.05 * logs + 2 * (0.05 * 0.95 * logs) ** 0.5
