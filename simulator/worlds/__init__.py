"""Worlds: simulated users whose tastes are known, so that what is best is known too.

`read_world` reads one from TOML, or finds one of the presets by its name; a `World`
says who comes when, what holds of them, and how likely each answers how.
"""

from __future__ import annotations

from simulator.worlds.minds import Answers, Mood
from simulator.worlds.people import Person
from simulator.worlds.reading import (
    PRESETS,
    WorldError,
    decoded,
    presets,
    read_world,
    world_of,
)
from simulator.worlds.spec import WorldSpec
from simulator.worlds.world import Response, Visit, World

__all__ = [
    "PRESETS",
    "Answers",
    "Mood",
    "Person",
    "Response",
    "Visit",
    "World",
    "WorldError",
    "WorldSpec",
    "decoded",
    "presets",
    "read_world",
    "world_of",
]
