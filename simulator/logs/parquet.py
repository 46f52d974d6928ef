"""Logs as Parquet: one file, or a folder with a folder per day, of any size.

What is eligible is numbered by the vocabulary in the metadata of each file. Only the
columns that are asked for are read, so that an importance-weighted estimate takes 24
bytes a row.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from policies.model import Action, Features, FloatArray
from simulator.feedback import Contexts, Feedback, joined
from simulator.logs.base import ROWS_MAX, LeftOut, LogError
from simulator.logs.building import Reading
from simulator.logs.times import day_of

__all__ = ["SUFFIX", "ParquetReader", "ParquetWriter"]

SUFFIX = ".parquet"

_ROWS = 65_536
"""How many rows a row group has."""
_OPEN_MAX = 16
"""How many days are written at the same time; others close and begin a new file."""
_DAY_MS = 86_400_000
_VOCABULARY = b"opportune.vocabulary"
_OBJECTIVE = "objective:"
_TARGET = "target:"
_NUMBERS = {
    "positions": "position",
    "times_ms": "time_ms",
    "keys": "key",
    "floors": "floor",
    "counts": "count",
}
_TEXTS = {"segments": "segment", "ids": "id", "splits": "split"}
_PLAIN = {"probabilities", "context", "key", "id", "position", "time_ms"}


class ParquetReader(Reading):
    """Reads what `ParquetWriter` wrote.

    Args:
        path: A file, or a folder with files anywhere below it.
        skip_bad: Whether rows that cannot be are left out and counted.

    Attributes are those of `Source`.
    """

    format = "parquet"

    def __init__(self, path: Path, *, skip_bad: bool = False) -> None:
        super().__init__(path, skip_bad=skip_bad)
        self._files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
        if not self._files:
            raise LogError(path, "there is no *.parquet file in this folder")
        self.bytes = sum(file.stat().st_size for file in self._files)
        self.rows = 0
        targets: set[str] | None = None
        for file in self._files:
            opened = _open(file)
            self.rows += opened.metadata.num_rows
            names = set(opened.schema_arrow.names)
            missing = sorted({"reward", "propensity"} - names)
            if missing:
                raise LogError(file, f"there is no column {' and no '.join(missing)}")
            found = {name for name in names if name.startswith(_TARGET)}
            targets = found if targets is None else targets & found
            opened.close()
        self.targets = tuple(sorted(n.removeprefix(_TARGET) for n in targets or ()))

    def parts(
        self, rows_max: int = ROWS_MAX, columns: Collection[str] | None = None
    ) -> Iterator[Feedback]:
        """Yield the decisions, of those columns; see `Source`."""
        self.left_out = LeftOut()
        self.read = 0
        for file in self._files:
            try:
                yield from self._file(file, rows_max, columns)
            except OSError as error:
                raise LogError(file, f"is damaged: {error}") from None
            except _arrow().ArrowException as error:
                raise LogError(file, f"is damaged: {error}") from None
            self.read += file.stat().st_size

    def _file(
        self, file: Path, rows_max: int, columns: Collection[str] | None
    ) -> Iterator[Feedback]:
        opened = _open(file)
        places = self._places(file, opened)
        wanted = _wanted(opened.schema_arrow.names, columns)
        row = 0
        with opened:
            for batch in opened.iter_batches(rows_max, columns=wanted):
                part = self._part(batch, places)
                yield self._checked(part, file, row, len(places))
                row += batch.num_rows

    def _places(self, file: Path, opened: Any) -> NDArray[np.int32]:
        """Return the place of each action of a file's vocabulary in ours."""
        text = (opened.schema_arrow.metadata or {}).get(_VOCABULARY)
        if text is None:
            text = (opened.metadata.metadata or {}).get(_VOCABULARY, b"[]")
        try:
            actions = msgspec.json.decode(text, type=list[Action])
        except msgspec.DecodeError as error:
            raise LogError(file, f"{_VOCABULARY.decode()}: {error}") from None
        return np.array([self._names.action(action) for action in actions], np.int32)

    def _part(self, batch: Any, places: NDArray[np.int32]) -> Feedback:
        names = set(batch.schema.names)
        columns: dict[str, Any] = {
            field: _numpy(batch.column(name)) if name in names else _EMPTY[field]
            for field, name in _NUMBERS.items()
        }
        for field, name in _TEXTS.items():
            columns[field] = batch.column(name).to_pylist() if name in names else ()
        offsets, actions = _EMPTY["offsets"], _EMPTY["actions"]
        probabilities = _EMPTY["probabilities"]
        if "actions" in names:
            offsets, actions = _list(batch.column("actions"))
            _, probabilities = _list(batch.column("probabilities"))
        chosen = _numpy(batch.column("chosen")) if "chosen" in names else None
        return Feedback(
            rewards=_floats(batch.column("reward")),
            propensities=_floats(batch.column("propensity")),
            chosen=_EMPTY["chosen"] if chosen is None else _mapped(chosen, places),
            loggers=self._loggers(batch) if "policy" in names else _EMPTY["loggers"],
            offsets=offsets,
            actions=_mapped(actions, places) if len(actions) else actions,
            probabilities=probabilities,
            contexts=self._contexts(batch.column("context"))
            if "context" in names
            else (),
            vocabulary=self._names.vocabulary,
            policies=self._names.policies,
            objectives=_named(batch, names, _OBJECTIVE),
            targets=_named(batch, names, _TARGET),
            **columns,
        )

    def _checked(self, part: Feedback, file: Path, row: int, n: int) -> Feedback:
        """Return the part without the rows that cannot be."""
        wrong: dict[int, str] = {}
        if len(part.offsets) and len(part.actions) != len(part.probabilities):
            raise LogError(file, "probabilities: must be as many as there are actions")
        for at in np.flatnonzero(part.chosen < 0).tolist():
            wrong[at] = f"chosen: must be one of the {n} actions of the file"
        for at in np.flatnonzero(part.actions < 0).tolist():
            wrong[int(np.searchsorted(part.offsets, at, "right")) - 1] = (
                f"actions: each must be one of the {n} actions of the file"
            )
        for at in np.flatnonzero(np.isnan(part.propensities)).tolist():
            wrong[at] = "propensity: is missing"
        if not wrong:
            return part
        for at, problem in sorted(wrong.items()):
            self._bad(f"row {row + at + 1}: {problem}", file)
        keep = np.ones(len(part), np.bool_)
        keep[list(wrong)] = False
        return part.take(keep)

    def _loggers(self, batch: Any) -> NDArray[np.int32]:
        codes, names = _encoded(batch.column("policy"))
        return _mapped(codes, np.array([self._names.policy(n) for n in names]))

    def _contexts(self, column: Any) -> Contexts:
        offsets = column.offsets.to_numpy()
        begin, end = int(offsets[0]), int(offsets[-1])
        codes, names = _encoded(column.keys.slice(begin, end - begin))
        places = np.array([self._names.feature(name) for name in names], np.int32)
        return Contexts(
            self._names.features,
            offsets.astype(np.int64) - begin,
            _mapped(codes, places),
            _floats(column.items.slice(begin, end - begin)),
        )


class ParquetWriter:
    """Writes parts as Parquet.

    Args:
        path: A file, or a folder, with a folder `day=YYYY-MM-DD` for each day, UTC.
        single: Whether it is a file; so it is where it ends in `.parquet`, unless
            something else is said.
    """

    def __init__(self, path: Path, *, single: bool | None = None) -> None:
        self.path = path
        self._single = path.suffix == SUFFIX if single is None else single
        self._days: dict[str, _DayWriter] = {}
        self._files: dict[str, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for writer in self._days.values():
            writer.close()

    def write(self, part: Feedback) -> None:
        """Write a part."""
        if self._single:
            self._of("").add(part)
            return
        days = part.times_ms // _DAY_MS
        for day in np.unique(days):
            rows = days == day
            of_day = part if rows.all() else part.take(rows)
            self._of(day_of(int(of_day.times_ms[0]))).add(of_day)

    def _of(self, day: str) -> _DayWriter:
        writer = self._days.get(day)
        if writer is None:
            if len(self._days) >= _OPEN_MAX:
                oldest = next(iter(self._days))
                self._days.pop(oldest).close()
            path = self.path
            if not self._single:
                number = self._files[day] = self._files.get(day, -1) + 1
                path = path / f"day={day}" / f"part-{number}{SUFFIX}"
            writer = self._days[day] = _DayWriter(path)
        return writer


class _DayWriter:
    """One file under way."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._writer: Any = None
        self._waiting: list[Feedback] = []
        self._rows = 0
        self._vocabulary: list[Action] = []

    def add(self, part: Feedback) -> None:
        self._waiting.append(part)
        self._rows += len(part)
        if self._rows >= _ROWS:
            self._flush()

    def _flush(self) -> None:
        if not self._waiting:
            return
        import pyarrow.parquet as pq  # noqa: PLC0415 - as `_arrow` has it

        part = joined(self._waiting)
        table = table_of(part)
        if self._writer is None:
            encoded = [
                name
                for name in table.schema.names
                if name not in _PLAIN and not name.startswith(_TARGET)
            ]
            self._writer = pq.ParquetWriter(
                self._path,
                table.schema,
                compression="zstd",
                use_dictionary=[*encoded, *_INNER],
            )
        self._writer.write_table(table, row_group_size=_ROWS)
        self._vocabulary = list(part.vocabulary)
        self._waiting, self._rows = [], 0

    def close(self) -> None:
        self._flush()
        if self._writer is not None:
            text = msgspec.json.encode(self._vocabulary)
            self._writer.add_key_value_metadata({_VOCABULARY: text})
            self._writer.close()


_INNER = ("actions.list.element", "context.key_value.key")


def table_of(part: Feedback) -> Any:
    """Return a part as an Arrow table; columns that are empty are left out."""
    pa = _arrow()
    columns: dict[str, Any] = {}
    for field, name in _NUMBERS.items():
        values = getattr(part, field)
        if len(values):
            columns[name] = pa.array(values)
    columns["reward"] = pa.array(part.rewards, from_pandas=True)
    columns["propensity"] = pa.array(part.propensities)
    if len(part.loggers):
        columns["policy"] = pa.DictionaryArray.from_arrays(
            pa.array(part.loggers), pa.array(list(part.policies), pa.string())
        )
    if len(part.chosen):
        names = pa.array([action.name for action in part.vocabulary], pa.string())
        columns["chosen"] = pa.array(part.chosen)
        columns["action"] = pa.DictionaryArray.from_arrays(
            columns["chosen"], names, safe=False
        )
    if len(part.offsets):
        offsets = pa.array(part.offsets.astype(np.int32))
        columns["actions"] = pa.ListArray.from_arrays(offsets, pa.array(part.actions))
        columns["probabilities"] = pa.ListArray.from_arrays(
            offsets, pa.array(part.probabilities)
        )
    if len(part.contexts):
        columns["context"] = _map(part.contexts)
    for field, name in _TEXTS.items():
        texts = getattr(part, field)
        if len(texts):
            texts = pa.array(list(texts), pa.string())
            columns[name] = texts if name == "id" else texts.dictionary_encode()
    for name, values in part.objectives.items():
        columns[_OBJECTIVE + name] = pa.array(values, from_pandas=True)
    for name, values in part.targets.items():
        columns[_TARGET + name] = pa.array(values)
    return pa.table(columns)


def _map(contexts: Any) -> Any:
    pa = _arrow()
    if not isinstance(contexts, Contexts):
        contexts = coded(contexts)
    keys = pa.array(list(contexts.names), pa.string()).take(pa.array(contexts.codes))
    offsets = pa.array(contexts.offsets.astype(np.int32))
    return pa.MapArray.from_arrays(offsets, keys, pa.array(contexts.values))


def coded(contexts: Collection[Features]) -> Contexts:
    """Return the features of rows as columns."""
    places: dict[str, int] = {}
    codes = [
        places.setdefault(name, len(places))
        for features in contexts
        for name, _ in features
    ]
    values = [value for features in contexts for _, value in features]
    return Contexts(
        list(places),
        np.cumsum([0, *map(len, contexts)]),
        np.array(codes, np.int32),
        np.array(values, np.float64),
    )


_EMPTY: Mapping[str, NDArray[Any]] = {
    "positions": np.empty(0, np.int64),
    "times_ms": np.empty(0, np.int64),
    "keys": np.empty(0, np.uint64),
    "floors": np.empty(0),
    "counts": np.empty(0),
    "chosen": np.empty(0, np.int32),
    "loggers": np.empty(0, np.int32),
    "offsets": np.empty(0, np.int64),
    "actions": np.empty(0, np.int32),
    "probabilities": np.empty(0),
}


def _wanted(names: list[str], columns: Collection[str] | None) -> list[str]:
    """Return the columns of a file to read."""
    if columns is None:
        return [name for name in names if name != "action"]
    of_field = {
        "loggers": ["policy"],
        "chosen": ["chosen"],
        "actions": ["actions", "probabilities"],
        "offsets": ["actions", "probabilities"],
        "probabilities": ["actions", "probabilities"],
        "contexts": ["context"],
        "objectives": [name for name in names if name.startswith(_OBJECTIVE)],
        "targets": [name for name in names if name.startswith(_TARGET)],
    }
    of_field |= {field: [name] for field, name in (_NUMBERS | _TEXTS).items()}
    wanted = {"reward", "propensity"}
    for column in columns:
        wanted.update(of_field.get(column, [column]))
    return [name for name in names if name in wanted]


def _named(batch: Any, names: set[str], prefix: str) -> dict[str, FloatArray]:
    return {
        name.removeprefix(prefix): _floats(batch.column(name))
        for name in batch.schema.names
        if name in names and name.startswith(prefix)
    }


def _numpy(column: Any) -> NDArray[Any]:
    values: NDArray[Any] = column.to_numpy(zero_copy_only=False)
    return values


def _floats(column: Any) -> FloatArray:
    return _numpy(column).astype(np.float64, copy=False)


def _list(column: Any) -> tuple[NDArray[np.int64], NDArray[Any]]:
    offsets = column.offsets.to_numpy().astype(np.int64)
    return offsets - offsets[0], _numpy(column.flatten())


def _encoded(column: Any) -> tuple[NDArray[Any], list[str]]:
    if not hasattr(column, "dictionary"):
        column = column.dictionary_encode()
    return _numpy(column.indices), column.dictionary.to_pylist()


def _mapped(codes: NDArray[Any], places: NDArray[Any]) -> NDArray[np.int32]:
    """Return the place of each code; −1 where there is none."""
    known = (codes >= 0) & (codes < len(places))
    mapped: NDArray[np.int32]
    if known.all():
        mapped = places[codes].astype(np.int32, copy=False)
        return mapped
    mapped = np.full(len(codes), -1, np.int32)
    mapped[known] = places[codes[known]]
    return mapped


def _open(file: Path) -> Any:
    import pyarrow.parquet as pq  # noqa: PLC0415 - as `_arrow` has it

    try:
        return pq.ParquetFile(file, memory_map=True)
    except (OSError, _arrow().ArrowException) as error:
        raise LogError(file, f"is no Parquet file that can be read: {error}") from None


def _arrow() -> Any:
    """Import pyarrow where it is needed: it takes as long as all of the rest."""
    import pyarrow as pa  # noqa: PLC0415

    return pa
