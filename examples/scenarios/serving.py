"""Runs servers in this process, at a time that the script says."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import grpc.aio
import msgspec

from opportune.v1 import DecisionServiceStub, UserServiceStub
from policies.catalogue import Catalogue
from policies.policy import Policy
from server.activation import load
from server.current import Current
from server.settings import Settings, StoreSettings, read_settings
from server.stores.opening import migrate_store, open_admin, open_serving
from server.supplies import Supplies
from server.worker import Services, make_server

if TYPE_CHECKING:
    from opportune.v1.decision_service_pb2_grpc import DecisionServiceAsyncStub
    from opportune.v1.user_service_pb2_grpc import UserServiceAsyncStub

__all__ = ["Clock", "Prepared", "Served", "prepare", "serving"]

_SETTINGS = Path(__file__).with_name("settings.toml")


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
        supplies: Supplies,
        interrupting: frozenset[str],
    ) -> None:
        self.decisions: DecisionServiceAsyncStub = DecisionServiceStub(channel)
        self.users: UserServiceAsyncStub = UserServiceStub(channel)
        self.interrupting = interrupting
        self.clock = clock
        self._supplies = supplies

    async def keep_up(self) -> None:
        """Do what a worker does every half a second, now that time has gone on."""
        await self._supplies.tidy()


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
async def serving(prepared: Prepared, name: str, clock: Clock) -> AsyncIterator[Served]:
    """Serve over a copy of a store, as a worker of the server does.

    Args:
        prepared: What to serve.
        name: What to call the copy; no other has that name.
        clock: The server's time.
    """
    store = prepared.store.with_name(f"{name}.db")
    shutil.copyfile(prepared.store, store)
    settings = msgspec.structs.replace(
        read_settings(_SETTINGS), store=StoreSettings(_url(store))
    )
    services = await _services(settings, prepared.catalogue, clock)
    server, _ = await make_server(services, settings)
    port = server.add_insecure_port(settings.server.address)
    await server.start()
    placements = prepared.catalogue.placements.items()
    interrupting = [name for name, p in placements if p.spec.interrupts]
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield Served(channel, clock, services.supplies, frozenset(interrupting))
    finally:
        await server.stop(settings.server.drain / 1_000)
        await services.close()


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
