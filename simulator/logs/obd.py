"""Reads a folder of the Open Bandit Dataset: one campaign, logged by one policy.

An item in one of the three positions is an action, so that a decision is among all
items in its position. Of the probabilities the dataset has the chosen item's alone.

References:
    Y. Saito, S. Aihara, M. Matsutani and Y. Narita. Open Bandit Dataset and Pipeline:
    towards realistic and reproducible off-policy evaluation. NeurIPS 2021 Datasets and
    Benchmarks, https://arxiv.org/abs/2008.07146.
"""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterator
from pathlib import Path

from policies.model import Features
from simulator.feedback import Feedback
from simulator.logs.base import ROWS_MAX, LeftOut, LogError
from simulator.logs.building import Building, Reading
from simulator.logs.lines import Lines
from simulator.logs.table import row_of
from simulator.logs.times import ms_of

__all__ = ["ITEMS", "ObdReader", "is_obd"]

ITEMS = "item_context.csv"

_NEEDED = ("timestamp", "item_id", "position", "click", "propensity_score")
_AFFINITY = "user-item_affinity_"
_CACHED_MAX = 65_536


class _RowError(Exception):
    """A row cannot be read, and why."""


def is_obd(folder: Path) -> bool:
    """Say whether a folder has the names of such a dataset."""
    return (folder / ITEMS).is_file()


class ObdReader(Reading):
    """Reads a folder with `item_context.csv` and one table of decisions beside it.

    Args:
        path: The folder, such as `open_bandit_dataset/random/all`.
        skip_bad: Whether rows that cannot be read are left out and counted.

    Attributes are those of `Source`.
    """

    format = "obd"

    def __init__(self, path: Path, *, skip_bad: bool = False) -> None:
        super().__init__(path, skip_bad=skip_bad)
        tables = sorted(
            file
            for pattern in ("*.csv", "*.csv.gz")
            for file in path.glob(pattern)
            if file.name != ITEMS
        )
        if len(tables) != 1:
            names = ", ".join(file.name for file in tables) or "none"
            raise LogError(
                path, f"there must be one table beside {ITEMS}, not: {names}"
            )
        self._table = tables[0]
        self.bytes = self._table.stat().st_size
        self._items = self._read_items(path / ITEMS)
        self._actions: dict[str, list[int]] = {}
        self._affinities: dict[tuple[str, ...], Features] = {}

    def parts(
        self, rows_max: int = ROWS_MAX, columns: Collection[str] | None = None
    ) -> Iterator[Feedback]:
        """Yield the decisions; see `Source`."""
        del columns
        self.left_out = LeftOut()
        rows = _cells(self._table)
        _, header = next(rows, (1, []))
        missing = [name for name in _NEEDED if name not in header]
        if missing:
            raise LogError(
                self._table, f"line 1: there is no column {', '.join(missing)}"
            )
        building = Building(self._names)
        for number, cells in rows:
            try:
                self._add(building, number, row_of(header, cells))
            except (_RowError, ValueError) as error:
                self._bad(f"line {number}: {error}", self._table)
            if len(building) >= rows_max:
                yield building.part()
                building = Building(self._names)
        if len(building):
            yield building.part()

    def _add(self, building: Building, number: int, row: dict[str, str]) -> None:
        item, position = row["item_id"], row["position"]
        if item not in self._items:
            raise _RowError(f"item_id: there is no item {item!r} in {ITEMS}")
        actions = self._actions.get(position)
        if actions is None:
            actions = self._actions[position] = [
                self._names.offer(name, position, features)
                for name, features in self._items.items()
            ]
        building.add(
            number,
            reward=_number(row, "click"),
            chosen=self._names.offer(item, position, self._items[item]),
            propensity=_number(row, "propensity_score"),
            actions=actions,
            context=self._context(row),
            time_ms=ms_of(row["timestamp"]),
        )

    def _context(self, row: dict[str, str]) -> Features:
        """Return the user's features, and what links the user to items."""
        names = tuple(
            f"{name}={value}" if not name.startswith(_AFFINITY) else f"{name}:{value}"
            for name, value in row.items()
            if name.startswith(("user_feature_", _AFFINITY)) and value != "0.0"
        )
        known = self._affinities.get(names)
        if known is None:
            known = tuple(
                (name, 1.0)
                if not name.startswith(_AFFINITY)
                else (name.partition(":")[0], float(name.partition(":")[2]))
                for name in names
            )
            if len(self._affinities) >= _CACHED_MAX:
                self._affinities.clear()
            self._affinities[names] = known
        return known

    def _read_items(self, path: Path) -> dict[str, Features]:
        """Return the features of each item."""
        rows = _cells(path)
        _, header = next(rows, (1, []))
        if "item_id" not in header:
            raise LogError(path, "line 1: there is no column item_id")
        items: dict[str, Features] = {}
        for number, cells in rows:
            row = dict(zip(header, cells, strict=False))
            if len(row) != len(header):
                raise LogError(path, f"line {number}: there are {len(row)} cells")
            features = [
                _feature(name, value)
                for name, value in row.items()
                if name.startswith("item_feature_") and value
            ]
            items[row["item_id"]] = tuple(features)
        return items


def _feature(name: str, value: str) -> tuple[str, float]:
    try:
        return name, float(value)
    except ValueError:
        return f"{name}={value}", 1.0


def _number(row: dict[str, str], column: str) -> float:
    try:
        return float(row[column])
    except ValueError:
        raise _RowError(f"{column}: must be a number, not {row[column]!r}") from None


def _cells(path: Path) -> Iterator[tuple[int, list[str]]]:
    lines = (line.text.decode("utf-8", "replace") for line in Lines(path))
    reader = csv.reader(lines)
    try:
        for cells in reader:
            yield reader.line_num, cells
    except csv.Error as error:
        raise LogError(path, f"line {reader.line_num}: {error}") from None
