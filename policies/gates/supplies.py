"""What is used up is not offered."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Self

from policies.gates.base import Because, Facts, Ruling, Scope, Situation
from policies.model import Action

__all__ = ["Budget", "Inventory"]

_DAY_MS = 86_400_000
_EPOCH = dt.date(1970, 1, 1)
_SOLD_OUT = Ruling("INVENTORY_EXHAUSTED")
_SPENT = "BUDGET_EXHAUSTED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """Rules an offer out of which none are left.

    Attributes:
        supply: What conditions call its inventory.
    """

    name: ClassVar[str] = "inventory"
    scope: ClassVar[Scope] = "offer"
    of_history: ClassVar[bool] = False
    bypassed: ClassVar[bool] = False
    indexed: ClassVar[bool] = False

    supply: str

    @classmethod
    def of(cls, facts: Facts) -> Iterator[Self]:
        """Make one for an offer that may be accepted so many times."""
        if facts.offer.inventory is not None:
            yield cls(supply=f"inventory:{facts.offer_id}")

    def reject(self, action: Action, situation: Situation) -> Ruling | None:
        """Return INVENTORY_EXHAUSTED where nothing is left, or all is reserved."""
        del action
        return _SOLD_OUT if self.supply in situation.conditions.exhausted else None

    def because(self, action: Action, situation: Situation) -> Because:
        """Return that none are left."""
        del situation
        return Because(f"{action.offer_id}: none left", "one that nobody has reserved")


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Rules a discount out that its budget cannot pay, altogether or today.

    Attributes:
        supply: What conditions call the budget; what may go of it in one day is
            called so too, with the day (UTC) behind it.

    Examples:
        >>> from policies.model import NO_HISTORY, Action, Conditions, Opportunity
        >>> gate = Budget(supply="budget:spring")
        >>> asked = Opportunity("d", 0, "ada", ("home",))
        >>> spent = Conditions(exhausted=("budget:spring:1970-01-01",))
        >>> situation = Situation(asked, NO_HISTORY, conditions=spent)
        >>> gate.reject(Action(1, "more", "default", "home", ()), situation)
        Ruling(reason='BUDGET_EXHAUSTED', next_eligible_ms=86400000)
    """

    name: ClassVar[str] = "budget"
    scope: ClassVar[Scope] = "offer"
    of_history: ClassVar[bool] = False
    bypassed: ClassVar[bool] = False
    indexed: ClassVar[bool] = False

    supply: str
    discount: int = 1

    @classmethod
    def of(cls, facts: Facts) -> Iterator[Self]:
        """Make one for a discount that a budget pays for."""
        if facts.offer.budget and facts.offer.discount:
            yield cls(
                supply=f"budget:{facts.offer.budget}", discount=facts.offer.discount
            )

    def reject(self, action: Action, situation: Situation) -> Ruling | None:
        """Return BUDGET_EXHAUSTED; for what may go in one day, until midnight (UTC)."""
        del action
        exhausted = situation.conditions.exhausted
        if not exhausted:
            return None
        if self._falls_short(self.supply, situation):
            return Ruling(_SPENT)
        day = situation.at_ms // _DAY_MS
        if self._falls_short(self._today(situation), situation):
            return Ruling(_SPENT, (day + 1) * _DAY_MS)
        return None

    def because(self, action: Action, situation: Situation) -> Because:
        """Return whether all of it is gone, or what may go today."""
        del action
        spent = self._falls_short(self.supply, situation)
        name = self.supply.removeprefix("budget:")
        left = "not enough left" if spent else "not enough left for today"
        return Because(f"{name}: {left}", f"{self.discount} for the discount")

    def _today(self, situation: Situation) -> str:
        day = situation.at_ms // _DAY_MS
        return f"{self.supply}:{_EPOCH + dt.timedelta(day)}"

    def _falls_short(self, supply: str, situation: Situation) -> bool:
        """Say whether of a supply not so much is left as the discount takes."""
        for name in situation.conditions.exhausted:
            spent, _, payable = name.partition(">")
            if spent == supply and (not payable or self.discount > int(payable)):
                return True
        return False
