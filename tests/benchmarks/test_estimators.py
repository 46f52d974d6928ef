from __future__ import annotations

from benchmarks.estimators import EIGHT, measure
from policies.estimators import ESTIMATORS


def test_eight_estimators_are_timed_in_parts_and_at_once() -> None:
    seconds = measure(rows=500, actions=3, rounds=2)

    assert set(seconds) == {"in_parts", "at_once"}
    assert all(value >= 0.0 for value in seconds.values())
    assert len(EIGHT) == 8
    assert set(EIGHT) <= set(ESTIMATORS)
