"""Logs of every kind, read as parts: one kind a file."""

from __future__ import annotations

from simulator.logs.base import ROWS_MAX, LeftOut, LogError, Source, Watcher
from simulator.logs.server import Key, Log, Record, StreamRow

__all__ = [
    "ROWS_MAX",
    "Key",
    "LeftOut",
    "Log",
    "LogError",
    "Record",
    "Source",
    "StreamRow",
    "Watcher",
]
