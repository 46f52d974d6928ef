"""Logs of every kind, read as parts: one kind a file.

>>> from simulator.logs import open_log
"""

from __future__ import annotations

from simulator.logs.base import ROWS_MAX, LeftOut, LogError, Source, Watcher
from simulator.logs.opening import AnyLog, Format, open_log
from simulator.logs.server import Key, Log, Record, StreamRow
from simulator.logs.writing import Target, Written, target_of, write_log

__all__ = [
    "ROWS_MAX",
    "AnyLog",
    "Format",
    "Key",
    "LeftOut",
    "Log",
    "LogError",
    "Record",
    "Source",
    "StreamRow",
    "Target",
    "Watcher",
    "Written",
    "open_log",
    "target_of",
    "write_log",
]
