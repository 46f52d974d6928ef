"""Keeps a worker up to date: models, catalogues, stops, what is leased."""

from __future__ import annotations

import asyncio

import structlog

from policies.health import check
from policies.policy import Policy, PolicySettings
from policies.releasing import Model, Release, name_of
from server import telemetry
from server.current import Current, Lane
from server.settings import Settings
from server.stores.base import ServingStore, Snapshot
from server.supplies import Supplies

__all__ = ["follow_changes", "follow_models", "tidy"]

_LOOK_S = 0.2
_TIDY_S = 0.5
_NOTHING = "0.0"
"""The model of a policy that has learned nothing."""

_log = structlog.get_logger()


async def follow_models(
    current: Current,
    store: ServingStore,
    settings: Settings,
    *,
    once: bool = False,
) -> None:
    """Let the models that are to serve decide, now or from now on."""
    models = _Models(current, store, settings)
    while True:
        try:
            await models.look()
        except Exception as error:  # noqa: BLE001 - the old model serves on
            _log.warning("no news of models", error=repr(error))
        if once:
            return
        await asyncio.sleep(settings.learning.poll / 1_000)


class _Models:
    """Keeps the policies of a worker at the models that are to serve."""

    def __init__(
        self, current: Current, store: ServingStore, settings: Settings
    ) -> None:
        self._current = current
        self._store = store
        self._settings = settings
        self._refused: set[tuple[str, Model, int]] = set()
        self._seen: object = None

    async def look(self) -> None:
        """Take up what is to serve, where that has changed."""
        lineup = self._settings.lineup(await self._store.lineup())
        policies = self._settings.policies
        deciding = [name for name in policies if name in lineup.shares]
        deciding.append(lineup.champion)
        releases = {
            name: await self._store.release(policies[name].learner_version)
            for name in deciding
        }
        if (lineup, releases) == self._seen:
            return
        loaded: dict[tuple[str, str], Policy] = {}
        lanes: list[Lane] = []
        until = 0.0
        for name in deciding:
            until += lineup.shares.get(name, 1.0)
            lane = await self._lane(policies[name], releases[name], loaded)
            lanes.append(lane._replace(until=min(until, 1.0)))
        current, champion = self._current, lanes[-1]
        if champion.policy is not current.policy:
            _log.info("a model decides", model=champion.policy.model)
            telemetry.MODEL_POSITION.set(champion.policy.learned)
        current.policy, current.models = champion.policy, loaded
        alone = len(lanes) == 1 and champion.canary is None
        current.lanes = () if alone else (*lanes[:-1], champion._replace(until=1.0))
        self._seen = (lineup, releases)

    async def _lane(
        self,
        settings: PolicySettings,
        release: Release | None,
        loaded: dict[tuple[str, str], Policy],
    ) -> Lane:
        """Return who decides by a policy's models, the last good one if need be."""
        if release is None:
            return Lane(1.0, self._beginning(settings))
        policy = await self._good(settings, release.serving)
        loaded[policy.version, policy.model] = policy
        if release.canary is None:
            return Lane(1.0, policy)
        canary = await self._loaded(settings, release.canary, exactly=True)
        if canary is None:
            return Lane(1.0, policy)
        loaded[canary.version, canary.model] = canary
        return Lane(1.0, policy, canary, self._settings.learning.canary)

    def _beginning(self, settings: PolicySettings) -> Policy:
        """Return what decides before there is a model."""
        champion = self._settings.policy
        baseline = self._settings.baseline
        serving = settings if baseline is None or settings != champion else baseline
        present = self._current.policy
        if (present.version, present.model) == (serving.version, _NOTHING):
            return present
        return Policy(serving)

    async def _good(self, settings: PolicySettings, model: Model) -> Policy:
        """Return a policy with a model or, where that is unfit, with one before it."""
        policy = await self._loaded(settings, model, exactly=True)
        if policy is not None:
            return policy
        present = self._current.policy
        if present.version == settings.version and present.model != _NOTHING:
            return present
        policy = await self._loaded(settings, model, exactly=False)
        return policy or self._beginning(settings)

    async def _loaded(
        self, settings: PolicySettings, model: Model, *, exactly: bool
    ) -> Policy | None:
        """Load a model, or the latest one up to it that can be; none where none can."""
        at_most = model
        while True:
            known = self._current.models.get((settings.version, name_of(at_most)))
            if known is not None:
                return known
            snapshot = await self._store.snapshot(
                settings.learner_version, at_most=at_most
            )
            if snapshot is None or (exactly and snapshot.version != model):
                return None
            policy = await self._read(settings, snapshot)
            if policy is not None or exactly:
                return policy
            at_most = (snapshot.epoch, snapshot.position - 1)

    async def _read(
        self, settings: PolicySettings, snapshot: Snapshot
    ) -> Policy | None:
        """Read a model and try it; none where it is not fit to decide."""
        # One that was damaged may have been learned anew.
        key = (settings.version, snapshot.version, hash(snapshot.body))
        if key in self._refused:
            return None
        catalogue, previous = self._current.catalogue, self._current.policy

        def load() -> Policy:
            policy = Policy(
                settings,
                snapshot.body,
                model=snapshot.model,
                learned=snapshot.position,
                previous=previous,
            )
            check(policy, catalogue)
            return policy

        try:
            return await asyncio.get_running_loop().run_in_executor(None, load)
        except ValueError as error:
            self._refused.add(key)
            telemetry.MODELS_REFUSED.inc()
            _log.error(
                "a model is not fit to decide, the last good one serves",
                learner=snapshot.learner,
                model=snapshot.model,
                error=str(error),
            )
            return None


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
