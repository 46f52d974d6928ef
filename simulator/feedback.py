"""Logged bandit feedback as columns: what every log is read into, a part at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Self, overload

import msgspec
import numpy as np
from numpy.typing import NDArray

from policies.model import Action, FeatureColumns, Features, FloatArray

__all__ = ["Contexts", "Feedback", "joined"]

_ARRAYS = (
    "positions",
    "times_ms",
    "keys",
    "loggers",
    "rewards",
    "propensities",
    "chosen",
    "floors",
    "counts",
)
_SEQUENCES = ("contexts", "segments", "ids", "splits")


class Contexts(Sequence[Features]):
    """The features of many rows as columns, made into those of one row when asked.

    Those of row i are `codes[offsets[i]:offsets[i + 1]]`, each a place in `names`, with
    the values beside them.

    Args:
        names: The names of the source so far, each once; it only ever grows.
        offsets: Where the features of each row begin, shape (n + 1,), int64.
        codes: Places in `names`, shape (offsets[n],), int32.
        values: Of these, shape (offsets[n],).

    Examples:
        >>> two = Contexts(
        ...     ["age", "plan=free"], np.array([0, 1, 3]), np.array([0, 0, 1]),
        ...     np.array([30.0, 50.0, 1.0]),
        ... )
        >>> two[1]
        (('age', 50.0), ('plan=free', 1.0))
        >>> [len(features) for features in two]
        [1, 2]
    """

    def __init__(
        self,
        names: Sequence[str],
        offsets: NDArray[np.int64],
        codes: NDArray[np.int32],
        values: FloatArray,
    ) -> None:
        self.names = names
        self.offsets = offsets
        self.codes = codes
        self.values = values

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @overload
    def __getitem__(self, row: int) -> Features: ...
    @overload
    def __getitem__(self, row: slice) -> Sequence[Features]: ...
    def __getitem__(self, row: int | slice) -> Features | Sequence[Features]:
        """Return the features of a row."""
        if isinstance(row, slice):
            begin, end, step = row.indices(len(self))
            if step != 1 or end < begin:
                return self.take(np.arange(begin, end, step))
            offsets = self.offsets[begin : end + 1]
            inside = slice(offsets[0], offsets[-1])
            values = self.values[inside]
            return Contexts(
                self.names, offsets - offsets[0], self.codes[inside], values
            )
        if not -len(self) <= row < len(self):
            raise IndexError(row)
        row %= len(self)
        begin, end = self.offsets[row], self.offsets[row + 1]
        names = self.names
        codes = self.codes[begin:end].tolist()
        values = self.values[begin:end].tolist()
        return tuple([(names[c], v) for c, v in zip(codes, values, strict=True)])

    def __iter__(self) -> Iterator[Features]:
        for row in range(len(self)):
            yield self[row]

    def table(self) -> FeatureColumns | None:
        """Return them as columns; none where names of rows differ."""
        n = len(self)
        width = len(self.codes) // n if n else 0
        if not width or (np.diff(self.offsets) != width).any():
            return None
        codes = self.codes.reshape(n, width)
        if (codes != codes[0]).any():
            return None
        names = tuple([self.names[code] for code in codes[0].tolist()])
        return FeatureColumns(names, self.values.reshape(n, width))

    def take(self, rows: NDArray[np.intp]) -> Contexts:
        """Return some of the rows, by their places, in the order given."""
        inside, offsets = _inside(self.offsets, rows)
        return Contexts(self.names, offsets, self.codes[inside], self.values[inside])


class Feedback(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a log: decisions with what they earned, n rows in logged order.

    The eligible actions of row i are `actions[offsets[i]:offsets[i + 1]]`, each a place
    in `vocabulary`, with the logging policy's probabilities beside them. A column that
    was not asked for, or of which a log knows nothing, is empty.

    Attributes:
        positions: Where in its source each row is, shape (n,), int64: a row, a line or
            a position of the log, from 1.
        times_ms: When each decision was made, Unix ms, shape (n,), int64; 0 unknown.
        keys: Whose it is, shape (n,), uint64: a hash of the root, or of the decision
            where nobody is named; equal keys stay in one fold and one shard.
        loggers: Which policy logged it, shape (n,), int32: a place in `policies`.
        rewards: What it earned, shape (n,), any unit; not a number where that is not
            known, or not yet.
        propensities: The logging policy's probability of what it chose, shape (n,).
        chosen: What it chose, shape (n,), int32: a place in `vocabulary`.
        floors: The least probability of an eligible action, shape (n,); 0 unknown.
        offsets: Where the actions of each row begin, shape (n + 1,), int64.
        actions: Places in `vocabulary`, shape (offsets[n],), int32.
        probabilities: Of these, by the logging policy, shape (offsets[n],); not a
            number where only what was chosen has a known one.
        contexts: What was known of user and moment, n of them; `Contexts` where they
            are columns.
        segments: Each user's segment, n of them; empty unknown.
        objectives: Other outcomes by name, each shape (n,), such as `accepted` (0 or
            1), `margin` or `dismissed`.
        vocabulary: The actions of the source so far, each once; it only ever grows.
        policies: The names of the logging policies so far; likewise.
        ids: What each decision is called, n of them; empty unknown.
        splits: Which part of the users each was made for; empty unknown.
        counts: How many decisions each row stands for, shape (n,): more than 1 where
            whoever logged dropped others like it; empty where each is one.
        targets: By the name of another policy its probability of what was chosen,
            each shape (n,), where the log has it as a column.
    """

    positions: NDArray[np.int64]
    times_ms: NDArray[np.int64]
    keys: NDArray[np.uint64]
    loggers: NDArray[np.int32]
    rewards: FloatArray
    propensities: FloatArray
    chosen: NDArray[np.int32]
    floors: FloatArray
    offsets: NDArray[np.int64]
    actions: NDArray[np.int32]
    probabilities: FloatArray
    contexts: Sequence[Features]
    segments: Sequence[str]
    objectives: dict[str, FloatArray]
    vocabulary: Sequence[Action]
    policies: Sequence[str]
    ids: Sequence[str] = ()
    splits: Sequence[str] = ()
    counts: FloatArray = msgspec.field(default_factory=lambda: np.empty(0))
    targets: dict[str, FloatArray] = msgspec.field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.rewards)

    def take(self, rows: NDArray[np.intp] | NDArray[np.bool_]) -> Self:
        """Return some of the rows, in the order given.

        Args:
            rows: Their places, or for each row whether it is among them, shape (n,).
        """
        at: NDArray[np.intp]
        at = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows.astype(np.intp)
        changes: dict[str, Any] = {}
        for name in _ARRAYS:
            column = getattr(self, name)
            changes[name] = column[at] if len(column) else column
        for name in _SEQUENCES:
            column = getattr(self, name)
            if isinstance(column, Contexts):
                changes[name] = column.take(at)
            elif len(column):
                changes[name] = [column[row] for row in at]
        for name in ("objectives", "targets"):
            columns = getattr(self, name)
            changes[name] = {key: column[at] for key, column in columns.items()}
        if len(self.offsets):
            inside, changes["offsets"] = _inside(self.offsets, at)
            changes["actions"] = self.actions[inside]
            changes["probabilities"] = self.probabilities[inside]
        return msgspec.structs.replace(self, **changes)

    @property
    def rewarded(self) -> NDArray[np.bool_]:
        """Of which decisions it is known what they earned, shape (n,)."""
        known: NDArray[np.bool_] = ~np.isnan(self.rewards)
        return known


def joined(parts: Sequence[Feedback]) -> Feedback:
    """Return parts of one source, that follow each other, as one.

    Args:
        parts: At least one, all with the same columns.
    """
    first = parts[0]
    if len(parts) == 1:
        return first
    changes: dict[str, Any] = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in (*_ARRAYS, "actions", "probabilities")
    }
    if len(first.offsets):
        changes["offsets"] = _one_after_the_other([part.offsets for part in parts])
    for name in _SEQUENCES:
        columns = [getattr(part, name) for part in parts]
        if isinstance(columns[0], Contexts):
            changes[name] = Contexts(
                columns[-1].names,
                _one_after_the_other([column.offsets for column in columns]),
                np.concatenate([column.codes for column in columns]),
                np.concatenate([column.values for column in columns]),
            )
        else:
            changes[name] = [value for column in columns for value in column]
    for name in ("objectives", "targets"):
        changes[name] = {
            key: np.concatenate([getattr(part, name)[key] for part in parts])
            for key in getattr(first, name)
        }
    return msgspec.structs.replace(
        first,
        **changes,
        vocabulary=parts[-1].vocabulary,
        policies=parts[-1].policies,
    )


def _one_after_the_other(many: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    begins = np.cumsum([0, *(offsets[-1] for offsets in many)])
    return np.concatenate(
        [many[0][:1], *(o[1:] + b for o, b in zip(many, begins[:-1], strict=True))]
    )


def _inside(
    offsets: NDArray[np.int64], rows: NDArray[np.intp]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return where the actions of rows are, and where those of each begin there."""
    sizes = np.diff(offsets)[rows]
    begins = np.zeros(len(rows) + 1, np.int64)
    np.cumsum(sizes, out=begins[1:])
    shift = np.repeat(offsets[:-1][rows] - begins[:-1], sizes)
    return np.arange(begins[-1]) + shift, begins
