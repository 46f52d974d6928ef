"""What would have been: logs, and worlds of simulated users, through the same engine.

Nothing is loaded before it is used, so that importing this costs next to nothing.

>>> from simulator import compare, evaluate, open_log, replay
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simulator.comparing import Comparison, Gate, compare
    from simulator.evaluation import Evaluation, Value, evaluate
    from simulator.feedback import Feedback
    from simulator.gating import Gating, gates
    from simulator.judging import Question, QuestionError
    from simulator.logs import Log, LogError, Source, open_log
    from simulator.memory import Parts
    from simulator.partition import ClusterError
    from simulator.prospecting import (
        Opportunities,
        OpportunitySettings,
        opportunities,
    )
    from simulator.rehearsing import Rehearsal, rehearse
    from simulator.replaying import Replay, replay
    from simulator.reporting import ReportError, read_result, report
    from simulator.simulating import Simulated, Simulation, player, simulate
    from simulator.slates import SlateValue, evaluate_slates
    from simulator.sweeping import Sweep, sweep
    from simulator.targets import TargetError
    from simulator.walking import Walk, walk
    from simulator.worlds import World, WorldError, read_world

__all__ = [
    "ClusterError",
    "Comparison",
    "Evaluation",
    "Feedback",
    "Gate",
    "Gating",
    "Log",
    "LogError",
    "Opportunities",
    "OpportunitySettings",
    "Parts",
    "Question",
    "QuestionError",
    "Rehearsal",
    "Replay",
    "ReportError",
    "Simulated",
    "Simulation",
    "SlateValue",
    "Source",
    "Sweep",
    "TargetError",
    "Value",
    "Walk",
    "World",
    "WorldError",
    "compare",
    "evaluate",
    "evaluate_slates",
    "gates",
    "open_log",
    "opportunities",
    "player",
    "read_result",
    "read_world",
    "rehearse",
    "replay",
    "report",
    "simulate",
    "sweep",
    "walk",
]

_HOMES = {
    "comparing": ("Comparison", "Gate", "compare"),
    "evaluation": ("Evaluation", "Value", "evaluate"),
    "feedback": ("Feedback",),
    "gating": ("Gating", "gates"),
    "judging": ("Question", "QuestionError"),
    "logs": ("Log", "LogError", "Source", "open_log"),
    "memory": ("Parts",),
    "prospecting": ("Opportunities", "OpportunitySettings", "opportunities"),
    "partition": ("ClusterError",),
    "rehearsing": ("Rehearsal", "rehearse"),
    "replaying": ("Replay", "replay"),
    "reporting": ("ReportError", "read_result", "report"),
    "targets": ("TargetError",),
    "slates": ("SlateValue", "evaluate_slates"),
    "simulating": ("Simulated", "Simulation", "player", "simulate"),
    "sweeping": ("Sweep", "sweep"),
    "walking": ("Walk", "walk"),
    "worlds": ("World", "WorldError", "read_world"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
