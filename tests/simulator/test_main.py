"""The command line: what it prints, what it writes, and how it ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from simulator.__main__ import app
from tests.simulator.worlds import World

VALUE_KEYS = {
    "policy",
    "estimator",
    "value",
    "low",
    "high",
    "confidence",
    "standard_error",
    "n",
    "ess",
    "events",
    "weight_max",
    "untried",
    "reliable",
    "doubts",
}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> World:
    world = World(tmp_path_factory.mktemp("log") / "opportune.db")
    world.live(200, every=100)
    return world


@pytest.fixture
def world(template: World, tmp_path: Path) -> World:
    return template.copied(tmp_path / "opportune.db")


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_a_replay_without_a_difference_ends_well(world: World, tmp_path: Path) -> None:
    result = run("replay", world.path, "--json", tmp_path / "replay.json")

    assert result.exit_code == 0, result.output
    assert "│ identical  │       200 │" in result.output
    assert "2 models, 1 policy, 1 catalogue; " in result.output
    assert {
        "format": "opportune.replay.v1",
        "log": str(world.path),
        "decisions": 200,
        "identical": 200,
        "close": 0,
        "differing": 0,
        "reasons": {},
        "first": [],
        "models": 2,
        "policies": 1,
        "catalogues": 1,
    } == read(tmp_path / "replay.json")


def test_a_replay_with_a_difference_shows_it_and_ends_with_1(
    world: World, tmp_path: Path
) -> None:
    world.tamper(200, lambda record: record.update(valid_until_ms=1))

    result = run("replay", world.path, "--json", tmp_path / "replay.json")

    assert result.exit_code == 1
    assert "differ: another end of validity" in result.output
    assert "valid_until_ms: logged 1, again 1795" in result.output
    (different,) = read(tmp_path / "replay.json")["first"]
    assert {"position", "decision_id", "reason", "detail", "fields"} == set(different)
    (field,) = different["fields"]
    assert {"field", "logged", "again"} == set(field)


def test_of_many_differences_the_first_are_shown(world: World) -> None:
    world.rows("update catalogue set text = text || '# Nothing.'")

    result = run("replay", world.path)

    assert result.exit_code == 1
    assert result.output.count("\ndecision ") == 5
    assert "and 195 more that differ" in result.output


def test_an_evaluation_is_a_table_and_a_file(world: World, tmp_path: Path) -> None:
    result = run("evaluate", world.path, "--json", tmp_path / "values.json")

    assert result.exit_code == 0, result.output
    for name in ("logged", "uniform", "latest †", "greedy †", "95 % interval"):
        assert name in result.output
    told = read(tmp_path / "values.json")
    assert {
        *("format", "log", "decisions", "rewarded", "users", "model"),
        *("values", "about", "trained_on_log", "notes"),
    } == set(told)
    assert told["format"] == "opportune.evaluation.v1"
    assert [set(value) for value in told["values"]] == [VALUE_KEYS] * 10


def test_a_policys_name_is_printed_as_it_is(world: World, tmp_path: Path) -> None:
    path = tmp_path / "[red].toml"
    path.write_text("[policy]\n", encoding="utf-8")

    result = run("evaluate", world.path, "--policy", path)

    assert result.exit_code == 0, result.output
    assert f"{path} †: [policy] of {path}" in "".join(result.output.split("\n"))


def test_what_is_not_reliable_is_said_in_words(world: World) -> None:
    result = run("evaluate", world.path, "-p", "fixed:no_offer", "-p", "fixed:tea")

    assert result.exit_code == 0, result.output
    words = " ".join(result.output.split())
    assert "Not reliable: fixed:no_offer" in words
    assert "decisions earned anything, and 10 are needed" in words


@pytest.mark.parametrize("command", ["replay", "evaluate"])
def test_a_log_that_is_not_there_is_named(command: str, tmp_path: Path) -> None:
    result = run(command, tmp_path / "nowhere.db")

    assert result.exit_code == 2
    assert f"{tmp_path / 'nowhere.db'}: there is no such file" in result.stderr


def test_a_policy_that_there_is_not_is_named(world: World) -> None:
    result = run("evaluate", world.path, "--policy", "best")

    assert result.exit_code == 2
    assert "no policy and no settings file 'best'" in result.stderr


def test_a_result_that_cannot_be_written_is_said(world: World, tmp_path: Path) -> None:
    result = run("replay", world.path, "--json", tmp_path / "no" / "replay.json")

    assert result.exit_code == 2
    assert "cannot be written" in result.stderr


@pytest.mark.parametrize("command", ["replay", "evaluate"])
def test_help_teaches_by_examples(command: str) -> None:
    result = run(command, "--help")

    assert result.exit_code == 0
    assert f"\n    opportune-simulator {command} opportune.db\n" in result.output
