"""An offer has its moments."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Self

from policies.gates.base import Because, Facts, Ruling, Scope, Situation
from policies.gates.wording import one_of
from policies.model import Action, Snooze

__all__ = ["Moments", "due"]

_ELSEWHEN = Ruling("NOT_ELIGIBLE")


def due(snooze: Snooze, at_ms: int) -> bool:
    """Say whether a snoozed offer may come back, whatever the moment is.

    It comes back once: the user has asked for it, nothing in the product need happen.
    """
    return snooze.until_ms <= at_ms and not snooze.returned


@dataclass(frozen=True, slots=True, kw_only=True)
class Moments:
    """Rules an offer out at moments that are not its own.

    An offer that the user has snoozed comes back once at any moment, or at none.

    Attributes:
        kinds: The kinds of its moments, at least one.
    """

    name: ClassVar[str] = "moments"
    scope: ClassVar[Scope] = "offer"
    of_history: ClassVar[bool] = False
    bypassed: ClassVar[bool] = False
    indexed: ClassVar[bool] = True

    kinds: tuple[str, ...]

    @classmethod
    def of(cls, facts: Facts) -> Iterator[Self]:
        """Make one for an offer that names its moments."""
        if facts.offer.moments:
            yield cls(kinds=facts.offer.moments)

    def reject(self, action: Action, situation: Situation) -> Ruling | None:
        """Return NOT_ELIGIBLE at another moment, until a snooze is due if there is one.

        A snooze is the user's own: what another user of the account put off does not
        come back to this one.
        """
        if situation.opportunity.context.moment.kind in self.kinds:
            return None
        snooze = situation.history.snoozes.get(action.offer_id)
        if snooze is None or snooze.returned:
            return _ELSEWHEN
        if due(snooze, situation.at_ms):
            return None
        return Ruling("NOT_ELIGIBLE", snooze.until_ms)

    def because(self, action: Action, situation: Situation) -> Because:
        """Return the moment, and the offer's own."""
        del action
        kind = situation.opportunity.context.moment.kind
        found = f"the moment is {kind}" if kind else "it is no certain moment"
        return Because(found, one_of(self.kinds))
