"""Logged bandit feedback as columns: what every log is read into, a part at a time."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from policies.model import Action, Features, FloatArray

__all__ = ["Feedback"]


class Feedback(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a log: decisions with what they earned, n rows in logged order.

    The eligible actions of row i are `actions[offsets[i]:offsets[i + 1]]`, each a place
    in `vocabulary`, with the logging policy's probabilities beside them.

    Attributes:
        positions: Where in its source each row is, shape (n,), int64: a row, a line or
            a position of the log, from 1.
        times_ms: When each decision was made, Unix ms, shape (n,), int64; 0 unknown.
        keys: Whose it is, shape (n,), uint64: a hash of the root, or of the decision
            where nobody is named; equal keys stay in one fold and one shard.
        loggers: Which policy logged it, shape (n,), int32: a place in `policies`.
        rewards: What it earned, shape (n,), any unit.
        propensities: The logging policy's probability of what it chose, shape (n,).
        chosen: What it chose, shape (n,), int32: a place in `vocabulary`.
        floors: The least probability of an eligible action, shape (n,); 0 unknown.
        offsets: Where the actions of each row begin, shape (n + 1,), int64.
        actions: Places in `vocabulary`, shape (offsets[n],), int32.
        probabilities: Of these, by the logging policy, shape (offsets[n],).
        contexts: What was known of user and moment, n of them.
        segments: Each user's segment, n of them; empty unknown.
        objectives: Other outcomes by name, each shape (n,), such as `accepted` (0 or
            1), `margin` or `dismissed`.
        vocabulary: The actions of the source so far, each once; it only ever grows.
        policies: The names of the logging policies so far; likewise.
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

    def __len__(self) -> int:
        return len(self.rewards)
