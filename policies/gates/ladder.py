"""Users go up a ladder of products rung by rung."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from policies.gates.base import Because, Facts, Ruling, Scope, Situation
from policies.gates.wording import instant, listed, number
from policies.model import Action
from policies.specs import ProductSpec

__all__ = ["AnchorStep", "LadderStep"]

_JUMP = Ruling("LADDER_JUMP")
_OWNED = Ruling("ALREADY_OWNED")


@dataclass(frozen=True, slots=True, kw_only=True)
class LadderStep:
    """Rules an offer out that is not the user's next rung, or too big a step up to it.

    The present rung is the highest that the user owns; who owns none starts at the
    first. A rung may be skipped by who already uses more than it allows, and the step
    to the next may be of any size for who already uses more than that allows. Where the
    present rung costs nothing there is no size to measure.

    Attributes:
        rungs: The products, the smallest first.
        prices: What each costs.
        limits: How much of the usage each allows; none for any.
        target: The rung that the offer gives, from 0.
        max_step: How many times as much as the present rung the next may cost.
        usage: The name of the usage in requests; empty for none.
    """

    name: ClassVar[str] = "ladder"
    scope: ClassVar[Scope] = "offer"
    of_history: ClassVar[bool] = False
    bypassed: ClassVar[bool] = False
    indexed: ClassVar[bool] = False

    rungs: tuple[str, ...]
    prices: tuple[int, ...]
    limits: tuple[float | None, ...]
    target: int
    max_step: float
    usage: str = ""

    @classmethod
    def of(cls, facts: Facts) -> Iterator[Self]:
        """Make one for an offer on a ladder that is no anchor."""
        if not facts.offer.anchor:
            yield from cls.steps(facts)

    @classmethod
    def steps(cls, facts: Facts) -> Iterator[Self]:
        """Make one for the highest rung that an offer gives of its ladder."""
        ladder = facts.catalogue.ladders.get(facts.offer.ladder)
        if ladder is None:
            return
        target = _highest(ladder.rungs, facts.offer.grants)
        if target < 0:
            return
        known = facts.catalogue.products
        products = [known.get(rung, ProductSpec()) for rung in ladder.rungs]
        yield cls(
            rungs=ladder.rungs,
            prices=tuple(product.price for product in products),
            limits=tuple(product.limit for product in products),
            target=target,
            max_step=ladder.max_step,
            usage=ladder.usage,
        )

    def reject(self, action: Action, situation: Situation) -> Ruling | None:
        """Return what is wrong with the step.

        ALREADY_OWNED for a rung no higher than what the user has or has in the cart,
        LADDER_JUMP for one too far up, PENDING_PURCHASE for one no higher than what
        the user is about to have.
        """
        del action
        present = _highest(self.rungs, situation.owned)
        cart = situation.opportunity.context.cart
        if present >= self.target or (
            cart and _highest(self.rungs, cart) >= self.target
        ):
            return _OWNED
        if not self._within_reach(present, situation):
            return _JUMP
        if not situation.pending:
            return None
        pending = self._pending(situation)
        return Ruling("PENDING_PURCHASE", max(pending.values())) if pending else None

    def because(self, action: Action, situation: Situation) -> Because:
        """Return where the user stands, and what the next step would be."""
        del action
        present = _highest(self.rungs, situation.owned)
        needed = f"nothing as high as {self.rungs[self.target]}"
        if present >= self.target:
            return Because(f"the user has {self.rungs[present]}", needed)
        in_cart = _highest(self.rungs, situation.opportunity.context.cart)
        if in_cart >= self.target:
            return Because(f"{self.rungs[in_cart]} is in the cart", needed)
        if self._within_reach(present, situation):
            pending = self._pending(situation)
            coming = [f"{p} pending until {instant(t)}" for p, t in pending.items()]
            return Because(listed(coming), needed)
        return self._too_far(present)

    def _within_reach(self, present: int, situation: Situation) -> bool:
        """Say whether the offer's rung, above the present one, is not too far up."""
        if self.target == present + 1:
            old = self.prices[present] if present >= 0 else 0
            if not old or self.prices[self.target] <= self.max_step * old:
                return True
            return self._outgrown(self.target, situation)
        for rung in range(present + 1, self.target):
            if not self._outgrown(rung, situation):
                return False
        return True

    def _outgrown(self, rung: int, situation: Situation) -> bool:
        """Say whether the user already uses more than a rung allows."""
        usage = situation.opportunity.context.usage.get(self.usage)
        limit = self.limits[rung]
        return usage is not None and limit is not None and usage.value > limit

    def _pending(self, situation: Situation) -> dict[str, int]:
        """Return what is pending of the offer's rung and those above it."""
        pending = situation.pending
        return {p: pending[p] for p in self.rungs[self.target :] if p in pending}

    def _too_far(self, present: int) -> Because:
        target, following = self.target, present + 1
        standing = f"the user has {self.rungs[present] if present >= 0 else 'no rung'}"
        if target > following:
            return Because(
                f"{standing}, and {self.rungs[target]} is {target - present} rungs up",
                f"the next rung, {self.rungs[following]}{self._or_outgrown(following)}",
            )
        times = number(self.prices[target] / self.prices[present])
        return Because(
            f"{standing}, and {self.rungs[target]} costs {times} times as much",
            f"at most {number(self.max_step)} times as much{self._or_outgrown(target)}",
        )

    def _or_outgrown(self, first: int) -> str:
        """Word how much usage would do from a rung on; nothing if none would."""
        limits = self.limits[first : max(self.target, first + 1)]
        known = [limit for limit in limits if limit is not None]
        if not self.usage or len(known) < len(limits):
            return ""
        return f", or more {self.usage} than {number(max(known))}"


@dataclass(frozen=True, slots=True, kw_only=True)
class AnchorStep(LadderStep):
    """The same for an offer that is an anchor: placements for comparison may show it.

    Beside other offers it says what the most expensive costs; it is nobody's next step.
    """

    name: ClassVar[str] = "ladder_anchor"
    scope: ClassVar[Scope] = "action"

    @classmethod
    def of(cls, facts: Facts) -> Iterator[Self]:
        """Make one for an anchor, but for placements for comparison."""
        if facts.offer.anchor and not facts.placement.comparison:
            yield from cls.steps(facts)


def _highest(rungs: Sequence[str], products: Container[str]) -> int:
    """Return the highest rung that is among the products; -1 where none is."""
    at = len(rungs)
    for rung in reversed(rungs):
        at -= 1
        if rung in products:
            return at
    return -1
