"""Evaluation: what other policies would have earned, where that is known.

The worlds are those of `worlds`: each user's taste is a table, so that the value of a
policy can be worked out by hand.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from policies.model import Context
from policies.policy import (
    EpsilonGreedy,
    LinUCBSettings,
    PolicySettings,
    VowpalWabbitSettings,
)
from policies.splits import SplitSettings
from server import warming
from simulator import Evaluation, LogError, TargetError, Value, evaluate, open_log
from simulator.logs import write_log
from tests.simulator import worlds
from tests.simulator.worlds import TASTES, World

EXPLORING = PolicySettings(
    VowpalWabbitSettings(bits=12), EpsilonGreedy(epsilon=0.3), salt="pepper"
)
ALL = (
    *("logged", "uniform", "latest", "greedy"),
    *("fixed:tea", "fixed:jam", "fixed:no_offer"),
)
N = 2_000


@pytest.fixture(scope="module")
def uniform_world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Two thousand users who were shown anything."""
    world = World(tmp_path_factory.mktemp("uniform") / "opportune.db")
    world.live(N, every=1_000)
    return world


@pytest.fixture(scope="module")
def learned_world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Two thousand users who were shown what was learned to be liked."""
    world = World(tmp_path_factory.mktemp("learned") / "opportune.db", EXPLORING)
    world.live(N, every=250)
    return world


@pytest.fixture(scope="module", params=["uniform_world", "learned_world"])
def world(request: pytest.FixtureRequest) -> World:
    found: World = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="module")
def result(world: World) -> Evaluation:
    """Everything that can be asked of a world, asked once."""
    return evaluated(world, *ALL)


def evaluated(world: World, *policies: str, **question: Any) -> Evaluation:
    return evaluate(world.path, policies, **question)


def of(result: Evaluation, policy: str, estimator: str) -> Value:
    (value,) = [
        value
        for value in result.values
        if (value.policy, value.estimator, value.by) == (policy, estimator, "")
    ]
    return value


def truth(world: World, choose: Callable[[Context], dict[str, float]]) -> float:
    """Return what a policy is worth to the users who came."""
    contexts = [decision.opportunity.context for decision in world.decisions]
    return float(
        np.mean(
            [
                share * TASTES.get((context.segment, offer_id), 0.0)
                for context in contexts
                for offer_id, share in choose(context).items()
            ]
        )
        * len(choose(contexts[0]))
    )


def accepted(world: World) -> int:
    ((count,),) = world.rows(
        "select count(*) from outcome where record ->> 'kind' = 'accepted'"
    )
    return int(count)


def test_the_logged_policy_is_worth_the_mean_reward(
    world: World, result: Evaluation
) -> None:
    value = of(result, "logged", "mean")

    assert pytest.approx(accepted(world) / N) == value.value
    assert (value.n, value.ess, value.untried) == (N, N, 0.0)
    assert value.reliable


@pytest.mark.parametrize("estimator", ["ips", "snips"])
def test_a_uniform_policy_on_its_own_log_is_worth_the_mean_reward(
    uniform_world: World, estimator: str
) -> None:
    value = of(evaluated(uniform_world, "uniform"), "uniform", estimator)

    assert pytest.approx(accepted(uniform_world) / N) == value.value
    assert pytest.approx(N) == value.ess
    assert pytest.approx(1.0) == value.weight_max


@pytest.mark.parametrize("estimator", ["ips", "snips", "dr"])
@pytest.mark.parametrize(
    ("policy", "choose"),
    [
        ("uniform", lambda _: {"": 1 / 3, "tea": 1 / 3, "jam": 1 / 3}),
        ("fixed:tea", lambda _: {"tea": 1.0}),
        ("fixed:jam", lambda _: {"jam": 1.0}),
    ],
)
def test_intervals_hold_what_is_true(
    world: World,
    result: Evaluation,
    policy: str,
    choose: Callable[[Context], dict[str, float]],
    estimator: str,
) -> None:
    value = of(result, policy, estimator)

    assert value.low is not None
    assert value.high is not None
    assert value.low <= truth(world, choose) <= value.high
    assert value.high - value.low < 0.25
    assert value.reliable, value.doubts


def test_a_reward_model_takes_noise_away(learned_world: World) -> None:
    result = evaluated(learned_world, "fixed:tea")

    error = {v.estimator: v.standard_error or 9.0 for v in result.values}
    assert error["dr"] < error["ips"]
    assert error["dr"] < error["snips"]


def test_what_was_learned_is_worth_more_than_chance(result: Evaluation) -> None:
    best = of(result, "greedy", "dr")
    chance = of(result, "uniform", "dr")
    assert (best.low or 0.0) > (chance.value or 0.0)
    crossed = {each.name for each in result.policies if each.cross_fitted}
    assert crossed == {"latest", "greedy"}
    assert not any(each.trained_on_log for each in result.policies)


def test_the_largest_weight_is_that_of_the_rarest_action(learned_world: World) -> None:
    value = of(evaluated(learned_world, "fixed:tea"), "fixed:tea", "ips")

    # Of three actions, one that is not the best has a tenth.
    assert pytest.approx(10.0) == value.weight_max


def test_silence_is_worth_nothing_and_that_is_not_relied_on(
    result: Evaluation,
) -> None:
    value = of(result, "fixed:no_offer", "snips")

    assert (value.value, value.verdict) == (None, "unusable")
    assert value.doubts == ("0 decisions earned anything, and 10 are needed",)


def test_what_the_log_never_tried_is_doubted(tmp_path: Path) -> None:
    greedy = PolicySettings(VowpalWabbitSettings(bits=12), EpsilonGreedy(epsilon=0.0))
    world = World(tmp_path / "opportune.db", greedy)
    world.live(600, every=300)

    for value in evaluated(world, "uniform", "fixed:jam").values:
        assert value.untried > 0.1
        assert not value.reliable
        assert any("the log never tries" in doubt for doubt in value.doubts)


def test_a_policy_that_the_log_says_nothing_about_has_no_value(tmp_path: Path) -> None:
    world = World(tmp_path / "opportune.db")
    decided = world.visit([f"user-{number}" for number in range(30)])
    world.now_ms += world.rewards.wait
    world.learn()
    for decision in decided:
        if decision.chosen == 1:
            world.rows(
                "delete from resolution where decision_id = ?",
                decision.opportunity.decision_id,
            )

    for value in evaluated(world, "fixed:tea").values:
        assert (value.value, value.low, value.high) == (None, None, None)
        assert value.doubts == ("the log never did what this policy does",)


def test_an_offer_that_is_not_eligible_is_no_offer(tmp_path: Path) -> None:
    world = World(tmp_path / "opportune.db")
    world.offer(worlds.CAPPED)
    world.live(600, every=300)

    value = of(evaluated(world, "fixed:tea"), "fixed:tea", "ips")

    expected = truth(
        world, lambda c: {"tea": 0.0 if c.segment == "team" else 1.0, "": 0.0}
    )
    assert value.low is not None
    assert value.high is not None
    assert value.low <= expected <= value.high


def test_rewards_that_depend_on_what_was_chosen_are_pointed_out(
    tmp_path: Path,
) -> None:
    world = World(tmp_path / "opportune.db")
    world.rewards = worlds.SILENCE_UNCONFIRMED
    world.live(400, every=200)

    result = evaluated(world, "logged", "uniform")

    assert result.log.rewarded < result.log.decisions
    for value in result.values:
        assert "depends on what was chosen" in value.doubts[0]


def test_a_settings_file_is_trained_on_the_log(
    learned_world: World, tmp_path: Path
) -> None:
    path = tmp_path / "settings.toml"
    path.write_text(
        "[server]\nworkers = 4\n[policy.learner]\nkind = 'linucb'\ndim = 16\n"
        "[policy.exploration]\nkind = 'epsilon_greedy'\nepsilon = 0.05\n",
        encoding="utf-8",
    )

    result = evaluated(learned_world, str(path), "uniform")

    subject = result.policies[0]
    assert (subject.cross_fitted, subject.trained_on_log) == (True, False)
    assert f"[policy] of {path}, trained on this log" in subject.about
    value = of(result, str(path), "dr")
    assert (value.low or 0.0) > (of(result, "uniform", "dr").value or 0.0)


def test_the_latest_model_is_the_same_from_a_snapshot_and_from_nothing(
    learned_world: World, tmp_path: Path
) -> None:
    forgetful = learned_world.copied(tmp_path / "opportune.db")
    forgetful.rows("delete from snapshot")

    expected = evaluated(learned_world, "latest", "greedy", folds=0).values

    assert expected == evaluated(forgetful, "latest", "greedy", folds=0).values


def test_a_model_is_evaluated_as_it_was(learned_world: World) -> None:
    latest = of(evaluated(learned_world, "latest", folds=0), "latest", "dr")

    last = f"model:1.{N}"
    again = of(evaluated(learned_world, last), last, "dr")
    early = of(evaluated(learned_world, "model:1.1"), "model:1.1", "dr")

    assert again.value == latest.value
    assert early.value != latest.value
    with pytest.raises(TargetError, match=r"a model is model:EPOCH\.N, not model:last"):
        evaluated(learned_world, "model:last")


def test_an_exported_model_is_evaluated(learned_world: World, tmp_path: Path) -> None:
    # Given a model as the server exports it
    path = tmp_path / "model.json"
    settings = learned_world.policy.settings
    ((model, body),) = learned_world.rows(
        "select epoch || '.' || position, body from snapshots_v1"
        " order by position desc limit 1"
    )
    warming.export(path, settings, model=model, body=body)

    # When it is asked about
    result = evaluated(learned_world, f"new={path}", "latest", folds=0)

    # Then it is what decides now
    assert of(result, "new", "dr").value == of(result, "latest", "dr").value
    for text, told in (
        ("{}", "is no exported model"),
        (path.read_text().replace("model.v1", "model.v9"), "not opportune.model.v1"),
        (path.read_text().replace('"body": "', '"body": "AAAA'), "new.json"),
    ):
        (tmp_path / "new.json").write_text(text)
        with pytest.raises(TargetError, match=told):
            evaluated(learned_world, str(tmp_path / "new.json"))


def test_a_log_says_the_same_as_parquet(learned_world: World, tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    with open_log(learned_world.path) as log:
        write_log(log, path, to="parquet")

    here = evaluated(learned_world, "uniform", "fixed:tea", by=["segment"])
    there = evaluate(path, ["uniform", "fixed:tea"], by=["segment"])

    for mine, theirs in zip(here.values, there.values, strict=True):
        assert (mine.policy, mine.group) == (theirs.policy, theirs.group)
        assert mine.verdict == theirs.verdict
        if mine.value is not None:
            assert mine.value == pytest.approx(theirs.value, rel=1e-9)
            assert mine.low == pytest.approx(theirs.low, rel=1e-9)


def test_many_decisions_of_few_users_are_pointed_out(tmp_path: Path) -> None:
    world = World(tmp_path / "opportune.db")
    for _ in range(20):
        world.now_ms += 1
        world.visit([f"regular-{number}" for number in range(10)])
    world.now_ms += world.rewards.wait
    world.learn()

    result = evaluated(world, "uniform")

    assert (result.log.rewarded, result.log.users) == (200, 10)
    assert any("200 decisions are of 10 users" in note for note in result.notes)


def test_a_log_without_rewards_says_where_they_come_from(tmp_path: Path) -> None:
    world = World(tmp_path / "opportune.db")
    world.visit(["ada"])

    with pytest.raises(
        LogError, match=r"no decision has a reward yet: .*ReportOutcome"
    ):
        evaluated(world, *ALL)


@pytest.mark.parametrize(
    ("policy", "told"),
    [
        ("best", "no policy and no settings file 'best': logged, uniform"),
        ("fixed:coffee", "offer 'coffee'; there were: jam, tea"),
        ("{}/catalogue.toml", "there is no \\[policy\\] section"),
        ("{}/wrong.toml", r"wrong\.toml: .*policy\.learner"),
        ("{}/broken.toml", "syntax"),
    ],
)
def test_a_policy_that_there_is_not_is_refused(
    uniform_world: World, tmp_path: Path, policy: str, told: str
) -> None:
    for name, text in {
        "catalogue": worlds.CATALOGUE,
        "wrong": "[policy.learner]\nkind = 'oracle'\n",
        "broken": "[policy\n",
    }.items():
        (tmp_path / f"{name}.toml").write_text(text, encoding="utf-8")

    with pytest.raises(TargetError, match=told):
        evaluated(uniform_world, policy.format(tmp_path))


# --- Users who teach nothing -------------------------------------------------------


def test_a_policy_is_judged_by_users_from_whom_it_has_learned_nothing(
    tmp_path: Path,
) -> None:
    # Given a shop that keeps a third of its users from the learner
    settings = PolicySettings(
        LinUCBSettings(dim=8), EpsilonGreedy(epsilon=0.5), split=SplitSettings(eval=0.3)
    )
    world = World(tmp_path / "opportune.db", settings)
    world.live(600, every=200)
    aside = [d for d in world.decisions if d.split == "eval"]

    # When policies are judged by those, or by those who teach
    fair = evaluated(world, "latest", "logged", split="eval")
    taught = evaluated(world, "latest", split="train", folds=0)

    # Then there are as many as were set aside, and the first judgement is fair
    assert (fair.log.decisions, fair.log.rewarded) == (len(aside), len(aside))
    assert taught.log.decisions == 600 - len(aside)
    assert not fair.policies[0].trained_on_log
    assert taught.policies[0].trained_on_log
    assert "frozen" in fair.policies[0].about
    accepted = sum("accepted" in world.taste(d) for d in aside) / len(aside)
    logged = next(v for v in fair.values if v.policy == "logged")
    assert logged.value == pytest.approx(accepted)


def test_a_split_of_which_there_is_nobody_is_told(uniform_world: World) -> None:
    with pytest.raises(LogError, match="no decision for users of the split control"):
        evaluated(uniform_world, "logged", split="control")
