"""Logs that lack something, or hold what cannot be: an answer, or what to mend."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner, Result

from policies.estimators import target_values
from simulator import Parts
from simulator.__main__ import app
from simulator.logs import open_log
from simulator.logs.writing import write_log
from tests.simulator import logged

ACTIONS = ("tea", "jam", "日本")


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), (
        result.exception
    )
    return result


def said(result: Result) -> str:
    return " ".join(result.output.split())


def rows(n: int, **changes: Any) -> list[dict[str, Any]]:
    """Return decisions of a policy that chooses among three actions alike."""
    rng = np.random.default_rng(n)
    return [
        {
            "time": 1_795_262_400 + 60 * row,
            "user": f"ü{rng.integers(40)}",
            "action": ACTIONS[rng.integers(3)],
            "reward": int(rng.random() < 0.3),
            "propensity": 1 / 3,
            "actions": json.dumps(ACTIONS),
        }
        | changes
        for row in range(n)
    ]


def write(
    folder: Path, made: Sequence[Mapping[str, Any]], *, without: Sequence[str] = ()
) -> Path:
    path = folder / "log.csv"
    names = [name for name in rows(1)[0] if name not in without]
    names += [name for name in (made[0] if made else ()) if name not in rows(1)[0]]
    lines = [names, *([row[name] for name in names] for row in made)]
    path.write_text("\n".join(",".join(map(_cell, line)) for line in lines) + "\n")
    return path


def _cell(value: object) -> str:
    text = str(value).replace('"', '""')
    return f'"{text}"'


# --- What was eligible is not known -----------------------------------------------


def test_without_what_was_eligible_the_logged_policy_is_still_evaluated(
    tmp_path: Path,
) -> None:
    path = write(tmp_path, rows(300), without=["actions"])

    answer = run("evaluate", path, "-p", "logged", "-e", "snips", "--by", "day")

    assert answer.exit_code == 0, answer.output
    earned = np.mean([row["reward"] for row in rows(300)])
    assert f"{earned:.4f}"[:5] in answer.output


def test_without_what_was_eligible_a_column_is_still_evaluated(tmp_path: Path) -> None:
    made = [row | {"target:tea": float(row["action"] == "tea")} for row in rows(900)]
    both = [write(tmp_path, made, without=out) for out in ((), ("actions",))]

    told = []
    for path in both:
        answer = run(
            *("evaluate", path, "-p", "logged", "-p", "column:tea", "-e", "snips"),
            *("--json", tmp_path / "out.json"),
        )
        assert answer.exit_code in {0, 3}, answer.output
        values = json.loads((tmp_path / "out.json").read_text())["values"]
        told.append([(v["policy"], v["value"]) for v in values])
    assert told[0] == told[1]


@pytest.mark.parametrize("missing", ["all", "the first", "the last"])
@pytest.mark.parametrize(
    "asked",
    [("evaluate", "-p", "uniform"), ("compare", "logged", "fixed:tea")],
    ids=["evaluate", "compare"],
)
def test_who_needs_to_know_what_was_eligible_is_told_the_row(
    tmp_path: Path, missing: str, asked: tuple[str, ...]
) -> None:
    made = rows(50)
    without = {"all": range(50), "the first": range(3), "the last": range(47, 50)}
    for row in without[missing]:
        made[row]["actions"] = ""
    path = write(tmp_path, made)

    command, *options = asked
    answer = run(command, path, *options)

    assert answer.exit_code == 2
    if missing == "all" and "fixed:tea" in asked:
        assert "no rewarded decision could have chosen offer 'tea'" in said(answer)
    else:
        first = without[missing][0] + 2
        assert f"row {first}: the log does not say which actions" in said(answer)


def test_sums_over_no_actions_are_nothing() -> None:
    sums = target_values(np.ones(3), np.array([1.0, 2.0, 4.0]), np.array([0, 2, 2, 3]))

    assert sums.tolist() == [3.0, 0.0, 4.0]


def test_dsjson_cannot_say_that_nobody_knows_what_was_eligible(tmp_path: Path) -> None:
    made = rows(5)
    made[3]["actions"] = ""
    path = write(tmp_path, made)

    answer = run("convert", path, tmp_path / "log.dsjson")

    assert answer.exit_code == 2
    assert "log.dsjson: row 5 does not say which actions" in said(answer)
    kept = run("convert", path, tmp_path / "log.parquet")
    assert kept.exit_code == 0
    with open_log(tmp_path / "log.parquet") as log:
        (part,) = log.parts()
        assert np.diff(part.offsets).tolist() == [3, 3, 3, 0, 3]


# --- Few rows, and odd ones -------------------------------------------------------


@pytest.mark.parametrize(
    "made",
    [
        rows(1),
        rows(2),
        rows(30, user="one"),
        rows(30, action="tea", actions='["tea"]', propensity=1.0),
        rows(30, reward=1),
        rows(30, reward=0),
        rows(30, propensity=1.0),
        [row | {"reward": -row["reward"] - 0.5} for row in rows(30)],
        [*rows(30), rows(31, propensity=1e-9)[30]],
        [*rows(30), rows(31, reward="nan")[30]],
        rows(30)[::-1],
        [row | {"id": "d1"} for row in rows(30)],
        rows(9, actions=json.dumps([*ACTIONS, *map(str, range(1_000))])),
    ],
    ids=[
        *("one row", "two rows", "one user", "one action", "reward 1", "reward 0"),
        *("propensity 1", "negative rewards", "propensity 1e-9", "no number"),
        *("backwards", "one id", "1,000 actions"),
    ],
)
def test_every_question_has_an_answer(
    tmp_path: Path, made: list[dict[str, Any]]
) -> None:
    path = write(tmp_path, made)

    for suffix in (".parquet", ".dsjson", ".npz"):
        assert run("convert", path, tmp_path / f"log{suffix}").exit_code == 0
    asked = (
        *("-p", "logged", "-p", "uniform", "--by", "segment", "--quantile", "0.5"),
        *("-e", "dr", "-e", "mrdr", "-e", "mips", "-e", "cressie_read"),
    )
    for log in (path, tmp_path / "log.dsjson"):
        assert run("check-log", log).exit_code in {0, 1}
        assert run("evaluate", log, *asked).exit_code in {0, 3}
    assert run("compare", path, "logged", "uniform").exit_code in {0, 3}


def test_a_log_of_no_rows_says_so(tmp_path: Path) -> None:
    path = write(tmp_path, [])

    assert "there are no decisions" in said(run("evaluate", path, "-p", "logged"))
    assert "there are no decisions" in said(run("compare", path, "logged", "uniform"))
    assert run("check-log", path).exit_code == 1


def test_an_objective_of_which_nothing_came_leaves_others_in_peace(
    tmp_path: Path,
) -> None:
    part = logged.log(500)
    nothing = {"never": np.zeros(500), **part.objectives}
    part = msgspec.structs.replace(part, objectives=nothing, policies=[""])
    write_log(Parts([part]), tmp_path / "log.parquet")

    answer = run(
        *("evaluate", tmp_path / "log.parquet", "-p", "logged", "--by", "logger"),
        *("--objective", "never", "--objective", "accepted"),
    )

    lines = [line for line in answer.output.splitlines() if "│ accepted" in line]
    assert any("usable" in line and "unusable" not in line for line in lines)
    assert answer.exit_code == 3
    assert "logged, never (mean): 0 decisions earned anything" in said(answer)
    assert "(none)" in answer.output


# --- What cannot be ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"propensity": 0}, "row 2: propensity must be above 0, at most 1, not 0"),
        ({"propensity": 1.5}, "row 2: propensity must be above 0, at most 1, not 1.5"),
        ({"reward": 1e300}, "row 2: reward must be -1e+60 to 1e+60, not 1e+300"),
        ({"reward": "inf"}, "line 2: reward: must be finite, not 'inf'"),
        ({"time": "noon"}, "line 2: time: must be a time of ISO 8601, not 'noon'"),
        ({"propensity": ""}, "line 2: there is no propensity"),
        ({"action": "bun"}, "line 2: action: 'bun' is not among the actions"),
        (
            {"probabilities": "[0.5, -0.5, 1.0]"},
            "row 2: each of the probabilities must be 0 to 1, not -0.5",
        ),
        (
            {"probabilities": "[0.0, 0.0, 0.0]"},
            "row 2: the sum of the probabilities must be 1, not 0",
        ),
        (
            {"probabilities": "[0.5, 0.5, 0.5]"},
            "row 2: the sum of the probabilities must be 1, not 1.5",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_row_and_range(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    path = write(tmp_path, rows(20, **changes))

    answer = run("evaluate", path, "-p", "uniform", "-e", "mips")

    assert answer.exit_code == 2
    assert message in said(answer)


@pytest.mark.parametrize(
    "changes",
    [
        {"propensity": 0},
        {"propensity": -0.2},
        {"propensity": 1.7},
        {"probabilities": "[0.5, 0.5, 0.5]"},
    ],
)
def test_what_cannot_be_is_left_out_if_asked(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    sound = {"probabilities": json.dumps([1 / 3] * 3)}
    path = write(tmp_path, [*rows(1, **(sound | changes)), *rows(400, **sound)])

    for command in (("evaluate", path, "-p"), ("compare", path, "logged")):
        refused = run(*command, "uniform")
        answer = run(*command, "uniform", "--skip-bad")

        assert refused.exit_code == 2
        assert f"{path}: row 2: " in said(refused)
        assert answer.exit_code != 2
        assert "1 row was left out: bad" in said(answer)


def test_a_column_that_is_missing_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, rows(5), without=["propensity", "reward"])

    answer = run("evaluate", path)

    assert answer.exit_code == 2
    assert "line 1: there is no column reward, propensity; there are: time" in said(
        answer
    )
