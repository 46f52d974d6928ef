"""Puts parts together from rows, and numbers actions and policies as they come."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from itertools import accumulate
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from policies.model import Action, Features, FloatArray
from simulator.feedback import Feedback
from simulator.logs.base import LeftOut, LogError

__all__ = [
    "ACTIONS_MAX",
    "Building",
    "Names",
    "Reading",
    "hash_of",
    "hashes_of",
    "hashes_of_texts",
    "name_of",
    "uncollected",
]

ACTIONS_MAX = 1_000_000
"""How many different actions a log may have; all of them are held in memory."""

FEATURES_MAX = 10_000_000
"""How many names of features a log may have; all of them are held in memory."""

_UNKNOWN = float("nan")
_TEXT_MAX = 256
_NAME_MAX = 60


def hash_of(text: str) -> int:
    """Return a hash of 64 bits that is the same everywhere.

    Examples:
        >>> hash_of("ada") == hash_of("ada"), hash_of("ada") == hash_of("bob")
        (True, False)
    """
    data = text.encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "big")


def hashes_of(positions: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Return hashes of rows that nothing else tells apart, shape (n,).

    References:
        G. L. Steele, D. Lea and C. H. Flood. Fast splittable pseudorandom number
        generators. OOPSLA 2014: the mixing function of SplitMix64.
    """
    mixed = positions.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    keys: NDArray[np.uint64] = mixed ^ (mixed >> np.uint64(31))
    return keys


_PLACES = hashes_of(np.arange(1, _TEXT_MAX + 1))


def hashes_of_texts(texts: Sequence[str]) -> NDArray[np.uint64]:
    """Return a hash of 64 bits of each text, shape (n,), the same everywhere.

    The hash of a text is a sum over its characters, each times an odd number of its
    place; long texts are hashed as by `hash_of`.

    Examples:
        >>> few, more = hashes_of_texts(["ada"]), hashes_of_texts(["longer", "ada"])
        >>> bool(few[0] == more[1]), len(set(more.tolist()))
        (True, 2)

    References:
        D. Lemire and O. Kaser. Strongly universal string hashing is fast. The Computer
        Journal 57, 2014: the multilinear family.
    """
    width = max(map(len, texts), default=0)
    if width > _TEXT_MAX:
        short = [text if len(text) <= _TEXT_MAX else "" for text in texts]
        keys = hashes_of_texts(short)
        for row, text in enumerate(texts):
            if len(text) > _TEXT_MAX:
                keys[row] = hash_of(text)
        return keys
    if not width:
        return hashes_of(np.zeros(len(texts), np.int64))
    characters = np.array(texts, f"<U{width}").view(np.uint32).reshape(-1, width)
    sums = characters.astype(np.uint64) @ (_PLACES[:width] | np.uint64(1))
    return hashes_of(sums.view(np.int64))


def name_of(features: Features) -> str:
    """Name an action by its features, where nothing else does."""
    name = ",".join(
        feature if value == 1.0 else f"{feature}:{value:g}"
        for feature, value in features
    )
    if len(name) <= _NAME_MAX:
        return name or "none"
    return blake2b(repr(features).encode("utf-8", "replace"), digest_size=8).hexdigest()


@contextmanager
def uncollected() -> Iterator[None]:
    """Keep the collector of cycles away from a loop that makes many small tuples.

    It would look at all of them again and again, and none is in a cycle.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class Names:
    """The actions and the logging policies of one log, numbered as they come.

    Attributes:
        vocabulary: The actions so far.
        policies: The logging policies so far.
        features: The names of features so far.
        literal: Those of them that look like a category, and stood so in the file, as
            the name of a number.
    """

    def __init__(self) -> None:
        self.vocabulary: list[Action] = []
        self.policies: list[str] = []
        self.features: list[str] = []
        self.literal: set[str] = set()
        self._actions: dict[Action, int] = {}
        self._features: dict[str, int] = {}
        self._policies: dict[str, int] = {}

    def action(self, action: Action) -> int:
        """Return the place of an action, whatever its index.

        Raises:
            ValueError: If there are too many.
        """
        alike = msgspec.structs.replace(action, index=min(action.index, 1))
        place = self._actions.get(alike)
        if place is None:
            place = len(self.vocabulary)
            if place >= ACTIONS_MAX:
                raise ValueError(
                    f"there are more than {ACTIONS_MAX:,} different actions; give"
                    " actions an id, and leave features that change from row to row"
                    " in the context"
                )
            self._actions[alike] = place
            index = place + 1 if action.index else 0
            self.vocabulary.append(msgspec.structs.replace(action, index=index))
        return place

    def offer(
        self, offer_id: str, placement_id: str = "", features: Features = ()
    ) -> int:
        """Return the place of an action that is no catalogue's."""
        return self.action(Action(1, offer_id, "", placement_id, features))

    def feature(self, name: str) -> int:
        """Return the place of the name of a feature.

        Raises:
            ValueError: If there are too many.
        """
        place = self._features.get(name)
        if place is None:
            place = self._features[name] = len(self.features)
            if place >= FEATURES_MAX:
                raise ValueError(
                    f"there are more than {FEATURES_MAX:,} different features; an id"
                    " of a user or a moment is none: its name must begin with _"
                )
            self.features.append(name)
        return place

    def policy(self, name: str) -> int:
        """Return the place of a logging policy."""
        place = self._policies.get(name)
        if place is None:
            place = self._policies[name] = len(self.policies)
            self.policies.append(name)
        return place


class Building:
    """A part under way: columns as lists, filled a row at a time.

    Attributes are those of `Feedback`; `sizes` says how many actions each row has.
    """

    def __init__(self, names: Names) -> None:
        self.names = names
        self.positions: list[int] = []
        self.times_ms: list[int] = []
        self.keys: list[int] = []
        self.loggers: list[int] = []
        self.rewards: list[float] = []
        self.propensities: list[float] = []
        self.chosen: list[int] = []
        self.floors: list[float] = []
        self.sizes: list[int] = []
        self.actions: list[int] = []
        self.probabilities: list[float] = []
        self.contexts: list[Features] = []
        self.segments: list[str] = []
        self.ids: list[str] = []
        self.splits: list[str] = []
        self.counts: list[float] = []
        self.objectives: dict[str, list[float]] = {}
        self.targets: dict[str, list[float]] = {}

    def __len__(self) -> int:
        return len(self.positions)

    def add(
        self,
        position: int,
        *,
        reward: float,
        chosen: int,
        propensity: float,
        actions: Sequence[int],
        probabilities: Sequence[float] | None = None,
        context: Features = (),
        time_ms: int = 0,
        key: int | None = None,
        logger: str = "",
        floor: float = 0.0,
    ) -> None:
        """Add a row.

        Args:
            position: Where in its source it is.
            reward: What it earned; not a number for unknown.
            chosen: What was chosen, a place in the vocabulary.
            propensity: How likely that was.
            actions: What was eligible; empty for what is not known.
            probabilities: Of these; none where only that of the chosen one is known.
            context: What was known.
            time_ms: When; 0 unknown.
            key: Whose it is; none for nobody's.
            logger: Which policy logged it.
            floor: The least probability; 0 unknown.
        """
        self.positions.append(position)
        self.times_ms.append(time_ms)
        self.keys.append(hash_of(str(position)) if key is None else key)
        self.loggers.append(self.names.policy(logger))
        self.rewards.append(reward)
        self.propensities.append(propensity)
        self.chosen.append(chosen)
        self.floors.append(floor)
        self.sizes.append(len(actions))
        self.actions.extend(actions)
        if probabilities is None:
            probabilities = [
                propensity if action == chosen else _UNKNOWN for action in actions
            ]
        self.probabilities.extend(probabilities)
        self.contexts.append(context)

    def part(self) -> Feedback:
        """Return what was added."""
        names = self.names
        return Feedback(
            positions=np.array(self.positions, np.int64),
            times_ms=np.array(self.times_ms, np.int64),
            keys=np.array(self.keys, np.uint64),
            loggers=np.array(self.loggers, np.int32),
            rewards=_floats(self.rewards),
            propensities=_floats(self.propensities),
            chosen=np.array(self.chosen, np.int32),
            floors=_floats(self.floors),
            offsets=np.array(list(accumulate(self.sizes, initial=0)), np.int64),
            actions=np.array(self.actions, np.int32),
            probabilities=_floats(self.probabilities),
            contexts=self.contexts,
            segments=self.segments,
            objectives={name: _floats(v) for name, v in self.objectives.items()},
            vocabulary=names.vocabulary,
            policies=names.policies,
            ids=self.ids,
            splits=self.splits,
            counts=_floats(self.counts),
            targets={name: _floats(v) for name, v in self.targets.items()},
        )


class Reading:
    """What the sources have in common: where they are, and what they leave out.

    Args:
        path: Where the log is.
        skip_bad: Whether rows that cannot be read are left out and counted.

    Attributes are those of `Source`.
    """

    format = ""

    def __init__(self, path: Path, *, skip_bad: bool = False) -> None:
        self.path = path
        self.rows: int | None = None
        self.bytes = path.stat().st_size if path.is_file() else 0
        self.targets: tuple[str, ...] = ()
        self.left_out = LeftOut()
        self.read = 0
        self.skip_bad = skip_bad
        self._names = Names()

    @property
    def literal(self) -> frozenset[str]:
        """The features read so far that only look like categories."""
        return frozenset(self._names.literal)

    def close(self) -> None:
        """Let go of its files."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _bad(self, problem: str, path: Path | None = None) -> None:
        """Count what cannot be read, or refuse the log for it."""
        path = path or self.path
        if not self.skip_bad:
            raise LogError(path, problem)
        self.left_out.add("bad", f"{path}: {problem}")


def _floats(values: Sequence[float]) -> FloatArray:
    return np.array(values, np.float64)
