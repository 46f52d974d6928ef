"""What a model has learned, as a person reads it."""

from __future__ import annotations

from policies.insight import calibration, effects, expectations
from policies.model import Action, Features
from policies.policy import Policy, PolicySettings

TEA = Action(1, "tea", "text", "home", ())
JAM = Action(2, "jam", "text", "home", ())
TEENS: Features = (("constant", 1.0), ("segment=teens", 1.0))
ADULTS: Features = (("constant", 1.0), ("segment=adults", 1.0))


def learned() -> Policy:
    """Teens like jam, adults tea."""
    policy = Policy(PolicySettings())
    for _ in range(200):
        for context, action, reward in [
            (TEENS, JAM, 1.0),
            (TEENS, TEA, 0.0),
            (ADULTS, JAM, 0.0),
            (ADULTS, TEA, 0.5),
        ]:
            policy.learn(context, action, reward=reward, propensity=0.5)
    return policy


def test_what_is_expected_is_told_best_first() -> None:
    found = expectations(learned().learner, [TEA, JAM])

    assert [one.action for one in found] == [JAM, TEA]
    assert found[0].mean > found[1].mean


def test_the_features_that_matter_are_told_with_their_direction() -> None:
    found = effects(learned().learner, [TEA, JAM], [TEENS, ADULTS, TEENS])

    signs = {(e.feature, e.action.offer_id): e.change > 0 for e in found}
    assert signs == {
        ("segment=teens", "jam"): True,
        ("segment=teens", "tea"): False,
        ("segment=adults", "jam"): False,
        ("segment=adults", "tea"): True,
    }
    changes = [abs(e.change) for e in found]
    assert changes == sorted(changes, reverse=True)
    few = effects(learned().learner, [TEA], [TEENS, ADULTS, TEENS], features_max=1)
    assert {e.feature for e in few} == {"segment=teens"}


def test_calibration_is_of_nothing_where_nothing_is_known() -> None:
    assert calibration([], []) == []
    assert sum(b.n for b in calibration([0.1, 0.2, 0.3], [0, 1, 1], buckets=5)) == 3
