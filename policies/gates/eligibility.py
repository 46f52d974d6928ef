"""An offer is for those whom its rule describes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from policies.gates.base import Ruling, Situation
from policies.rules import Rule

__all__ = ["Eligibility"]


@dataclass(frozen=True, slots=True)
class Eligibility:
    """Rules an offer out where its rule does not hold, looked at each time anew."""

    of_history: ClassVar[bool] = False

    rule: Rule

    def reject(self, offer_id: str, situation: Situation) -> Ruling | None:
        """Return NOT_ELIGIBLE where the rule does not hold."""
        del offer_id
        return None if situation.holds(self.rule) else Ruling("NOT_ELIGIBLE")
