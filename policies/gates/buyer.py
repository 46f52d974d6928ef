"""What costs something is offered to those who may buy it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Self

from policies.gates.base import Because, Facts, Ruling, Scope, Situation
from policies.gates.wording import one_of
from policies.model import Action

__all__ = ["Buyer"]

_NOT_BUYER = Ruling("NOT_BUYER")


@dataclass(frozen=True, slots=True, kw_only=True)
class Buyer:
    """Rules an offer out for users whose role may not buy, or whose role is not known.

    Attributes:
        roles: The roles that may buy, at least one.
    """

    name: ClassVar[str] = "buyer"
    scope: ClassVar[Scope] = "offer"
    of_history: ClassVar[bool] = False
    bypassed: ClassVar[bool] = False
    indexed: ClassVar[bool] = False

    roles: tuple[str, ...]

    @classmethod
    def of(cls, facts: Facts) -> Iterator[Self]:
        """Make one for an offer to buyers, where the catalogue names who they are."""
        offer, roles = facts.offer, facts.catalogue.buyers
        only = offer.price > 0 if offer.buyers_only is None else offer.buyers_only
        if only and roles:
            yield cls(roles=roles)

    def reject(self, action: Action, situation: Situation) -> Ruling | None:
        """Return NOT_BUYER for another role, and for none."""
        del action
        return None if situation.role in self.roles else _NOT_BUYER

    def because(self, action: Action, situation: Situation) -> Because:
        """Return the role, and those that may buy."""
        del action
        found = f"the user's role is {situation.role}"
        return Because(
            found if situation.role else "nobody said what the user's role is",
            one_of(self.roles),
        )
