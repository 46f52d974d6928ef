"""Who pays for what they consume is not asked to consume more."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Self

from policies.gates.base import Because, Facts, Ruling, Scope, Situation
from policies.model import Action

__all__ = ["ConsumptionPriced"]

_RULING = Ruling("CONSUMPTION_PRICED")
_SAVINGS = frozenset(["term", "free_help"])


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumptionPriced:
    """Rules an offer of a metered product out, for such a product sells itself.

    What saves the user money, a term or free help, may be shown where it does not
    interrupt.

    Attributes:
        product: The metered product.
        saving: Whether the offer saves the user money.
    """

    name: ClassVar[str] = "metered"
    scope: ClassVar[Scope] = "action"
    of_history: ClassVar[bool] = False
    bypassed: ClassVar[bool] = False
    indexed: ClassVar[bool] = False

    product: str
    saving: bool

    @classmethod
    def of(cls, facts: Facts) -> Iterator[Self]:
        """Make one for an offer of a metered product that may not be shown there."""
        products, saving = facts.catalogue.products, facts.offer.kind in _SAVINGS
        metered = (
            product
            for product in facts.offer.grants
            if product in products and products[product].metered
        )
        product = next(metered, None)
        if product is not None and (facts.placement.interrupts or not saving):
            yield cls(product=product, saving=saving)

    def reject(self, action: Action, situation: Situation) -> Ruling:
        """Return CONSUMPTION_PRICED."""
        del action, situation
        return _RULING

    def because(self, action: Action, situation: Situation) -> Because:
        """Return what is metered, and what could be shown."""
        del situation
        found = f"{self.product} is metered"
        if self.saving:
            found += f", and {action.placement_id} interrupts"
            return Because(found, "a placement that does not interrupt")
        return Because(found, "a term or free help, where it does not interrupt")
