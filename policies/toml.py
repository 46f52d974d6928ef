"""Reads TOML strictly: what is not known is refused, with the line and the key."""

from __future__ import annotations

import re
import tomllib
from typing import Any, TypeVar

import msgspec

from policies.errors import FileError, Problem

__all__ = ["Duration", "Section", "parse"]

_T = TypeVar("_T")

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
            raise ValueError(f"a duration is written like 7d, 90m or 1d12h, not {text!r}")
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
    except tomllib.TOMLDecodeError as error:
        raise FileError(source, [Problem("syntax", str(error))]) from None
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
        """Turn the table into a struct; none, and a problem, where it is not one."""
        try:
            return msgspec.convert(self.data, kind, dec_hook=_hook)
        except msgspec.ValidationError as error:
            what, _, where = str(error).partition(" - at `$")
            keys = [key for key in re.split(r"[.\[\]`]+", where) if key and key != "..."]
            unknown = re.search(r"unknown field `(.*)`", what)
            if unknown:
                keys.append(unknown.group(1))
            self.problem(what, *keys)
            return None

    def problem(self, description: str, *keys: str) -> None:
        """Note that the value under `keys` of this table is wrong."""
        path = (*self._path, *keys)
        line = _line_of(self._text, path)
        field = ".".join(path) or "file"
        self.problems.append(Problem(f"line {line}: {field}" if line else field, description))


def _hook(kind: type[Any], value: object) -> Any:  # noqa: ANN401 - msgspec's signature
    if kind is Duration:
        return Duration.parse(value)
    raise NotImplementedError(kind)


_HEADER = re.compile(r"\s*\[+\s*(.*?)\s*\]+\s*(?:#.*)?$")
_KEY = re.compile(r"\s*((?:[A-Za-z0-9_-]+|\"[^\"]*\"|'[^']*')(?:\s*\.\s*[A-Za-z0-9_\"'-]+)*)\s*=")


def _line_of(text: str, path: tuple[str, ...]) -> int | None:
    """Return the line, from 1, that says most of `path`; none where none does."""
    table: tuple[str, ...] = ()
    best: tuple[int, int | None] = (0, None)
    for number, line in enumerate(text.splitlines(), start=1):
        if header := _HEADER.match(line):
            table = _split(header.group(1))
            here = table
        elif key := _KEY.match(line):
            here = (*table, *_split(key.group(1)))
        else:
            continue
        if path[: len(here)] == here and len(here) > best[0]:
            best = (len(here), number)
    return best[1]


def _split(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip().strip("\"'") for part in dotted.split("."))
