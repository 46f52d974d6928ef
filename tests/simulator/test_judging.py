"""Evaluating a log of any kind: parts that add up, cuts of it, quantiles, refusal.

The logs are those of `logged`: the value of every policy is known.
"""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from vowpalwabbit import Workspace

from policies.estimators import ESTIMATORS
from policies.model import FloatArray
from simulator import (
    ClusterError,
    Evaluation,
    Feedback,
    LogError,
    Parts,
    Question,
    QuestionError,
    TargetError,
    Value,
    compare,
    evaluate,
    open_log,
)
from simulator.batches import Batch, BatchError
from simulator.feedback import joined
from simulator.judging import judge
from simulator.logs import write_log
from tests.simulator import logged

STREAMED = (*("ips", "snips", "dr", "sndr", "mrdr"), *("dros@50", "mips", "replay"))
WHOLE = ("cressie_read", "mle", "rejection", "multi_ips", "switch_dr@auto")
SETTINGS = """
[policy.learner]
kind = "linucb"
dim = 16
[policy.exploration]
kind = "epsilon_greedy"
epsilon = 0.1
"""


@pytest.fixture(scope="module")
def log() -> Feedback:
    return logged.log(6_000)


@pytest.fixture
def settings(tmp_path: Path) -> str:
    path = tmp_path / "bolder.toml"
    path.write_text(SETTINGS, encoding="utf-8")
    return str(path)


def numbers(result: Evaluation) -> Iterator[tuple[Any, ...]]:
    """Yield all that is told of each policy, and the numbers of it."""
    for value in result.values:
        told = (value.policy, value.objective, value.by, value.group, value.estimator)
        yield *told, value.verdict, value.n
        for name in ("value", "low", "high", "ess", "weight_max", "untried"):
            yield *told, getattr(value, name)


def assert_alike(one: Evaluation, other: Evaluation) -> None:
    """Say whether all numbers are the same but for rounding."""
    for mine, theirs in zip(numbers(one), numbers(other), strict=True):
        assert mine[:-1] == theirs[:-1]
        if mine[-1] is None or theirs[-1] is None:
            assert mine[-1] is theirs[-1]
        else:
            assert mine[-1] == pytest.approx(theirs[-1], rel=1e-9, abs=1e-9)
    assert one.quantiles == other.quantiles
    assert one.log.users == other.log.users


# --- Parts of a log add up ---------------------------------------------------------


def test_shuffled_and_split_logs_say_the_same(log: Feedback) -> None:
    asked: dict[str, Any] = {
        "policies": ["logged", "uniform", "fixed:jam", "column:best"],
        "estimators": [*STREAMED, *WHOLE],
        "objectives": ["reward", "dismissed"],
        "by": ["segment", "day"],
        "quantiles": [0.8],
    }

    whole = evaluate(log, **asked)
    shuffled = evaluate(Parts(logged.cut(log, 1_000, seed=3)), **asked)

    assert len(whole.values) > 100
    assert_alike(whole, shuffled)


def test_a_cluster_says_the_same_as_one_process(log: Feedback) -> None:
    distributed = pytest.importorskip("distributed")
    asked: dict[str, Any] = {"policies": ["uniform", "fixed:jam"], "by": ["segment"]}
    parts = Parts(logged.cut(log, 1_500))

    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None
    ) as cluster:
        there = evaluate(parts, dask=cluster.scheduler_address, **asked)

    assert there == evaluate(parts, **asked)


def test_an_address_that_is_none_is_told(log: Feedback) -> None:
    with pytest.raises(ClusterError, match=r"is like tcp://10.* not 'nowhere'"):
        evaluate(log, ["uniform"], dask="nowhere")


def test_a_cluster_needs_dask(log: Feedback, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ClusterError, match=r"pip install 'opportune\[dask\]'"):
        evaluate(log, ["uniform"], dask="tcp://127.0.0.1:1")


# --- What is asked ------------------------------------------------------------------


def test_every_estimator_comes_near_the_truth(log: Feedback) -> None:
    lacking = {"balanced_ips"}
    names = [name for name in ESTIMATORS if name not in lacking]

    result = evaluate(log, ["uniform"], estimators=names)

    truth = logged.value(np.full((3, 4), 0.25))
    assert [value.estimator for value in result.values] == names
    for value in result.values:
        assert value.low is not None
        assert value.high is not None
        assert value.low <= truth <= value.high, value


def test_each_segment_and_day_is_judged_by_itself(log: Feedback) -> None:
    result = evaluate(log, ["fixed:tea"], by=["segment", "day"], estimators=["dr"])

    segments = {v.group: v for v in result.values if v.by == "segment"}
    assert set(segments) == set(logged.SEGMENTS)
    for row, segment in enumerate(logged.SEGMENTS):
        value = segments[segment]
        truth = logged.TASTES[row, 1]
        assert (value.low or 0.0) <= truth <= (value.high or 0.0)
    days = [value for value in result.values if value.by == "day"]
    assert [day.group for day in days][:2] == ["2026-11-21", "2026-11-22"]
    assert sum(day.n for day in days) == len(log)


def test_several_objectives_are_judged_at_once(log: Feedback) -> None:
    result = evaluate(log, ["fixed:jam"], objectives=["reward", "dismissed"])

    dismissed = result.of("fixed:jam", "dr", "dismissed")
    kept = 1.0 - logged.TASTES[:, 2].mean()
    assert (dismissed.low or 0.0) <= logged.ANNOYED[2] * kept <= (dismissed.high or 0)
    assert result.of("fixed:jam").objective == "reward"


def test_quantiles_are_those_of_the_rewards_that_there_would_be() -> None:
    # Given rewards that grow with what is offered
    log = logged.log(4_000, users=None)
    part = msgspec.structs.replace(log, rewards=log.chosen * 10.0)

    result = evaluate(part, ["uniform", "fixed:jam"], quantiles=[0.3, 0.6, 0.99])

    told = {(q.policy, q.quantile): (q.value, q.low, q.high) for q in result.quantiles}
    assert told["uniform", 0.3] == (10.0, 10.0, 10.0)
    assert told["uniform", 0.6] == (20.0, 20.0, 20.0)
    assert told["fixed:jam", 0.99] == (20.0, 20.0, 20.0)


def test_intervals_of_quantiles_hold_the_truth() -> None:
    held = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        part = msgspec.structs.replace(logged.log(800, seed), rewards=rng.random(800))
        (median,) = evaluate(
            part, ["uniform"], estimators=["snips"], quantiles=[0.5]
        ).quantiles
        held += (median.low or 0.0) <= 0.5 <= (median.high or 0.0)
    assert held >= 36


def test_a_row_that_stands_for_several_counts_as_often(log: Feedback) -> None:
    # Given a log of which every second decision was dropped where nothing was earned
    place = np.arange(len(log)) % 2 == 0
    kept = log.take((log.rewards > 0) | place)
    part = msgspec.structs.replace(kept, counts=np.where(kept.rewards > 0, 1.0, 2.0))

    result = evaluate(part, ["logged", "uniform"])

    truth = logged.value(np.full((3, 4), 0.25))
    value = result.of("uniform", "ips")
    assert (value.low or 0.0) <= truth <= (value.high or 0.0)
    assert result.of("logged").value == pytest.approx(log.rewards.mean(), abs=0.01)


def test_a_policy_can_be_a_column_of_the_log(log: Feedback) -> None:
    result = evaluate(log, ["best=column:best"], estimators=["ips", "snips"])

    value = result.of("best")
    truth = logged.value(logged.BEST)
    assert (value.low or 0.0) <= truth <= (value.high or 0.0)
    assert "column target:best" in result.policies[0].about


def test_an_evaluation_is_json_that_says_all_a_report_needs(log: Feedback) -> None:
    result = evaluate(log, ["uniform"], by=["segment"])

    told = json.loads(msgspec.json.encode(result))

    assert told["format"] == "opportune.evaluation.v2"
    (policy,) = told["policies"]
    found = policy["diagnostics"]
    assert len(found["weight_bins"]) == len(found["weight_counts"])
    assert sum(found["weight_counts"]) == len(log)
    assert set(found["segments"]) == set(logged.SEGMENTS)
    assert sum(day["n"] for day in found["days"].values()) == len(log)
    assert sum(found["propensities"]["counts"]) == 4 * len(log)
    assert found["figures"]["ess_share"] == pytest.approx(0.45, abs=0.15)
    assert policy["actions"] == pytest.approx(
        {action.name: 0.25 for action in logged.VOCABULARY}
    )
    assert told["log"]["chosen"].keys() == policy["actions"].keys()


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"estimators": ["best"]}, "no estimator 'best'; there are ips"),
        ({"estimators": ["dr@2"]}, "has no parameter"),
        ({"estimators": ["ips@auto"]}, "nothing to choose"),
        ({"by": ["moon"]}, "no by 'moon': segment, day, week, logger"),
        ({"interval": "sure"}, "no interval 'sure': default"),
        ({"interval": "sequence"}, "in their order.*: always_valid holds"),
        ({"confidence": 1.0}, "confidence must be above 0, below 1, not 1.0"),
        ({"quantiles": [0.0]}, "a quantile must be above 0, below 1, not 0.0"),
        ({"folds": 1}, "folds must be 0 or 2 to 20, not 1"),
        ({"train_until": "soon"}, "a date such as 2026-11-01"),
        ({"train_until": 1.5}, "must be above 0, below 1, not 1.5"),
        ({"objectives": []}, "at least one estimator and one objective"),
    ],
)
def test_what_cannot_be_asked_is_refused(
    log: Feedback, asked: dict[str, Any], told: str
) -> None:
    with pytest.raises(QuestionError, match=told):
        evaluate(log, ["uniform"], **asked)


@pytest.mark.parametrize(
    ("policy", "told"),
    [
        ("latest", "latest is a policy of a server's own log"),
        ("model:1.5", "is a policy of a server's own log"),
        ("column:worst", "no column target:worst; of such columns there are: best"),
        ("vw:nowhere.vw", "no such model of Vowpal Wabbit"),
    ],
)
def test_a_policy_that_a_log_does_not_have_is_refused(
    log: Feedback, policy: str, told: str
) -> None:
    with pytest.raises(TargetError, match=told):
        evaluate(log, [policy])


def test_a_split_of_a_log_without_splits_is_refused(log: Feedback) -> None:
    assert not log.splits

    with pytest.raises(LogError, match="the split eval cannot be told apart"):
        evaluate(log, ["uniform"], split="eval")


def test_an_estimator_that_a_column_is_not_enough_for_is_told(log: Feedback) -> None:
    names = ["best=column:best", "uniform", "logged"]

    told = evaluate(log, names, estimators=["dr", "dm", "ips"]).notes
    alone = evaluate(log, ["column:best"], estimators=["dr"])

    said = [note for note in told if "needs" in note or "need " in note]
    wanted = (
        "dr, dm need the probability of every eligible action, and a column has only"
        " that of the chosen one: best is judged by ips"
    )
    assert said == [wanted]
    assert alone.notes[-1].endswith(
        "that of the chosen one: column:best is judged by snips"
    )
    assert {value.estimator for value in alone.values} == {"snips"}
    assert not evaluate(log, ["column:best"], estimators=["snips"]).notes


def test_a_policy_of_ones_own_is_judged_as_what_it_does(log: Feedback) -> None:
    # Given a function that chooses as another policy does
    def jam(part: Feedback) -> FloatArray:
        offers = [part.vocabulary[place].offer_id for place in part.actions]
        return np.array([float(offer == "jam") for offer in offers])

    # When both are asked about
    result = evaluate(log, {"mine": jam, "other": "fixed:jam"})
    compared = compare(log, {"mine": jam, "as it was": "logged"})

    # Then they are judged alike
    for name in ("ips", "snips", "dr"):
        mine, other = result.of("mine", name), result.of("other", name)
        assert msgspec.structs.replace(mine, policy="other") == other
    assert result.policies[0].about == "as the function jam says"
    assert compared.over == "mine"


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (lambda part: np.full(len(part.actions), 0.3), "row 1 they sum to 1.2"),
        (lambda part: np.full(len(part.actions), 1.3), r"in \[0, 1\]: row 1 has 1.3"),
        (lambda part: np.full(len(part.actions), np.nan), "row 1 has nan"),
        (lambda part: np.ones(len(part)), "one probability for each of the"),
        (lambda _: "tea", "policy mine: could not convert"),
        (7, "a name or a function of a part of a log, not int"),
    ],
)
def test_a_policy_of_ones_own_that_says_no_probabilities_is_refused(
    log: Feedback, said: Any, told: str
) -> None:
    with pytest.raises(TargetError, match=told):
        evaluate(log, {"mine": said})


def test_two_policies_of_one_name_are_refused(log: Feedback) -> None:
    with pytest.raises(TargetError, match="two policies are called 'a'"):
        evaluate(log, ["a=uniform", "a=logged"])


def test_an_objective_that_there_is_not_is_refused(log: Feedback) -> None:
    with pytest.raises(BatchError, match="'joy'; it has reward, accepted, dismissed"):
        evaluate(log, ["uniform"], objectives=["joy"])


# --- Policies that learn from the log ------------------------------------------------


def test_what_is_learned_is_judged_by_others(log: Feedback, settings: str) -> None:
    # Given rewards that are chance alone, so that nothing can be learned
    rng = np.random.default_rng(0)
    contexts = [((f"user={row}", 1.0),) for row in range(1_500)]
    part = msgspec.structs.replace(
        logged.log(1_500),
        contexts=contexts,
        rewards=(rng.random(1_500) < 0.5).astype(float),
    )

    fair = evaluate(part, [settings], estimators=["snips"], folds=3)
    unfair = evaluate(part, [settings], estimators=["snips"], folds=0)

    # Then only who is judged by what was learned from the same users seems better
    assert fair.policies[0].cross_fitted
    assert unfair.policies[0].trained_on_log
    assert (fair.of(settings).low or 0.0) < 0.5 < (fair.of(settings).high or 1.0)
    assert (unfair.of(settings).value or 0.0) > (fair.of(settings).value or 1.0)


@pytest.mark.parametrize("until", ["2026-11-24T10:00", 0.7])
def test_a_policy_can_learn_the_first_part_and_be_judged_by_the_rest(
    log: Feedback, settings: str, until: str | float
) -> None:
    result = evaluate(log, [settings, "uniform"], train_until=until)

    assert 0.25 * len(log) < result.log.rewarded < 0.5 * len(log)
    subject = result.policies[0]
    assert not subject.trained_on_log
    assert not subject.cross_fitted
    assert "decided before 2026-11-2" in subject.about
    assert (result.of(settings).low or 0.0) > (result.of("uniform").high or 1.0)


def test_policies_that_share_a_learner_are_as_each_alone(
    log: Feedback, settings: str, tmp_path: Path
) -> None:
    other = tmp_path / "other.toml"
    other.write_text(SETTINGS.replace("0.1", "0.5"), encoding="utf-8")
    part = log.take(np.arange(1_500))

    both = evaluate(part, [f"a={settings}", f"b={other}"], folds=2)
    alone = evaluate(part, [f"b={other}"], folds=2)

    assert both.of("b") == alone.of("b")
    assert both.of("a").value != both.of("b").value


def test_policies_can_be_sent_to_another_process(
    log: Feedback, settings: str, tmp_path: Path
) -> None:
    path = tmp_path / "model.vw"
    Workspace(f"--cb_explore_adf --quiet -f {path}").finish()
    part = log.take(np.arange(300))
    names = ["logged", "uniform", "fixed:jam", "column:best", settings, f"vw:{path}"]
    judged = judge(part, names, Question(folds=2))

    for target in judged.targets:
        sent = pickle.loads(pickle.dumps(target))  # noqa: S301 - our own
        there, here = sent.answer(Batch(part)), target.answer(Batch(part))
        np.testing.assert_array_equal(there.taken, here.taken)
        assert (sent.name, sent.about) == (target.name, target.about)


def test_a_model_of_vowpal_wabbit_decides_as_its_command_line(tmp_path: Path) -> None:
    # Given a model that has learned who likes what, from JSON
    path = tmp_path / "model.vw"
    learner = Workspace(f"--cb_explore_adf -q :: --epsilon 0.1 --quiet -f {path}")
    for _ in range(20):
        for plan, best in (("free", 0), ("team pro", 1)):
            for at in range(2):
                lines = [f"shared |User plan{plan.replace(' ', '_')} age:2.5"]
                for place, item in enumerate("ab"):
                    label = f"0:{0 if at == best else 1}:0.5 " if place == at else ""
                    lines.append(f"{label}|Item id{item}")
                learner.learn(lines)
    learner.finish()
    actions = [
        msgspec.structs.replace(action, features=((f"Item^id={item}", 1.0),))
        for action, item in zip(logged.VOCABULARY[1:3], "ab", strict=True)
    ]
    plans = ["free", "team pro"] * 100
    part = msgspec.structs.replace(
        logged.log(200),
        vocabulary=actions,
        contexts=[((f"User^plan={plan}", 1.0), ("User^age", 2.5)) for plan in plans],
        offsets=np.arange(201) * 2,
        actions=np.tile(np.array([0, 1], np.int32), 200),
        probabilities=np.full(400, 0.5),
        propensities=np.full(200, 0.5),
        chosen=np.tile(np.array([0, 1, 1, 0], np.int32), 50),
        rewards=np.tile([1.0, 1.0, 0.0, 0.0], 50),
    )

    result = evaluate(part, [f"v=vw:{path}"], by=["segment"], estimators=["ips"])

    # Then it makes the right choice in 95 of 100
    assert result.of("v", "ips").value == pytest.approx(0.95, abs=1e-6)
    # And nobody knows what it has learned from
    assert result.policies[0].trained_on_log
    assert result.verdict == "weak"
    for wrong, told in ((path, "must be supplied"), (tmp_path, "no such model")):
        with pytest.raises(TargetError, match=told):
            evaluate(part, [f"vw:{wrong} --cats 4"])


def test_a_model_that_predicts_something_else_is_refused(
    log: Feedback, tmp_path: Path
) -> None:
    path = tmp_path / "model.vw"
    Workspace(f"--quiet -f {path}").finish()

    with pytest.raises(TargetError, match="must be a model of --cb_explore_adf"):
        evaluate(log, [f"vw:{path}"])


def test_a_day_is_judged_alike_however_the_log_was_cut() -> None:
    # Given a log whose second logger tries less than the first one
    shy = logged.shares({"free": "tea", "team": "tea", "old": "bun"}, 0.1)
    first, second = logged.log(2_000, seed=1), logged.log(2_000, seed=2, logging=shy)
    later = second.times_ms + 2_000 * 60_000
    log = joined([first, msgspec.structs.replace(second, times_ms=later)])

    whole, parts = (
        evaluate(each, ["uniform"], by=["day"], estimators=["snips"])
        for each in (log, Parts(logged.cut(log, 500)))
    )

    assert_alike(whole, parts)
    assert {value.weight_max for value in whole.values} == {10.0}


# --- Where a log cannot tell ------------------------------------------------------


def verdict(value: Value) -> tuple[str, float | None, float | None]:
    return value.verdict, value.value, value.low


def test_one_absurd_propensity_does_not_pass() -> None:
    log = logged.log(2_000)
    propensities = log.propensities.copy()
    row = int(np.argmax((log.chosen == 2) & (log.rewards > 0)))
    propensities[row] = 1e-9
    probabilities = log.probabilities.copy()
    probabilities[log.offsets[row] + 2] = 1e-9
    probabilities[log.offsets[row]] += (
        1.0 - probabilities[log.offsets[row] : log.offsets[row + 1]].sum()
    )
    part = msgspec.structs.replace(
        log, propensities=propensities, probabilities=probabilities
    )

    for value in evaluate(part, ["uniform"]).values:
        assert verdict(value) == ("unusable", None, None)
        assert value.doubts


def test_propensities_that_do_not_come_true_are_refused() -> None:
    # Given a log that says that tea and jam were offered as often as the other was
    log = logged.log(4_000)
    swapped = log.probabilities.reshape(-1, 4)[:, [0, 2, 1, 3]]
    part = msgspec.structs.replace(
        log,
        probabilities=swapped.ravel(),
        propensities=swapped[np.arange(4_000), log.chosen],
    )

    result = evaluate(part, ["fixed:bun"], by=["segment"])

    value = result.of("fixed:bun")
    assert verdict(value) == ("unusable", None, None)
    assert any("propensities are off" in doubt for doubt in value.doubts)
    assert all(each.verdict != "usable" for each in result.values)


def test_too_few_rows_have_no_number_and_say_how_many_would_do() -> None:
    value = evaluate(logged.log(150), ["fixed:jam"]).of("fixed:jam")

    assert verdict(value) == ("unusable", None, None)
    assert value.rows_needed is not None
    assert value.rows_needed > 150
    enough = evaluate(logged.log(3 * value.rows_needed), ["fixed:jam"]).of("fixed:jam")
    assert enough.verdict != "unusable"


def test_rewards_that_are_always_the_same_leave_no_doubt() -> None:
    part = msgspec.structs.replace(logged.log(2_000), rewards=np.ones(2_000))

    value = evaluate(part, ["uniform"]).of("uniform", "snips")

    assert (value.value, value.low, value.high) == pytest.approx((1.0, 1.0, 1.0))


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    truth = logged.value(logged.BEST)
    held = 0
    for seed in range(200):
        value = evaluate(
            logged.log(1_000, seed), ["column:best"], estimators=["snips"]
        ).of("column:best")
        held += (value.low or 0.0) <= truth <= (value.high or 0.0)
    assert held >= 186  # 93 %


def test_users_who_come_back_widen_intervals() -> None:
    def width(part: Feedback) -> float:
        value = evaluate(part, ["uniform"]).of("uniform", "snips")
        return (value.high or 9.0) - (value.low or 0.0)

    part = logged.log(4_000, users=100)
    alone = msgspec.structs.replace(part, keys=part.positions.astype(np.uint64))
    assert width(part) > 1.3 * width(alone)


def test_several_loggers_are_weighed_each_by_its_own_propensities() -> None:
    # Given a log of two policies of which one hardly ever offers jam
    shy = logged.shares({"free": "tea", "team": "tea", "old": "tea"}, 0.05)
    one, two = logged.log(3_000, 1, logging=shy), logged.log(3_000, 2)
    two = msgspec.structs.replace(
        two,
        loggers=np.ones(3_000, np.int32),
        policies=["first", "second"],
        positions=two.positions + 3_000,
    )

    result = evaluate(Parts([one, two]), ["fixed:jam"], estimators=["ips", "multi_ips"])

    truth = logged.TASTES[:, 2].mean()
    for value in result.values:
        assert (value.low or 0.0) <= truth <= (value.high or 0.0)
    assert result.log.loggers == {"first": 3_000, "second": 3_000}
    assert any("2 policies made the log" in note for note in result.notes)
    error = {v.estimator: v.standard_error or 0.0 for v in result.values}
    assert error["multi_ips"] < error["ips"]


def test_importing_the_simulator_loads_nothing_yet() -> None:
    code = "import simulator, sys; print('numpy' in sys.modules)"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "False"
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        getattr(sys.modules["simulator"], "nothing")  # noqa: B009


def test_what_showing_an_offer_costs_tells_nothing_of_what_it_earns() -> None:
    # Given offers that cost attention, of which three were accepted
    part = logged.log(3_000)
    accepted = np.zeros(3_000)
    accepted[[200, 900, 1_700]] = 1.0
    shown = (part.chosen > 0).astype(float)
    part = msgspec.structs.replace(
        part,
        rewards=accepted - 0.01 * shown,
        objectives={"shown": shown, "accepted": accepted, "dismissed": 0 * shown},
    )

    result = evaluate(part, ["logged", "uniform"])

    assert result.verdict == "unusable"
    assert result.of("uniform").value is None
    for value in result.values:
        told = "3 decisions earned anything, and 10 are needed"
        assert told in value.doubts or value.policy == "uniform"


@pytest.mark.parametrize(("bad", "verdict"), [(30, "usable"), (300, "weak")])
def test_what_cannot_be_read_is_told(tmp_path: Path, bad: int, verdict: str) -> None:
    # Given a log of which some lines are broken
    path = tmp_path / "log.dsjson"
    write_log(Parts([logged.log(2_000)]), path)
    path.write_bytes(b'{"no":\n' * bad + path.read_bytes())

    with open_log(path, skip_bad=True) as source:
        result = evaluate(source, ["logged", "uniform"])

    assert f"{bad} rows were left out: bad" in result.notes
    assert result.verdict == verdict
    told = [doubt for value in result.values for doubt in value.doubts]
    assert any("of the log cannot be read" in doubt for doubt in told) == (bad > 100)


@pytest.mark.parametrize("at_once", [True, False])
def test_a_log_that_knows_good_news_first_is_weak(at_once: bool) -> None:
    # Given a log whose last third still waits, for all or for what nothing came of
    part = logged.log(3_000)
    late = np.arange(3_000) >= 2_000
    offers = part.chosen > 0
    accepted = part.objectives["accepted"]
    waits = late & ((accepted == 0.0) if at_once else np.ones(3_000, dtype=bool))
    part = msgspec.structs.replace(
        part,
        rewards=np.where(waits, np.nan, part.rewards),
        objectives={"shown": offers * 1.0, "accepted": accepted},
    )

    whole = evaluate(part, ["logged", "uniform"])
    cut = evaluate(Parts(logged.cut(part, 700)), ["logged", "uniform"])

    said = [doubt for value in whole.values for doubt in value.doubts]
    assert whole.verdict == cut.verdict == ("weak" if at_once else "usable")
    assert any("have no reward yet" in doubt for doubt in said) == at_once


def test_a_quantile_is_told_where_its_objective_is() -> None:
    # Given an outcome that came three times
    part = logged.log(3_000)
    refunded = np.zeros(3_000)
    refunded[[200, 900, 1_700]] = 1.0
    objectives = {**part.objectives, "refunded": refunded}
    part = msgspec.structs.replace(part, objectives=objectives)

    result = evaluate(
        part, ["uniform"], objectives=["reward", "refunded"], quantiles=[0.99]
    )

    told = {each.objective: (each.verdict, each.value) for each in result.quantiles}
    assert told == {"reward": ("usable", 1.0), "refunded": ("unusable", None)}
