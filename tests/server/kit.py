"""What tests through the wire are made of: a clock, a running server, a client.

The server is a real one, on a free port of the loopback address, over a real file;
only its clock is the test's.
"""

from __future__ import annotations

import itertools
import select
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import grpc.aio
import psutil
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from opportune.v1 import (
    DECISION_VIEW_FULL,
    CheckDecisionRequest,
    CheckDecisionResponse,
    Context,
    Decision,
    DecisionServiceStub,
    ExplainDecisionRequest,
    Explanation,
    GetOfferRequest,
    GetUserRequest,
    OfferState,
    Outcome,
    OutcomeKind,
    OutcomeResult,
    Reason,
    Rejection,
    ReportOutcomeRequest,
    User,
    UserServiceStub,
)
from policies import catalogue as catalogues
from policies.catalogue import Catalogue
from policies.policy import (
    EpsilonGreedy,
    LearnerSettings,
    LinUCBSettings,
    Policy,
    PolicySettings,
    PrioritySettings,
)
from policies.rewards import RewardSettings
from policies.toml import Duration
from server.current import Current
from server.following import follow_models
from server.learning import Learning
from server.settings import LearningSettings, ServerSettings, Settings, StoreSettings
from server.stores.base import ServingStore, TrainingStore
from server.stores.opening import (
    migrate_store,
    open_admin,
    open_serving,
    open_training,
)
from server.worker import Services, make_server

if TYPE_CHECKING:
    from opportune.v1.decision_service_pb2_grpc import DecisionServiceAsyncStub
    from opportune.v1.user_service_pb2_grpc import UserServiceAsyncStub

_T = TypeVar("_T")

NOON_MS = 1_795_262_400_000
"""A noon in UTC."""

SECOND_MS = 1_000
MINUTE_MS = 60 * SECOND_MS
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS

SHOWN = OutcomeKind.Value("OUTCOME_KIND_SHOWN")
NOT_SHOWN = OutcomeKind.Value("OUTCOME_KIND_NOT_SHOWN")
CLICKED = OutcomeKind.Value("OUTCOME_KIND_CLICKED")
ACCEPTED = OutcomeKind.Value("OUTCOME_KIND_ACCEPTED")
CONVERTED = OutcomeKind.Value("OUTCOME_KIND_CONVERTED")
DISMISSED = OutcomeKind.Value("OUTCOME_KIND_DISMISSED")
SNOOZED = OutcomeKind.Value("OUTCOME_KIND_SNOOZED")
VIEWED = OutcomeKind.Value("OUTCOME_KIND_VIEWED")
OPTED_OUT = OutcomeKind.Value("OUTCOME_KIND_OPTED_OUT")
IGNORED = OutcomeKind.Value("OUTCOME_KIND_IGNORED")
REFUNDED = OutcomeKind.Value("OUTCOME_KIND_REFUNDED")

_TRIES = 200
PATIENCE_S = 40.0
"""Longer than anything takes; nothing waits for it to pass."""


SETTINGS = """
[server]
address = "127.0.0.1:0"
drain = "1s"

[policy.exploration]
kind = "epsilon_greedy"
epsilon = 0.5

[learning]
poll = "20ms"
publish = "50ms"
"""
"""Settings of a server process."""


class Clock:
    """Says the time that the test set."""

    def __init__(self, now_ms: int = NOON_MS) -> None:
        self.now_ms = now_ms

    def __call__(self) -> int:
        return self.now_ms

    def advance(self, span_ms: int) -> None:
        self.now_ms += span_ms


@dataclass
class Shop:
    """A running server, a client of it, and what is inside."""

    stub: DecisionServiceAsyncStub
    users: UserServiceAsyncStub
    channel: grpc.aio.Channel
    services: Services
    store: ServingStore
    settings: Settings
    path: Path
    clock: Clock
    address: str
    name: str = "request"
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    async def ask(
        self,
        user_id: str = "ada",
        *placement_ids: str,
        request_id: str = "",
        context: Context | None = None,
        **fields: Any,
    ) -> Decision:
        """Ask once, for everything there is to know."""
        request = self.request(
            user_id, *placement_ids, request_id=request_id, context=context, **fields
        )
        (decision,) = (await self.stub.GetOffer(request)).decisions
        return decision

    def request(
        self,
        user_id: str = "ada",
        *placement_ids: str,
        request_id: str = "",
        **fields: Any,
    ) -> GetOfferRequest:
        """Return a request of its own for everything there is to know."""
        return GetOfferRequest(
            request_id=request_id or f"{self.name}-{next(self._numbers)}",
            user_id=user_id,
            placement_ids=placement_ids or ["home"],
            **({"view": DECISION_VIEW_FULL} | fields),
        )

    async def choose(
        self, most: int, user_id: str = "ada", *placement_ids: str, **fields: Any
    ) -> list[Decision]:
        """Ask once for several offers."""
        request = self.request(user_id, *placement_ids, **fields, max_decisions=most)
        return list((await self.stub.GetOffer(request)).decisions)

    async def explain(self, decision: Decision | str) -> Explanation:
        """Ask why a decision was as it was."""
        request = ExplainDecisionRequest(decision_id=id_of(decision))
        return await self.stub.ExplainDecision(request)

    async def check(self, decision: Decision | str) -> CheckDecisionResponse:
        """Ask whether a decision still stands."""
        request = CheckDecisionRequest(decision_id=id_of(decision))
        return await self.stub.CheckDecision(request)

    async def standing(self, decision: Decision | str) -> tuple[str, str]:
        """Return the state of a decided offer, and why it may not be shown."""
        answer = await self.check(decision)
        return state_of(answer), reason_of(answer)

    async def told(self, request: Any) -> Any:
        """Tell something of a user, by the call that takes it."""
        method = type(request).__name__.removesuffix("Request")
        return await getattr(self.users, method)(request)

    async def user(self, user_id: str = "ada", account_id: str = "") -> User:
        """Ask what is remembered of a user."""
        request = GetUserRequest(user_id=user_id, account_id=account_id)
        return await self.users.GetUser(request)

    async def offered(
        self,
        user_id: str = "ada",
        offer_id: str = "",
        *placement_ids: str,
        **fields: Any,
    ) -> Decision:
        """Ask until the draw falls on an offer; silence changes nothing."""
        if offer_id:
            fields["offer_ids"] = [offer_id]
        for _ in range(_TRIES):
            decision = await self.ask(user_id, *placement_ids, **fields)
            if decision.offer_id:
                return decision
        raise AssertionError(f"no offer in {_TRIES} draws: {decision}")

    async def report(
        self, decision: Decision | str, *kinds: int, at_ms: int | None = None
    ) -> list[OutcomeResult]:
        """Report outcomes that are named after their kinds."""
        outcomes = [outcome(kind, at_ms=at_ms) for kind in kinds]
        return await self.tell(decision, *outcomes)

    async def tell(
        self, decision: Decision | str, *outcomes: Outcome
    ) -> list[OutcomeResult]:
        """Report outcomes as they are."""
        request = ReportOutcomeRequest(decision_id=id_of(decision), outcomes=outcomes)
        return list((await self.stub.ReportOutcome(request)).results)

    def count(self, view: str) -> int:
        """Return how many rows others can read."""
        sql = f"select count(*) from {view}"  # noqa: S608 - our own names
        return int(rows(self.path, sql)[0][0])

    def counts(self) -> dict[str, int]:
        """Return how many rows of everything that serving writes there are."""
        return {
            table: self.count(table)
            for table in ("decision", "outcome", "history", "joined", "resolution")
        }

    async def follow(self) -> None:
        """Take the latest model up."""
        await follow_models(self.services.current, self.store, self.settings, once=True)


def outcome(kind: int, *, at_ms: int | None = None, **fields: Any) -> Outcome:
    """Make an outcome that is named after its kind."""
    if at_ms is not None:
        fields["occur_time"] = timestamp(at_ms)
    name = OutcomeKind.Name(kind)  # type: ignore[arg-type] # An int is one of them.
    given: dict[str, Any] = {"outcome_id": name, "kind": kind}
    return Outcome(**(given | fields))


def id_of(decision: Decision | str) -> str:
    return decision if isinstance(decision, str) else decision.decision_id


def reason_of(message: Decision | Rejection | CheckDecisionResponse) -> str:
    """Return the reason that something gives; nothing where it gives none."""
    if message.reason == Reason.REASON_UNSPECIFIED:
        return ""
    return Reason.Name(message.reason).removeprefix("REASON_")


def state_of(message: OutcomeResult | CheckDecisionResponse) -> str:
    """Return the state of an offer, as it is called."""
    return OfferState.Name(message.offer_state).removeprefix("OFFER_STATE_")


def candidates(decision: Decision) -> set[str]:
    """Return the offers that could have been chosen; silence is always one."""
    return {candidate.offer_id for candidate in decision.candidates} - {""}


def reasons(decision: Decision | Explanation) -> dict[str, str]:
    """Return by offer why it could not be chosen; no offer for two reasons."""
    found: dict[str, str] = {}
    for rejection in decision.rejections:
        reason = reason_of(rejection)
        assert found.setdefault(rejection.offer_id, reason) == reason, decision
    return found


def timestamp(at_ms: int) -> Timestamp:
    return Timestamp(seconds=at_ms // 1_000, nanos=at_ms % 1_000 * 1_000_000)


def ms(stamp: Timestamp) -> int:
    return stamp.seconds * 1_000 + stamp.nanos // 1_000_000


def rows(path: Path, sql: str, *values: object) -> list[tuple[Any, ...]]:
    """Read the file as somebody else would."""
    connection = sqlite3.connect(path, timeout=10.0)
    try:
        return connection.execute(sql, values).fetchall()
    finally:
        connection.close()


def settings_of(
    path: Path,
    *,
    learner: LearnerSettings | None = None,
    epsilon: float = 0.3,
    rewards: RewardSettings | None = None,
    in_flight_max: int = 2_000,
) -> Settings:
    return Settings(
        server=ServerSettings(
            address="127.0.0.1:0",
            tenant="shop",
            drain=Duration(1_000),
            in_flight_max=in_flight_max,
        ),
        store=StoreSettings(f"sqlite:///{path}"),
        policy=PolicySettings(
            learner or LinUCBSettings(), EpsilonGreedy(epsilon=epsilon)
        ),
        rewards=rewards or RewardSettings(),
        learning=LearningSettings(poll=Duration(20), publish=Duration(20)),
    )


def eager(path: Path) -> Settings:
    """Settings of a server that always makes the offer of the highest priority."""
    return settings_of(path, learner=PrioritySettings(), epsilon=0.0)


@asynccontextmanager
async def running(
    path: Path,
    catalogue_text: str,
    clock: Clock,
    settings: Settings,
    name: str = "request",
) -> AsyncIterator[Shop]:
    """Run a server in this process, as a worker would; requests begin with `name`."""
    migrate_store(settings.store.url)
    catalogue = catalogues.read(catalogue_text)
    _activate(settings, catalogue, clock.now_ms)
    store = open_serving(settings.store.url)
    for each in settings.deciding:
        await store.register(
            (catalogue.version, catalogue.text), (each.version, each.to_json())
        )
    policy = Policy(settings.baseline or settings.policy)
    current = Current(store, catalogue, policy, await store.stopped())
    services = Services(
        store,
        current,
        tenant=settings.server.tenant,
        clock=clock,
        guard=settings.guard,
    )
    server, _ = await make_server(services, settings)
    port = server.add_insecure_port(settings.server.address)
    await server.start()
    address = f"127.0.0.1:{port}"
    async with grpc.aio.insecure_channel(address) as channel:
        yield Shop(
            DecisionServiceStub(channel),
            UserServiceStub(channel),
            channel,
            services,
            store,
            settings,
            path,
            clock,
            address,
            name,
        )
    await server.stop(0)
    await services.close()


def _activate(settings: Settings, catalogue: Catalogue, at_ms: int) -> None:
    admin = open_admin(settings.store.url)
    try:
        if admin.active_catalogue().version != catalogue.version:
            admin.activate(
                catalogue.version,
                catalogue.text,
                at_ms=at_ms,
                who="test",
                reason="",
                diff="",
            )
    finally:
        admin.close()


async def change_catalogue(shop: Shop, text: str) -> None:
    """Take another catalogue into use, as a worker does when it hears of it."""
    current = shop.services.current
    catalogue = catalogues.read(text, previous=current.catalogue.spec)
    _activate(shop.settings, catalogue, shop.clock.now_ms)
    current.catalogue = catalogue


async def stop(shop: Shop, scope: str, *, resume: bool = False) -> None:
    """Switch something off, or on again, as an operator does."""
    admin = open_admin(shop.settings.store.url)
    try:
        change = admin.resume if resume else admin.stop
        change(scope, who="test", reason="", at_ms=shop.clock.now_ms)
    finally:
        admin.close()
    shop.services.current.stopped = await shop.store.stopped()


@contextmanager
def learning_over(
    settings: Settings, clock: Callable[[], int]
) -> Iterator[tuple[Learning, TrainingStore]]:
    """Be the learner of a store."""
    store = open_training(settings.store.url)
    try:
        yield (
            Learning(
                store,
                settings.policy,
                settings.rewards,
                keep=settings.learning.snapshots,
                clock=clock,
                settings=settings,
            ),
            store,
        )
    finally:
        store.close()


def learn_all(learning: Learning) -> None:
    """Learn until there is nothing left to learn, and publish."""
    while learning.step():
        pass
    learning.publish()


@dataclass(frozen=True)
class Refusal:
    """A status with its details, unpacked."""

    code: grpc.StatusCode
    message: str
    info: error_details_pb2.ErrorInfo
    fields: dict[str, str]
    retry_after_s: float | None


def kind_of(name: str) -> int:
    """Return the number of a kind of outcome."""
    return OutcomeKind.Value(f"OUTCOME_KIND_{name}")


def name_of(kind: int) -> str:
    """Return the name of a kind of outcome."""
    return OutcomeKind.Name(kind).removeprefix("OUTCOME_KIND_")  # type: ignore[arg-type] # An int is one of them.


async def refused(call: Awaitable[object]) -> Refusal:
    """Make a call that must fail, and return how it did."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return unpacked(caught.value)


def unpacked(error: grpc.aio.AioRpcError) -> Refusal:
    status = rpc_status.from_call(error)  # type: ignore[arg-type] # It has what it takes.
    assert status is not None, f"no details: {error!r}"
    info = error_details_pb2.ErrorInfo()
    bad = error_details_pb2.BadRequest()
    retry = error_details_pb2.RetryInfo()
    for message in (info, bad, retry):
        for detail in status.details:
            detail.Unpack(message)
    delay = retry.retry_delay
    return Refusal(
        error.code(),
        error.details() or "",
        info,
        {v.field: v.description for v in bad.field_violations},
        delay.ToNanoseconds() / 1e9 if retry.HasField("retry_delay") else None,
    )


@dataclass
class Serving:
    """`opportune-server serve`, as a process of its own."""

    process: subprocess.Popen[str]
    address: str
    path: Path

    def children(self, command: str) -> list[psutil.Process]:
        """Return the processes that it started for this, `work` or `learn`."""
        found = []
        for child in psutil.Process(self.process.pid).children():
            with suppress(psutil.Error):
                if command in child.cmdline():
                    found.append(child)
        return found


def write_settings(folder: Path, catalogue_text: str, settings_text: str = "") -> Path:
    """Write a catalogue and settings that name it; return the settings' path."""
    (folder / "catalogue.toml").write_text(catalogue_text, encoding="utf-8")
    path = folder / "settings.toml"
    path.write_text(settings_text, encoding="utf-8")
    return path


@contextmanager
def serving(settings_path: Path) -> Iterator[Serving]:
    """Start the server as a process, and leave none behind."""
    command = [sys.executable, "-m", "server", "serve", "-s", str(settings_path)]
    log = settings_path.with_suffix(".log").open("a", encoding="utf-8")
    with (
        log,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, text=True
        ) as process,
    ):
        try:
            line = line_of(process)
            assert line.startswith("serving on "), (line, log_of(settings_path))
            path = settings_path.parent / "opportune.db"
            yield Serving(process, line.removeprefix("serving on ").strip(), path)
        finally:
            end(process)


def log_of(settings_path: Path) -> str:
    """Return what the server said on its standard error."""
    return settings_path.with_suffix(".log").read_text(encoding="utf-8")


def line_of(process: subprocess.Popen[str]) -> str:
    """Return the next line that a process writes; empty where it ended."""
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], PATIENCE_S)
    assert ready, "the process says nothing"
    return process.stdout.readline()


def end(process: subprocess.Popen[str]) -> None:
    """Stop a process politely, then not, and all that it had started."""
    children: list[psutil.Process] = []
    with suppress(psutil.Error):
        children = psutil.Process(process.pid).children(recursive=True)
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        process.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(PATIENCE_S)
    _, alive = psutil.wait_procs(children, timeout=PATIENCE_S)
    for child in alive:
        child.kill()
    assert not alive, f"processes were left behind: {alive}"


def eventually(holds: Callable[[], _T]) -> _T:
    """Wait until something is so, and return it."""
    give_up = time.monotonic() + PATIENCE_S
    while not (value := holds()):
        assert time.monotonic() < give_up, f"still not so: {holds}"
        time.sleep(0.01)
    return value
