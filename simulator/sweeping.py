"""Settings × seeds: the same users under each, and what differs, with an interval."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from policies.intervals.special import t_quantile
from policies.model import FloatArray
from policies.policy import PolicySettings
from simulator.logs import Watcher
from simulator.simulating import Figures, Player, simulate
from simulator.worlds import WorldError, decoded, read_world

__all__ = ["Mean", "Sweep", "Variant", "seeds_of", "settings_of", "sweep"]

_SEEDS_MAX = 10_000
_RUNS_MAX = 100_000
_POLICY, _WORLD = "policy.", "world."


class Mean(msgspec.Struct, frozen=True, kw_only=True):
    """A figure over the seeds.

    Attributes:
        mean: Its mean.
        low: The lower end of an interval for what it is on average over all seeds.
        high: The upper end.
    """

    mean: float
    low: float
    high: float


class Variant(msgspec.Struct, frozen=True, kw_only=True):
    """A policy with some settings, in a world with some.

    Attributes:
        policy: The policy, as it was named.
        settings: What was set, by key.
        figures: By the name of a figure, its mean over the seeds.
        more: By the same, how much more it is than that of the first variant, seed by
            seed.
    """

    policy: str
    settings: dict[str, Any]
    figures: dict[str, Mean]
    more: dict[str, Mean]


class Sweep(msgspec.Struct, frozen=True, kw_only=True):
    """What came of all variants.

    Attributes:
        format: The version of these fields.
        world: The world, as it was named.
        seeds: The seeds.
        confidence: How often an interval holds what it is about.
        variants: The variants, in the order in which they were named.
    """

    format: str = "opportune.sweep.v1"
    world: str
    seeds: tuple[int, ...]
    confidence: float
    variants: tuple[Variant, ...]


def seeds_of(text: str) -> tuple[int, ...]:
    """Read seeds.

    Raises:
        WorldError: If they are none, or fewer than two.

    Examples:
        >>> seeds_of("0-3,7")
        (0, 1, 2, 3, 7)
    """
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not (first.isdecimal() and (not dash or last.isdecimal())):
            raise WorldError(f"seeds are written like 0-9 or 1,5,7, not {text!r}")
        end = int(last) if dash else int(first)
        if end - int(first) > _SEEDS_MAX:
            raise WorldError(f"there may be {_SEEDS_MAX:,} seeds, not more")
        found += range(int(first), end + 1)
    seeds = tuple(dict.fromkeys(found))
    if len(seeds) < 2:
        raise WorldError("there must be two seeds or more: one cannot tell how far off")
    return seeds


def settings_of(texts: Sequence[str]) -> dict[str, list[Any]]:
    """Read which values of which settings to try.

    Raises:
        WorldError: If they are not written like that.

    Examples:
        >>> settings_of(["policy.exploration.epsilon=0.01,0.05"])
        {'policy.exploration.epsilon': [0.01, 0.05]}
    """
    found: dict[str, list[Any]] = {}
    for text in texts:
        key, sign, values = text.partition("=")
        if not sign or not values or not key.startswith((_POLICY, _WORLD)):
            raise WorldError(
                "--set is written like policy.exploration.epsilon=0.01,0.05 or"
                f" world.fatigue.accept=0,1, not {text!r}"
            )
        found[key] = [decoded(value.strip()) for value in values.split(",")]
    return found


def sweep(
    world: str,
    players: Sequence[Player],
    *,
    seeds: Sequence[int],
    settings: Mapping[str, Sequence[Any]] | None = None,
    users: int | None = None,
    days: float | None = None,
    confidence: float = 0.95,
    watcher: Watcher | None = None,
) -> Sweep:
    """Play a world with each policy, each combination of settings and each seed.

    Args:
        world: As `simulator.worlds.read_world` reads it.
        players: The policies.
        seeds: The seeds, two or more.
        settings: By key, the values to try: of settings under `policy.`, of the world
            under `world.`.
        users: How many users there are; as the world says without it.
        days: How many days it lasts; likewise.
        confidence: How often an interval is to hold what it is about.
        watcher: Is told how far it is.

    Raises:
        WorldError: If a world or a setting is wrong, or one policy is named twice.
    """
    settings = settings or {}
    names = [who.name for who in players]
    if len(set(names)) < len(names):
        raise WorldError("one name stands for two policies")
    grid = [
        dict(zip(settings, values, strict=True))
        for values in itertools.product(*settings.values())
    ]
    variants = [(_with(who, cell), cell) for who in players for cell in grid]
    total = len(variants) * len(seeds)
    if total > _RUNS_MAX:
        raise WorldError(f"there would be {total:,} runs, more than {_RUNS_MAX:,}")
    measured: list[list[Figures]] = []
    for who, cell in variants:
        of_world = {
            key.removeprefix(_WORLD): value
            for key, value in cell.items()
            if key.startswith(_WORLD)
        }
        figures: list[Figures] = []
        for seed in seeds:
            place = read_world(world, seed, of_world)
            run = simulate(place, who, users=users, days=days, estimates=False)
            figures.append(run.result.figures)
            if watcher is not None:
                watcher("sweeping", len(measured) * len(seeds) + len(figures), total)
        measured.append(figures)
    first = _columns(measured[0])
    return Sweep(
        world=world,
        seeds=tuple(seeds),
        confidence=confidence,
        variants=tuple(
            Variant(
                policy=who.name,
                settings=cell,
                figures=_means(_columns(figures), confidence),
                more=_means(
                    {
                        name: column - first[name]
                        for name, column in _columns(figures).items()
                    },
                    confidence,
                ),
            )
            for (who, cell), figures in zip(variants, measured, strict=True)
        ),
    )


def _with(who: Player, cell: Mapping[str, Any]) -> Player:
    """Return a policy with other settings."""
    data = msgspec.to_builtins(who.settings)
    changed = False
    for key, value in cell.items():
        if not key.startswith(_POLICY):
            continue
        if who.known:
            raise WorldError(f"{key} cannot be set of {who.name}")
        *above, last = key.removeprefix(_POLICY).split(".")
        table = data
        for name in above:
            table = table.setdefault(name, {}) if isinstance(table, dict) else None
        if not isinstance(table, dict):
            raise WorldError(f"{key}: there is no such table")
        table[last] = value
        changed = True
    if not changed:
        return who
    try:
        settings = msgspec.convert(data, PolicySettings)
    except msgspec.ValidationError as error:
        given = ", ".join(f"{key}={value}" for key, value in cell.items())
        raise WorldError(f"{given}: {error}") from None
    return who._replace(settings=settings)


def _columns(figures: Sequence[Figures]) -> dict[str, FloatArray]:
    return {
        name: np.array([getattr(each, name) for each in figures], np.float64)
        for name in Figures.__struct_fields__
    }


def _means(columns: Mapping[str, FloatArray], confidence: float) -> dict[str, Mean]:
    found: dict[str, Mean] = {}
    for name, column in columns.items():
        n = len(column)
        half = 0.0
        if n > 1:
            error = float(column.std(ddof=1)) / math.sqrt(n)
            half = t_quantile(confidence, n - 1) * error
        mean = float(column.mean())
        found[name] = Mean(mean=mean, low=mean - half, high=mean + half)
    return found
