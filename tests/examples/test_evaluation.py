"""The log of the tutorial on evaluating: it is what its program makes."""

from __future__ import annotations

import numpy as np

from examples.evaluation import make
from simulator import open_log


def test_the_log_of_the_tutorial_can_be_made_again() -> None:
    made = make.log()

    with open_log(make.FILE) as source:
        (kept,) = source.parts(rows_max=10_000)

    for name in ("times_ms", "keys", "chosen", "rewards", "propensities", "loggers"):
        np.testing.assert_array_equal(getattr(kept, name), getattr(made, name))
    assert list(kept.contexts) == list(made.contexts)
    assert list(kept.segments) == list(made.segments)
    assert kept.objectives.keys() == made.objectives.keys()
