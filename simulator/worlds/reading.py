"""Reads worlds from TOML: one's own, and those that come with the package."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from policies import catalogue as catalogues
from policies.catalogue import Catalogue
from policies.errors import FileError, OpportuneError, Problem, plainly
from policies.toml import Section, join_texts, parse
from simulator.worlds.spec import WorldSpec
from simulator.worlds.world import World

__all__ = ["PRESETS", "WorldError", "decoded", "presets", "read_world", "world_of"]

PRESETS = Path(__file__).with_name("presets")
"""The folder of the worlds that come with the package, and of their catalogues."""


class WorldError(OpportuneError):
    """A world cannot be read, or does not fit; the message says what to mend."""


def presets() -> dict[str, str]:
    """Return the names of the worlds that come with the package, and what they show."""
    return {
        path.stem: _spec(path, _section(path)).description
        for path in sorted(PRESETS.glob("*.toml"))
    }


def read_world(
    name: str | Path,
    seed: int = 0,
    changes: Mapping[str, Any] | None = None,
) -> World:
    """Read a world.

    Args:
        name: The path of its file, or the name of a preset.
        seed: Another seed, other users.
        changes: By the path of a key, such as `fatigue.half_life`, another value.

    Raises:
        WorldError: If there is no such world, or anything in it is wrong.
    """
    path = Path(name)
    if not path.is_file():
        path = PRESETS / f"{name}.toml"
        if not path.is_file() or "/" in str(name):
            known = ", ".join(sorted(p.stem for p in PRESETS.glob("*.toml")))
            raise WorldError(f"there is no file and no world {str(name)!r}: {known}")
    section = _section(path)
    for key, value in (changes or {}).items():
        _change(section.data, key, value)
    spec = _spec(path, section)
    catalogue = _catalogue(path.parent / spec.catalogue)
    return world_of(spec, catalogue, seed, path.stem, str(path))


def world_of(
    spec: WorldSpec,
    catalogue: Catalogue,
    seed: int = 0,
    name: str = "world",
    source: str = "world",
) -> World:
    """Put a world together, if it fits its catalogue.

    Args:
        spec: What holds.
        catalogue: What can be offered.
        seed: Another seed, other users.
        name: What to call it.
        source: What to call its file in errors.

    Raises:
        WorldError: If it names what the catalogue does not have, or what cannot be
            simulated.
    """
    problems = list(_misfits(spec, catalogue))
    if problems:
        raise WorldError("\n".join(f"{source}: {problem}" for problem in problems))
    return World(spec, catalogue, seed, name)


def _section(path: Path) -> Section:
    try:
        return parse(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise WorldError(f"{path} {plainly(error)}") from None
    except FileError as error:
        raise WorldError(str(error)) from None


def _spec(path: Path, section: Section) -> WorldSpec:
    rewards = section.data.setdefault("rewards", {})
    if isinstance(rewards, dict):
        rewards.setdefault("silence_confirms_itself", True)
    spec = section.convert(WorldSpec)
    if spec is None or section.problems:
        found = section.problems or [Problem("file", "is no world")]
        raise WorldError("\n".join(f"{path}: {problem}" for problem in found))
    return spec


def _change(data: dict[str, Any], key: str, value: Any) -> None:
    *above, last = key.split(".")
    for name in above:
        data = data.setdefault(name, {})
        if not isinstance(data, dict):
            raise WorldError(f"{key}: {name} is no table")
    data[last] = value


def _catalogue(path: Path) -> Catalogue:
    try:
        if path.is_dir():
            files = [
                (p.name, p.read_text("utf-8")) for p in sorted(path.glob("*.toml"))
            ]
            text = join_texts(files)
        else:
            text = path.read_text("utf-8")
        return catalogues.read(text, str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise WorldError(f"{path} {plainly(error)}") from None
    except FileError as error:
        raise WorldError(str(error)) from None


def _misfits(spec: WorldSpec, catalogue: Catalogue) -> list[Problem]:
    found: list[Problem] = []
    if not spec.segments:
        found.append(Problem("segments", "must be at least one"))

    def check(field: str, name: str, known: Any, what: str) -> None:
        if name and name not in known:
            there = ", ".join(sorted(known)) or "none"
            said = f"the catalogue has no {what} {name!r}; it has: {there}"
            found.append(Problem(field, said))

    for at, ask in enumerate(spec.asks):
        for name in ask.placements:
            check(f"asks[{at}].placements", name, catalogue.placements, "placement")
    for at, taste in enumerate(spec.tastes):
        check(f"tastes[{at}].offer", taste.offer, catalogue.offers, "offer")
        check(
            f"tastes[{at}].placement",
            taste.placement,
            catalogue.placements,
            "placement",
        )
    for name, segment in spec.segments.items():
        for feature in segment.features:
            field = f"segments.{name}.features"
            check(field, feature, catalogue.features, "feature")
        for offer in segment.needs:
            check(f"segments.{name}.needs", offer, catalogue.offers, "offer")
        for product in segment.owns:
            field = f"segments.{name}.owns"
            check(field, product, catalogue.spec.products, "product")
    found += _unsupported(spec, catalogue)
    return found


def _unsupported(spec: WorldSpec, catalogue: Catalogue) -> list[Problem]:
    """Return what a world cannot be true to."""
    found: list[Problem] = []
    for name, placement in catalogue.placements.items():
        if placement.spec.sticky:
            said = "is in the catalogue; placements that keep to a decision are not"
            found.append(Problem(f"placements.{name}.sticky", f"{said} simulated"))
    rewards = spec.rewards
    own = [offer.spec.reward_wait for offer in catalogue.offers.values()]
    waits = [int(wait) for wait in (rewards.wait, *own) if wait is not None]
    longest = int(spec.delays.longest)
    if spec.delays.share and longest > min(waits) + rewards.late:
        said = f"must be at most the wait and late of rewards, not {longest} ms"
        found.append(Problem("delays.longest", said))
    return found


def decoded(text: str) -> Any:
    """Return the value that is written as in TOML, or the text itself."""
    try:
        return parse(f"value = {text}", "value").data["value"]
    except FileError:
        return text
