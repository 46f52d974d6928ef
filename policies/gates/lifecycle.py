"""Only an approved offer is shown."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal, Self

from policies.gates.base import Because, Facts, Ruling, Scope, Situation
from policies.model import Action

__all__ = ["Lifecycle"]

_RULINGS = {
    "draft": Ruling("NOT_APPROVED"),
    "paused": Ruling("PAUSED"),
    "archived": Ruling("ARCHIVED"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifecycle:
    """Rules an offer out that is a draft, is paused or is archived."""

    name: ClassVar[str] = "lifecycle"
    scope: ClassVar[Scope] = "offer"
    of_history: ClassVar[bool] = False
    bypassed: ClassVar[bool] = False
    indexed: ClassVar[bool] = True

    state: Literal["draft", "paused", "archived"]

    @classmethod
    def of(cls, facts: Facts) -> Iterator[Self]:
        """Make one for an offer that is not approved."""
        state = facts.offer.state
        if state != "approved":
            yield cls(state=state)

    def reject(self, action: Action, situation: Situation) -> Ruling:
        """Return NOT_APPROVED, PAUSED or ARCHIVED."""
        del action, situation
        return _RULINGS[self.state]

    def because(self, action: Action, situation: Situation) -> Because:
        """Return the state."""
        del action, situation
        found = "a draft" if self.state == "draft" else self.state
        return Because(f"the offer is {found}", "approved")
