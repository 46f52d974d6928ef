"""The contract of learners, kept by every one that settings can name.

A new learner is tested by being named: the cases come from the settings.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.learners.base import Learner
from policies.model import Action, Features
from policies.policy import (
    KernelSettings,
    LearnerSettings,
    LinearSettings,
    LinUCBSettings,
    LogisticSettings,
    Policy,
    PolicySettings,
    PopularitySettings,
    PrioritySettings,
)

Kind = Callable[[], LearnerSettings]

KINDS: list[Kind] = [
    *get_args(LearnerSettings),
    functools.partial(LinearSettings, shape="shared", dim=128),
    functools.partial(LinearSettings, shape="hybrid"),
    functools.partial(LinearSettings, forgetting=0.999),
    functools.partial(LinearSettings, standardize=True),
    functools.partial(LogisticSettings, low=-1.0, standardize=True),
    functools.partial(KernelSettings, features=64, standardize=True),
]
"""What makes settings: by default of every kind, and where they change much."""
LEARNING = [
    kind for kind in KINDS if kind not in (PopularitySettings, PrioritySettings)
]
"""Those that tell contexts apart."""


def named(kind: Kind) -> str:
    if isinstance(kind, functools.partial):
        return f"{kind.func.__name__}({', '.join(map(str, kind.keywords.values()))})"
    return kind.__name__


every_learner = pytest.mark.parametrize("kind", KINDS, ids=named)
every_learning_one = pytest.mark.parametrize("kind", LEARNING, ids=named)
fast = settings(deadline=None, max_examples=15)

Row = tuple[Features, Action, float, float]

finite = st.floats(allow_nan=False, allow_infinity=False)
anything = st.dictionaries(st.text(max_size=12), finite, max_size=6).map(
    lambda features: tuple(features.items())
)
any_action = st.builds(
    Action,
    st.integers(0, 99),
    st.text(),
    st.text(),
    st.text(),
    anything,
    st.integers(-(10**6), 10**6),
)
any_row = st.tuples(anything, any_action, finite, st.floats(1e-9, 1.0))


def learner_of(kind: Kind, blob: bytes | None = None) -> Learner:
    return Policy(PolicySettings(kind()), blob, previous=first_of(kind)).learner


@functools.cache
def first_of(kind: Kind) -> Policy:
    return Policy(PolicySettings(kind()))


def offer(name: str, index: int = 1, features: Features = ()) -> Action:
    return Action(index, name, "text", "home", features)


def rows_of_a_world(count: int) -> list[Row]:
    """Tea pleases who is new, and jam who is not: 0.8 against 0.2."""
    generator = np.random.default_rng(count)
    rows: list[Row] = []
    for _ in range(count):
        new = bool(generator.integers(2))
        tea = bool(generator.integers(2))
        context = (
            ("constant", 1.0),
            ("segment=new" if new else "segment=old", 1.0),
            ("noise", float(generator.random())),
        )
        pleased = generator.random() < (0.8 if tea == new else 0.2)
        rows.append((context, offer("tea" if tea else "jam"), float(pleased), 0.5))
    return rows


def learn(learner: Learner, rows: list[Row]) -> Learner:
    for context, action, reward, propensity in rows:
        learner.learn(context, action, reward=reward, propensity=propensity)
    return learner


@every_learning_one
def test_it_learns_what_pleases_whom(kind: Kind) -> None:
    learner = learn(learner_of(kind), rows_of_a_world(1_500))

    for segment, better in (("new", "tea"), ("old", "jam")):
        context = (("constant", 1.0), (f"segment={segment}", 1.0), ("noise", 0.5))
        scores = learner.score(context, [offer("tea"), offer("jam")])
        assert better == ("tea", "jam")[int(scores.argmax())]
        assert pytest.approx(sorted(scores), abs=0.15) == [0.2, 0.8]


@every_learner
def test_scoring_leaves_no_trace(kind: Kind) -> None:
    learner = learn(learner_of(kind), rows_of_a_world(20))
    before = learner.save()
    context: Features = (("constant", 1.0), ("unseen", 2.0))
    first = learner.score(context, [offer("tea"), offer("new")])

    for count in range(1, 4):
        learner.score((("constant", 1.0),), [offer(f"x{i}") for i in range(count)])

    assert before == learner.save()
    again = learner.score(context, [offer("tea"), offer("new")])
    assert first.tolist() == again.tolist()


@every_learner
@fast
@given(cuts=st.sets(st.integers(0, 30), max_size=4))
def test_stopped_anywhere_it_ends_in_the_same_bytes(kind: Kind, cuts: set[int]) -> None:
    rows = rows_of_a_world(30)
    straight = learn(learner_of(kind), rows).save()

    stopped = learner_of(kind)
    for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), None], strict=True):
        blob = stopped.save()
        stopped = learner_of(kind, blob)
        assert blob == stopped.save()
        learn(stopped, rows[start:end])

    assert straight == stopped.save()


@every_learner
def test_a_loaded_learner_scores_to_the_last_bit_alike(
    kind: Kind,
) -> None:
    learner = learn(learner_of(kind), rows_of_a_world(50))

    loaded = learner_of(kind, learner.save())

    offers = [offer("tea"), offer("jam"), offer("new")]
    for context, *_ in rows_of_a_world(20):
        expected = learner.score(context, offers).tolist()
        assert expected == loaded.score(context, offers).tolist()


@every_learner
@fast
@given(rows=st.lists(any_row, max_size=6))
def test_whatever_was_learned_it_is_saved_and_loaded(
    kind: Kind, rows: list[Row]
) -> None:
    blob = learn(learner_of(kind), rows).save()

    assert blob == learner_of(kind, blob).save()
    assert blob == learn(learner_of(kind), rows).save()


@every_learner
@fast
@given(
    rows=st.lists(any_row, max_size=6),
    context=anything,
    actions=st.lists(any_action, min_size=1, max_size=5, unique=True),
)
def test_no_names_and_no_numbers_make_a_score_that_is_not_finite(
    kind: Kind,
    rows: list[Row],
    context: Features,
    actions: list[Action],
) -> None:
    learner = learn(learner_of(kind), rows)

    actions = list({*actions, *(action for _, action, *_ in rows)})
    scores = learner.score(context, actions)

    assert (len(actions),) == scores.shape
    assert np.float64 == scores.dtype
    assert np.isfinite(scores).all()


@every_learner
@pytest.mark.parametrize("value", [1e308, -1e308, 5e-324, float("nan"), float("inf")])
def test_a_mad_feature_harms_nobody_for_long(kind: Kind, value: float) -> None:
    learner = learn(learner_of(kind), rows_of_a_world(100))

    for _ in range(50):
        mad: Features = (("constant", 1.0), ("mad", value))
        learner.learn(mad, offer("tea", 1, mad), reward=1e308, propensity=1e-9)
        learner.learn(mad, offer("tea", 1, mad), reward=-1e308, propensity=1.0)

    scores = learner.score((("constant", 1.0), ("mad", value)), [offer("tea")])
    assert np.isfinite(scores).all()


@every_learner
@pytest.mark.parametrize("reward", [float("nan"), float("inf"), -float("inf")])
def test_a_reward_that_is_not_finite_is_refused_and_not_learned(
    kind: Kind, reward: float
) -> None:
    learner = learner_of(kind)
    before = learner.save()

    with pytest.raises(ValueError, match="reward must be finite"):
        learner.learn((("x", 1.0),), offer("tea"), reward=reward, propensity=0.5)

    assert before == learner.save()


@every_learner
def test_the_order_of_features_and_of_actions_does_not_matter(
    kind: Kind,
) -> None:
    rows = rows_of_a_world(200)
    forwards = learn(learner_of(kind), rows)
    turned_rows = [(x[::-1], action, r, p) for x, action, r, p in rows]
    backwards = learn(learner_of(kind), turned_rows)

    offers = [offer("tea"), offer("jam"), offer("new")]
    for context, *_ in rows[:20]:
        expected = forwards.score(context, offers).tolist()
        turned = backwards.score(context[::-1], offers[::-1])[::-1].tolist()
        assert expected == pytest.approx(turned, abs=1e-4)


@every_learner
def test_a_score_does_not_depend_on_what_else_is_scored(
    kind: Kind,
) -> None:
    rows = rows_of_a_world(200)
    learner = learn(learner_of(kind), rows)
    offers = [offer("tea"), offer("jam"), *(offer(f"new-{i}") for i in range(30))]

    for context, *_ in rows[:20]:
        together = learner.score(context, offers)
        alone = [learner.score(context, [action])[0] for action in offers]
        assert together.tolist() == alone


@every_learner
def test_features_and_actions_may_appear_and_vanish(
    kind: Kind,
) -> None:
    learner = learn(learner_of(kind), rows_of_a_world(50))

    learner.learn((), offer("new", 7, (("f", 1.0),)), reward=1.0, propensity=0.5)
    learner.learn((("new", 1.0),), offer("new", 7), reward=1.0, propensity=0.5)

    for context in ((), (("new", 1.0),), (("never", 1.0),)):
        scores = learner.score(context, [offer("new", 7), offer("tea"), offer("other")])
        assert np.isfinite(scores).all()


@every_learner
def test_an_action_is_known_by_its_name_wherever_it_stands_in_the_catalogue(
    kind: Kind,
) -> None:
    learner = learn(learner_of(kind), rows_of_a_world(100))
    context: Features = (("constant", 1.0), ("segment=new", 1.0))

    here, there = learner.score(context, [offer("tea", 1), offer("tea", 2)])

    assert here == there


@every_learner
@fast
@given(data=st.data())
def test_a_damaged_state_is_refused(kind: Kind, data: st.DataObject) -> None:
    blob = learn(learner_of(kind), rows_of_a_world(10)).save()
    at = data.draw(st.integers(0, len(blob) - 1))
    torn = blob[:at]
    flipped = blob[:at] + bytes([blob[at] ^ 1]) + blob[at + 1 :]

    for damaged in (torn, flipped, blob + b"\x00"):
        with pytest.raises(ValueError, match="the saved state is"):
            learner_of(kind, damaged)


@every_learner
def test_a_state_of_another_learner_is_refused(kind: Kind) -> None:
    for other in KINDS:
        if other is not kind:
            with pytest.raises(ValueError, match="not of this kind"):
                learner_of(kind, learner_of(other).save())


@every_learner
@fast
@given(
    rows=st.lists(any_row, max_size=6),
    context=anything,
    actions=st.lists(any_action, min_size=1, max_size=5, unique=True),
)
def test_beliefs_are_finite_whatever_was_learned_and_corrected(
    kind: Kind, rows: list[Row], context: Features, actions: list[Action]
) -> None:
    learner = learn(learner_of(kind), rows)
    for row, action, reward, propensity in rows[::2]:
        learner.correct(
            row, action, reward=-reward, before=reward, propensity=propensity
        )
    before = learner.save()

    mean, deviation = learner.believe(context, actions)

    assert (len(actions),) == mean.shape == deviation.shape
    assert np.float64 == mean.dtype == deviation.dtype
    assert np.isfinite(mean).all()
    assert np.isfinite(deviation).all()
    assert (deviation >= 0.0).all()
    assert before == learner.save()


@every_learner
def test_a_correction_is_a_part_of_what_is_saved(kind: Kind) -> None:
    def corrected(learner: Learner, rows: list[Row]) -> Learner:
        for context, action, reward, propensity in rows:
            learner.correct(
                context, action, reward=0.5, before=reward, propensity=propensity
            )
        return learner

    rows = rows_of_a_world(60)
    straight = corrected(learn(learner_of(kind), rows), rows[::7]).save()

    stopped = learner_of(kind, learn(learner_of(kind), rows).save())

    assert straight == corrected(stopped, rows[::7]).save()


@pytest.mark.parametrize(
    "kind",
    [
        LinUCBSettings,
        LinearSettings,
        LogisticSettings,
        KernelSettings,
        PopularitySettings,
    ],
    ids=named,
)
def test_where_nothing_is_shared_an_unknown_action_is_at_the_prior(kind: Kind) -> None:
    fresh = learner_of(kind)
    learner = learn(learner_of(kind), rows_of_a_world(50))
    context: Features = (("constant", 1.0), ("segment=new", 1.0))

    score = learner.score(context, [offer("other")])

    assert fresh.score(context, [offer("other")]).tolist() == score.tolist()
