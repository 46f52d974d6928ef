"""An offer has its time."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Self

from policies.gates.base import Because, Facts, Ruling, Scope, Situation
from policies.gates.wording import instant
from policies.model import Action

__all__ = ["Dates"]

_EXPIRED = Ruling("EXPIRED")


@dataclass(frozen=True, slots=True, kw_only=True)
class Dates:
    """Rules an offer out before it starts and from its end on: start ≤ t < end.

    Attributes:
        start_ms: From when on it may be shown; none for ever since.
        end_ms: From when on it may not; none for never. After the start.
    """

    name: ClassVar[str] = "dates"
    scope: ClassVar[Scope] = "offer"
    of_history: ClassVar[bool] = False
    bypassed: ClassVar[bool] = False
    indexed: ClassVar[bool] = False

    start_ms: int | None = None
    end_ms: int | None = None

    @classmethod
    def of(cls, facts: Facts) -> Iterator[Self]:
        """Make one for an offer that starts or ends."""
        start, end = facts.offer.start, facts.offer.end
        if start is not None or end is not None:
            yield cls(start_ms=_milliseconds(start), end_ms=_milliseconds(end))

    def reject(self, action: Action, situation: Situation) -> Ruling | None:
        """Return NOT_STARTED before the start, EXPIRED from the end on."""
        del action
        if self.end_ms is not None and situation.at_ms >= self.end_ms:
            return _EXPIRED
        if self.start_ms is not None and situation.at_ms < self.start_ms:
            return Ruling("NOT_STARTED", self.start_ms)
        return None

    def because(self, action: Action, situation: Situation) -> Because:
        """Return the time, and the start or the end that it is on the wrong side of."""
        del action
        found = f"it is {instant(situation.at_ms)}"
        if self.end_ms is not None and situation.at_ms >= self.end_ms:
            return Because(found, f"before {instant(self.end_ms)}")
        return Because(found, f"{instant(self.start_ms or 0)} or later")


def _milliseconds(value: dt.datetime | None) -> int | None:
    return None if value is None else round(value.timestamp() * 1_000)
