"""The example that `make demo` runs: its data, its story, all of it on a sample.

Servers are real: processes of their own, over gRPC, on a store in a temporary folder.
"""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest

from examples.hillstrom import audit
from examples.hillstrom.audit import caps_broken, lost
from examples.hillstrom.customers import read_customers, request, shuffled
from examples.hillstrom.process import ServerEndedError, serving
from examples.hillstrom.story import tell
from opportune.v1 import DecisionServiceStub

pytestmark = pytest.mark.timeout(180)  # Servers start in seconds, if nothing else runs.

DEMO = Path(__file__).parents[2] / "examples" / "hillstrom" / "demo.py"


def test_the_copy_is_the_experiment() -> None:
    customers = read_customers()

    found = {
        sent: (
            len(arm),
            sum(customer.visited for customer in arm),
            sum(customer.converted for customer in arm),
            sum(customer.spent_cents for customer in arm),
        )
        for sent in ("", "mens", "womens")
        for arm in [[customer for customer in customers if customer.sent == sent]]
    }
    assert found == {
        "": (21_306, 2_262, 122, 13_908_33),
        "mens": (21_307, 3_894, 267, 30_311_69),
        "womens": (21_387, 3_238, 189, 23_038_11),
    }
    assert np.mean([customer.visited for customer in customers]) == 0.14678125
    assert [customers[0].number, customers[-1].number] == [1, 64_000]


def test_a_seed_fixes_order_and_requests() -> None:
    customers = read_customers()
    first, again = (shuffled(customers, 7, 100) for _ in range(2))

    assert first == again
    assert first != shuffled(customers, 8, 100)
    assert request(first[0], 7) == request(again[0], 7)
    assert request(first[0], 7).request_id != request(first[0], 8).request_id


async def test_the_story_is_true(tmp_path: Path) -> None:
    said: list[str] = []
    async with serving(tmp_path) as server:
        async with server.channel() as channel:
            told = await tell(
                DecisionServiceStub(channel),
                1,
                learned=lambda shown: audit.until_learned(server.store, shown),
                say=said.append,
            )
        await server.stop()

    assert told.complete
    assert said == told.lines
    for answer in (
        "offered: more storage, propensity",
        "silence, DISMISSED; again in 7 days",
        "offered: team plan, propensity",
        "silence, FREQUENCY_CAP; again in 1 day",
        "reported accepted, 12.00 USD",
    ):
        assert any(answer in line for line in said), answer
    assert told.after["team_plan"] > told.before["team_plan"]
    assert told.after["more_storage"] < told.before["more_storage"]
    assert caps_broken(server.store) == 0
    assert lost(server.store, told.acknowledged) == 0
    assert lost(server.store, [("never made", "shown")]) == 1


async def test_work_ends_when_the_server_does(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        working = asyncio.ensure_future(server.during(asyncio.sleep(60)))
        await asyncio.sleep(0)
        await server.stop()
        with pytest.raises(ServerEndedError, match="ended with status"):
            await working


def test_the_demo_on_a_sample(tmp_path: Path) -> None:
    ended = run_demo("--customers", "1500", "--output", str(tmp_path))

    assert ended.stderr == ""
    assert ended.returncode == 0
    assert str(tmp_path / "demo.json") in ended.stdout
    assert (tmp_path / "demo.png").read_bytes().startswith(b"\x89PNG")
    figures = json.loads((tmp_path / "demo.json").read_text())
    assert figures["decisions"] == 1_500
    assert 400 < figures["matched"] < 600
    for name in ("learned", "uniform"):
        low, high = figures[name]["ci95"]
        assert 0 < low < figures[name]["visit_rate"] < high < 1
    assert figures["best_fixed"]["visit_rate"] > figures["uniform"]["visit_rate"]
    # So few rows may tell nothing of it: then that is told in the place of a number.
    for name in ("snips", "dr"):
        value = figures["frozen"][name]
        told = "Do not decide on the frozen policy's numbers" in ended.stdout
        assert isinstance(value, float) or (value is None and told)
    assert figures["caps_broken"] == 0
    assert figures["outcomes_lost"] == 0
    assert figures["unmatched_trained"] == 0
    assert figures["again_after_shown"][0] == 0
    assert figures["again_after_not_shown"][0] > 0
    measured = figures["get_offer"]
    assert 0 < measured["p50_ms"] <= measured["p99_ms"]
    assert measured["per_s"] > 0
    assert figures["replay"]["decisions"] == figures["replay"]["identical"]


def test_interrupted_the_demo_leaves_nothing_behind(tmp_path: Path) -> None:
    demo = start_demo("--output", str(tmp_path))
    try:
        assert demo.stdout is not None
        while "customers" not in demo.stdout.readline():
            assert demo.poll() is None
        started = psutil.Process(demo.pid).children(recursive=True)
        assert started
        demo.send_signal(signal.SIGINT)
        _, said = demo.communicate(timeout=30)
    finally:
        demo.kill()

    assert demo.returncode == 1
    assert "stopped" in said
    _, alive = psutil.wait_procs(started, timeout=10)
    assert alive == []
    assert not list(tmp_path.iterdir())


def run_demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    demo = start_demo(*arguments)
    try:
        stdout, stderr = demo.communicate(timeout=170)
    finally:
        demo.kill()
    return subprocess.CompletedProcess(demo.args, demo.returncode, stdout, stderr)


def start_demo(*arguments: str) -> subprocess.Popen[str]:
    # In the background shells have it ignored, which the demo would inherit.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    return subprocess.Popen(
        [sys.executable, str(DEMO), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
