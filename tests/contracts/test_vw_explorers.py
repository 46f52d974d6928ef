"""What Vowpal Wabbit keeps to in every setting, whatever explores."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from policies.learners.vw import VowpalWabbit, VowpalWabbitSettings
from policies.model import FloatArray
from tests.contracts.vw_settings import (
    EXPLORING,
    OFFERS,
    ONE_EACH,
    REGRESSIONS,
    Row,
    case_id,
    learn,
    rows_of_a_world,
)

every_setting = pytest.mark.parametrize("case", [*REGRESSIONS, *EXPLORING], ids=case_id)
every_kind = pytest.mark.parametrize("case", [*REGRESSIONS, *ONE_EACH], ids=case_id)
every_explorer = pytest.mark.parametrize("case", ONE_EACH, ids=case_id)

ROWS = list(rows_of_a_world(120))


def said(learner: VowpalWabbit, rows: list[Row]) -> list[list[float]]:
    """Return the scores, and the distributions where there are any."""
    exploring = learner.settings.explorer is not None
    return [
        [
            *learner.score(context, OFFERS).tolist(),
            *(learner.distribution(context, OFFERS).tolist() if exploring else ()),
        ]
        for context, *_ in rows
    ]


@every_setting
def test_stopped_anywhere_it_ends_in_the_same_bytes_and_says_the_same(
    case: VowpalWabbitSettings,
) -> None:
    straight, stopped = VowpalWabbit(case), VowpalWabbit(case)
    learn(straight, ROWS)

    cuts = [0, 1, 50, 119, len(ROWS)]
    for start, end in itertools.pairwise(cuts):
        stopped = VowpalWabbit.load(case, stopped.save(), previous=stopped)
        learn(stopped, ROWS[start:end])

    assert straight.save() == stopped.save()
    assert said(straight, ROWS[::10]) == said(stopped, ROWS[::10])


@every_kind
def test_what_it_is_asked_leaves_no_trace_and_a_snapshot_says_the_same(
    case: VowpalWabbitSettings,
) -> None:
    silent, asked = VowpalWabbit(case), VowpalWabbit(case)

    for row in ROWS[:40]:
        said(asked, [row])
        learn(asked, [row])
        learn(silent, [row])

    blob = silent.save()
    assert blob == asked.save()
    expected = said(asked, ROWS[::10])
    assert expected == said(VowpalWabbit.load(case, blob), ROWS[::10])


@every_kind
def test_no_reward_and_no_propensity_make_it_say_what_is_no_number(
    case: VowpalWabbitSettings,
) -> None:
    learner = VowpalWabbit(case)
    learn(learner, ROWS[:20])

    for context, action, *_ in ROWS[:20]:
        learn(learner, [(context, action, 1e308, 1e-9)])
        learn(learner, [(context, action, -1e308, 1.0)])

    assert np.isfinite(said(learner, ROWS[:20])).all()


@every_explorer
def test_an_explorer_says_a_distribution_over_what_is_eligible(
    case: VowpalWabbitSettings,
) -> None:
    learner = VowpalWabbit(case)

    for number, (context, *_) in enumerate(ROWS[:60]):
        learn(learner, [ROWS[number]])
        eligible = OFFERS[number % 4 :]
        shares: FloatArray = learner.distribution(context, eligible)

        assert (len(eligible),) == shares.shape
        assert np.float64 == shares.dtype
        assert shares.min() >= 0.0
        assert pytest.approx(1.0, abs=1e-12) == shares.sum()


@every_explorer
def test_scores_are_those_of_the_regression_that_there_would_be_without_an_explorer(
    case: VowpalWabbitSettings,
) -> None:
    exploring, alone = VowpalWabbit(case), VowpalWabbit(case.beside)

    learn(exploring, ROWS[:40])
    learn(alone, ROWS[:40])

    assert said(alone, ROWS[:5]) == [said_[:4] for said_ in said(exploring, ROWS[:5])]


@every_explorer
def test_an_action_that_was_not_eligible_cannot_have_been_chosen(
    case: VowpalWabbitSettings,
) -> None:
    learner = VowpalWabbit(case)
    before = learner.save()

    with pytest.raises(ValueError, match="rice/text/home must be one of the actions"):
        learner.learn((), OFFERS[3], reward=1.0, propensity=0.5, among=OFFERS[:3])

    assert before == learner.save()
