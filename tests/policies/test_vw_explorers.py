"""Policies of Vowpal Wabbit's own explorers, from settings to the draw."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np
import pytest

from policies import catalogue as catalogues
from policies.catalogue import Catalogue
from policies.engine import Past, decide
from policies.features import context_features
from policies.learners.vw import VowpalWabbit, VowpalWabbitSettings
from policies.learners.vw_explorers import (
    VowpalWabbitExploration,
    VwBag,
    VwCover,
    VwEpsilonGreedy,
    VwExplorer,
    VwFirst,
    VwRegCB,
    VwRnd,
    VwSoftmax,
    VwSquareCB,
    VwSynthCover,
)
from policies.model import (
    Action,
    Decision,
    Features,
    Opportunity,
    Resolution,
)
from policies.policy import (
    EpsilonGreedy,
    LinUCBSettings,
    Policy,
    PolicySettings,
)
from policies.training import fold
from tests.contracts.vw_settings import ONE_EACH, case_id

CATALOGUE = """
[placements.home]

[offers.tea]
placements = ["home"]
[offers.jam]
placements = ["home"]
[offers.oats]
placements = ["home"]
eligible = "segment == 'old'"
[offers.rice]
placements = ["home"]
"""
DRAWS = 600
CONTEXT: Features = (("constant", 1.0),)


def shop() -> Catalogue:
    return catalogues.read(CATALOGUE)


def exploring(learner: VowpalWabbitSettings) -> PolicySettings:
    return PolicySettings(learner, VowpalWabbitExploration())


def asked(number: int) -> Opportunity:
    return Opportunity(f"decision-{number}", 1_780_000_000_000, "ada", ("home",))


def decision_of(number: int, policy: Policy, catalogue: Catalogue) -> Decision:
    opportunity = asked(number)
    return decide(opportunity, catalogue=catalogue, past=Past(), policy=policy).decision


def teach(policy: Policy, catalogue: Catalogue, count: int) -> None:
    """Let a policy learn from its own decisions: rice pleases, and others less."""
    for number in range(count):
        decision = decision_of(number, policy, catalogue)
        pleased = (number * 7 % 10) < 2 * decision.chosen
        fold(policy, Resolution("", float(pleased)), decision, catalogue)


@pytest.mark.parametrize("learner", ONE_EACH, ids=case_id)
def test_offers_are_drawn_as_often_as_the_log_says_after_all_gates(
    learner: VowpalWabbitSettings,
) -> None:
    catalogue, policy = shop(), Policy(exploring(learner))
    teach(policy, catalogue, 50)

    drawn = Counter[int]()
    for number in range(DRAWS):
        decision = decision_of(10_000 + number, policy, catalogue)
        drawn[decision.chosen] += 1

    actions, units = decision.actions, decision.probabilities
    assert "oats" not in {catalogue.actions[at].offer_id for at in actions}
    chances = np.array(units) / 1e9
    counts = np.array([drawn[at] for at in actions])
    possible = chances > 0.0
    assert counts[~possible].sum() == 0
    expected = chances[possible] * DRAWS
    statistic = float(((counts[possible] - expected) ** 2 / expected).sum())
    freedom = int(np.count_nonzero(possible)) - 1
    # By chance once in a hundred times: the quantiles of χ² of 1, 2 and 3.
    assert statistic <= (0.0, 6.63, 9.21, 11.34)[freedom]


@pytest.mark.parametrize("learner", ONE_EACH, ids=case_id)
def test_what_is_drawn_from_is_what_the_explorer_says(
    learner: VowpalWabbitSettings,
) -> None:
    catalogue, policy = shop(), Policy(exploring(learner))
    teach(policy, catalogue, 30)
    actions = [catalogue.actions[at] for at in (0, 2, 4)]

    shares = policy.distribution(CONTEXT, actions)

    assert isinstance(policy.learner, VowpalWabbit)
    assert shares.tolist() == policy.learner.distribution(CONTEXT, actions).tolist()
    assert policy.learned == 30


def test_a_policy_of_an_explorer_goes_on_from_its_snapshot() -> None:
    catalogue = shop()
    settings = exploring(VowpalWabbitSettings(bits=12, explorer=VwCover(policies=2)))
    straight, stopped = Policy(settings), Policy(settings)

    teach(straight, catalogue, 20)
    teach(stopped, catalogue, 10)
    stopped = Policy(settings, stopped.save(), learned=10, previous=stopped)
    for number in range(10, 20):
        decision = decision_of(number, stopped, catalogue)
        pleased = (number * 7 % 10) < 2 * decision.chosen
        fold(stopped, Resolution("", float(pleased)), decision, catalogue)

    assert straight.save() == stopped.save()


def test_a_resolution_is_learned_among_all_that_was_eligible() -> None:
    catalogue = shop()
    settings = VowpalWabbitSettings(bits=12, learning_rate=0.5, cb_type="ips")
    policy = Policy(PolicySettings(settings))
    decision = decision_of(1, policy, catalogue)
    actions = [catalogue.actions[at] for at in decision.actions]
    chosen = catalogue.actions[decision.chosen]

    fold(policy, Resolution("", 0.75), decision, catalogue)

    alone = VowpalWabbit(settings)
    context = context_features(decision.opportunity.context, catalogue.features)
    alone.learn(
        context, chosen, reward=0.75, propensity=decision.propensity, among=actions
    )
    assert policy.learner.save() == alone.save()
    assert policy.learns_among
    assert not Policy(PolicySettings(LinUCBSettings())).learns_among


def test_the_best_by_what_learns_beside_an_explorer_can_be_asked_for() -> None:
    catalogue = shop()
    learner = VowpalWabbitSettings(bits=12, explorer=VwFirst(rewards=500))
    policy = Policy(exploring(learner))
    teach(policy, catalogue, 200)

    greedy = Policy(PolicySettings(learner, EpsilonGreedy(epsilon=0.0)), policy.save())

    actions = [catalogue.actions[at] for at in (0, 1, 2, 4)]
    assert policy.distribution(CONTEXT, actions).tolist() == [0.25] * 4
    assert greedy.distribution(CONTEXT, actions).tolist() == [0.0, 0.0, 0.0, 1.0]


def test_an_explorer_is_one_table_of_a_settings_file() -> None:
    file = b"""{
        "learner": {"kind": "vw", "explorer": {"kind": "squarecb", "gamma_scale": 50}},
        "exploration": {"kind": "vw_explorer"}
    }"""

    settings = msgspec.json.decode(file, type=PolicySettings)

    squarecb = VwSquareCB(gamma_scale=50.0)
    expected = exploring(VowpalWabbitSettings(explorer=squarecb))
    assert expected == settings
    assert expected.version == settings.version
    assert "--gamma_scale 50 " in " ".join(expected.learner.options)  # type: ignore[union-attr]
    read = msgspec.json.decode(settings.to_json(), type=PolicySettings)
    assert settings == read


def test_whole_numbers_are_the_same_however_they_were_written() -> None:
    whole, broken = VwSoftmax(inverse_temperature=5), VwSoftmax(inverse_temperature=5.0)

    assert whole.options(1.0) == broken.options(1.0)


def test_bounds_of_rewards_become_bounds_of_costs_at_their_scale() -> None:
    regcb = VwRegCB(reward_min=-20.0, reward_max=100.0)

    options = VowpalWabbitSettings(explorer=regcb, reward_scale=100.0).options

    assert "--cb_min_cost -1 --cb_max_cost 0.2" in " ".join(options)


def test_explorers_that_rule_actions_out_find_what_pleases() -> None:
    catalogue = shop()
    for explorer in (VwRegCB(), VwSquareCB(elim=True)):
        settings = VowpalWabbitSettings(bits=12, learning_rate=0.5, explorer=explorer)
        policy = Policy(exploring(settings))

        teach(policy, catalogue, 400)

        decision = decision_of(1_000, policy, catalogue)
        shares = dict(zip(decision.actions, decision.probabilities, strict=True))
        assert shares[4] == max(shares.values())


def world(count: int, seed: int = 0) -> list[tuple[Features, int, float]]:
    """Return four segments, each of which another of four offers pleases."""
    generator = np.random.default_rng(seed)
    rows: list[tuple[Features, int, float]] = []
    for _ in range(count):
        segment, at = generator.integers(4, size=2).tolist()
        pleased = generator.random() < (0.7 if segment == at else 0.2)
        rows.append(
            ((("constant", 1.0), (f"segment={segment}", 1.0)), at, float(pleased))
        )
    return rows


OFFERS = [Action(i + 1, f"offer-{i}", "text", "home", ()) for i in range(4)]


def rewards_of(
    learner: VowpalWabbit,
) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    return np.array(
        [
            learner.score((("constant", 1.0), (f"segment={s}", 1.0)), OFFERS)
            for s in range(4)
        ]
    )


@pytest.mark.parametrize("cb_type", ["mtr", "ips", "dr"])
def test_rewards_by_propensity_are_learned_where_choices_were_not_even(
    cb_type: str,
) -> None:
    settings = msgspec.convert({"bits": 12, "cb_type": cb_type}, VowpalWabbitSettings)
    learner = VowpalWabbit(settings)
    generator = np.random.default_rng(2)
    shares = (0.1, 0.2, 0.3, 0.4)

    for _ in range(2_000):
        at = int(generator.choice(4, p=shares))
        reward = float(generator.random() < 0.8 - 0.2 * at)
        learner.learn(
            CONTEXT, OFFERS[at], reward=reward, propensity=shares[at], among=OFFERS
        )

    scores = learner.score(CONTEXT, OFFERS)
    assert scores.tolist() == pytest.approx([0.8, 0.6, 0.4, 0.2], abs=0.12)


@pytest.mark.parametrize(
    ("cb_type", "late"), [("mtr", 20), ("mtr", 300), ("ips", 20), ("dr", 20)]
)
def test_a_correction_undoes_most_of_what_was_wrong(cb_type: str, late: int) -> None:
    """Of 2,000 rewards every tenth is learned as 0, whatever it was, and put right."""
    settings = msgspec.convert({"bits": 12, "cb_type": cb_type}, VowpalWabbitSettings)
    truth, wrong, right = (VowpalWabbit(settings) for _ in range(3))
    rows = world(2_000)
    waiting: list[tuple[int, Features, int]] = []

    for number, (context, at, reward) in enumerate(rows):
        is_late = number % 10 == 0 and number < len(rows) - 2 * late
        known = 0.0 if is_late else reward
        for learner, learned in ((truth, reward), (wrong, known), (right, known)):
            learner.learn(
                context, OFFERS[at], reward=learned, propensity=0.25, among=OFFERS
            )
        if known != reward:
            waiting.append((number + late, context, at))
        while waiting and waiting[0][0] <= number:
            _, then, which = waiting.pop(0)
            right.correct(
                then,
                OFFERS[which],
                reward=1.0,
                before=0.0,
                propensity=0.25,
                among=OFFERS,
            )

    expected = rewards_of(truth)
    apart = [
        float(np.sqrt(((rewards_of(learner) - expected) ** 2).mean()))
        for learner in (right, wrong)
    ]
    assert not waiting
    assert apart[0] < 0.02
    assert apart[0] < 0.6 * apart[1]


@pytest.mark.parametrize(
    "explorer", [None, VwSquareCB(), VwCover(policies=2), VwRnd()], ids=str
)
def test_a_correction_moves_what_is_expected_towards_the_truth(
    explorer: VwExplorer | None,
) -> None:
    learner = VowpalWabbit(VowpalWabbitSettings(bits=12, explorer=explorer))
    for context, at, reward in world(100):
        learner.learn(context, OFFERS[at], reward=reward, propensity=0.25, among=OFFERS)
    before = learner.score(CONTEXT, OFFERS)

    for _ in range(5):
        learner.correct(
            CONTEXT, OFFERS[1], reward=0.0, before=1.0, propensity=0.25, among=OFFERS
        )

    after = learner.score(CONTEXT, OFFERS)
    assert after[1] < before[1] - 0.05
    assert after[1] - before[1] < (after - before)[[0, 2, 3]].min()


@pytest.mark.parametrize("wrong", [("reward", "nan"), ("before", "inf")])
def test_a_correction_that_is_not_finite_is_refused(wrong: tuple[str, str]) -> None:
    learner = VowpalWabbit(VowpalWabbitSettings(bits=12))
    before = learner.save()
    rewards: dict[str, Any] = {"reward": 1.0, "before": 0.0, wrong[0]: float(wrong[1])}

    with pytest.raises(ValueError, match=f"reward must be finite, not {wrong[1]}"):
        learner.correct(CONTEXT, OFFERS[0], **rewards, propensity=0.5)

    assert before == learner.save()


def test_where_steps_do_not_shrink_what_is_old_is_forgotten() -> None:
    errors = []
    for power_t in (0.5, 0.0):
        learner = VowpalWabbit(
            VowpalWabbitSettings(bits=12, learning_rate=0.02, power_t=power_t)
        )
        for reward in [1.0] * 3_000 + [0.0] * 300:
            learner.learn(CONTEXT, OFFERS[0], reward=reward, propensity=1.0)
        errors.append(float(learner.score(CONTEXT, OFFERS[:1])[0]))

    assert errors[1] < 0.1 < errors[0]


def test_without_an_explorer_there_is_no_distribution() -> None:
    with pytest.raises(ValueError, match="there is no explorer"):
        VowpalWabbit(VowpalWabbitSettings(bits=12)).distribution(CONTEXT, OFFERS)


def test_shares_that_are_no_numbers_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = VowpalWabbitSettings(bits=12, explorer=VwSquareCB())
    learner = VowpalWabbit(settings)
    nothing = lambda *_: np.array([np.nan, 1.0])  # noqa: E731
    monkeypatch.setattr(learner, "_predict", nothing)

    with pytest.raises(ValueError, match="shares must sum to a positive number"):
        learner.distribution(CONTEXT, OFFERS[:2])


def refused(kind: type[VwExplorer], keys: dict[str, Any]) -> str:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - told by the caller
        kind(**keys)
    return str(caught.value)


@pytest.mark.parametrize(
    ("kind", "keys", "message"),
    [
        (VwEpsilonGreedy, {"epsilon": 1.5}, "epsilon must be from 0 to 1, not 1.5"),
        (VwFirst, {"rewards": 0}, "rewards must be from 1 to 1e9, not 0"),
        (
            VwSoftmax,
            {"inverse_temperature": -1.0},
            "inverse_temperature must be from 0 to 1e+06, not -1.0",
        ),
        (
            VwSquareCB,
            {"gamma_scale": 0.0},
            "gamma_scale must be above 0, to 1e+09, not 0.0",
        ),
        (
            VwSquareCB,
            {"gamma_exponent": 2.0},
            "gamma_exponent must be from 0 to 1, not 2.0",
        ),
        (VwRegCB, {"mellowness": 0.0}, "mellowness must be above 0, to 1e+06, not 0.0"),
        (
            VwRegCB,
            {"reward_min": 1.0},
            "reward_min must be below reward_max, 1.0, not 1.0",
        ),
        (
            VwRegCB,
            {"reward_max": 1e10},
            "reward_max must be from -1e+09 to 1e+09, not 10000000000.0",
        ),
        (VwBag, {"bags": 101}, "bags must be from 1 to 100, not 101"),
        (VwCover, {"epsilon": 1.5}, "epsilon must be from 0 to 1, not 1.5"),
        (VwCover, {"psi": float("nan")}, "psi must be above 0, to 1e+06, not nan"),
        (
            VwSynthCover,
            {"policies": 20_000},
            "policies must be from 1 to 10,000, not 20000",
        ),
        (VwRnd, {"alpha": -0.1}, "alpha must be above 0, to 1e+06, not -0.1"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else None,
)
def test_what_is_out_of_range_is_refused_with_its_range(
    kind: type[VwExplorer], keys: dict[str, Any], message: str
) -> None:
    assert message == refused(kind, keys)


@pytest.mark.parametrize("epsilon", [None, 0.1])
def test_what_cover_shares_among_all_shrinks_only_where_it_is_not_said(
    epsilon: float | None,
) -> None:
    explorer = VwCover(policies=1, epsilon=epsilon)
    learner = VowpalWabbit(VowpalWabbitSettings(bits=10, explorer=explorer))
    count, learned = len(OFFERS), 30

    for _ in range(learned):
        learner.learn(CONTEXT, OFFERS[0], reward=1.0, propensity=0.5, among=OFFERS)

    least = learner.distribution(CONTEXT, OFFERS).min()
    shrunk = 1.0 / math.sqrt(count * learned)
    assert least == pytest.approx(shrunk if epsilon is None else epsilon / count)


def test_what_does_not_go_together_is_refused() -> None:
    squarecb = VowpalWabbitSettings(explorer=VwSquareCB())
    wrong: Sequence[tuple[str, Callable[[], object]]] = [
        (
            "cb_type must be mtr with the explorer squarecb, not dr",
            lambda: VowpalWabbitSettings(explorer=VwSquareCB(), cb_type="dr"),
        ),
        (
            "exploration of kind vw_explorer needs a learner of kind vw",
            lambda: exploring(VowpalWabbitSettings()),
        ),
        (
            "exploration of kind vw_explorer needs a learner of kind vw",
            lambda: PolicySettings(LinUCBSettings(), VowpalWabbitExploration()),
        ),
        (
            "a learner with an explorer needs exploration of kind vw_explorer",
            lambda: PolicySettings(squarecb, EpsilonGreedy(epsilon=0.1)),
        ),
    ]
    for message, make in wrong:
        with pytest.raises(ValueError, match=message):
            make()
