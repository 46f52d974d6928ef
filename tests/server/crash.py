"""Kills the learner and the server at their worst moments, and looks at what is left.

The tests run a few rounds of each; `python -m tests.server.crash campaign --rounds 200`
runs as many as one likes.

A learner is killed at one of its SQL statements, by itself, with SIGKILL: that is
every point at which something may be half-written. A server's workers and its learner
are killed from outside at any moment, while clients are reporting to it.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import grpc.aio
import typer

from opportune.v1 import (
    DecisionServiceStub,
    GetOfferRequest,
    ReportOutcomeRequest,
)
from policies import catalogue as catalogues
from policies.health import check as check_fit
from policies.identity import decision_id, root_key
from policies.model import NO_HISTORY, Context, Decision, Opportunity, Outcome
from policies.policy import Policy, PolicySettings
from policies.training import fold as learned
from server import learning as learning_module
from server.learning import Learning
from server.reporting import Report, fold_of
from server.settings import read_settings
from server.stores.base import StoredPast, Versioned
from server.stores.opening import migrate_store, open_serving, open_training
from server.stores.sqlite import SQLiteTraining
from server.telemetry import configure_log
from tests.server import kit

CATALOGUE = """
currency = "EUR"
[placements.home]
[offers.tea]
placements = ["home"]
caps = [{ limit = 1 }]
[offers.jam]
placements = ["home"]
caps = [{ limit = 3 }]
"""
NEVER = StoredPast(Versioned(0, NO_HISTORY), None)
LATER_MS = kit.NOON_MS + kit.DAY_MS
BATCH = 40
_DEADLINE_S = 2.0


# --- The learner ------------------------------------------------------------------


async def fill(settings_path: Path, count: int) -> None:
    """Make a store with so many decisions, most of which something is known of."""
    settings = read_settings(settings_path)
    migrate_store(settings.store.url)
    store = open_serving(settings.store.url)
    catalogue = catalogues.read(CATALOGUE)
    policy = settings.policy
    await store.register(
        (catalogue.version, catalogue.text), (policy.version, policy.to_json())
    )
    made = [_decision(number, catalogue.version, policy) for number in range(count)]
    await asyncio.gather(*(store.commit(d, seen=NEVER, after=None) for d in made))
    for number, decision in enumerate(made):
        fold = fold_of(Report(decision, catalogue), catalogue.memory)
        outcomes = list(_outcomes(number, decision))
        await store.report(decision, outcomes, fold, account=False)
    await store.close()


def _decision(number: int, version: str, policy: PolicySettings) -> Decision:
    user = f"user-{number}"
    name = decision_id(root_key("shop", "", user), user, "request")
    segment = ("teens", "adults")[number % 2]
    opportunity = Opportunity(
        name, kit.NOON_MS, user, ("home",), context=Context(segment=segment)
    )
    return Decision(
        opportunity=opportunity,
        catalogue=version,
        policy=policy.version,
        model="0.0",
        actions=(0, 1, 2),
        probabilities=(200_000_000, 300_000_000, 500_000_000),
        chosen=number % 3,
        valid_until_ms=kit.NOON_MS + kit.HOUR_MS,
    )


def _outcomes(number: int, decision: Decision) -> Iterator[Outcome]:
    at_ms = decision.opportunity.at_ms
    if number % 7:
        yield Outcome("shown", "shown", at_ms)
    if number % 5 == 0:
        yield Outcome("converted", "converted", at_ms + 1)
    if decision.chosen and number % 4 == 0:
        yield Outcome("dismissed", "dismissed", at_ms + 2)


class _Doomed(SQLiteTraining):
    """A store that kills its process at a statement."""

    def __init__(self, path: Path, statement: int) -> None:
        super().__init__(path)
        left = statement

        def count(_: str) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        if statement:
            self._connection.set_trace_callback(count)


def learn(settings_path: Path, *, statement: int = 0) -> None:
    """Learn all there is, publishing after each step, or die at a statement."""
    learning_module._BATCH = BATCH
    settings = read_settings(settings_path)
    path = Path(settings.store.url.removeprefix("sqlite:///"))
    store = _Doomed(path, statement)
    learning = Learning(
        store,
        settings.policy,
        settings.rewards,
        keep=settings.learning.snapshots,
        clock=lambda: LATER_MS,
        settings=settings,
    )
    while learning.step():
        learning.publish()
    store.close()


def lives(settings_path: Path, statements: Sequence[int]) -> int:
    """Learn, one life after another, each of which ends at a statement.

    The last of them is repeated until there is nothing left to learn.

    Returns:
        How many lives were ended.
    """
    arguments = ["lives", str(settings_path), *map(str, statements)]
    command = [sys.executable, "-m", "tests.server.crash", *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return int(done.stdout)


def _live(settings_path: Path, statement: int) -> bool:
    """Learn in a copy of this process; say whether it was killed."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            learn(settings_path, statement=statement)
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    killed = os.WIFSIGNALED(status)
    assert killed or os.WEXITSTATUS(status) == 0, status
    return killed


def body(settings_path: Path) -> tuple[int, bytes]:
    """Return the position and the bytes of the last snapshot."""
    settings = read_settings(settings_path)
    store = open_training(settings.store.url)
    snapshot = store.latest_snapshot(settings.policy.learner_version)
    store.close()
    assert snapshot is not None
    return snapshot.position, snapshot.body


def folded(settings_path: Path) -> tuple[int, bytes]:
    """Fold the whole training stream from nothing, in one go."""
    settings = read_settings(settings_path)
    store = open_training(settings.store.url)
    policy = Policy(settings.policy)
    catalogue = catalogues.read(CATALOGUE)
    rows = store.stream(store.epoch(), 0, 1_000_000)
    for row in rows:
        learned(policy, row.resolution, row.decision, catalogue)
    store.close()
    assert [row.position for row in rows] == list(range(1, len(rows) + 1))
    return len(rows), policy.save()


def pointers(settings_path: Path) -> list[str]:
    """Return what serves of every learner, all of it whole; fail if any is not."""
    settings = read_settings(settings_path)
    store = open_training(settings.store.url)
    found: list[str] = []
    for policy in settings.policies.values():
        release = store.release(policy.learner_version)
        assert release is not None
        serving = store.latest_snapshot(
            policy.learner_version, before=release.serving[1] + 1
        )
        assert serving is not None
        assert serving.version == release.serving
        check_fit(Policy(policy, serving.body), catalogues.read(CATALOGUE))
        found.append(serving.model)
    store.close()
    return found


def stream(settings_path: Path) -> list[tuple[object, ...]]:
    """Return the training stream as others read it."""
    settings = read_settings(settings_path)
    path = Path(settings.store.url.removeprefix("sqlite:///"))
    return kit.rows(path, "select * from resolutions_v1 order by epoch, position")


# --- The server -------------------------------------------------------------------


@dataclass
class Reports:
    """What clients were told, and what they had asked."""

    kinds: tuple[int, ...] = (kit.SHOWN,)
    acknowledged: set[tuple[str, str]] = field(default_factory=set)
    answered: dict[tuple[str, str], str] = field(default_factory=dict)
    offered: Counter[tuple[str, str]] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)


async def use(address: str, reports: Reports, *, user: str, requests: int) -> None:
    """Be a product server: ask, report, and try again whatever fails."""
    async with grpc.aio.insecure_channel(address) as channel:
        stub = DecisionServiceStub(channel)
        for number in range(requests):
            request = GetOfferRequest(
                request_id=str(number), user_id=user, placement_ids=["home"]
            )
            while True:
                try:
                    response = await stub.GetOffer(
                        request, timeout=_DEADLINE_S, wait_for_ready=True
                    )
                    break
                except grpc.aio.AioRpcError as error:
                    reports.refused[error.code().name] += 1
            (decision,) = response.decisions
            key = (user, str(number))
            assert reports.answered.setdefault(key, decision.decision_id)
            if decision.offer_id:
                reports.offered[user, decision.offer_id] += 1
            report = ReportOutcomeRequest(
                decision_id=decision.decision_id,
                outcomes=[kit.outcome(kind) for kind in reports.kinds],
            )
            while True:
                try:
                    await stub.ReportOutcome(
                        report, timeout=_DEADLINE_S, wait_for_ready=True
                    )
                    break
                except grpc.aio.AioRpcError as error:
                    reports.refused[error.code().name] += 1
            reports.acknowledged.update(
                (decision.decision_id, outcome.outcome_id)
                for outcome in report.outcomes
            )


async def use_and_kill(
    serving: kit.Serving,
    *,
    users: int,
    requests: int,
    kills: int,
    seed: int,
    reports: Reports | None = None,
    commands: Sequence[str] = ("work",),
) -> Reports:
    """Let users use a server while its processes are killed, one after another.

    Args:
        serving: The server.
        users: How many users there are.
        requests: How often each asks.
        kills: How often a process is killed.
        seed: What makes the moments random.
        reports: What the users say, and where what they are told is noted.
        commands: Which processes take turns in being killed, `work` or `learn`.
    """
    generator = random.Random(seed)
    reports = Reports() if reports is None else reports
    using = asyncio.gather(
        *(
            use(serving.address, reports, user=f"user-{n}", requests=requests)
            for n in range(users)
        )
    )
    total = users * requests
    for kill in range(kills):
        goal = total * (kill + generator.random()) / (kills + 1)
        while len(reports.acknowledged) < goal and not using.done():  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        for child in serving.children(commands[kill % len(commands)])[:1]:
            with suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGKILL)
    await asyncio.wait_for(using, 60.0)
    return reports


def check(serving: kit.Serving, reports: Reports) -> None:
    """See that nothing acknowledged is lost, and that all caps were kept."""
    stored = set(
        kit.rows(serving.path, "select decision_id, outcome_id from outcomes_v1")
    )
    lost = reports.acknowledged - stored
    assert not lost, f"{len(lost)} acknowledged outcomes are lost"
    decided = {
        name
        for (name,) in kit.rows(serving.path, "select decision_id from decisions_v1")
    }
    assert set(reports.answered.values()) <= decided
    for (user, offer), count in reports.offered.items():
        assert count <= {"tea": 1, "jam": 3}[offer], (user, offer, count)
    in_log: Counter[tuple[str, int]] = Counter(
        kit.rows(
            serving.path,
            "select record ->> '$.opportunity.user_id', record ->> 'chosen'"
            " from decisions_v1 where record ->> 'chosen' > 0",
        )
    )
    for (user, chosen), count in in_log.items():
        assert count <= (1, 3)[chosen - 1], (user, chosen, count)
    (problems,) = kit.rows(serving.path, "pragma integrity_check")
    assert problems == ("ok",)


# --- The command ------------------------------------------------------------------

SETTINGS = """
[server]
address = "127.0.0.1:0"
workers = {workers}
drain = "1s"
{policy}
[learning]
poll = "20ms"
publish = "50ms"
snapshots = 3
"""

POLICY = """
[policy.learner]
kind = "{learner}"
[policy.exploration]
kind = "epsilon_greedy"
epsilon = 0.6
"""

DEFAULT = "default"
"""In the place of a learner: the policy of who sets none."""

CHALLENGER = """
[[challengers]]
name = "other"
[challengers.policy.learner]
kind = "linucb"
dim = 16
"""

app = typer.Typer(add_completion=False)


def settings_text(learner: str, *, workers: int = 1) -> str:
    """Return settings with a learner that is killed, or the default policy."""
    policy = "" if learner == DEFAULT else POLICY.format(learner=learner)
    return SETTINGS.format(workers=workers, policy=policy)


@app.command("lives")
def _lives(settings: Path, statements: list[int]) -> None:
    """Learn, one life after another, and print how many were ended."""
    configure_log()  # Standard output is for the number.
    ended = 0
    for statement in itertools.chain(statements, itertools.repeat(statements[-1])):
        killed = _live(settings, statement)
        ended += killed
        if not killed:
            break
    typer.echo(ended)


@app.command("campaign")
def campaign(
    rounds: Annotated[int, typer.Option(help="How many times to kill each.")] = 20,
    seed: Annotated[int, typer.Option(help="What makes the moments random.")] = 1,
    learners: Annotated[
        str, typer.Option(help="Which learners take turns, with commas between.")
    ] = f"{DEFAULT},linucb,vw",
) -> None:
    """Kill learners and servers, and say what was found."""
    generator = random.Random(seed)
    kinds = learners.split(",")
    total: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds):
            here = Path(folder) / str(number)
            text = settings_text(kinds[number % len(kinds)], workers=1 + number % 2)
            total += _killed_at_statements(here / "learner", text, generator)
            total += _killed_at_moments(here / "server", text, number)
            shutil.rmtree(here)
            typer.echo(f"round {number + 1} of {rounds}: nothing lost")
    for what, count in total.items():
        typer.echo(f"{count:,} {what}")


def _killed_at_statements(
    folder: Path, text: str, generator: random.Random
) -> Counter[str]:
    """Kill a learner at ten of its statements; say how much was compared."""
    folder.mkdir(parents=True)
    settings = kit.write_settings(folder, CATALOGUE, text)
    asyncio.run(fill(settings, 300))
    killed = lives(settings, [*(generator.randint(1, 120) for _ in range(9)), 150])
    position, _ = found = body(settings)
    assert found == folded(settings)
    pointers(settings)
    return Counter(
        {
            "kills of a learner at a statement": killed,
            "resolutions learned by learners killed there, into the same bytes": (
                position
            ),
        }
    )


def _killed_at_moments(folder: Path, text: str, seed: int) -> Counter[str]:
    """Kill a server's worker and its learner twice each, while they are at work."""
    folder.mkdir(parents=True)
    settings = kit.write_settings(folder, CATALOGUE, text)
    with kit.serving(settings) as serving:
        reports = asyncio.run(
            use_and_kill(
                serving,
                users=10,
                requests=20,
                kills=4,
                seed=seed,
                reports=Reports(kinds=(kit.SHOWN, kit.CONVERTED)),
                commands=("learn", "work"),
            )
        )
        check(serving, reports)
        kit.eventually(lambda: _all_learned(serving.path))
    position, _ = found = body(settings)
    assert found == folded(settings)
    pointers(settings)
    return Counter(
        {
            "kills of a server's learner at a moment": 2,
            "kills of a server's worker at a moment": 2,
            "resolutions learned by servers' learners, into the same bytes": position,
        }
    )


def _all_learned(path: Path) -> bool:
    """Say whether every decision that was reported of is in the latest model."""
    ((reported,),) = kit.rows(
        path, "select count(distinct decision_id) from outcomes_v1"
    )
    ((joined,),) = kit.rows(path, "select count(*) from resolutions_v1")
    ((learned,),) = kit.rows(path, "select max(position) from snapshot")
    return bool(reported <= joined == learned)


def main() -> None:
    """Run the command that was typed."""
    app()


if __name__ == "__main__":
    main()
