"""Nobody pays for what they have not found the value of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Self

from policies.gates.base import Because, Facts, Ruling, Scope, Situation
from policies.gates.wording import seen
from policies.model import Action
from policies.rules import Rule

__all__ = ["ValueDiscovered"]

_UNDISCOVERED = Ruling("VALUE_NOT_DISCOVERED")


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueDiscovered:
    """Rules an offer out for users who have not found what the product is good for.

    Who has is said by the product, of the user or of the account, or else by a rule.

    Attributes:
        rule: Who has found it.
    """

    name: ClassVar[str] = "value_discovered"
    scope: ClassVar[Scope] = "offer"
    of_history: ClassVar[bool] = False
    bypassed: ClassVar[bool] = False
    indexed: ClassVar[bool] = False

    rule: Rule

    @classmethod
    def of(cls, facts: Facts) -> Iterator[Self]:
        """Make one of the offer's rule or, where it has a price, the catalogue's."""
        source = facts.offer.value_discovered
        if source is None and facts.offer.price > 0:
            source = facts.catalogue.value_discovered
        if source is not None:
            yield cls(rule=facts.rule(source))

    def reject(self, action: Action, situation: Situation) -> Ruling | None:
        """Return VALUE_NOT_DISCOVERED where neither product nor rule says otherwise."""
        del action
        for history in situation.histories:
            if history.state.value_discovered:
                return None
        return None if situation.holds(self.rule) else _UNDISCOVERED

    def because(self, action: Action, situation: Situation) -> Because:
        """Return what the rule has seen, and the rule."""
        del action
        return Because(seen(self.rule, situation.variables), self.rule.source)
