"""The processes that do the work: one serves, one learns.

Each ends by itself when the process that started it does: it waits for the end of
its standard input. Once it is ready it says so on its standard output.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import Callable

import grpc.aio
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from opportune.v1 import decision_service_pb2, user_service_pb2
from policies import catalogue as catalogues
from policies.policy import Policy
from server import telemetry
from server.current import Current
from server.deciding import Decider
from server.following import follow_changes, follow_models, tidy
from server.learning import Learning
from server.service import DecisionService
from server.settings import GuardSettings, Settings
from server.status import Guard
from server.stores.base import ServingStore
from server.stores.opening import open_serving, open_training
from server.supplies import Supplies
from server.users import UserService

__all__ = [
    "READY",
    "Services",
    "learn",
    "make_server",
    "relearn",
    "serve",
    "system_clock",
]

READY = "ready"

_DECISIONS = decision_service_pb2.DESCRIPTOR.services_by_name["DecisionService"]
_USERS = user_service_pb2.DESCRIPTOR.services_by_name["UserService"]
_MAINTAIN_S = 0.5

_log = structlog.get_logger()


def system_clock() -> int:
    """Return the time in milliseconds since 1970."""
    return time.time_ns() // 1_000_000


class Services:
    """What a worker answers with, over one store.

    Args:
        store: The store.
        current: What is served now.
        tenant: Whose users these are.
        clock: Returns the time in milliseconds since 1970.
        guard: What is let in of what requests say; the defaults where left out.
    """

    def __init__(
        self,
        store: ServingStore,
        current: Current,
        *,
        tenant: str,
        clock: Callable[[], int] = system_clock,
        guard: GuardSettings | None = None,
    ) -> None:
        self.store = store
        self.current = current
        self.supplies = Supplies(store, clock)
        decider = Decider(store, self.supplies, current, clock)
        self.decisions = DecisionService(
            store,
            decider,
            current,
            tenant=tenant,
            clock=clock,
            guard=guard or GuardSettings(),
        )
        self.users = UserService(store, current, tenant=tenant, clock=clock)

    async def close(self) -> None:
        """Give back what is leased, and close the store."""
        await self.supplies.close()
        await self.store.close()


async def serve(settings: Settings, *, index: int) -> None:
    """Serve until told to stop.

    Args:
        settings: The settings, with the address to listen on.
        index: Which of the workers this is, from 0.

    Raises:
        RuntimeError: If there is no catalogue in use, or no address to listen on.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop.set)
    _on_orphaned(lambda: loop.call_soon_threadsafe(stop.set))
    metrics = settings.metrics.port
    telemetry.serve_metrics(metrics + index if metrics else 0)
    store = open_serving(settings.store.url, on_failure=stop.set)
    current = await _current(store, settings)
    services = Services(
        store, current, tenant=settings.server.tenant, guard=settings.guard
    )
    await follow_models(current, store, settings, once=True)
    server, checks = await make_server(services, settings)
    if server.add_insecure_port(settings.server.address) == 0:
        raise RuntimeError(f"cannot listen on {settings.server.address}")
    await server.start()
    following = [
        loop.create_task(task)
        for task in (
            follow_models(current, store, settings),
            follow_changes(current, store),
            tidy(services.supplies),
        )
    ]
    _say(READY)
    await stop.wait()
    await checks.enter_graceful_shutdown()
    await server.stop(settings.server.drain / 1_000)
    for task in following:
        task.cancel()
    await services.close()


async def _current(store: ServingStore, settings: Settings) -> Current:
    """Return what is to be served: the catalogue that was taken into use last."""
    active = await store.active_catalogue()
    text = await store.catalogue(active.version)
    if text is None:
        raise RuntimeError("no catalogue is in use; start it with `serve`")
    catalogue = catalogues.read(text, settings.catalogue.file, linted=False)
    for policy in settings.deciding:
        await store.register(
            (catalogue.version, catalogue.text), (policy.version, policy.to_json())
        )
    first = Policy(settings.baseline or settings.policy)
    return Current(store, catalogue, first, await store.stopped())


async def make_server(
    services: Services, settings: Settings
) -> tuple[grpc.aio.Server, health.aio.HealthServicer]:
    """Make a server of the services, with health checks and reflection."""
    server = grpc.aio.server(options=[("grpc.so_reuseport", 1)])
    guard = Guard(settings.server.in_flight_max)
    server.add_generic_rpc_handlers(
        (
            guard.handler(_DECISIONS, services.decisions),
            guard.handler(_USERS, services.users),
        )
    )
    checks = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    names = (_DECISIONS.full_name, _USERS.full_name)
    for name in ("", *names):
        await checks.set(name, health_pb2.HealthCheckResponse.SERVING)
    reflected = (*names, health.SERVICE_NAME, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(reflected, server)
    return server, checks


def learn(settings: Settings) -> None:
    """Learn until told to stop."""
    stop = threading.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: stop.set())
    _on_orphaned(stop.set)
    metrics = settings.metrics.port
    telemetry.serve_metrics(metrics + settings.server.workers if metrics else 0)
    store = open_training(settings.store.url)
    learning = Learning(
        store,
        settings.policy,
        settings.rewards,
        keep=settings.learning.snapshots,
        clock=system_clock,
        settings=settings,
    )
    _say(READY)
    published = maintained = time.monotonic()
    while not stop.is_set():
        busy = learning.step()
        now = time.monotonic()
        if now - published >= settings.learning.publish / 1_000:
            learning.publish()
            learning.watch()
            published = now
        if now - maintained >= _MAINTAIN_S:
            store.maintain()
            maintained = now
        if not busy:
            stop.wait(settings.learning.poll / 1_000)
    learning.publish()
    store.close()


def relearn(settings: Settings, watcher: Callable[[int, int], object]) -> None:
    """Learn what there is, a new epoch if one was asked for, and end.

    Args:
        settings: The settings.
        watcher: Is told how many rows of the stream were learned, of how many.

    Raises:
        RuntimeError: If a server learns on the same store.
    """
    store = open_training(settings.store.url)
    try:
        learning = Learning(
            store,
            settings.policy,
            settings.rewards,
            keep=settings.learning.snapshots,
            clock=system_clock,
            settings=settings,
        )
        learning.publish()
        rows = store.stream_length()
        while learning.step():
            watcher(learning.position, rows)
        learning.publish()
    finally:
        store.close()


def _say(line: str) -> None:
    """Tell the process that started this one."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _on_orphaned(stop: Callable[[], object]) -> None:
    """Call `stop` when standard input ends: who started this process is gone."""

    def wait() -> None:
        while os.read(sys.stdin.fileno(), 4096):
            pass
        stop()

    threading.Thread(target=wait, name="orphan", daemon=True).start()
