"""Logged bandit feedback as columns: what every log is read into, a part at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from policies.model import Action, Features, FloatArray

__all__ = ["Feedback"]

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
        contexts: What was known of user and moment, n of them.
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
        at = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows
        changes: dict[str, Any] = {}
        for name in _ARRAYS:
            column = getattr(self, name)
            changes[name] = column[at] if len(column) else column
        for name in _SEQUENCES:
            column = getattr(self, name)
            changes[name] = [column[row] for row in at] if len(column) else column
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


def _inside(
    offsets: NDArray[np.int64], rows: NDArray[np.intp]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return where the actions of rows are, and where those of each begin there."""
    sizes = np.diff(offsets)[rows]
    begins = np.zeros(len(rows) + 1, np.int64)
    np.cumsum(sizes, out=begins[1:])
    shift = np.repeat(offsets[:-1][rows] - begins[:-1], sizes)
    return np.arange(begins[-1]) + shift, begins
