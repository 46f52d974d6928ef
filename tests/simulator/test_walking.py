"""Policies that go on learning, walked through a log."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner

from policies.policy import Policy, PolicySettings
from simulator import Feedback, Parts, open_log, walk
from simulator.__main__ import app
from simulator.feedback import Contexts
from simulator.judging import QuestionError
from simulator.logs import LogError, write_log
from simulator.targets import TargetError
from tests.simulator import logged
from tests.simulator.logged import TASTES, VOCABULARY

SETTINGS = """\
[policy.learner]
kind = "linucb"
dim = 16
alpha = 0.5
[policy.exploration]
kind = "epsilon_greedy"
epsilon = 0.1
"""
UNIFORM = np.full(TASTES.shape, 1.0 / len(VOCABULARY))
ONLINE = 5


@pytest.fixture
def settings(tmp_path: Path) -> str:
    path = tmp_path / "learning.toml"
    path.write_text(SETTINGS, encoding="utf-8")
    return str(path)


def columns(log: Feedback) -> Feedback:
    """Return a log whose contexts are columns of numbers, no two alike."""
    n, names = len(log), [f"x{number}" for number in range(3)]
    segments = np.array([logged.SEGMENTS.index(s) for s in log.segments])
    noise = np.random.default_rng(n).normal(scale=0.1, size=(n, 3))
    values = np.eye(3)[segments] + noise
    offsets, codes = np.arange(n + 1) * 3, np.tile(np.arange(3, dtype=np.int32), n)
    contexts = Contexts(names, offsets, codes, values.ravel())
    return msgspec.structs.replace(log, contexts=contexts)


def online(steps: int) -> float:
    """Return what such a policy earns on average when it is let loose."""
    settings = msgspec.convert(tomllib.loads(SETTINGS)["policy"], PolicySettings)
    means: list[float] = []
    for seed in range(ONLINE):
        rng, policy, earned = np.random.default_rng(seed), Policy(settings), 0.0
        for _ in range(steps):
            segment = int(rng.integers(len(TASTES)))
            name = f"segment={logged.SEGMENTS[segment]}"
            context = (("constant", 1.0), (name, 1.0))
            chances = policy.distribution(context, VOCABULARY)
            at = int(rng.choice(len(VOCABULARY), p=chances))
            reward = float(rng.random() < TASTES[segment, at])
            earned += reward
            policy.learn(
                context, VOCABULARY[at], reward=reward, propensity=float(chances[at])
            )
        means.append(earned / steps)
    return float(np.mean(means))


def test_what_is_told_is_what_runs_of_that_length_earn(settings: str) -> None:
    log = logged.log(1_000, seed=3, logging=UNIFORM)

    result = walk(log, [settings], evaluators=("completed", "rejection", "replay"))

    completed, rejection, replay = result.runs
    assert completed.value is not None
    assert completed.low is not None
    assert completed.high is not None
    truth = online(round(completed.updates))
    assert completed.low < truth < completed.high
    assert abs(completed.value - truth) < 0.05
    assert completed.updates > 1.8 * rejection.updates
    assert completed.verdict == "usable"
    assert (rejection.verdict, replay.verdict) == ("weak", "weak")
    # On a uniform log the two are the same rule.
    assert (rejection.value, rejection.updates) == (replay.value, replay.updates)
    assert result.decisions == rejection.n == 1_000


@pytest.mark.parametrize("evaluator", ["replay", "rejection", "dr_ns", "explore_eval"])
def test_asking_ahead_changes_nothing(
    settings: str, monkeypatch: pytest.MonkeyPatch, evaluator: str
) -> None:
    log = columns(logged.log(600, seed=5))

    ahead = walk(log, [settings], evaluators=[evaluator])
    monkeypatch.setattr(Policy, "ahead", lambda *_: None)
    alone = walk(log, [settings], evaluators=[evaluator])

    one, other = ahead.runs[0], alone.runs[0]
    assert one.updates == other.updates > 30
    assert one.value == pytest.approx(other.value, rel=1e-12)


def test_eligible_actions_may_differ_from_row_to_row(
    settings: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = columns(logged.log(600, seed=5, logging=UNIFORM))
    some = np.arange(200, 400)
    keep = np.ones(len(log.actions), dtype=bool)
    for row in some:
        begin = int(log.offsets[row])
        keep[begin + (int(log.chosen[row]) + 1) % len(VOCABULARY)] = False
    sizes = np.add.reduceat(keep.astype(np.int64), log.offsets[:-1])
    mixed = msgspec.structs.replace(
        log,
        offsets=np.concatenate([[0], np.cumsum(sizes)]),
        actions=log.actions[keep],
        probabilities=np.repeat(1.0 / sizes, sizes),
        propensities=1.0 / sizes,
    )

    ahead = walk(mixed, [settings], evaluators=["replay"])
    monkeypatch.setattr(Policy, "ahead", lambda *_: None)
    alone = walk(mixed, [settings], evaluators=["replay"])

    assert ahead.runs[0].value == pytest.approx(alone.runs[0].value, rel=1e-12)
    assert ahead.runs[0].updates == alone.runs[0].updates


def test_a_log_of_parts_is_the_log_of_the_whole(settings: str) -> None:
    log = logged.log(300, seed=7)

    whole = walk(log, [settings])
    parts = walk(Parts(logged.cut(log, 125)), [settings])

    assert parts.runs == whole.runs


def test_replay_on_a_log_that_is_not_uniform_is_doubted(settings: str) -> None:
    (run,) = walk(logged.log(500), [settings], evaluators=["replay"]).runs
    assert "the log did not choose uniformly" in " ".join(run.doubts)


def test_where_the_log_never_did_the_same_no_number_pretends(settings: str) -> None:
    result = walk(logged.log(40), [settings], evaluators=["rejection"])

    assert result.verdict == "unusable"
    assert result.runs[0].value is None
    assert "30 are the least" in result.runs[0].doubts[-1]


def test_what_cannot_be_asked_is_refused(settings: str) -> None:
    log = logged.log(100)
    with pytest.raises(QuestionError, match="there is no evaluator 'guess'"):
        walk(log, [settings], evaluators=["guess"])
    with pytest.raises(QuestionError, match="rate must be above 0, at most 1"):
        walk(log, [settings], rate=1.5)
    with pytest.raises(QuestionError, match="confidence must be above"):
        walk(log, [settings], confidence=0.2)
    with pytest.raises(TargetError, match="uniform does not go on learning"):
        walk(log, ["uniform"])
    unrewarded = msgspec.structs.replace(log, rewards=np.full(100, np.nan))
    with pytest.raises(LogError, match="no decision has a reward yet"):
        walk(unrewarded, [settings])
    unknown = msgspec.structs.replace(log, probabilities=np.full(400, np.nan))
    with pytest.raises(QuestionError, match="completed needs the probability"):
        walk(unknown, [settings])
    (run,) = walk(unknown, [settings], evaluators=["rejection"]).runs
    assert run.updates > 0


def test_the_command_prints_and_writes_the_same(settings: str, tmp_path: Path) -> None:
    path, out = tmp_path / "log.parquet", tmp_path / "walk.json"
    write_log(Parts([logged.log(300, logging=UNIFORM)]), path)
    arguments = ["walk", str(path), "-p", f"mine={settings}", "--json", str(out)]

    result = CliRunner().invoke(app, [*arguments, "-e", "completed", "-e", "rejection"])

    assert result.exit_code == 3, result.output
    assert "mine" in result.output
    assert "Weak: mine, rejection: its interval does not know" in result.output
    written = json.loads(out.read_text(encoding="utf-8"))
    assert written["format"] == "opportune.walk.v1"
    with open_log(path) as source:
        again = walk(source, [f"mine={settings}"], evaluators=["completed"])
    assert written["runs"][0]["value"] == again.runs[0].value
    assert CliRunner().invoke(app, arguments).exit_code == 0
