"""How far corrections leave each learner from the truth: the documented tolerances."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from benchmarks.refunds import LEARNERS, WORLDS, Off, off_by, table

TOLERANCES = {
    "blend": (0.05, 0.15),
    "linucb": (1e-9, 1e-9),
    "linear": (1e-9, 1e-9),
    "linear, hybrid": (1e-9, 1e-9),
    "kernel": (1e-9, 1e-9),
    "logistic": (0.03, 0.1),
    "popularity": (1e-9, 1e-9),
    "vw": (0.1, 0.5),
}
"""For one reward in twenty, known 10 decisions later, and one in two, at the end."""


@pytest.mark.parametrize("name", LEARNERS)
def test_corrections_end_within_the_tolerance_of_the_truth(name: str) -> None:
    soon, late = (
        off_by(LEARNERS[name], WORLDS["flags"], share, late=late, rows=400).usual
        for share, late in ((0.05, 10), (0.5, 5_000))
    )

    assert soon <= TOLERANCES[name][0]
    assert late <= TOLERANCES[name][1]


def test_what_was_measured_is_shown() -> None:
    console = Console(file=io.StringIO(), width=120)

    console.print(table({"linear": {"5%, 10 late": Off(0.001, 0.02)}}))

    assert "0.001 (0.02)" in console.file.getvalue()  # type: ignore[attr-defined]
