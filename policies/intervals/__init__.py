"""How far an estimate can be trusted: one kind of interval a file.

>>> from policies.intervals import Estimate, mean_of
"""

from __future__ import annotations

from policies.intervals.studentised import (
    ESS_MIN,
    EVENTS_MIN,
    Estimate,
    difference,
    dr,
    importance_weights,
    ips,
    mean_interval,
    mean_of,
    snips,
)

__all__ = [
    "ESS_MIN",
    "EVENTS_MIN",
    "Estimate",
    "difference",
    "dr",
    "importance_weights",
    "ips",
    "mean_interval",
    "mean_of",
    "snips",
]
