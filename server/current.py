"""What a worker serves now: one catalogue, its policies, what is stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from policies import catalogue as catalogues
from policies.catalogue import Catalogue
from policies.model import Conditions, Decision
from policies.policy import Policy
from policies.sharing import place_of
from server.stores.base import ServingStore

__all__ = ["Current", "Lane"]

_COMPILED_MAX = 8


class Lane(NamedTuple):
    """Who decides for a share of users.

    Attributes:
        until: Where the share ends, among all users from 0 to 1; it begins where the
            one before it ends.
        policy: The policy.
        canary: The same with a newer model, for a few of them; none where there is
            none.
        share: The share of all users for whom that one would decide.
    """

    until: float
    policy: Policy
    canary: Policy | None = None
    share: float = 0.0


class Current:
    """What decides now; each part may be replaced between two requests.

    Attributes:
        catalogue: What is offered.
        policy: What chooses, for all who are in no lane.
        lanes: What chooses for shares of users, in order.
        models: What has been loaded, by the versions of policy and model.
        stopped: What was switched off, sorted.
    """

    def __init__(
        self,
        store: ServingStore,
        catalogue: Catalogue,
        policy: Policy,
        stopped: tuple[str, ...] = (),
    ) -> None:
        self.catalogue = catalogue
        self.policy = policy
        self.lanes: tuple[Lane, ...] = ()
        self.models: Mapping[tuple[str, str], Policy] = {}
        self.stopped = stopped
        self._store = store
        self._compiled: dict[str, asyncio.Task[Catalogue]] = {}
        self._compiler = ThreadPoolExecutor(1, thread_name_prefix="catalogue")

    def conditions(self, exhausted: frozenset[str] = frozenset()) -> Conditions:
        """Return what holds for everybody."""
        return Conditions(self.stopped, tuple(sorted(exhausted)))

    def policy_for(self, root: str) -> Policy:
        """Return what chooses for a user or account: the same again and again."""
        if not self.lanes:
            return self.policy
        place = place_of(root, "challengers")
        for lane in self.lanes:
            if place < lane.until:
                if lane.canary is not None and place_of(root, "canary") < lane.share:
                    return lane.canary
                return lane.policy
        return self.policy

    async def catalogue_of(self, decision: Decision) -> Catalogue:
        """Return the catalogue that a decision was made from."""
        return await self.catalogue_named(decision.catalogue)

    async def catalogue_named(self, version: str) -> Catalogue:
        """Return a catalogue that is or was in use, compiled once for all who wait."""
        if version == self.catalogue.version:
            return self.catalogue
        compiling = self._compiled.pop(version, None)
        if compiling is None or _failed(compiling):
            compiling = asyncio.create_task(self._compile(version))
        self._compiled[version] = compiling  # As the one that was asked for last.
        for oldest in list(self._compiled)[:-_COMPILED_MAX]:
            if self._compiled[oldest].done():
                del self._compiled[oldest]
        # Whoever no longer waits takes nothing from the others.
        return await asyncio.shield(compiling)

    async def _compile(self, version: str) -> Catalogue:
        text = await self._store.catalogue(version)
        if text is None:
            raise RuntimeError(f"the store lost catalogue {version}")
        # To compile a large one takes long enough for others to notice.
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._compiler, _compile, text)


def _failed(compiling: asyncio.Task[Catalogue]) -> bool:
    done = compiling.done()
    return done and (compiling.cancelled() or compiling.exception() is not None)


def _compile(text: str) -> Catalogue:
    return catalogues.read(text, linted=False)
