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

from opportune.v1 import decision_service_pb2
from policies import catalogue as catalogues
from policies.policy import Policy
from server import telemetry
from server.learning import Learning
from server.service import DecisionService, system_clock
from server.settings import Settings
from server.status import Guard
from server.stores.base import ServingStore
from server.stores.opening import open_serving, open_training

__all__ = ["READY", "follow_models", "learn", "make_server", "serve"]

READY = "ready"

_SERVICE = decision_service_pb2.DESCRIPTOR.services_by_name["DecisionService"]
_MAINTAIN_S = 0.5

_log = structlog.get_logger()


async def serve(settings: Settings, catalogue_text: str, *, index: int) -> None:
    """Serve until told to stop.

    Args:
        settings: The settings, with the address to listen on.
        catalogue_text: The text of the catalogue.
        index: Which of the workers this is, from 0.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop.set)
    _on_orphaned(lambda: loop.call_soon_threadsafe(stop.set))
    metrics = settings.metrics.port
    telemetry.serve_metrics(metrics + index if metrics else 0)
    store = open_serving(settings.store.url, on_failure=stop.set)
    catalogue = catalogues.read(catalogue_text, settings.catalogue.file)
    policy = settings.policy
    await store.register(
        (catalogue.version, catalogue.text), (policy.version, policy.to_json())
    )
    service = DecisionService(
        store, catalogue, Policy(policy), tenant=settings.server.tenant
    )
    await follow_models(service, store, settings, once=True)
    server, checks = await make_server(service, settings)
    if server.add_insecure_port(settings.server.address) == 0:
        raise RuntimeError(f"cannot listen on {settings.server.address}")
    await server.start()
    following = loop.create_task(follow_models(service, store, settings))
    _say(READY)
    await stop.wait()
    await checks.enter_graceful_shutdown()
    await server.stop(settings.server.drain / 1_000)
    following.cancel()
    await store.close()


async def make_server(
    service: DecisionService, settings: Settings
) -> tuple[grpc.aio.Server, health.aio.HealthServicer]:
    """Make a server of the service, with health checks and reflection."""
    server = grpc.aio.server(options=[("grpc.so_reuseport", 1)])
    guard = Guard(settings.server.in_flight_max)
    server.add_generic_rpc_handlers((guard.handler(_SERVICE, service),))
    checks = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    for name in ("", _SERVICE.full_name):
        await checks.set(name, health_pb2.HealthCheckResponse.SERVING)
    names = (_SERVICE.full_name, health.SERVICE_NAME, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server)
    return server, checks


async def follow_models(
    service: DecisionService,
    store: ServingStore,
    settings: Settings,
    *,
    once: bool = False,
) -> None:
    """Let the service decide by the latest model, now or from now on."""
    loop = asyncio.get_running_loop()
    learner = settings.policy.learner_version
    while True:
        policy = service.policy
        epoch, _, position = policy.model.partition(".")
        try:
            snapshot = await store.latest_snapshot(
                learner, after=(int(epoch), int(position))
            )
            if snapshot is not None:
                service.policy = await loop.run_in_executor(
                    None,
                    lambda s=snapshot, p=policy: Policy(  # type: ignore[misc]
                        settings.policy,
                        s.body,
                        model=s.model,
                        learned=s.position,
                        previous=p,
                    ),
                )
                telemetry.MODEL_POSITION.set(snapshot.position)
        except Exception as error:  # noqa: BLE001 - the old model serves on
            _log.warning("no new model", error=repr(error))
        if once:
            return
        await asyncio.sleep(settings.learning.poll / 1_000)


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
    )
    _say(READY)
    published = maintained = time.monotonic()
    while not stop.is_set():
        busy = learning.step()
        now = time.monotonic()
        if now - published >= settings.learning.publish / 1_000:
            learning.publish()
            published = now
        if now - maintained >= _MAINTAIN_S:
            store.maintain()
            maintained = now
        if not busy:
            stop.wait(settings.learning.poll / 1_000)
    learning.publish()
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
