"""Policies: how they are built from settings, and what they are known by."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np
import pytest

from policies.learners.base import Beliefs, Learner
from policies.learners.priority import Priority
from policies.learners.vw import VowpalWabbit
from policies.model import Action, Features, FloatArray
from policies.policy import (
    UCB,
    BlendSettings,
    EpsilonGreedy,
    LearnerSettings,
    LinUCBSettings,
    LogisticSettings,
    Policy,
    PolicySettings,
    PopularitySettings,
    PrioritySettings,
    Softmax,
    SquareCB,
    Thompson,
    TrafficSettings,
    VowpalWabbitSettings,
)

SILENCE = Action(0, "", "", "", ())
TEA = Action(1, "tea", "text", "home", ())
JAM = Action(2, "jam", "text", "home", ())
CONTEXT: Features = (("constant", 1.0), ("segment=free", 1.0))

SETTINGS = [
    PolicySettings(LinUCBSettings(), EpsilonGreedy(epsilon=0.2)),
    PolicySettings(VowpalWabbitSettings(bits=12), SquareCB(), salt="pepper"),
    PolicySettings(VowpalWabbitSettings(bits=12), Softmax(temperature=0.1)),
    PolicySettings(LinUCBSettings(), Thompson(scale=0.5)),
    PolicySettings(
        exploration=UCB(), traffic=TrafficSettings(floor=0.1, new_outcomes=9)
    ),
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_settings_are_read_back_from_a_file(settings: PolicySettings) -> None:
    for written in (msgspec.json.encode(settings), settings.to_json()):
        read = msgspec.json.decode(written, type=PolicySettings)

        assert settings == read
        assert settings.version == read.version


def test_a_version_is_the_same_for_ever() -> None:
    settings = PolicySettings(
        LinUCBSettings(dim=16, alpha=0.5, ridge=2.0), EpsilonGreedy(epsilon=0.2), "salt"
    )

    assert (settings.version, settings.learner_version) == (
        "ee1e90a5bc6f",
        "eb0bcbfd5ff3",
    )


def test_a_version_does_not_depend_on_how_a_number_is_written() -> None:
    whole = PolicySettings(LinUCBSettings(alpha=1), EpsilonGreedy(epsilon=0))
    broken = PolicySettings(LinUCBSettings(alpha=1.0), EpsilonGreedy(epsilon=0.0))

    assert whole.version == broken.version


def test_everything_changes_the_version_and_only_the_learner_the_learners() -> None:
    base = PolicySettings(LinUCBSettings(), EpsilonGreedy(), "salt")
    others = [
        PolicySettings(LinUCBSettings(), EpsilonGreedy(), "pepper"),
        PolicySettings(LinUCBSettings(), SquareCB(), "salt"),
        PolicySettings(LinUCBSettings(alpha=0.7), EpsilonGreedy(), "salt"),
        PolicySettings(LinUCBSettings(noise=0.7), EpsilonGreedy(), "salt"),
        PolicySettings(VowpalWabbitSettings(), EpsilonGreedy(), "salt"),
        PolicySettings(PrioritySettings(), EpsilonGreedy(), "salt"),
        PolicySettings(
            LinUCBSettings(), EpsilonGreedy(), "salt", TrafficSettings(floor=0.1)
        ),
    ]

    assert len({settings.version for settings in [base, *others]}) == 8
    same = [settings.learner_version == base.learner_version for settings in others]
    assert same == [True, True, False, False, False, False, True]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_a_policy_goes_on_from_its_snapshot(settings: PolicySettings) -> None:
    policy = Policy(settings)
    for i in range(20):
        policy.learn(CONTEXT, [TEA, JAM][i % 2], reward=i % 2, propensity=0.5)

    later = Policy(settings, policy.save(), model="1.20", learned=20, previous=policy)

    assert (later.model, later.learned) == ("1.20", 20)
    assert policy.version == later.version == settings.version
    assert settings.salt == later.salt
    expected = policy.distribution(CONTEXT, [TEA, JAM]).tolist()
    assert expected == later.distribution(CONTEXT, [TEA, JAM]).tolist()
    assert expected[1] > expected[0]


def test_a_new_policy_has_learned_nothing_and_counts_what_it_learns() -> None:
    policy = Policy(PolicySettings())

    assert (policy.model, policy.learned) == ("0.0", 0)
    policy.learn(CONTEXT, TEA, reward=1.0, propensity=1.0)
    assert policy.learned == 1


def test_a_policy_counts_what_it_learned_of_each_offer_and_saves_it() -> None:
    policy = Policy(PolicySettings())
    for action in (TEA, TEA, JAM, SILENCE, msgspec.structs.replace(TEA, index=9)):
        policy.learn(CONTEXT, action, reward=1.0, propensity=0.5)

    again = Policy(PolicySettings(), policy.save(), learned=5)

    assert again.outcomes == policy.outcomes == {"tea": 3, "jam": 1, "": 1}
    assert again.save() == policy.save()
    # In whichever order: it says how many, not when.
    other = Policy(PolicySettings(PrioritySettings()))
    turned = Policy(PolicySettings(PrioritySettings()))
    for action, opposite in zip((TEA, JAM), (JAM, TEA), strict=True):
        other.learn(CONTEXT, action, reward=1.0, propensity=0.5)
        turned.learn(CONTEXT, opposite, reward=1.0, propensity=0.5)
    assert other.save() == turned.save()


def test_what_a_learner_alone_saved_is_read_too() -> None:
    policy = Policy(SETTINGS[0])
    policy.learn(CONTEXT, TEA, reward=1.0, propensity=0.5)

    earlier = Policy(SETTINGS[0], policy.learner.save(), learned=1)

    assert earlier.outcomes == {}
    assert earlier.learner.save() == policy.learner.save()


def test_a_damaged_snapshot_is_refused() -> None:
    blob = Policy(SETTINGS[0]).save()

    for damaged in (blob[:-1], blob + b"x", blob[:3], b""):
        with pytest.raises(ValueError, match="the saved state is"):
            Policy(SETTINGS[0], damaged)


def test_exploration_is_told_how_much_was_learned() -> None:
    settings = PolicySettings(
        LinUCBSettings(), SquareCB(gamma_scale=10.0, gamma_exponent=1.0)
    )
    early = Policy(settings)
    early.learn(CONTEXT, TEA, reward=1.0, propensity=1.0)

    late = Policy(settings, early.save(), learned=10_000)

    early_best = early.distribution(CONTEXT, [TEA, JAM]).max()
    assert early_best < late.distribution(CONTEXT, [TEA, JAM]).max()


def test_policies_that_differ_in_exploration_share_what_is_parsed() -> None:
    learner = VowpalWabbitSettings(bits=12)
    first = Policy(PolicySettings(learner, EpsilonGreedy()))

    second = Policy(PolicySettings(learner, SquareCB()), first.save(), previous=first)

    assert isinstance(first.learner, VowpalWabbit)
    assert isinstance(second.learner, VowpalWabbit)
    assert first.learner.examples is second.learner.examples


@pytest.mark.parametrize(
    "learner", [LinUCBSettings(), VowpalWabbitSettings(bits=12), PrioritySettings()]
)
def test_a_policy_may_replace_one_with_another_learner(
    learner: LearnerSettings,
) -> None:
    for settings in SETTINGS:
        policy = Policy(PolicySettings(learner), previous=Policy(settings))

        assert policy.distribution(CONTEXT, [TEA, JAM]).size == 2


def test_a_snapshot_of_another_learner_is_refused() -> None:
    blob = Policy(SETTINGS[0]).save()

    with pytest.raises(ValueError, match="not of this kind"):
        Policy(SETTINGS[1], blob)


def test_without_learning_the_catalogue_decides() -> None:
    policy = Policy(PolicySettings(PrioritySettings(), EpsilonGreedy(epsilon=0.3)))
    first = msgspec.structs.replace(JAM, priority=3)

    chances = policy.distribution(CONTEXT, [SILENCE, TEA, first])
    assert chances.tolist() == pytest.approx([0.1, 0.1, 0.8])
    for _ in range(50):
        policy.learn(CONTEXT, TEA, reward=1.0, propensity=0.1)
    again = Policy(policy.settings, policy.save(), learned=policy.learned)
    assert again.distribution(CONTEXT, [SILENCE, TEA, first]).tolist() == (
        chances.tolist()
    )


class Certain(Priority):
    """A learner whose scores are those that it is told."""

    def __init__(self, *scores: float) -> None:
        super().__init__(PrioritySettings())
        self.scores = scores

    def score(self, context: Features, actions: Sequence[Action]) -> FloatArray:
        return np.array(self.scores)


@pytest.mark.parametrize(
    ("scores", "priorities", "best"),
    [
        ((1.0, 1.0, 1.0), (0, 0, 0), [0, 1, 2]),
        ((1.0, 1.0, 1.0), (5, 5, 5), [0, 1, 2]),
        ((1.0, 1.0, 1.0), (0, 2, 1), [1]),
        ((1.0, 1.0, 1.0), (0, -2, -1), [0]),
        ((1.0, 1.0, 0.5), (0, 1, 9), [1]),
        ((1.0, 1.0, 0.5), (1, 2, 0), [1]),
        ((1.0, 1.0, 0.999), (1, 1, 9), [0, 1]),
        ((0.0, 1.0, 0.0), (9, -9, 9), [1]),
        ((-7.0, -7.0, -8.0), (0, 1, 2), [1]),
    ],
)
def test_of_equal_scores_the_highest_priority_goes_first(
    scores: tuple[float, ...], priorities: tuple[int, ...], best: list[int]
) -> None:
    actions = [
        Action(at, f"{at}", "text", "home", (), priority)
        for at, priority in enumerate(priorities)
    ]
    greedy = Policy(PolicySettings(exploration=EpsilonGreedy(epsilon=0.0)))
    soft = Policy(PolicySettings(exploration=Softmax(temperature=1.0)))
    certain: Learner = Certain(*scores)
    greedy.learner = soft.learner = certain

    chances = greedy.distribution(CONTEXT, actions)

    assert np.flatnonzero(chances).tolist() == best
    assert chances[best].tolist() == [1.0 / len(best)] * len(best)
    # By a hair: who explores by how much better an action is sees no difference.
    plain = [msgspec.structs.replace(action, priority=0) for action in actions]
    np.testing.assert_allclose(
        soft.distribution(CONTEXT, actions),
        soft.distribution(CONTEXT, plain),
        rtol=1e-12,
    )


class Believing(Priority):
    """A learner that believes what it is told."""

    def __init__(self, mean: Sequence[float], deviation: Sequence[float]) -> None:
        super().__init__(PrioritySettings())
        self.beliefs = Beliefs(np.array(mean), np.array(deviation))

    def believe(self, context: Features, actions: Sequence[Action]) -> Beliefs:
        return self.beliefs


def believing(
    settings: PolicySettings, mean: Sequence[float], deviation: Sequence[float]
) -> Policy:
    policy = Policy(settings)
    learner: Learner = Believing(mean, deviation)
    policy.learner = learner
    return policy


NO_FLOOR = TrafficSettings(floor=0.0)


def test_explorations_by_beliefs_are_told_them() -> None:
    beliefs = ([0.5, 0.4, 0.0], [0.1, 0.3, 0.0])
    actions = [SILENCE, TEA, JAM]
    ucb = PolicySettings(exploration=UCB(alpha=2.0), traffic=NO_FLOOR)
    thompson = PolicySettings(exploration=Thompson(), traffic=NO_FLOOR)

    by_bound = believing(ucb, *beliefs).distribution(CONTEXT, actions)
    by_chance = believing(thompson, *beliefs).distribution(CONTEXT, actions)

    assert by_bound.tolist() == [0.0, 1.0, 0.0]
    expected = 0.5 * math.erfc(0.1 / math.hypot(0.1, 0.3) / math.sqrt(2.0))
    assert by_chance[1] == pytest.approx(expected, abs=1e-3)
    assert by_chance[2] == pytest.approx(0.0, abs=1e-3)


@pytest.mark.parametrize("exploration", [UCB(), Thompson()], ids=str)
def test_of_equal_beliefs_that_are_certain_the_highest_priority_goes_first(
    exploration: UCB | Thompson,
) -> None:
    first = msgspec.structs.replace(JAM, priority=3)
    settings = PolicySettings(exploration=exploration, traffic=NO_FLOOR)

    policy = believing(settings, [0.5, 0.5, 0.5], [0.0, 0.0, 0.0])

    assert policy.distribution(CONTEXT, [SILENCE, TEA, first]).tolist() == [0, 0, 1]
    assert policy.distribution(CONTEXT, [SILENCE, TEA, JAM]).tolist() == pytest.approx(
        [1 / 3] * 3
    )
    if isinstance(exploration, Thompson):
        sure = believing(
            PolicySettings(exploration=Thompson(scale=0.0), traffic=NO_FLOOR),
            [0.5, 0.5, 0.5],
            [0.2, 0.3, 0.4],
        )
        assert sure.distribution(CONTEXT, [SILENCE, TEA, first]).tolist() == [0, 0, 1]
    # Beside something that may be better too, where they are not the best of all.
    beside = believing(settings, [0.5, 0.5, 1.0, 0.5], [0.0, 0.0, 1.0, 0.0])
    four = [SILENCE, first, TEA, JAM]
    if isinstance(exploration, Thompson):
        expected = pytest.approx([0.0, 0.3085, 0.6915, 0.0], abs=1e-3)
        assert beside.distribution(CONTEXT, four).tolist() == expected
    # What is not certain is not tied: it may be better, and it may be worse.
    unsure = believing(settings, [0.5, 0.5, 0.5], [0.2, 0.2, 0.2])
    if isinstance(exploration, Thompson):
        tried = unsure.distribution(CONTEXT, [SILENCE, TEA, first])
        assert tried.tolist() == pytest.approx([1 / 3] * 3)


@pytest.mark.parametrize(
    ("mean", "deviation", "message"),
    [
        ([0.0, np.nan], [1.0, 1.0], "beliefs must be finite"),
        ([0.0, 1.0], [1.0, np.inf], "beliefs must be finite"),
        ([0.0, 1.0], [1.0, -0.1], "deviations must be 0 or more"),
    ],
)
def test_beliefs_that_are_none_never_become_a_choice(
    mean: list[float], deviation: list[float], message: str
) -> None:
    for exploration in (UCB(), Thompson()):
        policy = believing(PolicySettings(exploration=exploration), mean, deviation)

        with pytest.raises(ValueError, match=message):
            policy.distribution(CONTEXT, [TEA, JAM])


@pytest.mark.parametrize(
    ("settings", "floor"),
    [
        (PolicySettings(), 0.01 / 2),
        (PolicySettings(traffic=TrafficSettings(floor=0.5)), 0.5 / 2 + 0.5 * 0.01 / 2),
        (PolicySettings(exploration=Softmax(temperature=1.0)), 0.0),
        (PolicySettings(exploration=UCB()), 0.01 / 2),
        (PolicySettings(exploration=UCB(), traffic=NO_FLOOR), 0.0),
        (PolicySettings(traffic=TrafficSettings(floor=1.0)), 0.5),
    ],
)
def test_a_policy_says_what_every_action_is_sure_of(
    settings: PolicySettings, floor: float
) -> None:
    chances, sure = Policy(settings).chances(CONTEXT, [TEA, JAM])

    assert sure == pytest.approx(floor)
    assert sure <= chances.min()


class Broken(Priority):
    """A learner that has lost its numbers."""

    def score(self, context: Features, actions: Sequence[Action]) -> FloatArray:
        return np.array([0.0, np.nan])


@pytest.mark.parametrize(
    "learner",
    [
        BlendSettings(waves=64),
        LinUCBSettings(alpha=1.0),
        LogisticSettings(),
        PopularitySettings(mean=5.0),
    ],
    ids=lambda settings: type(settings).__name__,
)
def test_a_silence_that_nobody_confirms_earns_nothing_for_sure(
    learner: LearnerSettings,
) -> None:
    # Given a policy that has learned of an offer alone
    policy = Policy(PolicySettings(learner, EpsilonGreedy(epsilon=0.1)))
    for turn in range(60):
        policy.learn(CONTEXT, TEA, reward=float(turn % 2), propensity=0.5)

    # When it is asked, then silence earns nothing, and is not tried as a hope
    mean, deviation = policy.believe(CONTEXT, [SILENCE, TEA])
    assert (mean[0], deviation[0]) == (0.0, 0.0)
    assert policy.score(CONTEXT, [SILENCE, TEA])[0] == 0.0
    assert policy.distribution(CONTEXT, [SILENCE, TEA])[0] == 0.05

    # And when a silence was learned, that is what counts
    policy.learn(CONTEXT, SILENCE, reward=2.0, propensity=0.5)
    assert policy.believe(CONTEXT, [SILENCE, TEA]).mean[0] > 0.0
    asked = Policy(policy.settings, policy.save())
    assert asked.score(CONTEXT, [SILENCE])[0] == policy.score(CONTEXT, [SILENCE])[0] > 0


def test_large_rewards_do_not_make_a_hope_of_silence() -> None:
    # Given the default policy, and an offer that half of all users pay 60 for
    policy = Policy(PolicySettings())
    for turn in range(120):
        policy.learn(CONTEXT, TEA, reward=60.0 * (turn % 2), propensity=0.5)

    # When silence was never confirmed, then the offer is made
    assert policy.distribution(CONTEXT, [SILENCE, TEA])[1] > 0.99


def test_scores_that_are_not_finite_never_become_a_choice() -> None:
    policy = Policy(PolicySettings())
    broken: Learner = Broken(PrioritySettings())
    policy.learner = broken

    with pytest.raises(ValueError, match="scores must be finite"):
        policy.distribution(CONTEXT, [TEA, JAM])


def test_what_cannot_have_been_learned_is_refused() -> None:
    with pytest.raises(ValueError, match="learned must be 0 or more, not -1"):
        Policy(PolicySettings(), learned=-1)


@pytest.mark.parametrize("salt", ["", "s" * 65, "ß" * 33])
def test_a_salt_that_no_hash_takes_is_refused(salt: str) -> None:
    with pytest.raises(ValueError, match="salt must be from 1 to 64 bytes"):
        PolicySettings(salt=salt)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (b'{"lerner": {}}', "unknown field `lerner`"),
        (
            b'{"learner": {"kind": "linucb", "dmi": 3}}',
            "field `dmi` - at `\\$.learner`",
        ),
        (b'{"learner": {"kind": "oracle"}}', "Invalid value 'oracle'"),
        (b'{"learner": {"kind": "linucb", "dim": 0}}', "dim must be from 1 to 256"),
    ],
)
def test_a_file_that_is_wrong_is_refused_with_the_place(
    file: bytes, message: str
) -> None:
    with pytest.raises(msgspec.ValidationError, match=message):
        msgspec.json.decode(file, type=PolicySettings)
