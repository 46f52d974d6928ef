"""The command line: what it prints, what it writes, and how it ends."""

from __future__ import annotations

import errno
import io
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner, Result

from simulator import Parts
from simulator import __main__ as command
from simulator.__main__ import app, main
from simulator.logs import write_log
from simulator.played import print_sweep
from simulator.sweeping import Mean, Sweep, Variant
from tests.simulator import logged
from tests.simulator.worlds import World

VALUE_KEYS = {
    *("policy", "objective", "by", "group", "estimator", "value", "low", "high"),
    *("confidence", "standard_error", "n", "ess", "events", "weight_max", "untried"),
    *("verdict", "rows_needed", "doubts"),
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
    result = run(
        *("evaluate", world.path, "-p", "logged", "-p", "uniform", "--by", "segment"),
        *(
            "-o",
            "reward",
            "-o",
            "dismissed",
            "--quantile",
            "0.9",
            "--confidence",
            "0.9",
        ),
        *("--json", tmp_path / "values.json"),
    )

    assert result.exit_code == 0, result.output
    for name in ("logged", "uniform", "90 % interval", "By segment", "Quantiles"):
        assert name in result.output
    told = read(tmp_path / "values.json")
    assert {
        *("format", "log", "question", "verdict", "policies", "values", "quantiles"),
        "notes",
    } == set(told)
    assert told["format"] == "opportune.evaluation.v2"
    assert told["verdict"] == "usable"
    assert all(set(value) == VALUE_KEYS for value in told["values"])
    assert {value["group"] for value in told["values"]} == {"", "free", "team", "old"}


def test_without_a_policy_a_servers_log_is_asked_for_four(world: World) -> None:
    result = run("evaluate", world.path, "--estimator", "dr")

    for name in ("logged", "uniform", "latest", "greedy"):
        assert f"\n│ {name} " in result.output


def test_a_policys_name_is_printed_as_it_is(world: World, tmp_path: Path) -> None:
    path = tmp_path / "[red].toml"
    path.write_text("[policy]\n", encoding="utf-8")

    result = run("evaluate", world.path, "--policy", path, "--folds", "0")

    assert f"{path} †: [policy] of {path}" in "".join(result.output.split("\n"))
    assert "† has learned, or may have, from the rewards" in result.output


def test_where_the_log_cannot_tell_it_says_so_and_ends_with_3(world: World) -> None:
    result = run("evaluate", world.path, "-p", "fixed:no_offer", "-p", "fixed:tea")

    assert result.exit_code == 3, result.output
    words = " ".join(result.output.split())
    assert "Unusable: fixed:no_offer (ips, snips, dr): " in words
    assert "decisions earned anything, and 10 are needed" in words
    assert "decisions like these would do for fixed:tea" in words
    assert "cannot tell" in result.output


def test_a_comparison_is_a_table_and_a_file(world: World, tmp_path: Path) -> None:
    result = run(
        *("compare", world.path, "none=fixed:no_offer", "logged", "uniform"),
        *("--over", "uniform", "--json", tmp_path / "compared.json"),
    )

    assert result.exit_code == 3, result.output
    assert "over uniform" in result.output
    assert "No winner: the log cannot tell which is better." in result.output
    told = read(tmp_path / "compared.json")
    assert (told["format"], told["winner"]) == ("opportune.comparison.v1", None)


@pytest.mark.parametrize(
    ("more", "status", "told"),
    [
        ([], 0, "Deploy uniform over none: yes: it earns at least"),
        (["--gain-at-least", "0.9"], 1, "Deploy uniform over none: no, keep: "),
        (["--dismissals-at-most", "0.9"], 0, "; dismissals rise by at most "),
        (["--dismissals-at-most", "-0.5"], 1, "dismissals may rise by "),
    ],
)
def test_a_gate_ends_with_a_status_for_pipelines(
    tmp_path: Path, more: list[str], status: int, told: str
) -> None:
    part = logged.log(2_000)
    part = msgspec.structs.replace(
        part, targets={"new": part.targets["best"], "old": part.propensities}
    )
    path = tmp_path / "log.parquet"
    write_log(Parts([part]), path, to="parquet")

    result = run(
        *("compare", path, "none=uniform", "uniform=column:new", "--daily"),
        *("--promote", "uniform", "-e", "snips", *more),
    )

    assert result.exit_code == status, result.output
    assert told in " ".join(result.output.split())
    assert "Intervals hold however often this is looked at." in result.output


def test_a_gate_that_cannot_tell_ends_with_3(world: World) -> None:
    result = run(
        *("compare", world.path, "logged", "fixed:tea", "--promote", "fixed:tea"),
    )

    assert result.exit_code == 3, result.output
    assert "Deploy fixed:tea over logged: cannot tell: " in result.output


def test_what_cannot_be_asked_ends_with_2(world: World) -> None:
    result = run("evaluate", world.path, "-p", "uniform", "--by", "moon")

    assert result.exit_code == 2
    assert "there is no by 'moon': segment, day, week, logger" in result.stderr


@pytest.mark.parametrize("command", ["replay", "evaluate", "compare"])
def test_a_log_that_is_not_there_is_named(command: str, tmp_path: Path) -> None:
    policies = ["logged", "uniform"] if command == "compare" else []
    result = run(command, tmp_path / "nowhere.db", *policies)

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


@pytest.mark.parametrize("command", ["replay", "evaluate", "compare"])
def test_help_teaches_by_examples(command: str) -> None:
    result = run(command, "--help")

    assert result.exit_code == 0
    assert f"\n    opportune-simulator {command} opportune.db" in result.output


def test_a_defect_never_ends_with_the_status_of_an_answer(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(command, "compare_log", broken)
    monkeypatch.setattr(
        "sys.argv", ["opportune-simulator", "compare", str(world.path), "a", "b"]
    )

    with pytest.raises(SystemExit) as ended:
        main()

    assert ended.value.code == 70
    assert "no answer: ZeroDivisionError: a defect" in " ".join(
        capsys.readouterr().err.split()
    )


def test_output_that_nobody_reads_is_no_answer(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed(*_: object) -> None:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr(command, "print_comparison", closed)
    monkeypatch.setattr(
        "sys.argv",
        ["opportune-simulator", "compare", str(world.path), "logged", "uniform"],
    )

    with pytest.raises(SystemExit) as ended:
        main()

    assert ended.value.code == 70


def test_an_answer_keeps_its_status(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def differing(*_: object, **__: object) -> None:
        raise typer.Exit(1)

    monkeypatch.setattr(command, "compare_log", differing)
    monkeypatch.setattr(
        "sys.argv", ["opportune-simulator", "compare", str(world.path), "a", "b"]
    )

    with pytest.raises(SystemExit) as ended:
        main()

    assert ended.value.code == 1


def test_what_a_gate_is_to_ask_needs_a_policy_to_promote(world: World) -> None:
    for option in ("--gain-at-least", "--dismissals-at-most"):
        result = run("compare", world.path, "logged", "uniform", option, "0.1")

        assert result.exit_code == 2
        assert "need --promote" in result.output


@pytest.mark.parametrize("option", ["--json", "--report"])
def test_where_nothing_can_be_written_no_work_is_begun(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    def worked(*_: object, **__: object) -> None:
        raise AssertionError("it has begun")

    monkeypatch.setattr(command, "evaluate_log", worked)

    result = run("evaluate", world.path, option, tmp_path / "none" / "out.html")

    assert result.exit_code == 2
    assert "out.html: cannot be written: No such file or directory" in " ".join(
        result.output.split()
    )


def test_the_world_on_the_page_can_be_played(tmp_path: Path) -> None:
    page = Path(__file__).parents[2] / "docs" / "how-to" / "simulate.md"
    text = page.read_text(encoding="utf-8")
    blocks = [block.partition("```")[0] for block in text.split("```toml\n")[1:]]
    world_file = next(block for block in blocks if block.startswith("catalogue ="))
    catalogue = next(block for block in blocks if "[placements.banner]" in block)
    (tmp_path / "my_world.toml").write_text(world_file, encoding="utf-8")
    (tmp_path / "catalogue.toml").write_text(catalogue, encoding="utf-8")

    result = run("simulate", tmp_path / "my_world.toml", "--users", "10", "--days", "2")

    assert result.exit_code == 0, result.output


def test_no_more_trust_is_kept_than_all() -> None:
    means = dict.fromkeys(
        ("expected", "regret", "interruptions", "trust", "value"),
        Mean(mean=0.99, low=0.95, high=1.03),
    )
    variant = Variant(policy="default", settings={}, figures=means, more={})
    result = Sweep(
        world="calm",
        seeds=(0, 1),
        confidence=0.95,
        variants=(variant,),
    )

    told = io.StringIO()

    print_sweep(result, Console(width=120, file=told))

    assert "95.0% to 100.0%" in told.getvalue()
