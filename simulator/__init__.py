"""What would have been: logs through the same engine.

>>> from simulator import Log, evaluate, replay
"""

from __future__ import annotations

from simulator.evaluation import Evaluation, TargetError, Value, evaluate
from simulator.logs import Log, LogError
from simulator.replaying import Replay, replay

__all__ = [
    "Evaluation",
    "Log",
    "LogError",
    "Replay",
    "TargetError",
    "Value",
    "evaluate",
    "replay",
]
