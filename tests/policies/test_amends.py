from __future__ import annotations

import numpy as np
import pytest

from policies.learners.amends import ACCOUNT, amend, overlap
from policies.learners.waves import Seen
from policies.model import FloatArray


def seen(x: list[float], steady: list[float] | None = None) -> Seen:
    length = len(x)
    return Seen(
        np.zeros(length, np.int64),
        np.array(x),
        np.zeros(64, np.float32),
        1.0,
        np.ones(length) if steady is None else np.array(steady),
        np.ones(1, np.float32),
    )


def learned(*times: int) -> FloatArray:
    """Return the variances of weights that were each there so many times."""
    return 1.0 / (1.0 + np.array(times, np.float64))


def test_weights_that_are_always_there_overlap_as_often_as_there_are() -> None:
    variances = learned(1000, 1000, 1000)[np.newaxis]

    assert overlap(seen([1.0, 1.0, 1.0]), variances) == pytest.approx(3.0, rel=0.01)


def test_segments_of_which_one_is_there_overlap_once() -> None:
    variances = learned(1000, 100)[np.newaxis]

    assert overlap(seen([1.0, 1.0]), variances) == pytest.approx(2.0, rel=0.02)


def test_numbers_around_their_mean_do_not_overlap() -> None:
    variances = learned(1000, 1000)[np.newaxis]

    times = overlap(seen([1.0, 1.0], steady=[1.0, 0.0]), variances)

    assert times == pytest.approx(1.0, rel=0.01)


def test_what_actions_share_overlaps_as_well() -> None:
    variances = np.array([learned(1000, 1000), learned(5000, 5000)])

    assert overlap(seen([1.0, 1.0]), variances) == pytest.approx(4.0, rel=0.01)


def test_nothing_learned_overlaps_with_nothing() -> None:
    assert overlap(seen([1.0, 1.0]), np.ones((1, 2))) == 1.0


def account_of(learned: int) -> FloatArray:
    account = np.zeros(ACCOUNT)
    account[0] = learned
    return account


def test_all_at_once_corrections_are_paid_once_however_often_weights_overlap() -> None:
    account = account_of(1000)

    parts = [
        amend(account, -1.0, rate=0.001, overlaps=[1.0, 4.0], scales=[1.0, 1.0])
        for _ in range(100)
    ]

    for once, four_times in parts:
        assert once == pytest.approx(1.0)
        assert four_times == pytest.approx(0.25)
    assert account[3:].tolist() == pytest.approx([-0.1, -0.1, -0.1])


def test_where_rewards_follow_at_once_corrections_are_paid_in_full() -> None:
    account = account_of(100)

    for learned in range(100, 4000):
        account[0] = learned
        parts = amend(
            account, -1.0, rate=1 / learned, overlaps=[1.0, 4.0], scales=[1.0, 1.0]
        )

    assert parts == pytest.approx([1.0, 1.0], abs=0.03)


def test_what_is_taken_back_and_given_again_is_owed_nothing() -> None:
    account = account_of(50)

    for by in (-1.0, 1.0):
        amend(account, by, rate=0.02, overlaps=[1.0, 3.0], scales=[1.0, 2.0])

    assert account[3:].tolist() == pytest.approx([0.0, 0.0, 0.0])
