"""Reads TOML strictly: what is not known is refused, with the line and the key."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any, TypeVar

import msgspec

from policies.errors import FileError, Problem

__all__ = ["Duration", "Section", "parse"]

_T = TypeVar("_T")

_ANY = "..."
"""What msgspec has in the place of the name of a table's entry."""

_UNITS_MS = {
    "ms": 1,
    "s": 1_000,
    "m": 60_000,
    "h": 3_600_000,
    "d": 86_400_000,
    "w": 7 * 86_400_000,
}
_DURATION = re.compile(r"(?:\d+(?:ms|[smhdw]))+")
_PART = re.compile(r"(\d+)(ms|[smhdw])")
_LONGEST_MS = 3660 * _UNITS_MS["d"]


class Duration(int):
    """A span of time in milliseconds, written like `7d`, `90m` or `1d12h`.

    Units are w, d, h, m, s and ms; the longest span is 3,660 days.

    Examples:
        >>> Duration.parse("1d12h") == 36 * 3_600_000
        True
        >>> Duration.parse("soon")
        Traceback (most recent call last):
        ValueError: a duration is written like 7d, 90m or 1d12h, not 'soon'
    """

    @classmethod
    def parse(cls, text: object) -> Duration:
        """Read a duration.

        Raises:
            ValueError: If it is not written like one, or too long.
        """
        if not isinstance(text, str) or not _DURATION.fullmatch(text):
            raise ValueError(
                f"a duration is written like 7d, 90m or 1d12h, not {text!r}"
            )
        span = sum(int(n) * _UNITS_MS[unit] for n, unit in _PART.findall(text))
        if span > _LONGEST_MS:
            raise ValueError(f"a duration is at most 3660d, not {text}")
        return cls(span)


def parse(text: str, source: str) -> Section:
    """Read the text of a TOML file.

    Raises:
        FileError: If it is not TOML; the message says at which line.
    """
    try:
        data = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        said = str(error) if isinstance(error, ValueError) else "nests too deep"
        line = re.search(r"\(at line (\d+)", said)
        at = int(line.group(1)) if line else None
        raise FileError(source, [Problem("syntax", said, at)]) from None
    return Section(data, text)


class Section:
    """A table of a TOML file, and the problems found in it and below it."""

    def __init__(
        self,
        data: dict[str, Any],
        text: str,
        path: tuple[str, ...] = (),
        problems: list[Problem] | None = None,
    ) -> None:
        self.data = data
        self.problems: list[Problem] = [] if problems is None else problems
        self._text = text
        self._path = path

    def table(self, name: str) -> dict[str, Section]:
        """Take the tables under `name` out of this one, by their own names."""
        tables = self.data.pop(name, {})
        if not isinstance(tables, dict):
            self.problem(f"must be tables, as [{name}.NAME]", name)
            return {}
        found: dict[str, Section] = {}
        for key, data in tables.items():
            if isinstance(data, dict):
                path = (*self._path, name, key)
                found[key] = Section(data, self._text, path, self.problems)
            else:
                self.problem(f"must be a table, not {data!r}", name, key)
        return found

    def convert(self, kind: type[_T]) -> _T | None:
        """Turn the table into a struct, and note every problem on the way.

        What is wrong is left out, so that the rest can be looked at further; none
        where that leaves too little.
        """
        left_out: list[list[str]] = []
        while True:
            try:
                return msgspec.convert(self.data, kind, dec_hook=_hook)
            except msgspec.ValidationError as error:
                what, keys = _understand(error)
                for at, key in enumerate(keys):
                    if key == _ANY:
                        keys[at] = self._culprit(keys[:at], kind)
                keys += self._own_key(what, keys)
                if keys not in left_out:
                    self.problem(what, *keys)
                while not _leave_out(self.data, keys):
                    keys = keys[:-1]
                    if not keys:
                        return None
                left_out.append(keys)

    def _culprit(self, keys: list[str], kind: type[Any]) -> str:
        """Return which entry of a table msgspec means, which does not name it."""
        table: dict[str, Any] = _walk(self.data, keys)
        entries = dict(table)
        try:
            for name, value in entries.items():
                table.clear()
                table[name] = value
                try:
                    msgspec.convert(self.data, kind, dec_hook=_hook)
                except msgspec.ValidationError as error:
                    if _understand(error)[1][: len(keys) + 1] == [*keys, _ANY]:
                        return name
        finally:
            table.clear()
            table.update(entries)
        return _ANY

    def _own_key(self, what: str, keys: list[str]) -> list[str]:
        """Return the key that a struct of ours names first in what it says."""
        first = re.split(r"[ .:]", what, maxsplit=1)[0]
        with suppress(LookupError, ValueError, TypeError):
            table = _walk(self.data, keys)
            if isinstance(table, dict) and first in table:
                return [first]
        return []

    def wrong(self, *keys: str) -> bool:
        """Say whether the value under `keys` is known to be wrong."""
        field = ".".join((*self._path, *keys))
        return any(problem.field == field for problem in self.problems)

    def problem(self, description: str, *keys: str) -> None:
        """Note that the value under `keys` of this table is wrong."""
        path = (*self._path, *keys)
        line = _line_of(self._text, path)
        self.problems.append(Problem(".".join(path) or "file", description, line))


def _understand(error: msgspec.ValidationError) -> tuple[str, list[str]]:
    """Return what msgspec says is wrong, and the keys that lead to it."""
    what, _, where = str(error).partition(" - at `")
    path = where.removeprefix("key` in `").rstrip("`").lstrip("$")
    keys = [key for key in re.split(r"\.(?!\.)(?<!\.\.)|[\[\]]+", path) if key]
    if path != where.rstrip("`").lstrip("$"):
        keys += re.findall("'(.*)'", what)
    if unknown := re.search(r"unknown field `(.*)`", what):
        keys.append(unknown.group(1))
        what = "is not known"
    elif missing := re.search(r"missing required field `(.*)`", what):
        keys.append(missing.group(1))
        what = "is required"
    return what, keys


def _walk(data: Any, keys: Sequence[str]) -> Any:
    for key in keys:
        data = data[int(key)] if isinstance(data, list) else data[key]
    return data


def _leave_out(data: Any, keys: Sequence[str]) -> bool:
    """Take the value under the keys away; say whether it was there."""
    if not keys:
        return False
    try:
        parent = _walk(data, keys[:-1])
        if isinstance(parent, list):
            del parent[int(keys[-1])]
        else:
            del parent[keys[-1]]
    except (LookupError, ValueError, TypeError):
        return False
    return True


def _hook(kind: type[Any], value: object) -> Any:
    if kind is Duration:
        return Duration.parse(value)
    raise NotImplementedError(kind)


_HEADER = re.compile(r"\s*(\[\[?)\s*(.*?)\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(
    r"\s*((?:[A-Za-z0-9_-]+|\"[^\"]*\"|'[^']*')(?:\s*\.\s*[A-Za-z0-9_\"'-]+)*)\s*="
)


def _line_of(text: str, path: tuple[str, ...]) -> int | None:
    """Return the line, from 1, that says most of `path`; none where none does."""
    lines = _lines(text)
    for length in range(len(path), 0, -1):
        if path[:length] in lines:
            return lines[path[:length]]
    return None


@lru_cache(maxsize=4)
def _lines(text: str) -> dict[tuple[str, ...], int]:
    """Return where each header and key of a file stands, first."""
    table: tuple[str, ...] = ()
    counts: dict[tuple[str, ...], int] = {}
    lines: dict[tuple[str, ...], int] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if header := _HEADER.match(line):
            table = _counted(_split(header.group(2)), counts)
            if header.group(1) == "[[":
                counts[table] = counts.get(table, -1) + 1
                table = (*table, str(counts[table]))
            lines.setdefault(table, number)
        elif key := _KEY.match(line):
            lines.setdefault((*table, *_split(key.group(1))), number)
    return lines


def _counted(
    path: tuple[str, ...], counts: dict[tuple[str, ...], int]
) -> tuple[str, ...]:
    """Say which table of an array is meant, below one: the last so far."""
    here: tuple[str, ...] = ()
    for key in path[:-1]:
        here = (*here, key)
        if here in counts:
            here = (*here, str(counts[here]))
    return (*here, path[-1])


def _split(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip().strip("\"'") for part in dotted.split("."))
