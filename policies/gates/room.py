"""A placement has room for some offers, and an offer is shown once in a call."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Self

from policies.gates.base import Because, Facts, Ruling, Scope, Situation
from policies.gates.wording import listed, one_of
from policies.model import Action

__all__ = ["Chosen", "Room", "Slots"]

_CHOSEN = Ruling("ALREADY_CHOSEN")
_ELSEWHERE = Ruling("NOT_FOR_PLACEMENT")
_FULL = Ruling("PLACEMENT_FULL")


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """Rules an offer out of a placement that is for other categories.

    Attributes:
        categories: What the offer belongs to.
        wanted: What may be shown in the placement, none of which the offer belongs to.
    """

    name: ClassVar[str] = "room"
    scope: ClassVar[Scope] = "action"
    of_history: ClassVar[bool] = False
    bypassed: ClassVar[bool] = False
    indexed: ClassVar[bool] = True

    categories: tuple[str, ...]
    wanted: tuple[str, ...]

    @classmethod
    def of(cls, facts: Facts) -> Iterator[Self]:
        """Make one for an offer and a placement that have no category in common."""
        categories, wanted = facts.offer.categories, facts.placement.categories
        if wanted and not set(wanted).intersection(categories):
            yield cls(categories=categories, wanted=wanted)

    def reject(self, action: Action, situation: Situation) -> Ruling:
        """Return NOT_FOR_PLACEMENT."""
        del action, situation
        return _ELSEWHERE

    def because(self, action: Action, situation: Situation) -> Because:
        """Return the offer's categories, and the placement's."""
        del situation
        found = listed(self.categories) or "no category"
        needed = f"{one_of(self.wanted)} in {action.placement_id}"
        return Because(f"the offer belongs to {found}", needed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """Rules an offer out that the same call has chosen already.

    That is a past with the very offer, and nothing else matters.
    """

    name: ClassVar[str] = "chosen"
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
        """Return ALREADY_CHOSEN the second time."""
        for offer_id, _ in situation.opportunity.earlier:
            if offer_id == action.offer_id:
                return _CHOSEN
        return None

    def because(self, action: Action, situation: Situation) -> Because:
        """Return where it was chosen."""
        earlier = situation.opportunity.earlier
        where = listed(p for offer_id, p in earlier if offer_id == action.offer_id)
        return Because(f"chosen for {where} in the same call", "not chosen yet")


@dataclass(frozen=True, slots=True, kw_only=True)
class Slots:
    """Rules a placement out that the same call has filled.

    Attributes:
        slots: How many offers it can show at once, at least 1.
    """

    name: ClassVar[str] = "slots"
    scope: ClassVar[Scope] = "placement"
    of_history: ClassVar[bool] = False
    bypassed: ClassVar[bool] = False
    indexed: ClassVar[bool] = False

    slots: int

    @classmethod
    def of(cls, facts: Facts) -> Iterator[Self]:
        """Make one for every placement."""
        yield cls(slots=facts.placement.slots)

    def reject(self, action: Action, situation: Situation) -> Ruling | None:
        """Return PLACEMENT_FULL where all slots are taken."""
        if len(situation.opportunity.earlier) < self.slots:
            return None
        return _FULL if self._taken(action, situation) >= self.slots else None

    def because(self, action: Action, situation: Situation) -> Because:
        """Return how many slots are taken, and how many there are."""
        taken = self._taken(action, situation)
        return Because(
            f"{taken} chosen for {action.placement_id} in the same call",
            f"fewer than {self.slots}",
        )

    def _taken(self, action: Action, situation: Situation) -> int:
        earlier = situation.opportunity.earlier
        return sum(placement == action.placement_id for _, placement in earlier)
