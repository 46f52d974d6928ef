"""Opens stores by their URLs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from server.stores.base import AdminStore, ServingStore, TrainingStore
from server.stores.sqlite import SQLiteAdmin, SQLiteServing, SQLiteTraining, migrate

__all__ = ["migrate_store", "open_admin", "open_serving", "open_training"]

_SQLITE = "sqlite:///"


def migrate_store(url: str) -> None:
    """Make the store, or bring it up to date.

    Raises:
        ValueError: If the URL names no kind of store that there is.
    """
    migrate(_sqlite_path(url))


def open_serving(
    url: str, on_failure: Callable[[], object] = lambda: None
) -> ServingStore:
    """Open an up-to-date store, for the running event loop.

    Args:
        url: Where it is.
        on_failure: Is called when the process had better be started anew.
    """
    return SQLiteServing(_sqlite_path(url), on_failure)


def open_training(url: str) -> TrainingStore:
    """Open an up-to-date store, to learn from; there is one learner at a time."""
    return SQLiteTraining(_sqlite_path(url))


def open_admin(url: str) -> AdminStore:
    """Open an up-to-date store, to look after it; servers may use it meanwhile."""
    return SQLiteAdmin(_sqlite_path(url))


def _sqlite_path(url: str) -> Path:
    path = url.removeprefix(_SQLITE)
    if path == url or not path:
        raise ValueError(f"a store is {_SQLITE}PATH, not {url!r}")
    return Path(path)
