"""The learner that learns nothing: the catalogue's own order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.learners.priority import Priority, PrioritySettings
from policies.model import NO_OFFER, Action, Features

CONTEXT: Features = (("constant", 1.0),)
SILENCE = Action(NO_OFFER, "", "", "", ())

priorities = st.integers(-1_000_000, 1_000_000)


def offer(priority: int, index: int = 1) -> Action:
    return Action(index, f"offer-{index}", "text", "home", (), priority)


@given(st.lists(priorities, min_size=1, max_size=9))
def test_a_score_is_a_priority_and_silence_is_below_all(numbers: list[int]) -> None:
    offers = [offer(number, at) for at, number in enumerate(numbers, start=1)]

    silent, *scores = Priority(PrioritySettings()).score(CONTEXT, [SILENCE, *offers])

    assert scores == numbers
    assert silent < min(scores)


def test_nothing_that_is_earned_changes_the_order() -> None:
    learner = Priority(PrioritySettings())
    before = learner.score(CONTEXT, [offer(1), offer(2, 2)]).tolist()

    for _ in range(9):
        learner.learn(CONTEXT, offer(1), reward=100.0, propensity=0.1)

    assert learner.score(CONTEXT, [offer(1), offer(2, 2)]).tolist() == before
    assert learner.save() == Priority(PrioritySettings()).save()


def test_what_was_saved_is_loaded_and_nothing_else() -> None:
    blob = Priority(PrioritySettings()).save()

    assert Priority.load(PrioritySettings(), blob).save() == blob
    for damaged in (b"", blob[:-1], blob + b"x"):
        with pytest.raises(ValueError, match="the saved state is"):
            Priority.load(PrioritySettings(), damaged)
