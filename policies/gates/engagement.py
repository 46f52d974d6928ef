"""Who uses a product much bears more offers, and who uses it little bears fewer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

from policies.gates.base import Facts, Situation
from policies.rules import Rule

__all__ = ["Engagement"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Engagement:
    """Scales limits with how engaged a user is.

    What the product has said of a user goes before the rules, and `low` before `high`.
    """

    low: Rule | None = None
    high: Rule | None = None
    low_factor: float = 0.5
    high_factor: float = 1.5

    @classmethod
    def of(cls, facts: Facts) -> Self:
        """Make it as a catalogue says."""
        spec = facts.catalogue.engagement
        return cls(
            low=None if spec.low is None else facts.rule(spec.low),
            high=None if spec.high is None else facts.rule(spec.high),
            low_factor=spec.low_factor,
            high_factor=spec.high_factor,
        )

    def tier(self, situation: Situation) -> str:
        """Return `low`, `normal` or `high`."""
        told = situation.history.state.engagement or situation.account.state.engagement
        if told:
            return told
        if self.low is not None and situation.holds(self.low):
            return "low"
        if self.high is not None and situation.holds(self.high):
            return "high"
        return "normal"

    def factor(self, situation: Situation) -> float:
        """Return what limits are multiplied with."""
        tier = self.tier(situation)
        if tier == "low":
            return self.low_factor
        return self.high_factor if tier == "high" else 1.0

    def least(self, limit: int) -> int:
        """Return the least that a limit can be for anybody."""
        return _times(limit, min(self.low_factor, 1.0, self.high_factor))

    def scaled(self, limit: int, situation: Situation) -> int:
        """Return a limit as it is for this user: rounded down, but never below 1.

        Examples:
            >>> from policies.model import History, Opportunity, State
            >>> history = History(state=State(engagement="low"))
            >>> asked = Opportunity("d", 0, "ada", ("home",))
            >>> Engagement().scaled(3, Situation(asked, history))
            1
        """
        return _times(limit, self.factor(situation))


def _times(limit: int, factor: float) -> int:
    # 100 × 0.29 is 28.999999999999996 to a computer.
    return max(1, math.floor(limit * factor + 1e-9))
