"""The benchmark of learners drives every one of them, and says what it found."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.progress import Progress

from benchmarks.policies import (
    OURS,
    Size,
    World,
    goals,
    goals_table,
    measure,
    ours,
    table,
)

SMALL = Size(3, 4)


@pytest.mark.parametrize("name", OURS)
def test_a_driver_makes_decisions(name: str) -> None:
    decide = ours(World(SMALL), OURS[name](SMALL))

    for at in range(20):
        decide(at)


def test_what_is_measured_is_shown() -> None:
    with Progress(disable=True) as progress:
        result = measure(progress, rounds=1, seconds=0.001, sizes=[SMALL])

    found = result["rates"]["K=3 d=4"]
    assert found.keys() >= {*OURS, "numpy", "vowpalwabbit, text", "linucb, vectors"}
    assert all(rate > 0.0 for rate in found.values())
    assert result["ratios"]["K=3 d=4"]["numpy"] == 1.0
    console = Console(file=io.StringIO(), width=120)
    console.print(table(result))
    assert "linear, shared" in console.file.getvalue()  # type: ignore[attr-defined]


RATIOS = {
    "K=10 d=20": {
        "numpy": 1.0,
        "linucb": 0.8,
        "linucb, dim=d": 0.9,
        "linucb, vectors": 1.2,
        "vw": 0.3,
    },
    "K=50 d=50": {
        "numpy": 1.0,
        "linucb": 0.96,
        "linucb, dim=d": 0.97,
        "linucb, vectors": 1.3,
        "vw": 0.25,
        "vowpal-wabbit-next, examples used again": 0.25,
    },
}
BESIDE = {
    "K50_d50": {"ours, learn": 7_999.0, "driver, predict": 6.0, "ours, predict": 4.0}
}


def test_each_goal_is_shown_with_its_figure_and_whether_it_was_reached() -> None:
    found = goals({"ratios": RATIOS}, BESIDE)

    met = {goal.what: goal.met for goal in found}
    assert met == {
        "linucb, dim=d, K=10 d=20": True,
        "linucb, K=10 d=20": False,
        "linucb, vectors, K=10 d=20": True,
        "linucb, dim=d, K=50 d=50": True,
        "linucb, K=50 d=50": False,
        "linucb, vectors, K=50 d=50": True,
        "vw, K=10 d=20": True,
        "vw, K=50 d=50": True,
        "vw learns, K=50 d=50": False,
        "vw predicts, K=50 d=50": True,
    }
    assert [goal.unit for goal in found if goal.what.startswith("vw, ")] == [
        "numpy's",
        "vowpal-wabbit-next's",
    ]
    console = Console(file=io.StringIO(), width=120)
    console.print(goals_table(found))
    assert "at most 1.50" in console.file.getvalue()  # type: ignore[attr-defined]
