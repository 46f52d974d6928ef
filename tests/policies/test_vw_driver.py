"""VW's own driver, reading the same stream as text, says the same as our learner.

The driver predicts each example before it learns it, and writes what it predicted.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from vowpalwabbit import Workspace

from policies.learners.vw import VowpalWabbit, VowpalWabbitSettings
from policies.model import Action, Features, FloatArray
from tests.contracts.vw_settings import (
    EXPLORING,
    OFFERS,
    REGRESSIONS,
    Row,
    case_id,
    rows_of_a_world,
)

ROWS = list(rows_of_a_world(150, seed=3))


def driven(
    settings: VowpalWabbitSettings, rows: Sequence[Row], folder: Path
) -> FloatArray:
    """Return what the driver says of each row's actions, before it learns the row."""
    stream, predictions = folder / "stream", folder / "predictions"
    among = settings.learns_among
    stream.write_text("".join(text_of(row, among=among) for row in rows))
    options = [*settings.options, "-d", str(stream), "-p", str(predictions)]
    if settings.explorer is None:
        options.append("--rank_all")  # Otherwise only the best action is written.
    Workspace(arg_list=options).finish()
    return np.array(
        [
            [value for _, value in sorted(map(pair_of, line.split(",")))]
            for line in predictions.read_text().split()
        ]
    )


def pair_of(word: str) -> tuple[int, float]:
    action, _, value = word.partition(":")
    return int(action), float(value)


def text_of(row: Row, *, among: bool) -> str:
    context, chosen, reward, propensity = row
    lines = [f"shared |c {features_of(context)}"]
    for action in OFFERS if among else [chosen]:
        label = f"0:{-reward}:{propensity if among else 1.0}"
        lines.append(
            f"{label if action == chosen else ''} |a @{action.name}"
            f" {features_of(action.features)}"
        )
    return "\n".join(lines) + "\n\n"


def features_of(features: Features) -> str:
    # VW has a constant of its own.
    return " ".join(
        f"{name}:{value!r}" for name, value in features if name != "constant"
    )


def ours(settings: VowpalWabbitSettings, rows: Sequence[Row]) -> FloatArray:
    learner = VowpalWabbit(settings)
    said: list[FloatArray] = []
    for context, action, reward, propensity in rows:
        actions: Sequence[Action] = OFFERS if settings.learns_among else [action]
        if settings.explorer is None:
            said.append(-learner.score(context, actions))
        else:
            said.append(learner.distribution(context, actions))
        learner.learn(
            context, action, reward=reward, propensity=propensity, among=OFFERS
        )
    return np.array(said)


@pytest.mark.parametrize("settings", [*REGRESSIONS, *EXPLORING], ids=case_id)
def test_the_driver_says_the_same_of_every_row_of_the_stream(
    settings: VowpalWabbitSettings, tmp_path: Path
) -> None:
    expected = driven(settings, ROWS, tmp_path)
    if settings.explorer is not None:
        # In a tie of `--regcbopt` VW gives each of the best a share of 1.
        expected /= expected.sum(axis=1, keepdims=True)

    found = ours(settings, ROWS)

    # Numbers are read from text on one side, and were never written on the other.
    apart = np.abs(found - expected).max(axis=1)
    assert expected.shape == found.shape
    assert len(np.unique(expected.round(3))) > 1
    assert np.median(apart) < 1e-5
    assert np.count_nonzero(apart > 1e-4) <= len(ROWS) // 50, apart.max()
