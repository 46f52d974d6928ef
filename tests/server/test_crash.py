"""Killed at any point and started again: nothing is lost, the bytes are the same."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import grpc.aio
import psutil
import pytest

from opportune.v1 import DecisionServiceStub, GetOfferRequest
from tests.server import crash, kit

STATEMENTS = (1, 9, 12, 14, 17, 23, 31, 47, 62, 83, 150)


EXPLORER = """kind = "vw"
cb_type = "dr"
explorer = { kind = "bag", bags = 2, epsilon = 0.6 }
[policy.exploration]
kind = "vw_explorer"
"""


@pytest.mark.parametrize("learner", [crash.DEFAULT, "linucb", "vw", "vw_explorer"])
def test_a_learner_that_is_killed_anywhere_ends_in_the_same_bytes(
    tmp_path: Path, learner: str
) -> None:
    # Given a store with a few hundred outcomes, and what becomes of it undisturbed
    text = crash.settings_text(learner)
    if learner == "vw_explorer":
        before, _, after = text.partition(f'kind = "{learner}"')
        text = f"{before}{EXPLORER}[learning]{after.partition('[learning]')[2]}"
    (tmp_path / "calm").mkdir()
    calm = kit.write_settings(tmp_path / "calm", crash.CATALOGUE, text)
    asyncio.run(crash.fill(calm, 250))
    shutil.copytree(tmp_path / "calm", tmp_path / "wild")
    wild = tmp_path / "wild" / calm.name
    crash.learn(calm)

    # When a learner is killed again and again, each time a little further on
    killed = crash.lives(wild, STATEMENTS)

    # Then it ends with the same stream and the same bytes, which are those of the
    # stream folded from nothing
    assert killed >= 4
    assert crash.stream(calm) == crash.stream(wild)
    assert crash.body(calm) == crash.body(wild)
    assert crash.body(wild) == crash.folded(wild)


@pytest.mark.timeout(180)
def test_nothing_acknowledged_is_lost_and_no_cap_broken_when_workers_are_killed(
    tmp_path: Path,
) -> None:
    # Given two workers, and users who ask and report as fast as they can
    text = crash.settings_text("linucb", workers=2)
    settings = kit.write_settings(tmp_path, crash.CATALOGUE, text)
    with kit.serving(settings) as serving:
        # When workers are killed in the middle, and started again
        reports = asyncio.run(
            crash.use_and_kill(serving, users=12, requests=15, kills=2, seed=1)
        )

        # Then all that was acknowledged is there, and caps were kept
        assert len(reports.acknowledged) == 12 * 15
        assert reports.refused["UNAVAILABLE"] >= 1
        assert not reports.refused.keys() - {"UNAVAILABLE", "DEADLINE_EXCEEDED"}
        crash.check(serving, reports)


async def _race(address: str, user: str, count: int) -> list[str]:
    async def one(number: int) -> str:
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(address, options) as channel:
            stub = DecisionServiceStub(channel)
            request = GetOfferRequest(
                request_id=str(number),
                user_id=user,
                placement_ids=["home"],
                offer_ids=["tea"],
            )
            response = await stub.GetOffer(request, wait_for_ready=True)
            (decision,) = response.decisions
            return decision.offer_id

    return [offer for offer in await asyncio.gather(*map(one, range(count))) if offer]


def test_two_workers_keep_a_cap_exactly_and_end_when_who_started_them_is_killed(
    tmp_path: Path,
) -> None:
    # Given two worker processes on one file
    text = crash.settings_text("linucb", workers=2)
    settings = kit.write_settings(tmp_path, crash.CATALOGUE, text)
    with kit.serving(settings) as serving:
        assert len(serving.children("work")) == 2

        # When each of several users asks over many connections at once
        for number in range(5):
            offers = asyncio.run(_race(serving.address, f"user-{number}", 60))

            # Then each gets the offer of once in a life exactly once
            assert offers == ["tea"]

        # And when the process that started them is killed without a word
        children = psutil.Process(serving.process.pid).children(recursive=True)
        os.kill(serving.process.pid, signal.SIGKILL)
        serving.process.wait(kit.PATIENCE_S)

        # Then they end by themselves
        _, alive = psutil.wait_procs(children, timeout=kit.PATIENCE_S)
        for child in alive:
            child.kill()
        assert not alive


def test_a_learner_that_is_killed_around_publishing_leaves_a_model_that_serves(
    tmp_path: Path,
) -> None:
    # Given a learner with a challenger, of which every publication is killed somewhere
    text = crash.settings_text("linucb", workers=1) + crash.CHALLENGER
    settings = kit.write_settings(tmp_path, crash.CATALOGUE, text)
    asyncio.run(crash.fill(settings, 120))
    once = [*range(15, 120, 7)]

    # When it lives on after each of them
    killed = crash.lives(settings, [*once, 10_000])

    # Then what serves is whole, of each learner, and has learned all there was
    assert killed >= len(once)
    rows = len(crash.stream(settings))
    assert crash.pointers(settings) == [f"1.{rows}"] * 2


def test_a_server_learns_while_it_serves_and_leaves_nothing_running(
    tmp_path: Path,
    server_process: Callable[..., kit.Serving],
) -> None:
    # Given a server
    serving = server_process(crash.CATALOGUE)
    children = psutil.Process(serving.process.pid).children(recursive=True)
    assert len(children) == 2

    # When outcomes that settle decisions are reported
    users = (f"user-{number}" for number in itertools.count())
    reports = crash.Reports(kinds=(kit.SHOWN, kit.CONVERTED))

    def models() -> bool:
        asyncio.run(crash.use(serving.address, reports, user=next(users), requests=3))
        learned = "select 1 from decisions_v1 where record ->> 'model' <> '0.0'"
        return bool(kit.rows(serving.path, learned))

    # Then they are learned, and later decisions are made by what was learned
    assert kit.eventually(models)

    # And when it is told to stop, it ends well, and so do its processes
    serving.process.send_signal(signal.SIGTERM)
    assert serving.process.wait(kit.PATIENCE_S) == 0
    assert not psutil.wait_procs(children, timeout=0.0)[1]
