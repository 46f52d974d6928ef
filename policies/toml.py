"""Reads TOML strictly: what is not known is refused, with file, line and key.

What belongs together may stand in several files, which are read as one. Where they have
to be one text they are joined, with a comment line above each that names it.
"""

from __future__ import annotations

import gc
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar, get_args, get_origin

import msgspec
import tomli

from policies.allowed import keys_at, listed, meant, texts_at
from policies.errors import FileError, Problem

__all__ = [
    "Duration",
    "Section",
    "join_texts",
    "parse",
    "parse_all",
    "split_text",
    "uncollected",
]

_T = TypeVar("_T")
_Path = tuple[str, ...]

_ANY = "..."
"""What msgspec has in the place of the name of a table's entry."""

_UNKNOWN, _MISSING = "is not known", "is required"

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

    @property
    def text(self) -> str:
        """How it is written, in the longest unit up to days that goes into it.

        Examples:
            >>> Duration.parse("1d12h").text
            '36h'
        """
        for unit in ("d", "h", "m", "s"):
            if self % _UNITS_MS[unit] == 0 and self:
                return f"{self // _UNITS_MS[unit]}{unit}"
        return f"{int(self)}ms" if self else "0s"


def parse(text: str, source: str) -> Section:
    """Read the text of a TOML file.

    Raises:
        FileError: If it is not TOML; the message says at which line.
    """
    return parse_all([("", text)], source)


def parse_all(files: Sequence[tuple[str, str]], source: str) -> Section:
    """Read the texts of several TOML files as if they were one.

    Their tables are put together. What two files give is noted as a problem.

    Args:
        files: Names with texts. A file without a name is called `source`.
        source: What to call all of them.

    Raises:
        FileError: If one of them is not TOML; the message says which, at which line.
    """
    read: list[dict[str, Any]] = []
    problems: list[Problem] = []
    for name, text in files:
        try:
            with uncollected():
                read.append(tomli.loads(text))
        except tomli.TOMLDecodeError as error:
            at = error.lineno
            problems.append(Problem("syntax", str(error), at, name or None))
        except ValueError as error:  # A number with more digits than can be read.
            problems.append(Problem("syntax", str(error), file=name or None))
        except RecursionError:
            problems.append(Problem("syntax", "nests too deep", None, name or None))
    if problems:
        raise FileError(source, problems)
    return _joined(read, _Places(files))


def _joined(read: list[dict[str, Any]], places: _Places) -> Section:
    """Put the tables of files together; what was given first stays."""
    top = Section(read[0] if read else {}, places)
    for file, data in enumerate(read[1:], start=1):
        for path in _add(top.data, data, ()):
            first, line = places.find(path, 0, file)
            at = "" if line is None else f", line {line}"
            there = f"{first or 'another file'}{at}"
            also = f"is in {there}, too; a table or a key stands in one file"
            name, here = places.find(path, file)
            top.problems.append(Problem(".".join(path), also, here, name))
    return top


def _add(whole: dict[str, Any], part: dict[str, Any], path: _Path) -> Iterator[_Path]:
    """Add a table to one of the same name; return what both of them give."""
    for key, value in part.items():
        if key not in whole:
            whole[key] = value
            continue
        there = whole[key]
        tables = isinstance(there, dict) and isinstance(value, dict)
        if tables and not (_is_given(there) and _is_given(value)):
            yield from _add(there, value, (*path, key))
        else:
            yield (*path, key)


def _is_given(table: dict[str, Any]) -> bool:
    """Say whether a table has a header of its own, and not only tables below it."""
    return not table or not all(
        isinstance(value, dict)
        or (isinstance(value, list) and all(isinstance(entry, dict) for entry in value))
        for value in table.values()
    )


_MARK = "#: file "
_MARKED = re.compile(rf"^{_MARK}(.+)(?:\n|\Z)", re.MULTILINE)


def join_texts(files: Sequence[tuple[str, str]]) -> str:
    r"""Return several files as one text, from which `split_text` gets them again.

    Args:
        files: Names with texts. A text that ends within a line gets an end of line.

    Raises:
        FileError: If a text holds a line that looks like what parts the files.

    Examples:
        >>> text = join_texts([("a.toml", "x = 1\n"), ("b.toml", "y = 2\n")])
        >>> print(text, end="")
        #: file a.toml
        x = 1
        #: file b.toml
        y = 2
        >>> split_text(text)
        [('a.toml', 'x = 1\n'), ('b.toml', 'y = 2\n')]
    """
    joined: list[str] = []
    for name, text in files:
        if mark := _MARKED.search(text):
            line = text.count("\n", 0, mark.start()) + 1
            said = f"begins with {_MARK!r}, which parts the files of a folder"
            raise FileError(name, [Problem("file", said, line)])
        end = "" if not text or text.endswith("\n") else "\n"
        joined.append(f"{_MARK}{name}\n{text}{end}")
    return "".join(joined)


def split_text(text: str) -> list[tuple[str, str]]:
    """Return the files that a text was joined from: names with texts.

    A text that was not joined from any is one file without a name.
    """
    before, *parts = _MARKED.split(text)
    files = list(zip(parts[::2], parts[1::2], strict=True))
    return files if files and not before.strip() else [("", before), *files]


@contextmanager
def uncollected() -> Iterator[None]:
    """Make much at once: looking for garbage meanwhile costs a third of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class _Found(NamedTuple):
    """What is wrong with a file, and what was left out therefore.

    Attributes:
        left_out: The paths of that.
        gaps: The paths of the tables that lack it, from which more may follow.
    """

    problems: list[Problem]
    left_out: set[_Path]
    gaps: set[_Path]

    def leave_out(self, path: _Path) -> None:
        """Remember that something was left out."""
        self.left_out.add(path)
        self.gaps.update(path[:length] for length in range(len(path)))


class Section:
    """A table of a TOML file, and the problems found in it and below it."""

    def __init__(
        self,
        data: dict[str, Any],
        places: _Places,
        path: _Path = (),
        found: _Found | None = None,
    ) -> None:
        self.data = data
        self._places = places
        self._path = path
        self._found = _Found([], set(), set()) if found is None else found

    @property
    def problems(self) -> list[Problem]:
        """What is wrong with the whole file, as far as was looked."""
        return self._found.problems

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
                found[key] = Section(data, self._places, path, self._found)
            else:
                self.problem(f"must be a table, not {data!r}", name, key)
        return found

    def convert(self, kind: type[_T]) -> _T | None:
        """Turn the table into a struct, and note every problem on the way.

        What is wrong is left out, so that the rest can be looked at further; none
        where that leaves too little.
        """
        with suppress(msgspec.ValidationError), uncollected():
            return msgspec.convert(self.data, kind, dec_hook=_hook)
        # Tables can be many: each is looked at by itself, and the rest without them.
        tables = {
            name: self._convertible(name, entry)
            for name, entry in _tables_of(kind).items()
            if name in self.data
        }
        self.data.update({name: {} for name in tables})
        if self._settled(kind) is None:
            return None
        self.data.update(tables)
        return self._settled(kind)

    def _convertible(self, name: str, kind: type[Any]) -> dict[str, Any]:
        """Take the tables under `name` out, without what is wrong in them."""
        return {
            key: section.data
            for key, section in self.table(name).items()
            if section.convert(kind) is not None
        }

    def _settled(self, kind: type[_T]) -> _T | None:
        """Leave out what is wrong until the rest converts."""
        while True:
            try:
                return msgspec.convert(self.data, kind, dec_hook=_hook)
            except msgspec.ValidationError as error:
                what, keys = _understand(error)
                for at, key in enumerate(keys):
                    if key == _ANY:
                        keys[at] = self._culprit(keys[:at], kind)
                what = _advised(what, keys, self.data, kind)
                keys += self._own_key(what, keys)
                if (*self._path, *keys) not in self._found.gaps:
                    self.problem(what, *keys)
                while not _leave_out(self.data, keys):
                    keys = keys[:-1]
                    if not keys:
                        return None
                self._found.leave_out((*self._path, *keys))

    def _culprit(self, keys: list[str], kind: type[Any]) -> str:
        """Return which entry of a table msgspec means, which does not name it."""
        table: dict[str, Any] = _walk(self.data, keys)
        entries = dict(table)

        def is_meant(name: str) -> bool:
            table.clear()
            table[name] = entries[name]
            try:
                msgspec.convert(self.data, kind, dec_hook=_hook)
            except msgspec.ValidationError as error:
                return _understand(error)[1][: len(keys) + 1] == [*keys, _ANY]
            return False

        try:
            return next(filter(is_meant, entries), _ANY)
        finally:
            table.clear()
            table.update(entries)

    def _own_key(self, what: str, keys: list[str]) -> list[str]:
        """Return the key that a struct of ours names first in what it says."""
        first = re.split(r"[ .:]", what, maxsplit=1)[0]
        with suppress(LookupError, ValueError, TypeError):
            table = _walk(self.data, keys)
            if isinstance(table, dict) and first in table:
                return [first]
        return []

    def problem(self, description: str, *keys: str) -> None:
        """Note that the value under `keys` of this table is wrong.

        What was left out by `convert` is known to be wrong; what follows from its
        absence is not noted.
        """
        path = (*self._path, *keys)
        if not any(
            path[:length] in self._found.left_out for length in range(1, len(path) + 1)
        ):
            file, line = self._places.find(path)
            field = ".".join(path) or "file"
            self.problems.append(Problem(field, description, line, file))


def _understand(error: msgspec.ValidationError) -> tuple[str, list[str]]:
    """Return what msgspec says is wrong, and the keys that lead to it."""
    what, _, where = str(error).partition(" - at `")
    path = where.removeprefix("key` in `").rstrip("`").lstrip("$")
    keys = [key for key in re.split(r"\.(?!\.)(?<!\.\.)|[\[\]]+", path) if key]
    if path != where.rstrip("`").lstrip("$"):
        keys += re.findall("'(.*)'", what)
    if unknown := re.search(r"unknown field `(.*)`", what):
        keys.append(unknown.group(1))
        what = _UNKNOWN
    elif missing := re.search(r"missing required field `(.*)`", what):
        keys.append(missing.group(1))
        what = _MISSING
    elif keys and re.fullmatch(r"Expected `object( \| null)?`, got `str`", what):
        what = f'is a table, such as {keys[-1]} = {{ kind = "..." }}, not a text'
    return what, keys


def _advised(what: str, keys: Sequence[str], data: Any, kind: type[Any]) -> str:
    """Return what is wrong with what would be right, where that is one of a few."""
    if what == _UNKNOWN:
        known = keys_at(kind, data, keys[:-1])
        if slip := meant(keys[-1], known):
            return f"{what}; did you mean {slip}?"
        return f"{what}; known here: {', '.join(known)}" if known else what
    value = re.fullmatch(r"Invalid (?:enum )?value ('.*')", what, re.DOTALL)
    if what != _MISSING and value is None:
        return what
    texts = texts_at(kind, data, keys)
    if not texts:
        return what
    if value is None:
        return f"{what}: {listed(texts, 'or')}"
    return f"must be {listed(texts, 'or')}, not {value.group(1)}"


def _walk(data: Any, keys: Sequence[str]) -> Any:
    for key in keys:
        data = data[int(key)] if isinstance(data, list) else data[key]
    return data


def _leave_out(data: Any, keys: Sequence[str]) -> bool:
    """Take the value under the keys away; say whether that could be.

    Nothing is taken out of a list: what follows would change its number.
    """
    with suppress(LookupError, ValueError, TypeError):
        parent = _walk(data, keys[:-1])
        if isinstance(parent, dict):
            del parent[keys[-1]]
            return True
    return False


_tables: dict[type[Any], dict[str, type[Any]]] = {}


def _tables_of(kind: type[Any]) -> dict[str, type[Any]]:
    """Return which keys of a struct hold tables by names, and tables of what."""
    if kind not in _tables:
        fields = msgspec.structs.fields(kind) if _is_struct(kind) else ()
        _tables[kind] = {
            field.name: get_args(field.type)[1]
            for field in fields
            if get_origin(field.type) is dict and _is_struct(get_args(field.type)[1])
        }
    return _tables[kind]


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _hook(kind: type[Any], value: object) -> Any:
    if kind is Duration:
        return _duration(value) if isinstance(value, str) else Duration.parse(value)
    raise NotImplementedError(kind)


_duration = lru_cache(maxsize=1_024)(Duration.parse)


# --- Where it stands --------------------------------------------------------------

_KEY = r"(?:[A-Za-z0-9_-]+|\"(?:[^\"\\]|\\.)*\"|'[^']*')"
_PART_OF_KEY = re.compile(_KEY)
_DOTTED = rf"{_KEY}(?:[ \t]*\.[ \t]*{_KEY})*"
_HEADER = re.compile(rf"[ \t]*(\[\[?)[ \t]*({_DOTTED})[ \t]*\]")
_ASSIGNMENT = re.compile(rf"[ \t]*({_DOTTED})[ \t]*=")
_OPENS = re.compile(r"[ \t]*(?:[\[{]|\"\"\"|''')")
_PLAIN = r"(?:[^\"'\[\]{}#\n]++|\"(?:[^\"\\\n]|\\.)*+\"(?!\")|'[^'\n]*+'(?!'))*+"
_FLAT = rf"[\[{{]{_PLAIN}[\]}}]{_PLAIN}"
_NESTED = rf"[\[{{]{_PLAIN}(?:{_FLAT})*+[\]}}]{_PLAIN}"
_IN_LINE = re.compile(rf"[ \t]*[\[{{]{_PLAIN}(?:{_NESTED})*+[\]}}]")
_TOKEN = re.compile(
    r"#[^\n]*"
    r"|\"\"\"(?:[^\\]|\\.)*?\"{3,5}|'''.*?'{3,5}"
    r"|\"(?:[^\"\\]|\\.)*\"|'[^']*'"
    r"|[^\s\[\]{}=,.#]+|[\[\]{}=,\n]",
    re.DOTALL,
)


class _Places:
    """Where the keys of files stand; looked for when something is wrong.

    Args:
        files: Names with texts.
    """

    def __init__(self, files: Sequence[tuple[str, str]]) -> None:
        self._files = files
        self._lines: dict[int, dict[_Path, int]] = {}

    def find(
        self, path: _Path, start: int = 0, stop: int | None = None
    ) -> tuple[str | None, int | None]:
        """Return the file and the line, from 1, that say most of `path`.

        Args:
            path: The keys, the outermost first.
            start: The first file to look at.
            stop: The file to stop before.

        Returns:
            None for the name of a file without one, and for both where no line says
            any of it.
        """
        files = range(len(self._files))[start:stop]
        for length in range(len(path), 0, -1):
            for file in files:
                line = self._lines_of(file).get(path[:length])
                if line is not None:
                    return self._files[file][0] or None, line
        return None, None

    def _lines_of(self, file: int) -> dict[_Path, int]:
        if file not in self._lines:
            self._lines[file] = _lines(self._files[file][1])
        return self._lines[file]


def _lines(text: str) -> dict[_Path, int]:
    """Return where each header, key and part of a list stands in a text, first."""
    lines: dict[_Path, int] = {}
    table: _Path = ()
    counts: dict[_Path, int] = {}
    number, at = 1, 0
    while at < len(text):
        if header := _HEADER.match(text, at):
            table = _counted(_split(header.group(2)), counts)
            if header.group(1) == "[[":
                counts[table] = counts.get(table, -1) + 1
                table = (*table, str(counts[table]))
            _note(lines, table, number)
        elif key := _ASSIGNMENT.match(text, at):
            path = (*table, *_split(key.group(1)))
            _note(lines, path, number)
            at = key.end()
            if _OPENS.match(text, at) and not _IN_LINE.match(text, at):
                at, number = _follow(text, at, number, path, lines)
        at = text.find("\n", at) + 1 or len(text)
        number += 1
    return lines


def _note(lines: dict[_Path, int], path: _Path, number: int) -> None:
    """Note where a key stands, and what is above it, if it is the first in that."""
    while path and path not in lines:
        lines[path] = number
        path = path[:-1]


def _follow(
    text: str, at: int, number: int, path: _Path, lines: dict[_Path, int]
) -> tuple[int, int]:
    """Note where the entries of a list stand; return where it ends, and in which line.

    Args:
        text: The whole text.
        at: Where in it the value begins.
        number: In which line that is.
        path: The keys of the value, which may as well be a table or a long string.
        lines: Where to note it. Of what is inside a table nothing is noted.
    """
    opened: list[_Path | None] = []
    here: _Path | None = path
    for token in _TOKEN.finditer(text, at):
        what, at = token.group(), token.end()
        if what in ("]", "}"):
            here = opened.pop()
        elif what == ",":
            here = here and (*here[:-1], str(int(here[-1]) + 1))
        elif what != "\n" and what[0] != "#":
            if here:
                lines.setdefault(here, number)
            if what in ("[", "{"):
                opened.append(here)
                here = (*here, "0") if here and what == "[" else None
        number += what.count("\n")
        if not opened:
            break
    return at, number


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


@lru_cache(maxsize=4_096)
def _split(dotted: str) -> _Path:
    """Return the parts of a key; escapes in quoted ones stay as they are."""
    parts = _PART_OF_KEY.findall(dotted)
    return tuple([part.strip("\"'") for part in parts])
