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
