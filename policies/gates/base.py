"""What a gate is, and what it can see."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import ClassVar, NamedTuple, Protocol

from policies.model import History, Opportunity
from policies.rules import Rule, Variables

__all__ = ["Gate", "Ruling", "Situation"]


class Ruling(NamedTuple):
    """Why a gate does not let an offer through.

    Attributes:
        reason: The code, as the contract names it.
        next_eligible_ms: When the gate would let it through if nothing else
            happened; none where time alone changes nothing.
    """

    reason: str
    next_eligible_ms: int | None = None


class Situation:
    """What gates can see, arranged so that each looks only where it must.

    Args:
        opportunity: What is asked.
        history: What is known of the user's past.
        reads: What the rules look at, as in `policies.rules.Variables`.

    Attributes:
        touched: The offers that the user has a past with.
    """

    def __init__(
        self,
        opportunity: Opportunity,
        history: History,
        reads: frozenset[str] | None = None,
    ) -> None:
        self.opportunity = opportunity
        self.history = history
        self.at_ms = opportunity.at_ms
        self.variables = Variables(opportunity, reads)
        self._held: dict[Rule, bool] = {}
        self._shown: dict[str, list[tuple[int, bool]]] = {}
        if history.impressions or history.reservations:
            self._shown = self._arrange()
        self.touched = self._shown.keys() | history.dismissals.keys()

    def holds(self, rule: Rule) -> bool:
        """Say whether a rule holds; each is evaluated once."""
        held = self._held.get(rule)
        if held is None:
            held = self._held[rule] = rule.holds(self.variables)
        return held

    def shown(self, offer_id: str) -> Sequence[tuple[int, bool]]:
        """Return when the offer was shown or reserved, the earliest first.

        The time of a reservation is when it ends by itself; the flag says so.
        """
        return self._shown.get(offer_id, ())

    def _arrange(self) -> dict[str, list[tuple[int, bool]]]:
        shown: dict[str, list[tuple[int, bool]]] = defaultdict(list)
        for impression in self.history.impressions:
            shown[impression.offer_id].append((impression.at_ms, False))
        for reservation in self.history.reservations:
            if reservation.until_ms > self.at_ms:
                shown[reservation.offer_id].append((reservation.until_ms, True))
        return shown


class Gate(Protocol):
    """A rule that may rule an offer out.

    Attributes:
        of_history: Whether it rejects for the user's past with the very offer, and
            for nothing else: it need not be asked where there is none. One that is
            not of history treats all offers alike.
    """

    of_history: ClassVar[bool]

    def reject(self, offer_id: str, situation: Situation) -> Ruling | None:
        """Return why the offer may not be shown; none where it may."""
        ...
