"""Fixtures: a clock, a catalogue, stores, a running server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from server.stores.base import ServingStore
from server.stores.opening import migrate_store, open_serving
from tests.server import kit


@pytest.fixture
def clock() -> kit.Clock:
    """A clock that stands still until the test moves it."""
    return kit.Clock()


@pytest.fixture
def catalogue_text() -> str:
    """A catalogue: two free offers, a capped one, and some with conditions."""
    return CATALOGUE


@pytest.fixture
def store_path(tmp_path: Path) -> Path:
    """The path of an empty store."""
    path = tmp_path / "opportune.db"
    migrate_store(f"sqlite:///{path}")
    return path


@pytest.fixture
async def store(store_path: Path) -> AsyncIterator[ServingStore]:
    """An empty store, as the server opens it."""
    store = open_serving(f"sqlite:///{store_path}")
    yield store
    await store.close()


@pytest.fixture
async def shop(
    tmp_path: Path, clock: kit.Clock, catalogue_text: str
) -> AsyncIterator[kit.Shop]:
    """A server that is running in this process, with a client."""
    path = tmp_path / "opportune.db"
    settings = kit.settings_of(path)
    async with kit.running(path, catalogue_text, clock, settings) as running:
        yield running


@pytest.fixture
async def eager(
    tmp_path: Path, clock: kit.Clock, catalogue_text: str
) -> AsyncIterator[kit.Shop]:
    """A server that always makes the offer of the highest priority."""
    path = tmp_path / "eager.db"
    async with kit.running(path, catalogue_text, clock, kit.eager(path)) as running:
        yield running


@pytest.fixture
async def other(
    eager: kit.Shop, clock: kit.Clock, catalogue_text: str
) -> AsyncIterator[kit.Shop]:
    """Another server over the file of the eager one."""
    async with kit.running(
        eager.path, catalogue_text, clock, eager.settings, "other"
    ) as running:
        yield running


@pytest.fixture
def server_process(tmp_path: Path) -> Iterator[Callable[..., kit.Serving]]:
    """Starts `opportune-server serve` with a catalogue and the text of settings."""
    with ExitStack() as stack:

        def start(catalogue: str = CATALOGUE, settings: str = "") -> kit.Serving:
            path = kit.write_settings(tmp_path, catalogue, settings or kit.SETTINGS)
            return stack.enter_context(kit.serving(path))

        yield start


CATALOGUE = """
currency = "EUR"
valid_for = "10m"

[features.seats]
type = "number"

[features.plan]
type = "category"

[features.trial]
type = "flag"

[placements.home]
[placements.banner]
[placements.till]
[placements.door]
[placements.empty]

[offers.tea]
placements = ["home"]
caps = [{ limit = 1, window = "24h" }]

[offers.jam]
placements = ["home"]
dismissal_cool_down = "7d"

[offers.xmas]
placements = ["till"]
start = 2026-12-01T00:00:00Z
end = 2026-12-25T00:00:00Z

[offers.storage]
placements = ["banner"]
eligible = "usage.storage_gb.ratio >= 0.8 && segment != 'team'"

[offers.door]
placements = ["door"]
[offers.door.creatives.bold]
[offers.door.creatives.calm]
"""
