from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from policies.learners.blend import Blend, BlendSettings
from policies.model import Action, Features

SMALL = BlendSettings(waves=64, bits=12)


def offer(name: str, features: Features = ()) -> Action:
    return Action(1, name, "text", "home", features)


TEA, JAM = offer("tea"), offer("jam")


def at(hour: float) -> Features:
    return (("constant", 1.0), ("hour", hour))


def teach(learner: Blend, rows: list[tuple[Features, Action, float]]) -> Blend:
    for context, action, reward in rows:
        learner.learn(context, action, reward=reward, propensity=0.5)
    return learner


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("waves", 100, "waves must be from 64 to 1024, a multiple of 64, not 100"),
        ("waves", 2048, "waves must be from 64 to 1024"),
        ("bits", 9, "bits must be from 10 to 24, not 9"),
        ("curved_actions", 0, "curved_actions must be from 1 to 30000, not 0"),
        ("alpha", -1.0, "alpha must be from 0 to 1000, not -1.0"),
        ("reward_scale", 0.0, "reward_scale must be from 1e-9 to 1e9, not 0.0"),
        ("forgetting", 1.5, "forgetting must be from 0 to 1, not 1.5"),
    ],
)
def test_settings_out_of_range_are_refused(key: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        BlendSettings(**{key: value})


def test_it_learns_what_no_line_could_say() -> None:
    hours = np.random.default_rng(1).random(600)
    rows = [(at(h), TEA, float(0.3 < h < 0.7)) for h in hours.tolist()]

    learner = teach(Blend(SMALL), rows)

    low, middle, high = (
        learner.believe(at(h), [TEA]).mean[0] for h in (0.05, 0.5, 0.95)
    )
    assert middle > low + 0.5
    assert middle > high + 0.5


def test_a_new_offer_starts_from_what_others_like_it_have_earned() -> None:
    kinds = [(("kind=sweet", 1.0),), (("kind=salty", 1.0),)]
    rows = [
        (at(0.5), offer(f"{i % 20}", kinds[i % 2]), float(i % 2 == 0))
        for i in range(200)
    ]

    learner = teach(Blend(SMALL), rows)

    sweet, salty = learner.believe(
        at(0.5), [offer("new", kinds[0]), offer("newer", kinds[1])]
    ).mean
    assert sweet > salty + 0.3


def test_rewards_may_be_of_any_size() -> None:
    rng = np.random.default_rng(2)
    rows = [
        (at(float(h)), (TEA, JAM)[n % 2], float(rng.random() < (0.8, 0.3)[n % 2]))
        for n, h in enumerate(rng.random(300))
    ]

    ones = teach(Blend(SMALL), rows)
    many = teach(
        Blend(BlendSettings(waves=64, bits=12, reward_scale=1e4)),
        [(context, action, 1e4 * reward) for context, action, reward in rows],
    )

    expected = 1e4 * ones.score(at(0.5), [TEA, JAM])
    assert expected.tolist() == pytest.approx(
        many.score(at(0.5), [TEA, JAM]).tolist(), rel=1e-3
    )


def test_what_was_tried_little_is_less_sure() -> None:
    learner = teach(Blend(SMALL), [(at(0.5), TEA, float(n % 2)) for n in range(60)])

    tea, jam = learner.believe(at(0.5), [TEA, JAM]).deviation

    assert 0.0 < tea < jam


def test_before_any_reward_all_are_alike() -> None:
    scores = Blend(SMALL).score(at(0.5), [TEA, JAM])

    assert scores[0] == scores[1] > 0.0


@pytest.mark.parametrize("later", [0, 50])
def test_a_correction_is_nearly_as_if_the_right_reward_had_been_learned(
    later: int,
) -> None:
    hours = np.random.default_rng(3).random(200 + later).tolist()
    rows = [(at(h), TEA, float(h > 0.5)) for h in hours]
    wrong = [*rows]
    wrong[199] = (rows[199][0], TEA, rows[199][2] + 5.0)

    right = teach(Blend(SMALL), rows)
    corrected = teach(Blend(SMALL), wrong)
    left = corrected.believe(rows[199][0], [TEA]).mean[0]
    corrected.correct(
        rows[199][0], TEA, reward=rows[199][2], before=wrong[199][2], propensity=0.5
    )

    expected = right.believe(rows[199][0], [TEA]).mean[0]
    found = corrected.believe(rows[199][0], [TEA]).mean[0]
    assert abs(found - expected) < 0.6 * abs(left - expected)


def flags(rng: np.random.Generator) -> Features:
    words = [(f"flag{at}={rng.integers(2)}", 1.0) for at in range(10)]
    return (("constant", 1.0), *words)


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_many_corrections_at_once_move_no_further_than_the_truth_would_have(
    share: float,
) -> None:
    # Given an offer that half of the users accept, and many give back
    rng = np.random.default_rng(5)
    accepted = rng.random(400) < 0.5
    kept = accepted & (rng.random(400) >= share)
    contexts = [flags(rng) for _ in accepted]
    before, after = (
        [(c, TEA, float(r)) for c, r in zip(contexts, rewards, strict=True)]
        for rewards in (accepted, kept)
    )

    # When that is known only at the end
    learner, right = teach(Blend(SMALL), before), teach(Blend(SMALL), after)
    for (context, _, reward), (_, _, true) in zip(before, after, strict=True):
        learner.correct(context, TEA, reward=true, before=reward, propensity=0.5)

    # Then little is expected that the truth would not have taught
    found, expected = (
        np.array([one.believe(context, [TEA]).mean[0] for context in contexts])
        for one in (learner, right)
    )
    assert abs(float((found - expected).mean())) < 0.1
    assert float(np.sqrt(np.square(found - expected).mean())) < 0.25
    assert found.min() > -0.2


def test_a_correction_carries_nothing_out_of_the_range_of_rewards() -> None:
    learner = teach(Blend(SMALL), [(at(0.5), TEA, float(n % 2)) for n in range(40)])

    for _ in range(200):
        learner.correct(at(0.5), TEA, reward=0.0, before=1.0, propensity=0.5)

    assert learner.believe(at(0.5), [TEA]).mean[0] > -0.01


@pytest.mark.parametrize("amount", [1.0, 400.0])
def test_what_came_late_and_was_taken_back_is_as_if_it_had_never_come(
    amount: float,
) -> None:
    # Given an offer for which nobody has paid within the wait
    learner = teach(Blend(SMALL), [(at(0.5), TEA, 0.0) for _ in range(200)])

    # When one pays later, and is given it back
    learner.correct(at(0.5), TEA, reward=amount, before=0.0, propensity=0.5)
    paid = learner.believe(at(0.5), [TEA]).mean[0]
    learner.correct(at(0.5), TEA, reward=0.0, before=amount, propensity=0.5)

    # Then nothing is left of it
    assert paid > 0.001
    assert abs(learner.believe(at(0.5), [TEA]).mean[0]) < 1e-6


def test_money_that_always_comes_late_is_learned_as_what_it_is() -> None:
    # Given two offers, of which one is bought half as often for ten times as much
    rng = np.random.default_rng(8)
    prices, chances = {TEA: 1_000.0, JAM: 100.0}, {TEA: 0.05, JAM: 0.1}
    learner, pending = Blend(SMALL), []

    # When all purchases are told of after the wait, as corrections of nothing earned
    for n in range(3_000):
        action = (TEA, JAM)[n % 2]
        learner.learn(at(0.5), action, reward=0.0, propensity=0.5)
        if rng.random() < chances[action]:
            pending.append(action)
        if len(pending) > 10:
            late = pending.pop(0)
            learner.correct(
                at(0.5), late, reward=prices[late], before=0.0, propensity=0.5
            )

    # Then both are expected to earn what they do
    tea, jam = learner.believe(at(0.5), [TEA, JAM]).mean
    assert 30.0 < tea < 70.0
    assert 5.0 < jam < 15.0


def test_a_correction_of_what_lost_its_curves_costs_no_other_its_own() -> None:
    # Given room for the curves of one action, and two that were learned
    settings = BlendSettings(waves=64, bits=12, curved_actions=1)
    learner = Blend(settings)
    teach(learner, [(at(n % 5 / 5), TEA, 1.0) for n in range(60)])
    teach(learner, [(at(n % 5 / 5), JAM, float(n % 5 > 2)) for n in range(200)])
    before = learner.believe(at(0.8), [JAM]).mean[0]

    # When what the first one earned turns out to be less
    tea = learner.believe(at(0.2), [TEA]).mean[0]
    loaded = Blend.load(settings, learner.save())
    for one in (learner, loaded):
        for n in range(5):
            one.correct(at(n % 5 / 5), TEA, reward=0.0, before=1.0, propensity=0.5)

    # Then the second is expected to earn what it was, and the first one less
    assert learner.believe(at(0.8), [JAM]).mean[0] == pytest.approx(before, abs=0.05)
    assert -0.01 < learner.believe(at(0.2), [TEA]).mean[0] < tea
    assert learner.save() == loaded.save()


def test_what_corrections_have_moved_is_a_part_of_what_is_saved() -> None:
    learner = teach(Blend(SMALL), [(at(0.5), TEA, float(n % 2)) for n in range(40)])
    for _ in range(5):
        learner.correct(at(0.5), TEA, reward=0.0, before=1.0, propensity=0.5)
    loaded = Blend.load(SMALL, learner.save())

    for one in (learner, loaded):
        for _ in range(5):
            one.correct(at(0.5), TEA, reward=0.0, before=1.0, propensity=0.5)

    assert learner.save() == loaded.save()


@pytest.mark.parametrize("outlying", [1e6, -1e6])
@pytest.mark.parametrize("corrected", [True, False])
def test_one_reward_beyond_all_others_does_not_undo_what_was_learned(
    outlying: float, corrected: bool
) -> None:
    rng = np.random.default_rng(6)
    rows = [
        (at(float(h)), (TEA, JAM)[n % 2], float(rng.random() < (0.8, 0.2)[n % 2]))
        for n, h in enumerate(rng.random(600))
    ]
    learner = teach(Blend(SMALL), rows[:300])

    learner.learn(at(0.5), JAM, reward=outlying, propensity=0.5)
    if corrected:
        learner.correct(at(0.5), JAM, reward=0.0, before=outlying, propensity=0.5)
    teach(learner, rows[300:])

    tea, jam = learner.believe(at(0.5), [TEA, JAM]).mean
    assert 0.5 < tea < 1.0
    assert abs(jam - 0.2) < 0.25
    assert learner.believe(at(0.5), [TEA]).deviation[0] < 0.5


def test_rewards_that_stay_larger_are_learned_in_a_few_steps() -> None:
    learner = teach(Blend(SMALL), [(at(0.5), TEA, 1.0) for _ in range(150)])

    teach(learner, [(at(0.5), TEA, 5_000.0) for _ in range(150)])

    assert learner.believe(at(0.5), [TEA]).mean[0] > 1_000.0


def test_what_an_offer_earned_elsewhere_lets_it_be_tried_where_others_are_known() -> (
    None
):
    # Given four offers that are known in both segments, and one in the first alone
    rng = np.random.default_rng(9)
    small, large = ((("constant", 1.0), (f"segment={s}", 1.0)) for s in "ab")
    known = [offer(f"{n}") for n in range(4)]
    learner = Blend(SMALL)
    for n in range(240):
        context = (small, large)[n % 2]
        teach(learner, [(context, known[n // 2 % 4], float(rng.random() < 0.4))])

    teach(learner, [(small, TEA, 1.0) for _ in range(10)])

    # Then it is the best bet in the other
    scores = learner.score(large, [*known, TEA])
    assert scores.argmax() == 4


def test_a_correction_that_is_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match="reward must be finite, not nan"):
        Blend(SMALL).correct(
            at(0.5), TEA, reward=float("nan"), before=0.0, propensity=0.5
        )


def test_when_rewards_turn_round_it_forgets_and_turns_too() -> None:
    settings = BlendSettings(waves=64, bits=12, forgetting=0.5)
    noisy = np.random.default_rng(4).normal(0.0, 0.05, 700).tolist()
    before = [(at(0.5), TEA, 1.0 + e) for e in noisy[:600]]
    after = [(at(0.5), TEA, -1.0 + e) for e in noisy[600:]]

    turned = teach(Blend(settings), before + after)
    stubborn = teach(
        Blend(BlendSettings(waves=64, bits=12, forgetting=0.0)), before + after
    )

    assert turned.believe(at(0.5), [TEA]).mean[0] < -0.5
    assert (
        stubborn.believe(at(0.5), [TEA]).mean[0]
        > turned.believe(at(0.5), [TEA]).mean[0]
    )


def test_beyond_the_limit_the_longest_unused_loses_its_curves() -> None:
    settings = BlendSettings(waves=64, bits=12, curved_actions=2)
    learner = teach(Blend(settings), [(at(0.5), TEA, 1.0), (at(0.5), JAM, 1.0)])
    learner.learn(at(0.5), TEA, reward=1.0, propensity=0.5)

    learner.learn(at(0.5), offer("nut"), reward=1.0, propensity=0.5)

    saved = learner.save()
    assert saved == Blend.load(settings, saved).save()
    assert len(saved) < 60_000
    tea, jam = learner.believe(at(0.5), [TEA, JAM]).mean
    assert tea > jam


def test_more_names_than_are_followed_are_seen_as_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("policies.learners.waves._NAMES_MAX", 3)
    monkeypatch.setattr("policies.learners.waves._KEPT_MAX", 3)
    monkeypatch.setattr("policies.learners.waves._LAYOUTS_MAX", 100)
    rows: list[tuple[Features, Action, float]] = [
        (((f"word{n % 9}", 1.0), ("x", 0.5)), offer(f"{n % 9}"), 1.0) for n in range(40)
    ]

    learner = teach(Blend(SMALL), rows)

    saved = learner.save()
    assert saved == Blend.load(SMALL, saved).save()
    assert np.isfinite(learner.score(rows[0][0], [TEA])).all()


def test_rows_grow_with_actions() -> None:
    learner = teach(Blend(SMALL), [(at(0.5), offer(f"{n}"), 1.0) for n in range(40)])

    saved = learner.save()

    assert saved == Blend.load(SMALL, saved).save()


@pytest.mark.parametrize("seed", range(3))
def test_rare_accepts_are_averaged_though_many_features_are_always_there(
    seed: int,
) -> None:
    context = (("constant", 1.0), *((f"always{at}", 1.0) for at in range(40)))
    draws = np.random.default_rng(seed).random(500)
    rewards = [*(draws < 0.04).astype(float).tolist(), 1.0]

    learner = teach(Blend(SMALL), [(context, TEA, reward) for reward in rewards])

    mean = learner.believe(context, [TEA]).mean.item()
    assert mean == pytest.approx(np.mean(rewards), abs=0.005)


@pytest.mark.parametrize("waves", [64, 128])
def test_what_was_found_out_before_changes_nothing_that_is_expected(
    waves: int,
) -> None:
    rows = [(at(n / 40.0), (TEA, JAM)[n % 2], float(n % 3 == 0)) for n in range(40)]
    before = teach(Blend(BlendSettings(waves=waves, bits=12)), rows[:20])
    blob = teach(Blend(SMALL), rows).save()

    alone = Blend.load(SMALL, blob)
    following = Blend.load(SMALL, blob, before)

    expected = alone.score(at(0.3), [TEA, JAM, offer("new")])
    assert expected.tolist() == (
        following.score(at(0.3), [TEA, JAM, offer("new")]).tolist()
    )
    assert alone.save() == following.save()
