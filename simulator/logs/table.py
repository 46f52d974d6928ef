"""Reads CSV files, by a mapping that says which column is what.

The mapping is TOML, and `CsvMapping` documents its keys.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Annotated, Any

import msgspec

from policies.errors import FileError, plainly
from policies.model import Features
from policies.toml import parse
from simulator.feedback import Feedback
from simulator.logs.base import ROWS_MAX, LeftOut, LogError
from simulator.logs.building import Building, Reading, hash_of
from simulator.logs.lines import Lines
from simulator.logs.naming import action_called
from simulator.logs.times import ms_of

__all__ = ["OWN_MAPPING", "CsvMapping", "CsvReader", "read_mapping"]

_Chance = Annotated[float, msgspec.Meta(gt=0.0, le=1.0)]
_UNKNOWN = float("nan")
_ALWAYS = ("action", "reward", "propensity")


class CsvMapping(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which column of a table is what.

    Attributes:
        action: The column with what was chosen.
        reward: The column with what it earned; this or `cost`. An empty cell is an
            unknown reward.
        cost: The column with what it cost, a reward of the other sign.
        propensity: The column with how likely that was, in (0, 1], or one number for
            all rows. Without it, it is found in `probabilities`.
        actions: The eligible actions: the column that lists them, as JSON, or, where
            they are the same for all, the list itself. Without it they are not known.
        probabilities: How likely each was: the column that lists them, as JSON, or by
            action the column with its probability.
        placement: The column with where it was shown; empty for none.
        features: The columns that describe user and moment: numbers are numbers,
            other texts are categories, and an empty cell says nothing.
        context: The column with more features, a JSON object of numbers.
        time: The column with when, as ISO 8601 or Unix time; empty for none.
        user: The column with whose it is; empty for none.
        segment: The column with the user's segment; empty for none.
        policy: The column with the name of the logging policy; empty for none.
        id: The column with the id of the decision; empty for none.
        split: The column with the part of the users; empty for none.
        floor: The column with the least probability; empty for none.
        objectives: By their names, the columns with other outcomes, which are numbers.
        targets: By the names of other policies, the columns with their probability of
            what was chosen.
        delimiter: What is between cells, one character.
    """

    action: str
    reward: str = ""
    cost: str = ""
    propensity: str | _Chance = ""
    actions: str | list[str] = ""
    probabilities: str | dict[str, str] = ""
    placement: str = ""
    features: list[str] = []
    context: str = ""
    time: str = ""
    user: str = ""
    segment: str = ""
    policy: str = ""
    id: str = ""
    split: str = ""
    floor: str = ""
    objectives: dict[str, str] = {}
    targets: dict[str, str] = {}
    delimiter: Annotated[str, msgspec.Meta(min_length=1, max_length=1)] = ","

    def __post_init__(self) -> None:
        """Refuse what leaves a reward or a propensity open."""
        if bool(self.reward) == bool(self.cost):
            raise ValueError("one of reward and cost must be given, and not both")
        if not self.propensity and not self.probabilities:
            raise ValueError("propensity or probabilities must be given")
        if self.probabilities and not self.actions:
            named = isinstance(self.probabilities, dict)
            if not named:
                raise ValueError("probabilities as a list need actions as a list")

    def columns(self) -> list[str]:
        """Return the columns that it names."""
        names = [self.action, self.reward, self.cost, self.placement, *self.features]
        names += [self.context, self.time, self.user, self.segment, self.policy]
        names += [self.id, self.split, self.floor]
        names += [*self.objectives.values(), *self.targets.values()]
        for value in (self.propensity, self.actions, self.probabilities):
            if isinstance(value, str):
                names.append(value)
            elif isinstance(value, dict):
                names += value.values()
        return [name for name in names if name]


OWN_MAPPING = CsvMapping(
    action="action",
    reward="reward",
    propensity="propensity",
    actions="actions",
    probabilities="probabilities",
    context="context",
    time="time",
    user="user",
    segment="segment",
    policy="policy",
    id="id",
    split="split",
    floor="floor",
)
"""What the columns are that `convert` writes."""


def read_mapping(path: Path) -> CsvMapping:
    """Read a mapping from a TOML file.

    Raises:
        LogError: If it is none; the message says the lines and the keys.
    """
    try:
        section = parse(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise LogError(path, plainly(error)) from None
    except FileError as error:
        raise LogError(path, str(error).removeprefix(f"{path}: ")) from None
    mapping = section.convert(CsvMapping)
    if mapping is None or section.problems:
        raise LogError(path, "; ".join(str(problem) for problem in section.problems))
    return mapping


class _RowError(Exception):
    """A row cannot be read, and why."""


class CsvReader(Reading):
    """Reads a table with one row per decision.

    Args:
        path: The file, plain or packed by gzip, with the names of its columns first.
        mapping: Which column is what.
        skip_bad: Whether rows that cannot be read are left out and counted.

    Attributes are those of `Source`.
    """

    format = "csv"

    def __init__(
        self, path: Path, mapping: CsvMapping, *, skip_bad: bool = False
    ) -> None:
        super().__init__(path, skip_bad=skip_bad)
        self._mapping = mapping
        self._is_own = mapping is OWN_MAPPING
        self._header = self._columns()
        if self._is_own:
            self._mapping = mapping = _own(self._header)
        missing = sorted(set(mapping.columns()) - set(self._header))
        if missing:
            there = ", ".join(self._header)
            raise LogError(
                path,
                f"line 1: there is no column {', '.join(missing)}; there are: {there}",
            )
        self.targets = tuple(mapping.targets)

    def parts(
        self, rows_max: int = ROWS_MAX, columns: Collection[str] | None = None
    ) -> Iterator[Feedback]:
        """Yield the decisions; see `Source`."""
        del columns
        self.left_out = LeftOut()
        building = self._begun()
        for number, cells in self._rows():
            if not cells:
                continue
            try:
                self._add(building, number, row_of(self._header, cells))
            except (_RowError, ValueError) as error:
                self._bad(f"line {number}: {error}")
            if len(building) >= rows_max:
                yield building.part()
                building = self._begun()
        if len(building):
            yield building.part()

    def _begun(self) -> Building:
        building = Building(self._names)
        building.objectives = {name: [] for name in self._mapping.objectives}
        building.targets = {name: [] for name in self._mapping.targets}
        return building

    def _texts(self, lines: Lines) -> Iterator[str]:
        for number, text, _ in lines:
            self.read = lines.read
            try:
                yield text.decode() + "\n"
            except UnicodeDecodeError as error:
                raise LogError(self.path, f"line {number}: {error}") from None

    def _rows(self) -> Iterator[tuple[int, list[str]]]:
        reader = csv.reader(
            self._texts(Lines(self.path)), delimiter=self._mapping.delimiter
        )
        try:
            next(reader, None)
            while True:
                number = reader.line_num + 1
                cells = next(reader, None)
                if cells is None:
                    return
                yield number, cells
        except csv.Error as error:
            raise LogError(self.path, f"line {reader.line_num}: {error}") from None

    def _columns(self) -> list[str]:
        delimiter = self._mapping.delimiter
        lines = self._texts(Lines(self.path))
        header = next(csv.reader(lines, delimiter=delimiter), None)
        if header is None:
            return list(dict.fromkeys(self._mapping.columns()))
        return header

    def _add(self, building: Building, number: int, row: dict[str, str]) -> None:
        """Read a row whole, then add it: a bad one leaves nothing behind."""
        mapping = self._mapping
        place = row[mapping.placement] if mapping.placement else ""
        chosen = self._action(row[mapping.action], place)
        names, probabilities = self._eligible(row)
        actions = [self._action(name, place) for name in names]
        if actions and chosen not in actions:
            name = row[mapping.action]
            raise _RowError(f"{mapping.action}: {name!r} is not among the actions")
        reward = self._reward(row)
        propensity = self._propensity(row)
        if propensity is None:
            if not actions or probabilities is None:
                raise _RowError("there is no propensity")
            propensity = probabilities[actions.index(chosen)]
        user = row[mapping.user] if mapping.user else ""
        name = row[mapping.id] if mapping.id else ""
        whose = user or name
        others = {
            key: _read(row, column, _float, _UNKNOWN)
            for key, column in mapping.objectives.items()
        }
        targets = {
            key: _read(row, column, _float, _UNKNOWN)
            for key, column in mapping.targets.items()
        }
        building.add(
            number,
            reward=reward,
            chosen=chosen,
            propensity=propensity,
            actions=actions,
            probabilities=probabilities,
            context=self._context(row),
            time_ms=_read(row, mapping.time, ms_of, 0),
            key=hash_of(whose) if whose else None,
            logger=row[mapping.policy] if mapping.policy else "",
            floor=_read(row, mapping.floor, _float, 0.0),
        )
        if mapping.segment:
            building.segments.append(row[mapping.segment])
        if mapping.id:
            building.ids.append(name)
        if mapping.split:
            building.splits.append(row[mapping.split])
        for key, value in others.items():
            building.objectives[key].append(value)
        for key, value in targets.items():
            building.targets[key].append(value)

    def _action(self, name: str, placement_id: str) -> int:
        if self._is_own:
            return self._names.action(action_called(name))
        return self._names.offer(name, placement_id)

    def _reward(self, row: dict[str, str]) -> float:
        mapping = self._mapping
        earned = _read(row, mapping.reward or mapping.cost, _float, _UNKNOWN)
        reward: float = earned if mapping.reward else 0.0 - earned
        return reward

    def _propensity(self, row: dict[str, str]) -> float | None:
        given = self._mapping.propensity
        if isinstance(given, float):
            return given
        value: float | None = _read(row, given, _float, None)
        return value

    def _eligible(self, row: dict[str, str]) -> tuple[list[str], list[float] | None]:
        """Return the names of the eligible actions, and how likely each was."""
        mapping = self._mapping
        if isinstance(mapping.probabilities, dict):
            shares = {
                name: _read(row, column, _float, 0.0)
                for name, column in mapping.probabilities.items()
            }
            names = self._listed(row, list(shares))
            return names, [shares.get(name, 0.0) for name in names]
        names = self._listed(row, [])
        if not mapping.probabilities:
            fixed = mapping.propensity
            # The same for every row, whatever was chosen: it is that of each action.
            alike = isinstance(fixed, float) and abs(len(names) * fixed - 1.0) < 1e-6
            return names, [fixed] * len(names) if alike else None  # type: ignore[list-item]
        listed = _read(row, mapping.probabilities, _json(list[float | None]), None)
        if listed is None:
            return names, None
        if len(listed) != len(names):
            raise _RowError(
                f"{mapping.probabilities}: must be {len(names)}, as many as actions"
            )
        return names, [_UNKNOWN if share is None else share for share in listed]

    def _listed(self, row: dict[str, str], otherwise: list[str]) -> list[str]:
        given = self._mapping.actions
        if isinstance(given, list):
            return given
        listed: list[str] = _read(row, given, _json(list[str]), otherwise)
        return listed

    def _context(self, row: dict[str, str]) -> Features:
        mapping = self._mapping
        found: list[tuple[str, float]] = []
        for column in mapping.features:
            text = row[column]
            if text:
                try:
                    found.append((column, float(text)))
                except ValueError:
                    found.append((f"{column}={text}", 1.0))
        more: dict[str, float] = _read(
            row, mapping.context, _json(dict[str, float]), {}
        )
        return (*found, *more.items())


def row_of(header: list[str], cells: list[str]) -> dict[str, str]:
    """Return the cells of a row by the names of their columns.

    Raises:
        ValueError: If there are more or fewer.
    """
    if len(cells) != len(header):
        raise ValueError(f"there are {len(cells)} cells under {len(header)} names")
    return dict(zip(header, cells, strict=True))


def _own(header: list[str]) -> CsvMapping:
    """Return our own mapping as far as a file has its columns."""

    def named(prefix: str) -> dict[str, str]:
        return {
            column.removeprefix(prefix): column
            for column in header
            if column.startswith(prefix)
        }

    given = msgspec.structs.asdict(OWN_MAPPING)
    there = {
        field: column if column in header else ""
        for field, column in given.items()
        if isinstance(column, str) and field not in ("delimiter", *_ALWAYS)
    }
    if not there["actions"]:
        there["probabilities"] = ""
    return msgspec.structs.replace(
        OWN_MAPPING,
        objectives=named("objective:"),
        targets=named("target:"),
        **there,
    )


def _read(
    row: dict[str, str], column: str, read: Callable[[str], Any], otherwise: Any
) -> Any:
    """Read a cell; what is empty, or no column at all, is otherwise."""
    text = row[column] if column else ""
    if not text:
        return otherwise
    try:
        return read(text)
    except (ValueError, msgspec.DecodeError, OverflowError) as error:
        raise _RowError(f"{column}: {error}") from None


def _float(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"must be a number, not {text!r}") from None
    if math.isinf(value):
        raise ValueError(f"must be finite, not {text!r}")
    return value


def _json(kind: Any) -> Callable[[str], Any]:
    return lambda text: msgspec.json.decode(text, type=kind)
