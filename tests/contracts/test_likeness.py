"""The contract of learners about an offer that is like another one.

Until anything was learned of it, it is what the other is; from then on it is itself.
"""

from __future__ import annotations

import functools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.learners.base import Learner
from policies.model import Action, Features
from policies.policy import (
    BlendSettings,
    KernelSettings,
    LinearSettings,
    LinUCBSettings,
    LogisticSettings,
    PopularitySettings,
    VowpalWabbitSettings,
)
from tests.contracts.test_learners import (
    Kind,
    Row,
    fast,
    learn,
    learner_of,
    named,
    offer,
    rows_of_a_world,
)

BEGINNING: list[Kind] = [
    functools.partial(BlendSettings, waves=64),
    LinUCBSettings,
    LinearSettings,
    functools.partial(LinearSettings, shape="hybrid", dim=256),
    functools.partial(LinearSettings, forgetting=0.999),
    LogisticSettings,
    functools.partial(KernelSettings, features=64),
    PopularitySettings,
]
"""Those that begin an action with a copy of what they know of the other."""
SHARING: list[Kind] = [
    VowpalWabbitSettings,
    functools.partial(LinearSettings, shape="shared", dim=256),
]
"""Those for which the other's name is a feature of the action."""

HYBRID = BEGINNING[3]
"""That does both."""

every_learner = pytest.mark.parametrize("kind", [*BEGINNING, *SHARING], ids=named)
every_beginning_one = pytest.mark.parametrize("kind", BEGINNING, ids=named)

TEA = offer("tea")
NEW: Features = (("constant", 1.0), ("segment=new", 1.0), ("noise", 0.5))
OLD: Features = (("constant", 1.0), ("segment=old", 1.0), ("noise", 0.2))


def mint(*like: Action, doubt: float = 0.1) -> Action:
    names = tuple([action.name for action in like])
    return Action(3, "mint", "text", "home", (), like=names, doubt=doubt)


def near(kind: Kind, value: float) -> object:
    """Return what is close to a value; products of features share places by chance."""
    return pytest.approx(value, abs=0.2 if kind in (HYBRID, SHARING[1]) else 1e-4)


@functools.cache
def lesson(kind: Kind) -> bytes:
    return learn(learner_of(kind), rows_of_a_world(300)).save()


def taught(kind: Kind) -> Learner:
    return learner_of(kind, lesson(kind))


def rows_of(action: Action, reward: float, count: int) -> list[Row]:
    return [((NEW, OLD)[at % 2], action, reward, 0.5) for at in range(count)]


@every_learner
def test_before_its_first_reward_it_is_expected_to_earn_what_the_other_does(
    kind: Kind,
) -> None:
    learner = taught(kind)

    for context in (NEW, OLD):
        like, tea = learner.score(context, [mint(TEA), TEA])
        assert like == near(kind, tea)
    unlike, like = learner.score(NEW, [offer("lime"), mint(TEA)])
    assert abs(like - unlike) > 0.05


@every_learner
def test_what_it_earns_moves_it_and_hardly_the_other(kind: Kind) -> None:
    learner = taught(kind)
    before = learner.believe(NEW, [TEA]).mean[0]

    for row in rows_of(mint(TEA), -1.0, 60):
        learn(learner, [row, (NEW, TEA, 0.8, 0.5), (OLD, TEA, 0.2, 0.5)])

    own, tea = learner.believe(NEW, [mint(TEA), TEA]).mean
    assert own < before - 0.25
    # What all actions have in common is moved, too, where one model is of all.
    assert abs(tea - before) < 0.2 * (before - own)
    assert tea - own > 0.25


@every_beginning_one
def test_it_leaves_the_other_as_it_was(kind: Kind) -> None:
    if kind in (BEGINNING[0], HYBRID):
        pytest.skip("it learns of all actions together, too")
    learner = taught(kind)
    before = learner.score(OLD, [TEA])[0]

    learn(learner, rows_of(mint(TEA), -1.0, 1))

    noise = 0.05 if kind in (LinearSettings, BEGINNING[6]) else 1e-12
    assert learner.score(OLD, [TEA])[0] == pytest.approx(before, abs=noise)


@every_beginning_one
def test_it_is_as_unsure_as_its_doubt_says(kind: Kind) -> None:
    if kind is HYBRID:
        pytest.skip("it is unsure of what both have in common, too")
    learner = taught(kind)
    known = learner.believe(NEW, [TEA]).deviation[0]
    prior = learner.believe(NEW, [offer("lime")]).deviation[0]
    deviations = []
    for doubt in (0.0, 0.1, 1.0):
        once = learner_of(kind, learner.save())
        mean = once.believe(NEW, [TEA]).mean[0]
        learn(once, rows_of(mint(TEA, doubt=doubt), float(mean), 1))
        deviations.append(once.believe(NEW, [mint(TEA)]).deviation[0])

    assert sorted(deviations) == deviations
    assert deviations[0] == pytest.approx(known, rel=0.2)
    assert known < deviations[1] < prior
    assert deviations[2] > 0.2 * prior


@every_learner
@fast
@given(cut=st.integers(0, 16))
def test_stopped_anywhere_it_ends_in_the_same_bytes(kind: Kind, cut: int) -> None:
    rows = [*rows_of_a_world(8), *rows_of(mint(TEA), 0.3, 4), *rows_of_a_world(4)]
    straight = learn(learner_of(kind), rows).save()

    stopped = learner_of(kind, learn(learner_of(kind), rows[:cut]).save())

    assert straight == learn(stopped, rows[cut:]).save()


@every_learner
def test_asking_about_it_leaves_no_trace(kind: Kind) -> None:
    learner, other = taught(kind), taught(kind)
    learner.score(NEW, [mint(TEA), TEA, offer("jam")])

    assert learner.save() == other.save()
    learn(learner, rows_of(mint(TEA), 0.3, 2))
    learn(other, rows_of(mint(TEA), 0.3, 2))
    asked = [mint(TEA), TEA]
    assert learner.score(NEW, asked).tolist() == other.score(NEW, asked).tolist()


@every_learner
def test_of_several_the_nearest_that_is_known_counts(kind: Kind) -> None:
    learner = taught(kind)
    unknown, nobody = offer("lime"), offer("nobody")

    like, tea = learner.score(NEW, [mint(unknown, TEA), TEA])
    assert like == near(kind, tea)

    alone, lime = learner.score(NEW, [mint(unknown, nobody), nobody])
    assert alone == near(kind, lime)


@every_beginning_one
def test_who_has_learned_something_of_its_own_begins_with_nothing(kind: Kind) -> None:
    if kind is HYBRID:
        pytest.skip("it knows an action by the names of those it is like, too")
    learner, plain = taught(kind), taught(kind)
    for each in (learner, plain):
        learn(each, rows_of(offer("mint"), 0.3, 3))

    learn(learner, rows_of(mint(TEA), 0.3, 3))
    learn(plain, rows_of(offer("mint"), 0.3, 3))

    assert learner.save() == plain.save()


def test_a_curved_model_that_gave_way_is_no_reason_to_begin_again() -> None:
    # Given a learner with curved models for two actions, and three actions
    kind = functools.partial(BlendSettings, waves=64, curved_actions=2)
    learner = learn(learner_of(kind), rows_of(offer("mint"), -1.0, 30))
    learn(learner, [*rows_of(TEA, 1.0, 30), *rows_of(offer("jam"), 1.0, 30)])

    # When the one without is said to be like another, here or after a restart
    for each in (learner, learner_of(kind, learner.save())):
        own, tea = each.believe(NEW, [mint(TEA), TEA]).mean

        # Then it is what it was
        assert own < 0.0 < tea


@pytest.mark.parametrize("kind", BEGINNING[:2], ids=named)
def test_it_learns_sooner_what_pleases_whom(kind: Kind) -> None:
    # Given an offer that pleases those whom tea pleases
    def mistakes(action: Action) -> float:
        learner = taught(kind)
        learn(learner, rows_of(action, 0.5, 2))
        new, old = (learner.believe(c, [action]).mean[0] for c in (NEW, OLD))
        return float(np.abs(np.array([new - 0.8, old - 0.2])).sum())

    # When two rewards of it were learned, then it is known better than without tea
    assert mistakes(mint(TEA)) < mistakes(offer("mint")) / 2
