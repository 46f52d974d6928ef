"""Fixtures: a store of every kind, as everybody sees it who uses it.

Another kind of store is tested by one more line in `KINDS`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from server.stores.base import AdminStore, ServingStore, TrainingStore
from server.stores.opening import (
    migrate_store,
    open_admin,
    open_serving,
    open_training,
)

KINDS: dict[str, Callable[[Path], str]] = {
    "sqlite": lambda folder: f"sqlite:///{folder}/store.db",
}


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty store."""
    made = KINDS[request.param](tmp_path)
    migrate_store(made)
    return made


@pytest.fixture
async def store(url: str) -> AsyncIterator[ServingStore]:
    """The store as a server sees it."""
    store = open_serving(url)
    yield store
    await store.close()


@pytest.fixture
async def other(url: str) -> AsyncIterator[ServingStore]:
    """The same store as another server sees it."""
    store = open_serving(url)
    yield store
    await store.close()


@pytest.fixture
def training(url: str) -> Iterator[TrainingStore]:
    """The same store as the learner sees it."""
    store = open_training(url)
    yield store
    store.close()


@pytest.fixture
def admin(url: str) -> Iterator[AdminStore]:
    """The same store as who runs the server sees it."""
    store = open_admin(url)
    yield store
    store.close()
