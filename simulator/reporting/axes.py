"""Where numbers are on a plot: in percent of its width, or of its height."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from simulator.reporting.numbers import fixed

__all__ = ["Axis", "Tick"]

_ALIKE = 1e-9
_SMALLEST = 1e-6
"""What is nearer to 0 than a billionth of this is rounding."""

_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)


class Tick(NamedTuple):
    """A mark of an axis.

    Attributes:
        at: Where, in percent.
        label: What is written there.
    """

    at: float
    label: str


class Axis(NamedTuple):
    """A straight axis from one number to a larger one.

    Attributes:
        low: The number at 0 %.
        high: That at 100 %.
    """

    low: float
    high: float

    @classmethod
    def around(cls, numbers: Iterable[float | None], *, margin: float = 0.04) -> Axis:
        """Return an axis that has room for some numbers.

        Args:
            numbers: What is to be seen; none and what has no end are left out.
            margin: How much room is left at both ends, as a share.
        """
        told = [x for x in numbers if x is not None and math.isfinite(x)]
        low, high = min(told, default=0.0), max(told, default=1.0)
        if high - low <= _ALIKE * max(abs(low), abs(high), _SMALLEST):
            room = abs(low) or 1.0
            return cls(low - room * margin, high + room)
        room = (high - low) * margin
        return cls(low - room, high + room)

    def place(self, number: float) -> float:
        """Return where a number is, 0 to 100; what is beyond an end is at the end.

        Examples:
            >>> Axis(0.0, 4.0).place(1.0), Axis(0.0, 4.0).place(9.0)
            (25.0, 100.0)
        """
        part = (number - self.low) / (self.high - self.low)
        return round(min(max(part, 0.0), 1.0) * 100, 3)

    def holds(self, number: float | None) -> bool:
        """Return whether a number is on the axis."""
        return number is not None and self.low <= number <= self.high

    def ticks(self, about: int = 5, *, percent: bool = False) -> Sequence[Tick]:
        """Return marks at round numbers.

        Args:
            about: How many there are to be; there may be one or two more or less.
            percent: Whether the numbers are shares that are written in percent.

        Examples:
            >>> [tick.label for tick in Axis(0.0, 0.31).ticks(4)]
            ['0.0', '0.1', '0.2', '0.3']
        """
        rough = (self.high - self.low) / about
        power = 10.0 ** math.floor(math.log10(rough))
        step = min((s * power for s in _STEPS), key=lambda s: abs(s - rough))
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        unit = step * 100 if percent else step
        places = next(
            (p for p in range(15) if abs(round(unit, p) - unit) < unit * 1e-6), 15
        )
        found: list[Tick] = []
        for number in range(first, last + 1):
            at = number * step
            label = fixed(at * 100 if percent else at, places)
            found.append(Tick(self.place(at), label + ("\u00a0%" if percent else "")))
        return found
