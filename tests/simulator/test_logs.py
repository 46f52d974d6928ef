"""Logs: what is read of a server's file, and what is said of one that cannot be."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from policies.model import Resolution
from simulator import Log, LogError
from tests.simulator.worlds import CAPPED, CATALOGUE, UNIFORM, World


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> World:
    world = World(tmp_path_factory.mktemp("log") / "opportune.db")
    world.live(30, every=15)
    return world


@pytest.fixture
def world(template: World, tmp_path: Path) -> World:
    return template.copied(tmp_path / "my log & more?.db")


def test_decisions_come_back_in_the_order_in_which_they_were_made(
    world: World,
) -> None:
    with Log(world.path) as log:
        positions, decisions = zip(*log.decisions(), strict=True)

    assert tuple(range(1, 31)) == positions
    assert tuple(world.decisions) == decisions


@pytest.mark.parametrize("scheme", ["", "sqlite:///"])
def test_a_log_is_named_by_path_or_as_in_the_servers_settings(
    world: World, scheme: str
) -> None:
    with Log(f"{scheme}{world.path}") as log:
        assert (log.first, log.last, log.epoch) == (1, 30, 1)


def test_a_log_reads_more_rows_than_a_chunk(world: World) -> None:
    world.visit([f"crowd-{number}" for number in range(1_200)])
    world.learn()

    with Log(world.path) as log:
        assert world.decisions == [decision for _, decision in log.decisions()]
        positions = [record.position for record in log.records(50, 1_150)]
        stream = [row.position for row in log.stream(1, after=7)]

    assert list(range(50, 1_151)) == positions
    assert list(range(8, log.resolved + 1)) == stream


def test_what_comes_after_a_log_was_opened_is_left_out(world: World) -> None:
    with Log(world.path) as log:
        world.visit(["ada"])
        world.learn()

        assert len(list(log.decisions())) == 30
        assert log.resolved == len(list(log.resolutions()))


def test_a_corrected_reward_counts_once_and_with_its_last_revision(
    world: World,
) -> None:
    decision_id = world.decisions[0].opportunity.decision_id
    for revision, reward in ((2, -1.0), (3, 5.0)):
        world.rows(
            "insert into resolution (epoch, position, decision_id, reward, revision)"
            " select 1, max(position) + 1, ?, ?, ?"
            " from resolution",
            *(decision_id, reward, revision),
        )

    with Log(world.path) as log:
        rewards = [row.resolution for row in log.resolutions()]

    assert len(rewards) == 30
    assert Resolution(decision_id, 5.0, 3) == rewards[-1]


def test_catalogues_and_policies_are_found_by_their_versions(world: World) -> None:
    world.offer(CAPPED)
    world.visit(["ada"])

    with Log(world.path) as log:
        texts = {log.catalogue(d.catalogue).text for _, d in log.decisions()}
        settings = {log.policy(d.policy) for _, d in log.decisions()}

    assert {CATALOGUE, CAPPED} == texts
    assert {UNIFORM} == settings


def test_a_log_cannot_be_written_through(world: World) -> None:
    with Log(world.path) as log, pytest.raises(sqlite3.OperationalError):
        log._connection.execute("delete from decision")


def test_reading_leaves_the_file_as_it_was(world: World) -> None:
    before = world.path.read_bytes()

    with Log(world.path) as log:
        list(log.decisions())

    assert before == world.path.read_bytes()


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(LogError, match=r"nowhere\.db: there is no such file"):
        Log(tmp_path / "nowhere.db")

    assert list(tmp_path.iterdir()) == []


def test_a_log_elsewhere_than_in_a_file_is_refused() -> None:
    with pytest.raises(LogError, match="a log is a file"):
        Log("postgresql://localhost/opportune")


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "catalogue.toml"
    path.write_text(CATALOGUE * 20, encoding="utf-8")

    with pytest.raises(LogError, match="it is no SQLite file"):
        Log(path)


def test_a_database_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    connection = sqlite3.connect(path)
    connection.execute("create table decision(record text)")
    connection.close()

    with pytest.raises(LogError, match="no log of an Opportune server"):
        Log(path)


def test_a_log_with_other_versions_of_the_views_says_what_to_do(world: World) -> None:
    world.rows("drop view decisions_v1")
    world.rows("create view decisions_v2 as select * from decision")

    with pytest.raises(LogError, match=r"decisions_v2.*but not decisions_v1: read it"):
        Log(world.path)


def test_a_log_that_was_cut_off_is_called_damaged(world: World) -> None:
    world.visit([f"crowd-{number}" for number in range(500)])
    whole = world.path.read_bytes()
    world.path.write_bytes(whole[: len(whole) // 2])

    with pytest.raises(LogError, match="is damaged"), Log(world.path) as log:
        list(log.decisions())
