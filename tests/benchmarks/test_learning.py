"""What the benchmark of a learning server makes of what it has seen."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from benchmarks.learning import Answer, Publication, Seen, figures, table

PUBLISHED = [Publication(1.0, 10), Publication(2.0, 20), Publication(3.0, 30)]


def answers(swap_ms: float) -> list[Answer]:
    """Return requests, of 2 ms but for those while models swap."""
    made: list[Answer] = []
    for number in range(60, 400, 5):
        due_s = number / 100.0
        position = 10 * int(due_s - 0.1)
        swapped = 0.0 <= due_s % 1.0 <= 0.2
        taken_ms = swap_ms if swapped else 2.0
        made.append(Answer(due_s, due_s + taken_ms / 1_000.0, position))
    return made


def test_an_outcome_is_published_and_in_use_by_the_first_model_that_knows_it() -> None:
    told = [(0.4, 9), (0.5, 10), (0.6, 11), (2.5, 31)]

    found = figures(Seen(answers(2.0), PUBLISHED, told))

    # The last of them was in no model yet.
    assert found["published_s"]["p50"] == pytest.approx(0.6)
    assert found["published_s"]["p99"] == pytest.approx(1.4, abs=0.05)
    assert found["in_use_s"]["p50"] == pytest.approx(0.7, abs=0.06)
    assert found["swaps"] == 3


@pytest.mark.parametrize(("swap_ms", "met"), [(2.0, True), (2.4, True), (9.0, False)])
def test_a_swap_that_can_be_seen_misses_the_goal(swap_ms: float, met: bool) -> None:
    found = figures(Seen(answers(swap_ms), PUBLISHED, [(0.5, 10)]))

    assert found["goals"]["swap_ratio"]["reached"] == pytest.approx(swap_ms / 2.0)
    assert found["goals"]["swap_ratio"]["met"] is met
    console = Console(file=io.StringIO(), width=120)
    for part in table(found):
        console.print(part)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert ("missed" in shown) is not met


def test_where_nothing_was_learned_it_says_so() -> None:
    with pytest.raises(ValueError, match="nothing was learned"):
        figures(Seen(answers(2.0), [], [(0.5, 10)]))
