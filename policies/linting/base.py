"""What all checks need: where to note a problem, and the plainest of them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Sequence

from policies.toml import Duration

__all__ = [
    "MONEY_MAX",
    "Note",
    "above",
    "between",
    "declared",
    "id_of",
    "name_of",
    "once",
    "under",
]

Note = Callable[..., None]
"""Notes a problem: what is wrong, then the keys under which it stands."""

MONEY_MAX = 10**12
"""The largest amount, in minor units."""

_ID = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")


def under(note: Note, *prefix: str) -> Note:
    """Return what notes problems under some keys."""

    def noted(description: str, *keys: str) -> None:
        note(description, *prefix, *keys)

    return noted


def id_of(note: Note, kind: str, name: str, *keys: str) -> None:
    """Check the id of something, such as of `an offer`."""
    if not _ID.fullmatch(name):
        note(f"the id of {kind} is {_ID.pattern}, not {name!r}", *keys)


def name_of(note: Note, kind: str, name: str, *keys: str) -> None:
    """Check the name of what rules and requests name, such as `a feature`."""
    if not _NAME.fullmatch(name):
        note(f"the name of {kind} is {_NAME.pattern}, not {name!r}", *keys)


def between(
    note: Note, value: float, least: float, most: float, *keys: str, advice: str = ""
) -> None:
    """Check that a number is in its range, ends included."""
    if not least <= value <= most:
        note(f"is {least:,} to {most:,}, not {value:,}{advice}", *keys)


def above(note: Note, value: float | None, least: int, *keys: str) -> None:
    """Check that a number or a span, where it is given, is above something."""
    if value is not None and not least < value < math.inf:
        found = value.text if isinstance(value, Duration) else f"{value:,}"
        note(f"is above {least}, not {found}", *keys)


def once(note: Note, names: Sequence[str], *keys: str) -> None:
    """Check that nothing is named twice."""
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        note(f"names {', '.join(twice)} twice", *keys)


def declared(
    note: Note, names: Sequence[str], known: Collection[str], table: str, *keys: str
) -> None:
    """Check that all names are those of tables, and that none is there twice."""
    if not names:
        return
    once(note, names, *keys)
    for name in dict.fromkeys(names):
        if name not in known:
            note(f"there is no [{table}.{name}]", *keys)
