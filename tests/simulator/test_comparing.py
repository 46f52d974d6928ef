"""Comparing policies on one log, and whether one may be deployed.

The logs are those of `logged`: the value of every policy is known.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from policies.comparison import GateSettings
from policies.policy import EpsilonGreedy, LinUCBSettings, Policy, PolicySettings
from simulator import Comparison, Feedback, Parts, QuestionError, compare
from simulator.batches import Batch
from simulator.candidates import Exported
from simulator.targets import learn
from tests.simulator import logged

TEA, JAM = logged.TASTES[:, 1].mean(), logged.TASTES[:, 2].mean()


@pytest.fixture(scope="module")
def log() -> Feedback:
    return logged.log(6_000)


def of(result: Comparison, policy: str, objective: str = "reward") -> Any:
    (found,) = [
        one
        for one in result.differences
        if (one.policy, one.objective) == (policy, objective)
    ]
    return found


def test_a_policy_that_is_better_wins(log: Feedback) -> None:
    result = compare(log, ["uniform", "best=column:best"], estimators=["snips"])

    found = of(result, "best")
    truth = logged.value(logged.BEST) - logged.value(np.full((3, 4), 0.25))
    assert found.low <= truth <= found.high
    assert (found.lead, result.winner, result.over) == ("better", "best", "uniform")
    assert found.rows_to_tell is None


def test_a_difference_is_known_better_than_the_values(log: Feedback) -> None:
    # Given two policies that differ in one segment of three
    mine = logged.BEST.copy()
    mine[0] = logged.LOGGING[0]
    columns = {"best": log.targets["best"], "half": _column(log, mine)}
    part = msgspec.structs.replace(log, targets=columns)

    result = compare(part, ["a=column:best", "b=column:half"], estimators=["snips"])

    widths = [v.high - v.low for v in result.evaluation.values if v.low is not None]  # type: ignore[operator]
    found = of(result, "b")
    assert found.high - found.low < 0.75 * min(widths)


def _column(log: Feedback, policy: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    rows = [logged.SEGMENTS.index(segment) for segment in log.segments]
    found: np.ndarray[Any, Any] = policy[rows, log.chosen]
    return found


def test_where_the_log_cannot_tell_there_is_no_winner(log: Feedback) -> None:
    part = log.take(np.arange(1_500))

    result = compare(part, ["fixed:tea", "fixed:jam"])

    found = of(result, "fixed:jam")
    assert found.low < JAM - TEA < found.high
    assert (found.lead, result.winner) == ("open", None)
    assert found.rows_to_tell > 1_500


def test_a_log_that_is_weak_wins_nothing() -> None:
    # Given a log that tries so little of jam that few rows have all the weight
    shy = logged.shares({"free": "tea", "team": "tea", "old": "tea"}, 0.004)
    part = logged.log(300_000, logging=shy, scale=1.0)

    result = compare(part, ["logged", "fixed:jam"], estimators=["snips"])

    found = of(result, "fixed:jam")
    assert found.verdict == "weak"
    assert (found.lead, result.winner) == ("open", None)
    assert any("less than 5%" in doubt for doubt in found.doubts)


def test_the_best_of_several_must_be_told_from_the_second(log: Feedback) -> None:
    few, names = (
        log.take(np.arange(2_500)),
        ["fixed:no_offer", "fixed:tea", "fixed:jam"],
    )
    part = msgspec.structs.replace(
        few, rewards=few.rewards + np.linspace(0.0, 0.01, len(few))
    )

    result = compare(part, names)

    assert set(result.better) == {"fixed:tea", "fixed:jam"}
    assert result.winner is None


def test_the_base_wins_where_all_others_are_worse(log: Feedback) -> None:
    result = compare(
        log, ["uniform", "best=column:best"], over="best", estimators=["snips"]
    )

    assert (of(result, "uniform").lead, result.winner) == ("worse", "best")


def test_intervals_are_wider_the_more_candidates_and_looks(log: Feedback) -> None:
    def width(*policies: str, **asked: Any) -> float:
        found = of(compare(log, ["uniform", *policies], **asked), "fixed:tea")
        return float(found.high - found.low)

    alone = width("fixed:tea")
    among = width("fixed:tea", "fixed:jam", "fixed:bun", "logged")
    daily = width("fixed:tea", daily=True)
    assert alone < among < daily


def test_no_lead_is_seen_by_looking_often() -> None:
    # Given two policies that are worth the same, looked at every day
    part = msgspec.structs.replace(
        logged.log(4_000), rewards=np.tile([0.0, 1.0], 2_000)
    )
    policies = ["fixed:tea", "fixed:jam"]

    for n in range(500, 4_001, 500):
        result = compare(part.take(np.arange(n)), policies, daily=True)
        assert result.winner is None


def test_parts_say_the_same_as_the_whole(log: Feedback) -> None:
    policies = ["uniform", "fixed:tea", "fixed:jam"]

    one = compare(log, policies).differences
    other = compare(Parts(logged.cut(log, 700, seed=1)), policies).differences

    for mine, theirs in zip(one, other, strict=True):
        for name in ("value", "low", "high", "standard_error"):
            assert getattr(mine, name) == pytest.approx(
                getattr(theirs, name), rel=1e-9, abs=1e-9
            )


# --- Whether to deploy ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("promote", "asked", "verdict", "told"),
    [
        ("best", {}, "deploy", "it earns at least"),
        ("uniform", {}, "keep", "may earn"),
        ("best", {"gain_min": 0.5}, "keep", "lower bound is not above 0.5"),
        ("best", {"dismissals_rise_max": 0.2}, "deploy", "dismissals rise by at most"),
        ("best", {"dismissals_rise_max": 0.0}, "keep", "dismissals may rise by"),
    ],
)
def test_a_gate_asks_for_a_gain_and_bounds_dismissals(
    log: Feedback, promote: str, asked: dict[str, Any], verdict: str, told: str
) -> None:
    result = compare(
        log,
        ["logged", "best=column:best", "uniform"],
        estimators=["snips"],
        promote=promote,
        gate_settings=GateSettings(**asked),
    )

    assert result.gate is not None
    assert result.gate.verdict == verdict
    assert told in "; ".join(result.gate.reasons)


@pytest.mark.parametrize(
    ("allowed", "verdict", "told"),
    [(0.01, "deploy", "dismissals fall by at least"), (-0.5, "keep", "is allowed")],
)
def test_that_none_was_dismissed_is_enough_for_a_gate(
    log: Feedback, allowed: float, verdict: str, told: str
) -> None:
    # Given a policy that nobody has ever dismissed, and a log where others are
    never = log.targets["best"] > 0
    dismissed = np.where(never, 0.0, np.arange(len(log)) % 5 == 0)
    part = msgspec.structs.replace(
        log, objectives={**log.objectives, "dismissed": dismissed}
    )

    result = compare(
        part,
        ["logged", "best=column:best"],
        estimators=["snips"],
        promote="best",
        gate_settings=GateSettings(dismissals_rise_max=allowed),
    )

    assert result.gate is not None
    assert result.gate.verdict == verdict
    assert told in "; ".join(result.gate.reasons)


def test_a_log_without_any_dismissal_does_not_say_that_there_are_none(
    log: Feedback,
) -> None:
    part = msgspec.structs.replace(
        log, objectives={**log.objectives, "dismissed": np.zeros(len(log))}
    )

    result = compare(
        part,
        ["logged", "best=column:best"],
        estimators=["snips"],
        promote="best",
        gate_settings=GateSettings(dismissals_rise_max=0.0),
    )

    assert result.gate is not None
    assert result.gate.verdict == "keep"
    assert "dismissals may rise by 0.0" in result.gate.reasons[0]


def test_a_gate_that_cannot_tell_says_so() -> None:
    result = compare(
        logged.log(150), ["logged", "fixed:jam"], promote="fixed:jam", confidence=0.9
    )

    assert result.gate is not None
    assert result.gate.verdict == "cannot tell"
    assert result.gate.settings.confidence == 0.9
    assert "are needed" in result.gate.reasons[0]


def test_what_has_learned_from_its_own_judges_is_not_deployed(
    log: Feedback, tmp_path: Path
) -> None:
    path = tmp_path / "new.toml"
    path.write_text(
        "[policy.learner]\nkind = 'linucb'\ndim = 8\n"
        "[policy.exploration]\nkind = 'epsilon_greedy'\nepsilon = 0.1\n",
        encoding="utf-8",
    )

    fair = compare(log, ["logged", f"new={path}"], promote="new")
    unfair = compare(log, ["logged", f"new={path}"], promote="new", folds=0)

    assert fair.gate is not None
    assert unfair.gate is not None
    assert (fair.gate.verdict, unfair.gate.verdict) == ("deploy", "cannot tell")
    assert "has learned, or may have, from the rewards" in unfair.gate.reasons[0]


@pytest.fixture
def by_heart(tmp_path: Path) -> tuple[Feedback, str]:
    """Rewards that are chance alone, and a model that has learned them by heart."""
    rng = np.random.default_rng(0)
    contexts = [
        tuple((f"x{place}", float(x)) for place, x in enumerate(row))
        for row in rng.normal(size=(4_000, 20))
    ]
    rewards = (rng.random(4_000) < 0.3).astype(float)
    part = msgspec.structs.replace(
        logged.log(4_000), contexts=contexts, rewards=rewards, objectives={}
    )
    learner = LinUCBSettings(dim=64, alpha=0.0)
    policy = Policy(PolicySettings(learner, EpsilonGreedy(epsilon=0.0)))
    learn([policy], Batch(part))
    exported = Exported(
        "opportune.model.v1",
        learner,
        "1.4000",
        4_000,
        base64.b64encode(policy.save()).decode(),
    )
    path = tmp_path / "model.json"
    path.write_bytes(msgspec.json.encode(exported))
    return part, str(path)


@pytest.mark.parametrize("weak", [False, True])
def test_an_exported_model_wins_nothing_on_what_it_has_learned(
    by_heart: tuple[Feedback, str], weak: bool
) -> None:
    part, path = by_heart

    result = compare(
        part,
        ["uniform", f"new={path}"],
        promote="new",
        gate_settings=GateSettings(weak=weak),
    )

    assert of(result, "new").low > 0.0
    assert result.evaluation.policies[1].trained_on_log
    assert result.evaluation.of("new").verdict == "weak"
    assert (result.winner, of(result, "new").lead) == (None, "open")
    assert result.gate is not None
    assert result.gate.verdict == "cannot tell"


def test_an_exported_model_is_judged_by_what_was_set_aside_for_it(
    by_heart: tuple[Feedback, str],
) -> None:
    part, path = by_heart

    result = compare(part, ["uniform", f"new={path}"], train_until=0.2)

    assert not result.evaluation.policies[1].trained_on_log


def test_a_comparison_is_json(log: Feedback) -> None:
    result = compare(log, ["uniform", "fixed:tea"], promote="fixed:tea")

    told = json.loads(msgspec.json.encode(result))

    assert told["format"] == "opportune.comparison.v1"
    assert told["evaluation"]["format"] == "opportune.evaluation.v2"
    assert told["gate"]["verdict"] == "deploy"


@pytest.mark.parametrize(
    ("policies", "asked", "told"),
    [
        (["uniform"], {}, "at least two policies"),
        (["uniform", "logged"], {"over": "best"}, "none of the policies compared"),
        (["uniform", "logged"], {"promote": "best"}, "none of the policies compared"),
        (["uniform", "logged"], {"promote": "uniform"}, "cannot take its own place"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    log: Feedback, policies: list[str], asked: dict[str, Any], told: str
) -> None:
    with pytest.raises(QuestionError, match=told):
        compare(log, policies, **asked)
