"""Runs servers in this process, at a time that the script says."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import grpc.aio
import msgspec

from examples.scenarios.wire import Told
from opportune.v1 import (
    BeginCriticalRequest,
    DecisionServiceStub,
    EndCriticalRequest,
    RecordEventRequest,
    SetPreferencesRequest,
    SetUserStateRequest,
    UserServiceStub,
)
from policies.catalogue import Catalogue
from policies.policy import EpsilonGreedy, Policy, PolicySettings
from policies.rewards import RewardSettings
from server.accounting import revenue
from server.activation import load
from server.current import Current
from server.following import follow_models
from server.learning import Learning
from server.settings import Settings, StoreSettings, read_settings
from server.stores.base import TrainingStore
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

__all__ = [
    "Clock",
    "Prepared",
    "Served",
    "by_learning",
    "by_priority",
    "prepare",
    "serving",
]

_SETTINGS = Path(__file__).with_name("settings.toml")
_STREAM_MAX = 10_000


class Clock:
    """Says the time that the script has reached, in milliseconds since 1970."""

    def __init__(self, now_ms: int) -> None:
        self.now_ms = now_ms

    def __call__(self) -> int:
        """Return the time."""
        return self.now_ms


class Served:
    """A server that is up.

    Attributes:
        decisions: A client of its decisions.
        users: A client of what it is told of users.
        interrupting: The placements that interrupt.
        clock: Its time.
    """

    def __init__(
        self,
        channel: grpc.aio.Channel,
        clock: Clock,
        services: Services,
        *,
        learning: Learning,
        store: TrainingStore,
        settings: Settings,
    ) -> None:
        self.decisions: DecisionServiceAsyncStub = DecisionServiceStub(channel)
        self.users: UserServiceAsyncStub = UserServiceStub(channel)
        placements = services.current.catalogue.placements.items()
        interrupting = [name for name, p in placements if p.spec.interrupts]
        self.interrupting = frozenset(interrupting)
        self.clock = clock
        self._services = services
        self._learning = learning
        self._store = store
        self._settings = settings

    async def keep_up(self) -> None:
        """Do what a worker does every half a second, now that time has gone on."""
        await self._services.supplies.tidy()

    async def tell(self, request: Told) -> None:
        """Tell something of a user or an account."""
        match request:
            case SetUserStateRequest():
                await self.users.SetUserState(request)
            case SetPreferencesRequest():
                await self.users.SetPreferences(request)
            case BeginCriticalRequest():
                await self.users.BeginCritical(request)
            case EndCriticalRequest():
                await self.users.EndCritical(request)
            case RecordEventRequest():
                await self.users.RecordEvent(request)

    async def learn(self) -> None:
        """Do what the learner does all the time, and let its model decide."""
        while self._learning.step():
            pass
        self._learning.publish()
        current, store = self._services.current, self._services.store
        await follow_models(current, store, self._settings, once=True)

    def earned(self, decision_id: str) -> float | None:
        """Return what a decision has taught by now; none where it is open."""
        while self._learning.step():
            pass
        rewards = [
            row.resolution.reward
            for row in self._store.stream(self._store.epoch(), 0, _STREAM_MAX)
            if row.decision.opportunity.decision_id == decision_id
        ]
        return rewards[-1] if rewards else None

    def sold(self, decision_id: str) -> dict[str, object]:
        """Return the last row about a decision in the table of revenue, by column."""
        admin = open_admin(self._settings.store.url)
        try:
            rows = [
                msgspec.structs.asdict(row)
                for row in revenue(admin, self._settings.rewards)
                if row.decision_id == decision_id
            ]
        finally:
            admin.close()
        return rows[-1] if rows else {}


class Prepared(NamedTuple):
    """A catalogue that is in use in a store; each server has a copy of it.

    Attributes:
        store: The file of the store, in which nothing has happened yet.
    """

    catalogue: Catalogue
    store: Path


def prepare(folder: Path, catalogue: str, at_ms: int) -> Prepared:
    """Make a store, and take a catalogue into use in it.

    Args:
        folder: Where; an empty one.
        catalogue: The text of the catalogue.
        at_ms: The time.

    Raises:
        CatalogueError: If anything in the catalogue is wrong.
    """
    folder.mkdir()
    file, store = folder / "catalogue.toml", folder / "store.db"
    file.write_text(catalogue, encoding="utf-8")
    url = _url(store)
    migrate_store(url)
    admin = open_admin(url)
    try:
        loaded = load(file, admin, who="the script", reason="", at_ms=at_ms)
    finally:
        admin.close()
    return Prepared(loaded.catalogue, store)


@asynccontextmanager
async def serving(
    prepared: Prepared, name: str, clock: Clock, settings: Settings
) -> AsyncIterator[Served]:
    """Serve over a copy of a store, as a worker and a learner of the server do.

    Args:
        prepared: What to serve.
        name: What to call the copy; no other has that name.
        clock: The server's time.
        settings: How; the store is the copy, whatever they say.
    """
    store = prepared.store.with_name(f"{name}.db")
    shutil.copyfile(prepared.store, store)
    settings = msgspec.structs.replace(settings, store=StoreSettings(_url(store)))
    services = await _services(settings, prepared.catalogue, clock)
    training = open_training(settings.store.url)
    learning = Learning(
        training,
        settings.policy,
        settings.rewards,
        keep=settings.learning.snapshots,
        clock=clock,
        settings=settings,
    )
    server, _ = await make_server(services, settings)
    port = server.add_insecure_port(settings.server.address)
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield Served(
                channel,
                clock,
                services,
                learning=learning,
                store=training,
                settings=settings,
            )
    finally:
        await server.stop(settings.server.drain / 1_000)
        await services.close()
        training.close()


def by_priority(rewards: RewardSettings) -> Settings:
    """Return settings by which what comes is certain."""
    return msgspec.structs.replace(read_settings(_SETTINGS), rewards=rewards)


def by_learning(rewards: RewardSettings, explores: float = 0.01) -> Settings:
    """Return settings by which the default policy decides, and learns."""
    policy = PolicySettings(exploration=EpsilonGreedy(explores))
    return msgspec.structs.replace(by_priority(rewards), policy=policy)


async def _services(settings: Settings, catalogue: Catalogue, clock: Clock) -> Services:
    store, policy = open_serving(settings.store.url), Policy(settings.policy)
    await store.register(
        (catalogue.version, catalogue.text),
        (policy.version, settings.policy.to_json()),
    )
    current = Current(store, catalogue, policy, await store.stopped())
    return Services(store, current, tenant=settings.server.tenant, clock=clock)


def _url(store: Path) -> str:
    return f"sqlite:///{store}"
