"""Nobody is offered what they have, or what does not go with what they have."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Self

from policies.gates.base import Because, Facts, Ruling, Scope, Situation
from policies.gates.wording import instant, listed, one_of
from policies.model import Action

__all__ = ["Complements", "Owned", "Requires"]

_OWNED = Ruling("ALREADY_OWNED")
_MISSING = Ruling("REQUIREMENT_MISSING")
_UNRELATED = Ruling("NOT_COMPLEMENTARY")


@dataclass(frozen=True, slots=True, kw_only=True)
class Owned:
    """Rules an offer out that would give what the user has, or is about to have.

    What is in the user's cart counts as theirs. An offer of several products is ruled
    out once they have all of them; a bundle without credit as soon as they have one,
    since they would pay for it twice.

    Attributes:
        grants: The products that the offer gives, at least one.
        one_suffices: Whether having one of them is enough to be ruled out.
    """

    name: ClassVar[str] = "ownership"
    scope: ClassVar[Scope] = "offer"
    of_history: ClassVar[bool] = False
    bypassed: ClassVar[bool] = False
    indexed: ClassVar[bool] = False

    grants: tuple[str, ...]
    one_suffices: bool = False

    @classmethod
    def of(cls, facts: Facts) -> Iterator[Self]:
        """Make one for an offer that gives products."""
        offer = facts.offer
        if offer.grants:
            bundle = offer.kind == "bundle" and not offer.credit
            yield cls(grants=offer.grants, one_suffices=bundle)

    def reject(self, action: Action, situation: Situation) -> Ruling | None:
        """Return ALREADY_OWNED, or PENDING_PURCHASE for as long as that is believed."""
        del action
        cart = situation.opportunity.context.cart
        owned, pending = situation.owned, situation.pending
        for product in self.grants:
            if product in owned or product in cart or product in pending:
                break
        else:
            return None
        missing = [p for p in self.grants if p not in owned and p not in cart]
        if self._enough(missing):
            return _OWNED
        coming = [pending[product] for product in missing if product in pending]
        if self.one_suffices:
            return Ruling("PENDING_PURCHASE", max(coming))
        # Once one of them is no longer believed to come, it is worth offering.
        all_coming = len(coming) == len(missing)
        return Ruling("PENDING_PURCHASE", min(coming)) if all_coming else None

    def because(self, action: Action, situation: Situation) -> Because:
        """Return what of it the user has, or is about to have."""
        del action
        had = [self._had(product, situation) for product in self.grants]
        none_of = "none" if self.one_suffices else "not all"
        needed = f"{none_of} of {listed(self.grants)}"
        return Because(
            listed(text for text in had if text),
            needed if len(self.grants) > 1 else f"not {self.grants[0]}",
        )

    def _enough(self, missing: list[str]) -> bool:
        return not missing or (self.one_suffices and len(missing) < len(self.grants))

    def _had(self, product: str, situation: Situation) -> str:
        if product in situation.owned:
            return f"{product} owned since {instant(situation.owned[product])}"
        if product in situation.opportunity.context.cart:
            return f"{product} in the cart"
        until_ms = situation.pending.get(product)
        return f"{product} pending until {instant(until_ms)}" if until_ms else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Requires:
    """Rules an offer out for users who lack a product that it builds on.

    What they are about to have, or have in the cart, is not there yet.

    Attributes:
        products: What they must have, all of it; at least one.
    """

    name: ClassVar[str] = "requires"
    scope: ClassVar[Scope] = "offer"
    of_history: ClassVar[bool] = False
    bypassed: ClassVar[bool] = False
    indexed: ClassVar[bool] = True

    products: tuple[str, ...]

    @classmethod
    def of(cls, facts: Facts) -> Iterator[Self]:
        """Make one for an offer that requires products."""
        if facts.offer.requires:
            yield cls(products=facts.offer.requires)

    def reject(self, action: Action, situation: Situation) -> Ruling | None:
        """Return REQUIREMENT_MISSING where one of the products is not owned."""
        del action
        for product in self.products:
            if product not in situation.owned:
                return _MISSING
        return None

    def because(self, action: Action, situation: Situation) -> Because:
        """Return what is missing."""
        del action
        missing = [p for p in self.products if p not in situation.owned]
        every = "all of " if len(self.products) > 1 else ""
        needed = f"{every}{listed(self.products)}"
        return Because(f"the user does not have {listed(missing)}", needed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Complements:
    """Rules an offer out for users who have nothing that it goes with.

    What is in the cart, and what they are about to have, goes with it too: right after
    a purchase is the moment for what completes it.

    Attributes:
        products: What it goes with, at least one.
    """

    name: ClassVar[str] = "complements"
    scope: ClassVar[Scope] = "offer"
    of_history: ClassVar[bool] = False
    bypassed: ClassVar[bool] = False
    indexed: ClassVar[bool] = False

    products: tuple[str, ...]

    @classmethod
    def of(cls, facts: Facts) -> Iterator[Self]:
        """Make one for an offer that complements products."""
        if facts.offer.complements:
            yield cls(products=facts.offer.complements)

    def reject(self, action: Action, situation: Situation) -> Ruling | None:
        """Return NOT_COMPLEMENTARY where the user has none of the products."""
        del action
        owned, pending = situation.owned, situation.pending
        cart = situation.opportunity.context.cart
        for product in self.products:
            if product in owned or product in cart or product in pending:
                return None
        return _UNRELATED

    def because(self, action: Action, situation: Situation) -> Because:
        """Return that there is nothing it goes with."""
        del action, situation
        return Because(
            "the user has nothing that it goes with",
            f"{one_of(self.products)}, owned, pending or in the cart",
        )
