"""Checks: each thing that can be wrong with a log is found, and nothing else is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from simulator import checking
from simulator.__main__ import app
from simulator.checking import Check, check
from simulator.logs import open_log, write_log
from tests.simulator.worlds import World

LOGS = Path(__file__).parents[1] / "data" / "logs"
NOW_MS = 1_800_000_000_000


def decisions(n: int = 40) -> list[dict[str, Any]]:
    """Return a sound log: each of four actions as often as its probability says."""
    shares = [0.1, 0.2, 0.3, 0.4]
    turns = [index for index, times in enumerate((1, 2, 3, 4)) for _ in range(times)]
    return [
        {
            "_label_cost": -1.0,
            "_label_probability": shares[turns[at % 10]],
            "_labelIndex": turns[at % 10],
            "EventId": f"event {at}",
            "Timestamp": f"2026-03-01T12:{at // 60:02}:{at % 60:02}Z",
            "a": [1, 2, 3, 4],
            "p": shares,
            "c": {"_multi": [{"_tag": name} for name in "abcd"]},
        }
        for at in range(n)
    ]


def checked(path: Path, *lines: object) -> Check:
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    with open_log(path, skip_bad=True, format="dsjson") as source:
        return check(source, now_ms=NOW_MS)


def found(result: Check) -> dict[str, tuple[int, tuple[int, ...]]]:
    return {f.kind: (f.count, f.rows) for f in result.findings}


def test_nothing_is_wrong_with_a_sound_log(tmp_path: Path) -> None:
    result = checked(tmp_path / "log", *decisions(400))

    assert not result.wrong
    assert found(result) == {}
    assert (result.rows, result.actions, result.unchecked) == (400, 4, ())


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("zero propensity", {"_label_probability": 0.0}),
        ("propensity", {"_label_probability": -0.1}),
        ("propensity", {"_label_probability": 1.5}),
        ("probability", {"p": [0.1, 0.2, -0.1, 0.8]}),
        ("sum", {"p": [0.1, 0.2, 0.3, 0.39]}),
        ("mismatch", {"_label_probability": 0.25}),
        ("action twice", {"c": {"_multi": [{"_tag": name} for name in "abca"]}}),
        ("duplicate", {"EventId": "event 3"}),
        ("clock back", {"Timestamp": "2026-03-01T11:00:00Z"}),
        ("future", {"Timestamp": "2126-03-01T11:00:00Z"}),
        ("no reward", {"_label_cost": None}),
        ("no time", {"Timestamp": ""}),
    ],
)
def test_what_is_wrong_with_a_row_is_found(
    tmp_path: Path, kind: str, change: dict[str, Any]
) -> None:
    lines = decisions()
    lines[7] |= change

    result = checked(tmp_path / "log", *lines)

    assert found(result)[kind] == (1, (8,))
    assert (kind not in ("no reward", "no time")) == result.wrong


def test_what_cannot_be_read_is_counted(tmp_path: Path) -> None:
    result = checked(tmp_path / "log", *decisions(), "{", "[]")

    (finding,) = result.findings
    assert (finding.kind, finding.count) == ("unreadable", 2)
    assert "line 41: " in finding.detail
    assert result.wrong


def test_a_log_without_decisions_is_wrong(tmp_path: Path) -> None:
    result = checked(tmp_path / "log")

    assert found(result) == {"empty": (1, ())}


def test_rewards_that_are_not_finite_are_found(tmp_path: Path) -> None:
    feedback = {
        "action": np.array([0, 1]),
        "reward": np.array([np.inf, 1.0]),
        "pscore": np.array([0.5, 0.5]),
    }
    with open_log(feedback) as source:
        result = check(source, now_ms=NOW_MS)

    assert found(result)["reward"] == (1, (1,))


def test_propensities_that_are_not_those_of_the_draws_are_found(
    tmp_path: Path,
) -> None:
    """Each row is sound by itself, but the rare action comes far too often."""
    lines = decisions(400)
    for line in lines:
        line |= {"_labelIndex": 0, "_label_probability": 0.1}

    result = checked(tmp_path / "log", *lines)

    (finding,) = result.findings
    assert (finding.kind, finding.count) == ("mean weight", 400)
    assert "2.5 times" in finding.detail


def test_few_rows_with_small_probabilities_prove_nothing(tmp_path: Path) -> None:
    lines = decisions(20)
    for line in lines:
        line |= {"p": [1e-6, 0.2, 0.4, 0.4 - 1e-6], "_label_probability": 1e-6}
        line |= {"_labelIndex": 0}

    result = checked(tmp_path / "log", *lines)

    assert not result.wrong
    assert any("too few rows" in unchecked for unchecked in result.unchecked)


def test_the_policies_that_logged_are_listed(tmp_path: Path) -> None:
    lines = decisions()
    for at, line in enumerate(lines):
        line["VWState"] = {"m": "old" if at < 10 else "new"}

    old, new = checked(tmp_path / "log", *lines).loggers

    assert (old.policy, old.rows, old.first, old.last) == ("old", 10, 1, 10)
    assert (new.policy, new.rows, new.first, new.last) == ("new", 30, 11, 40)


def test_duplicates_are_found_however_far_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = decisions(600)
    for at in (300, 590):
        lines[at]["EventId"] = f"event {at - 150}"
    monkeypatch.setattr("simulator.logs.dsjson._BATCH", 16)

    all_of_them = checked(tmp_path / "log", *lines)

    assert found(all_of_them)["duplicate"] == (2, (301, 591))


def test_hashes_that_are_too_many_are_forgotten_the_oldest_first() -> None:
    seen = checking._Seen(64)
    numbers = np.arange(200, dtype=np.uint64)

    first = [bool(seen.again(numbers[at : at + 8]).any()) for at in range(0, 200, 8)]

    assert not any(first)
    assert seen.forgot
    assert seen.again(numbers[-8:]).all()
    assert not seen.again(numbers[:8]).any()
    assert seen.again(np.array([0, 999], np.uint64)).tolist() == [True, False]


def test_a_floor_that_was_not_kept_is_found(tmp_path: Path) -> None:
    world = World(tmp_path / "opportune.db")
    world.live(20, every=10)
    world.tamper(5, lambda record: record.update(floor=400_000_000))

    with open_log(world.path) as source:
        result = check(source, now_ms=world.now_ms)

    assert found(result) == {"floor": (1, (5,))}


def test_a_servers_log_without_a_row_has_a_gap(tmp_path: Path) -> None:
    world = World(tmp_path / "opportune.db")
    world.live(20, every=10)
    with open_log(world.path) as source:
        assert not check(source, now_ms=world.now_ms).wrong
    world.rows("delete from decision where position in (5, 6)")

    with open_log(world.path) as source:
        result = check(source, now_ms=world.now_ms)

    assert found(result) == {"gap": (2, (7,))}


@pytest.mark.parametrize("name", ["personalizer.dsjson", "two_slots.dsjson", "obd"])
def test_nothing_is_wrong_with_real_logs(name: str) -> None:
    with open_log(LOGS / name) as source:
        assert not check(source, now_ms=NOW_MS).wrong


# --- The commands ---------------------------------------------------------------------


def run(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(word) for word in words])
    return result.exit_code, result.output


def test_the_command_ends_with_what_it_found(tmp_path: Path) -> None:
    lines = decisions()
    lines[7]["p"] = [0.1, 0.2, 0.3, 0.39]
    bad = tmp_path / "bad.dsjson"
    checked(bad, *lines)

    code, output = run("check-log", bad, "--json", tmp_path / "check.json")

    assert code == 1
    assert "probabilities do not add up to 1: 0.99" in " ".join(output.split())
    assert "Something is wrong." in output
    written = json.loads((tmp_path / "check.json").read_text())
    assert written["findings"][0]["rows"] == [8]
    assert run("check-log", LOGS / "personalizer.dsjson")[0] == 0
    assert run("check-log", tmp_path / "nowhere")[0] == 2


def test_a_tolerance_forgives(tmp_path: Path) -> None:
    lines = decisions()
    lines[7]["p"] = [0.1, 0.2, 0.3, 0.39]
    checked(tmp_path / "log.dsjson", *lines)

    assert run("check-log", tmp_path / "log.dsjson", "--tolerance", 0.02)[0] == 0


def test_the_command_converts_and_says_what_it_left_out(tmp_path: Path) -> None:
    bad = tmp_path / "bad.dsjson"
    checked(bad, *decisions(5), "{")

    assert run("convert", bad, tmp_path / "log")[0] == 2
    code, output = run("convert", bad, tmp_path / "log", "--skip-bad")

    assert code == 0
    assert "5 decisions in " in output
    assert "Left out: 1 bad" in output
    assert "line 6" in output
    assert run("check-log", tmp_path / "log")[0] == 0
    assert run("convert", tmp_path / "log", tmp_path / "log.out", "--to", "csv")[0] == 0
    assert run("check-log", tmp_path / "log.out", "--format", "csv")[0] == 0


def test_a_checked_log_may_be_larger_than_a_part(tmp_path: Path) -> None:
    checked(tmp_path / "log.dsjson", *decisions(600))
    with open_log(tmp_path / "log.dsjson") as source:
        write_log(source, tmp_path / "log", rows_max=50)

    with open_log(tmp_path / "log") as source:
        result = check(source, now_ms=NOW_MS)

    assert (result.rows, result.wrong) == (600, False)


def test_lines_that_cannot_be_read_are_listed_each_kind_with_its_own(
    tmp_path: Path,
) -> None:
    sound = [json.dumps(line) for line in decisions(40)]
    sound[4] = sound[24] = "{not json"
    path = tmp_path / "log"
    path.write_text("\n".join([*sound, '{"_label_cost": -1']), encoding="utf-8")

    with open_log(path, skip_bad=True, format="dsjson") as source:
        result = check(source, now_ms=NOW_MS)

    assert found(result) == {"unreadable": (2, (5, 25)), "torn": (1, (41,))}
    torn = next(one for one in result.findings if one.kind == "torn")
    assert "line 41, the last one, is cut off" in torn.detail
    assert result.format == "opportune.check.v1"
    assert result.log_format == "dsjson"


def test_one_time_in_the_future_is_one_finding(tmp_path: Path) -> None:
    lines = decisions(40)
    lines[9]["Timestamp"] = "2031-01-01T00:00:00Z"

    assert found(checked(tmp_path / "log", *lines)) == {"future": (1, (10,))}


def test_a_clock_that_went_back_is_found_where_it_did(tmp_path: Path) -> None:
    lines = decisions(40)
    for line in lines[20:]:
        line["Timestamp"] = line["Timestamp"].replace("T12", "T11")

    assert found(checked(tmp_path / "log", *lines)) == {"clock back": (1, (21,))}
