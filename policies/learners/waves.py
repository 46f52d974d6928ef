"""What `blend` sees of contexts and actions: numbers, waves and slots."""

from __future__ import annotations

import math
from hashlib import blake2b, shake_128
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from policies.learners.bounds import FEATURE_MAX, bounded
from policies.learners.ridge import products
from policies.learners.vectors import within
from policies.model import Action, Features, FloatArray

__all__ = [
    "PLACES",
    "Contexts",
    "ContextsState",
    "Description",
    "Descriptions",
    "Seen",
    "action_number",
]

_AMPLITUDE = 3.0
_LENGTH = 0.7
_PRIOR = 9.0
"""The variance that the linear model's sum is believed to have, beside the noise."""
_CENTRED = 100.0
_SCALED = 20.0
_OUTLYING = 10.0
PLACES = 64
"""How many numbers can have places of their own, the constant among them."""
_SQUARE_MAX = 9.0
_NAMES_MAX = 65_536
_LAYOUTS_MAX = 1 << 20
_SLOTS = 64
_LONGEST = 4.0
_KEPT_MAX = 16_384
_CONSTANT = "constant"
_UNKNOWN = 0


class Seen(NamedTuple):
    """A context as learners compute with it.

    Attributes:
        numbers: A hash for each feature and for what is always there.
        x: What they are multiplied with, of the same shape.
        waves: The waves at this context, shape (waves,).
        square: The squared length of the context.
        steady: 1 where it is the same whenever it is there, 0 where it varies; of the
            same shape as `x`.
        places: 1, and the first names' values by their deviation, shape (n_places,)
            with at most 64.
    """

    numbers: NDArray[np.int64]
    x: FloatArray
    waves: NDArray[np.float32]
    square: float
    steady: FloatArray
    places: NDArray[np.float32]


class ContextsState(msgspec.Struct, array_like=True):
    """What is saved: the names, their moments, and how long contexts were."""

    names: list[str]
    moments: bytes
    square: float
    count: float


class _Named(NamedTuple):
    """What follows from a name: its hash, and its direction among the waves."""

    number: int
    weights: NDArray[np.float32]


class _Layout(NamedTuple):
    """What follows from the names of a context alone.

    Attributes:
        kept: Which of its values count; none where all do.
        followed: The names of those that do.
        known: Whether all of those are followed.
        rows: Where the moments of each are.
        placed: Which of them have places.
        numbers: A hash for what is always there and for each of them.
        weights: What its waves are made with, shape (n_pairs, n_followed).
    """

    kept: NDArray[np.intp] | None
    followed: tuple[str, ...]
    known: bool
    rows: NDArray[np.intp]
    placed: NDArray[np.intp]
    numbers: NDArray[np.int64]
    weights: NDArray[np.float32]


class _Usual(NamedTuple):
    """What values under some names are moved by, and then divided by.

    Attributes:
        shift: What they are moved by.
        deviation: What they are divided by, at least 1.
        narrow: What those with places are divided by after that.
        steady: As `Seen` has it.
    """

    shift: FloatArray
    deviation: FloatArray
    steady: FloatArray
    narrow: FloatArray


class _Read(NamedTuple):
    """What was read of a context: its values, clipped, and where they belong."""

    layout: _Layout
    values: FloatArray
    seen: Seen


class Contexts:
    """Turns contexts into numbers, and learns how large they usually are.

    A number that varies is moved by its mean so far, and divided by its deviation
    where that is above 1. The whole is divided by how long contexts usually are.

    The first 63 names have places of their own. There, a number that varies is divided
    by its deviation whatever that is, so that none is too small to be heard.

    The direction of a feature in the space of waves follows from its name, so that
    names never meet in one place.

    Args:
        waves: How many waves, a multiple of `block`.
        block: How many stand together; the two halves of a pair always do.
    """

    def __init__(self, waves: int, block: int) -> None:
        self._pairs = waves // 2
        self._scale = np.float32(_AMPLITUDE * math.sqrt(2.0 / waves))
        self._shape = (waves // block, 2, block // 2)
        self._row_of: dict[str, int] = {}
        # Count, mean, and the sum of squared distances from it. Column 0 is that of
        # names not followed.
        self._moments: FloatArray = np.zeros((3, 64))
        self._square = 0.0
        self._count = 0.0
        self._layouts: dict[tuple[str, ...], _Layout] = {}
        self._usual: dict[tuple[str, ...], _Usual] = {}
        self._held = 0
        self._named: dict[str, _Named] = {}
        self._latest: tuple[Features | None, _Read | None] = None, None

    def load(self, state: ContextsState | list[object]) -> None:
        """Go on from a saved state."""
        read = msgspec.convert(state, ContextsState)
        self._row_of = {name: row for row, name in enumerate(read.names, 1)}
        moments = np.frombuffer(read.moments, "<f8").reshape(-1, 3)
        self._moments = np.zeros((3, len(moments) + 64))
        self._moments[:, 1 : len(moments) + 1] = moments.T
        self._square, self._count = read.square, read.count

    @property
    def width(self) -> int:
        """How many places there are: one for each of the first names, and one more."""
        return min(len(self._row_of) + 1, PLACES)

    def share(self, other: Contexts) -> None:
        """Use what another knows of names, and let it use what is found out here."""
        if other._pairs == self._pairs:
            self._named = other._named

    def save(self) -> ContextsState:
        """Return what was learned."""
        moments = self._moments[:, 1 : len(self._row_of) + 1].T
        return ContextsState(
            list(self._row_of),
            moments.astype("<f8").tobytes(),
            self._square,
            self._count,
        )

    def of(self, context: Features) -> Seen:
        """Return a context as numbers, by what is usual so far."""
        return self._read(context).seen

    def numbers(self) -> NDArray[np.int64]:
        """Return the hashes of all features seen, and of what is always there."""
        return np.array([_number(""), *map(_number, self._row_of)], np.int64)

    def learn(self, context: Features) -> None:
        """Learn that such a context was seen."""
        layout, values, seen = self._read(context)
        square = seen.square
        if self._count:
            square = min(square, _SQUARE_MAX * (self._square / self._count + 1.0))
        self._square += square
        self._count += 1.0
        rows = self._followed(layout)
        moments = self._moments.take(rows, axis=1)
        count, mean, squares = moments
        count += 1.0
        away = values - mean
        mean += away / count
        away *= values - mean
        squares += away
        self._moments[:, rows] = moments
        self._moments[:, _UNKNOWN] = 0.0
        self._latest = None, None
        self._usual.clear()

    def _read(self, context: Features) -> _Read:
        """Return what is to know of a context, and keep it for who asks again."""
        latest, read = self._latest
        if read is not None and latest is context:
            return read
        names, numbers = zip(*context, strict=False) if context else ((), ())
        layout = self._layouts.get(names) or self._new_layout(names)
        values = within(numbers)
        if layout.kept is not None:
            values = values.take(layout.kept)
        read = _Read(layout, values, self._see(names, layout, values))
        self._latest = context, read
        return read

    def _see(self, names: tuple[str, ...], layout: _Layout, values: FloatArray) -> Seen:
        known = self._usual.get(names) or self._new_usual(names, layout)
        shift, deviation, steady, narrow = known
        usual = values - shift
        usual /= deviation
        square = float(usual.dot(usual))
        typical = self._square / self._count if self._count else square
        length = math.sqrt(max(typical, 1e-9, square / _SQUARE_MAX**2))
        scaled = (usual / (length * _LENGTH)).astype(np.float32)
        angles = products(layout.weights, scaled).reshape(self._shape[0], -1)
        waves = np.empty(self._shape, np.float32)
        np.cos(angles, waves[:, 0])
        np.sin(angles, waves[:, 1])
        waves *= self._scale
        x = np.empty(len(usual) + 1)
        x[0] = 1.0
        np.multiply(usual, math.sqrt(_PRIOR) / length, x[1:])
        places = np.zeros(self.width, np.float32)
        places[0] = 1.0
        placed = layout.placed
        scaled = (usual[placed] / narrow).clip(-_OUTLYING, _OUTLYING)
        places[layout.rows[placed]] = scaled
        return Seen(layout.numbers, x, waves.ravel(), square, steady, places)

    def _new_usual(self, names: tuple[str, ...], layout: _Layout) -> _Usual:
        """Return what values under the names are moved and divided by so far."""
        count, mean, squares = self._moments.take(layout.rows, axis=1)
        constant = squares <= 1e-9 * count * (1.0 + mean * mean)
        held = count + _CENTRED
        shift = mean * (count / held)
        shift[constant] = 0.0
        deviation = np.sqrt(np.maximum((squares + _CENTRED) / held, 1.0))
        deviation[constant] = 1.0
        steady = np.ones(len(shift) + 1)
        steady[1:] = constant
        narrow = np.sqrt((squares + _SCALED) / (count + _SCALED)) / deviation
        narrow[constant] = 1.0
        usual = _Usual(shift, deviation, steady, narrow[layout.placed])
        self._usual[names] = usual
        return usual

    def _followed(self, layout: _Layout) -> NDArray[np.intp]:
        """Return where the moments of a context's names are, from now on."""
        if layout.known:
            return layout.rows
        for name in layout.followed:
            if name not in self._row_of:
                self._follow(name)
        return self._rows(layout.followed)

    def _follow(self, name: str) -> None:
        if len(self._row_of) >= _NAMES_MAX:
            return
        row = self._row_of[name] = len(self._row_of) + 1
        if row == self._moments.shape[1]:
            more = np.zeros_like(self._moments)
            self._moments = np.concatenate([self._moments, more], axis=1)
        self._forget_layouts()

    def _rows(self, names: tuple[str, ...]) -> NDArray[np.intp]:
        return np.array([self._row_of.get(name, _UNKNOWN) for name in names], np.intp)

    def _new_layout(self, names: tuple[str, ...]) -> _Layout:
        if self._held > _LAYOUTS_MAX:
            self._forget_layouts()
        kept = [at for at, name in enumerate(names) if name != _CONSTANT]
        followed = tuple([names[at] for at in kept])
        self._held += (len(followed) + 1) * self._pairs
        named = [self._named.get(name) or self._name(name) for name in followed]
        weights = np.zeros((self._pairs, len(followed)), np.float32)
        for at, each in enumerate(named):
            weights[:, at] = each.weights
        rows = self._rows(followed)
        layout = _Layout(
            kept=None if followed == names else np.array(kept, np.intp),
            followed=followed,
            known=bool(rows.all()),
            rows=rows,
            placed=np.flatnonzero((rows != _UNKNOWN) & (rows < PLACES)),
            numbers=np.array([_NOTHING, *(each.number for each in named)], np.int64),
            weights=weights,
        )
        self._layouts[names] = layout
        return layout

    def _forget_layouts(self) -> None:
        self._layouts.clear()
        self._usual.clear()
        self._held = 0

    def _name(self, name: str) -> _Named:
        """Return what follows from a name: its weights are normally distributed."""
        if len(self._named) >= _KEPT_MAX:
            self._named.clear()
        half = (self._pairs + 1) // 2
        digest = shake_128(b"wave:" + _bytes(name)).digest(16 * half)
        uniform = (np.frombuffer(digest, "<u8") + 0.5) / 2.0**64
        # Box and Muller's pairs.
        radius = np.sqrt(-2.0 * np.log(uniform[:half]))
        angle = 2.0 * np.pi * uniform[half:]
        pairs = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])
        weights = pairs[: self._pairs].astype(np.float32)
        self._named[name] = named = _Named(_number(name), weights)
        return named


class Description(NamedTuple):
    """An action as learners compute with it.

    Attributes:
        number: A hash of its name.
        slots: Its features, hashed, shape (64,).
        numbers: The hashes of its name and of the slots it uses, shape (1 + n_slots,
            1).
        factors: 1 for its name, and what is in those slots, of the same shape.
    """

    number: int
    slots: FloatArray
    numbers: NDArray[np.intp]
    factors: FloatArray


class Descriptions:
    """Turns actions into numbers, and remembers them for a while."""

    def __init__(self) -> None:
        self.numbers = np.array([_number(f"slot:{slot}") for slot in range(_SLOTS)])
        self._kept: dict[Action, Description] = {}

    def of(self, action: Action) -> Description:
        """Return an action as numbers."""
        return self._kept.get(action) or self._keep(action)

    def _keep(self, action: Action) -> Description:
        if len(self._kept) >= _KEPT_MAX:
            self._kept.clear()
        slots = np.zeros(_SLOTS)
        for name, value in action.features:
            number = _number(f"feature:{name}")
            amount = bounded(value, FEATURE_MAX) * math.sqrt(0.5)
            first = number % _SLOTS
            second = (first + 1 + (number >> 8) % (_SLOTS - 1)) % _SLOTS
            slots[first] += amount if number >> 40 & 1 else -amount
            slots[second] += amount if number >> 41 & 1 else -amount
        slots *= _LONGEST / max(math.sqrt(float(slots @ slots)), _LONGEST)
        number = action_number(action.name)
        used = np.flatnonzero(slots)
        described = Description(
            number,
            slots,
            np.concatenate([[number], self.numbers[used]])[:, np.newaxis],
            np.concatenate([[1.0], slots[used]])[:, np.newaxis],
        )
        self._kept[action] = described
        return described


def action_number(name: str) -> int:
    """Return a hash of the name of an action."""
    return _number(f"action:{name}")


def _bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogatepass")


def _number(text: str) -> int:
    """Return a hash from 0 to 2**62, the same on every machine."""
    digest = blake2b(_bytes(text), digest_size=8, person=b"blend").digest()
    return int.from_bytes(digest, "little") >> 2


_NOTHING = _number("")
