"""Catalogues and stops take effect on running workers, and drop no request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import grpc.aio
import pytest
from typer.testing import CliRunner

from opportune.v1 import (
    CheckDecisionRequest,
    Decision,
    DecisionServiceStub,
    GetOfferRequest,
    OfferState,
    Reason,
)
from server.__main__ import app
from tests.server import kit

if TYPE_CHECKING:
    from opportune.v1.decision_service_pb2_grpc import DecisionServiceAsyncStub

CATALOGUE = """
[categories.drinks]
[placements.home]
[offers.tea]
placements = ["home"]
categories = ["drinks"]
"""
SETTINGS = """
[server]
address = "127.0.0.1:0"
workers = 2
drain = "1s"
[policy]
learner = { kind = "priority" }
exploration = { kind = "epsilon_greedy", epsilon = 0.0 }
"""
SPREAD = 12
"""How many connections it takes to reach both workers."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[kit.Serving]:
    """A server of two worker processes."""
    path = kit.write_settings(tmp_path, CATALOGUE, SETTINGS)
    with kit.serving(path) as serving:
        yield serving


def run(folder: Path, *arguments: str) -> str:
    """Run a command of the server on its settings, and return what it prints."""
    settings = ["--settings", str(folder / "settings.toml")]
    result = CliRunner().invoke(app, [*arguments, *settings])
    assert result.exit_code == 0, result.output
    return result.output


@asynccontextmanager
async def clients(
    serving: kit.Serving,
) -> AsyncIterator[list[DecisionServiceAsyncStub]]:
    """Be many product servers, each with a connection of its own."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    channels = [
        grpc.aio.insecure_channel(serving.address, options) for _ in range(SPREAD)
    ]
    yield [DecisionServiceStub(channel) for channel in channels]
    for channel in channels:
        await channel.close()


async def ask(stub: DecisionServiceAsyncStub, user: str) -> Decision:
    request = GetOfferRequest(user_id=user, placement_ids=["home"])
    response = await stub.GetOffer(request, wait_for_ready=True, timeout=kit.PATIENCE_S)
    return response.decisions[0]


async def until_all(
    serving: kit.Serving, holds: Callable[[Decision], bool]
) -> list[Decision]:
    """Ask over all connections, without a pause and a failure, until all agree."""
    async with clients(serving) as stubs:
        for round_ in range(10_000):
            answers = await asyncio.gather(
                *(ask(stub, f"{round_}-{n}") for n, stub in enumerate(stubs))
            )
            if all(map(holds, answers)):
                return answers
    raise AssertionError("some worker never heard of it")


def test_a_changed_file_decides_on_all_workers_and_no_request_is_dropped(
    server: kit.Serving, tmp_path: Path
) -> None:
    # Given a server that shows tea
    asyncio.run(until_all(server, lambda d: d.offer_id == "tea"))

    # When the file changes while everybody asks
    other = CATALOGUE.replace("tea", "jam")
    (tmp_path / "catalogue.toml").write_text(other, encoding="utf-8")

    # Then both workers show jam, and none has failed to answer
    answers = asyncio.run(until_all(server, lambda d: d.offer_id == "jam"))
    assert len({answer.catalogue_version for answer in answers}) == 1

    # And it is recorded who did it, and what was changed
    said = run(tmp_path, "loads")
    assert "the file changed" in said
    assert "offers.jam" in said


def test_a_bad_file_is_refused_and_the_old_catalogue_stays(
    server: kit.Serving, tmp_path: Path
) -> None:
    # When the file no longer makes sense
    wrong = CATALOGUE.replace("placements", "placmeents")
    (tmp_path / "catalogue.toml").write_text(wrong, encoding="utf-8")

    # Then that is recorded with the line, and tea is shown as before
    said = kit.eventually(lambda: refused(tmp_path))
    assert "line 5" in said
    asyncio.run(until_all(server, lambda d: d.offer_id == "tea"))

    # And once it is right again, it is taken into use
    right = CATALOGUE.replace("tea", "jam")
    (tmp_path / "catalogue.toml").write_text(right, encoding="utf-8")
    asyncio.run(until_all(server, lambda d: d.offer_id == "jam"))


def refused(folder: Path) -> str:
    said = run(folder, "loads")
    return said if "refused" in said else ""


@pytest.mark.timeout(120)
def test_a_stop_reaches_all_workers_and_what_was_not_shown_yet(
    server: kit.Serving, tmp_path: Path
) -> None:
    stopped = Reason.Value("REASON_STOPPED")
    withdrawn = OfferState.Value("OFFER_STATE_WITHDRAWN")
    for scope in ("all", "offer:tea", "category:drinks", "placement:home"):
        # Given a decision for tea
        (decision, *_) = asyncio.run(until_all(server, lambda d: d.offer_id == "tea"))

        # When it is stopped, then all workers are silent and say why
        run(tmp_path, "stop", scope, "--reason", "a mistake")
        asyncio.run(until_all(server, lambda d: d.reason == stopped))

        # And the decision is withdrawn
        assert asyncio.run(check(server, decision)) == withdrawn
        assert "a mistake" in run(tmp_path, "stops")

        # And when it is resumed, tea is shown again
        run(tmp_path, "resume", scope)


async def check(serving: kit.Serving, decision: Decision) -> int:
    async with clients(serving) as (stub, *_):
        request = CheckDecisionRequest(decision_id=decision.decision_id)
        return int((await stub.CheckDecision(request)).offer_state)
