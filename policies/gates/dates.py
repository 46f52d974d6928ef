"""An offer has its time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from policies.gates.base import Ruling, Situation

__all__ = ["Dates"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dates:
    """Rules an offer out before it starts and from its end on: start ≤ t < end."""

    of_history: ClassVar[bool] = False

    start_ms: int | None = None
    end_ms: int | None = None

    def reject(self, offer_id: str, situation: Situation) -> Ruling | None:
        """Return NOT_STARTED before the start, EXPIRED from the end on."""
        del offer_id
        if self.end_ms is not None and situation.at_ms >= self.end_ms:
            return Ruling("EXPIRED")
        if self.start_ms is not None and situation.at_ms < self.start_ms:
            return Ruling("NOT_STARTED", self.start_ms)
        return None
