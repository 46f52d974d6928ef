"""What `blend` sees of contexts and actions: numbers, waves and slots."""

from __future__ import annotations

import math
from hashlib import blake2b, shake_128
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from policies.learners.bounds import FEATURE_MAX, bounded
from policies.model import Action, Features, FloatArray

__all__ = ["Contexts", "ContextsState", "Description", "Descriptions", "Seen"]

_AMPLITUDE = 3.0
_LENGTH = 0.7
_PRIOR = 9.0
"""The variance that the linear model's sum is believed to have, beside the noise."""
_CENTRED = 100.0
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
    """

    numbers: NDArray[np.int64]
    x: FloatArray
    waves: NDArray[np.float32]
    square: float
    steady: FloatArray


class ContextsState(msgspec.Struct, array_like=True):
    """What is saved: the names, their moments, and how long contexts were."""

    names: list[str]
    moments: bytes
    square: float
    count: float


class _Layout(NamedTuple):
    """What follows from the names of a context alone."""

    rows: NDArray[np.intp]
    numbers: NDArray[np.int64]
    weights: NDArray[np.float32]


class Contexts:
    """Turns contexts into numbers, and learns how large they usually are.

    A number that varies is moved by its mean so far, and divided by its deviation
    where that is above 1. The whole is divided by how long contexts usually are.

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
        # Count, mean, and the sum of squared distances from it. Row 0 is that of
        # names not followed.
        self._moments: FloatArray = np.zeros((64, 3))
        self._square = 0.0
        self._count = 0.0
        self._layouts: dict[tuple[str, ...], _Layout] = {}
        self._held = 0
        self._weights_of: dict[str, NDArray[np.float32]] = {}
        self._latest: tuple[Features, Seen] | None = None

    def load(self, state: ContextsState | list[object]) -> None:
        """Go on from a saved state."""
        read = msgspec.convert(state, ContextsState)
        self._row_of = {name: row for row, name in enumerate(read.names, 1)}
        moments = np.frombuffer(read.moments, "<f8").reshape(-1, 3)
        self._moments = np.zeros((len(moments) + 64, 3))
        self._moments[1 : len(moments) + 1] = moments
        self._square, self._count = read.square, read.count

    def save(self) -> ContextsState:
        """Return what was learned."""
        moments = self._moments[1 : len(self._row_of) + 1]
        return ContextsState(
            list(self._row_of),
            moments.astype("<f8").tobytes(),
            self._square,
            self._count,
        )

    def of(self, context: Features) -> Seen:
        """Return a context as numbers, by what is usual so far."""
        latest = self._latest
        if latest is not None and latest[0] is context:
            return latest[1]
        layout, values = self._read(context)
        count, mean, squares = self._moments[layout.rows].T
        varied = squares > 1e-9 * count * (1.0 + mean * mean)
        held = count + _CENTRED
        deviation = np.sqrt(np.maximum((squares + _CENTRED) / held, 1.0))
        usual = np.where(varied, (values - mean * (count / held)) / deviation, values)
        square = float(usual @ usual)
        typical = self._square / self._count if self._count else square
        length = math.sqrt(max(typical, 1e-9, square / _SQUARE_MAX**2))
        angles = np.einsum(
            "ij,i->j", layout.weights, (usual / (length * _LENGTH)).astype(np.float32)
        )
        waves = np.empty(self._shape, np.float32)
        waves[:, 0] = np.cos(angles).reshape(self._shape[0], -1)
        waves[:, 1] = np.sin(angles).reshape(self._shape[0], -1)
        waves *= self._scale
        x = np.empty(len(usual) + 1)
        x[0] = 1.0
        x[1:] = usual * (math.sqrt(_PRIOR) / length)
        steady = np.ones(len(x))
        steady[1:] = ~varied
        seen = Seen(layout.numbers, x, waves.ravel(), square, steady)
        self._latest = (context, seen)
        return seen

    def learn(self, context: Features) -> None:
        """Learn that such a context was seen."""
        square = self.of(context).square
        layout, values = self._read(context, follow=True)
        if self._count:
            square = min(square, _SQUARE_MAX * (self._square / self._count + 1.0))
        self._square += square
        self._count += 1.0
        moments = self._moments[layout.rows]
        count, mean, squares = moments.T
        count += 1.0
        away = values - mean
        mean += away / count
        squares += away * (values - mean)
        self._moments[layout.rows] = moments
        self._moments[_UNKNOWN] = 0.0
        self._latest = None

    def _read(
        self, context: Features, *, follow: bool = False
    ) -> tuple[_Layout, FloatArray]:
        """Return what follows from the names, and the values, clipped."""
        parts = [part for part in context if part[0] != _CONSTANT]
        names = tuple([name for name, _ in parts])
        values = np.array([bounded(value, FEATURE_MAX) for _, value in parts])
        if follow:
            for name in names:
                if name not in self._row_of:
                    self._follow(name)
        layout = self._layouts.get(names)
        if layout is None:
            layout = self._new_layout(names)
        return layout, values

    def _follow(self, name: str) -> None:
        if len(self._row_of) >= _NAMES_MAX:
            return
        row = self._row_of[name] = len(self._row_of) + 1
        if row == len(self._moments):
            self._moments = np.concatenate([self._moments, 0.0 * self._moments])
        self._layouts.clear()
        self._held = 0

    def _new_layout(self, names: tuple[str, ...]) -> _Layout:
        if self._held > _LAYOUTS_MAX:
            self._layouts.clear()
            self._held = 0
        self._held += (len(names) + 1) * self._pairs
        weights = np.zeros((len(names), self._pairs), np.float32)
        for at, name in enumerate(names):
            weights[at] = self._weights(name)
        numbers = [_number(""), *map(_number, names)]
        layout = _Layout(
            np.array([self._row_of.get(name, _UNKNOWN) for name in names], np.intp),
            np.array(numbers, np.int64),
            weights,
        )
        self._layouts[names] = layout
        return layout

    def _weights(self, name: str) -> NDArray[np.float32]:
        """Return normally distributed numbers that follow from a name."""
        weights = self._weights_of.get(name)
        if weights is None:
            if len(self._weights_of) >= _KEPT_MAX:
                self._weights_of.clear()
            half = (self._pairs + 1) // 2
            digest = shake_128(b"wave:" + _bytes(name)).digest(16 * half)
            uniform = (np.frombuffer(digest, "<u8") + 0.5) / 2.0**64
            # Box and Muller's pairs.
            radius = np.sqrt(-2.0 * np.log(uniform[:half]))
            angle = 2.0 * np.pi * uniform[half:]
            pairs = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])
            weights = self._weights_of[name] = pairs[: self._pairs].astype(np.float32)
        return weights


class Description(NamedTuple):
    """An action as learners compute with it.

    Attributes:
        number: A hash of its name.
        slots: Its features, hashed, shape (64,).
        described: Whether it has any.
    """

    number: int
    slots: FloatArray
    described: bool


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
        described = Description(
            _number(f"action:{action.name}"), slots, bool(slots.any())
        )
        self._kept[action] = described
        return described


def _bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogatepass")


def _number(text: str) -> int:
    """Return a hash from 0 to 2**62, the same on every machine."""
    digest = blake2b(_bytes(text), digest_size=8, person=b"blend").digest()
    return int.from_bytes(digest, "little") >> 2
