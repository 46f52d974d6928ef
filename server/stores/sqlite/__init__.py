"""The embedded store: one SQLite file that several processes share.

The file is in WAL mode. Every write of a process happens in its event loop, many
in one transaction, without waiting for the disk; what must survive the power is
synced by a thread before it is acknowledged. See docs/decisions/0004.
"""

from __future__ import annotations

from server.stores.sqlite.admin import SQLiteAdmin
from server.stores.sqlite.schema import connect, migrate
from server.stores.sqlite.serving import SQLiteServing
from server.stores.sqlite.training import SQLiteTraining

__all__ = ["SQLiteAdmin", "SQLiteServing", "SQLiteTraining", "connect", "migrate"]
