"""Calls with several slots: what policies would have earned with all of them."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from policies.errors import OpportuneError
from policies.estimators.slates import SLATES, Slates
from simulator import Feedback, Parts, evaluate_slates
from simulator.logs import open_log
from simulator.logs.writing import write_log
from tests.simulator import logged

CALLS = 3_000
ITEMS = ("tea", "jam", "bun")
EARNED = {"tea": 0.5, "jam": 0.2, "bun": 0.1}
LIKED = 0.5


def log(calls: int = CALLS, seed: int = 0) -> Feedback:
    """Two slots of three items, none twice; below tea the other is liked less."""
    rng = np.random.default_rng(seed)
    plain = logged.log(calls * 2)
    shares = {3: [0.5, 0.25, 0.25], 2: [0.5, 0.5]}
    chosen, eligible, sizes, propensities, rewards = [], [], [], [], []
    for _ in range(calls):
        left = list(range(3))
        above = ""
        for _ in range(2):
            p = shares[len(left)]
            at = int(rng.choice(len(left), p=p))
            name = ITEMS[left[at]]
            chance = EARNED[name] * (LIKED if above == "tea" else 1.0)
            rewards.append(float(rng.random() < chance))
            eligible += left
            propensities += p
            sizes.append(len(left))
            chosen.append((left[at], p[at]))
            above = name
            left = left[:at] + left[at + 1 :]
    vocabulary = [
        msgspec.structs.replace(logged.VOCABULARY[logged.OFFERS.index(name)], index=at)
        for at, name in enumerate(ITEMS, 1)
    ]
    return msgspec.structs.replace(
        plain,
        times_ms=np.repeat(plain.times_ms[::2], 2),
        keys=np.repeat(plain.keys[::2], 2),
        rewards=np.array(rewards),
        propensities=np.array([p for _, p in chosen]),
        chosen=np.array([item for item, _ in chosen], np.int32),
        offsets=np.concatenate([[0], np.cumsum(sizes)]),
        actions=np.array(eligible, np.int32),
        probabilities=np.array(propensities),
        vocabulary=vocabulary,
        objectives={},
        targets={},
        floors=np.zeros(calls * 2),
    )


def truth() -> float:
    """Return what a uniform policy earns, a call."""
    total = 0.0
    for first in ITEMS:
        for second in ITEMS:
            if first != second:
                below = LIKED if first == "tea" else 1.0
                total += (EARNED[first] + EARNED[second] * below) / 6.0
    return total


def test_estimates_that_go_down_the_slots_hold_the_truth() -> None:
    names = ("sips", "rips", "snrips", "cascade_dr")

    found = evaluate_slates(log(), ["uniform"], estimators=names)

    for value in found:
        assert (value.policy, value.n, value.slots) == ("uniform", CALLS, 2)
        assert value.verdict == "usable", value.doubts
        assert value.low is not None
        assert value.high is not None
        assert value.low < truth() < value.high
    widths = {v.estimator: (v.high or 0.0) - (v.low or 0.0) for v in found}
    assert widths["cascade_dr"] < widths["sips"]


def test_calls_are_put_together_however_their_slots_lie_in_the_log() -> None:
    part = log(400)
    weights = (1.0 / np.diff(part.offsets) / part.propensities).reshape(-1, 2)
    slates = Slates(rewards=part.rewards.reshape(-1, 2), weights=weights)
    apart = part.take(np.concatenate([np.arange(0, 800, 2), np.arange(1, 800, 2)]))

    found = evaluate_slates(
        apart, ["uniform"], estimators=("iips", "rips", "pseudo_inverse")
    )

    for value in found:
        terms = SLATES[value.estimator](slates)
        assert terms.added is not None
        assert value.value == pytest.approx(terms.added.mean())


def test_the_log_of_the_logging_policy_earns_what_it_earned(tmp_path: Path) -> None:
    part = log(400)
    write_log(Parts([part]), tmp_path / "log.parquet")

    with open_log(tmp_path / "log.parquet") as source:
        found = evaluate_slates(source, ["logged"])

    for value in found[:2]:
        assert value.value == pytest.approx(part.rewards.sum() / 400)


def test_a_call_with_a_slot_that_has_no_reward_yet_is_left_out() -> None:
    part = log(400)
    rewards = part.rewards.copy()
    rewards[[3, 4, 5]] = np.nan
    part = msgspec.structs.replace(part, rewards=rewards)

    (value,) = evaluate_slates(part, ["uniform"], estimators=["iips"])

    assert value.n == 398


def test_what_the_log_never_tried_is_not_told() -> None:
    part = log(400)
    never = np.where(part.probabilities < 0.3, 0.0, part.probabilities)
    sums = np.add.reduceat(never, part.offsets[:-1])
    never /= np.repeat(sums, np.diff(part.offsets))
    part = msgspec.structs.replace(part, probabilities=never)

    (value,) = evaluate_slates(part, ["uniform"], estimators=["rips"])

    assert value.verdict == "unusable"
    assert (value.value, value.low) == (None, None)
    assert "the log never tries" in value.doubts[-1]


@pytest.mark.parametrize(
    ("part", "estimators", "said"),
    [
        (
            msgspec.structs.replace(log(9), times_ms=np.zeros(18, np.int64)),
            ["iips"],
            "those of one user at one time are one call",
        ),
        (
            msgspec.structs.replace(log(9), rewards=np.full(18, np.nan)),
            ["iips"],
            "no call has a reward",
        ),
        (log(9), ["dr"], "no slate estimator 'dr': sips, iips"),
    ],
)
def test_what_cannot_be_told_is_said(
    part: Feedback, estimators: list[str], said: str
) -> None:
    with pytest.raises(OpportuneError, match=said):
        evaluate_slates(part, ["uniform"], estimators=estimators)
