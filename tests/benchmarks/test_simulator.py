"""The study of coverage and the benchmark of the simulator, on little of everything."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from benchmarks import coverage, reading, simulator, walking
from benchmarks.coverage import GRID, PEERS, Cell, World, holm, measure, peeked


def test_the_default_interval_holds_the_truth_where_others_do_not() -> None:
    case = PEERS[1]
    cells = measure(case, repeats=40, seed=7, peers=True, slow=4)
    found = {(cell.estimator, cell.interval): cell for cell in cells}
    ours, theirs = found["snips", "default"], found["ips", "VW Cressie–Read"]

    assert ours.told == 40
    assert ours.held >= 36
    assert (ours.width or 9) < 1.02 * (theirs.width or 0)
    assert found["ips", "obp's rule"].repeats == 4
    assert not any(cell.fails for cell in cells)


def test_a_log_too_short_to_decide_on_tells_no_number() -> None:
    cells = measure(PEERS[0], repeats=15, seed=7)
    assert all(cell.told == 0 and cell.width is None for cell in cells)
    assert all(cell.covered is None for cell in cells)


def test_the_truth_of_a_world_is_what_its_target_earns() -> None:
    world = World(GRID[1], 3)
    rng = np.random.default_rng(4)
    values = [world.sums(world.log(rng)).clusters("ips").value for _ in range(40)]
    error = np.std(values) / np.sqrt(40)
    assert abs(np.mean(values) - world.value) < 4 * error


def test_an_interval_that_is_looked_at_daily_is_counted_once() -> None:
    cells = peeked(GRID[5], repeats=3, seed=7)
    assert {(cell.interval, cell.repeats) for cell in cells} == {
        ("always_valid", 3),
        ("default", 3),
    }


def test_cells_that_fail_are_told_from_chance() -> None:
    cell = Cell("world", 10, "ips", "default")
    for held in (True, False, False, True):
        cell.add(0.0, 1.0, 0.5 if held else 2.0, "usable")
    cell.add(0.0, 1.0, 2.0, "unusable")
    cell.close()
    assert (cell.told, cell.held, cell.covered) == (4, 2, 0.5)
    # At most 2 of 4 at 95 %: 0.05⁴ + 4·0.95·0.05³ + 6·0.95²·0.05².
    assert cell.p == pytest.approx(0.01401875)
    assert holm([0.04, 0.001, 0.03, 0.2]) == [False, True, False, False]


@pytest.mark.parametrize("name", list(simulator.ROWS))
def test_every_row_of_the_benchmark_is_measured(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "apart", reading.measured)
    out, sizes = tmp_path / "simulator.json", ["--rows", "2000", "--share", "0.005"]
    result = CliRunner().invoke(
        _app(), [name, *sizes, "--rounds", "1", "--out", str(out)]
    )
    assert result.exit_code == 0, result.output
    row = json.loads(out.read_text())["rows"][name]
    assert row["goal"]
    assert row["seconds"] is not None or row["per_s"] is not None
    assert row["peak_mb"] is not None


def test_ours_and_numpy_learn_from_about_as_many_rows() -> None:
    log = walking.world("small", 2_000)
    (_, ours), (_, plain) = walking.ours(log), walking.plain(log)
    assert 150 < ours < 250
    assert 150 < plain < 250


def test_who_is_not_installed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    found = simulator.values_only(simulator.Size(rows=1_000, rounds=1))
    assert found.peers["obp"] is None
    assert walking.gittins(walking.world("small", 100)) is None


def test_a_goal_is_met_only_in_all_of_its_parts() -> None:
    goal = simulator.Goal(seconds=1.0, peak_mb=2.0)
    fast = simulator.Measured(what="work", goal=goal, seconds=0.5, peak_mb=1.0)
    large = simulator.Measured(what="work", goal=goal, seconds=0.5, peak_mb=3.0)
    often = simulator.Measured(what="work", goal=simulator.Goal(per_s=5.0), per_s=6.0)
    seldom = simulator.Measured(what="work", goal=simulator.Goal(per_s=5.0), per_s=4.0)
    assert [one.met for one in (fast, large, often, seldom)] == [
        True,
        False,
        True,
        False,
    ]


def test_an_unknown_row_is_refused() -> None:
    result = CliRunner().invoke(_app(), ["nothing"])
    assert result.exit_code == 2
    assert "there is no nothing" in result.output


def test_a_study_is_written(tmp_path: Path) -> None:
    out = tmp_path / "coverage.json"
    cells = [Cell(PEERS[1].name, PEERS[1].n, "ips", "default")]
    cells[0].add(0.0, 1.0, 0.5, "usable")
    cells[0].close()
    coverage.write(cells, out, repeats=1, seed=7)
    read = json.loads(out.read_text())
    assert read["cells"][0]["covered"] == 1.0
    assert read["failed"] == 0


def _app() -> typer.Typer:
    app = typer.Typer()
    app.command()(simulator.main)
    return app
