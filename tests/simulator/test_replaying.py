"""Replay: what a server decided comes out again, and what was changed does not.

Logs are made by the server's stores and learner, around the engine that its service
calls; only the clock is the test's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from policies.learners.vw_explorers import VwCover
from policies.policy import (
    EpsilonGreedy,
    LinUCBSettings,
    PolicySettings,
    Softmax,
    SquareCB,
    Thompson,
    TrafficSettings,
    VowpalWabbitExploration,
    VowpalWabbitSettings,
)
from server.stores.opening import open_serving
from simulator import Log, Replay, replay
from tests.simulator import worlds
from tests.simulator.worlds import World

SETTINGS = {
    "vw": PolicySettings(VowpalWabbitSettings(bits=12), EpsilonGreedy(epsilon=0.3)),
    "linucb": PolicySettings(LinUCBSettings(dim=8), EpsilonGreedy(epsilon=0.3)),
    "squarecb": PolicySettings(LinUCBSettings(dim=8), SquareCB()),
    "softmax": PolicySettings(VowpalWabbitSettings(bits=12), Softmax(temperature=0.1)),
    "thompson": PolicySettings(
        LinUCBSettings(dim=8),
        Thompson(),
        traffic=TrafficSettings(new_outcomes=8, new_least=0.05, new_most=0.3),
    ),
}
EXPLORER = PolicySettings(
    VowpalWabbitSettings(bits=12, cb_type="dr", explorer=VwCover(policies=2)),
    VowpalWabbitExploration(),
)


def replayed(world: World, **arguments: Any) -> Replay:
    with Log(world.path) as log:
        return replay(log, **arguments)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Sixty decisions by three models."""
    world = World(tmp_path_factory.mktemp("log") / "opportune.db", SETTINGS["linucb"])
    world.live(60, every=20)
    return world


@pytest.fixture
def world(template: World, tmp_path: Path) -> World:
    """The same, for one test to spoil."""
    return template.copied(tmp_path / "opportune.db")


@pytest.mark.parametrize(
    "settings", [*SETTINGS.values(), EXPLORER], ids=[*SETTINGS, "vw_explorer"]
)
def test_what_was_decided_while_learning_comes_out_again(
    tmp_path: Path, settings: PolicySettings
) -> None:
    world = World(tmp_path / "opportune.db", settings)
    world.live(240, every=40)

    result = replayed(world)

    assert (result.decisions, result.identical, result.differing) == (240, 240, 0)
    assert (result.models, result.policies, result.catalogues) == (6, 1, 1)
    assert result.reasons == {}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_rejections_corrections_and_changes_of_everything_come_out_again(
    tmp_path: Path, settings: PolicySettings
) -> None:
    world = World(tmp_path / "opportune.db", settings)
    regulars = [f"regular-{number}" for number in range(15)]
    world.live(40, every=20)
    world.offer(worlds.CAPPED)
    for _ in range(6):
        world.now_ms += 60_000
        world.visit(regulars, ("home", "till"))
        world.learn()
        world.follow()
    # Whoever had not answered in time answers late: corrections.
    late = world.visit(regulars, ("home", "till"), answer=lambda _: ["shown"])
    world.now_ms += world.rewards.wait
    world.learn()
    world.answer_late(late)
    world.learn()
    world.follow()
    world.visit(regulars, ("home", "till"))
    other = SETTINGS["vw" if settings is not SETTINGS["vw"] else "linucb"]
    world.learn(other)
    world.decide_by(other)
    world.visit(regulars)
    world.decide_by(worlds.with_exploration(settings, 0.9))
    world.visit(regulars, ("till",))

    result = replayed(world)

    n = len(world.decisions)
    assert (n, n, 0) == (result.decisions, result.identical, result.differing)
    assert (result.policies, result.catalogues) == (3, 2)
    eligible = {len(decision.actions) for decision in world.decisions}
    assert {1, 3, 5, 6} <= eligible, "gates rejected offers in several ways"
    assert world.rows("select 1 from resolutions_v1 where revision > 1")


def test_workers_that_lag_behind_come_out_again(tmp_path: Path) -> None:
    world = World(tmp_path / "opportune.db", SETTINGS["vw"])
    old = world.policy
    for number in range(6):
        world.visit([f"early-{number}-{i}" for i in range(5)])
        world.learn()
        world.follow()
        new, world.policy = world.policy, old
        world.visit([f"lagging-{number}-{i}" for i in range(5)])
        old, world.policy = new, new

    result = replayed(world)

    assert (result.decisions, result.identical) == (60, 60)
    assert result.models == 6


def test_a_stream_that_began_anew_comes_out_again(world: World) -> None:
    worlds.restart_stream(world)
    world.learn()
    world.follow()
    world.visit(["ada", "bob", "cyd"])
    world.learn()
    world.follow()
    world.visit(["dan", "eve"])

    result = replayed(world)

    assert world.policy.model[:2] == "2."
    assert (result.decisions, result.identical, result.models) == (65, 65, 5)


def test_a_log_is_replayed_while_the_server_has_it_open(world: World) -> None:
    store = open_serving(f"sqlite:///{world.path}")

    with Log(world.path) as log:
        world.visit(["late"])
        result = replay(log)

    assert Path(f"{world.path}-wal").stat().st_size > 0
    assert (result.decisions, result.identical) == (60, 60)
    asyncio.run(store.close())


def test_an_empty_log_has_nothing_that_differs(tmp_path: Path) -> None:
    result = replayed(World(tmp_path / "opportune.db"))

    assert (result.decisions, result.identical, result.differing) == (0, 0, 0)


def swap_probabilities(record: dict[str, Any]) -> None:
    first, second, *others = record["probabilities"]
    record["probabilities"] = [first - 1, second + 1, *others]


def choose_another(record: dict[str, Any]) -> None:
    ((first, count),) = record["actions"]
    record["chosen"] = first if record["chosen"] != first else first + count - 1


def move_the_user(record: dict[str, Any]) -> None:
    record["opportunity"]["context"]["features"]["seats"] = 1e6


def forget_an_action(record: dict[str, Any]) -> None:
    record["actions"] = [[0, 2]]
    record["probabilities"] = [500_000_000, 500_000_000]
    record["chosen"] = 0


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (swap_probabilities, "probabilities"),
        (choose_another, "chosen"),
        (forget_an_action, "actions"),
        (lambda r: r.update(valid_until_ms=1), "valid_until_ms"),
        (lambda r: r.update(model="1.61"), "missing"),
        (lambda r: r.update(model="7.1"), "missing"),
        (lambda r: r.update(model="new"), "unreadable"),
        (lambda r: r.update(policy="elsewhere"), "missing"),
        (lambda r: r.update(catalogue="elsewhere"), "missing"),
        (lambda r: r.update(chosen="tea"), "unreadable"),
        (lambda r: r.update(surprise=1), "unreadable"),
        (lambda r: r["opportunity"].update(decision_id="me"), "unreadable"),
        (
            lambda r: r["opportunity"]["context"].update(
                usage={"gb": {"value": 1.0, "limit": 0.0}}
            ),
            "failed",
        ),
    ],
)
def test_a_record_that_was_changed_is_told(
    world: World, change: Callable[[dict[str, Any]], object], reason: str
) -> None:
    # The last decision: nothing was learned from it before another was made.
    world.tamper(60, change)

    result = replayed(world)

    assert (60, 59, {reason: 1}) == (result.decisions, result.identical, result.reasons)
    (different,) = result.first
    assert (60, reason) == (different.position, different.reason)
    assert different.detail or reason == different.fields[0].field


def test_what_differs_is_told_field_by_field(world: World) -> None:
    logged = world.decisions[-1].probabilities
    world.tamper(60, swap_probabilities)

    (different,) = replayed(world).first

    (field,) = different.fields
    assert field.field == "probabilities"
    assert (logged[0] - 1, logged[1] + 1, *logged[2:]) == field.logged
    assert logged == field.again


def test_what_was_known_of_the_user_cannot_be_changed(world: World) -> None:
    for position in range(41, 61):
        world.tamper(position, move_the_user)

    result = replayed(world)

    assert 0 < result.reasons["probabilities"] <= 20
    assert result.identical >= 40


def test_what_was_learned_from_cannot_be_changed(world: World) -> None:
    world.rows("update resolution set reward = 100 - reward where position <= 20")

    result = replayed(world)

    assert result.differing > 0
    assert result.identical >= 20, "those that were decided before anything was learned"


def test_a_training_stream_with_a_gap_is_told(world: World) -> None:
    world.rows("delete from resolution where position = 30")

    result = replayed(world)

    assert result.reasons == {"missing": 20}
    assert "row 30 of training stream 1" in result.first[0].detail


def test_a_decision_that_is_gone_takes_with_it_what_was_learned_from_it(
    world: World,
) -> None:
    ((gone,),) = world.rows("select decision_id from resolution where position = 1")
    world.rows("delete from decision where decision_id = ?", gone)

    result = replayed(world)

    assert (result.decisions, result.identical) == (59, 19)
    assert result.reasons == {"missing": 40}
    assert gone in result.first[0].detail


def test_a_catalogue_that_was_changed_is_told(world: World) -> None:
    world.rows("update catalogue set text = text || '# Nothing.'")

    assert replayed(world).reasons == {"catalogue": 60}


def test_a_record_that_is_no_json_is_told(world: World) -> None:
    world.overwrite(30, "{")

    result = replayed(world)

    assert result.reasons["unreadable"] == 1
    assert result.identical + result.reasons.get("missing", 0) >= 40


def test_rounding_is_forgiven_where_it_is_asked_for(world: World) -> None:
    world.tamper(60, swap_probabilities)

    result = replayed(world, tolerance=1e-9)

    assert (result.identical, result.close, result.differing) == (59, 1, 0)


def test_a_floor_that_is_not_what_was_promised_is_told(world: World) -> None:
    world.tamper(60, lambda record: record.update(floor=record["floor"] + 1))

    strict, lenient = replayed(world), replayed(world, tolerance=1e-9)

    assert (strict.identical, strict.reasons) == (59, {"floor": 1})
    assert (lenient.identical, lenient.close, lenient.differing) == (59, 1, 0)


def test_a_log_from_before_there_were_floors_comes_out_again(world: World) -> None:
    world.tamper(60, lambda record: record.pop("floor"))

    assert replayed(world).identical == 60


def test_progress_is_told_and_ends_at_all(tmp_path: Path) -> None:
    world = World(tmp_path / "opportune.db")
    world.visit([f"user-{number}" for number in range(1_000)])
    told: list[tuple[str, int, int]] = []

    replayed(world, watcher=lambda *news: told.append(news))

    assert told[-1] == ("deciding", 1_000, 1_000)
    assert {"reading", "deciding"} == {doing for doing, _, _ in told}
