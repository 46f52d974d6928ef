"""Keeps a worker up to date: models, catalogues, stops, what is leased."""

from __future__ import annotations

import asyncio

import structlog

from policies.policy import Policy
from server import telemetry
from server.current import Current
from server.settings import Settings
from server.stores.base import ServingStore
from server.supplies import Supplies

__all__ = ["follow_changes", "follow_models", "tidy"]

_LOOK_S = 0.2
_TIDY_S = 0.5

_log = structlog.get_logger()


async def follow_models(
    current: Current,
    store: ServingStore,
    settings: Settings,
    *,
    once: bool = False,
) -> None:
    """Let the latest model decide, now or from now on."""
    loop = asyncio.get_running_loop()
    learner = settings.policy.learner_version
    while True:
        policy = current.policy
        epoch, _, position = policy.model.partition(".")
        try:
            snapshot = await store.latest_snapshot(
                learner, after=(int(epoch), int(position))
            )
            if snapshot is not None:
                current.policy = await loop.run_in_executor(
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


async def follow_changes(current: Current, store: ServingStore) -> None:
    """Let what is stopped, and the catalogue that is in use, take effect."""
    loop = asyncio.get_running_loop()
    compiling: asyncio.Task[None] | None = None
    tried = 0
    while True:
        try:
            current.stopped = await store.stopped()
            active = await store.active_catalogue()
            different = active.version != current.catalogue.version
            free = compiling is None or compiling.done()
            # What does not compile here is not tried again until there is another.
            if different and free and active.position != tried:
                tried = active.position
                # What is stopped is looked at while a large catalogue is compiled.
                compiling = loop.create_task(_switch(current, active.version))
        except Exception as error:  # noqa: BLE001 - what was true goes on
            _log.warning("no news of catalogues and stops", error=repr(error))
        await asyncio.sleep(_LOOK_S)


async def tidy(supplies: Supplies) -> None:
    """Give back what is leased and not needed, again and again."""
    while True:
        try:
            await supplies.tidy()
        except Exception as error:  # noqa: BLE001 - leases end by themselves
            _log.warning("inventories were not tidied", error=repr(error))
        await asyncio.sleep(_TIDY_S)


async def _switch(current: Current, version: str) -> None:
    try:
        current.catalogue = await current.catalogue_named(version)
        telemetry.CATALOGUE_LOADS.inc()
        _log.info("a new catalogue decides", version=version)
    except Exception as error:  # noqa: BLE001 - the old catalogue serves on
        _log.error("a catalogue was not taken into use", error=repr(error))
