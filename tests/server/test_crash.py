"""Killed at any point, and started again: nothing is lost, and the bytes are the same."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from pathlib import Path

import psutil
import pytest

from tests.server import crash, kit

STATEMENTS = {"linucb": (1, 9, 14, 23, 47, 83), "vw": (11, 16, 31, 62)}


@pytest.mark.parametrize("learner", ["linucb", "vw"])
def test_a_learner_that_is_killed_anywhere_ends_in_the_same_bytes(
    tmp_path: Path, learner: str
) -> None:
    # Given a store with a few hundred outcomes, and what becomes of it undisturbed
    text = crash.SETTINGS.format(workers=1, learner=learner)
    (tmp_path / "calm").mkdir()
    calm = kit.write_settings(tmp_path / "calm", crash.CATALOGUE, text)
    asyncio.run(crash.fill(calm, 250))
    shutil.copytree(tmp_path / "calm", tmp_path / "wild")
    wild = tmp_path / "wild" / calm.name
    assert not crash.learn_and_die(calm, 0)

    # When a learner is killed again and again, each time a little further on
    killed = [crash.learn_and_die(wild, at) for at in STATEMENTS[learner]]
    while crash.learn_and_die(wild, 150):
        killed.append(True)

    # Then it ends with the same stream and the same bytes, which are those of the
    # stream folded from nothing
    assert sum(killed) >= 4
    assert crash.stream(calm) == crash.stream(wild)
    assert crash.body(calm) == crash.body(wild)
    assert crash.body(wild) == crash.folded(wild)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("workers", [1, 2])
def test_nothing_acknowledged_is_lost_and_no_cap_broken_when_workers_are_killed(
    tmp_path: Path, workers: int
) -> None:
    # Given a server, and users who ask and report as fast as they can
    text = crash.SETTINGS.format(workers=workers, learner="linucb")
    settings = kit.write_settings(tmp_path, crash.CATALOGUE, text)
    with kit.serving(settings) as serving:
        # When workers are killed in the middle, and started again
        reports = asyncio.run(
            crash.use_and_kill(serving, users=12, requests=15, kills=2, seed=workers)
        )

        # Then all that was acknowledged is there, and caps were kept
        assert len(reports.acknowledged) == 12 * 15
        assert reports.refused["UNAVAILABLE"] >= 1
        assert not reports.refused.keys() - {"UNAVAILABLE", "DEADLINE_EXCEEDED"}
        crash.check(serving, reports)


async def _race(address: str, user: str, count: int) -> list[str]:
    async def one(number: int) -> str:
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with crash.grpc.aio.insecure_channel(address, options) as channel:
            stub = crash.DecisionServiceStub(channel)
            request = crash.GetOfferRequest(
                request_id=str(number),
                user_id=user,
                placement_ids=["home"],
                offer_ids=["tea"],
            )
            response = await stub.GetOffer(request, wait_for_ready=True)
            return response.decisions[0].offer_id

    return [offer for offer in await asyncio.gather(*map(one, range(count))) if offer]


def test_two_workers_on_one_file_keep_a_cap_exactly(tmp_path: Path) -> None:
    # Given two worker processes
    text = crash.SETTINGS.format(workers=2, learner="linucb")
    settings = kit.write_settings(tmp_path, crash.CATALOGUE, text)
    with kit.serving(settings) as serving:
        assert len(serving.children("work")) == 2

        # When each of several users asks over many connections at once
        for number in range(5):
            offers = asyncio.run(_race(serving.address, f"user-{number}", 60))

            # Then each gets the offer of once in a life exactly once
            assert offers == ["tea"]


def test_a_server_that_is_stopped_leaves_nothing_running(tmp_path: Path) -> None:
    # Given a server with its processes
    settings = kit.write_settings(tmp_path, crash.CATALOGUE, kit.SETTINGS)
    with kit.serving(settings) as serving:
        children = psutil.Process(serving.process.pid).children(recursive=True)
        assert len(children) == 2

        # When it is told to stop
        serving.process.send_signal(signal.SIGTERM)

        # Then it ends well, and so did they
        assert serving.process.wait(kit.PATIENCE_S) == 0
        assert not psutil.wait_procs(children, timeout=0.0)[1]


def test_workers_end_when_who_started_them_is_killed(tmp_path: Path) -> None:
    # Given a server with its processes
    settings = kit.write_settings(tmp_path, crash.CATALOGUE, kit.SETTINGS)
    with kit.serving(settings) as serving:
        children = psutil.Process(serving.process.pid).children(recursive=True)
        assert children

        # When it is killed without a word
        os.kill(serving.process.pid, signal.SIGKILL)
        serving.process.wait(kit.PATIENCE_S)

        # Then they end by themselves
        _, alive = psutil.wait_procs(children, timeout=kit.PATIENCE_S)
        for child in alive:
            child.kill()
        assert not alive


def test_a_server_learns_while_it_serves(tmp_path: Path) -> None:
    # Given a server and a user
    text = crash.SETTINGS.format(workers=1, learner="vw") + '[rewards]\nwait = "50ms"\n'
    settings = kit.write_settings(tmp_path, crash.CATALOGUE, text)
    with kit.serving(settings) as serving:
        # When outcomes are reported
        reports = crash.Reports()
        asyncio.run(crash.use(serving.address, reports, user="ada", requests=10))

        # Then they are learned and published, and later decisions are made by that
        def models() -> set[str]:
            asyncio.run(crash.use(serving.address, reports, user="bob", requests=1))
            asyncio.run(
                crash.use(
                    serving.address, reports, user=f"new-{os.urandom(4).hex()}", requests=1
                )
            )
            return {
                model
                for (model,) in kit.rows(
                    serving.path, "select record ->> 'model' from decisions_v1"
                )
                if model != "0.0"
            }

        assert kit.eventually(models)
