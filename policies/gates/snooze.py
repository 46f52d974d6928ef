"""Who wants to see an offer later sees it later."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Self

from policies.gates.base import Because, Facts, Ruling, Scope, Situation
from policies.gates.wording import instant
from policies.model import Action

__all__ = ["Snoozed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Snoozed:
    """Rules an offer out until the time that the user has picked."""

    name: ClassVar[str] = "snooze"
    scope: ClassVar[Scope] = "offer"
    of_history: ClassVar[bool] = True
    bypassed: ClassVar[bool] = False
    indexed: ClassVar[bool] = False

    @classmethod
    def of(cls, facts: Facts) -> Iterator[Self]:
        """Make one for every offer."""
        del facts
        yield cls()

    def reject(self, action: Action, situation: Situation) -> Ruling | None:
        """Return SNOOZED until then."""
        snooze = situation.history.snoozes.get(action.offer_id)
        if snooze is None or situation.at_ms >= snooze.until_ms:
            return None
        return Ruling("SNOOZED", snooze.until_ms)

    def because(self, action: Action, situation: Situation) -> Because:
        """Return until when."""
        snooze = situation.history.snoozes[action.offer_id]
        found = f"snoozed at {instant(snooze.at_ms)}"
        return Because(found, f"{instant(snooze.until_ms)} or later")
